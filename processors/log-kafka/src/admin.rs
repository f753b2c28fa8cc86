//! Topics, from the one table in `schemas::topics`.

use std::time::Duration;

use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use schemas::topics::{self, Retention, Topic};

use crate::KafkaSettings;

const TIMEOUT: Duration = Duration::from_secs(30);

fn client(settings: &KafkaSettings) -> Result<AdminClient<DefaultClientContext>, KafkaError> {
    settings.client(&[]).create()
}

/// Broker settings of a topic.
#[must_use]
pub fn topic_config(topic: &Topic) -> Vec<(&'static str, String)> {
    let time = if topic.log_append_time { "LogAppendTime" } else { "CreateTime" };
    let retention_ms = match topic.retention {
        Retention::Forever => "-1".to_owned(),
        Retention::Days(days) => (i64::from(days) * 24 * 3_600 * 1_000).to_string(),
    };
    vec![
        ("message.timestamp.type", time.to_owned()),
        ("retention.ms", retention_ms),
        ("retention.bytes", "-1".to_owned()),
        ("cleanup.policy", "delete".to_owned()),
        ("unclean.leader.election.enable", "false".to_owned()),
    ]
}

/// Makes every topic that is missing; existing ones stay as they are.
///
/// # Errors
/// Where the brokers do not answer or refuse a topic.
pub async fn apply_topics(
    settings: &KafkaSettings,
    partitions: u16,
    replication: i32,
) -> Result<Vec<&'static str>, String> {
    let asking = settings.clone();
    let found = tokio::task::spawn_blocking(move || found_partitions(&asking));
    let found = found.await.map_err(|error| error.to_string())??;
    let missing: Vec<Topic> =
        found.into_iter().filter(|(_, count)| *count == 0).map(|(topic, _)| topic).collect();
    if missing.is_empty() {
        return Ok(Vec::new());
    }
    let admin = client(settings).map_err(|error| error.to_string())?;
    let in_sync = if replication >= 3 { "2" } else { "1" };
    let configs: Vec<_> = missing.iter().map(|topic| (topic, topic_config(topic))).collect();
    let new: Vec<NewTopic<'_>> = configs
        .iter()
        .map(|(topic, config)| {
            let new = NewTopic::new(
                topic.name,
                i32::from(partitions),
                TopicReplication::Fixed(replication),
            );
            let new = config.iter().fold(new, |new, (name, value)| new.set(name, value));
            new.set("min.insync.replicas", in_sync)
        })
        .collect();
    let options =
        AdminOptions::new().operation_timeout(Some(TIMEOUT)).request_timeout(Some(TIMEOUT));
    let results = admin.create_topics(&new, &options).await.map_err(|error| error.to_string())?;
    let mut made = Vec::new();
    for (result, topic) in results.into_iter().zip(&missing) {
        match result {
            Ok(_) => made.push(topic.name),
            Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
            Err((name, code)) => return Err(format!("{name}: {code}")),
        }
    }
    Ok(made)
}

/// Partitions of every topic in the table; 0 where it is missing. Blocks.
///
/// # Errors
/// Where the brokers do not answer.
pub fn found_partitions(settings: &KafkaSettings) -> Result<Vec<(Topic, usize)>, String> {
    let admin = client(settings).map_err(|error| error.to_string())?;
    let metadata =
        admin.inner().fetch_metadata(None, TIMEOUT).map_err(|error| error.to_string())?;
    let count = |topic: Topic| {
        let found = metadata.topics().iter().find(|found| found.name() == topic.name);
        found.map_or(0, |found| found.partitions().len())
    };
    Ok(topics::ALL.into_iter().map(|topic| (topic, count(topic))).collect())
}
