//! Rows as of the last decision made, over a store of committed ones: every read of a decision goes through
//! here. What is not committed is only here, so throwing an overlay away undoes it.

mod seen_keys;
#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic, reason = "tests")]
mod tests;

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

use model::{QueueKey, ReadFailed, Row, RowChange, RowKey, Rows, Timer};
use rustc_hash::FxHashMap;
use schemas::units::Millis;

use crate::defect::{Defect, is_on};
use crate::memory_store::MemoryStore;
use crate::store::{Position, QUEUE_TAG, Store, StoreBatch, StoreError, TIMER_TAG, state_hash};

use seen_keys::SeenKeys;

/// A row as one transaction has it; `None` for one that is not there.
type Known<R> = Option<R>;

/// What one transaction knows of a key.
enum Held<R> {
    /// As the store or the transaction before has it.
    Read(Known<R>),
    /// Put or deleted. It may change again, so it gets its bytes when the transaction ends.
    Changed(Known<R>),
    /// The first row of its key, which is rarely asked for again: only its bytes are kept, as this change of the batch.
    Written(usize),
}

/// What one transaction has read and changed.
struct Layer<R> {
    rows: FxHashMap<RowKey, Held<R>>,
    /// Its position is set when it is taken.
    batch: StoreBatch,
}

impl<R: Row> Layer<R> {
    fn new() -> Self {
        Self { rows: FxHashMap::default(), batch: StoreBatch::new(no_position()) }
    }

    fn get(&self, key: &RowKey) -> Result<Option<Known<R>>, ReadFailed> {
        match self.rows.get(key) {
            None => Ok(None),
            Some(Held::Read(row) | Held::Changed(row)) => Ok(Some(row.clone())),
            Some(Held::Written(change)) => {
                let (_, bytes) = self.batch.change(*change);
                Ok(Some(bytes.map(|bytes| decoded(key, bytes)).transpose()?))
            }
        }
    }

    fn is_changed(&self, key: &RowKey) -> bool {
        self.rows.get(key).is_some_and(|held| !matches!(held, Held::Read(_)))
    }

    fn put_first(&mut self, key: RowKey, write: impl FnOnce(&mut Vec<u8>)) {
        self.rows.insert(key, Held::Written(self.batch.len()));
        self.batch.put(key.as_bytes(), write);
    }

    /// Gives the rows that have none yet their bytes.
    fn encode_changed(&mut self) {
        for (key, held) in &self.rows {
            match held {
                Held::Changed(Some(row)) => {
                    self.batch.put(key.as_bytes(), |value| row.encode(value));
                }
                Held::Changed(None) => self.batch.delete(key.as_bytes()),
                Held::Read(_) | Held::Written(_) => {}
            }
        }
    }

    /// Ends with all changes in a batch. Room is left for another transaction, which is usually about as large.
    fn take_batch(&mut self, position: Position) -> StoreBatch {
        self.rows.clear();
        let room = StoreBatch::sized_like(&self.batch, no_position());
        let mut batch = std::mem::replace(&mut self.batch, room);
        batch.position = position;
        batch.shrink_to_fit();
        batch
    }
}

fn no_position() -> Position {
    Position::start(String::new())
}

fn decoded<R: Row>(key: &RowKey, bytes: &[u8]) -> Result<R, ReadFailed> {
    R::decode(key.tag(), bytes).map_err(|error| ReadFailed(error.to_string()))
}

/// Rows, timers and queues of one partition, read through to its store. Timers and queues are whole in memory.
///
/// A row is looked for in the transaction being decided, then in the one that is on its way to the log, then in the
/// store. So the next transaction is decided while the last one is being committed.
pub(crate) struct Overlay<R, S> {
    pub(crate) store: S,
    /// What was put and then undone is among them too.
    seen: SeenKeys,
    current: RefCell<Layer<R>>,
    on_its_way: Layer<R>,
    timers: BTreeSet<Timer>,
    timer_changes: FxHashMap<Timer, bool>,
    queues: BTreeMap<QueueKey, RowKey>,
    queue_changes: FxHashMap<QueueKey, Option<RowKey>>,
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

fn queue_key(place: &QueueKey) -> Vec<u8> {
    let position = (place.position.cast_unsigned() ^ (1 << 63)).to_be_bytes();
    [&[QUEUE_TAG][..], place.queue.as_bytes(), &place.size.to_be_bytes(), &position].concat()
}

fn place_of(key: &[u8], value: &[u8]) -> Option<(QueueKey, RowKey)> {
    let (rest, position) = key.strip_prefix(&[QUEUE_TAG])?.split_last_chunk::<8>()?;
    let (queue, size) = rest.split_last_chunk::<4>()?;
    let position = (u64::from_be_bytes(*position) ^ (1 << 63)).cast_signed();
    let (queue, row) = (RowKey::from_bytes(queue)?, RowKey::from_bytes(value)?);
    Some((QueueKey { queue, size: u32::from_be_bytes(*size), position }, row))
}

impl<R: Row, S: Store> Overlay<R, S> {
    /// Loads the open timers and the queues; rows are read when they are asked for.
    pub(crate) fn open(store: S) -> Result<Self, StoreError> {
        let mut overlay = Self {
            seen: SeenKeys::of(&store, R::MOSTLY_MISSING)?,
            store,
            current: RefCell::new(Layer::new()),
            on_its_way: Layer::new(),
            timers: BTreeSet::new(),
            timer_changes: FxHashMap::default(),
            queues: BTreeMap::new(),
            queue_changes: FxHashMap::default(),
        };
        overlay.reset()?;
        Ok(overlay)
    }

    /// Forgets everything that is not in the store.
    pub(crate) fn reset(&mut self) -> Result<(), StoreError> {
        *self.current.get_mut() = Layer::new();
        self.on_its_way = Layer::new();
        self.timers.clear();
        self.timer_changes.clear();
        self.queues.clear();
        self.queue_changes.clear();
        let mut unreadable = None;
        let (timers, queues) = (&mut self.timers, &mut self.queues);
        self.store.scan(&[TIMER_TAG], &[TIMER_TAG], &mut |key, _| {
            let timer = timer_of(key);
            if timer.is_none() {
                unreadable = Some(format!("timer key {key:02x?}"));
            }
            timers.extend(timer);
            timer.is_some()
        })?;
        self.store.scan(&[QUEUE_TAG], &[QUEUE_TAG], &mut |key, value| {
            let place = place_of(key, value);
            if place.is_none() {
                unreadable = Some(format!("queue key {key:02x?}"));
            }
            queues.extend(place);
            place.is_some()
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

    /// Puts or deletes a row. Timer and queue are functions of (old row, new row).
    pub(crate) fn apply(&mut self, change: RowChange<R>) -> Result<(), ReadFailed> {
        let (key, row) = match change {
            RowChange::Put(row) => (row.key(), Some(row)),
            RowChange::Delete(key) => (key, None),
        };
        let first = row.as_ref().filter(|row| row.is_first());
        let old = if first.is_some() { None } else { self.get(&key)? };
        if old.is_none() && row.is_some() {
            self.note(std::iter::once(&key))?;
        }
        self.move_timer(old.as_ref().and_then(R::timer), row.as_ref().and_then(R::timer));
        self.move_place(key, old.as_ref().and_then(R::queue), row.as_ref().and_then(R::queue));
        let current = self.current.get_mut();
        match first {
            Some(row) => current.put_first(key, |value| row.encode(value)),
            None => drop(current.rows.insert(key, Held::Changed(row))),
        }
        Ok(())
    }

    /// Notes that rows are about to be put under keys that have none. Memory is waited for at each: of many, together.
    pub(crate) fn note<'a>(
        &mut self,
        keys: impl Iterator<Item = &'a RowKey>,
    ) -> Result<(), ReadFailed> {
        let noted = self.seen.add(keys, &self.store);
        noted.map_err(|error| ReadFailed(error.to_string()))
    }

    /// Puts the bytes of a row that is the first of its key, has no timer and is in no queue, and whose key was noted.
    pub(crate) fn put_noted(&mut self, key: RowKey, bytes: &[u8]) {
        self.current.get_mut().put_first(key, |value| value.extend_from_slice(bytes));
    }

    fn move_timer(&mut self, old_timer: Option<Timer>, new_timer: Option<Timer>) {
        if old_timer != new_timer {
            if let Some(timer) = old_timer {
                self.drop_timer(&timer);
            }
            if let Some(timer) = new_timer {
                self.timers.insert(timer);
                self.timer_changes.insert(timer, true);
            }
        }
    }

    fn move_place(&mut self, row: RowKey, old: Option<QueueKey>, new: Option<QueueKey>) {
        if old != new {
            if let Some(place) = old {
                self.queues.remove(&place);
                self.queue_changes.insert(place, None);
            }
            if let Some(place) = new {
                self.queues.insert(place, row);
                self.queue_changes.insert(place, Some(row));
            }
        }
    }

    /// Ends a transaction: from here on it is on its way to the log, and the next one begins. The one before was written.
    pub(crate) fn end_transaction(&mut self) {
        let Self { current, on_its_way, queue_changes, timer_changes, .. } = self;
        debug_assert!(on_its_way.batch.is_empty() || is_on(Defect::KeepTheBatchAfterAnAbort));
        std::mem::swap(current.get_mut(), on_its_way);
        on_its_way.encode_changed();
        for (place, row) in queue_changes.drain() {
            let key = queue_key(&place);
            match row {
                Some(row) => on_its_way.batch.put(&key, |value| value.extend(row.as_bytes())),
                None => on_its_way.batch.delete(&key),
            }
        }
        for (timer, is_open) in timer_changes.drain() {
            let key = timer_key(&timer);
            if is_open {
                on_its_way.batch.put(&key, |_| ());
            } else {
                on_its_way.batch.delete(&key);
            }
        }
    }

    /// Hands the transaction that was on its way, and is committed, to the store, which shows its rows from now on.
    pub(crate) fn write(&mut self, position: Position) -> Result<(), StoreError> {
        let batch = self.on_its_way.take_batch(position);
        self.store.write(batch)
    }

    /// Ends a transaction that is committed, and hands it over.
    pub(crate) fn flush(&mut self, position: Position) -> Result<(), StoreError> {
        self.end_transaction();
        self.write(position)
    }

    /// What memory knows of a row. One found in an older transaction is held by this one too: the next look is short.
    fn in_memory(&self, key: &RowKey) -> Result<Option<Known<R>>, ReadFailed> {
        if let Some(row) = self.current.borrow().get(key)? {
            return Ok(Some(row));
        }
        let found = self.on_its_way.get(key)?;
        if let Some(row) = &found {
            self.hold(*key, row.clone());
        }
        Ok(found)
    }

    fn hold(&self, key: RowKey, row: Known<R>) {
        self.current.borrow_mut().rows.insert(key, Held::Read(row));
    }

    fn is_changed(&self, key: &RowKey) -> bool {
        self.current.borrow().is_changed(key) || self.on_its_way.is_changed(key)
    }
}

impl<R: Row, S: Store> Rows<R> for Overlay<R, S> {
    fn get(&self, key: &RowKey) -> Result<Option<R>, ReadFailed> {
        if self.seen.rules_out(key) {
            return Ok(None);
        }
        let past = is_on(Defect::ReadPastTheOverlay) && self.is_changed(key);
        if let Some(row) = self.in_memory(key)?.filter(|_| !past) {
            return Ok(row);
        }
        let bytes = self.store.get(key.as_bytes());
        let bytes = bytes.map_err(|error| ReadFailed(error.to_string()))?;
        let row = bytes.map(|bytes| decoded(key, &bytes)).transpose()?;
        // One that is not there is mostly put next.
        if !past && row.is_some() {
            self.hold(*key, row.clone());
        }
        Ok(row)
    }

    fn next_in_queue(&self, from: &QueueKey) -> Option<(QueueKey, RowKey)> {
        from.next_in(&self.queues)
    }

    fn keys_after(
        &self,
        prefix: &RowKey,
        after: Option<&RowKey>,
        limit: usize,
    ) -> Result<Vec<RowKey>, ReadFailed> {
        let is_after = |key: &RowKey| after.is_none_or(|after| key > after);
        let mut keys = BTreeSet::new();
        let mut take = |layer: &Layer<R>| {
            let is_wanted =
                |key: &RowKey| key.as_bytes().starts_with(prefix.as_bytes()) && is_after(key);
            for (key, held) in layer.rows.iter().filter(|(key, _)| is_wanted(key)) {
                match held {
                    Held::Read(_) => {}
                    Held::Changed(None) => drop(keys.remove(key)),
                    Held::Changed(Some(_)) | Held::Written(_) => drop(keys.insert(*key)),
                }
            }
        };
        take(&self.on_its_way);
        take(&self.current.borrow());
        let mut found = 0;
        let from = after.unwrap_or(prefix).as_bytes();
        let scanned = self.store.scan(prefix.as_bytes(), from, &mut |bytes, _| {
            let key = RowKey::from_bytes(bytes).filter(is_after);
            let stands = key.filter(|key| !self.is_changed(key));
            found += usize::from(stands.is_some());
            keys.extend(stands);
            found < limit
        });
        scanned.map_err(|error| ReadFailed(error.to_string()))?;
        Ok(keys.into_iter().take(limit).collect())
    }
}

/// The hash a store would have that holds exactly these rows: what an audit compares a store with.
///
/// # Errors
/// Where a row cannot be encoded and read back.
pub fn state_hash_of_rows<R: Row>(rows: impl IntoIterator<Item = R>) -> Result<String, StoreError> {
    let mut overlay = Overlay::<R, MemoryStore>::open(MemoryStore::default())?;
    for row in rows {
        overlay.apply(RowChange::Put(row)).map_err(|ReadFailed(why)| StoreError::Failed(why))?;
    }
    overlay.flush(Position::start(String::new()))?;
    state_hash(&overlay.store)
}
