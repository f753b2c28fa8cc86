//! What the processor reads, writes and keeps.

use model::Topology;
use schemas::topics::{FOLLOW_DECISIONS, FOLLOW_INTENTS};

/// Table tags. A tag once released is never given to another table.
pub mod tag {
    /// Follow rows by creator id and user id.
    pub const FOLLOW: u8 = 1;
    /// Counters by creator id.
    pub const CREATOR: u8 = 2;
}

/// `follow-intents[p] → follow-decisions[p]`.
pub const TOPOLOGY: Topology = Topology {
    processor: "followers",
    intents: FOLLOW_INTENTS,
    decisions: FOLLOW_DECISIONS,
    tables: &[
        (
            tag::FOLLOW,
            "follow",
            "creator_id, user_id",
            "whether a user follows a creator, since when",
        ),
        (tag::CREATOR, "creator", "creator_id", "how many follow now"),
    ],
};
