//! How fast the views take what is decided: decode, then insert, batch after batch, as their followers do.

use std::sync::mpsc::sync_channel;
use std::time::Duration;

use anyhow::{Context as _, Result};
use clickhouse_views::{ClickhouseViews, InsertedRange, facts_of};
use postgres_views::{Placed, PostgresViews};
use runtime::{Tail as _, TailStart};
use schemas::avro;
use schemas::framing;
use schemas::order::OrderBody;
use schemas::topics::ORDER_DECISIONS;
use store_rocksdb::EmbeddedLog;
use tokio::runtime::Runtime;

/// Decisions of one batch.
const BATCH: usize = 5_000;
/// Decisions of one insert into `ClickHouse`, which wants few and large ones.
const CLICKHOUSE_BATCH: usize = 50_000;
/// Decisions that are enough to tell.
const DECISIONS_MAX: usize = 400_000;

/// Hands decisions from the beginning of the log to `take`, decoding the next batch meanwhile, as the views do; how many,
/// and how long that took.
fn follow(
    log: &EmbeddedLog,
    batch_max: usize,
    mut take: impl FnMut(Vec<Placed<OrderBody>>) -> Result<()>,
) -> Result<(u32, Duration)> {
    let mut tail = log.tail(ORDER_DECISIONS, |_| TailStart::Beginning);
    let (queue, batches) = sync_channel(1);
    let started = platform::clock::monotonic();
    let done = std::thread::scope(|scope| {
        let reader = scope.spawn(move || -> Result<usize> {
            let mut done = 0;
            while done < DECISIONS_MAX {
                let records = tail.poll(Duration::ZERO, batch_max).map_err(anyhow::Error::msg)?;
                if records.is_empty() {
                    break;
                }
                done += records.len();
                let decoded = records.into_iter().map(|record| {
                    let (_, datum) = framing::split(&record.value)?;
                    let decision = avro::ORDER_DECISION.decode(datum)?;
                    Ok(Placed { partition: record.partition, offset: record.offset, decision })
                });
                if queue.send(decoded.collect::<Result<Vec<_>>>()?).is_err() {
                    break;
                }
            }
            Ok(done)
        });
        for batch in batches {
            take(batch)?;
        }
        reader.join().map_err(|_| anyhow::anyhow!("the reader panicked"))?
    })?;
    Ok((u32::try_from(done)?, started.elapsed()))
}

/// Decisions into a new database.
pub(crate) fn postgres(runtime: &Runtime, log: &EmbeddedLog, url: &str) -> Result<(u32, Duration)> {
    let views = runtime.block_on(PostgresViews::connect(url))?;
    follow(log, BATCH, |batch| Ok(runtime.block_on(views.apply_orders(&batch))?))
}

/// Decisions into new tables.
pub(crate) fn clickhouse(
    runtime: &Runtime,
    log: &EmbeddedLog,
    url: &str,
) -> Result<(u32, Duration)> {
    let views = runtime.block_on(ClickhouseViews::connect(url, "bench"))?;
    follow(log, CLICKHOUSE_BATCH, |batch| {
        let (first, last) = batch.first().zip(batch.last()).context("no batch is empty")?;
        let mut facts = Vec::with_capacity(batch.len());
        for placed in &batch {
            facts.extend(facts_of(placed.partition, placed.offset, &placed.decision));
        }
        let range = InsertedRange {
            partition: first.partition.0,
            first_offset: first.offset,
            next_offset: last.offset + 1,
            last_seq: last.decision.header.seq,
            facts: facts.len() as u64,
        };
        Ok(runtime.block_on(views.insert(range, &facts, false))?)
    })
}
