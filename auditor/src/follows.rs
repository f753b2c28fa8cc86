//! The follow topics: an unbroken chain, one answer per intent, which is what a set would do, and counters that are the size
//! of the sets they count.

use std::collections::BTreeMap;

use schemas::decision::Outcome;
use schemas::follow::{CreatorRow, FollowBody, FollowIntent, FollowIntentKind, FollowRow};
use schemas::ids::{CreatorId, UserId};
use schemas::units::Units;

use crate::rules::may_be_given_up;
use crate::{Finding, LoggedDecision, LoggedIntent, answers, chain, decided, intent_of, undecided};

/// What an audit of one partition of the follow decisions found.
#[derive(Clone, PartialEq, Debug)]
pub struct Report {
    /// Everything that is wrong; empty is proof.
    pub findings: Vec<Finding>,
    /// Who follows whom, or did.
    pub follows: Follows,
    /// Counters.
    pub creators: BTreeMap<CreatorId, CreatorRow>,
    /// Intents without a decision yet.
    pub undecided: i64,
    /// Records with an intent offset.
    pub decided: i64,
}

type Follows = BTreeMap<(CreatorId, UserId), FollowRow>;

impl Report {
    /// Pairs of which one follows the other now.
    #[must_use]
    pub fn pairs(&self) -> usize {
        self.follows.values().filter(|row| row.following).count()
    }
}

/// Audits one partition of the follow topics from the log's first decision.
#[must_use]
pub fn audit(
    intents: &[LoggedIntent<FollowIntent>],
    decisions: &[LoggedDecision<FollowBody>],
) -> Report {
    let mut findings = Vec::new();
    chain::check(decisions, &mut findings);
    answers::check(intents, |intent| intent.intent_id, decisions, &mut findings);
    let (mut follows, mut creators) = (Follows::new(), BTreeMap::new());
    let mut sizes: BTreeMap<CreatorId, i64> = BTreeMap::new();
    for logged in decisions {
        let mut found = |what: String| {
            findings.push(Finding { checker: "follows", offset: logged.offset, what });
        };
        let asked = intent_of(logged, intents).filter(|_| !may_be_given_up(logged));
        if let Some(LoggedIntent { intent, .. }) = asked {
            let due = match intent {
                Some(intent) => due(&follows, intent, logged),
                None => (Outcome::Undecodable, Vec::new()),
            };
            let rows = logged.decision.body.as_ref().map_or(&[][..], |body| &body.follows);
            if (logged.decision.outcome, rows) != (due.0, due.1.as_slice()) {
                let outcome = logged.decision.outcome.as_str();
                found(format!("{intent:?} was answered {outcome} with {rows:?}, due is {due:?}"));
            }
        }
        let Some(body) = &logged.decision.body else { continue };
        if logged.decision.header.intent_offset.is_none() && *body != FollowBody::default() {
            found("follows change although nobody asked for it".into());
        }
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
    let (undecided, decided) = (undecided(intents, decisions), decided(decisions));
    Report { findings, follows, creators, undecided, decided }
}

/// What an intent must be answered with, and the rows that it changes.
fn due(
    follows: &Follows,
    intent: &FollowIntent,
    logged: &LoggedDecision<FollowBody>,
) -> (Outcome, Vec<FollowRow>) {
    let following = match intent.kind {
        FollowIntentKind::Tick => return (Outcome::Changed, Vec::new()),
        FollowIntentKind::Follow => true,
        FollowIntentKind::Unfollow => false,
    };
    let own = intent.follow_change.filter(|change| intent.actor == Some(change.user_id));
    let Some(change) = own else { return (Outcome::Undecodable, Vec::new()) };
    let (creator_id, user_id) = (change.creator_id, change.user_id);
    let before = follows.get(&(creator_id, user_id)).is_some_and(|row| row.following);
    if before == following {
        return (Outcome::Replayed, Vec::new());
    }
    let since = logged.decision.header.log_time;
    (Outcome::Changed, vec![FollowRow { creator_id, user_id, following, since }])
}

#[cfg(test)]
mod tests {
    use schemas::decision::{Decision, DecisionHeader, Undecodable};
    use schemas::follow::FollowChange;
    use schemas::ids::IntentId;
    use schemas::units::Millis;

    use super::*;

    const CREATOR: CreatorId = CreatorId([1; 16]);

    fn answered(
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
            intent_id: Some(IntentId([user; 16])),
            correlation_id: None,
            log_time: since,
            decided_at: since,
            logic_version: 1,
        };
        let body = FollowBody { follows: vec![follow], creators: vec![counter] };
        let decision = Decision::unsealed(header, Outcome::Changed, Some(body));
        LoggedDecision { offset, value: Vec::new(), decision }
    }

    /// The intent that [`answered`] answers.
    fn asked(offset: i64, user: u8, kind: FollowIntentKind) -> LoggedIntent<FollowIntent> {
        let user_id = UserId([user; 16]);
        let intent = FollowIntent {
            intent_id: IntentId([user; 16]),
            correlation_id: None,
            kind,
            actor: Some(user_id),
            sent_at: Millis(0),
            follow_change: Some(FollowChange { creator_id: CREATOR, user_id }),
        };
        LoggedIntent { offset, append_time: Millis(offset), intent: Some(intent) }
    }

    fn of_checker(report: &Report, checker: &str) -> Vec<i64> {
        let found = report.findings.iter().filter(|finding| finding.checker == checker);
        found.map(|finding| finding.offset).collect()
    }

    #[test]
    fn a_counter_that_is_not_the_size_of_its_set_and_a_change_that_changes_nothing_are_found() {
        let sound = [answered(0, 1, true, 1), answered(1, 2, true, 2), answered(2, 1, false, 1)];
        let cases = [
            ("sound", None, vec![]),
            ("a follower too many", Some(answered(3, 3, true, 3)), vec![3]),
            ("followed twice", Some(answered(3, 2, true, 1)), vec![3]),
            ("never followed", Some(answered(3, 4, false, 1)), vec![3]),
            ("counted although nothing changed", Some(answered(3, 2, true, 2)), vec![3, 3]),
        ];
        for (what, last, expected) in cases {
            let report = audit(&[], &sound.iter().cloned().chain(last).collect::<Vec<_>>());
            assert_eq!(of_checker(&report, "follows"), expected, "{what}: {:?}", report.findings);
        }
        assert_eq!(audit(&[], &sound).pairs(), 1);
    }

    #[test]
    fn an_intent_without_its_one_answer_is_found() {
        use FollowIntentKind::{Follow, Unfollow};
        let sound = || [answered(0, 1, true, 1), answered(1, 2, true, 2)].to_vec();
        let both = || vec![asked(0, 1, Follow), asked(1, 2, Follow)];
        let first_skipped = vec![answered(1, 2, true, 1)];
        let of_another = vec![answered(0, 1, true, 1), answered(1, 3, true, 2)];
        let given_up = |error: &str| {
            let mut decisions = sound();
            let decision = &mut decisions[1].decision;
            (decision.outcome, decision.body) = (Outcome::Undecodable, None);
            let undecodable = Undecodable { error: error.into(), length: 9 };
            decision.undecodable = Some(Box::new(undecodable));
            decisions
        };
        let mut unreadable = both();
        unreadable[1].intent = None;
        let nobody_asked = {
            let mut decisions = sound();
            decisions[1].decision.header.intent_offset = None;
            decisions
        };
        let cases = [
            ("sound", both(), sound(), (vec![], vec![], 0)),
            ("the last one waits", both(), sound()[..1].to_vec(), (vec![], vec![], 1)),
            ("skipped", both(), first_skipped, (vec![0], vec![], 0)),
            (
                "decided twice",
                both(),
                vec![answered(0, 1, true, 1), answered(0, 2, true, 2)],
                (vec![0], vec![0], 1),
            ),
            ("another pair", both(), of_another, (vec![1], vec![1], 0)),
            (
                "the other way",
                vec![asked(0, 1, Follow), asked(1, 2, Unfollow)],
                sound(),
                (vec![], vec![1], 0),
            ),
            ("given up", both(), given_up("deciding it panicked: no"), (vec![], vec![], 0)),
            ("given up without a reason", both(), given_up("no"), (vec![], vec![1], 0)),
            ("unreadable, and decided", unreadable, sound(), (vec![], vec![1], 0)),
            ("nobody asked", both(), nobody_asked, (vec![], vec![1], 0)),
        ];
        for (what, intents, decisions, (answers, follows, undecided)) in cases {
            let report = audit(&intents, &decisions);
            let found =
                (of_checker(&report, "answers"), of_checker(&report, "follows"), report.undecided);
            assert_eq!(found, (answers, follows, undecided), "{what}: {:?}", report.findings);
        }
    }
}
