//! What a task is told beside its log and store.

use std::sync::Arc;

use schemas::ids::IntentId;
use schemas::partition::Partition;

use crate::schema_book::SchemaBook;
use crate::status::PartitionStatus;
use crate::worker::Worker;

/// [`Batching::backlog_min`] of every owner in production.
pub const BACKLOG_MIN: usize = 1_000;

/// How a task makes transactions.
#[derive(Clone, Copy, Debug)]
pub struct Batching {
    /// Most decisions of one transaction.
    pub records_max: usize,
    /// From so many decisions on a transaction is a backlog's: the next one is decided before its commit is awaited. A
    /// smaller one is awaited at once, because there somebody waits for each, and because transactions that follow
    /// one another within a few milliseconds are turned away by the coordinator. So many records are sealed at once.
    pub backlog_min: usize,
    /// Whether a backlog's intents are read, its records sealed, and a long gap verified, by threads of their own.
    pub threads: bool,
}

impl Batching {
    /// Of every owner in production.
    pub const PRODUCTION: Self =
        Self { records_max: 16_384, backlog_min: BACKLOG_MIN, threads: true };

    pub(super) fn worker<T>(self, name: &'static str) -> Worker<T> {
        if self.threads { Worker::named(name) } else { Worker::inline() }
    }
}

/// What a task needs to know beside its log and store.
#[derive(Clone, Debug)]
pub struct TaskSettings {
    /// The partition.
    pub partition: Partition,
    /// Written into `owner_started`.
    pub build: String,
    /// Schema ids of this process.
    pub schemas: Arc<SchemaBook>,
    /// Makes the ids of tick intents.
    pub new_intent_id: fn() -> IntentId,
    /// [`Batching::PRODUCTION`]; others in tests.
    pub batching: Batching,
    /// Where the task reports how it is doing.
    pub status: PartitionStatus,
}
