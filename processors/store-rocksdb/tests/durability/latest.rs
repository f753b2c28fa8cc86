//! Whatever a key has gone through, the store shows its latest change.

use proptest::prelude::*;
use runtime::{MemoryStore, Position, Store, StoreBatch};
use store_rocksdb::RocksStore;

use crate::content;

/// A change of one of a few keys, or a moment at which everything has to be in a file.
#[derive(Clone, Debug)]
enum Step {
    Put(u8, u8),
    Delete(u8),
    Scan,
    Reopen,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => (0..12_u8, any::<u8>()).prop_map(|(key, value)| Step::Put(key, value)),
        3 => (0..12_u8).prop_map(Step::Delete),
        1 => Just(Step::Scan),
        1 => Just(Step::Reopen),
    ];
    proptest::collection::vec(step, 1..60)
}

/// Keys that begin with one another, differ early, late or only in length, alone in their table and not.
fn key(number: u8) -> Vec<u8> {
    let zeros = [0; 7];
    match number {
        0 => vec![3],
        1 => vec![3, 0],
        2 => vec![3, 0, 0],
        3 => vec![3, 1],
        4 => [&[3][..], &zeros, &[1]].concat(),
        5 => [&[3][..], &zeros, &[2]].concat(),
        6 => [&[4][..], &[9; 32]].concat(),
        7 => [&[4][..], &[9; 31], &[8]].concat(),
        8 => vec![4, 9, 9],
        9 => vec![0xf1, 1],
        10 => vec![0xf1, 1, 0],
        other => vec![other],
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    /// In memory, on its way to a file, in a file, in an older file: the latest change is the one that counts.
    #[test]
    fn the_store_shows_the_latest_change_wherever_it_is(steps in steps()) {
        let folder = tempfile::tempdir().unwrap();
        let mut store = RocksStore::open(folder.path()).unwrap();
        let mut expected = MemoryStore::default();
        for (number, step) in (0..).zip(steps) {
            let mut batch = StoreBatch::new(Position { seq: number, ..Position::start("log-a".into()) });
            match step {
                Step::Put(number, value) => batch.put(&key(number), |buffer| buffer.push(value)),
                Step::Delete(number) => batch.delete(&key(number)),
                Step::Scan => prop_assert_eq!(content(&store), content(&expected)),
                Step::Reopen => {
                    drop(store);
                    store = RocksStore::open(folder.path()).unwrap();
                }
            }
            if !batch.is_empty() {
                store.write(batch.clone()).unwrap();
                expected.write(batch).unwrap();
            }
            for key in (0..12).map(key) {
                prop_assert_eq!(store.get(&key).unwrap(), expected.get(&key).unwrap());
            }
            prop_assert_eq!(store.position().unwrap(), expected.position().unwrap());
        }
        prop_assert_eq!(content(&store), content(&expected));
    }
}
