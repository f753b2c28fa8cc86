//! Rows as of the last decision made, over a store of committed ones: every read of a decision goes through
//! here. What is not committed is only here, so throwing an overlay away undoes it.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use model::{QueueKey, ReadFailed, Row, RowChange, RowKey, Rows, Timer};
use rustc_hash::FxHashMap;
use schemas::units::Millis;

use crate::defect::{Defect, is_on};
use crate::memory_store::MemoryStore;
use crate::store::{Position, QUEUE_TAG, Store, StoreBatch, StoreError, TIMER_TAG, state_hash};

/// A row as one transaction has it.
struct Held<R> {
    row: Option<Arc<R>>,
    is_changed: bool,
}

impl<R> Clone for Held<R> {
    fn clone(&self) -> Self {
        Self { row: self.row.clone(), is_changed: self.is_changed }
    }
}

/// Rows that one transaction has read and changed.
type Generation<R> = FxHashMap<RowKey, Held<R>>;

/// Rows, timers and queues of one partition, read through to its store. Timers and queues are whole in memory.
///
/// A row is looked for in the transaction being decided, then in the one that is on its way to the log, then in the
/// store. So the next transaction is decided while the last one is being committed.
pub(crate) struct Overlay<R, S> {
    pub(crate) store: S,
    current: RefCell<Generation<R>>,
    /// Shared with the thread that encodes it.
    on_its_way: Arc<Generation<R>>,
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

/// What one transaction changes, before it has its bytes.
pub(crate) struct Changes<R> {
    position: Position,
    rows: Arc<Generation<R>>,
    queues: FxHashMap<QueueKey, Option<RowKey>>,
    timers: FxHashMap<Timer, bool>,
}

impl<R: Row> Changes<R> {
    /// The changes as the store takes them. Needs nothing else, so another thread may do it.
    pub(crate) fn encode(&self) -> StoreBatch {
        let changed = || self.rows.iter().filter(|(_, held)| held.is_changed);
        let mut batch = StoreBatch::with_room(self.position.clone(), changed().count());
        for (key, held) in changed() {
            match &held.row {
                Some(row) => batch.put(key.as_bytes(), |value| row.encode(value)),
                None => batch.delete(key.as_bytes()),
            }
        }
        for (place, row) in &self.queues {
            let key = queue_key(place);
            match row {
                Some(row) => batch.put(&key, |value| value.extend_from_slice(row.as_bytes())),
                None => batch.delete(&key),
            }
        }
        for (timer, is_open) in &self.timers {
            let key = timer_key(timer);
            if *is_open { batch.put(&key, |_| ()) } else { batch.delete(&key) }
        }
        batch
    }
}

impl<R: Row, S: Store> Overlay<R, S> {
    /// Loads the open timers and the queues; rows are read when they are asked for.
    pub(crate) fn open(store: S) -> Result<Self, StoreError> {
        let mut overlay = Self {
            store,
            current: RefCell::default(),
            on_its_way: Arc::default(),
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
        self.current.get_mut().clear();
        self.on_its_way = Arc::default();
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
        let is_first = row.as_ref().is_some_and(|row| row.is_first());
        let old = if is_first { None } else { self.get(&key)? };
        self.move_timer(
            old.as_ref().and_then(|row| row.timer()),
            row.as_ref().and_then(|row| row.timer()),
        );
        self.move_place(
            key,
            old.as_ref().and_then(|row| row.queue()),
            row.as_ref().and_then(|row| row.queue()),
        );
        self.current.get_mut().insert(key, Held { row, is_changed: true });
        Ok(())
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

    /// Ends a transaction: its changes, with the position they belong to. Until they are encoded and handed to
    /// [`Overlay::write`], rows are read from memory. The changes taken before are handed over already.
    pub(crate) fn take_changes(&mut self, position: Position) -> Changes<R> {
        // Its room is kept, unless somebody still holds it.
        let room = Arc::try_unwrap(std::mem::take(&mut self.on_its_way)).unwrap_or_default();
        self.on_its_way = Arc::new(self.current.replace(room));
        Changes {
            position,
            rows: self.on_its_way.clone(),
            queues: std::mem::take(&mut self.queue_changes),
            timers: std::mem::take(&mut self.timer_changes),
        }
    }

    /// Hands the changes of a committed transaction to the store, which shows them from now on.
    pub(crate) fn write(&mut self, changes: StoreBatch) -> Result<(), StoreError> {
        self.store.write(changes)?;
        match Arc::get_mut(&mut self.on_its_way) {
            Some(rows) => rows.clear(),
            None => self.on_its_way = Arc::default(),
        }
        Ok(())
    }

    /// Takes the changes and hands them over.
    pub(crate) fn flush(&mut self, position: Position) -> Result<(), StoreError> {
        let changes = self.take_changes(position).encode();
        self.write(changes)
    }

    /// What memory knows of a row. One found in an older transaction is held by this one too: the next look is short.
    fn in_memory(&self, key: &RowKey) -> Option<Held<R>> {
        if let Some(held) = self.current.borrow().get(key) {
            return Some(held.clone());
        }
        let held = self.on_its_way.get(key)?.clone();
        self.hold(*key, held.row.clone());
        Some(held)
    }

    fn hold(&self, key: RowKey, row: Option<Arc<R>>) {
        self.current.borrow_mut().insert(key, Held { row, is_changed: false });
    }

    fn is_changed(&self, key: &RowKey) -> bool {
        let changed = |rows: &Generation<R>| rows.get(key).is_some_and(|held| held.is_changed);
        changed(&self.current.borrow()) || changed(&self.on_its_way)
    }
}

impl<R: Row, S: Store> Rows<R> for Overlay<R, S> {
    fn get(&self, key: &RowKey) -> Result<Option<Arc<R>>, ReadFailed> {
        let past = is_on(Defect::ReadPastTheOverlay) && self.is_changed(key);
        if let Some(held) = self.in_memory(key).filter(|_| !past) {
            return Ok(held.row);
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
        if !past {
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
        let mut take = |rows: &Generation<R>| {
            let changed = rows.iter().filter(|(_, held)| held.is_changed);
            for (key, held) in changed
                .filter(|(key, _)| key.as_bytes().starts_with(prefix.as_bytes()) && is_after(key))
            {
                if held.row.is_some() {
                    keys.insert(*key)
                } else {
                    keys.remove(key)
                };
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
        overlay
            .apply(RowChange::Put(Arc::new(row)))
            .map_err(|ReadFailed(why)| StoreError::Failed(why))?;
    }
    overlay.flush(Position::start(String::new()))?;
    state_hash(&overlay.store)
}
