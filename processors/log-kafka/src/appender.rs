//! Intents in: one idempotent producer per process, acknowledged by every in-sync replica.

mod gate;

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::Duration;

use rdkafka::client::ClientContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{DeliveryResult, Header, Message, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer, ProducerContext};
use rdkafka::statistics::Statistics;
use runtime::{AppendError, IntentAppender, IntentToAppend};
use schemas::partition::Partition;
use tokio::sync::oneshot;

use crate::KafkaSettings;
use gate::{Admission, Gate};

/// How long the thread that serves delivery reports outlives the appender at most.
const REPORTS_POLL: Duration = Duration::from_millis(100);

type Answer = oneshot::Sender<Result<i64, AppendError>>;
type SharedGate = Arc<Mutex<Gate<Request>>>;

struct Request {
    intent: IntentToAppend,
    answer: Answer,
}

/// What a delivery report brings back.
struct Sent {
    answer: Answer,
    gate: SharedGate,
}

struct Context {
    is_reachable: Arc<AtomicBool>,
    /// Whose reports are served; gone while it is dropped.
    client: OnceLock<Weak<Client>>,
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
        let Sent { answer, gate } = *sent;
        match result {
            Ok(message) => {
                drop(answer.send(Ok(message.offset())));
                let ready = locked(&gate).acknowledged();
                match self.client.get().and_then(Weak::upgrade) {
                    Some(client) => hand_over(&client.gathering, ready, &gate),
                    None => turn_away(ready, "the log's client was stopped"),
                }
            }
            Err((error, _)) => {
                // The broker has it, or not: librdkafka gave up waiting for the answer.
                drop(answer.send(Err(AppendError::Unknown(error.to_string()))));
                turn_away(locked(&gate).refused(), "the log did not take the intents before it");
            }
        }
    }
}

fn turn_away(requests: Vec<Request>, why: &str) {
    for Request { answer, .. } in requests {
        drop(answer.send(Err(AppendError::NotWritten(why.into()))));
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How long those that waited are gathered into one request: longer than handing them over takes. What came too late for
/// a request would be polled for (see `gate`).
const GATHER_MS: &str = "1";

/// Two producers, for a lone intent and for many, and the intents that wait.
struct Client {
    at_once: BaseProducer<Context>,
    gathering: BaseProducer<Context>,
    gates: Mutex<HashMap<(&'static str, Partition), SharedGate>>,
}

impl Client {
    fn start(
        settings: &KafkaSettings,
        is_reachable: &Arc<AtomicBool>,
    ) -> Result<Arc<Self>, KafkaError> {
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
            config.create_with_context(Context { is_reachable, client: OnceLock::new() })
        };
        let client = Arc::new(Self {
            at_once: producer("0", "1000")?,
            gathering: producer(GATHER_MS, "0")?,
            gates: Mutex::default(),
        });
        let producers: [fn(&Self) -> &BaseProducer<Context>; 2] =
            [|client| &client.at_once, |client| &client.gathering];
        for producer in producers {
            let weak = Arc::downgrade(&client);
            producer(&client).context().client.get_or_init(|| weak.clone());
            let serve = move || {
                while let Some(client) = weak.upgrade() {
                    producer(&client).poll(REPORTS_POLL);
                }
            };
            let thread = std::thread::Builder::new().name("intent-reports".into()).spawn(serve);
            thread.map_err(|error| KafkaError::ClientCreation(error.to_string()))?;
        }
        Ok(client)
    }

    fn fatal_error(&self) -> Option<(RDKafkaErrorCode, String)> {
        [&self.at_once, &self.gathering]
            .into_iter()
            .find_map(|producer| producer.client().fatal_error())
    }

    fn append(&self, request: Request) {
        let (topic, partition) = (request.intent.topic.name, request.intent.partition);
        let gate = locked(&self.gates).entry((topic, partition)).or_default().clone();
        let admission = locked(&gate).admit(request);
        match admission {
            Admission::Now(request) => hand_over(&self.at_once, vec![request], &gate),
            Admission::Later => {}
            Admission::Full(request) => turn_away(vec![request], "the send queue is full"),
        }
    }
}

/// Hands requests that the gate let pass to librdkafka.
fn hand_over(producer: &BaseProducer<Context>, mut requests: Vec<Request>, gate: &SharedGate) {
    while !requests.is_empty() {
        let mut ready = Vec::new();
        for request in requests {
            if let Err((error, answer)) = send(producer, request, gate) {
                let why = match error {
                    KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull) => {
                        "the send queue is full".into()
                    }
                    error => error.to_string(),
                };
                drop(answer.send(Err(AppendError::NotWritten(why))));
                ready.append(&mut locked(gate).acknowledged());
            }
        }
        requests = ready;
    }
}

fn send(
    producer: &BaseProducer<Context>,
    request: Request,
    gate: &SharedGate,
) -> Result<(), (KafkaError, Answer)> {
    let Request { intent, answer } = request;
    let sent = Box::new(Sent { answer, gate: gate.clone() });
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
        let client = Mutex::new(Client::start(&settings, &is_reachable)?);
        Ok(Self { settings, client, is_reachable })
    }

    /// The client; a new one where the last met a fatal error, which an idempotent producer never survives.
    fn client(&self) -> Result<Arc<Client>, KafkaError> {
        let mut client = locked(&self.client);
        if let Some((code, why)) = client.fatal_error() {
            tracing::error!(%code, why, "the intents producer is replaced");
            *client = Client::start(&self.settings, &self.is_reachable)?;
        }
        Ok(client.clone())
    }
}

impl IntentAppender for KafkaAppender {
    fn append(&self, intent: IntentToAppend) -> oneshot::Receiver<Result<i64, AppendError>> {
        let (answer, receiver) = oneshot::channel();
        let request = Request { intent, answer };
        match self.client() {
            Ok(client) => client.append(request),
            Err(error) => turn_away(vec![request], &error.to_string()),
        }
        receiver
    }

    fn is_reachable(&self) -> bool {
        self.is_reachable.load(Ordering::Relaxed)
    }
}
