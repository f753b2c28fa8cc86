//! Where rows are read that have left the node's window.

use std::future::Future;
use std::pin::Pin;

use schemas::ids::{CreatorId, DropId, OrderId, UserId};
use schemas::order::{DropRow, OrderRow, StockRow};
use schemas::partition::Partition;
use schemas::units::Millis;

/// A drop with its counters.
#[derive(Clone, PartialEq, Debug)]
pub struct DropState {
    /// Terms and status.
    pub drop: DropRow,
    /// One row per variant, in variant order.
    pub stocks: Vec<StockRow>,
}

/// Why an archive gave no answer.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ArchiveError {
    /// No view is configured and no owner's store is in the process.
    #[error("neither a Postgres view nor an owner's store is configured here")]
    NotConfigured,
    /// It is away.
    #[error("the view is unreachable: {0}")]
    Unreachable(String),
}

/// What an archive answers with, later.
pub type Answer<'a, T> = Pin<Box<dyn Future<Output = Result<T, ArchiveError>> + Send + 'a>>;
/// A row, where there is one.
pub type Reading<'a, T> = Answer<'a, Option<T>>;

/// Rows by id: the Postgres view, or the stores of owners in this process.
pub trait Archive: Send + Sync {
    /// Whether every order intent of the partition up to and including this offset is decided, and seen here. Views trail
    /// the log: what one does not have yet is not unknown.
    fn shows(&self, partition: Partition, intent_offset: i64) -> Answer<'_, bool>;

    /// An order.
    fn order(&self, order: OrderId) -> Reading<'_, OrderRow>;

    /// A drop.
    fn drop_state(&self, drop: DropId) -> Reading<'_, DropState>;

    /// Since when the user follows the creator.
    fn follow(&self, creator: CreatorId, user: UserId) -> Reading<'_, Millis>;
}
