//! The thread that makes files of batches.

use std::path::Path;
use std::sync::mpsc::Receiver;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rocksdb::{IngestExternalFileOptions, Options, SstFileWriter, properties};
use runtime::StoreError;

use super::recent::{Change, Recent};
use super::{Content, POSITION_KEY, UNMERGED, failed};

/// Files that are being written begin like this; left over where the process was killed meanwhile.
const NEW_FILES: &str = "new";

/// So many wait to be merged at most; then the next file waits too, but not for ever: a merge that fails is reported by
/// the next file.
const UNMERGED_MAX: u64 = 3 * UNMERGED.cast_unsigned() as u64;
const MERGE_POLL: Duration = Duration::from_millis(10);
const MERGE_POLLS_MAX: usize = 500;

/// So many changes fit into the nearest cache beside what writes them.
const NEAR: usize = 16;
const CACHE_LINE_BYTES: usize = 64;

/// What the writer is at.
#[derive(Debug, Default)]
pub(super) struct Progress {
    state: Mutex<Writing>,
    changed: Condvar,
}

#[derive(Debug, Default)]
pub(super) struct Writing {
    pub(super) has_file: bool,
    /// Why a file was not written; nothing is written after it.
    failure: Option<StoreError>,
}

impl Progress {
    pub(super) fn lock(&self) -> MutexGuard<'_, Writing> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn check(&self) -> Result<(), StoreError> {
        self.lock().failure.clone().map_or(Ok(()), Err)
    }

    /// Waits until the files at hand are written.
    pub(super) fn settle(&self) -> Result<(), StoreError> {
        let busy = |writing: &mut Writing| writing.has_file && writing.failure.is_none();
        drop(self.changed.wait_while(self.lock(), busy).unwrap_or_else(PoisonError::into_inner));
        self.check()
    }
}

/// A file that was handed over may still have its first name as a second one: written to, it would change under the
/// database's hands.
pub(super) fn forget_new_files(folder: &Path) -> std::io::Result<()> {
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
pub(super) fn parts<'a, 'b>(
    changes: &'b [Change<'a>],
    large_table_rows: usize,
) -> Vec<&'b [Change<'a>]> {
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
    for near in changes.chunks(NEAR) {
        bring_near(near);
        for (key, value) in near {
            match value {
                Some(value) => file.put(key, value)?,
                None => file.delete(key)?,
            }
        }
    }
    file.finish()
}

/// Changes lie in memory as they came, so in key order every one of them is waited for, mostly several times. Asked for
/// together they are waited for together.
fn bring_near(changes: &[Change<'_>]) {
    let parts = changes.iter().flat_map(|(key, value)| [*key, value.unwrap_or_default()]);
    let lines = parts.flat_map(|part| part.iter().step_by(CACHE_LINE_BYTES));
    std::hint::black_box(lines.fold(0, |all, byte| all ^ byte)); // else nobody needs to look
}

/// Brings a file back into memory. The one who writes it tells the kernel to forget it as it goes, which cannot be
/// switched off from here, and look-ups would wait for the disk, page by page: orders of a hot drop are asked for at once.
fn keep_in_memory(path: &Path) -> std::io::Result<u64> {
    // To a file, not to a sink of ours: then the kernel reads the pages and copies none of them into this process.
    let mut nowhere = std::fs::OpenOptions::new().write(true).open("/dev/null")?;
    std::io::copy(&mut std::fs::File::open(path)?, &mut nowhere)
}

impl Content {
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

/// Writes files in order until one fails: what is on disk stays a prefix. Batches that did not get into a file stay in
/// memory, so that nobody reads an older row from disk instead.
pub(super) fn write_all(
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
        writing.failure = written.err();
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
            let why = StoreError::Failed("its writer panicked".into());
            self.0.lock().failure = Some(why);
            self.0.changed.notify_all();
        }
    }
}
