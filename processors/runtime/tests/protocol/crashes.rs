//! Crashes, lost answers, zombies: decided once, store equal to the log.

use reservations::Reservations;
use runtime::{Batching, Exit, MemoryStore, PartitionState, Refused, Store, Wake, state_hash};
use schemas::decision::Outcome;
use schemas::order::{OrderIntent, OrderStatus};
use schemas::units::{Millis, Units};

use crate::memory_log::CommitFault;
use crate::rig::*;

fn confirmed(fold: &auditor::Fold) -> usize {
    fold.orders.values().filter(|order| order.status == OrderStatus::Confirmed).count()
}

#[test]
fn every_intent_is_decided_once_and_the_store_equals_the_log() {
    let rig = Rig::with_drop(3);
    (1..=5).for_each(|buyer| rig.append(START, &place(buyer)));
    let mut task = rig.task::<Reservations>(MemoryStore::default());
    rig.run(&mut task).unwrap();
    let fold = rig.assert_sound();
    assert_eq!((confirmed(&fold), fold.orders.len()), (3, 5));

    let mut rebuilt = rig.task::<Reservations>(MemoryStore::default());
    rig.run(&mut rebuilt).unwrap();
    assert_eq!(state_hash(task.store()).unwrap(), state_hash(rebuilt.store()).unwrap());
    assert_eq!(rebuilt.position().epoch, task.position().epoch + 1);
    rig.assert_sound();
}

#[test]
fn a_commit_whose_request_or_answer_is_lost_is_decided_once() {
    let faults = [CommitFault::LostRequest, CommitFault::LostAnswer];
    for (fault, batching) in faults.into_iter().flat_map(|fault| BATCHINGS.map(|it| (fault, it))) {
        let rig = Rig { batching, ..Rig::with_drop(1) };
        let mut task = rig.task::<Reservations>(MemoryStore::default());
        rig.run(&mut task).unwrap();
        (1..=3).for_each(|buyer| rig.append(START, &place(buyer)));
        rig.broker.lock().fault = Some(fault);
        rig.run(&mut task).unwrap();
        let fold = rig.assert_sound();
        assert_eq!((confirmed(&fold), fold.orders.len()), (1, 3), "{fault:?}");
        let owners =
            rig.outcomes().iter().filter(|outcome| **outcome == Outcome::OwnerStarted).count();
        assert_eq!(owners, 2, "{fault:?} is mended by a recovery");
    }
}

#[test]
fn a_store_that_missed_its_last_writes_folds_the_gap() {
    let rig = Rig::with_drop(2);
    let mut task = rig.task::<Reservations>(MemoryStore::default());
    rig.run(&mut task).unwrap();
    let old_store = task.store().clone();
    (1..=4).for_each(|buyer| rig.append(START, &place(buyer)));
    rig.run(&mut task).unwrap();
    let hash = state_hash(task.store()).unwrap();
    let decided = rig.decisions().len();

    let mut restarted = rig.task::<Reservations>(old_store);
    rig.run(&mut restarted).unwrap();
    assert_eq!(state_hash(restarted.store()).unwrap(), hash);
    assert_eq!(
        rig.decisions().len(),
        decided + 1,
        "only owner_started is new: nothing is decided again"
    );
    rig.assert_sound();
}

#[test]
fn a_zombie_is_fenced_and_stops() {
    let rig = Rig::with_drop(1);
    let mut zombie = rig.task::<Reservations>(MemoryStore::default());
    rig.run(&mut zombie).unwrap();
    let mut successor = rig.task::<Reservations>(MemoryStore::default());
    rig.run(&mut successor).unwrap();
    (1..=3).for_each(|buyer| rig.append(START, &place(buyer)));
    assert!(matches!(rig.run(&mut zombie), Err(Exit::Fenced(_))));
    rig.run(&mut successor).unwrap();
    let fold = rig.assert_sound();
    assert_eq!(confirmed(&fold), 1);
}

#[test]
fn a_broker_that_is_away_loses_nothing() {
    let mut rig = Rig::with_drop(1);
    let mut task = rig.task::<Reservations>(MemoryStore::default());
    rig.run(&mut task).unwrap();
    rig.append(START, &place(1));
    rig.broker.lock().unreachable = true;
    task.step(rig.now).unwrap();
    assert!(matches!(rig.status.snapshot().state, PartitionState::Stalled(_)));
    rig.broker.lock().unreachable = false;
    rig.now = Millis(rig.now.0 + 10_000);
    task.step(rig.now).unwrap();
    rig.run(&mut task).unwrap();
    assert_eq!(rig.status.snapshot().state, PartitionState::Running);
    assert_eq!(confirmed(&rig.assert_sound()), 1);
}

#[test]
fn a_clock_that_is_set_back_makes_nobody_wait() {
    let rig = Rig::with_drop(1);
    let mut task = rig.task::<Reservations>(MemoryStore::default());
    rig.run(&mut task).unwrap();
    rig.append(START, &place(1));
    rig.broker.lock().unreachable = true;
    task.step(rig.now.after(Millis(3_600_000))).unwrap();
    assert!(matches!(rig.status.snapshot().state, PartitionState::Stalled(_)));
    rig.broker.lock().unreachable = false;
    assert!(!matches!(task.step(rig.now).unwrap(), Wake::At(_)), "an hour before the pause ends");
    rig.run(&mut task).unwrap();
    assert_eq!(confirmed(&rig.assert_sound()), 1);
}

/// More orders than a transaction takes.
fn with_backlog() -> Rig {
    let batching = Batching { backlog_min: 1_000, threads: true, ..BATCHINGS[0] };
    let rig = Rig { batching, ..Rig::with_drop(10) };
    (0..20_000).for_each(|number| rig.append(START, &backlog_order(number)));
    rig
}

fn backlog_order(number: u32) -> OrderIntent {
    let mut intent = place(1);
    let order = intent.place.as_mut().unwrap();
    let user = schemas::ids::UserId(
        [[0; 12].as_slice(), &number.to_be_bytes()].concat().try_into().unwrap(),
    );
    order.order_id = schemas::ids::OrderId::derive(DROP, user, "key");
    intent.actor = Some(user);
    intent
}

#[test]
fn a_backlog_larger_than_a_transaction_is_decided_in_order() {
    let rig = with_backlog();
    let mut task = rig.task::<Reservations>(MemoryStore::default());
    rig.run(&mut task).unwrap();
    assert!(rig.status.snapshot().transactions >= 2);
    let fold = rig.assert_sound();
    assert_eq!(confirmed(&fold), 10);
    let won: Vec<_> =
        fold.orders.values().filter(|order| order.status == OrderStatus::Confirmed).collect();
    assert!(won.iter().all(|order| order.intent_offset <= 10), "the first ten in log order win");
    assert_eq!(fold.stocks[&(DROP, DROP.plain_variant())].sold, Units(10));
    assert_eq!(task.store().position().unwrap().unwrap().seq, task.position().seq);
}

/// In the echo of the intent's id, which may be any sixteen bytes, of a decision with a seq of five digits.
const IN_INTENT_ID: usize = 25;

#[test]
fn a_long_gap_is_folded_as_a_short_one_and_refused_where_it_breaks() {
    let rig = with_backlog();
    let mut task = rig.task::<Reservations>(MemoryStore::default());
    rig.run(&mut task).unwrap();
    let rebuilt = |rig: &Rig| {
        let mut task = rig.task::<Reservations>(MemoryStore::default());
        rig.run(&mut task).map(|_| state_hash(task.store()).unwrap())
    };
    let expected = Ok(state_hash(task.store()).unwrap());
    assert_eq!(rebuilt(&rig), expected, "in small pieces");
    rig.broker.lock().read_max = 1_500;
    assert_eq!(rebuilt(&rig), expected, "in pieces that are worth a thread");

    // Within a piece, its last decision, which says what the next piece follows, and its first.
    for at in [12_345, 13_499, 13_500] {
        let offset = i64::try_from(at).unwrap();
        let refused = |damage: fn(&mut Option<Vec<u8>>)| {
            let sound = rig.broker.lock().decisions[at].clone();
            damage(&mut rig.broker.lock().decisions[at]);
            let mut task = rig.task::<Reservations>(MemoryStore::default());
            let Err(Exit::Refused(refused)) = rig.run(&mut task) else { panic!("it is folded") };
            rig.broker.lock().decisions[at] = sound;
            (refused, task.store().clone())
        };
        let (lost, _) = refused(|decision| *decision = None);
        let Refused::SequenceGap { offset: found_at, expected: due, found } = lost else {
            panic!("{lost:?}")
        };
        assert_eq!((found_at, found), (offset + 1, due + 1));
        let (link, _) = refused(|decision| *decision.as_mut().unwrap().last_mut().unwrap() ^= 1);
        assert_eq!(link, Refused::BrokenChain { offset });
        // Its link is as it was: what follows is not the one to notice.
        let (body, store) = refused(|decision| decision.as_mut().unwrap()[IN_INTENT_ID] ^= 1);
        assert_eq!(body, Refused::BrokenChain { offset });
        let folded = store.position().unwrap().unwrap().next_decision_offset;
        assert!(folded <= offset, "{folded}: what follows was read and verified already");
        let mut mended = rig.task::<Reservations>(store);
        rig.run(&mut mended).unwrap();
        assert_eq!(Ok(state_hash(mended.store()).unwrap()), expected);
    }
}

#[test]
fn orders_that_were_folded_are_known_when_they_are_sent_again() {
    let rig = with_backlog();
    rig.run(&mut rig.task::<Reservations>(MemoryStore::default())).unwrap();
    let mut task = rig.task::<Reservations>(MemoryStore::default());
    rig.run(&mut task).unwrap();
    let decided = rig.outcomes().len();
    // Some that won and some that did not.
    (5..15).for_each(|number| rig.append(START, &backlog_order(number)));
    rig.run(&mut task).unwrap();
    assert_eq!(rig.outcomes()[decided..], [Outcome::Replayed; 10]);
    rig.assert_sound();
}

#[test]
fn what_was_read_of_a_gap_is_kept_when_the_next_read_fails() {
    let rig = with_backlog();
    rig.run(&mut rig.task::<Reservations>(MemoryStore::default())).unwrap();
    {
        let mut shared = rig.broker.lock();
        (shared.read_max, shared.fails_reading) = (1_500, Some(12_000));
    }
    let mut task = rig.task::<Reservations>(MemoryStore::default());
    assert!(matches!(task.step(START), Ok(Wake::At(_))), "it will try again");
    let stored = task.store().position().unwrap().unwrap();
    assert_eq!(stored.next_decision_offset, 12_000);
    rig.run(&mut task).unwrap();
    rig.assert_sound();
}
