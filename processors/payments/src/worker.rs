//! The loop: rows in, calls out, outcomes into the log.

use std::sync::Arc;
use std::time::Duration;

use runtime::{IntentAppender, IntentToAppend};
use schemas::avro;
use schemas::framing;
use schemas::order::{OrderIntent, OrderIntentKind, OrderRow, PaymentOutcome};
use schemas::topics::ORDER_INTENTS;
use schemas::units::Millis;
use tokio::sync::{mpsc, oneshot};

use crate::operations::{Call, How, Operations};
use crate::provider::{NoAnswer, Provider};

/// Calls under way at once.
const CALLS_MAX: usize = 128;
/// Longest sleep while something is under way.
const IDLE: Duration = Duration::from_millis(500);
/// Longest wait for the log's acknowledgement.
const ACKNOWLEDGE_MAX: Duration = Duration::from_secs(5);

/// What the worker hears.
#[derive(Debug)]
pub enum Heard {
    /// Order rows of committed decisions, in log order.
    Rows(Vec<OrderRow>),
    /// Every order with an operation, after the decisions were read from their beginning.
    Restart(Vec<OrderRow>),
    /// What an event tells whose signature was checked; the answer says whether it is in the log.
    Event(PaymentOutcome, oneshot::Sender<bool>),
    /// An answer to a call, or that there was none. No outcome: an event will tell.
    Answer(Call, Result<Option<PaymentOutcome>, NoAnswer>),
    /// An outcome was appended, or was not.
    Appended(Call, bool),
}

/// Where outcomes go.
#[derive(Clone)]
pub struct OutcomeLog {
    appender: Arc<dyn IntentAppender>,
    partitions: u16,
    schema_id: u32,
}

impl std::fmt::Debug for OutcomeLog {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("OutcomeLog").finish_non_exhaustive()
    }
}

impl OutcomeLog {
    /// Appends to the order intents, framed with `schema_id`.
    #[must_use]
    pub fn new(appender: Arc<dyn IntentAppender>, partitions: u16, schema_id: u32) -> Self {
        Self { appender, partitions, schema_id }
    }

    /// Appends an outcome; false where it may not be in the log.
    async fn append(&self, outcome: PaymentOutcome) -> bool {
        let order = outcome.order_id;
        let now = Millis(platform::clock::now_ms());
        let id = platform::clock::random_uuid().into();
        let intent = OrderIntent {
            payment_outcome: Some(Box::new(outcome)),
            ..OrderIntent::bare(id, OrderIntentKind::PaymentOutcome, now)
        };
        let mut value = Vec::with_capacity(256);
        framing::start(&mut value, self.schema_id);
        avro::ORDER_INTENT.encode(&intent, &mut value);
        let record = IntentToAppend {
            topic: ORDER_INTENTS,
            partition: order.partition(self.partitions),
            key: Some(order.0),
            value,
            traceparent: None,
        };
        let appended = tokio::time::timeout(ACKNOWLEDGE_MAX, self.appender.append(record)).await;
        matches!(appended, Ok(Ok(Ok(_))))
    }
}

/// The payments processor.
#[derive(Debug)]
pub struct Worker<P> {
    operations: Operations,
    provider: P,
    log: OutcomeLog,
    heard: mpsc::Receiver<Heard>,
    tell: mpsc::Sender<Heard>,
    under_way: usize,
}

impl<P: Provider> Worker<P> {
    /// A worker and the way to talk to it. It ends when it is aborted.
    #[must_use]
    pub fn new(provider: P, log: OutcomeLog) -> (Self, mpsc::Sender<Heard>) {
        let (tell, heard) = mpsc::channel(4 * CALLS_MAX);
        let operations = Operations::default();
        let worker = Self { operations, provider, log, heard, tell: tell.clone(), under_way: 0 };
        (worker, tell)
    }

    /// Runs until nobody talks to it any more.
    pub async fn run(mut self) {
        loop {
            let now = Millis(platform::clock::now_ms());
            let room = CALLS_MAX.saturating_sub(self.under_way);
            for (call, how) in self.operations.take_due(now, room) {
                self.call(call, how);
            }
            let pause = self.operations.next_due().map_or(IDLE, |due| {
                Duration::from_millis(due.since(now).0.max(1).cast_unsigned()).min(IDLE)
            });
            match tokio::time::timeout(pause, self.heard.recv()).await {
                Ok(Some(heard)) => self.hear(heard),
                Ok(None) => return,
                Err(_) => {}
            }
            metrics::gauge!("livedrops_payment_operations_open")
                .set(f64::from(u32::try_from(self.operations.len()).unwrap_or(u32::MAX)));
        }
    }

    fn call(&mut self, call: Call, how: How) {
        self.under_way += 1;
        let (provider, tell) = (self.provider.clone(), self.tell.clone());
        tokio::spawn(async move {
            let answer = provider.ask(&call, how).await;
            drop(tell.send(Heard::Answer(call, answer)).await);
        });
    }

    fn hear(&mut self, heard: Heard) {
        let now = Millis(platform::clock::now_ms());
        match heard {
            Heard::Rows(rows) => self.operations.read(rows, now),
            Heard::Restart(rows) => self.operations.restart(rows, now),
            Heard::Answer(call, Err(error)) => {
                self.under_way -= 1;
                tracing::debug!(%error, key = call.key(), "unknown outcome");
                metrics::counter!("livedrops_payment_calls_unknown_total").increment(1);
                self.operations.retry(&call, now);
            }
            Heard::Answer(call, Ok(outcome)) => {
                self.under_way -= 1;
                // A pending operation is told by an event; so is what the buyer has to do first.
                self.operations.await_webhook(&call, now);
                if let Some(outcome) = outcome.filter(|outcome| self.operations.is_news(outcome)) {
                    self.log_outcome(call, outcome, None);
                }
            }
            Heard::Event(outcome, taken) => {
                self.log_outcome(Call::answered_by(&outcome), outcome, Some(taken));
            }
            Heard::Appended(call, true) => self.operations.await_log(&call, now),
            Heard::Appended(call, false) => self.operations.retry(&call, now),
        }
    }

    fn log_outcome(
        &self,
        call: Call,
        outcome: PaymentOutcome,
        taken: Option<oneshot::Sender<bool>>,
    ) {
        let (log, tell) = (self.log.clone(), self.tell.clone());
        tokio::spawn(async move {
            let appended = log.append(outcome).await;
            if let Some(taken) = taken {
                let _ = taken.send(appended);
            }
            drop(tell.send(Heard::Appended(call, appended)).await);
        });
    }
}
