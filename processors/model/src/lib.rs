//! What a processor is. Pure: no I/O, no clock, no randomness.
//!
//! A processor owns the rows of one decisions partition. For every intent, in log order, it *decides*: a
//! function of the rows it reads, the command and the [`Stamp`], nothing else. The decision is a value that
//! holds the *post-images* of every row it changes. The runtime logs the decision and only then puts those
//! rows into the store; recovery puts the same rows from the same records. Nothing is ever decided twice.
//!
//! The split of decision and effect follows Kafka's `CoordinatorShard` (one `replay` for live and load) and
//! `TigerBeetle`'s state machine (refusals are values in a documented order).

mod map_rows;
mod processor;
mod row;
mod stamp;

pub use map_rows::MapRows;
pub use processor::{Decided, Intent, LoneRow, Processor, Topology, UnreadableIntent};
pub use row::{KeyGroups, QueueKey, ReadFailed, Row, RowChange, RowKey, Rows, Timer};
pub use stamp::Stamp;
