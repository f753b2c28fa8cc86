//! Follow and unfollow: idempotent in log order.

use model::{Decided, ReadFailed, Rows, Stamp};
use schemas::decision::Outcome;
use schemas::follow::{CreatorRow, FollowBody, FollowChange, FollowRow};
use schemas::units::Units;

use crate::command::Command;
use crate::rows::{StateRow, creator_key, follow_key};

/// Decides one command.
pub(crate) fn decide(
    rows: &dyn Rows<StateRow>,
    command: Command,
    stamp: Stamp,
) -> Result<Decided<FollowBody>, ReadFailed> {
    match command {
        Command::Tick => Ok(Decided { outcome: Outcome::Changed, body: None }),
        Command::Set(change, following) => set(rows, change, following, stamp),
    }
}

/// A repeated follow or unfollow changes neither the counter nor `since`.
fn set(
    rows: &dyn Rows<StateRow>,
    FollowChange { creator_id, user_id }: FollowChange,
    following: bool,
    stamp: Stamp,
) -> Result<Decided<FollowBody>, ReadFailed> {
    let known = rows.get(&follow_key(creator_id, user_id))?;
    let was_following = matches!(known, Some(StateRow::Follow(row)) if row.following);
    if was_following == following {
        return Ok(Decided { outcome: Outcome::Replayed, body: None });
    }
    let followers = match rows.get(&creator_key(creator_id))? {
        Some(StateRow::Creator(row)) => row.followers,
        _ => Units(0),
    };
    let followers =
        if following { followers.checked_add(Units(1)) } else { followers.checked_sub(Units(1)) };
    let followers = followers.expect("a creator's counter is the number of rows that follow");
    let body = FollowBody {
        follows: vec![FollowRow { creator_id, user_id, following, since: stamp.log_time }],
        creators: vec![CreatorRow { creator_id, followers }],
    };
    Ok(Decided { outcome: Outcome::Changed, body: Some(body) })
}
