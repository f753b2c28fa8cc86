//! The store of one partition: one `RocksDB`, rows in one column family, the position in another, both in
//! every write. A thread of its own writes, in order, behind the owner: the log is what must be durable, the store
//! only shortens recovery. For the same reason there is no WAL. A killed process loses what was still in the
//! memtables and folds it again from the log; both families are flushed as one, so what is left is always a prefix.

use std::path::Path;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use rocksdb::{
    BlockBasedOptions, ColumnFamilyDescriptor, DB, DBCompressionType, IteratorMode, Options,
    ReadOptions, WriteBatch, WriteOptions,
};
use runtime::{Position, Store, StoreBatch, StoreError};

const ROWS: &str = "rows";
const META: &str = "meta";
const POSITION_KEY: &[u8] = b"position";

/// A partition has at most two of these in memory while it is busy, and folds as much again after a crash. Every file
/// that a smaller one would make is one more to ask for an order that is not there.
const MEMTABLE_BYTES: usize = 64 * 1_024 * 1_024;

/// Share of a memtable spent on a bloom filter: most look-ups are for orders that are not there.
const MEMTABLE_BLOOM_RATIO: f64 = 0.05;
/// Batches that may wait for the disk; then the owner waits too.
const BEHIND_MAX: usize = 2;

/// State of one partition on disk.
#[derive(Debug)]
pub struct RocksStore {
    db: Arc<DB>,
    progress: Arc<Progress>,
    /// `None` once the store is being closed.
    queue: Option<SyncSender<StoreBatch>>,
    writer: Option<JoinHandle<()>>,
}

/// How far the writer is behind.
#[derive(Debug, Default)]
struct Progress {
    state: Mutex<Behind>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Behind {
    batches: usize,
    /// Why a batch was not written; nothing is written after it.
    failure: Option<String>,
}

impl Progress {
    fn lock(&self) -> MutexGuard<'_, Behind> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until every batch is written.
    fn settle(&self) -> Result<(), StoreError> {
        let busy = |behind: &mut Behind| behind.batches > 0 && behind.failure.is_none();
        let behind = self.changed.wait_while(self.lock(), busy);
        let failure = behind.unwrap_or_else(PoisonError::into_inner).failure.clone();
        failure.map_or(Ok(()), |why| Err(StoreError::Failed(why)))
    }
}

/// Reads a store that another thread writes.
#[derive(Clone, Debug)]
pub struct StoreReader {
    db: Arc<DB>,
}

fn failed(error: &dyn std::fmt::Display) -> StoreError {
    StoreError::Failed(error.to_string())
}

fn row_options() -> Options {
    let mut blocks = BlockBasedOptions::default();
    // Most look-ups are for keys that are not there: an order's first appearance.
    blocks.set_bloom_filter(10.0, false);
    let mut options = Options::default();
    options.set_block_based_table_factory(&blocks);
    options.set_compression_type(DBCompressionType::Lz4);
    options.set_write_buffer_size(MEMTABLE_BYTES);
    options.set_memtable_whole_key_filtering(true);
    options.set_memtable_prefix_bloom_ratio(MEMTABLE_BLOOM_RATIO);
    options
}

fn get(db: &DB, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
    let rows = db.cf_handle(ROWS).ok_or_else(|| failed(&"column family `rows` is gone"))?;
    db.get_cf(rows, key).map_err(|error| failed(&error))
}

fn position(db: &DB) -> Result<Option<Position>, StoreError> {
    let meta = db.cf_handle(META).ok_or_else(|| failed(&"column family `meta` is gone"))?;
    let Some(bytes) = db.get_cf(meta, POSITION_KEY).map_err(|error| failed(&error))? else {
        return Ok(None);
    };
    serde_json::from_slice(&bytes)
        .map(Some)
        .map_err(|error| StoreError::UnknownFormat(format!("position: {error}")))
}

impl RocksStore {
    /// Opens or creates the store in `folder`.
    ///
    /// # Errors
    /// Where the folder cannot be used: another process has it, the disk is full, or it is damaged.
    pub fn open(folder: &Path) -> Result<Self, StoreError> {
        std::fs::create_dir_all(folder).map_err(|error| failed(&error))?;
        let mut options = Options::default();
        options.create_if_missing(true);
        options.create_missing_column_families(true);
        // Without a WAL the two families must reach the disk together.
        options.set_atomic_flush(true);
        options.set_keep_log_file_num(2);
        let families = [
            ColumnFamilyDescriptor::new(ROWS, row_options()),
            ColumnFamilyDescriptor::new(META, Options::default()),
        ];
        let db = DB::open_cf_descriptors(&options, folder, families);
        let db = Arc::new(db.map_err(|error| failed(&error))?);
        let progress = Arc::new(Progress::default());
        let (queue, batches) = sync_channel(BEHIND_MAX);
        let (writing, reporting) = (db.clone(), progress.clone());
        let writer = std::thread::Builder::new()
            .name("store-writer".into())
            .spawn(move || write_all(&writing, &batches, &reporting))
            .map_err(|error| failed(&error))?;
        Ok(Self { db, progress, queue: Some(queue), writer: Some(writer) })
    }

    /// A reader for other threads.
    #[must_use]
    pub fn reader(&self) -> StoreReader {
        StoreReader { db: self.db.clone() }
    }
}

impl StoreReader {
    /// One value.
    ///
    /// # Errors
    /// Where the disk fails.
    pub fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        get(&self.db, key)
    }

    /// The position of the last batch written.
    ///
    /// # Errors
    /// Where the disk fails or the store is of another format.
    pub fn position(&self) -> Result<Option<Position>, StoreError> {
        position(&self.db)
    }
}

/// Writes batches in order until one fails: what is on disk stays a prefix. A batch that is not written stays counted,
/// so that its rows are never looked for on disk.
fn write_all(db: &DB, batches: &Receiver<StoreBatch>, progress: &Progress) {
    let _told = ToldWhenPanicking(progress);
    while let Ok(batch) = batches.recv() {
        let written = write(db, &batch);
        drop(batch);
        let mut behind = progress.lock();
        match written {
            Ok(()) => behind.batches -= 1,
            Err(error) => behind.failure = Some(error.to_string()),
        }
        let has_failed = behind.failure.is_some();
        drop(behind);
        progress.changed.notify_all();
        if has_failed {
            return; // whoever waits to hand over a batch is told
        }
    }
}

/// Without it, a panic of the writer would leave its owner waiting for ever.
struct ToldWhenPanicking<'a>(&'a Progress);

impl Drop for ToldWhenPanicking<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.lock().failure = Some("the writer of the store panicked".into());
            self.0.changed.notify_all();
        }
    }
}

fn write(db: &DB, batch: &StoreBatch) -> Result<(), StoreError> {
    let family =
        |name| db.cf_handle(name).ok_or_else(|| failed(&"a column family of the store is gone"));
    let (rows, meta) = (family(ROWS)?, family(META)?);
    let mut write = WriteBatch::default();
    // In key order, each insert starts where the last one ended: the memtable is walked, not searched anew.
    let mut changes: Vec<_> = batch.changes().collect();
    changes.sort_unstable_by_key(|(key, _)| *key);
    for (key, value) in changes {
        match value {
            Some(value) => write.put_cf(rows, key, value),
            None => write.delete_cf(rows, key),
        }
    }
    let position = serde_json::to_vec(&batch.position).map_err(|error| failed(&error))?;
    write.put_cf(meta, POSITION_KEY, position);
    let mut options = WriteOptions::default();
    options.disable_wal(true);
    options.set_memtable_insert_hint_per_batch(true);
    db.write_opt(write, &options).map_err(|error| failed(&error))
}

impl Drop for RocksStore {
    /// Writes what is left. Closing the database flushes its memtables.
    fn drop(&mut self) {
        self.queue = None;
        if let Some(writer) = self.writer.take() {
            drop(writer.join());
        }
    }
}

impl Store for RocksStore {
    fn position(&self) -> Result<Option<Position>, StoreError> {
        self.progress.settle()?;
        position(&self.db)
    }

    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        get(&self.db, key)
    }

    fn scan(
        &self,
        prefix: &[u8],
        from: &[u8],
        visit: &mut dyn FnMut(&[u8], &[u8]) -> bool,
    ) -> Result<(), StoreError> {
        self.progress.settle()?;
        let rows =
            self.db.cf_handle(ROWS).ok_or_else(|| failed(&"column family `rows` is gone"))?;
        let mut options = ReadOptions::default();
        if !prefix.is_empty() {
            options.set_iterate_range(rocksdb::PrefixRange(prefix));
        }
        let start = IteratorMode::From(from, rocksdb::Direction::Forward);
        for entry in self.db.iterator_cf_opt(rows, options, start) {
            let (key, value) = entry.map_err(|error| failed(&error))?;
            if !visit(&key, &value) {
                break;
            }
        }
        Ok(())
    }

    fn write(&mut self, batch: StoreBatch) -> Result<(), StoreError> {
        let mut behind = self.progress.lock();
        if let Some(why) = &behind.failure {
            return Err(StoreError::Failed(why.clone()));
        }
        behind.batches += 1;
        drop(behind);
        let queue = self.queue.as_ref().expect("the queue is open while the store is");
        queue.send(batch).map_err(|_| failed(&"the writer of the store has ended"))
    }

    fn unwritten(&self) -> usize {
        self.progress.lock().batches
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    /// Were they counted as written, the owner would forget their rows, find older ones on disk, and decide on those.
    #[test]
    fn batches_that_a_failing_disk_refused_stay_counted() {
        let folder = tempfile::tempdir().unwrap();
        // A database without the store's column families refuses every batch.
        let db = DB::open_default(folder.path()).unwrap();
        let progress = Progress::default();
        let (queue, batches) = sync_channel(BEHIND_MAX);
        for _ in 0..2 {
            progress.lock().batches += 1;
            queue.send(StoreBatch::new(Position::start("log".into()))).unwrap();
        }
        write_all(&db, &batches, &progress);
        assert_eq!(progress.lock().batches, 2);
        let Err(StoreError::Failed(why)) = progress.settle() else { panic!("it must not wait") };
        assert!(why.contains("column family"), "{why}");
    }
}
