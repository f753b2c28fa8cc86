//! Owners that fence at the same time: each has two transactional ids, and a broker fences one id at a time.

use log_kafka::{KafkaLog, KafkaSettings, admin};
use model::{Processor as _, Topology};
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::producer::{BaseProducer, Producer as _};
use reservations::Reservations;
use runtime::{Log, LogError, OutgoingDecision};
use schemas::partition::Partition;
use schemas::topics::{ORDER_DECISIONS, Topic};
use schemas::units::Millis;

use crate::harness::*;

/// A topic of its own: what is written here is no decision.
const DECISIONS: Topic = Topic { name: "fencing-decisions", ..ORDER_DECISIONS };

fn client() -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", from_stack("LIVEDROPS_KAFKA__BROKERS"));
    config
}

fn commit(owner: &mut dyn Log) -> Result<i64, LogError> {
    let decision = OutgoingDecision { key: None, value: b"decided".to_vec() };
    owner.submit(vec![decision])?;
    owner.await_commit()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_owner_that_holds_only_its_second_id_commits_nothing() {
    let settings = KafkaSettings {
        brokers: from_stack("LIVEDROPS_KAFKA__BROKERS"),
        session_timeout_ms: 1_500,
        clock: || Millis(platform::clock::now_ms()),
    };
    admin::apply_topics(&settings, 12, 1).await.unwrap();
    let brokers: AdminClient<DefaultClientContext> = client().create().unwrap();
    let topic = NewTopic::new(DECISIONS.name, 1, TopicReplication::Fixed(1));
    brokers.create_topics(&[topic], &AdminOptions::new()).await.unwrap();
    let blocking = move || {
        let topology =
            Topology { processor: "fencing", decisions: DECISIONS, ..Reservations::TOPOLOGY };
        let mut owner = KafkaLog::open(settings).unwrap().own(topology, Partition(0));
        owner.fence().unwrap();
        commit(&mut owner).unwrap(); // with the first id: the second one is next
        owner.fence().unwrap();
        // Another owner was as far as that meanwhile, and waits for the coordinator of the second id.
        let other: BaseProducer = client().set("transactional.id", "fencing-0-0").create().unwrap();
        other.init_transactions(PATIENCE).unwrap();
        let committed = commit(&mut owner);
        assert!(matches!(committed, Err(LogError::Fenced(_))), "{committed:?}");
    };
    tokio::task::spawn_blocking(blocking).await.unwrap();
}
