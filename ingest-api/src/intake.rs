//! Into the log: one intent, durable before it is acknowledged, or a clear word on what happened to it.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::http::StatusCode;
use platform::clock::monotonic;
use runtime::{AppendError, IntentAppender, IntentToAppend};
use schemas::framing;
use schemas::partition::Partition;
use schemas::topics::Topic;
use tokio::sync::Semaphore;

use crate::problem::{Problem, Retry};

/// Longest wait for the log's acknowledgement; after it the outcome is unknown.
const ACKNOWLEDGE_MAX: Duration = Duration::from_secs(5);
/// A log that fails fails for everybody in a rush: a line for each would fill the disk that may be the reason.
const COMPLAINT_INTERVAL: Duration = Duration::from_secs(1);

/// Intents that were not acknowledged since the last line about them, and when the next line may come.
#[derive(Default)]
struct Complaints(Mutex<(u64, Option<Instant>)>);

impl Complaints {
    /// One more. How many there were, where it is time for a line.
    fn add(&self, now: Instant) -> Option<u64> {
        let mut complaints = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (unsaid, next_at) = &mut *complaints;
        *unsaid += 1;
        if next_at.is_some_and(|next_at| now < next_at) {
            return None;
        }
        *next_at = Some(now + COMPLAINT_INTERVAL);
        Some(std::mem::take(unsaid))
    }
}

/// Appends intents, sheds load before the log does.
pub struct Intake {
    appender: Arc<dyn IntentAppender>,
    in_flight: Semaphore,
    partitions: u16,
    order_schema: u32,
    follow_schema: u32,
    complaints: Complaints,
}

impl std::fmt::Debug for Intake {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Intake")
            .field("partitions", &self.partitions)
            .finish_non_exhaustive()
    }
}

impl Intake {
    /// An intake that lets `in_flight_max` intents wait for the log at once.
    #[must_use]
    pub fn new(
        appender: Arc<dyn IntentAppender>,
        partitions: u16,
        (order_schema, follow_schema): (u32, u32),
        in_flight_max: usize,
    ) -> Self {
        let in_flight = Semaphore::new(in_flight_max);
        let complaints = Complaints::default();
        Self { appender, in_flight, partitions, order_schema, follow_schema, complaints }
    }

    pub(crate) fn partitions(&self) -> u16 {
        self.partitions
    }

    pub(crate) fn is_reachable(&self) -> bool {
        self.appender.is_reachable()
    }

    /// Starts an order intent's record value.
    pub(crate) fn order_value(&self) -> Vec<u8> {
        started(self.order_schema)
    }

    /// Starts a follow intent's record value.
    pub(crate) fn follow_value(&self) -> Vec<u8> {
        started(self.follow_schema)
    }

    /// Appends an intent and returns its offset.
    ///
    /// # Errors
    /// 503 where nothing was written; 504 where nobody knows.
    pub(crate) async fn append(
        &self,
        topic: Topic,
        partition: Partition,
        key: [u8; 16],
        value: Vec<u8>,
        traceparent: Option<String>,
    ) -> Result<i64, Problem> {
        let Ok(_permit) = self.in_flight.try_acquire() else {
            metrics::counter!("livedrops_intents_shed_total").increment(1);
            let detail = "too many intents are waiting for the log; nothing was written";
            return Err(Problem::unavailable("overloaded", detail));
        };
        let intent = IntentToAppend { topic, partition, key: Some(key), value, traceparent };
        let acknowledged =
            tokio::time::timeout(ACKNOWLEDGE_MAX, self.appender.append(intent)).await;
        match acknowledged {
            Ok(Ok(Ok(offset))) => Ok(offset),
            Ok(Ok(Err(AppendError::NotWritten(why)))) => {
                self.complain("nothing was written", &why);
                Err(Problem::unavailable(
                    "log_unavailable",
                    "the log takes no intents now; nothing was written",
                ))
            }
            Ok(Ok(Err(AppendError::Unknown(why)))) => Err(self.unknown(&why)),
            Ok(Err(_)) => Err(self.unknown("the log client was stopped")),
            Err(_) => Err(self.unknown("the log did not acknowledge in time")),
        }
    }

    fn unknown(&self, why: &str) -> Problem {
        self.complain("unknown", why);
        let detail = "the intent may or may not be in the log; retry with the same Idempotency-Key";
        Problem::new(StatusCode::GATEWAY_TIMEOUT, "outcome_unknown", Retry::SameKey, detail)
    }

    fn complain(&self, outcome: &str, why: &str) {
        if let Some(intents) = self.complaints.add(monotonic()) {
            tracing::warn!(intents, outcome, why, "intents were not acknowledged");
        }
    }
}

fn started(schema_id: u32) -> Vec<u8> {
    let mut value = Vec::with_capacity(256);
    framing::start(&mut value, schema_id);
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_that_fails_is_told_of_once_a_second_with_the_number_of_intents() {
        let complaints = Complaints::default();
        let (first, second) = (monotonic(), Duration::from_secs(1));
        assert_eq!(complaints.add(first), Some(1), "at once");
        for _ in 0..41 {
            assert_eq!(complaints.add(first + second / 2), None);
        }
        assert_eq!(complaints.add(first + second), Some(42));
        assert_eq!(complaints.add(first + second * 3 / 2), None);
    }
}
