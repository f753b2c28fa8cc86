//! All `RocksDB` calls of the project: the partition store ([`RocksStore`]) and the embedded log
//! ([`EmbeddedLog`]), a durable, partitioned, transactional log for one process.

mod embedded_log;
mod rocks_store;

pub use embedded_log::{EmbeddedLog, EmbeddedTail, OpenError, OwnedPartition};
pub use rocks_store::{RocksStore, StoreReader};
