//! The store of one partition: one `RocksDB`, rows in one column family, the position in another, both in
//! every write. The WAL is on and not synced: a killed process loses nothing, a dead machine loses a
//! suffix, and either is folded again from the log.

use std::path::Path;
use std::sync::Arc;

use rocksdb::{
    BlockBasedOptions, ColumnFamilyDescriptor, DB, DBCompressionType, IteratorMode, Options,
    ReadOptions, WriteBatch,
};
use runtime::{Position, Store, StoreBatch, StoreError};

const ROWS: &str = "rows";
const META: &str = "meta";
const POSITION_KEY: &[u8] = b"position";

/// A partition has at most two of these in memory while it is busy; an idle one has none.
const MEMTABLE_BYTES: usize = 16 * 1_024 * 1_024;

/// State of one partition on disk.
#[derive(Debug)]
pub struct RocksStore {
    db: Arc<DB>,
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
        options.set_max_total_wal_size(64 * 1_024 * 1_024);
        options.set_keep_log_file_num(2);
        let families = [
            ColumnFamilyDescriptor::new(ROWS, row_options()),
            ColumnFamilyDescriptor::new(META, Options::default()),
        ];
        DB::open_cf_descriptors(&options, folder, families)
            .map(|db| Self { db: Arc::new(db) })
            .map_err(|error| failed(&error))
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

impl Store for RocksStore {
    fn position(&self) -> Result<Option<Position>, StoreError> {
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
        let family = |name| {
            self.db.cf_handle(name).ok_or_else(|| failed(&"a column family of the store is gone"))
        };
        let (rows, meta) = (family(ROWS)?, family(META)?);
        let mut write = WriteBatch::default();
        for key in &batch.deletes {
            write.delete_cf(rows, key);
        }
        for (key, value) in &batch.puts {
            write.put_cf(rows, key, value);
        }
        let position = serde_json::to_vec(&batch.position).map_err(|error| failed(&error))?;
        write.put_cf(meta, POSITION_KEY, position);
        self.db.write(write).map_err(|error| failed(&error))
    }
}
