//! Threads that carry committed decisions from the log into this process.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use ingest_api::Window;
use ingest_api::window::OrderDecided;
use runtime::{CommittedRecord, SchemaBook, Tail, TailStart};
use schemas::avro::Datum;
use schemas::decision::Decision;
use schemas::framing;
use schemas::partition::Partition;
use schemas::topics::{FOLLOW_DECISIONS, ORDER_DECISIONS, Topic};

use crate::failure::Failure;
use crate::log_handle::LogHandle;

/// Records taken at once.
const RECORDS_MAX: usize = 4_096;
/// How long a poll may wait: how long a stop may take.
const POLL_MAX: Duration = Duration::from_millis(100);
/// How long a log may give nothing although it has more.
const PATIENCE: Duration = Duration::from_secs(20);
/// For reading a topic to its end.
const READ_RECORDS_MAX: usize = 50_000;
const READ_POLL_MAX: Duration = Duration::from_millis(200);
/// Pause after a failed poll.
const PAUSE: Duration = Duration::from_millis(500);

/// Reads a committed decision.
///
/// # Errors
/// What is wrong with it, for an operator: our own writer wrote it.
pub(crate) fn read_decision<B: Datum>(
    schemas: &SchemaBook,
    topic: Topic,
    value: &[u8],
) -> Result<Decision<B>, String> {
    let (id, datum) = framing::split(value).map_err(|error| error.to_string())?;
    let codec = schemas.codec(id, topic.subject).map_err(|problem| problem.to_string())?;
    codec.decode(datum).map_err(|error| error.to_string())
}

/// Hands every committed record of a topic, from `start` to where the topic ends now, to `visit`, until that
/// breaks off.
///
/// # Errors
/// Where the log is away, or gives nothing for [`PATIENCE`] although it has more.
pub(crate) fn read_to_end(
    log: &LogHandle,
    topic: Topic,
    start: impl Fn(Partition) -> TailStart,
    mut visit: impl FnMut(CommittedRecord) -> ControlFlow<()>,
) -> Result<(), Failure> {
    let mut tail = log.tail(topic, start)?;
    let ends: BTreeMap<_, _> = tail.ends().map_err(Failure::unreachable)?.into_iter().collect();
    let mut last_progress = platform::clock::monotonic();
    loop {
        let records = tail.poll(READ_POLL_MAX, READ_RECORDS_MAX).map_err(Failure::unreachable)?;
        if records.is_empty() {
            let positions = tail.positions().map_err(Failure::unreachable)?;
            if positions.iter().all(|(partition, at)| at >= &ends[partition]) {
                return Ok(());
            }
            if last_progress.elapsed() > PATIENCE {
                return Err(Failure::unreachable(format!("{} gives no more records", topic.name)));
            }
        } else {
            last_progress = platform::clock::monotonic();
        }
        for record in records {
            if visit(record).is_break() {
                return Ok(());
            }
        }
    }
}

/// Polls `tail` until `stop`; hands every batch to `apply`, again and again until it succeeds.
pub(crate) fn spawn(
    name: &str,
    mut tail: Box<dyn Tail>,
    stop: Arc<AtomicBool>,
    mut apply: impl FnMut(Vec<CommittedRecord>) + Send + 'static,
) -> Result<JoinHandle<()>, Failure> {
    let thread = std::thread::Builder::new().name(name.to_owned());
    let run = move || {
        while !stop.load(Ordering::Relaxed) {
            match tail.poll(POLL_MAX, RECORDS_MAX) {
                Ok(records) if records.is_empty() => {}
                Ok(records) => apply(records),
                Err(error) => {
                    tracing::warn!(%error, "a tail cannot go on");
                    std::thread::sleep(PAUSE);
                }
            }
        }
    };
    thread.spawn(run).map_err(|error| Failure::unreachable(format!("no thread: {error}")))
}

/// Carries order decisions into the window.
pub(crate) fn into_window_orders(
    window: Arc<Window>,
    schemas: Arc<SchemaBook>,
) -> impl FnMut(Vec<CommittedRecord>) + Send + 'static {
    move |records| {
        let decisions = records.into_iter().filter_map(|record| {
            let decision = read_decision(&schemas, ORDER_DECISIONS, &record.value);
            let decision =
                decision.inspect_err(|error| tracing::error!(error, "unreadable decision"));
            Some(OrderDecided { partition: record.partition, decision: decision.ok()? })
        });
        window.apply_orders(decisions.collect());
    }
}

/// Carries follow decisions into the window.
pub(crate) fn into_window_follows(
    window: Arc<Window>,
    schemas: Arc<SchemaBook>,
) -> impl FnMut(Vec<CommittedRecord>) + Send + 'static {
    move |records| {
        let decisions = records.into_iter().filter_map(|record| {
            let decision = read_decision(&schemas, FOLLOW_DECISIONS, &record.value);
            let decision =
                decision.inspect_err(|error| tracing::error!(error, "unreadable decision"));
            Some((record.partition, decision.ok()?))
        });
        window.apply_follows(decisions.collect());
    }
}
