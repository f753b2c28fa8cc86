//! How a partition is doing, for readiness, metrics and operators.

use std::sync::{Arc, Mutex, PoisonError};

use schemas::partition::Partition;

/// Where a partition stands.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum PartitionState {
    /// Reading its decisions back.
    Recovering,
    /// Deciding.
    Running,
    /// Waiting for something an operator may have to mend; nothing is lost.
    Stalled(String),
    /// State and log disagree; it will not decide anything until an operator has looked.
    Refused(String),
    /// Following what another owner decides.
    Standby,
    /// Owned by nobody here.
    Stopped,
}

/// A moment of one partition.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PartitionSnapshot {
    /// Where it stands.
    pub state: PartitionState,
    /// Last sequence number committed.
    pub seq: i64,
    /// Next intent to decide.
    pub next_intent_offset: i64,
    /// Transactions committed by this owner.
    pub transactions: u64,
    /// Decisions committed by this owner.
    pub decisions: u64,
}

/// Shared between a partition's thread and whoever asks.
#[derive(Clone, Debug)]
pub struct PartitionStatus {
    /// `reservations` or `followers`.
    pub processor: &'static str,
    /// The partition.
    pub partition: Partition,
    snapshot: Arc<Mutex<PartitionSnapshot>>,
}

impl PartitionStatus {
    /// A partition that nobody owns yet.
    #[must_use]
    pub fn new(processor: &'static str, partition: Partition) -> Self {
        let snapshot = PartitionSnapshot {
            state: PartitionState::Stopped,
            seq: -1,
            next_intent_offset: 0,
            transactions: 0,
            decisions: 0,
        };
        Self { processor, partition, snapshot: Arc::new(Mutex::new(snapshot)) }
    }

    /// The last known moment.
    #[must_use]
    pub fn snapshot(&self) -> PartitionSnapshot {
        self.snapshot.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Notes a change.
    pub fn update(&self, change: impl FnOnce(&mut PartitionSnapshot)) {
        change(&mut self.snapshot.lock().unwrap_or_else(PoisonError::into_inner));
    }
}
