use schemas::partition::Partition;
use schemas::units::Millis;

/// Where and when a decision is made: all a rule may know of the world.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Stamp {
    /// The partition.
    pub partition: Partition,
    /// Sequence number of the decision to make.
    pub seq: i64,
    /// Logic version that the partition is activated for: nothing newer may be written.
    pub logic_version: i32,
    /// Offset of the intent; of the intent about to be decided where a timer fires before it.
    pub offset: i64,
    /// Greatest append time seen in the partition. Deadlines are judged by it.
    pub log_time: Millis,
    /// The owner's wall clock, never before `log_time`. New deadlines count from it, so that a buyer whose
    /// order waited in a backlog still gets the whole hold.
    pub decided_at: Millis,
}
