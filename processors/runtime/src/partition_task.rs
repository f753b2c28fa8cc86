//! The single writer of one partition as a step machine: no thread, no sleep, no clock inside.
//!
//! ```text
//!              ┌──────────── anything but a clean commit ───────────┐
//!              ▼                                                     │
//!         Recovering ── fence, read to the high watermark, ──▶ Running ──▶ Exit::Fenced
//!              │         commit owner_started                        │
//!              └──────────────── state and log disagree ─────────────┴──▶ Exit::Refused
//! ```
//!
//! Before its first step a task may stand by (`standby`): its store follows what another owner commits.
//!
//! What a crash leaves behind, step by step (the store is always a prefix of the log):
//!
//! | crash after | log | store | recovery |
//! |---|---|---|---|
//! | decide | nothing | old | the intents are decided again: nobody saw the first time |
//! | submit | open transaction, or a backlog's committed one | old | the fence aborts it, decided again; or the gap is folded |
//! | commit sent, answer lost | committed or aborted | old | reading to the high watermark finds out which |
//! | submit, the next batch decided meanwhile | open transaction | old | as above; the next batch is decided again too |
//! | commit | committed | old | the gap is folded from the log, not decided again |
//! | store write | committed | new | nothing to do |

mod batch;
mod fold;
mod intents;
mod records;
mod recovery;
mod settings;
mod standby;

use std::collections::VecDeque;
use std::marker::PhantomData;
use std::time::Duration;

use model::{Processor, ReadFailed};
use schemas::units::Millis;

use crate::log::{Log, LogError};
use crate::overlay::Overlay;
use crate::status::PartitionState;
use crate::store::{Position, Store, StoreError};
use crate::worker::Worker;

use fold::Piece;
use intents::Waiting;
use records::Sealed;
pub use settings::{BACKLOG_MIN, Batching, TaskSettings};

/// Most bytes of one transaction.
const BATCH_BYTES_MAX: usize = 4 * 1_024 * 1_024;
/// Log time further than this ahead of the wall clock means that a clock is wrong: stall, do not lapse
/// every hold.
const CLOCK_AHEAD_MAX: Millis = Millis(60_000);
/// Ticks are at least this far apart …
const TICK_INTERVAL_MIN: Millis = Millis(100);
/// … and back off to this while nothing fires.
const TICK_INTERVAL_MAX: Millis = Millis(5_000);
/// Pause between recoveries that fail, doubled up to the greatest.
const RECOVERY_PAUSE_MIN: Millis = Millis(100);
const RECOVERY_PAUSE_MAX: Millis = Millis(5_000);

/// When to step again.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Wake {
    /// At once: there is more to do.
    Now,
    /// When intents arrive, or at this instant.
    OnIntents {
        /// When something is due by the wall clock.
        until: Option<Millis>,
    },
    /// At this instant: the partition waits for something that does not announce itself.
    At(Millis),
}

/// Why a partition stops.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Exit {
    /// Asked to.
    Stopped,
    /// Another owner has taken over.
    Fenced(String),
    /// State and log disagree: exit code 4.
    Refused(Refused),
    /// The store failed; a restart recovers from the log.
    StoreFailed(String),
}

/// State and log disagree. Going on could sell a unit twice, so an operator decides.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Refused {
    /// The store has seen decisions that the log does not have.
    #[error(
        "the store stands at decision offset {store}, the log ends at {log}: the log was truncated or \
         replaced. Restore the decisions topic, or move the store folder away to rebuild it from the log \
         you have"
    )]
    StoreAhead {
        /// Next decision offset of the store.
        store: i64,
        /// End of the log.
        log: i64,
    },
    /// A decision is missing.
    #[error(
        "decision at offset {offset} has seq {found}, {expected} is due: decisions are missing. Restore \
         the decisions topic from a replica; nothing was changed"
    )]
    SequenceGap {
        /// Its offset.
        offset: i64,
        /// What is due.
        expected: i64,
        /// What is there.
        found: i64,
    },
    /// A decision was changed, or follows another history.
    #[error(
        "decision at offset {offset} does not continue the chain: it was altered, or the store belongs \
         to another history. Run `livedrops audit`; if the log is sound, move the store folder away"
    )]
    BrokenChain {
        /// Its offset.
        offset: i64,
    },
    /// The store or the genesis record names another log.
    #[error(
        "the {what} belongs to log {found}, this is log {expected}: wrong brokers or wrong data folder? \
         Point it at its own log, or move the store folder away"
    )]
    OtherLog {
        /// `store` or `genesis record`.
        what: &'static str,
        /// Whose it is.
        found: String,
        /// Which log this is.
        expected: String,
    },
    /// Written by a build that this one does not understand.
    #[error("unknown format: {0}. Start the version that wrote it, or a newer one")]
    UnknownFormat(String),
    /// The next intent is not in the log.
    #[error(
        "the next intent is {next}, the log holds {start}..{end}: undecided intents are gone, or the \
         intents topic was replaced. Restore it; do not skip ahead, accepted orders would be lost"
    )]
    PositionOutsideIntents {
        /// Next intent to decide.
        next: i64,
        /// First retained intent.
        start: i64,
        /// End of the intents.
        end: i64,
    },
    /// The partition counts differ: orders would move to another partition's writer.
    #[error(
        "genesis says {genesis} partitions, the intents topic has {intents}, the decisions topic \
         {decisions}. The count is fixed for ever: undo the change"
    )]
    PartitionCount {
        /// From the genesis record, or the intents topic before it is written.
        genesis: u16,
        /// Of the intents topic.
        intents: u16,
        /// Of the decisions topic.
        decisions: u16,
    },
    /// The log lost records it promised to keep.
    #[error("{0}. Restore the topic; nothing was changed")]
    Truncated(String),
}

/// Why a step did not finish; the variant is what the task does next.
enum Stop {
    Recover(String),
    Unreachable(String),
    Exit(Exit),
}

impl From<LogError> for Stop {
    fn from(error: LogError) -> Self {
        match error {
            LogError::Fenced(why) => Self::Exit(Exit::Fenced(why)),
            LogError::Recover(why) => Self::Recover(why),
            LogError::Unreachable(why) => Self::Unreachable(why),
            LogError::Truncated(why) => Self::Exit(Exit::Refused(Refused::Truncated(why))),
        }
    }
}

impl From<StoreError> for Stop {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Failed(why) => Self::Exit(Exit::StoreFailed(why)),
            StoreError::UnknownFormat(why) => {
                Self::Exit(Exit::Refused(Refused::UnknownFormat(why)))
            }
        }
    }
}

impl From<ReadFailed> for Stop {
    fn from(ReadFailed(why): ReadFailed) -> Self {
        Self::Exit(Exit::StoreFailed(why))
    }
}

impl From<Refused> for Stop {
    fn from(refused: Refused) -> Self {
        Self::Exit(Exit::Refused(refused))
    }
}

enum Phase {
    Recovering {
        not_before: Millis,
        pause: Millis,
    },
    Running,
    /// Somebody else owns the partition; what is in memory was given to the store too.
    Standby {
        /// Up to here the decisions were looked at, the store may stand before: markers at the end have no record.
        looked_to: i64,
    },
}

impl Phase {
    /// Recovers at the next step.
    const START: Self = Self::Recovering { not_before: Millis(0), pause: RECOVERY_PAUSE_MIN };
}

/// A submitted transaction whose commit has not been awaited. Its rows are on their way in the overlay.
struct InFlight {
    decisions: u64,
    /// After its last decision; the offset is known with the commit.
    position: Position,
}

/// One outstanding tick at a time.
#[derive(Clone, Copy, Debug)]
struct Ticks {
    last: Option<Millis>,
    outstanding: bool,
    interval: Millis,
}

impl Ticks {
    const fn new() -> Self {
        Self { last: None, outstanding: false, interval: TICK_INTERVAL_MIN }
    }
}

/// The single writer of one partition.
pub struct PartitionTask<P: Processor, L, S> {
    log: L,
    overlay: Overlay<P::Row, S>,
    settings: TaskSettings,
    phase: Phase,
    position: Position,
    in_flight: Option<InFlight>,
    pending: VecDeque<Waiting<P::Command>>,
    /// Reads a backlog's next intents while the ones before are decided.
    reading: Worker<VecDeque<Waiting<P::Command>>>,
    /// Read decisions in recovery while the ones before are folded; the first is asked next.
    verifying: [Worker<Piece<P::Row>>; 2],
    /// Chains a backlog's records while the ones after are decided.
    sealing: Worker<Sealed>,
    is_drained: bool,
    ticks: Ticks,
    processor: PhantomData<P>,
}

impl<P: Processor, L, S> std::fmt::Debug for PartitionTask<P, L, S> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("PartitionTask")
            .field("processor", &P::TOPOLOGY.processor)
            .field("partition", &self.settings.partition)
            .field("position", &self.position)
            .finish_non_exhaustive()
    }
}

impl<P: Processor, L: Log, S: Store> PartitionTask<P, L, S> {
    /// A task that will recover at its first step.
    ///
    /// # Errors
    /// Where the store cannot be read at all.
    pub fn new(log: L, store: S, settings: TaskSettings) -> Result<Self, StoreError> {
        settings.status.update(|snapshot| snapshot.state = PartitionState::Recovering);
        Ok(Self {
            log,
            overlay: Overlay::open(store)?,
            phase: Phase::START,
            position: Position::start(String::new()),
            in_flight: None,
            pending: VecDeque::new(),
            reading: settings.batching.worker("intent-reader"),
            verifying: [(); 2].map(|()| settings.batching.worker("chain-verifier")),
            sealing: settings.batching.worker("chain-sealer"),
            is_drained: false,
            ticks: Ticks::new(),
            processor: PhantomData,
            settings,
        })
    }

    /// The store, for reading.
    pub fn store(&self) -> &S {
        &self.overlay.store
    }

    /// Where the task stands.
    pub fn position(&self) -> &Position {
        &self.position
    }

    /// Sleeps until intents arrive or `timeout` has passed; see [`Wake::OnIntents`].
    pub fn wait_for_intents(&mut self, timeout: Duration) {
        self.log.wait_for_intents(timeout);
    }

    /// Does the next piece of work: one recovery, or one transaction.
    ///
    /// # Errors
    /// [`Exit`]: this task is over.
    pub fn step(&mut self, now: Millis) -> Result<Wake, Exit> {
        self.attempt(now, |task| match task.phase {
            Phase::Recovering { .. } | Phase::Standby { .. } => {
                task.recover(now).map(|()| Wake::Now)
            }
            Phase::Running => task.decide_next(now),
        })
    }

    /// Does `work`, unless the pause after a failure is not over yet. A failure begins a pause, each longer than the last.
    fn attempt(
        &mut self,
        now: Millis,
        work: impl FnOnce(&mut Self) -> Result<Wake, Stop>,
    ) -> Result<Wake, Exit> {
        let pause = match self.phase {
            Phase::Recovering { not_before, .. } if not_before.is_soon(now, RECOVERY_PAUSE_MAX) => {
                return Ok(Wake::At(not_before));
            }
            Phase::Recovering { pause, .. } => pause,
            Phase::Running | Phase::Standby { .. } => RECOVERY_PAUSE_MIN,
        };
        work(self).or_else(|stop| self.stopped(stop, pause, now))
    }

    /// Awaits the transaction in flight: the last step of a task that is asked to stop. Without it the next owner's
    /// fence might abort the transaction, and its intents would be decided again.
    ///
    /// # Errors
    /// [`Exit`]: this task is over.
    pub fn settle(&mut self, now: Millis) -> Result<(), Exit> {
        match self.finish() {
            Ok(()) => Ok(()),
            Err(stop) => self.stopped(stop, RECOVERY_PAUSE_MIN, now).map(|_| ()),
        }
    }

    /// The reaction to a step that did not finish.
    fn stopped(&mut self, stop: Stop, pause: Millis, now: Millis) -> Result<Wake, Exit> {
        let (why, unreachable) = match stop {
            Stop::Exit(exit) => {
                self.report_exit(&exit);
                return Err(exit);
            }
            Stop::Recover(why) => (why, false),
            Stop::Unreachable(why) => (why, true),
        };
        tracing::warn!(processor = P::TOPOLOGY.processor, partition = %self.settings.partition, why, "recovering");
        let state =
            if unreachable { PartitionState::Stalled(why) } else { PartitionState::Recovering };
        self.settings.status.update(|snapshot| snapshot.state = state);
        let doubled = Millis((pause.0 * 2).min(RECOVERY_PAUSE_MAX.0));
        self.phase = Phase::Recovering { not_before: now.after(pause), pause: doubled };
        Ok(Wake::At(now.after(pause)))
    }

    fn report_exit(&self, exit: &Exit) {
        let state = match exit {
            Exit::Refused(refused) => PartitionState::Refused(refused.to_string()),
            Exit::StoreFailed(why) => PartitionState::Stalled(why.clone()),
            Exit::Stopped | Exit::Fenced(_) => PartitionState::Stopped,
        };
        tracing::error!(processor = P::TOPOLOGY.processor, partition = %self.settings.partition, ?state, "stopped");
        self.settings.status.update(|snapshot| snapshot.state = state);
    }
}
