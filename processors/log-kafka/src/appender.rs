//! Intents in: one idempotent producer per process, acknowledged by every in-sync replica.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use rdkafka::client::ClientContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{DeliveryResult, Header, Message, OwnedHeaders};
use rdkafka::producer::{BaseRecord, Producer, ProducerContext, ThreadedProducer};
use rdkafka::statistics::Statistics;
use runtime::{AppendError, IntentAppender, IntentToAppend};
use tokio::sync::oneshot;

use crate::KafkaSettings;

type Answer = oneshot::Sender<Result<i64, AppendError>>;

#[derive(Clone)]
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
    type DeliveryOpaque = Box<Answer>;

    fn delivery(&self, result: &DeliveryResult<'_>, answer: Box<Answer>) {
        let result = match result {
            Ok(message) => Ok(message.offset()),
            // The broker has it, or not: librdkafka gave up waiting for the answer.
            Err((error, _)) => Err(AppendError::Unknown(error.to_string())),
        };
        drop(answer.send(result));
    }
}

type IntentProducer = ThreadedProducer<Context>;

/// See the module.
pub(crate) struct KafkaAppender {
    settings: KafkaSettings,
    producer: Mutex<Arc<IntentProducer>>,
    context: Context,
}

/// Requests on their way at once: what arrives meanwhile goes with the next one. So a burst is gathered and a lone buyer
/// waits for nobody. Not `linger.ms`: the client spends its last millisecond polling without a pause.
const IN_FLIGHT_MAX: &str = "2";

fn create(settings: &KafkaSettings, context: Context) -> Result<Arc<IntentProducer>, KafkaError> {
    let config = settings.client(&[
        ("acks", "all"),
        ("enable.idempotence", "true"),
        ("linger.ms", "0"),
        ("max.in.flight.requests.per.connection", IN_FLIGHT_MAX),
        ("compression.type", "lz4"),
        ("message.timeout.ms", "3000"),
        ("socket.timeout.ms", "3000"),
        ("queue.buffering.max.messages", "200000"),
        ("statistics.interval.ms", "1000"),
    ]);
    config.create_with_context(context).map(Arc::new)
}

impl KafkaAppender {
    pub(crate) fn new(settings: KafkaSettings) -> Result<Self, KafkaError> {
        let context = Context { is_reachable: Arc::new(AtomicBool::new(true)) };
        let producer = Mutex::new(create(&settings, context.clone())?);
        Ok(Self { settings, producer, context })
    }

    /// The producer; a new one where the last met a fatal error, which an idempotent producer never survives.
    fn producer(&self) -> Result<Arc<IntentProducer>, KafkaError> {
        let mut producer = self.producer.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((code, why)) = producer.client().fatal_error() {
            tracing::error!(%code, why, "the intents producer is replaced");
            *producer = create(&self.settings, self.context.clone())?;
        }
        Ok(producer.clone())
    }

    fn send(&self, intent: &IntentToAppend, answer: Answer) -> Result<(), (KafkaError, Answer)> {
        let producer = match self.producer() {
            Ok(producer) => producer,
            Err(error) => return Err((error, answer)),
        };
        let mut record = BaseRecord::with_opaque_to(intent.topic.name, Box::new(answer))
            .partition(i32::from(intent.partition.0))
            .payload(intent.value.as_slice());
        if let Some(key) = &intent.key {
            record = record.key(&key[..]);
        }
        if let Some(traceparent) = &intent.traceparent {
            let header = Header { key: "traceparent", value: Some(traceparent) };
            record = record.headers(OwnedHeaders::new().insert(header));
        }
        producer.send(record).map_err(|(error, record)| (error, *record.delivery_opaque))
    }
}

impl IntentAppender for KafkaAppender {
    fn append(&self, intent: IntentToAppend) -> oneshot::Receiver<Result<i64, AppendError>> {
        let (answer, receiver) = oneshot::channel();
        if let Err((error, answer)) = self.send(&intent, answer) {
            let full = KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull);
            let why =
                if error == full { "the send queue is full".into() } else { error.to_string() };
            drop(answer.send(Err(AppendError::NotWritten(why))));
        }
        receiver
    }

    fn is_reachable(&self) -> bool {
        self.context.is_reachable.load(Ordering::Relaxed)
    }
}
