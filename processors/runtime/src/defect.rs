//! Deliberate defects, to show that the simulator finds what it is there to find. Compiled only with the feature
//! `defects`, which `make sim-bugs` alone turns on; in every other build [`is_on`] is a constant `false`.

/// A mistake that somebody could make.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Defect {
    /// Runtime: recovery goes on at the intents it had decided before.
    RedecideOnRecovery,
    /// Runtime: the store is written before the commit.
    StoreBeforeCommit,
    /// Runtime: timers are judged by the owner's clock.
    TimersByWallClock,
    /// Runtime: timers fire after the batch, not before the intent.
    TimersAfterTheBatch,
    /// Runtime: an expiry fires at its deadline, not after it.
    ExpiryAtTheDeadline,
    /// Runtime: a takeover does not raise the epoch.
    ReuseAnEpoch,
    /// Runtime: decisions read the store, not what the batch has changed.
    ReadPastTheOverlay,
    /// Runtime: an order from before the start counts as new.
    ForgetRowsBeforeTheStart,
    /// Runtime: what was decided before an aborted commit is kept.
    KeepTheBatchAfterAnAbort,
    /// Runtime: continuations wait for the next batch.
    ContinuationsLast,
    /// Log: recovery ends at the last stable offset.
    RestoreToTheLastStableOffset,
    /// Log: an older owner is not fenced.
    IgnoreTheFence,
    /// Store: a takeover misses a timer.
    LoseATimerOnTakeover,
    /// Readers: what is not committed is shown and acted upon.
    PublishBeforeCommit,
    /// Rules: the key is not looked up.
    ForgetDedup,
    /// Rules: a key's request is not compared.
    IgnoreTheRequestHash,
    /// Rules: released units go to anybody.
    SkipTheWaitlist,
    /// Rules: the longest waiting buyer is passed over.
    OfferOutOfTurn,
    /// Rules: the limit is checked order by order.
    LimitPerOrder,
    /// Rules: a lapsed hold releases its units twice.
    DoubleRelease,
    /// Rules: money is captured before the units are the buyer's.
    CaptureBeforeConfirm,
    /// Rules: money that comes too late is kept.
    ForgetTheVoid,
    /// Rules: low stock is told one unit early.
    LowStockOffByOne,
    /// Rules: a continuation ends after its first record.
    LoseHalfAContinuation,
    /// Rules: a hold counts from the order's append, not from its decision.
    HoldFromAppendTime,
    /// Rules: a refund restocks before the money is back.
    RestockBeforeRefund,
}

impl Defect {
    /// Every defect.
    pub const ALL: [Self; 26] = [
        Self::RedecideOnRecovery,
        Self::StoreBeforeCommit,
        Self::TimersByWallClock,
        Self::TimersAfterTheBatch,
        Self::ExpiryAtTheDeadline,
        Self::ReuseAnEpoch,
        Self::ReadPastTheOverlay,
        Self::ForgetRowsBeforeTheStart,
        Self::KeepTheBatchAfterAnAbort,
        Self::ContinuationsLast,
        Self::RestoreToTheLastStableOffset,
        Self::IgnoreTheFence,
        Self::LoseATimerOnTakeover,
        Self::PublishBeforeCommit,
        Self::ForgetDedup,
        Self::IgnoreTheRequestHash,
        Self::SkipTheWaitlist,
        Self::OfferOutOfTurn,
        Self::LimitPerOrder,
        Self::DoubleRelease,
        Self::CaptureBeforeConfirm,
        Self::ForgetTheVoid,
        Self::LowStockOffByOne,
        Self::LoseHalfAContinuation,
        Self::HoldFromAppendTime,
        Self::RestockBeforeRefund,
    ];
}

#[cfg(feature = "defects")]
thread_local! {
    static CURRENT: std::cell::Cell<Option<Defect>> = const { std::cell::Cell::new(None) };
}

/// Turns one defect on for this thread, and every other off.
#[cfg(feature = "defects")]
pub fn turn_on(defect: Option<Defect>) {
    CURRENT.set(defect);
}

/// Whether the defect is on.
#[cfg(feature = "defects")]
#[must_use]
pub fn is_on(defect: Defect) -> bool {
    CURRENT.get() == Some(defect)
}

/// Whether the defect is on: never.
#[cfg(not(feature = "defects"))]
#[must_use]
pub const fn is_on(_defect: Defect) -> bool {
    false
}
