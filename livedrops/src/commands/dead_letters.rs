//! Intents that could not be read: where they lie, why, and their bytes.

use std::ops::ControlFlow;

use runtime::{CommittedRecord, SchemaBook, TailStart};
use schemas::avro::Datum;
use schemas::follow::FollowBody;
use schemas::order::OrderBody;
use schemas::partition::Partition;
use schemas::topics::{FOLLOW_DECISIONS, FOLLOW_INTENTS, ORDER_DECISIONS, ORDER_INTENTS, Topic};

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
        /// `topic:partition:offset`, as listed.
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
    list_topic::<OrderBody>(log, &schemas, (ORDER_INTENTS, ORDER_DECISIONS))?;
    list_topic::<FollowBody>(log, &schemas, (FOLLOW_INTENTS, FOLLOW_DECISIONS))
}

fn list_topic<B: Datum>(
    log: &LogHandle,
    schemas: &SchemaBook,
    (intents, decisions): (Topic, Topic),
) -> Result<(), Failure> {
    let mut unreadable = None;
    let visit =
        |record: CommittedRecord| match read_decision::<B>(schemas, decisions, &record.value) {
            Ok(decision) => {
                if let (Some(dead), Some(offset)) =
                    (&decision.undecodable, decision.header.intent_offset)
                {
                    let place = format!("{}:{}:{offset}", intents.name, record.partition);
                    print(&format!("{place:<28} {:>8} bytes  {}", dead.length, dead.error));
                }
                ControlFlow::Continue(())
            }
            Err(why) => {
                unreadable = Some(why);
                ControlFlow::Break(())
            }
        };
    read_to_end(log, decisions, |_| TailStart::Beginning, visit)?;
    unreadable.map_or(Ok(()), |why| Err(Failure::check(why)))
}

/// The place of an intent, as [`list`] prints it.
fn parsed(place: &str) -> Option<(Topic, Partition, i64)> {
    let (topic, place) = place.split_once(':')?;
    let (partition, offset) = place.split_once(':')?;
    let topic =
        [ORDER_INTENTS, FOLLOW_INTENTS].into_iter().find(|intents| intents.name == topic)?;
    Some((topic, Partition(partition.parse().ok()?), offset.parse().ok()?))
}

fn show(log: &LogHandle, place: &str) -> Result<(), Failure> {
    let known = parsed(place).filter(|(_, partition, _)| partition.0 < log.partitions());
    let Some((intents, partition, offset)) = known else {
        return Err(Failure::usage("place", format!("`{place}` is not topic:partition:offset")));
    };
    let start =
        |p| if p == partition { TailStart::Offset(offset) } else { TailStart::BeforeEnd(0) };
    let mut found = None;
    read_to_end(log, intents, start, |record| {
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
