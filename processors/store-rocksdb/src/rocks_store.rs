//! The store of one partition: one `RocksDB` that is only ever given whole files. Batches are kept in memory, to be
//! found by key, until there are enough of them; a thread of its own sorts them, writes a file of each large table and
//! one of what lies between, with the position of the last batch, and hands them over together. There is no WAL and no
//! memtable: the log is what must be durable, the store only shortens recovery. A killed process loses the batches that
//! are not in files and folds them again from the log; they are handed over in order and whole, so what is left is
//! always a prefix.

mod recent;
#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests;
mod writer;

use std::path::Path;
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, PoisonError, RwLock};
use std::thread::JoinHandle;

use rocksdb::{BlockBasedOptions, DB, DBCompressionType, IteratorMode, Options, ReadOptions};
use runtime::store::STORE_FORMAT;
use runtime::{Position, Store, StoreBatch, StoreError};

use recent::Recent;
use writer::{Progress, forget_new_files, write_all};

/// Sorts after every row: the tags of tables, timers and queues are below.
const POSITION_KEY: &[u8] = &[0xff];
/// A table with so many changed rows gets a file of its own.
const LARGE_TABLE_ROWS: usize = 10_000;

/// Memory of the batches that are written out together. A busy partition has twice as much, and folds as much again
/// after a crash. Every file that a smaller one would make is one more to ask for an order that is not there.
const MEMORY_BYTES: usize = 96 * 1_024 * 1_024;

/// Files of the youngest level before they are merged. A merge takes in all that was merged before, so fewer merges write
/// less. Three or more files come at once, and a look-up is spared most of them. It is rarely a new order's: where the
/// drop began after the store was opened, the overlay knows what it has seen.
const UNMERGED: i32 = 36;
/// `RocksDB` merges the youngest level by its size too: from here on, which is more than so many files usually have.
const UNMERGED_BYTES: u64 = 1_024 * 1_024 * 1_024;

/// State of one partition on disk.
#[derive(Debug)]
pub struct RocksStore {
    content: Arc<Content>,
    progress: Arc<Progress>,
    /// [`MEMORY_BYTES`]; less in tests.
    memory_bytes: usize,
    /// `None` once the store is being closed.
    queue: Option<Sender<Arc<Recent>>>,
    writer: Option<JoinHandle<()>>,
}

/// What is asked for a key, in this order: whatever leaves one is already in the next.
#[derive(Debug)]
struct Content {
    recents: RwLock<Recents>,
    db: DB,
    /// [`LARGE_TABLE_ROWS`]; fewer in tests.
    large_table_rows: usize,
}

#[derive(Debug, Default)]
struct Recents {
    active: Recent,
    /// Being written to files.
    sealed: Option<Arc<Recent>>,
}

/// Reads a store that another thread writes.
#[derive(Clone, Debug)]
pub struct StoreReader {
    content: Arc<Content>,
}

fn failed(error: &dyn std::fmt::Display) -> StoreError {
    StoreError::Failed(error.to_string())
}

fn options() -> Options {
    let mut blocks = BlockBasedOptions::default();
    // Most look-ups that come here are for keys that are not there: a new order of a drop that goes on after a restart is
    // asked of every file of its drop. With 10 bits one in a hundred of the answers is wrong and reads a block, with 16
    // one in a thousand.
    blocks.set_bloom_filter(16.0, false);
    let mut options = Options::default();
    options.create_if_missing(true);
    options.set_keep_log_file_num(2);
    options.set_block_based_table_factory(&blocks);
    options.set_compression_type(DBCompressionType::Lz4);
    options.set_level_zero_file_num_compaction_trigger(UNMERGED);
    options.set_max_bytes_for_level_base(UNMERGED_BYTES);
    // Nothing is written but whole files, which are never held up; but they must be above the trigger.
    options.set_level_zero_slowdown_writes_trigger(4 * UNMERGED);
    options.set_level_zero_stop_writes_trigger(5 * UNMERGED);
    options
}

/// Up to format 3 rows and position had column families of their own.
fn refuse_older_formats(options: &Options, folder: &Path) -> Result<(), StoreError> {
    let families = DB::list_cf(options, folder).unwrap_or_default(); // there is none yet
    if families.len() <= 1 {
        return Ok(());
    }
    Err(StoreError::UnknownFormat(format!(
        "the store is of format 3 or before, this build knows {STORE_FORMAT}: move the store folder away, and it is \
         rebuilt from the log"
    )))
}

impl Content {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        {
            let recents = self.recents.read().unwrap_or_else(PoisonError::into_inner);
            let sealed = || recents.sealed.as_ref().and_then(|sealed| sealed.get(key));
            if let Some((_, value)) = recents.active.get(key).or_else(sealed) {
                return Ok(value.map(<[u8]>::to_vec));
            }
        }
        self.db.get(key).map_err(|error| failed(&error))
    }

    fn position(&self) -> Result<Option<Position>, StoreError> {
        {
            let recents = self.recents.read().unwrap_or_else(PoisonError::into_inner);
            let sealed = || recents.sealed.as_ref().and_then(|sealed| sealed.position());
            if let Some(position) = recents.active.position().or_else(sealed) {
                return Ok(Some(position.clone()));
            }
        }
        let bytes = self.db.get(POSITION_KEY).map_err(|error| failed(&error))?;
        let parsed = bytes.map(|bytes| serde_json::from_slice(&bytes)).transpose();
        parsed.map_err(|error| StoreError::UnknownFormat(format!("position: {error}")))
    }

    fn change<T>(&self, change: impl FnOnce(&mut Recents) -> T) -> T {
        change(&mut self.recents.write().unwrap_or_else(PoisonError::into_inner))
    }
}

impl RocksStore {
    /// Opens or creates the store in `folder`.
    ///
    /// # Errors
    /// Where the folder cannot be used: another process has it, the disk is full, or it is damaged; and where an older
    /// build wrote it.
    pub fn open(folder: &Path) -> Result<Self, StoreError> {
        Self::open_with(folder, MEMORY_BYTES, LARGE_TABLE_ROWS)
    }

    fn open_with(
        folder: &Path,
        memory_bytes: usize,
        large_table_rows: usize,
    ) -> Result<Self, StoreError> {
        std::fs::create_dir_all(folder).map_err(|error| failed(&error))?;
        let options = options();
        refuse_older_formats(&options, folder)?;
        let db = DB::open(&options, folder).map_err(|error| failed(&error))?;
        // Not before: they could be another process's, which has the store open.
        forget_new_files(folder).map_err(|error| failed(&error))?;
        let content = Arc::new(Content { recents: RwLock::default(), db, large_table_rows });
        let progress = Arc::new(Progress::default());
        let (queue, files) = channel();
        let (writing, reporting) = (content.clone(), progress.clone());
        let writer = std::thread::Builder::new()
            .name("store-writer".into())
            .spawn(move || write_all(&writing, &options, &files, &reporting))
            .map_err(|error| failed(&error))?;
        Ok(Self { content, progress, memory_bytes, queue: Some(queue), writer: Some(writer) })
    }

    /// A reader for other threads.
    #[must_use]
    pub fn reader(&self) -> StoreReader {
        StoreReader { content: self.content.clone() }
    }

    /// Gives what is in memory to the writer, once it is done with the file before.
    fn seal(&self) -> Result<(), StoreError> {
        self.progress.settle()?;
        let sealed = self.content.change(|recents| {
            recents.active.position()?; // nothing to write
            let next = Recent::sized_like(&recents.active);
            let sealed = Arc::new(std::mem::replace(&mut recents.active, next));
            recents.sealed = Some(sealed.clone());
            Some(sealed)
        });
        let Some(sealed) = sealed else { return Ok(()) };
        self.progress.lock().has_file = true;
        let queue = self.queue.as_ref().expect("the queue is open while the store is");
        queue.send(sealed).map_err(|_| failed(&"the writer of the store has ended"))
    }
}

impl StoreReader {
    /// One value.
    ///
    /// # Errors
    /// Where the disk fails.
    pub fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        self.content.get(key)
    }

    /// The position of the last batch written.
    ///
    /// # Errors
    /// Where the disk fails or the store is of another format.
    pub fn position(&self) -> Result<Option<Position>, StoreError> {
        self.content.position()
    }
}

impl Drop for RocksStore {
    /// Writes what is left: the next start has nothing to fold.
    fn drop(&mut self) {
        if let Err(error) = self.seal().and_then(|()| self.progress.settle()) {
            tracing::warn!(%error, "the store is closed without its last batches; they will be folded again");
        }
        self.queue = None;
        if let Some(writer) = self.writer.take() {
            drop(writer.join());
        }
    }
}

impl Store for RocksStore {
    fn position(&self) -> Result<Option<Position>, StoreError> {
        self.progress.check()?;
        self.content.position()
    }

    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        self.content.get(key)
    }

    fn scan(
        &self,
        prefix: &[u8],
        from: &[u8],
        visit: &mut dyn FnMut(&[u8], &[u8]) -> bool,
    ) -> Result<(), StoreError> {
        self.seal()?; // only files are in order
        self.progress.settle()?;
        let mut options = ReadOptions::default();
        if prefix.is_empty() {
            options.set_iterate_upper_bound(POSITION_KEY);
        } else {
            options.set_iterate_range(rocksdb::PrefixRange(prefix));
        }
        let start = IteratorMode::From(from, rocksdb::Direction::Forward);
        for entry in self.content.db.iterator_opt(start, options) {
            let (key, value) = entry.map_err(|error| failed(&error))?;
            if !visit(&key, &value) {
                break;
            }
        }
        Ok(())
    }

    /// Only files are asked: what is in memory has come since.
    fn may_hold(&self, prefix: &[u8]) -> Result<bool, StoreError> {
        let mut options = ReadOptions::default();
        options.set_iterate_range(rocksdb::PrefixRange(prefix));
        let start = IteratorMode::From(prefix, rocksdb::Direction::Forward);
        let first = self.content.db.iterator_opt(start, options).next();
        first.transpose().map(|first| first.is_some()).map_err(|error| failed(&error))
    }

    fn write(&mut self, batch: StoreBatch) -> Result<(), StoreError> {
        self.progress.check()?;
        let bytes = self.content.change(|recents| {
            recents.active.add(batch);
            recents.active.memory_bytes()
        });
        if bytes >= self.memory_bytes { self.seal() } else { Ok(()) }
    }
}
