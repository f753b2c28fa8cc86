//! The embedded log: durable, partitioned, transactional, for one process.
//!
//! It behaves as Kafka does where that matters: a commit or abort marker consumes an offset, records of an
//! open transaction are in the log but not below the last stable offset, a new owner's fence aborts the old
//! one's open transaction. So it hides no bug that Kafka would show. Appends are grouped: one `fsync` for
//! all intents that arrived while the last one ran.
//!
//! | key | value |
//! |---|---|
//! | `r` topic partition offset | the record at that offset and those that follow it, or a marker ([`row`]) |
//! | `a` topic partition first | last offset of an aborted transaction |
//! | `o` topic partition | first offset of the open transaction |
//! | `e` topic partition | epoch of the last owner |
//! | `s` id | subject and text of a schema |
//! | `log-id` | fixed when the log is made |
//! | `partitions` | their number, which is fixed too, and the format: 2 knows rows of several records, 3 compressed ones |

mod appender;
mod keys;
mod owner;
mod row;
mod schema_table;
mod tail;
#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic, reason = "tests")]
mod tests;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rocksdb::{DB, DBCompressionType, Direction, IteratorMode, Options, WriteBatch, WriteOptions};
use schemas::partition::Partition;
use schemas::topics::{self, Topic};
use schemas::units::Millis;

pub use owner::OwnedPartition;
pub use tail::EmbeddedTail;

use appender::Appender;
use keys::{OffsetKeys, epoch_key, open_key, topic_index};
use row::Row;

/// Memory of what goes into one file. A start after a crash reads as much again.
const LOG_FILE_MEMORY_BYTES: usize = 128 * 1_024 * 1_024;
/// Files of the log's youngest level before they are merged. Every read asks each, which takes one to two us.
const LOG_FILES_UNMERGED: i32 = 32;
/// More than those files have: `RocksDB` also merges by size, from 256 MiB on.
const LOG_BYTES_UNMERGED: u64 = 4 * 1_024 * 1_024 * 1_024;

/// A build that knows less would take the second record of a row for a free offset, or the row for damaged.
const FORMAT: u8 = 3;

/// Why a log folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process has it, the disk is full, permissions.
    #[error("the log folder cannot be used: {0}")]
    Unusable(String),
    /// It was made with another number of partitions, which are fixed for ever.
    #[error("the log has {found} partitions, {wanted} are configured; the count is fixed for ever")]
    PartitionCount {
        /// What the log has.
        found: u16,
        /// What is configured.
        wanted: u16,
    },
}

/// Wakes whoever waits for records of one partition or topic.
#[derive(Default)]
struct Signal {
    version: Mutex<u64>,
    changed: Condvar,
}

impl Signal {
    fn raise(&self) {
        *self.version.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        self.changed.notify_all();
    }

    fn version(&self) -> u64 {
        *self.version.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait_past(&self, seen: u64, timeout: Duration) {
        let version = self.version.lock().unwrap_or_else(PoisonError::into_inner);
        drop(self.changed.wait_timeout_while(version, timeout, |version| *version == seen));
    }
}

/// What is known of one partition without reading it.
#[derive(Default)]
struct Slot {
    /// Next offset; everything below is durable or part of the open transaction.
    end: AtomicI64,
    transaction: Mutex<TransactionState>,
    signal: Signal,
}

#[derive(Default)]
struct TransactionState {
    owner_epoch: u32,
    open_from: Option<i64>,
    aborted: BTreeMap<i64, i64>,
}

impl Slot {
    fn transaction(&self) -> MutexGuard<'_, TransactionState> {
        self.transaction.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn end(&self) -> i64 {
        self.end.load(Ordering::Acquire)
    }

    /// Everything below is decided: committed or aborted.
    fn last_stable_offset(&self) -> i64 {
        let transaction = self.transaction();
        transaction.open_from.unwrap_or_else(|| self.end())
    }
}

struct Inner {
    db: DB,
    log_id: String,
    partitions: u16,
    slots: Vec<Slot>,
    topic_signals: Vec<Signal>,
    clock: fn() -> Millis,
    is_writable: AtomicBool,
}

impl Inner {
    fn slot(&self, topic: Topic, partition: Partition) -> &Slot {
        let index = topic_index(topic) * usize::from(self.partitions) + usize::from(partition.0);
        &self.slots[index]
    }

    fn announce(&self, topic: Topic, partition: Partition) {
        self.slot(topic, partition).signal.raise();
        self.topic_signals[topic_index(topic)].raise();
    }

    /// Writes durably; the log counts as writable while the last write succeeded.
    fn write(&self, batch: WriteBatch, sync: bool) -> Result<(), String> {
        let mut options = WriteOptions::default();
        options.set_sync(sync);
        let written = self.db.write_opt(batch, &options);
        let was_writable = self.is_writable.swap(written.is_ok(), Ordering::AcqRel);
        // Once, not for each of those who try: the disk may be full.
        match &written {
            Err(error) if was_writable => {
                tracing::error!(%error, "the embedded log cannot be written");
            }
            Ok(()) if !was_writable => tracing::warn!("the embedded log is written again"),
            _ => {}
        }
        written.map_err(|error| error.to_string())
    }
}

/// The log of one process; clones share it.
#[derive(Clone)]
pub struct EmbeddedLog {
    inner: Arc<Inner>,
    appender: Arc<Appender>,
}

impl std::fmt::Debug for EmbeddedLog {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("EmbeddedLog")
            .field("log_id", &self.inner.log_id)
            .finish_non_exhaustive()
    }
}

impl EmbeddedLog {
    /// Opens the log in `folder`, or makes it with `partitions` partitions and the identity `new_log_id`.
    ///
    /// # Errors
    /// [`OpenError`] where the folder cannot be used as it is.
    pub fn open(
        folder: &Path,
        partitions: u16,
        new_log_id: &str,
        clock: fn() -> Millis,
    ) -> Result<Self, OpenError> {
        let unusable = |error: &dyn std::fmt::Display| OpenError::Unusable(error.to_string());
        std::fs::create_dir_all(folder).map_err(|error| unusable(&error))?;
        let mut options = Options::default();
        options.create_if_missing(true);
        options.set_write_buffer_size(LOG_FILE_MEMORY_BYTES);
        // Rows of several records are compressed before they are written, those of lone ones when they are merged:
        // until then a log of light traffic takes up to twice as much of the disk.
        let mut compression_of_levels = [DBCompressionType::Lz4; 7];
        compression_of_levels[0] = DBCompressionType::None;
        options.set_compression_per_level(&compression_of_levels);
        options.set_keep_log_file_num(2);
        // Written over, not anew: blocks and pages are there already.
        options.set_recycle_log_file_num(2);
        // A log is written once and read in order: merging its files more often than this only costs time.
        options.set_level_zero_file_num_compaction_trigger(LOG_FILES_UNMERGED);
        options.set_max_bytes_for_level_base(LOG_BYTES_UNMERGED);
        options.set_level_zero_slowdown_writes_trigger(2 * LOG_FILES_UNMERGED);
        options.set_level_zero_stop_writes_trigger(3 * LOG_FILES_UNMERGED);
        let db = DB::open(&options, folder).map_err(|error| unusable(&error))?;
        let (log_id, found) =
            identity(&db, partitions, new_log_id).map_err(|error| unusable(&error))?;
        if found != partitions {
            return Err(OpenError::PartitionCount { found, wanted: partitions });
        }
        let mut slots = Vec::new();
        for topic in topics::ALL {
            for partition in 0..partitions {
                let slot = load_slot(&db, topic, Partition(partition));
                slots.push(slot.map_err(|error| unusable(&error))?);
            }
        }
        let inner = Arc::new(Inner {
            db,
            log_id,
            partitions,
            slots,
            topic_signals: topics::ALL.iter().map(|_| Signal::default()).collect(),
            clock,
            is_writable: AtomicBool::new(true),
        });
        let appender = Appender::start(inner.clone()).map_err(|error| unusable(&error))?;
        Ok(Self { inner, appender: Arc::new(appender) })
    }

    /// Partitions of every topic.
    #[must_use]
    pub fn partitions(&self) -> u16 {
        self.inner.partitions
    }

    /// Identity of the log.
    #[must_use]
    pub fn log_id(&self) -> &str {
        &self.inner.log_id
    }
}

/// Reads the log's identity, or gives it one.
fn identity(db: &DB, partitions: u16, new_log_id: &str) -> Result<(String, u16), String> {
    let read = |key: &str| db.get(key).map_err(|error| error.to_string());
    let found = read("log-id")?.zip(read("partitions")?);
    let (id, count, format) = if let Some((id, value)) = &found {
        let (count, format) = match value.as_slice() {
            [high, low] => ([*high, *low], 1),
            [high, low, format] => ([*high, *low], *format),
            _ => return Err("partition count is damaged".into()),
        };
        (String::from_utf8_lossy(id), u16::from_be_bytes(count), format)
    } else {
        (new_log_id.into(), partitions, 0)
    };
    if format > FORMAT {
        return Err(format!("the log is of format {format}, this build knows {FORMAT}"));
    }
    if format < FORMAT {
        let mut batch = WriteBatch::default();
        batch.put("log-id", id.as_bytes());
        batch.put("partitions", [&count.to_be_bytes()[..], &[FORMAT]].concat());
        let mut options = WriteOptions::default();
        options.set_sync(true);
        db.write_opt(batch, &options).map_err(|error| error.to_string())?;
    }
    Ok((id.into_owned(), count))
}

fn end_of_records(db: &DB, topic: Topic, partition: Partition) -> Result<i64, String> {
    let keys = OffsetKeys::of_records(topic, partition);
    let last_key = keys.key(i64::MAX);
    let mut backwards = db.iterator(IteratorMode::From(&last_key, Direction::Reverse));
    let last = backwards.next().transpose().map_err(|error| error.to_string())?;
    let Some((first, row)) = last.and_then(|(key, row)| Some((keys.offset_of(&key)?, row))) else {
        return Ok(0);
    };
    let mut room = Vec::new();
    let row = Row::read(&row, &mut room).ok_or("the last row is damaged")?;
    let end = row.records().try_fold(first, |end, record| record.map(|_| end + 1));
    end.ok_or_else(|| "the last row is damaged".into())
}

fn load_slot(db: &DB, topic: Topic, partition: Partition) -> Result<Slot, String> {
    let number = |key: &[u8]| -> Result<Option<i64>, String> {
        let value = db.get(key).map_err(|error| error.to_string())?;
        Ok(value.and_then(|value| Some(i64::from_be_bytes(value.try_into().ok()?))))
    };
    let mut aborted = BTreeMap::new();
    let keys = OffsetKeys::of_aborted(topic, partition);
    for item in db.iterator(IteratorMode::From(&keys.key(0), Direction::Forward)) {
        let (key, value) = item.map_err(|error| error.to_string())?;
        let Some(first) = keys.offset_of(&key) else { break };
        if let Ok(last) = (*value).try_into() {
            aborted.insert(first, i64::from_be_bytes(last));
        }
    }
    let epoch = number(&epoch_key(topic, partition))?.unwrap_or(0);
    let transaction = TransactionState {
        owner_epoch: u32::try_from(epoch).unwrap_or(0),
        open_from: number(&open_key(topic, partition))?.filter(|open| *open >= 0),
        aborted,
    };
    Ok(Slot {
        end: AtomicI64::new(end_of_records(db, topic, partition)?),
        transaction: Mutex::new(transaction),
        signal: Signal::default(),
    })
}
