//! What is read from rows of several records, and what of damaged ones.

use model::{Processor, Topology};
use reservations::Reservations;
use runtime::{Log, OutgoingDecision, Tail, TailError, TailStart};

use super::*;

const TOPOLOGY: Topology = Reservations::TOPOLOGY;
const P0: Partition = Partition(0);

fn open(folder: &Path) -> Result<EmbeddedLog, OpenError> {
    EmbeddedLog::open(folder, 2, "log-a", || Millis(1_000))
}

/// Offsets and values from `from` on, in reads of at most `records_max`.
fn read(
    log: &EmbeddedLog,
    from: i64,
    records_max: usize,
) -> Result<Vec<(i64, Vec<u8>)>, TailError> {
    let start = |partition| TailStart::Offset(if partition == P0 { from } else { 0 });
    let mut tail = log.tail(TOPOLOGY.decisions, start);
    let mut found = Vec::new();
    while tail.positions()? != tail.ends()? {
        let records = tail.poll(Duration::ZERO, records_max)?;
        assert!(records.len() <= records_max && found.len() < 100);
        found.extend(records.into_iter().map(|record| (record.offset, record.value)));
    }
    Ok(found)
}

/// Three transactions, the second of which is aborted: offsets 0 to 4, 6 to 9, 11, each with a marker after it.
fn three_transactions(log: &EmbeddedLog) -> Vec<(i64, Vec<u8>)> {
    let decisions = |offsets: std::ops::Range<u8>| {
        offsets.map(|offset| OutgoingDecision { key: None, value: vec![offset; 3] }).collect()
    };
    let mut owner = log.own(TOPOLOGY, P0);
    owner.fence().unwrap();
    owner.submit(decisions(0..5)).unwrap();
    assert_eq!(owner.await_commit().unwrap(), 5);
    owner.submit(decisions(6..10)).unwrap();
    let mut successor = log.own(TOPOLOGY, P0);
    successor.fence().unwrap();
    successor.submit(decisions(11..12)).unwrap();
    assert_eq!(successor.await_commit().unwrap(), 12);
    (0..5).chain([11]).map(|offset| (i64::from(offset), vec![offset; 3])).collect()
}

/// A reader who lost or repeated a record would decide an intent never or twice.
#[test]
fn a_read_begins_and_ends_anywhere_in_a_row() {
    let folder = tempfile::tempdir().unwrap();
    let log = open(folder.path()).unwrap();
    let committed = three_transactions(&log);
    for (from, records_max) in (0..14).flat_map(|from| (1..7).map(move |max| (from, max))) {
        let expected: Vec<_> = committed.iter().filter(|(at, _)| *at >= from).cloned().collect();
        let read = read(&log, from, records_max).unwrap();
        assert_eq!(read, expected, "from {from}, {records_max} at a time");
    }
}

type Damage = fn(&DB, OffsetKeys);

#[test]
fn a_row_that_is_missing_or_overlaps_another_is_an_error() {
    let keys = OffsetKeys::of_records(TOPOLOGY.decisions, P0);
    let damages: [(&str, Damage); 3] = [
        ("missing", |db, keys| db.delete(keys.key(0)).unwrap()),
        ("overlaps", |db, keys| {
            db.put(keys.key(3), db.get(keys.key(11)).unwrap().unwrap()).unwrap();
        }),
        ("ends early", |db, keys| {
            let row = db.get(keys.key(6)).unwrap().unwrap();
            db.put(keys.key(6), &row[..row.len() - 1]).unwrap();
        }),
    ];
    for (name, damage) in damages {
        let folder = tempfile::tempdir().unwrap();
        let log = open(folder.path()).unwrap();
        three_transactions(&log);
        damage(&log.inner.db, keys);
        assert!(matches!(read(&log, 0, 100), Err(TailError::Unreachable(_))), "{name}");
        assert_eq!(read(&log, 10, 100).unwrap().len(), 1, "{name}: what is sound can be read");
    }
    let folder = tempfile::tempdir().unwrap();
    let log = open(folder.path()).unwrap();
    three_transactions(&log);
    let marker = log.inner.db.get(keys.key(12)).unwrap().unwrap();
    log.inner.db.delete(keys.key(12)).unwrap();
    assert!(matches!(read(&log, 12, 100), Err(TailError::Unreachable(_))), "the last is missing");
    log.inner.db.put(keys.key(12), marker).unwrap();
    let row = log.inner.db.get(keys.key(6)).unwrap().unwrap();
    log.inner.db.put(keys.key(13), &row[..row.len() - 1]).unwrap();
    drop(log);
    assert!(matches!(open(folder.path()), Err(OpenError::Unusable(_))), "its end is not known");
}

/// It would take the second record of a row for a free offset, or the row for damaged.
#[test]
fn a_build_that_does_not_know_the_format_does_not_open_the_log() {
    let folder = tempfile::tempdir().unwrap();
    let partitions = |value: &[u8]| {
        let db = DB::open_default(folder.path()).unwrap();
        db.put("partitions", value).unwrap();
    };
    drop(open(folder.path()).unwrap());
    for older in [&[0, 2][..], &[0, 2, 2]] {
        partitions(older);
        let log = open(folder.path()).expect("older formats are read on");
        let found = log.inner.db.get("partitions").unwrap();
        assert_eq!(found, Some(vec![0, 2, FORMAT]), "and are older no more");
    }
    partitions(&[0, 2, FORMAT + 1]);
    let Err(OpenError::Unusable(why)) = open(folder.path()) else { panic!("it is opened") };
    assert!(why.contains("format 4"), "{why}");
}
