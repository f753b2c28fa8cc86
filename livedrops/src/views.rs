//! Threads that fold committed decisions into Postgres and `ClickHouse`.
//!
//! Each starts where its view says it stands, and starts over from there after any error: the view's own
//! position is the only truth about how far it is.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use clickhouse_views::{ClickhouseViews, DecisionFact, InsertedRange, facts_of};
use postgres_views::{Placed, PostgresViews, ViewError};
use runtime::{CommittedRecord, SchemaBook, Tail, TailStart};
use schemas::avro::Datum;
use schemas::follow::FollowBody;
use schemas::order::OrderBody;
use schemas::partition::Partition;
use schemas::topics::{FOLLOW_DECISIONS, ORDER_DECISIONS, Topic};
use tokio::runtime::Handle;

use crate::failure::Failure;
use crate::log_handle::LogHandle;
use crate::tails::read_decision;

/// How a view takes decisions.
#[derive(Clone, Copy)]
struct Pace {
    /// How long a batch gathers.
    linger: Duration,
    /// Records of a batch at most.
    records_max: usize,
}

/// A reader of the view waits this much longer; Postgres commits as much less often.
const POSTGRES: Pace = Pace { linger: Duration::from_millis(50), records_max: 5_000 };
/// `ClickHouse` makes a part of every insert: few and large ones keep it well.
const CLICKHOUSE: Pace = Pace { linger: Duration::from_millis(500), records_max: 50_000 };
const POLL_MAX: Duration = Duration::from_millis(100);
/// Pause before a view is tried again.
const PAUSE: Duration = Duration::from_millis(500);

/// A view and what it is made of.
#[derive(Clone, Copy)]
struct View {
    /// Of its thread, and in metrics.
    name: &'static str,
    topic: Topic,
    pace: Pace,
}

const POSTGRES_ORDERS: View =
    View { name: "postgres-orders", topic: ORDER_DECISIONS, pace: POSTGRES };
const POSTGRES_FOLLOWS: View =
    View { name: "postgres-follows", topic: FOLLOW_DECISIONS, pace: POSTGRES };
const CLICKHOUSE_ORDERS: View =
    View { name: "clickhouse-orders", topic: ORDER_DECISIONS, pace: CLICKHOUSE };

impl View {
    /// Beside `livedrops_partition_seq` of the partition's owner this tells how far the view trails.
    fn show(self, partition: Partition, seq: i64) {
        let labels = [("view", self.name.to_owned()), ("partition", partition.to_string())];
        #[allow(clippy::cast_precision_loss, reason = "gauges are doubles")]
        metrics::gauge!("livedrops_view_seq", &labels).set(seq as f64);
    }
}

fn last_seqs<B>(batch: &[Placed<B>]) -> BTreeMap<Partition, i64> {
    batch.iter().map(|placed| (placed.partition, placed.decision.header.seq)).collect()
}

/// What a view thread needs.
#[derive(Clone)]
pub(crate) struct ViewContext {
    pub(crate) log: LogHandle,
    pub(crate) schemas: Arc<SchemaBook>,
    pub(crate) stop: Arc<AtomicBool>,
    pub(crate) handle: Handle,
}

type ViewResult = Result<(), String>;

impl ViewContext {
    /// Runs `fold` until `stop`, again and again: it starts over from its own position after any error.
    pub(crate) fn spawn(
        self,
        name: &'static str,
        fold: impl Fn(&Self) -> Result<(), String> + Send + 'static,
    ) -> Result<JoinHandle<()>, Failure> {
        let run = move || {
            while !self.stop.load(Ordering::Relaxed) {
                if let Err(why) = fold(&self) {
                    tracing::warn!(reader = name, why, "starts over from its position");
                    metrics::counter!("livedrops_reader_restarts_total", "reader" => name)
                        .increment(1);
                    std::thread::sleep(PAUSE);
                }
            }
        };
        let thread = std::thread::Builder::new().name(name.to_owned());
        thread.spawn(run).map_err(|error| Failure::unreachable(format!("no thread: {error}")))
    }

    fn place<B: Datum>(
        &self,
        topic: Topic,
        records: Vec<CommittedRecord>,
    ) -> Result<Vec<Placed<B>>, String> {
        let place = |record: CommittedRecord| {
            let decision = read_decision(&self.schemas, topic, &record.value)?;
            Ok(Placed { partition: record.partition, offset: record.offset, decision })
        };
        records.into_iter().map(place).collect()
    }

    /// Tails the view's topic from where `positions` say. This thread reads and decodes the next batch while another applies
    /// the last: a rebuild keeps both busy.
    fn follow<B: Datum + Send>(
        &self,
        view: View,
        positions: &BTreeMap<Partition, i64>,
        mut apply: impl FnMut(Vec<Placed<B>>) -> ViewResult + Send,
    ) -> ViewResult {
        let start = |partition: Partition| match positions.get(&partition) {
            Some(offset) => TailStart::Offset(*offset),
            None => TailStart::Beginning,
        };
        let tail = self
            .log
            .gathering_tail(view.topic, start, view.pace.linger)
            .map_err(|failure| failure.to_string())?;
        let (queue, batches) = sync_channel::<Vec<Placed<B>>>(1);
        let apply_and_show = move |batch: Vec<Placed<B>>| {
            let seqs = last_seqs(&batch);
            apply(batch)?;
            seqs.into_iter().for_each(|(partition, seq)| view.show(partition, seq));
            Ok(())
        };
        std::thread::scope(|scope| {
            let applying = scope.spawn(move || batches.into_iter().try_for_each(apply_and_show));
            // Also without another batch to hand over: a write that failed has to be tried again.
            let is_wanted = || !self.stop.load(Ordering::Relaxed) && !applying.is_finished();
            let read = self.read(tail, view, is_wanted, &queue);
            drop(queue); // ends the other thread once it has applied what is queued
            applying.join().unwrap_or_else(|_| Err("applying a batch panicked".into())).and(read)
        })
    }

    /// Hands over what has gathered within the pace's linger, as long as that is wanted.
    fn read<B: Datum>(
        &self,
        mut tail: Box<dyn Tail>,
        View { topic, pace: Pace { linger, records_max }, .. }: View,
        is_wanted: impl Fn() -> bool,
        queue: &SyncSender<Vec<Placed<B>>>,
    ) -> ViewResult {
        while is_wanted() {
            let mut records =
                tail.poll(POLL_MAX, records_max).map_err(|error| error.to_string())?;
            if records.is_empty() {
                continue;
            }
            let first = platform::clock::monotonic();
            while let Some(left) = linger.checked_sub(first.elapsed())
                && records.len() < records_max
                && is_wanted()
            {
                let room = records_max - records.len();
                let more =
                    tail.poll(left.min(POLL_MAX), room).map_err(|error| error.to_string())?;
                records.extend(more);
            }
            if queue.send(self.place(topic, records)?).is_err() {
                break;
            }
        }
        Ok(())
    }
}

/// Order decisions into Postgres.
pub(crate) fn postgres_orders(
    context: ViewContext,
    views: Arc<PostgresViews>,
) -> Result<JoinHandle<()>, Failure> {
    context.spawn(POSTGRES_ORDERS.name, move |context| {
        let positions = postgres_positions(context, &views, POSTGRES_ORDERS.topic)?;
        context.follow(POSTGRES_ORDERS, &positions, |batch: Vec<Placed<OrderBody>>| {
            context.handle.block_on(views.apply_orders(&batch)).map_err(|error| error.to_string())
        })
    })
}

/// Follow decisions into Postgres.
pub(crate) fn postgres_follows(
    context: ViewContext,
    views: Arc<PostgresViews>,
) -> Result<JoinHandle<()>, Failure> {
    context.spawn(POSTGRES_FOLLOWS.name, move |context| {
        let positions = postgres_positions(context, &views, POSTGRES_FOLLOWS.topic)?;
        context.follow(POSTGRES_FOLLOWS, &positions, |batch: Vec<Placed<FollowBody>>| {
            context.handle.block_on(views.apply_follows(&batch)).map_err(|error| error.to_string())
        })
    })
}

fn postgres_positions(
    context: &ViewContext,
    views: &PostgresViews,
    topic: Topic,
) -> Result<BTreeMap<Partition, i64>, String> {
    let positions: Result<_, ViewError> = context.handle.block_on(views.positions(topic.name));
    let positions = positions.map_err(|error| error.to_string())?;
    Ok(positions.into_iter().map(|(partition, at)| (partition, at.next_offset)).collect())
}

/// Order decisions into `ClickHouse`.
pub(crate) fn clickhouse_orders(
    context: ViewContext,
    views: Arc<ClickhouseViews>,
) -> Result<JoinHandle<()>, Failure> {
    context.spawn(CLICKHOUSE_ORDERS.name, move |context| {
        let resumes = context.handle.block_on(views.resume()).map_err(|error| error.to_string())?;
        let positions =
            resumes.iter().map(|(partition, resume)| (*partition, resume.offset)).collect();
        let repeats = resumes.into_iter().filter_map(|(partition, resume)| {
            resume.repeat.map(|range| (partition, (range, Vec::new())))
        });
        let mut repeats: BTreeMap<Partition, (InsertedRange, Vec<DecisionFact>)> =
            repeats.collect();
        context.follow(CLICKHOUSE_ORDERS, &positions, |batch: Vec<Placed<OrderBody>>| {
            insert_ranges(context, &views, &mut repeats, batch)
        })
    })
}

/// One closed range per partition and batch; a range that has to be repeated keeps its old bounds.
fn insert_ranges(
    context: &ViewContext,
    views: &ClickhouseViews,
    repeats: &mut BTreeMap<Partition, (InsertedRange, Vec<DecisionFact>)>,
    batch: Vec<Placed<OrderBody>>,
) -> ViewResult {
    let insert = |range: InsertedRange, facts: &[DecisionFact], repeat: bool| {
        let inserted = context.handle.block_on(views.insert(range, facts, repeat));
        inserted.map_err(|error| error.to_string())
    };
    let mut ranges: BTreeMap<Partition, (InsertedRange, Vec<DecisionFact>)> = BTreeMap::new();
    for placed in batch {
        let decided = facts_of(placed.partition, placed.offset, &placed.decision);
        let seq = placed.decision.header.seq;
        if let Some((range, facts)) = repeats.get_mut(&placed.partition) {
            facts.extend(decided);
            if seq == range.last_seq {
                insert(*range, facts, true)?;
                repeats.remove(&placed.partition);
            }
            continue;
        }
        let (range, facts) = ranges.entry(placed.partition).or_insert_with(|| {
            let range = InsertedRange {
                partition: placed.partition.0,
                first_offset: placed.offset,
                next_offset: placed.offset,
                last_seq: seq,
                facts: 0,
            };
            (range, Vec::new())
        });
        range.next_offset = placed.offset + 1;
        range.last_seq = seq;
        facts.extend(decided);
        range.facts = facts.len() as u64;
    }
    ranges.values().try_for_each(|(range, facts)| insert(*range, facts, false))
}
