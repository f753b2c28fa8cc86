//! Intents that could not be read: where they lie, why, and their bytes.

use std::ops::ControlFlow;

use runtime::{SchemaBook, TailStart};
use schemas::partition::Partition;
use schemas::topics::{ORDER_DECISIONS, ORDER_INTENTS};

use super::all::LogFlags;
use super::{block_on, print};
use crate::config::Config;
use crate::failure::Failure;
use crate::log_handle::LogHandle;
use crate::tails::{read_decision, read_to_end};

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
        block_on(async move {
            let log = LogHandle::open(&config, false).await?;
            let reading = tokio::task::spawn_blocking(move || match self.what {
                What::List => list(&log),
                What::Show { place } => show(&log, &place),
            });
            reading.await.map_err(Failure::check)?
        })
    }
}

fn list(log: &LogHandle) -> Result<(), Failure> {
    let schemas = SchemaBook::open(log.registry())?;
    let mut unreadable = None;
    read_to_end(
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
                    ControlFlow::Continue(())
                }
                Err(why) => {
                    unreadable = Some(why);
                    ControlFlow::Break(())
                }
            }
        },
    )?;
    unreadable.map_or(Ok(()), |why| Err(Failure::check(why)))
}

fn show(log: &LogHandle, place: &str) -> Result<(), Failure> {
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
    read_to_end(log, ORDER_INTENTS, start, |record| {
        let is_it = record.partition == partition && record.offset == offset;
        if is_it {
            found = Some(record);
            return ControlFlow::Break(());
        }
        ControlFlow::Continue(())
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
