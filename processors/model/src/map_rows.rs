//! Rows in a map: state without a store, for tests, benches and replays in memory.

use std::collections::{BTreeMap, BTreeSet};

use crate::{QueueKey, ReadFailed, Row, RowChange, RowKey, Rows, Timer};

/// Rows, and the timers and queues they imply.
#[derive(Clone, Debug)]
pub struct MapRows<R> {
    rows: BTreeMap<RowKey, R>,
    timers: BTreeSet<Timer>,
    queues: BTreeMap<QueueKey, RowKey>,
}

impl<R> Default for MapRows<R> {
    fn default() -> Self {
        Self { rows: BTreeMap::new(), timers: BTreeSet::new(), queues: BTreeMap::new() }
    }
}

impl<R: Row> MapRows<R> {
    /// Puts or deletes a row.
    pub fn apply(&mut self, change: RowChange<R>) {
        let (key, row) = match change {
            RowChange::Put(row) => (row.key(), Some(row)),
            RowChange::Delete(key) => (key, None),
        };
        if let Some(row) = &row {
            self.timers.extend(row.timer());
            self.queues.extend(row.queue().map(|place| (place, key)));
        }
        let (timer, place) = (row.as_ref().and_then(R::timer), row.as_ref().and_then(R::queue));
        let old = match row {
            Some(row) => self.rows.insert(key, row),
            None => self.rows.remove(&key),
        };
        let Some(old) = old else { return };
        if let Some(old) = old.timer().filter(|old| Some(*old) != timer) {
            self.timers.remove(&old);
        }
        if let Some(old) = old.queue().filter(|old| Some(*old) != place) {
            self.queues.remove(&old);
        }
    }

    /// The timer that is due first.
    #[must_use]
    pub fn first_timer(&self) -> Option<Timer> {
        self.timers.first().copied()
    }

    /// Every row in key order.
    pub fn iter(&self) -> impl Iterator<Item = (&RowKey, &R)> {
        self.rows.iter()
    }
}

impl<R: Row> Rows<R> for MapRows<R> {
    fn get(&self, key: &RowKey) -> Result<Option<R>, ReadFailed> {
        Ok(self.rows.get(key).cloned())
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
        let keys = self.rows.range(after.unwrap_or(prefix)..).map(|(key, _)| key);
        let under = keys.take_while(|key| key.as_bytes().starts_with(prefix.as_bytes()));
        let past = under.filter(|key| after.is_none_or(|after| *key > after));
        Ok(past.take(limit).copied().collect())
    }
}
