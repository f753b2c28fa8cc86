//! What the store gives: an ordered map with a position, both written in one batch.

#![allow(clippy::missing_errors_doc, reason = "the error type says it, once for every call")]

use schemas::decision::DecisionHeader;
use schemas::ids::Chain;
use schemas::units::Millis;
use serde::{Deserialize, Serialize};

/// Version of the store layout: row encodings, timer index, position. Another one refuses to start.
pub const STORE_FORMAT: u32 = 4;

/// Leading byte of timer index keys; processors' table tags stay below it.
pub const TIMER_TAG: u8 = 0xf0;

/// Leading byte of queue keys.
pub const QUEUE_TAG: u8 = 0xf1;

/// How far a store has folded its decisions.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Position {
    /// [`STORE_FORMAT`].
    pub format: u32,
    /// The log it was folded from.
    pub log_id: String,
    /// Where to go on reading decisions.
    pub next_decision_offset: i64,
    /// Where the owner goes on reading intents.
    pub next_intent_offset: i64,
    /// Sequence number of the last decision folded; -1 for none.
    pub seq: i64,
    /// Its epoch; -1 for none.
    pub epoch: i32,
    /// Its log time.
    pub log_time_ms: i64,
    /// Logic version that the partition is activated for.
    pub logic_version: i32,
    /// Its link.
    pub chain: [u8; 16],
}

impl Position {
    /// Before the first decision.
    #[must_use]
    pub fn start(log_id: String) -> Self {
        Self {
            format: STORE_FORMAT,
            log_id,
            next_decision_offset: 0,
            next_intent_offset: 0,
            seq: -1,
            epoch: -1,
            log_time_ms: 0,
            logic_version: 0,
            chain: schemas::decision::FIRST_LINK.0,
        }
    }

    /// Moves past a decision, but for its link and for the offset that the log gives it.
    pub(crate) fn follow(&mut self, header: &DecisionHeader) {
        self.next_intent_offset = header.next_intent_offset;
        self.seq = header.seq;
        self.epoch = header.epoch;
        self.log_time_ms = header.log_time.0;
        self.logic_version = header.logic_version;
    }

    /// Log time of the last decision.
    #[must_use]
    pub fn log_time(&self) -> Millis {
        Millis(self.log_time_ms)
    }

    /// Link of the last decision.
    #[must_use]
    pub fn link(&self) -> Chain {
        Chain(self.chain)
    }
}

/// A write that happens as a whole or not at all. Keys and values lie in one buffer: a batch of a hot drop has tens of
/// thousands of them, and they are freed by another thread than made them.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StoreBatch {
    /// The position these rows belong to.
    pub position: Position,
    bytes: Vec<u8>,
    /// Ends of a key and of its value in `bytes`; no value for a key to delete.
    ends: Vec<(usize, Option<usize>)>,
}

impl StoreBatch {
    /// A batch without rows.
    #[must_use]
    pub fn new(position: Position) -> Self {
        Self { position, bytes: Vec::new(), ends: Vec::new() }
    }

    /// A batch without rows, with room for those of another.
    pub(crate) fn sized_like(other: &Self, position: Position) -> Self {
        let bytes = Vec::with_capacity(other.bytes.len());
        Self { position, bytes, ends: Vec::with_capacity(other.ends.len()) }
    }

    /// Puts a key with the value that `write` appends to the buffer.
    pub fn put(&mut self, key: &[u8], write: impl FnOnce(&mut Vec<u8>)) {
        self.bytes.extend_from_slice(key);
        let key_end = self.bytes.len();
        write(&mut self.bytes);
        self.ends.push((key_end, Some(self.bytes.len())));
    }

    /// Deletes a key.
    pub fn delete(&mut self, key: &[u8]) {
        self.bytes.extend_from_slice(key);
        self.ends.push((self.bytes.len(), None));
    }

    /// Gives back the room that was not needed.
    pub(crate) fn shrink_to_fit(&mut self) {
        self.bytes.shrink_to_fit();
        self.ends.shrink_to_fit();
    }

    /// Changes in it.
    #[must_use]
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether it has no changes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Memory that it takes, whether it is used or not.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        let ends = self.ends.capacity() * size_of::<(usize, Option<usize>)>();
        size_of::<Self>() + self.position.log_id.capacity() + self.bytes.capacity() + ends
    }

    /// A key with its value; `None` for a key to delete. `index` counts in the order of adding.
    #[must_use]
    pub fn change(&self, index: usize) -> (&[u8], Option<&[u8]>) {
        let end_of = |(key_end, value_end): (usize, Option<usize>)| value_end.unwrap_or(key_end);
        let start = index.checked_sub(1).map_or(0, |before| end_of(self.ends[before]));
        let (key_end, value_end) = self.ends[index];
        (&self.bytes[start..key_end], value_end.map(|end| &self.bytes[key_end..end]))
    }

    /// Every change, in the order of adding.
    pub fn changes(&self) -> impl Iterator<Item = (&[u8], Option<&[u8]>)> {
        (0..self.len()).map(|index| self.change(index))
    }
}

/// Why the store did not answer; the variant is what the owner does next.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum StoreError {
    /// Disk full, I/O error: stop this partition's process; a restart recovers from the log.
    #[error("the store failed: {0}")]
    Failed(String),
    /// The folder holds something this build cannot read. Refuse.
    #[error("the store cannot be read by this build: {0}")]
    UnknownFormat(String),
}

/// State of one partition: an ordered map and the position it stands at.
///
/// Disks may be written behind the caller's back, in order. Whatever was taken is seen at once.
pub trait Store: Send {
    /// The position of the last batch written, `None` where nothing was.
    fn position(&self) -> Result<Option<Position>, StoreError>;

    /// One value.
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError>;

    /// Keys and values under `prefix`, from `from` on, in key order, until `visit` has seen enough and says
    /// false. `from` begins with `prefix`.
    fn scan(
        &self,
        prefix: &[u8],
        from: &[u8],
        visit: &mut dyn FnMut(&[u8], &[u8]) -> bool,
    ) -> Result<(), StoreError>;

    /// Whether rows under `prefix` that were there when the store was opened are still there. True where it cannot be
    /// told, as where others have come since.
    fn may_hold(&self, prefix: &[u8]) -> Result<bool, StoreError> {
        has_rows(self, prefix)
    }

    /// Takes rows and position to be written as one. A crash keeps a prefix of the batches. An error may be that of
    /// an earlier batch; nothing after it is written.
    fn write(&mut self, batch: StoreBatch) -> Result<(), StoreError>;
}

/// Whether a row is under `prefix` now, wherever a store has it.
pub(crate) fn has_rows<S: Store + ?Sized>(store: &S, prefix: &[u8]) -> Result<bool, StoreError> {
    let mut has_rows = false;
    store.scan(prefix, prefix, &mut |_, _| {
        has_rows = true;
        false
    })?;
    Ok(has_rows)
}

/// BLAKE3 over every row and timer in key order. Two stores at one position must agree to the byte.
pub fn state_hash(store: &dyn Store) -> Result<String, StoreError> {
    let mut hasher = blake3::Hasher::new();
    store.scan(&[], &[], &mut |key, value| {
        for part in [key, value] {
            hasher.update(&(part.len() as u64).to_be_bytes());
            hasher.update(part);
        }
        true
    })?;
    Ok(hasher.finalize().to_hex().to_string())
}
