//! What may be asked, parsed from the wire record.

use schemas::follow::{FollowChange, FollowIntent, FollowIntentKind};

/// A command for one creator's follower set.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Command {
    /// Follow (true) or unfollow (false).
    Set(FollowChange, bool),
    /// Log time moves on.
    Tick,
}

impl TryFrom<FollowIntent> for Command {
    type Error = &'static str;

    fn try_from(intent: FollowIntent) -> Result<Self, &'static str> {
        let following = match intent.kind {
            FollowIntentKind::Tick => return Ok(Self::Tick),
            FollowIntentKind::Follow => true,
            FollowIntentKind::Unfollow => false,
        };
        let change = intent.follow_change.ok_or("the kind needs `follow_change`, which is null")?;
        if intent.actor != Some(change.user_id) {
            return Err("`actor` is not the follower: nobody follows in another's name");
        }
        Ok(Self::Set(change, following))
    }
}
