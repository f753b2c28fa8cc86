//! What the buyers saw.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::client::Reply;

/// One buyer's answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Answer {
    /// The order's status.
    Order(String),
    /// A problem's code.
    Refused(String),
    /// No answer, or no decision in time.
    None,
}

impl Answer {
    pub(super) fn read(reply: Option<&Reply>) -> Self {
        let Some(reply) = reply else { return Self::None };
        let json: Value = serde_json::from_slice(&reply.body).unwrap_or(Value::Null);
        let text = |value: &Value| value.as_str().map(str::to_owned);
        match reply.status {
            200 | 201 => text(&json["order"]["status"]).map_or(Self::None, Self::Order),
            202 => Self::None,
            _ => text(&json["code"]).map_or(Self::None, Self::Refused),
        }
    }
}

/// Milliseconds.
#[derive(Clone, Copy, PartialEq, Debug, Default, Serialize, Deserialize)]
pub(crate) struct LatencyMs {
    pub(crate) p50: f64,
    pub(crate) p95: f64,
    pub(crate) p99: f64,
    pub(crate) max: f64,
}

impl LatencyMs {
    #[allow(clippy::cast_precision_loss, reason = "microseconds stay far below 2^52")]
    pub(super) fn of(histogram: &Histogram<u64>) -> Self {
        let at = |quantile| histogram.value_at_quantile(quantile) as f64 / 1_000.0;
        let max = histogram.max() as f64 / 1_000.0;
        Self { p50: at(0.5), p95: at(0.95), p99: at(0.99), max }
    }
}

/// The report of `load`.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct LoadReport {
    /// Orders sent.
    pub(crate) intents: u64,
    /// Orders granted: reserved, confirmed or paid.
    pub(crate) accepted: u64,
    pub(crate) reserved: u64,
    pub(crate) confirmed: u64,
    pub(crate) paid: u64,
    pub(crate) rejected_by_reason: BTreeMap<String, u64>,
    pub(crate) unanswered: u64,
    pub(crate) latency_ms: LatencyMs,
    /// From the first order due to the last answer.
    pub(crate) seconds: f64,
    pub(crate) decisions_per_second: f64,
}

/// An hour: what is longer counts as an hour.
const LATENCY_MICROSECONDS_MAX: u64 = 3_600_000_000;

pub(super) fn latencies() -> Histogram<u64> {
    Histogram::new_with_bounds(1, LATENCY_MICROSECONDS_MAX, 3)
        .expect("one microsecond to an hour with three figures is a legal range")
}

/// Collects answers.
pub(super) struct Recorder {
    started: Instant,
    histogram: Histogram<u64>,
    statuses: BTreeMap<String, u64>,
    reasons: BTreeMap<String, u64>,
    unanswered: u64,
}

impl Recorder {
    pub(super) fn new() -> Self {
        Self {
            started: platform::clock::monotonic(),
            histogram: latencies(),
            statuses: BTreeMap::new(),
            reasons: BTreeMap::new(),
            unanswered: 0,
        }
    }

    pub(super) fn started(&self) -> Instant {
        self.started
    }

    pub(super) fn record(&mut self, latency: Duration, answer: Answer) {
        let microseconds = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX);
        self.histogram.saturating_record(microseconds);
        match answer {
            Answer::Order(status) => *self.statuses.entry(status).or_default() += 1,
            Answer::Refused(reason) => *self.reasons.entry(reason).or_default() += 1,
            Answer::None => self.unanswered += 1,
        }
    }

    /// `length` from the first order due to the last answer.
    #[allow(clippy::cast_precision_loss, reason = "counts stay far below 2^52")]
    pub(super) fn finish(self, length: Duration) -> LoadReport {
        let Self { histogram, statuses, reasons, unanswered, .. } = self;
        let seconds = length.as_secs_f64();
        let status = |name: &str| statuses.get(name).copied().unwrap_or(0);
        let answered: u64 = statuses.values().chain(reasons.values()).sum();
        LoadReport {
            intents: histogram.len(),
            accepted: statuses.values().sum(),
            reserved: status("RESERVED"),
            confirmed: status("CONFIRMED"),
            paid: status("PAID"),
            rejected_by_reason: reasons,
            unanswered,
            latency_ms: LatencyMs::of(&histogram),
            seconds,
            decisions_per_second: answered as f64 / seconds.max(0.001),
        }
    }
}

impl LoadReport {
    /// For people.
    pub(crate) fn lines(&self) -> Vec<String> {
        let latency = &self.latency_ms;
        let mut lines = vec![format!(
            "answered {} / {} in {:.2} s   p50 {:.1} ms · p95 {:.1} ms · p99 {:.1} ms · max {:.1} ms",
            self.intents - self.unanswered,
            self.intents,
            self.seconds,
            latency.p50,
            latency.p95,
            latency.p99,
            latency.max
        )];
        lines.push(format!("granted  {}", self.accepted));
        lines.extend(
            self.rejected_by_reason
                .iter()
                .map(|(reason, count)| format!("refused  {count} {reason}")),
        );
        lines
    }
}
