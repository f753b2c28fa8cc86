//! Records of the follow topics, field for field as in `schemas/avro/follow_*.avsc`.

use serde::{Deserialize, Serialize};

use crate::avro::words;
use crate::ids::{CreatorId, IntentId, UserId};
use crate::units::{Millis, Units};

/// What a follow intent asks for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FollowIntentKind {
    /// Start following.
    Follow,
    /// Stop following.
    Unfollow,
    /// The owner moves log time on.
    Tick,
}

words!(FollowIntentKind {
    Follow = "follow",
    Unfollow = "unfollow",
    Tick = "tick",
});

/// Whom it is about.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct FollowChange {
    /// The creator.
    pub creator_id: CreatorId,
    /// The follower.
    pub user_id: UserId,
}

/// A command for one creator's follower set.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct FollowIntent {
    /// Random id, echoed by the decision.
    pub intent_id: IntentId,
    /// Request id of the call behind it.
    pub correlation_id: Option<String>,
    /// Names the one group that is filled.
    pub kind: FollowIntentKind,
    /// Who asks; null for a tick.
    pub actor: Option<UserId>,
    /// The appender's clock; informational.
    pub sent_at: Millis,
    /// For follow and unfollow.
    pub follow_change: Option<FollowChange>,
}

/// Whether a user follows a creator.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct FollowRow {
    /// The creator.
    pub creator_id: CreatorId,
    /// The follower.
    pub user_id: UserId,
    /// False after an unfollow.
    pub following: bool,
    /// Append time of the last change.
    pub since: Millis,
}

/// Counters of one creator.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct CreatorRow {
    /// The creator.
    pub creator_id: CreatorId,
    /// Users who follow now.
    pub followers: Units,
}

/// Post-images of a follow decision.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct FollowBody {
    /// Follow rows to put.
    pub follows: Vec<FollowRow>,
    /// Creator rows to put.
    pub creators: Vec<CreatorRow>,
}
