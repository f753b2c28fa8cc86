//! A closed loop: every connection sends its next request when the last one was answered. It finds the rate that a
//! node sustains. Latencies of a closed loop flatter a node that stalls: use `--rate` for those.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use platform::clock::monotonic;
use serde::Serialize;
use tokio::task::JoinSet;
use uuid::Uuid;

use super::client::{Connection, Target};
use super::report::{LatencyMs, latencies};
use crate::failure::Failure;

/// What every connection asks for, again and again.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
pub(crate) enum Ask {
    /// Orders under fresh keys, acknowledged once they are durable.
    Intents,
    /// Orders under fresh keys, answered with their decision.
    Results,
    /// One order, by its id.
    Reads,
}

impl Ask {
    /// The status that every answer must have, a refusal for want of stock included.
    fn is_served(self, status: u16) -> bool {
        match self {
            Self::Intents => status == 202,
            Self::Results => matches!(status, 200 | 201 | 409),
            Self::Reads => status == 200,
        }
    }
}

/// What a closed loop sustained.
#[derive(Clone, PartialEq, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Sustained {
    pub(crate) requests: u64,
    pub(crate) seconds: f64,
    pub(crate) per_second: f64,
    /// Answers of a status that does not serve the request.
    pub(crate) failed_by_status: BTreeMap<u16, u64>,
    pub(crate) latency_ms: LatencyMs,
}

impl Sustained {
    pub(crate) fn line(&self) -> String {
        let Self { requests, seconds, per_second, failed_by_status, latency_ms } = self;
        let LatencyMs { p50, p99, .. } = latency_ms;
        format!(
            "{per_second:.0}/s   {requests} in {seconds:.2} s   p50 {p50:.1} ms · p99 {p99:.1} ms   failed by \
             status {failed_by_status:?}"
        )
    }
}

/// One connection's buyer.
pub(super) struct Buyer {
    pub(super) target: Target,
    pub(super) drop: Uuid,
    /// At least one.
    pub(super) tokens: Vec<String>,
}

impl Buyer {
    /// An order under a numbered key.
    fn order(&self, number: usize, waits: bool) -> Vec<u8> {
        self.target.order(self.drop, self.token(number), &number.to_string(), waits)
    }

    fn token(&self, number: usize) -> &str {
        &self.tokens[number % self.tokens.len()]
    }
}

/// One connection's requests until the end.
async fn buy(buyer: Buyer, ask: Ask, until: Instant) -> Result<Counted, Failure> {
    let mut connection = Connection::open(&buyer.target).await?;
    // The first is not counted: it opens the connection, and a reader needs an order to read.
    let first = connection.ask(&buyer.order(0, ask != Ask::Intents)).await?;
    let read = match (ask, first.location) {
        (Ask::Reads, Some(location)) => Some(buyer.target.page(&location, buyer.token(0))),
        (Ask::Reads, None) => return Err(Failure::check("no order to read")),
        (Ask::Intents | Ask::Results, _) => None,
    };
    let mut counted = Counted::default();
    for number in 1.. {
        let sent = monotonic();
        if sent >= until {
            break;
        }
        let reply = match &read {
            Some(read) => connection.ask(read).await?,
            None => connection.ask(&buyer.order(number, ask == Ask::Results)).await?,
        };
        counted.microseconds.push(u64::try_from(sent.elapsed().as_micros()).unwrap_or(u64::MAX));
        if !ask.is_served(reply.status) {
            *counted.failed.entry(reply.status).or_default() += 1;
        }
    }
    Ok(counted)
}

#[derive(Default)]
struct Counted {
    microseconds: Vec<u64>,
    failed: BTreeMap<u16, u64>,
}

/// Runs every buyer on a connection of its own for so long.
pub(super) async fn sustain(
    buyers: Vec<Buyer>,
    ask: Ask,
    length: Duration,
) -> Result<Sustained, Failure> {
    let started = monotonic();
    let mut running = JoinSet::new();
    for buyer in buyers {
        running.spawn(buy(buyer, ask, started + length));
    }
    let (mut histogram, mut failed_by_status) = (latencies(), BTreeMap::new());
    while let Some(counted) = running.join_next().await {
        let Counted { microseconds, failed } = counted.map_err(Failure::check)??;
        microseconds.into_iter().for_each(|latency| histogram.saturating_record(latency));
        for (status, count) in failed {
            *failed_by_status.entry(status).or_default() += count;
        }
    }
    let seconds = started.elapsed().as_secs_f64();
    let requests = histogram.len();
    #[allow(clippy::cast_precision_loss, reason = "a count stays far below 2^52")]
    let per_second = requests as f64 / seconds;
    let latency_ms = LatencyMs::of(&histogram);
    Ok(Sustained { requests, seconds, per_second, failed_by_status, latency_ms })
}
