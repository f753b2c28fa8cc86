//! The store in memory, for tests and for folding a log without touching a disk.

use std::collections::BTreeMap;

use crate::store::{Position, Store, StoreBatch, StoreError};

/// A store that forgets everything when it is dropped.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MemoryStore {
    rows: BTreeMap<Vec<u8>, Vec<u8>>,
    position: Option<Position>,
}

impl Store for MemoryStore {
    fn position(&self) -> Result<Option<Position>, StoreError> {
        Ok(self.position.clone())
    }

    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(self.rows.get(key).cloned())
    }

    fn scan(
        &self,
        prefix: &[u8],
        from: &[u8],
        visit: &mut dyn FnMut(&[u8], &[u8]) -> bool,
    ) -> Result<(), StoreError> {
        let mut under =
            self.rows.range(from.to_vec()..).take_while(|(key, _)| key.starts_with(prefix));
        while let Some((key, value)) = under.next()
            && visit(key, value)
        {}
        Ok(())
    }

    fn write(&mut self, batch: StoreBatch) -> Result<(), StoreError> {
        for (key, value) in batch.changes() {
            match value {
                Some(value) => drop(self.rows.insert(key.to_vec(), value.to_vec())),
                None => drop(self.rows.remove(key)),
            }
        }
        self.position = Some(batch.position);
        Ok(())
    }
}
