//! Which process owns which partition: a consumer group whose members never read.
//!
//! The group only proposes. Two owners at once are harmless: the younger fences the older.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use schemas::partition::Partition;

use crate::KafkaSettings;

/// How often the group is served; under the heartbeat interval.
const POLL: Duration = Duration::from_millis(50);

/// One member of a processor's group.
pub struct Election {
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
        let consumer: BaseConsumer = settings
            .client(&[
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
            ])
            .create()?;
        consumer.subscribe(&[topology.intents.name])?;
        Ok(Self { consumer, topic: topology.intents.name, owned: BTreeSet::new() })
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
    }
}
