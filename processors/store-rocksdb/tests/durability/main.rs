//! The embedded log and the `RocksDB` store on a real disk: what is visible when, and what a restart finds.

#![allow(missing_docs, clippy::unwrap_used, reason = "tests")]

mod latest;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use model::{Processor, Row, RowKey};
use reservations::Reservations;
use runtime::{
    BACKLOG_MIN, Batching, Exit, IntentAppender, IntentToAppend, Log, LogError, MemoryStore,
    OutgoingDecision, PartitionStatus, PartitionTask, Position, Refused, SchemaBook, Store,
    StoreBatch, Tail, TailStart, TaskSettings, Wake, state_hash,
};
use schemas::ids::IntentId;
use schemas::partition::Partition;
use schemas::topics::{ORDER_DECISIONS, ORDER_INTENTS};
use schemas::units::Millis;
use store_rocksdb::{EmbeddedLog, OpenError, RocksStore};

const P0: Partition = Partition(0);

fn clock() -> Millis {
    Millis(1_000)
}

fn open(folder: &std::path::Path) -> EmbeddedLog {
    EmbeddedLog::open(folder, 2, "log-a", clock).unwrap()
}

fn intent(value: &[u8]) -> IntentToAppend {
    IntentToAppend {
        topic: ORDER_INTENTS,
        partition: P0,
        key: None,
        value: value.to_vec(),
        traceparent: None,
    }
}

fn decision(value: &[u8]) -> OutgoingDecision {
    OutgoingDecision { key: None, value: value.to_vec() }
}

fn append(log: &EmbeddedLog, value: &[u8]) -> i64 {
    log.append(intent(value)).blocking_recv().unwrap().unwrap()
}

fn visible(log: &EmbeddedLog) -> Vec<Vec<u8>> {
    let mut tail = log.tail(ORDER_DECISIONS, |_| TailStart::Beginning);
    let records = tail.poll(Duration::ZERO, 10 * BACKLOG_MIN).unwrap();
    records.into_iter().map(|record| record.value).collect()
}

#[test]
fn an_acknowledged_intent_survives_a_restart_with_its_offset_and_append_time() {
    let folder = tempfile::tempdir().unwrap();
    let log = open(folder.path());
    assert_eq!((append(&log, b"one"), append(&log, b"two")), (0, 1));
    drop(log);
    let log = open(folder.path());
    assert_eq!(append(&log, b"three"), 2);
    let mut owner = log.own(Reservations::TOPOLOGY, P0);
    owner.seek_intents(1).unwrap();
    let mut intents = VecDeque::new();
    assert!(owner.poll_intents(&mut intents, 10).unwrap(), "the end is reached");
    let seen: Vec<_> =
        intents.iter().map(|i| (i.offset, i.append_time, i.value.as_slice())).collect();
    assert_eq!(
        seen,
        vec![(1, Millis(1_000), b"two".as_slice()), (2, Millis(1_000), b"three".as_slice())]
    );
}

#[test]
fn a_backlog_is_read_ahead_in_log_order_and_forgotten_by_the_next_owner() {
    let folder = tempfile::tempdir().unwrap();
    let log = open(folder.path());
    let appended = (0..3 * BACKLOG_MIN).map(|_| log.append(intent(b"one of many")));
    let appended: Vec<_> = appended.collect();
    appended.into_iter().for_each(|answer| assert!(answer.blocking_recv().unwrap().is_ok()));
    let mut owner = log.own(Reservations::TOPOLOGY, P0);
    let poll = |owner: &mut dyn Log, records_max| {
        let mut intents = VecDeque::new();
        let at_end = owner.poll_intents(&mut intents, records_max).unwrap();
        (intents.iter().map(|intent| intent.offset).collect::<Vec<_>>(), at_end)
    };
    let many = i64::try_from(BACKLOG_MIN).unwrap();
    assert_eq!(poll(&mut owner, BACKLOG_MIN), ((0..many).collect(), false));
    assert_eq!(poll(&mut owner, 10), ((many..many + 10).collect(), false), "a part of it");
    owner.fence().unwrap();
    owner.seek_intents(many).unwrap();
    assert_eq!(poll(&mut owner, BACKLOG_MIN), ((many..2 * many).collect(), false));
    owner.fence().unwrap();
    owner.seek_intents(7).unwrap();
    let all = 7..3 * many;
    assert_eq!(poll(&mut owner, 10 * BACKLOG_MIN), (all.collect(), true), "to the end");
    assert_eq!(poll(&mut owner, 10), (Vec::new(), true));
    drop((owner, log));
    let end = 3 * many;
    assert_eq!(append(&open(folder.path()), b"the next"), end, "a restart finds the end");
}

#[test]
fn nothing_of_an_open_or_aborted_transaction_is_visible() {
    let folder = tempfile::tempdir().unwrap();
    let log = open(folder.path());
    let mut owner = log.own(Reservations::TOPOLOGY, P0);
    owner.fence().unwrap();
    owner.submit(vec![decision(b"a"), decision(b"b")]).unwrap();
    assert_eq!(visible(&log), Vec::<Vec<u8>>::new(), "open");
    assert_eq!(
        owner.decisions_range().unwrap(),
        0..2,
        "the high watermark is past the open transaction"
    );
    assert_eq!(owner.await_commit().unwrap(), 2);
    assert_eq!(visible(&log), vec![b"a".to_vec(), b"b".to_vec()]);
    assert_eq!(owner.decisions_range().unwrap(), 0..3, "the commit marker consumes an offset");

    owner.submit(vec![decision(b"lost"), decision(b"lost too")]).unwrap();
    drop((owner, log));
    let log = open(folder.path());
    assert_eq!(
        visible(&log).len(),
        2,
        "a killed owner's transaction is still open after a restart"
    );
    let mut successor = log.own(Reservations::TOPOLOGY, P0);
    successor.fence().unwrap();
    successor.submit(vec![decision(b"c")]).unwrap();
    successor.await_commit().unwrap();
    assert_eq!(
        visible(&log),
        vec![b"a".to_vec(), b"b".to_vec(), b"c".to_vec()],
        "aborted by the fence"
    );
    drop((successor, log));
    assert_eq!(visible(&open(folder.path())).len(), 3, "the abort is remembered");
}

#[test]
fn a_fenced_owner_can_neither_write_nor_commit() {
    let folder = tempfile::tempdir().unwrap();
    let log = open(folder.path());
    let mut zombie = log.own(Reservations::TOPOLOGY, P0);
    zombie.fence().unwrap();
    zombie.submit(vec![decision(b"zombie")]).unwrap();
    let mut successor = log.own(Reservations::TOPOLOGY, P0);
    successor.fence().unwrap();
    assert!(matches!(zombie.await_commit(), Err(LogError::Fenced(_))));
    assert!(matches!(zombie.submit(vec![decision(b"again")]), Err(LogError::Fenced(_))));
    assert_eq!(visible(&log), Vec::<Vec<u8>>::new());
}

/// So large a transaction is written and committed by a thread of its own.
#[test]
fn a_backlogs_transaction_is_committed_and_nothing_of_a_fenced_one_is_visible() {
    let folder = tempfile::tempdir().unwrap();
    let log = open(folder.path());
    let backlog = || vec![decision(b"many"); BACKLOG_MIN];
    let end = i64::try_from(BACKLOG_MIN).unwrap();
    let mut owner = log.own(Reservations::TOPOLOGY, P0);
    owner.fence().unwrap();
    owner.submit(backlog()).unwrap();
    assert_eq!(owner.await_commit().unwrap(), end);
    assert_eq!(visible(&log).len(), BACKLOG_MIN);

    let mut successor = log.own(Reservations::TOPOLOGY, P0);
    successor.fence().unwrap();
    owner.submit(backlog()).unwrap();
    assert!(matches!(owner.await_commit(), Err(LogError::Fenced(_))));
    assert_eq!(successor.decisions_range().unwrap(), 0..end + 1, "its marker only");

    // An outcome nobody asks for is waited for all the same: the log is complete when the owner is gone.
    successor.submit(backlog()).unwrap();
    drop(successor);
    assert_eq!(visible(&log).len(), 2 * BACKLOG_MIN);
}

#[test]
fn a_tail_waits_for_the_next_commit_and_resumes_at_its_position() {
    let folder = tempfile::tempdir().unwrap();
    let log = open(folder.path());
    let mut owner = log.own(Reservations::TOPOLOGY, P0);
    owner.fence().unwrap();
    let mut tail = log.tail(ORDER_DECISIONS, |_| TailStart::BeforeEnd(0));
    let writer = std::thread::spawn(move || {
        owner.submit(vec![decision(b"late")]).unwrap();
        owner.await_commit().unwrap();
    });
    let mut records = Vec::new();
    while records.is_empty() {
        records = tail.poll(Duration::from_secs(5), 10).unwrap();
    }
    writer.join().unwrap();
    assert_eq!(records[0].value, b"late");
    assert_eq!(tail.positions().unwrap(), tail.ends().unwrap());
}

#[test]
fn a_log_keeps_its_partition_count_and_its_identity() {
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(open(folder.path()).log_id(), "log-a");
    let again = EmbeddedLog::open(folder.path(), 2, "log-b", clock).unwrap();
    assert_eq!(again.log_id(), "log-a");
    let second = EmbeddedLog::open(folder.path(), 2, "log-b", clock);
    assert!(matches!(second, Err(OpenError::Unusable(_))), "one process at a time");
    drop(again);
    let other = EmbeddedLog::open(folder.path(), 3, "log-b", clock);
    assert!(matches!(other, Err(OpenError::PartitionCount { found: 2, wanted: 3 })));
}

#[test]
fn the_store_writes_rows_and_position_as_one_and_scans_in_key_order() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = RocksStore::open(folder.path()).unwrap();
    assert_eq!(store.position().unwrap(), None);
    let position = Position { seq: 4, ..Position::start("log-a".into()) };
    let mut puts = StoreBatch::new(position.clone());
    for key in [[2, 1], [1, 2], [1, 1], [1, 3]] {
        puts.put(&key, |value| value.extend_from_slice(&key));
    }
    store.write(puts).unwrap();
    let mut delete = StoreBatch::new(position.clone());
    delete.delete(&[1, 3]);
    store.write(delete).unwrap();
    drop(store);
    let store = RocksStore::open(folder.path()).unwrap();
    assert_eq!(store.position().unwrap(), Some(position));
    let mut keys = Vec::new();
    store
        .scan(&[1], &[1], &mut |key, _| {
            keys.push(key.to_vec());
            true
        })
        .unwrap();
    assert_eq!(keys, vec![vec![1, 1], vec![1, 2]]);
    assert_eq!(store.get(&[2, 1]).unwrap(), Some(vec![2, 1]));
    assert_eq!(store.get(&[9]).unwrap(), None);
}

fn content(store: &dyn Store) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut rows = Vec::new();
    let mut take = |key: &[u8], value: &[u8]| {
        rows.push((key.to_vec(), value.to_vec()));
        true
    };
    store.scan(&[], &[], &mut take).unwrap();
    rows
}

#[test]
fn a_kill_leaves_a_prefix_of_the_batches_with_its_position() {
    let folder = tempfile::tempdir().unwrap();
    let (live, left) = (folder.path().join("live"), folder.path().join("left"));
    let mut store = RocksStore::open(&live).unwrap();
    for seq in [1, 2] {
        let position = Position { seq, ..Position::start("log-a".into()) };
        let mut batch = StoreBatch::new(position);
        batch.put(b"row", |value| value.push(u8::try_from(seq).unwrap()));
        store.write(batch).unwrap();
        if seq == 1 {
            content(&store); // everything so far is in a file
        }
    }
    // What a killed process leaves is what is in its folder.
    std::fs::create_dir(&left).unwrap();
    for file in std::fs::read_dir(&live).unwrap() {
        let file = file.unwrap();
        std::fs::copy(file.path(), left.join(file.file_name())).unwrap();
    }
    let after = RocksStore::open(&left).unwrap();
    assert_eq!(after.position().unwrap().unwrap().seq, 1);
    assert_eq!(after.get(b"row").unwrap(), Some(vec![1]));
}

fn settings(log: &EmbeddedLog) -> TaskSettings {
    for schema in schemas::avro::RELEASED {
        log.register_schema(schema.subject, schema.text).unwrap();
    }
    TaskSettings {
        partition: P0,
        build: "test".into(),
        schemas: Arc::new(SchemaBook::open(Arc::new(log.clone())).unwrap()),
        new_intent_id: || IntentId([7; 16]),
        batching: Batching::PRODUCTION,
        status: PartitionStatus::new("reservations", P0),
    }
}

fn run<S: Store>(
    log: &EmbeddedLog,
    store: S,
) -> Result<PartitionTask<Reservations, impl Log + use<S>, S>, Exit> {
    let owner = log.own(Reservations::TOPOLOGY, P0);
    let mut task = PartitionTask::<Reservations, _, _>::new(owner, store, settings(log)).unwrap();
    while task.step(clock())? == Wake::Now {}
    Ok(task)
}

#[test]
fn a_deleted_store_is_rebuilt_from_the_log_to_the_same_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let log = open(&folder.path().join("log"));
    // Ticks and poison: what counts here is that log and store stay one.
    let tick = Reservations::tick(IntentId([1; 16]), clock());
    let id = settings(&log).schemas.write_id(ORDER_INTENTS.subject);
    append(&log, &[&[0][..], &id.to_be_bytes(), &tick].concat());
    append(&log, b"poison");
    let state = folder.path().join("state");
    let task = run(&log, RocksStore::open(&state).unwrap()).unwrap();
    let hash = state_hash(task.store()).unwrap();
    let seq = task.position().seq;
    assert_eq!(seq, 3, "genesis, owner, tick, poison");
    drop(task);
    std::fs::remove_dir_all(&state).unwrap();
    let rebuilt = run(&log, RocksStore::open(&state).unwrap()).unwrap();
    assert_eq!(state_hash(rebuilt.store()).unwrap(), hash);
    assert_eq!(rebuilt.position().seq, seq + 1);
    drop(rebuilt);
    assert_eq!(state_hash(run(&log, MemoryStore::default()).unwrap().store()).unwrap(), hash);
}

#[test]
fn a_store_of_another_log_refuses() {
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().join("state");
    let first = open(&folder.path().join("log"));
    drop(run(&first, RocksStore::open(&state).unwrap()).unwrap());
    let second = EmbeddedLog::open(&folder.path().join("other"), 2, "log-b", clock).unwrap();
    let exit = run(&second, RocksStore::open(&state).unwrap()).map(drop).unwrap_err();
    assert!(matches!(exit, Exit::Refused(Refused::OtherLog { what: "store", .. })), "{exit:?}");
}

#[test]
fn row_keys_survive_the_store() {
    let key = RowKey::new(3, &[&[5; 16]]);
    assert_eq!(RowKey::from_bytes(key.as_bytes()), Some(key));
    let _: fn(&<Reservations as Processor>::Row) -> RowKey = Row::key;
}
