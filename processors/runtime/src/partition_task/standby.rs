//! A standby: a store that follows a partition which another process owns, so that a takeover has little left to fold.
//!
//! It folds what is committed, in log order, with the code that recovery folds with, and fences nobody: whatever the
//! owner does, the store stays a prefix of the log. That is all it has to be when [`PartitionTask::step`] makes an owner
//! of it. The idea is that of Kafka Streams' standby tasks.

use model::Processor;
use schemas::units::Millis;

use super::{Exit, PartitionTask, Phase, Stop, Wake};
use crate::log::Log;
use crate::status::PartitionState;
use crate::store::Store;

/// Offsets of one step: a standby that becomes the owner finishes its step first.
const STEP_OFFSETS_MAX: i64 = 20_000;
/// Between two looks at a log that has nothing new.
const PAUSE: Millis = Millis(500);

impl<P: Processor, L: Log, S: Store> PartitionTask<P, L, S> {
    /// Folds the next committed decisions of the partition's owner.
    ///
    /// # Errors
    /// [`Exit`]: this task is over.
    pub fn stand_by(&mut self, now: Millis) -> Result<Wake, Exit> {
        self.attempt(now, |task| {
            let has_more = task.follow()?;
            Ok(if has_more { Wake::Now } else { Wake::At(now.after(PAUSE)) })
        })
    }

    /// Returns whether there is more to fold.
    fn follow(&mut self) -> Result<bool, Stop> {
        let log_id = self.log.log_id()?;
        let looked_to = match self.phase {
            Phase::Standby { looked_to } => looked_to,
            Phase::Recovering { .. } | Phase::Running => {
                self.stop_working();
                self.return_to_store(&log_id)?;
                self.position.next_decision_offset
            }
        };
        self.phase = Phase::Standby { looked_to };
        let committed = self.log.committed_range()?;
        let end = committed.end.min(looked_to + STEP_OFFSETS_MAX);
        if looked_to < end {
            self.fold_gap(&log_id, committed.start..end)?;
            // A read may go past the step, and by more than another step.
            let looked_to = end.max(self.position.next_decision_offset);
            self.phase = Phase::Standby { looked_to };
        }
        let (seq, next_intent_offset) = (self.position.seq, self.position.next_intent_offset);
        self.settings.status.update(|snapshot| {
            snapshot.state = PartitionState::Standby;
            (snapshot.seq, snapshot.next_intent_offset) = (seq, next_intent_offset);
        });
        Ok(end < committed.end)
    }
}
