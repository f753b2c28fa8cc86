//! A store that follows a partition which somebody else owns, and what becomes of it in a takeover.

use reservations::Reservations;
use runtime::{Exit, MemoryStore, PartitionState, Refused, Store, Wake, state_hash};
use schemas::decision::Outcome;

use crate::rig::*;

/// Follows until there is nothing more.
fn catch_up(rig: &Rig, task: &mut Task) -> Result<(), Exit> {
    while task.stand_by(rig.now)? == Wake::Now {}
    Ok(())
}

#[test]
fn a_standby_holds_what_the_owner_holds_and_does_not_disturb_it() {
    let rig = Rig::with_drop(2);
    let mut owner = rig.task::<Reservations>(MemoryStore::default());
    let mut standby = rig.task::<Reservations>(MemoryStore::default());
    for buyer in 1..=9 {
        rig.append(START, &place(buyer));
        rig.run(&mut owner).unwrap();
        catch_up(&rig, &mut standby).unwrap();
        assert_eq!(standby.position().seq, owner.position().seq);
        assert_eq!(state_hash(standby.store()).unwrap(), state_hash(owner.store()).unwrap());
    }
    rig.assert_sound();
    let owners = rig.outcomes().into_iter().filter(|outcome| *outcome == Outcome::OwnerStarted);
    assert_eq!(owners.count(), 1, "nobody was fenced");
    assert_eq!(rig.status.snapshot().state, PartitionState::Standby);
}

#[test]
fn a_standby_stops_where_a_transaction_may_still_be_open() {
    let rig = Rig::with_drop(2);
    let mut owner = rig.task::<Reservations>(MemoryStore::default());
    rig.run(&mut owner).unwrap();
    // The last of them is a marker: whether there is no record instead, a standby cannot know.
    let stable = i64::try_from(rig.broker.lock().decisions.len()).unwrap();
    let followed = stable - 1;
    (1..=4).for_each(|buyer| rig.append(START, &place(buyer)));
    rig.run(&mut owner).unwrap();

    rig.broker.lock().last_stable = Some(stable);
    let mut standby = rig.task::<Reservations>(MemoryStore::default());
    catch_up(&rig, &mut standby).unwrap();
    assert_eq!(standby.position().next_decision_offset, followed);
    rig.broker.lock().last_stable = Some(1);
    catch_up(&rig, &mut standby).unwrap();
    assert_eq!(standby.position().next_decision_offset, followed, "it never goes back");
    rig.broker.lock().last_stable = None;
    catch_up(&rig, &mut standby).unwrap();
    assert_eq!(standby.position().seq, owner.position().seq);
}

/// Ten thousand records of small transactions, and what aborted ones left, span more offsets than a step has.
#[test]
fn a_standby_whose_read_goes_far_past_its_step_goes_on_from_there() {
    let rig = Rig::with_drop(2);
    let mut owner = rig.task::<Reservations>(MemoryStore::default());
    rig.run(&mut owner).unwrap();
    rig.broker.lock().read_max = 100_000;
    for buyer in 1..=3 {
        rig.broker.lock().decisions.extend(std::iter::repeat_n(None, 45_000));
        rig.append(START, &place(buyer));
        rig.run(&mut owner).unwrap();
    }
    let mut standby = rig.task::<Reservations>(MemoryStore::default());
    catch_up(&rig, &mut standby).unwrap();
    assert_eq!(standby.position().seq, owner.position().seq);
}

#[test]
fn a_standby_becomes_the_owner_and_goes_on_where_the_log_ends() {
    let rig = Rig::with_drop(3);
    let mut owner = rig.task::<Reservations>(MemoryStore::default());
    let mut standby = rig.task::<Reservations>(MemoryStore::default());
    (1..=2).for_each(|buyer| rig.append(START, &place(buyer)));
    rig.run(&mut owner).unwrap();
    catch_up(&rig, &mut standby).unwrap();
    // These the standby has not seen; the last one nobody has decided.
    (3..=4).for_each(|buyer| rig.append(START, &place(buyer)));
    rig.run(&mut owner).unwrap();
    rig.append(START, &place(5));

    rig.run(&mut standby).unwrap();
    assert_eq!(rig.status.snapshot().state, PartitionState::Running);
    rig.append(START, &place(6));
    assert!(matches!(rig.run(&mut owner), Err(Exit::Fenced(_))));
    rig.run(&mut standby).unwrap();
    assert_eq!(rig.assert_sound().orders.len(), 6);
    let mut rebuilt = rig.task::<Reservations>(MemoryStore::default());
    catch_up(&rig, &mut rebuilt).unwrap();
    assert_eq!(state_hash(rebuilt.store()).unwrap(), state_hash(standby.store()).unwrap());
}

#[test]
fn a_standby_waits_for_a_log_that_is_away_and_folds_nothing_twice() {
    let mut rig = Rig::with_drop(2);
    let mut owner = rig.task::<Reservations>(MemoryStore::default());
    (1..=6).for_each(|buyer| rig.append(START, &place(buyer)));
    rig.run(&mut owner).unwrap();
    let mut standby = rig.task::<Reservations>(MemoryStore::default());
    rig.broker.lock().fails_reading = Some(4);
    let Ok(Wake::At(again)) = standby.stand_by(rig.now) else { panic!("the log cannot be read") };
    assert!(rig.is_stalled(), "an operator sees it");
    assert!(standby.store().position().unwrap().is_some(), "what was read is kept");
    rig.now = again;
    catch_up(&rig, &mut standby).unwrap();
    assert_eq!(state_hash(standby.store()).unwrap(), state_hash(owner.store()).unwrap());
}

#[test]
fn a_standby_refuses_a_log_that_was_altered() {
    let rig = Rig::with_drop(2);
    let mut owner = rig.task::<Reservations>(MemoryStore::default());
    (1..=3).for_each(|buyer| rig.append(START, &place(buyer)));
    rig.run(&mut owner).unwrap();
    let altered = {
        let mut shared = rig.broker.lock();
        let at = shared.decisions.iter().rposition(Option::is_some).unwrap();
        *shared.decisions[at].as_mut().unwrap().last_mut().unwrap() ^= 1;
        i64::try_from(at).unwrap()
    };
    let mut standby = rig.task::<Reservations>(MemoryStore::default());
    let refused = Refused::BrokenChain { offset: altered };
    assert_eq!(catch_up(&rig, &mut standby), Err(Exit::Refused(refused)));
}

#[test]
fn a_standby_comes_back_for_a_record_that_a_reader_was_not_shown() {
    let rig = Rig::with_drop(2);
    let mut owner = rig.task::<Reservations>(MemoryStore::default());
    (1..=3).for_each(|buyer| rig.append(START, &place(buyer)));
    rig.run(&mut owner).unwrap();
    let mut standby = rig.task::<Reservations>(MemoryStore::default());
    let last = rig.broker.lock().decisions.iter().rposition(Option::is_some).unwrap();
    let hidden = rig.broker.lock().decisions[last].take();
    catch_up(&rig, &mut standby).unwrap();
    rig.broker.lock().decisions[last] = hidden;

    rig.run(&mut standby).unwrap();
    assert_eq!(rig.assert_sound().orders.len(), 3);
}
