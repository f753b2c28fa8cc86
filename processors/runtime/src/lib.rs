//! The single writer of a partition, over two traits: [`Log`] and [`Store`]. No Kafka, no `RocksDB`, no clock.
//!
//! Reading order: [`log`] and [`store`] (what a partition stands on), [`partition_task`] (the step machine:
//! recovery, batch, commit), [`schema_book`] (schema ids and when an unknown one is poison), [`driver`] (the
//! thread that steps it in production; a simulator steps it from its scheduler).

pub mod defect;
pub mod driver;
pub mod log;
pub mod memory_store;
mod overlay;
pub mod partition_task;
pub mod schema_book;
pub mod status;
pub mod store;
mod worker;

pub use log::{
    AppendError, CommittedRecord, DecisionRecord, IntentAppender, IntentRecord, IntentToAppend,
    Log, LogError, OutgoingDecision, Tail, TailError, TailStart,
};
pub use memory_store::MemoryStore;
pub use overlay::state_hash_of_rows;
pub use partition_task::{BACKLOG_MIN, Batching, Exit, PartitionTask, Refused, TaskSettings, Wake};
pub use schema_book::{RegistryError, SchemaBook, SchemaProblem, SchemaRegistry};
pub use status::{PartitionState, PartitionStatus};
pub use store::{Position, Store, StoreBatch, StoreError, state_hash};
pub use worker::Worker;
