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

use std::path::Path;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, RwLock};
use std::thread::JoinHandle;
use std::time::Duration;

use rocksdb::{
    BlockBasedOptions, DB, DBCompressionType, IngestExternalFileOptions, IteratorMode, Options,
    ReadOptions, SstFileWriter, properties,
};
use runtime::store::STORE_FORMAT;
use runtime::{Position, Store, StoreBatch, StoreError};

use recent::{Change, Recent};

/// Sorts after every row: the tags of tables, timers and queues are below.
const POSITION_KEY: &[u8] = &[0xff];
/// Files that are being written begin like this; left over where the process was killed meanwhile.
const NEW_FILES: &str = "new";

/// A table with so many changed rows gets a file of its own.
const LARGE_TABLE_ROWS: usize = 10_000;

/// Memory of the batches that are written out together. A busy partition has twice as much, and folds as much again
/// after a crash. Every file that a smaller one would make is one more to ask for an order that is not there.
const MEMORY_BYTES: usize = 96 * 1_024 * 1_024;

/// Files of the youngest level before they are merged: three or more come at once, and a look-up is spared most of them.
const UNMERGED: i32 = 12;
/// So many wait to be merged at most; then the next file waits too, but not for ever: a merge that fails is reported by
/// the next file.
const UNMERGED_MAX: u64 = 60;
const MERGE_POLL: Duration = Duration::from_millis(10);
const MERGE_POLLS_MAX: usize = 500;

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

/// What the writer is at.
#[derive(Debug, Default)]
struct Progress {
    state: Mutex<Writing>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Writing {
    has_file: bool,
    /// Why a file was not written; nothing is written after it.
    failure: Option<String>,
}

impl Progress {
    fn lock(&self) -> MutexGuard<'_, Writing> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn check(&self) -> Result<(), StoreError> {
        self.lock().failure.clone().map_or(Ok(()), |why| Err(StoreError::Failed(why)))
    }

    /// Waits until the files at hand are written.
    fn settle(&self) -> Result<(), StoreError> {
        let busy = |writing: &mut Writing| writing.has_file && writing.failure.is_none();
        drop(self.changed.wait_while(self.lock(), busy).unwrap_or_else(PoisonError::into_inner));
        self.check()
    }
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
    // Most look-ups are for keys that are not there: an order's first appearance, asked of every file of its drop. With
    // 10 bits one in a hundred of those answers is wrong and reads a block, with 16 one in a thousand.
    blocks.set_bloom_filter(16.0, false);
    let mut options = Options::default();
    options.create_if_missing(true);
    options.set_keep_log_file_num(2);
    options.set_block_based_table_factory(&blocks);
    options.set_compression_type(DBCompressionType::Lz4);
    options.set_level_zero_file_num_compaction_trigger(UNMERGED);
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

/// A file that was handed over may still have its first name as a second one: written to, it would change under the
/// database's hands.
fn forget_new_files(folder: &Path) -> std::io::Result<()> {
    let mut forgotten = Ok(());
    for file in std::fs::read_dir(folder)? {
        let path = file?.path();
        if path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(NEW_FILES)) {
            let removed = std::fs::remove_file(path);
            forgotten = forgotten.and(removed); // whatever this one says: the others may be what fills the disk
        }
    }
    forgotten
}

/// What goes into a file each. A look-up is spared every file without a row near its key, and a file without a
/// neighbour goes to the bottom at once: as the orders of one drop lie together, those of a hot drop are mostly alone.
/// A row of another table in the same file would take that away. (Merges of the youngest level take everything in.)
fn parts<'a, 'b>(changes: &'b [Change<'a>], large_table_rows: usize) -> Vec<&'b [Change<'a>]> {
    let (mut parts, mut from, mut at) = (Vec::new(), 0, 0);
    for table in changes.chunk_by(|(key, _), (next, _)| key.first() == next.first()) {
        let end = at + table.len();
        if table.len() >= large_table_rows {
            parts.extend([&changes[from..at], table]);
            from = end;
        }
        at = end;
    }
    parts.push(&changes[from..]);
    parts.retain(|part| !part.is_empty());
    parts
}

fn write_file(
    path: &Path,
    changes: &[Change<'_>],
    options: &Options,
) -> Result<(), rocksdb::Error> {
    let mut file = SstFileWriter::create(options);
    file.open(path)?;
    for (key, value) in changes {
        match value {
            Some(value) => file.put(key, value)?,
            None => file.delete(key)?,
        }
    }
    file.finish()
}

/// Brings a file back into memory. The one who writes it tells the kernel to forget it as it goes, which cannot be
/// switched off from here, and look-ups would wait for the disk, page by page: orders of a hot drop are asked for at once.
fn keep_in_memory(path: &Path) -> std::io::Result<u64> {
    std::io::copy(&mut std::fs::File::open(path)?, &mut std::io::sink())
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

    /// Makes files of sealed batches and hands them to the database at once, which makes them durable.
    fn write_files(&self, sealed: &Recent, options: &Options) -> Result<(), StoreError> {
        let Some(position) = sealed.position() else { return Ok(()) };
        let position = serde_json::to_vec(position).map_err(|error| failed(&error))?;
        forget_new_files(self.db.path()).map_err(|error| failed(&error))?;
        let mut changes = sealed.in_key_order();
        changes.push((POSITION_KEY, Some(&position)));
        let written = || {
            let mut paths = Vec::new();
            for (number, part) in parts(&changes, self.large_table_rows).into_iter().enumerate() {
                let path = self.db.path().join(format!("{NEW_FILES}-{number}.sst"));
                write_file(&path, part, options)?;
                drop(keep_in_memory(&path)); // slower without, not wrong
                paths.push(path);
            }
            self.await_merges()?;
            let mut ingest = IngestExternalFileOptions::default();
            ingest.set_move_files(true);
            self.db.ingest_external_file_opts(&ingest, paths)
        };
        let written = written();
        if written.is_err() {
            drop(forget_new_files(self.db.path())); // they may be what fills the disk
        }
        written.map_err(|error: rocksdb::Error| failed(&error))
    }

    fn await_merges(&self) -> Result<(), rocksdb::Error> {
        for _ in 0..MERGE_POLLS_MAX {
            let files = self.db.property_int_value(properties::num_files_at_level(0).as_c_str())?;
            if files.unwrap_or(0) < UNMERGED_MAX {
                break;
            }
            std::thread::sleep(MERGE_POLL);
        }
        Ok(())
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

/// Writes files in order until one fails: what is on disk stays a prefix. Batches that did not get into a file stay in
/// memory, so that nobody reads an older row from disk instead.
fn write_all(
    content: &Content,
    options: &Options,
    files: &Receiver<Arc<Recent>>,
    progress: &Progress,
) {
    let _told = ToldWhenPanicking(progress);
    while let Ok(sealed) = files.recv() {
        let written = content.write_files(&sealed, options);
        let has_failed = written.is_err();
        if !has_failed {
            content.change(|recents| recents.sealed = None);
        }
        let mut writing = progress.lock();
        writing.has_file = has_failed;
        writing.failure = written.err().map(|error| error.to_string());
        drop(writing);
        progress.changed.notify_all();
        if has_failed {
            return; // whoever hands over the next batch is told
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

    fn write(&mut self, batch: StoreBatch) -> Result<(), StoreError> {
        self.progress.check()?;
        let bytes = self.content.change(|recents| {
            recents.active.add(batch);
            recents.active.memory_bytes()
        });
        if bytes >= self.memory_bytes { self.seal() } else { Ok(()) }
    }
}
