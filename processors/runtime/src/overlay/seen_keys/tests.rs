//! Of a key that was seen it must never be said that it is missing: the order would be decided twice.

use super::*;
use crate::memory_store::MemoryStore;
use crate::store::{Position, StoreBatch};

const TABLE: u8 = 3;
const GROUPS: KeyGroups = KeyGroups { table: TABLE, bytes: 2 };

fn key(group: u8, number: u64) -> RowKey {
    let random = number.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    RowKey::new(TABLE, &[&[group], &random.to_be_bytes(), &number.to_be_bytes()])
}

fn store_of(rows: &[RowKey]) -> MemoryStore {
    let mut store = MemoryStore::default();
    let mut batch = StoreBatch::new(Position::start("log".into()));
    rows.iter().for_each(|key| batch.put(key.as_bytes(), |_| ()));
    store.write(batch).unwrap();
    store
}

/// The keys of a store, to which others are added.
struct Seen {
    store: MemoryStore,
    keys: SeenKeys,
}

impl Seen {
    fn of(rows: &[RowKey]) -> Self {
        let store = store_of(rows);
        let keys = SeenKeys::of(&store, Some(GROUPS)).unwrap();
        Self { store, keys }
    }

    fn add(&mut self, group: u8, number: u64) {
        self.keys.add(&key(group, number), &self.store).unwrap();
    }

    fn rules_out(&self, group: u8, number: u64) -> bool {
        self.keys.rules_out(&key(group, number))
    }
}

#[test]
fn a_seen_key_is_never_missing_and_hardly_another_is_taken_for_one() {
    let mut seen = Seen::of(&[]);
    let (mut taken_for_one, mut asked) = (0, 0);
    for number in 0..400_000 {
        seen.add(1, number);
        if number % 7 == 0 {
            asked += 1;
            taken_for_one += u32::from(!seen.rules_out(1, u64::MAX / 2 + number));
        }
    }
    assert!((0..400_000).all(|number| !seen.rules_out(1, number)));
    assert!(taken_for_one * 100 < asked, "{taken_for_one} of {asked}");
    assert!(taken_for_one > 0, "a filter that is never wrong is not one");
}

#[test]
fn of_a_group_that_had_rows_before_no_key_counts_as_missing() {
    let mut seen = Seen::of(&[(0, 1), (0, 9), (4, 7), (0xff, 2)].map(|(group, n)| key(group, n)));
    for group in [0, 4, 0xff, 1, 5, 0xfe] {
        assert!(!seen.rules_out(group, 1), "nothing is known of group {group} yet");
        seen.add(group, 100);
    }
    for group in [0, 4, 0xff] {
        assert!((0..200).all(|number| !seen.rules_out(group, number)), "group {group}");
    }
    for group in [1, 5, 0xfe] {
        let seen = (0..200).filter(|number| !seen.rules_out(group, *number));
        assert_eq!(seen.collect::<Vec<_>>(), [100], "group {group}");
    }
}

/// A store that is built from its log is not asked for every drop.
#[test]
fn a_store_that_began_empty_is_not_asked_again() {
    let mut seen = Seen::of(&[RowKey::new(TABLE + 1, &[&[1, 2, 3]])]);
    seen.store = store_of(&[key(1, 1)]);
    seen.add(1, 2);
    assert!(seen.rules_out(1, 1) && !seen.rules_out(1, 2));
}

#[test]
fn of_other_tables_nothing_is_said() {
    let mut seen = Seen::of(&[]);
    let other = RowKey::new(TABLE + 1, &[&[1, 2, 3]]);
    seen.keys.add(&other, &seen.store).unwrap();
    assert!(seen.keys.known.is_empty() && !seen.keys.rules_out(&other));
    let mut none = SeenKeys::of(&seen.store, None).unwrap();
    none.add(&key(1, 1), &seen.store).unwrap();
    assert!(none.known.is_empty() && !none.rules_out(&key(1, 2)));
}

#[test]
fn memory_is_bounded_and_what_is_forgotten_counts_as_seen() {
    let mut seen = Seen::of(&[]);
    seen.keys.filters_max = 2;
    let room = (KEYS_PER_WORD * WORDS_MIN * (1 + GROWTH)) as u64;
    for number in 0..room {
        seen.add(1, number);
    }
    assert!((room..room + 100).any(|number| seen.rules_out(1, number)), "there is room for them");
    // The group goes on: its older keys are in no filter any more.
    for number in room..room + 10 {
        seen.add(1, number);
    }
    assert_eq!(seen.keys.filters.len(), 1);
    assert!((0..2 * room).all(|number| !seen.rules_out(1, number)));
    for number in 0..room {
        seen.add(2, number);
    }
    assert!((0..room).all(|number| !seen.rules_out(2, number) && !seen.rules_out(1, number)));
    assert!(seen.rules_out(2, u64::MAX / 2), "another group is known from its first key on");
}
