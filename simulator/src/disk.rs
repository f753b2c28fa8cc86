//! A store whose machine may lose power: writes that were not synced go, latest first.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use runtime::store::TIMER_TAG;
use runtime::{MemoryStore, Position, Store, StoreBatch, StoreError};

use crate::defects::{Defect, is_on};

#[derive(Debug, Default)]
struct Files {
    synced: MemoryStore,
    unsynced: Vec<StoreBatch>,
    live: MemoryStore,
    /// As it was when the process that has it started.
    opened: MemoryStore,
}

/// The folder of one partition on one machine; it outlives the process.
#[derive(Clone, Debug, Default)]
pub(crate) struct Disk(Arc<Mutex<Files>>);

impl Disk {
    fn lock(&self) -> MutexGuard<'_, Files> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A process starts with it.
    pub(crate) fn opened(self) -> Self {
        let mut files = self.lock();
        files.opened = files.live.clone();
        drop(files);
        self
    }

    /// Writes so far survive anything.
    pub(crate) fn sync(&self) {
        let mut files = self.lock();
        files.synced = files.live.clone();
        files.unsynced.clear();
    }

    pub(crate) fn unsynced(&self) -> usize {
        self.lock().unsynced.len()
    }

    /// Power is lost: the first `kept` unsynced writes survive.
    pub(crate) fn lose_power(&self, kept: usize) {
        let mut files = self.lock();
        let batches = std::mem::take(&mut files.unsynced);
        for batch in batches.into_iter().take(kept) {
            files.synced.write(batch).expect("memory takes every write");
        }
        files.live = files.synced.clone();
    }

    /// The folder is deleted.
    pub(crate) fn delete(&self) {
        *self.lock() = Files::default();
    }

    /// What is there now.
    pub(crate) fn content(&self) -> MemoryStore {
        self.lock().live.clone()
    }
}

impl Store for Disk {
    fn position(&self) -> Result<Option<Position>, StoreError> {
        self.lock().live.position()
    }

    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        self.lock().live.get(key)
    }

    fn scan(
        &self,
        prefix: &[u8],
        from: &[u8],
        visit: &mut dyn FnMut(&[u8], &[u8]) -> bool,
    ) -> Result<(), StoreError> {
        let mut lost = is_on(Defect::LoseATimerOnTakeover) && prefix == [TIMER_TAG];
        self.lock()
            .live
            .scan(prefix, from, &mut |key, value| std::mem::take(&mut lost) || visit(key, value))
    }

    fn may_hold(&self, prefix: &[u8]) -> Result<bool, StoreError> {
        self.lock().opened.may_hold(prefix)
    }

    fn write(&mut self, batch: StoreBatch) -> Result<(), StoreError> {
        let mut files = self.lock();
        files.unsynced.push(batch.clone());
        files.live.write(batch)
    }
}
