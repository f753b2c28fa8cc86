//! What the store gives: an ordered map with a position, both written in one batch.

#![allow(clippy::missing_errors_doc, reason = "the error type says it, once for every call")]

use schemas::ids::Chain;
use schemas::units::Millis;
use serde::{Deserialize, Serialize};

/// Version of the store layout: row encodings, timer index, position. Another one refuses to start.
pub const STORE_FORMAT: u32 = 3;

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

/// A write that happens as a whole or not at all.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StoreBatch {
    /// Keys and values to put.
    pub puts: Vec<(Vec<u8>, Vec<u8>)>,
    /// Keys to delete.
    pub deletes: Vec<Vec<u8>>,
    /// The position these rows belong to.
    pub position: Position,
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

    /// Writes rows and position as one. A crash keeps a prefix of the batches.
    fn write(&mut self, batch: StoreBatch) -> Result<(), StoreError>;
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
