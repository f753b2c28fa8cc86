//! What is in memory, in a file, and in between.

use rocksdb::ColumnFamilyDescriptor;
use rocksdb::properties::{
    COMPACTION_PENDING, NUM_RUNNING_COMPACTIONS, PropName, num_files_at_level,
};

use super::*;

fn put(store: &mut RocksStore, value: &[u8]) -> Result<(), StoreError> {
    let mut batch = StoreBatch::new(Position::start("log".into()));
    batch.put(b"row", |buffer| buffer.extend_from_slice(value));
    store.write(batch)
}

/// Were they let go, the owner would find older rows on disk, and decide on those.
#[test]
fn rows_that_a_failing_disk_refused_stay_readable_and_nothing_is_taken_after_them() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = RocksStore::open_with(folder.path(), MEMORY_BYTES, 1).unwrap();
    put(&mut store, b"old").unwrap();
    store.seal().unwrap();
    store.progress.settle().unwrap();
    let in_the_way = folder.path().join("new-1.sst"); // rows come first, then the position
    std::fs::create_dir(&in_the_way).unwrap();
    put(&mut store, b"new").unwrap();
    store.seal().unwrap();
    let Err(StoreError::Failed(_)) = store.progress.settle() else { panic!("it must be told") };
    assert_eq!(store.get(b"row").unwrap(), Some(b"new".to_vec()));
    assert!(matches!(put(&mut store, b"newer"), Err(StoreError::Failed(_))));
    drop(store);
    std::fs::remove_dir(in_the_way).unwrap();
    let store = RocksStore::open(folder.path()).unwrap();
    assert_eq!(store.get(b"row").unwrap(), Some(b"old".to_vec()), "a prefix");
}

/// What a kill leaves between the moment a file is the database's and the moment it loses its first name.
#[test]
fn a_file_that_still_has_its_first_name_is_not_written_to() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = RocksStore::open(folder.path()).unwrap();
    put(&mut store, b"first").unwrap();
    drop(store);
    let files = std::fs::read_dir(folder.path()).unwrap().map(|file| file.unwrap().path());
    let filed = files.filter(|path| path.extension().is_some_and(|end| end == "sst"));
    for path in filed {
        for name in ["new-0.sst", "new-1.sst"] {
            std::fs::hard_link(&path, folder.path().join(name)).unwrap();
        }
    }
    let mut store = RocksStore::open(folder.path()).unwrap();
    let mut batch = StoreBatch::new(Position::start("log".into()));
    batch.put(b"other", |buffer| buffer.extend_from_slice(b"second"));
    store.write(batch).unwrap();
    drop(store);
    let store = RocksStore::open(folder.path()).unwrap();
    assert_eq!(store.get(b"row").unwrap(), Some(b"first".to_vec()));
    assert_eq!(store.get(b"other").unwrap(), Some(b"second".to_vec()));
}

/// Files are made while rows are written and read: from memory to the file, no older one shows through.
#[test]
fn a_reader_in_another_thread_never_sees_a_row_become_older() {
    const ROUNDS: u32 = 3_000;
    let folder = tempfile::tempdir().unwrap();
    let mut store = RocksStore::open_with(folder.path(), 20_000, 2).unwrap();
    let reader = store.reader();
    let reading = std::thread::spawn(move || {
        let mut last = 0;
        while last < ROUNDS {
            let value = reader.get(b"a long prefix, then 7").unwrap();
            let now = value.map_or(0, |value| u32::from_be_bytes(value.try_into().unwrap()));
            assert!(now >= last, "{now} after {last}");
            last = now;
        }
    });
    let key = |number: u32| format!("a long prefix, then {number}").into_bytes();
    for round in 1..=ROUNDS {
        let mut batch =
            StoreBatch::new(Position { seq: round.into(), ..Position::start("log".into()) });
        batch.put(&key(7), |buffer| buffer.extend_from_slice(b"not yet"));
        batch.put(&key(round % 50), |buffer| buffer.push(1));
        batch.delete(&key(round % 20 + 50));
        batch.put(&key(7), |buffer| buffer.extend_from_slice(&round.to_be_bytes()));
        store.write(batch).unwrap();
    }
    reading.join().unwrap();
    let files = store.content.db.live_files().unwrap();
    assert!(!files.is_empty(), "nothing went into a file");
    let mut seen = Vec::new();
    let mut take = |row: &[u8], _: &[u8]| {
        seen.push(row.to_vec());
        true
    };
    store.scan(&[], &[], &mut take).unwrap();
    let mut expected: Vec<_> = (0..50).map(key).collect();
    expected.sort();
    assert_eq!(seen, expected);
}

/// Asked for every new drop: a file for each would be merged with every other.
#[test]
fn what_was_there_before_the_start_is_told_without_writing_a_file() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = RocksStore::open(folder.path()).unwrap();
    assert!(!store.may_hold(b"r").unwrap());
    put(&mut store, b"first").unwrap();
    drop(store);
    let mut store = RocksStore::open(folder.path()).unwrap();
    let files = |store: &RocksStore| store.content.db.live_files().unwrap().len();
    let before = files(&store);
    let mut batch = StoreBatch::new(Position::start("log".into()));
    batch.put(b"sow", |_| ());
    store.write(batch).unwrap();
    for (prefix, holds) in [("r", true), ("row", true), ("rov", false), ("rox", false)] {
        assert_eq!(store.may_hold(prefix.as_bytes()).unwrap(), holds, "{prefix}");
    }
    assert_eq!(files(&store), before);
}

/// Otherwise every look-up would ask every file, and every file would be merged with every other.
#[test]
fn the_orders_of_a_hot_drop_are_alone_in_their_file() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = RocksStore::open(folder.path()).unwrap();
    let rows = |table: u8, count: usize| {
        (0..count).map(move |row| [&[table], &row.to_be_bytes()[..]].concat())
    };
    let mut batch = StoreBatch::new(Position::start("log".into()));
    let small = rows(1, 9).chain(rows(2, 1)).chain(rows(4, 3)).chain(rows(5, 3));
    for key in rows(3, LARGE_TABLE_ROWS).chain(small) {
        batch.put(&key, |buffer| buffer.push(1));
    }
    store.write(batch).unwrap();
    store.seal().unwrap();
    store.progress.settle().unwrap();
    let files = store.content.db.live_files().unwrap();
    let mut tables: Vec<_> = files
        .into_iter()
        .map(|file| (file.start_key.unwrap()[0], file.end_key.unwrap()[0]))
        .collect();
    tables.sort_unstable();
    assert_eq!(tables, [(1, 2), (3, 3), (4, POSITION_KEY[0])]);
}

/// Each merge takes in all that was merged before.
#[test]
fn files_are_merged_once_there_are_many() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = RocksStore::open(folder.path()).unwrap();
    let property = |store: &RocksStore, name: &PropName| {
        let value = store.content.db.property_int_value(name);
        value.unwrap().unwrap()
    };
    let unmerged = |store: &RocksStore| property(store, &num_files_at_level(0));
    let is_merging = |store: &RocksStore| {
        property(store, COMPACTION_PENDING) + property(store, NUM_RUNNING_COMPACTIONS) > 0
    };
    let many = UNMERGED.cast_unsigned().into();
    while unmerged(&store) + 1 < many {
        assert!(!is_merging(&store), "merged too soon");
        put(&mut store, b"again").unwrap();
        store.seal().unwrap();
        store.progress.settle().unwrap();
    }
    put(&mut store, b"once more").unwrap();
    store.seal().unwrap();
    store.progress.settle().unwrap();
    let merged = |_| {
        std::thread::sleep(std::time::Duration::from_millis(20));
        unmerged(&store) + 1 < many
    };
    assert!((0..500).any(merged), "the files wait for ever");
}

#[test]
fn a_store_of_an_older_build_says_how_to_go_on() {
    let folder = tempfile::tempdir().unwrap();
    let mut options = Options::default();
    options.create_if_missing(true);
    options.create_missing_column_families(true);
    let families =
        ["rows", "meta"].map(|name| ColumnFamilyDescriptor::new(name, Options::default()));
    drop(DB::open_cf_descriptors(&options, folder.path(), families).unwrap());
    let refused = RocksStore::open(folder.path());
    let Err(StoreError::UnknownFormat(why)) = refused else { panic!("it cannot be read") };
    assert!(why.contains("move the store folder away"), "{why}");
}
