//! The follow topics: an unbroken chain, and counters that are the size of the sets they count.

use std::collections::BTreeMap;

use schemas::follow::{CreatorRow, FollowBody, FollowRow};
use schemas::ids::{CreatorId, UserId};
use schemas::units::Units;

use crate::{Finding, LoggedDecision, chain};

/// What an audit of one partition of the follow decisions found.
#[derive(Clone, PartialEq, Debug)]
pub struct Report {
    /// Everything that is wrong; empty is proof.
    pub findings: Vec<Finding>,
    /// Who follows whom, or did.
    pub follows: BTreeMap<(CreatorId, UserId), FollowRow>,
    /// Counters.
    pub creators: BTreeMap<CreatorId, CreatorRow>,
}

impl Report {
    /// Pairs of which one follows the other now.
    #[must_use]
    pub fn pairs(&self) -> usize {
        self.follows.values().filter(|row| row.following).count()
    }
}

/// Audits one partition of the follow decisions from its first record.
#[must_use]
pub fn audit(decisions: &[LoggedDecision<FollowBody>]) -> Report {
    let mut findings = Vec::new();
    chain::check(decisions, &mut findings);
    let (mut follows, mut creators) = (BTreeMap::new(), BTreeMap::new());
    let mut sizes: BTreeMap<CreatorId, i64> = BTreeMap::new();
    for logged in decisions {
        let Some(body) = &logged.decision.body else { continue };
        let mut found = |what: String| {
            findings.push(Finding { checker: "follows", offset: logged.offset, what });
        };
        for row in &body.follows {
            let before = follows.insert((row.creator_id, row.user_id), *row);
            if before.is_some_and(|before| before.following) == row.following {
                found(format!("a follow that changes nothing was decided as a change: {row:?}"));
            } else {
                *sizes.entry(row.creator_id).or_default() += if row.following { 1 } else { -1 };
            }
        }
        for row in &body.creators {
            creators.insert(row.creator_id, *row);
            let size = sizes.get(&row.creator_id).copied().unwrap_or(0);
            if row.followers != Units(size) {
                found(format!("{row:?}, but {size} follow"));
            }
        }
    }
    Report { findings, follows, creators }
}

#[cfg(test)]
mod tests {
    use schemas::decision::{Decision, DecisionHeader, Outcome};
    use schemas::units::Millis;

    use super::*;

    const CREATOR: CreatorId = CreatorId([1; 16]);

    fn decided(
        offset: i64,
        user: u8,
        following: bool,
        followers: i64,
    ) -> LoggedDecision<FollowBody> {
        let since = Millis(offset);
        let follow =
            FollowRow { creator_id: CREATOR, user_id: UserId([user; 16]), following, since };
        let counter = CreatorRow { creator_id: CREATOR, followers: Units(followers) };
        let header = DecisionHeader {
            seq: offset,
            epoch: 1,
            intent_offset: Some(offset),
            next_intent_offset: offset + 1,
            intent_id: None,
            correlation_id: None,
            log_time: since,
            decided_at: since,
            logic_version: 1,
        };
        let body = FollowBody { follows: vec![follow], creators: vec![counter] };
        let decision = Decision::unsealed(header, Outcome::Changed, Some(body));
        LoggedDecision { offset, value: Vec::new(), decision }
    }

    #[test]
    fn a_counter_that_is_not_the_size_of_its_set_and_a_change_that_changes_nothing_are_found() {
        let sound = [decided(0, 1, true, 1), decided(1, 2, true, 2), decided(2, 1, false, 1)];
        let cases = [
            ("sound", None, vec![]),
            ("a follower too many", Some(decided(3, 3, true, 3)), vec![3]),
            ("followed twice", Some(decided(3, 2, true, 1)), vec![3]),
            ("never followed", Some(decided(3, 4, false, 1)), vec![3]),
            ("counted although nothing changed", Some(decided(3, 2, true, 2)), vec![3, 3]),
        ];
        for (what, last, expected) in cases {
            let report = audit(&sound.iter().cloned().chain(last).collect::<Vec<_>>());
            let of_follows = report.findings.iter().filter(|finding| finding.checker == "follows");
            let found: Vec<_> = of_follows.map(|finding| finding.offset).collect();
            assert_eq!(found, expected, "{what}: {:?}", report.findings);
        }
        assert_eq!(audit(&sound).pairs(), 1);
    }
}
