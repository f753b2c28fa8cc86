//! Transactions of one transactional id: sent, then committed.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use rdkafka::client::ClientContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{DeliveryResult, Message};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer, ProducerContext};
use rdkafka::util::Timeout;
use runtime::{LogError, OutgoingDecision};
use schemas::partition::Partition;
use schemas::topics::Topic;
use schemas::units::Millis;

/// Between two looks for delivery reports: short beside the three milliseconds that they take, and not a core spent.
const DRAIN_PAUSE: Duration = Duration::from_micros(250);

#[derive(Default)]
pub(super) struct Deliveries {
    failed: AtomicU64,
    last_offset: AtomicI64,
}

#[derive(Clone, Default)]
pub(super) struct Context(Arc<Deliveries>);

impl ClientContext for Context {}

impl ProducerContext for Context {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, _opaque: ()) {
        match result {
            Ok(message) => {
                self.0.last_offset.fetch_max(message.offset(), Ordering::Relaxed);
            }
            Err(_) => {
                self.0.failed.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}

/// Without a polling thread: [`Transactions::commit`] serves the delivery reports, and nothing else waits for one,
/// because a transaction is never aborted, only fenced. Dozens of idle threads would poll for nothing.
pub(super) type DecisionProducer = BaseProducer<Context>;

fn is_fenced(code: RDKafkaErrorCode) -> bool {
    matches!(code, RDKafkaErrorCode::Fenced | RDKafkaErrorCode::ProducerFenced)
}

/// What an error of the transactional producer asks for.
pub(super) fn classify(error: &KafkaError) -> LogError {
    let text = error.to_string();
    match error {
        KafkaError::Transaction(transaction) if is_fenced(transaction.code()) => {
            LogError::Fenced(text)
        }
        KafkaError::Transaction(transaction) if transaction.is_retriable() => {
            LogError::Unreachable(text)
        }
        other if other.rdkafka_error_code().is_some_and(is_fenced) => LogError::Fenced(text),
        _ => LogError::Recover(text),
    }
}

/// The transactions of one producer, one at a time.
#[derive(Clone)]
pub(super) struct Transactions {
    pub(super) producer: Arc<DecisionProducer>,
    pub(super) deliveries: Context,
    pub(super) topic: Topic,
    pub(super) partition: Partition,
    pub(super) clock: fn() -> Millis,
}

impl Transactions {
    /// Begins a transaction and hands every record to the client.
    pub(super) fn send(&self, decisions: &[OutgoingDecision]) -> Result<(), LogError> {
        self.producer.begin_transaction().map_err(|error| self.fence_or(classify(&error)))?;
        // One for all: the client would ask the clock for every record.
        let sent_at = (self.clock)();
        for decision in decisions {
            loop {
                let mut record = BaseRecord::to(self.topic.name)
                    .partition(i32::from(self.partition.0))
                    .timestamp(sent_at.0)
                    .payload(decision.value.as_slice());
                if let Some(key) = &decision.key {
                    record = record.key(&key[..]);
                }
                match self.producer.send(record) {
                    Ok(()) => break,
                    Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), _)) => {
                        self.producer.poll(Duration::ZERO);
                        std::thread::sleep(Duration::from_millis(1));
                    }
                    Err((error, _)) => return Err(self.fence_or(classify(&error))),
                }
            }
        }
        Ok(())
    }

    /// Commits what was sent; the offset after its last record.
    pub(super) fn commit(&self) -> Result<i64, LogError> {
        self.drain()?;
        // Any other timeout risks that librdkafka and the coordinator disagree on what happened.
        match self.producer.commit_transaction(Timeout::Never) {
            Ok(()) => Ok(self.deliveries.0.last_offset.load(Ordering::Relaxed) + 1),
            // Unknown or not committed: the next fence and the log itself tell.
            Err(error) => Err(match self.fence_or(classify(&error)) {
                LogError::Unreachable(why) => LogError::Recover(why),
                other => other,
            }),
        }
    }

    /// Every delivery report served: only then does a commit return at once.
    fn drain(&self) -> Result<(), LogError> {
        let started = (self.clock)();
        while self.producer.in_flight_count() > 0 {
            self.producer.poll(Duration::ZERO);
            if (self.clock)().since(started).0 > 2 * 8_000 {
                return Err(LogError::Recover("deliveries do not come to an end".into()));
            }
            std::thread::sleep(DRAIN_PAUSE);
        }
        match self.deliveries.0.failed.load(Ordering::Relaxed) {
            0 => Ok(()),
            failed => {
                let why = format!("{failed} records were not delivered");
                Err(self.fence_or(LogError::Recover(why)))
            }
        }
    }

    /// A fence, where there is one behind an error: it mostly shows as a record that is not delivered. Whoever took it for
    /// a failure would recover, and fence the new owner.
    fn fence_or(&self, error: LogError) -> LogError {
        match self.producer.client().fatal_error() {
            Some((code, why)) if is_fenced(code) => LogError::Fenced(why),
            _ => error,
        }
    }
}
