//! All librdkafka calls of the project.
//!
//! | file | holds |
//! |---|---|
//! | [`admin`] | topics made from the table in `schemas::topics` |
//! | `appender` | intents in: idempotent producers, and a gate before them |
//! | `owner` | the owner's transactional view of a partition |
//! | [`election`] | which process owns which partition |
//! | `tail` | committed records out |
//!
//! Three facts shape it. `commit_transaction` waits at least 100 ms if a delivery report is unserved when it
//! is called, so `owner` drains deliveries first. Aborting with a `BaseProducer` can hang, so nothing is ever aborted:
//! the next fence does it. A producer with an uncertain transaction is dropped, never used again: late packets of its
//! epoch cannot reach a newer one.

pub mod admin;
mod appender;
pub mod election;
mod owner;
mod tail;

use std::sync::Arc;
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Message as _, Timestamp};
use runtime::{IntentAppender, TailError, TailStart};
use schemas::partition::Partition;
use schemas::topics::{self, Topic};
use schemas::units::Millis;

pub use owner::OwnedPartition;
pub use tail::KafkaTail;

use appender::KafkaAppender;

/// Longest wait for a metadata answer.
const METADATA_TIMEOUT: Duration = Duration::from_secs(10);

/// How long an idle fetch stays open. A reader that is assigned anew meanwhile has to wait for it.
const READER_POLL: Duration = Duration::from_millis(100);
/// The same for an owner's intents: nothing is assigned to their reader twice.
const INTENTS_POLL: Duration = Duration::from_secs(1);
/// The same for a takeover, which knows that it is at the end only after such a fetch.
const RECOVERY_POLL: Duration = Duration::from_millis(10);

/// How to reach the brokers.
#[derive(Clone, Debug)]
pub struct KafkaSettings {
    /// `host:port`, comma separated.
    pub brokers: String,
    /// Silence after which a group member counts as dead; our brokers allow 1,000 and more.
    pub session_timeout_ms: u32,
    /// The process's clock.
    pub clock: fn() -> Millis,
}

impl KafkaSettings {
    fn client(&self, pairs: &[(&str, &str)]) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &self.brokers);
        config.set("socket.nagle.disable", "true");
        config.set("reconnect.backoff.ms", "50");
        config.set("reconnect.backoff.max.ms", "1000");
        // What librdkafka retries by itself is no news; what it gives up on comes back as an error.
        config.set_log_level(RDKafkaLogLevel::Error);
        pairs.iter().for_each(|(name, value)| {
            config.set(*name, *value);
        });
        config
    }

    /// A consumer that is told its position and never resets it by itself.
    fn reader(&self, isolation: &str) -> Result<Reader, KafkaError> {
        self.polling_reader(isolation, READER_POLL, 1)
    }

    /// The reader of an owner's intents. There is one per partition, most of them idle, so their polls are long.
    fn intents_reader(&self) -> Result<Reader, KafkaError> {
        self.polling_reader("read_committed", INTENTS_POLL, 1)
    }

    /// The reader of an owner's decisions while it recovers.
    fn recovery_reader(&self) -> Result<Reader, KafkaError> {
        self.polling_reader("read_committed", RECOVERY_POLL, 1)
    }

    /// A reader that lets the broker gather records for so long: fewer, larger fetches.
    fn gathering_reader(&self, isolation: &str, gather: Duration) -> Result<Reader, KafkaError> {
        if gather.is_zero() {
            return self.reader(isolation);
        }
        self.polling_reader(isolation, gather, 1_000_000)
    }

    /// A fetch is answered once the broker has so many bytes, at the latest after `poll`.
    fn polling_reader(
        &self,
        isolation: &str,
        poll: Duration,
        bytes_min: u32,
    ) -> Result<Reader, KafkaError> {
        let (wait_ms, bytes_min) = (poll.as_millis().to_string(), bytes_min.to_string());
        self.client(&[
            ("group.id", "livedrops-readers"),
            ("isolation.level", isolation),
            ("enable.auto.commit", "false"),
            ("enable.auto.offset.store", "false"),
            ("auto.offset.reset", "error"),
            ("enable.partition.eof", "true"),
            ("check.crcs", "true"),
            ("fetch.wait.max.ms", &wait_ms),
            ("fetch.min.bytes", &bytes_min),
            ("fetch.queue.backoff.ms", "10"),
            ("fetch.error.backoff.ms", "50"),
            ("queued.min.messages", "20000"),
            ("queued.max.messages.kbytes", "32768"),
        ])
        .create_with_context(ReaderContext)
    }
}

/// Reaching the end of a partition is how readers know that they are done, not an error worth a log line.
struct ReaderContext;

impl ClientContext for ReaderContext {
    fn error(&self, error: KafkaError, reason: &str) {
        if !matches!(error, KafkaError::Global(RDKafkaErrorCode::PartitionEOF)) {
            tracing::warn!(%error, reason, "reader");
        }
    }
}

impl ConsumerContext for ReaderContext {}

type Reader = BaseConsumer<ReaderContext>;

/// The topics of intents are `LogAppendTime`; a broker that says otherwise is older than its configuration.
fn append_time(message: &BorrowedMessage<'_>) -> Millis {
    match message.timestamp() {
        Timestamp::LogAppendTime(time) | Timestamp::CreateTime(time) => Millis(time),
        Timestamp::NotAvailable => Millis(0),
    }
}

/// Closes a client on a thread of its own, if there can be one. A reader takes up to 100 ms. A group member may take for
/// ever: news of its partitions that it has not heard when it ends may wait for an answer from a group handler that has
/// ended before (librdkafka issues 4041 and 4884).
fn close_aside(client: impl Send + 'static) {
    drop(std::thread::Builder::new().name("log-closer".into()).spawn(move || drop(client)));
}

/// Why the brokers cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Nobody answers, or not as expected.
    #[error("Kafka at {brokers}: {why}")]
    Unreachable {
        /// Whom we asked.
        brokers: String,
        /// What happened.
        why: String,
    },
    /// Topics are missing or differ in partitions: `livedrops topics apply`.
    #[error("topic {topic} has {found} partitions, {wanted} are due; run `livedrops topics apply`")]
    Partitions {
        /// The topic.
        topic: &'static str,
        /// What it has; 0 for a missing topic.
        found: u16,
        /// What the first topic has.
        wanted: u16,
    },
}

/// One process's connection to the log.
pub struct KafkaLog {
    settings: KafkaSettings,
    cluster_id: String,
    partitions: u16,
    appender: Arc<KafkaAppender>,
    watermarks: Arc<Watermarks>,
}

/// Clients that ask where partitions begin and end, shared by every owner of the process: a new one may take half a
/// second over its first question. They never read.
struct Watermarks {
    /// Their end is the high watermark.
    uncommitted: Reader,
    /// Their end is the last stable offset.
    committed: Reader,
}

impl std::fmt::Debug for KafkaLog {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("KafkaLog").field("settings", &self.settings).finish_non_exhaustive()
    }
}

impl KafkaLog {
    /// Connects and checks that every topic is there with one number of partitions. Blocks.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn open(settings: KafkaSettings) -> Result<Self, OpenError> {
        let unreachable =
            |why: String| OpenError::Unreachable { brokers: settings.brokers.clone(), why };
        let reader_of = |isolation| {
            settings.reader(isolation).map_err(|error: KafkaError| unreachable(error.to_string()))
        };
        let watermarks = Watermarks {
            uncommitted: reader_of("read_uncommitted")?,
            committed: reader_of("read_committed")?,
        };
        let metadata = watermarks
            .uncommitted
            .fetch_metadata(None, METADATA_TIMEOUT)
            .map_err(|error| unreachable(error.to_string()))?;
        let count = |topic: Topic| {
            let found = metadata.topics().iter().find(|found| found.name() == topic.name);
            found.map_or(0, |found| u16::try_from(found.partitions().len()).unwrap_or(u16::MAX))
        };
        let partitions = count(topics::ORDER_INTENTS);
        for topic in topics::ALL {
            let found = count(topic);
            if found != partitions || found == 0 {
                return Err(OpenError::Partitions { topic: topic.name, found, wanted: partitions });
            }
        }
        let cluster_id = watermarks
            .uncommitted
            .client()
            .fetch_cluster_id(METADATA_TIMEOUT)
            .ok_or_else(|| unreachable("the brokers tell no cluster id".into()))?;
        // Connects the other one too, before an owner has to wait for that.
        watermarks
            .committed
            .fetch_metadata(Some(topics::ORDER_INTENTS.name), METADATA_TIMEOUT)
            .map_err(|error| unreachable(error.to_string()))?;
        let appender =
            KafkaAppender::new(settings.clone()).map_err(|error| unreachable(error.to_string()))?;
        Ok(Self {
            settings,
            cluster_id,
            partitions,
            appender: Arc::new(appender),
            watermarks: Arc::new(watermarks),
        })
    }

    /// Partitions of every topic.
    #[must_use]
    pub fn partitions(&self) -> u16 {
        self.partitions
    }

    /// Appends intents.
    #[must_use]
    pub fn appender(&self) -> Arc<dyn IntentAppender> {
        self.appender.clone()
    }

    /// The owner's view of a partition.
    #[must_use]
    pub fn own(&self, topology: model::Topology, partition: Partition) -> OwnedPartition {
        let log_id = format!("{}/{}", self.cluster_id, topology.intents.name);
        OwnedPartition::new(
            self.settings.clone(),
            log_id,
            topology,
            partition,
            self.appender.clone(),
            self.watermarks.clone(),
        )
    }

    /// A tail of committed records of every partition of `topic`. Records may come as late as `gather`: a
    /// reader that is in no hurry spares the broker.
    ///
    /// # Errors
    /// Where the brokers do not tell where the topic begins and ends.
    pub fn tail(
        &self,
        topic: Topic,
        start: impl Fn(Partition) -> TailStart,
        gather: Duration,
    ) -> Result<KafkaTail, TailError> {
        KafkaTail::new(&self.settings, topic, self.partitions, start, gather)
    }

    /// How this process reaches the brokers.
    #[must_use]
    pub fn settings(&self) -> &KafkaSettings {
        &self.settings
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, Sender, channel};

    use super::*;

    /// Ends when it is told to, like a client that waits for an answer.
    struct Stuck(Receiver<()>, Sender<()>);

    impl Drop for Stuck {
        fn drop(&mut self) {
            assert!(self.0.recv_timeout(METADATA_TIMEOUT).is_ok(), "told to end");
            assert!(self.1.send(()).is_ok(), "the test waits for the end");
        }
    }

    #[test]
    fn nobody_waits_for_a_client_that_does_not_close() {
        let (end, told_to_end) = channel();
        let (has_ended, ended) = channel();
        close_aside(Stuck(told_to_end, has_ended));
        assert_eq!(ended.try_recv(), Err(std::sync::mpsc::TryRecvError::Empty));
        assert_eq!(end.send(()), Ok(()));
        assert_eq!(ended.recv(), Ok(()), "it is closed all the same");
    }
}
