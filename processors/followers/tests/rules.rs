//! The follow rules: idempotent in log order, and the counter is the size of the set.

#![allow(missing_docs, clippy::unwrap_used, reason = "tests")]

use std::collections::{BTreeMap, BTreeSet};

use followers::Followers;
use followers::command::Command;
use followers::rows::StateRow;
use model::{MapRows, Processor, Rows, Stamp};
use proptest::prelude::*;
use schemas::avro::FOLLOW_INTENT;
use schemas::decision::Outcome;
use schemas::follow::{FollowChange, FollowIntent, FollowIntentKind};
use schemas::ids::{CreatorId, IntentId, UserId};
use schemas::partition::Partition;
use schemas::units::Millis;

#[derive(Default)]
struct World(MapRows<StateRow>);

impl World {
    fn send(&mut self, creator: u8, user: u8, following: bool, at: i64) -> Outcome {
        let change =
            FollowChange { creator_id: CreatorId([creator; 16]), user_id: UserId([user; 16]) };
        let stamp = Stamp {
            partition: Partition(0),
            seq: 0,
            logic_version: 1,
            offset: 0,
            log_time: Millis(at),
            decided_at: Millis(at),
        };
        let decided = Followers::decide(&self.0, &Command::Set(change, following), stamp).unwrap();
        let changes = decided.body.map(Followers::changes).into_iter().flatten();
        changes.for_each(|change| self.0.apply(change));
        decided.outcome
    }

    fn followers(&self, creator: u8) -> i64 {
        let key = followers::rows::creator_key(CreatorId([creator; 16]));
        match self.0.get(&key).unwrap() {
            Some(StateRow::Creator(row)) => row.followers.0,
            _ => 0,
        }
    }
}

#[test]
fn a_repeated_follow_changes_nothing_and_keeps_its_date() {
    let mut world = World::default();
    assert_eq!(world.send(1, 1, true, 10), Outcome::Changed);
    assert_eq!(world.send(1, 1, true, 20), Outcome::Replayed);
    let key = followers::rows::follow_key(CreatorId([1; 16]), UserId([1; 16]));
    let row = world.0.get(&key).unwrap().unwrap();
    assert!(matches!(row, StateRow::Follow(row) if row.since == Millis(10)));
    assert_eq!(
        world.send(1, 2, false, 30),
        Outcome::Replayed,
        "unfollowing what was never followed"
    );
    assert_eq!(world.send(1, 1, false, 40), Outcome::Changed);
    assert_eq!(world.followers(1), 0);
}

#[test]
fn nobody_follows_in_anothers_name() {
    let change = FollowChange { creator_id: CreatorId([1; 16]), user_id: UserId([2; 16]) };
    let intent = FollowIntent {
        intent_id: IntentId([1; 16]),
        correlation_id: None,
        kind: FollowIntentKind::Follow,
        actor: Some(UserId([3; 16])),
        sent_at: Millis(0),
        follow_change: Some(change),
    };
    let mut datum = Vec::new();
    FOLLOW_INTENT.encode(&intent, &mut datum);
    let error = Followers::read(&FOLLOW_INTENT, &datum).unwrap_err();
    assert!(error.why.contains("actor"), "{}", error.why);
    assert_eq!(error.intent_id, Some(intent.intent_id));
}

proptest! {
    #[test]
    fn the_counter_is_the_size_of_the_set(
        acts in prop::collection::vec((0..3_u8, 0..5_u8, any::<bool>()), 0..80),
    ) {
        let mut world = World::default();
        let mut sets: BTreeMap<u8, BTreeSet<u8>> = BTreeMap::new();
        for (at, (creator, user, following)) in acts.into_iter().enumerate() {
            let set = sets.entry(creator).or_default();
            let changes = if following { set.insert(user) } else { set.remove(&user) };
            let outcome = world.send(creator, user, following, i64::try_from(at).unwrap());
            prop_assert_eq!(outcome == Outcome::Changed, changes);
            prop_assert_eq!(world.followers(creator), i64::try_from(set.len()).unwrap());
        }
    }
}
