//! Intents in: idempotent producers, acknowledged by every in-sync replica.

mod gate;

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use platform::clock::monotonic;
use rdkafka::client::ClientContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{DeliveryResult, Header, Message, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer, ProducerContext};
use rdkafka::statistics::Statistics;
use runtime::{AppendError, IntentAppender, IntentToAppend};
use schemas::partition::Partition;
use tokio::sync::oneshot;

use crate::KafkaSettings;
use gate::{GATHER, Gate, Way};

/// How long a producer outlives the appender at most: it belongs to the thread that serves its reports then. Not
/// shorter: rdkafka 0.39 asks without a pause through the last millisecond of every poll, and two threads that poll for
/// 100 ms were a third of an idle node's CPU time.
const REPORTS_POLL: Duration = Duration::from_secs(1);

type Answer = oneshot::Sender<Result<i64, AppendError>>;
type IntentProducer = BaseProducer<Context>;

struct Request {
    intent: IntentToAppend,
    answer: Answer,
}

/// The way of one partition's intents.
struct Lane {
    gate: Mutex<Gate<Request>>,
    /// Takes those that waited; gone when the client is dropped.
    gathering: Weak<IntentProducer>,
}

/// What a delivery report brings back.
struct Sent {
    answer: Answer,
    lane: Arc<Lane>,
}

struct Context {
    is_reachable: Arc<AtomicBool>,
}

impl ClientContext for Context {
    fn stats(&self, statistics: Statistics) {
        let is_up = statistics.brokers.values().any(|broker| broker.state == "UP");
        self.is_reachable.store(is_up, Ordering::Relaxed);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::warn!(%error, reason, "intents producer");
    }
}

impl ProducerContext for Context {
    type DeliveryOpaque = Box<Sent>;

    fn delivery(&self, result: &DeliveryResult<'_>, sent: Box<Sent>) {
        let Sent { answer, lane } = *sent;
        match result {
            Ok(message) => {
                drop(answer.send(Ok(message.offset())));
                let ready = locked(&lane.gate).acknowledged(monotonic());
                match lane.gathering.upgrade() {
                    Some(producer) => hand_over(&producer, ready, &lane),
                    None => turn_away(ready, "the log's client was stopped"),
                }
            }
            Err((error, _)) => {
                // The broker has it, or not: librdkafka gave up waiting for the answer.
                drop(answer.send(Err(AppendError::Unknown(error.to_string()))));
                lane.refuse();
            }
        }
    }
}

impl Lane {
    fn refuse(&self) {
        let waiting = locked(&self.gate).refused();
        turn_away(waiting, "the log did not take an intent before this one");
    }
}

fn turn_away(requests: impl IntoIterator<Item = Request>, why: &str) {
    for Request { answer, .. } in requests {
        drop(answer.send(Err(AppendError::NotWritten(why.into()))));
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Two producers, for a lone intent and for many, and the intents that wait.
struct Client {
    at_once: Arc<IntentProducer>,
    gathering: Arc<IntentProducer>,
    lanes: Mutex<HashMap<(&'static str, Partition), Arc<Lane>>>,
}

impl Client {
    fn start(settings: &KafkaSettings, is_reachable: &Arc<AtomicBool>) -> Result<Self, KafkaError> {
        let producer = |linger_ms, statistics_interval_ms| -> Result<_, KafkaError> {
            let config = settings.client(&[
                ("acks", "all"),
                ("enable.idempotence", "true"),
                ("linger.ms", linger_ms),
                ("compression.type", "lz4"),
                ("message.timeout.ms", "3000"),
                ("socket.timeout.ms", "3000"),
                ("queue.buffering.max.messages", "200000"),
                ("statistics.interval.ms", statistics_interval_ms),
            ]);
            let is_reachable = is_reachable.clone();
            let producer = Arc::new(config.create_with_context(Context { is_reachable })?);
            serve_reports(&producer)?;
            Ok(producer)
        };
        let gather_ms = GATHER.as_millis().to_string();
        let (at_once, gathering) = (producer("0", "1000")?, producer(&gather_ms, "0")?);
        Ok(Self { at_once, gathering, lanes: Mutex::default() })
    }

    fn fatal_error(&self) -> Option<(RDKafkaErrorCode, String)> {
        [&self.at_once, &self.gathering]
            .into_iter()
            .find_map(|producer| producer.client().fatal_error())
    }

    fn append(&self, request: Request) {
        let lane = self.lane(request.intent.topic.name, request.intent.partition);
        let admitted = locked(&lane.gate).admit(request, monotonic());
        match admitted {
            Some((Way::AtOnce, request)) => hand_over(&self.at_once, [request], &lane),
            Some((Way::Gathered, request)) => hand_over(&self.gathering, [request], &lane),
            None => {} // the report of one that is on its way will
        }
    }

    fn lane(&self, topic: &'static str, partition: Partition) -> Arc<Lane> {
        let new = || {
            let gathering = Arc::downgrade(&self.gathering);
            Arc::new(Lane { gate: Mutex::default(), gathering })
        };
        locked(&self.lanes).entry((topic, partition)).or_insert_with(new).clone()
    }
}

/// Starts the thread that serves a producer's delivery reports for as long as somebody else has the producer.
fn serve_reports(producer: &Arc<IntentProducer>) -> Result<(), KafkaError> {
    let producer = Arc::downgrade(producer);
    let serve = move || {
        while let Some(producer) = producer.upgrade() {
            producer.poll(REPORTS_POLL);
        }
    };
    let thread = std::thread::Builder::new().name("intent-reports".into()).spawn(serve);
    thread.map_err(|error| KafkaError::ClientCreation(error.to_string()))?;
    Ok(())
}

/// Hands requests that the gate let pass to librdkafka.
fn hand_over(
    producer: &IntentProducer,
    requests: impl IntoIterator<Item = Request>,
    lane: &Arc<Lane>,
) {
    for request in requests {
        if let Err((error, answer)) = send(producer, request, lane) {
            drop(answer.send(Err(AppendError::NotWritten(error.to_string()))));
            lane.refuse();
        }
    }
}

fn send(
    producer: &IntentProducer,
    request: Request,
    lane: &Arc<Lane>,
) -> Result<(), (KafkaError, Answer)> {
    let Request { intent, answer } = request;
    let sent = Box::new(Sent { answer, lane: lane.clone() });
    let mut record = BaseRecord::with_opaque_to(intent.topic.name, sent)
        .partition(i32::from(intent.partition.0))
        .payload(intent.value.as_slice());
    if let Some(key) = &intent.key {
        record = record.key(&key[..]);
    }
    if let Some(traceparent) = &intent.traceparent {
        let header = Header { key: "traceparent", value: Some(traceparent) };
        record = record.headers(OwnedHeaders::new().insert(header));
    }
    producer.send(record).map_err(|(error, record)| (error, record.delivery_opaque.answer))
}

/// See the module.
pub(crate) struct KafkaAppender {
    settings: KafkaSettings,
    client: Mutex<Arc<Client>>,
    is_reachable: Arc<AtomicBool>,
}

impl KafkaAppender {
    pub(crate) fn new(settings: KafkaSettings) -> Result<Self, KafkaError> {
        let is_reachable = Arc::new(AtomicBool::new(true));
        let client = Mutex::new(Arc::new(Client::start(&settings, &is_reachable)?));
        Ok(Self { settings, client, is_reachable })
    }

    /// The client; a new one where the last met a fatal error, which an idempotent producer never survives.
    fn client(&self) -> Result<Arc<Client>, KafkaError> {
        let mut current = locked(&self.client);
        let Some((code, why)) = current.fatal_error() else { return Ok(current.clone()) };
        tracing::error!(%code, why, "the intents producers are replaced");
        let new = Arc::new(Client::start(&self.settings, &self.is_reachable)?);
        let old = std::mem::replace(&mut *current, new.clone());
        // A producer that ends is waited for, by one at most.
        drop(current);
        drop(old);
        Ok(new)
    }
}

impl IntentAppender for KafkaAppender {
    fn append(&self, intent: IntentToAppend) -> oneshot::Receiver<Result<i64, AppendError>> {
        let (answer, receiver) = oneshot::channel();
        let request = Request { intent, answer };
        match self.client() {
            Ok(client) => client.append(request),
            Err(error) => turn_away([request], &error.to_string()),
        }
        receiver
    }

    fn is_reachable(&self) -> bool {
        self.is_reachable.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use schemas::topics::ORDER_INTENTS;
    use schemas::units::Millis;

    use super::*;

    #[test]
    fn an_appender_that_is_dropped_answers_everybody_and_ends_its_producers() {
        let settings = KafkaSettings {
            brokers: "127.0.0.1:1".into(),
            session_timeout_ms: 1_500,
            clock: || Millis(0),
        };
        let appender = KafkaAppender::new(settings).unwrap();
        let client = appender.client().unwrap();
        let producers = [&client.at_once, &client.gathering].map(Arc::downgrade);
        drop(client);
        let intent = IntentToAppend {
            topic: ORDER_INTENTS,
            partition: Partition(0),
            key: None,
            value: vec![1],
            traceparent: None,
        };
        let answers: Vec<_> = (0..7).map(|_| appender.append(intent.clone())).collect();
        drop(appender);
        let answers: Vec<_> = answers.into_iter().map(|answer| answer.blocking_recv()).collect();
        let unknown = |answer: &&_| matches!(answer, Ok(Err(AppendError::Unknown(_))));
        let not_written = |answer: &&_| matches!(answer, Ok(Err(AppendError::NotWritten(_))));
        assert_eq!(answers.iter().filter(unknown).count(), 5, "{answers:?}");
        assert_eq!(answers.iter().filter(not_written).count(), 2, "{answers:?}");
        let is_over = |_| {
            std::thread::sleep(REPORTS_POLL / 10);
            producers.iter().all(|producer| producer.strong_count() == 0)
        };
        assert!((0..50).any(is_over), "a producer goes on");
    }
}
