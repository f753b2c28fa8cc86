//! Intents that could not be read: where they lie, why, and their bytes.

use std::time::Duration;

use runtime::{CommittedRecord, SchemaBook, TailStart};
use schemas::partition::Partition;
use schemas::topics::{ORDER_DECISIONS, ORDER_INTENTS};

use super::all::LogFlags;
use super::print;
use crate::config::Config;
use crate::failure::Failure;
use crate::log_handle::LogHandle;
use crate::tails::read_decision;

/// Bytes on one line of a dump.
const DUMP_WIDTH: usize = 16;

#[derive(clap::Args)]
pub(crate) struct DeadLetters {
    #[command(subcommand)]
    what: What,
    #[command(flatten)]
    log: LogFlags,
}

#[derive(clap::Subcommand)]
enum What {
    /// One line each.
    List,
    /// One, with its bytes.
    Show {
        /// `partition:offset`, as listed.
        place: String,
    },
}

impl DeadLetters {
    pub(crate) fn run(self, mut config: Config) -> Result<(), Failure> {
        self.log.apply(&mut config);
        let log = block_on_open(&config)?;
        match self.what {
            What::List => list(&log),
            What::Show { place } => show(&log, &place),
        }
    }
}

/// The runtime must outlive the registry client that sends on it.
fn block_on_open(config: &Config) -> Result<(LogHandle, tokio::runtime::Runtime), Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(Failure::unreachable)?;
    let log = runtime.block_on(LogHandle::open(config, false))?;
    Ok((log, runtime))
}

fn drain(
    log: &LogHandle,
    topic: schemas::topics::Topic,
    start: impl Fn(Partition) -> TailStart,
    mut visit: impl FnMut(CommittedRecord) -> bool,
) -> Result<(), Failure> {
    let mut tail = log.tail(topic, start)?;
    let ends = tail.ends().map_err(Failure::unreachable)?;
    loop {
        let records =
            tail.poll(Duration::from_millis(500), 10_000).map_err(Failure::unreachable)?;
        for record in records {
            if visit(record) {
                return Ok(());
            }
        }
        let at = tail.positions().map_err(Failure::unreachable)?;
        if ends.iter().all(|(partition, end)| at.iter().any(|(p, at)| p == partition && at >= end))
        {
            return Ok(());
        }
    }
}

fn list((log, _runtime): &(LogHandle, tokio::runtime::Runtime)) -> Result<(), Failure> {
    let schemas = SchemaBook::open(log.registry())?;
    let mut unreadable = None;
    drain(
        log,
        ORDER_DECISIONS,
        |_| TailStart::Beginning,
        |record| {
            type Body = schemas::order::OrderBody;
            match read_decision::<Body>(&schemas, ORDER_DECISIONS, &record.value) {
                Ok(decision) => {
                    if let (Some(dead), Some(offset)) =
                        (&decision.undecodable, decision.header.intent_offset)
                    {
                        let place = format!("{}:{offset}", record.partition);
                        print(&format!("{place:<16} {:>8} bytes  {}", dead.length, dead.error));
                    }
                    false
                }
                Err(why) => {
                    unreadable = Some(why);
                    true
                }
            }
        },
    )?;
    unreadable.map_or(Ok(()), |why| Err(Failure::check(why)))
}

fn show(
    (log, _runtime): &(LogHandle, tokio::runtime::Runtime),
    place: &str,
) -> Result<(), Failure> {
    let parsed = place.split_once(':').and_then(|(partition, offset)| {
        Some((Partition(partition.parse().ok()?), offset.parse::<i64>().ok()?))
    });
    let Some((partition, offset)) = parsed.filter(|(partition, _)| partition.0 < log.partitions())
    else {
        return Err(Failure::usage("place", format!("`{place}` is not partition:offset")));
    };
    let start =
        |p| if p == partition { TailStart::Offset(offset) } else { TailStart::BeforeEnd(0) };
    let mut found = None;
    drain(log, ORDER_INTENTS, start, |record| {
        let is_it = record.partition == partition && record.offset == offset;
        if is_it {
            found = Some(record);
        }
        is_it
    })?;
    let Some(record) = found else {
        return Err(Failure::check(format!("{place} is no longer in the intents topic")));
    };
    print(&format!("appended at {} ms, {} bytes", record.append_time.0, record.value.len()));
    for (index, line) in record.value.chunks(DUMP_WIDTH).enumerate() {
        let hex: Vec<_> = line.iter().map(|byte| format!("{byte:02x}")).collect();
        let text: String =
            line.iter().map(|b| if b.is_ascii_graphic() { char::from(*b) } else { '.' }).collect();
        print(&format!("{:06x}  {:<47}  {text}", index * DUMP_WIDTH, hex.join(" ")));
    }
    Ok(())
}
