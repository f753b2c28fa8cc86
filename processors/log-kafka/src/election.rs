//! Which process owns which partition: a consumer group whose members never read.
//!
//! The group only proposes. Two owners at once are harmless: the younger fences the older.
//!
//! A member that the group has replaced is dead for ever: its client gives nothing but that error. It happens to a
//! process that stood still for longer than its session while it joined, and to one of two processes with one instance
//! id. So it joins again, as a new client.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use schemas::partition::Partition;

use crate::{KafkaSettings, close_aside};

/// How often the group is served; under the heartbeat interval.
const POLL: Duration = Duration::from_millis(50);

/// Before a replaced member joins again: two processes with one instance id replace each other no faster.
const REJOIN_PAUSE: Duration = Duration::from_secs(1);

/// One member of a processor's group.
pub struct Election {
    config: ClientConfig,
    consumer: BaseConsumer,
    topic: &'static str,
    owned: BTreeSet<Partition>,
}

impl std::fmt::Debug for Election {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Election").field("owned", &self.owned).finish_non_exhaustive()
    }
}

impl Election {
    /// Joins the processor's group. `instance` is the same after a restart, so that a restarted process gets
    /// its partitions back without waiting for its own session to run out.
    ///
    /// # Errors
    /// Where no client can be made.
    pub fn join(
        settings: &KafkaSettings,
        topology: model::Topology,
        instance: &str,
    ) -> Result<Self, KafkaError> {
        let session_ms = settings.session_timeout_ms.to_string();
        let heartbeat_ms = (settings.session_timeout_ms / 10).max(100).to_string();
        let group = format!("livedrops-{}", topology.processor);
        let instance = format!("{}-{instance}", topology.processor);
        let config = settings.client(&[
            ("group.id", &group),
            ("group.instance.id", &instance),
            ("session.timeout.ms", &session_ms),
            ("heartbeat.interval.ms", &heartbeat_ms),
            ("partition.assignment.strategy", "cooperative-sticky"),
            ("enable.auto.commit", "false"),
            ("enable.auto.offset.store", "false"),
            ("auto.offset.reset", "latest"),
            ("queued.min.messages", "1"),
            ("fetch.message.max.bytes", "1024"),
        ]);
        let topic = topology.intents.name;
        let consumer = member(&config, topic)?;
        Ok(Self { config, consumer, topic, owned: BTreeSet::new() })
    }

    /// Replaces a client that its group has replaced. Its partitions count as lost until the group gives them back.
    fn rejoin(&mut self, why: &str) {
        tracing::error!(why, topic = self.topic, "replaced in its group, joining again");
        std::thread::sleep(REJOIN_PAUSE);
        match member(&self.config, self.topic) {
            Ok(consumer) => close_aside(std::mem::replace(&mut self.consumer, consumer)),
            Err(error) => tracing::error!(%error, topic = self.topic, "election"),
        }
    }

    /// Serves the group until `stop`, telling gains and losses. Blocks: give it its own thread.
    pub fn run(
        mut self,
        stop: &Arc<AtomicBool>,
        mut gained: impl FnMut(Partition),
        mut lost: impl FnMut(Partition),
    ) {
        while !stop.load(Ordering::Relaxed) {
            if let Some(Err(error)) = self.consumer.poll(POLL) {
                tracing::warn!(%error, topic = self.topic, "election");
            }
            if let Some((_, why)) = self.consumer.client().fatal_error() {
                self.rejoin(&why);
            }
            let Ok(assignment) = self.consumer.assignment() else { continue };
            let now: BTreeSet<Partition> = assignment
                .elements()
                .iter()
                .filter_map(|element| u16::try_from(element.partition()).ok().map(Partition))
                .collect();
            if now == self.owned {
                continue;
            }
            // Members of the group elect; owners read for themselves.
            if let Err(error) = self.consumer.pause(&assignment) {
                tracing::warn!(%error, topic = self.topic, "election");
            }
            self.owned.difference(&now).copied().for_each(&mut lost);
            now.difference(&self.owned).copied().for_each(&mut gained);
            self.owned = now;
        }
        close_aside(self.consumer); // nobody misses it: a member with an instance id does not leave its group (KIP-345)
    }
}

fn member(config: &ClientConfig, topic: &str) -> Result<BaseConsumer, KafkaError> {
    let consumer: BaseConsumer = config.create()?;
    consumer.subscribe(&[topic])?;
    Ok(consumer)
}
