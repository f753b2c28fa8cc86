//! Rows as of the last decision made, over a store that trails behind: every read of a decision goes through
//! here. What is not committed is only here, so throwing an overlay away undoes it.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::sync::Arc;

use model::{ReadFailed, Row, RowKey, Rows, Timer};
use rustc_hash::{FxHashMap, FxHashSet};
use schemas::units::Millis;

use crate::memory_store::MemoryStore;
use crate::store::{Position, Store, StoreBatch, StoreError, TIMER_TAG, state_hash};

/// Most rows kept in memory between batches; beyond it the cache starts anew.
const CACHED_ROWS_MAX: usize = 50_000;

/// Rows and timers of one partition, read through to its store.
pub(crate) struct Overlay<R, S> {
    pub(crate) store: S,
    rows: RefCell<FxHashMap<RowKey, Option<Arc<R>>>>,
    changed: FxHashSet<RowKey>,
    timers: BTreeSet<Timer>,
    timer_changes: FxHashMap<Timer, bool>,
}

fn timer_key(timer: &Timer) -> Vec<u8> {
    // Flipping the sign bit makes byte order equal to time order.
    let deadline = (timer.deadline.0.cast_unsigned() ^ (1 << 63)).to_be_bytes();
    [&[TIMER_TAG][..], &deadline, &[timer.kind], timer.row.as_bytes()].concat()
}

fn timer_of(key: &[u8]) -> Option<Timer> {
    let (deadline, rest) = key.strip_prefix(&[TIMER_TAG])?.split_first_chunk::<8>()?;
    let (kind, row) = rest.split_first()?;
    let deadline = Millis((u64::from_be_bytes(*deadline) ^ (1 << 63)).cast_signed());
    Some(Timer { deadline, kind: *kind, row: RowKey::from_bytes(row)? })
}

impl<R: Row, S: Store> Overlay<R, S> {
    /// Loads the open timers; rows are read when they are asked for.
    pub(crate) fn open(store: S) -> Result<Self, StoreError> {
        let mut overlay = Self {
            store,
            rows: RefCell::default(),
            changed: FxHashSet::default(),
            timers: BTreeSet::new(),
            timer_changes: FxHashMap::default(),
        };
        overlay.reset()?;
        Ok(overlay)
    }

    /// Forgets everything that is not in the store.
    pub(crate) fn reset(&mut self) -> Result<(), StoreError> {
        self.rows.get_mut().clear();
        self.changed.clear();
        self.timers.clear();
        self.timer_changes.clear();
        let mut unreadable = None;
        let timers = &mut self.timers;
        self.store.scan(&[TIMER_TAG], &mut |key, _| match timer_of(key) {
            Some(timer) => {
                timers.insert(timer);
            }
            None => unreadable = Some(format!("timer key {key:02x?}")),
        })?;
        unreadable.map_or(Ok(()), |what| Err(StoreError::UnknownFormat(what)))
    }

    pub(crate) fn first_timer(&self) -> Option<Timer> {
        self.timers.first().copied()
    }

    /// Takes a timer off although its row does not ask for it, so that it cannot fire for ever.
    pub(crate) fn drop_timer(&mut self, timer: &Timer) {
        self.timers.remove(timer);
        self.timer_changes.insert(*timer, false);
    }

    /// Puts a row. The timer index is a function of (old row, new row).
    pub(crate) fn put(&mut self, row: R) -> Result<(), ReadFailed> {
        let key = row.key();
        let old_timer = self.get(&key)?.and_then(|old| old.timer());
        let new_timer = row.timer();
        if old_timer != new_timer {
            if let Some(timer) = old_timer {
                self.drop_timer(&timer);
            }
            if let Some(timer) = new_timer {
                self.timers.insert(timer);
                self.timer_changes.insert(timer, true);
            }
        }
        self.changed.insert(key);
        self.rows.get_mut().insert(key, Some(Arc::new(row)));
        Ok(())
    }

    /// Writes every change since the last flush to the store, with the position it belongs to.
    pub(crate) fn flush(&mut self, position: Position) -> Result<(), StoreError> {
        let rows = self.rows.get_mut();
        let mut puts = Vec::with_capacity(self.changed.len() + self.timer_changes.len());
        for key in self.changed.drain() {
            if let Some(Some(row)) = rows.get(&key) {
                let mut value = Vec::with_capacity(256);
                row.encode(&mut value);
                puts.push((key.as_bytes().to_vec(), value));
            }
        }
        let mut deletes = Vec::new();
        for (timer, is_open) in self.timer_changes.drain() {
            let key = timer_key(&timer);
            if is_open { puts.push((key, Vec::new())) } else { deletes.push(key) }
        }
        self.store.write(StoreBatch { puts, deletes, position })?;
        if rows.len() > CACHED_ROWS_MAX {
            rows.clear();
        }
        Ok(())
    }
}

impl<R: Row, S: Store> Rows<R> for Overlay<R, S> {
    fn get(&self, key: &RowKey) -> Result<Option<Arc<R>>, ReadFailed> {
        if let Some(row) = self.rows.borrow().get(key) {
            return Ok(row.clone());
        }
        let failed = |error: &dyn std::fmt::Display| ReadFailed(error.to_string());
        let bytes = self.store.get(key.as_bytes()).map_err(|error| failed(&error))?;
        let row = match bytes {
            None => None,
            Some(bytes) => {
                let row = R::decode(key.tag(), &bytes).map_err(|error| failed(&error))?;
                Some(Arc::new(row))
            }
        };
        self.rows.borrow_mut().insert(*key, row.clone());
        Ok(row)
    }
}

/// The hash a store would have that holds exactly these rows: what an audit compares a store with.
///
/// # Errors
/// Where a row cannot be encoded and read back.
pub fn state_hash_of_rows<R: Row>(rows: impl IntoIterator<Item = R>) -> Result<String, StoreError> {
    let mut overlay = Overlay::<R, MemoryStore>::open(MemoryStore::default())?;
    for row in rows {
        overlay.put(row).map_err(|ReadFailed(why)| StoreError::Failed(why))?;
    }
    overlay.flush(Position::start(String::new()))?;
    state_hash(&overlay.store)
}
