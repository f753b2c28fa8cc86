//! The follow topics: an unbroken chain, and counters that are the size of the sets they count.

use std::collections::{BTreeMap, BTreeSet};

use schemas::follow::FollowBody;
use schemas::ids::{Chain, CreatorId, UserId};

use crate::{Finding, LoggedDecision, chain};

/// Who follows whom after the last decision.
pub type FollowerSets = BTreeMap<CreatorId, BTreeSet<UserId>>;

/// Audits one partition of the follow decisions from its first record.
#[must_use]
pub fn audit(decisions: &[LoggedDecision<FollowBody>]) -> (FollowerSets, Chain, Vec<Finding>) {
    let mut findings = Vec::new();
    let link = chain::check(decisions, &mut findings);
    let mut sets = FollowerSets::new();
    for logged in decisions {
        let Some(body) = &logged.decision.body else { continue };
        let mut found = |what: String| {
            findings.push(Finding { checker: "follows", offset: logged.offset, what });
        };
        for row in &body.follows {
            let set = sets.entry(row.creator_id).or_default();
            let changed =
                if row.following { set.insert(row.user_id) } else { set.remove(&row.user_id) };
            if !changed {
                found(format!("a follow that changes nothing was decided as a change: {row:?}"));
            }
        }
        for row in &body.creators {
            let size = sets.get(&row.creator_id).map_or(0, BTreeSet::len);
            if usize::try_from(row.followers.0) != Ok(size) {
                found(format!("{row:?}, but {size} follow"));
            }
        }
    }
    (sets, link, findings)
}
