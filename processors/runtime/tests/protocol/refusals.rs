//! State and log disagree: the partition refuses, says what to do, and changes nothing.

use reservations::Reservations;
use runtime::{Exit, MemoryStore, Position, Refused, Store, StoreBatch};

use crate::rig::*;

/// A rig with three decided orders, and its store.
fn decided() -> (Rig, MemoryStore) {
    let rig = Rig::with_drop(2);
    (1..=3).for_each(|buyer| rig.append(START, &place(buyer)));
    let mut task = rig.task::<Reservations>(MemoryStore::default());
    rig.run(&mut task).unwrap();
    let store = task.store().clone();
    (rig, store)
}

fn refusal(rig: &Rig, store: MemoryStore) -> Refused {
    let before = rig.broker.lock().decisions.clone();
    let mut task = rig.task::<Reservations>(store);
    let Err(Exit::Refused(refused)) = rig.run(&mut task) else {
        panic!("the partition did not refuse")
    };
    assert_eq!(rig.broker.lock().decisions, before, "a refusing partition writes nothing");
    let shown = rig.status.snapshot().state;
    assert_eq!(shown, runtime::PartitionState::Refused(refused.to_string()));
    refused
}

fn with_position(mut store: MemoryStore, change: impl FnOnce(&mut Position)) -> MemoryStore {
    let mut position = store.position().unwrap().unwrap();
    change(&mut position);
    store.write(StoreBatch::new(position)).unwrap();
    store
}

#[test]
fn a_store_ahead_of_the_log_refuses() {
    let (rig, store) = decided();
    rig.broker.lock().decisions.truncate(3);
    assert!(matches!(refusal(&rig, store), Refused::StoreAhead { log: 3, .. }));
}

#[test]
fn a_missing_decision_refuses() {
    let (rig, _) = decided();
    rig.broker.lock().decisions[4] = None;
    let refused = refusal(&rig, MemoryStore::default());
    assert!(matches!(refused, Refused::SequenceGap { expected: 3, found: 4, .. }), "{refused:?}");
}

#[test]
fn an_altered_decision_refuses() {
    let (rig, _) = decided();
    // The last byte before the chain: the record still decodes.
    let mut shared = rig.broker.lock();
    let value = shared.decisions[4].as_mut().unwrap();
    let at = value.len() - 17;
    value[at] ^= 2;
    drop(shared);
    let refused = refusal(&rig, MemoryStore::default());
    assert!(
        matches!(refused, Refused::BrokenChain { offset: 4 } | Refused::UnknownFormat(_)),
        "{refused:?}"
    );
}

#[test]
fn a_store_of_another_history_refuses() {
    let (rig, store) = decided();
    let store = with_position(store, |position| {
        position.chain = [9; 16];
        position.next_decision_offset = 6;
        position.seq = 4;
    });
    assert!(matches!(refusal(&rig, store), Refused::BrokenChain { .. }));
}

#[test]
fn another_log_refuses() {
    let (rig, store) = decided();
    rig.broker.lock().log_id = "log-2".into();
    assert!(matches!(refusal(&rig, store), Refused::OtherLog { what: "store", .. }));
    assert!(matches!(
        refusal(&rig, MemoryStore::default()),
        Refused::OtherLog { what: "genesis record", .. }
    ));
}

#[test]
fn an_unknown_store_format_refuses() {
    let (rig, store) = decided();
    let store = with_position(store, |position| position.format = 99);
    assert!(matches!(refusal(&rig, store), Refused::UnknownFormat(_)));
}

#[test]
fn a_partition_activated_for_newer_rules_refuses_even_with_nothing_to_fold() {
    let (rig, store) = decided();
    let store = with_position(store, |position| position.logic_version = 99);
    assert!(matches!(refusal(&rig, store), Refused::UnknownFormat(_)));
}

#[test]
fn undecided_intents_that_are_gone_refuse() {
    let (rig, store) = decided();
    rig.broker.lock().first_intent = 9;
    assert_position_refused(&rig, store.clone());
    let mut shared = rig.broker.lock();
    shared.first_intent = 0;
    shared.intents.truncate(2);
    drop(shared);
    assert_position_refused(&rig, store);
}

fn assert_position_refused(rig: &Rig, store: MemoryStore) {
    let mut task = rig.task::<Reservations>(store);
    let exit = rig.run(&mut task).unwrap_err();
    assert!(
        matches!(exit, Exit::Refused(Refused::PositionOutsideIntents { next: 4, .. })),
        "{exit:?}"
    );
}

#[test]
fn a_changed_partition_count_refuses() {
    let (rig, _) = decided();
    rig.broker.lock().partitions = (2, 2);
    assert!(matches!(
        refusal(&rig, MemoryStore::default()),
        Refused::PartitionCount { genesis: 1, intents: 2, .. }
    ));
    let rig = Rig::new();
    rig.broker.lock().partitions = (2, 1);
    assert!(matches!(refusal(&rig, MemoryStore::default()), Refused::PartitionCount { .. }));
}
