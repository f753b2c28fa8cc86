//! Of a key that was seen it must never be said that it is missing: the order would be decided twice.

use std::iter;

use super::*;
use crate::memory_store::MemoryStore;
use crate::overlay::tests::Opened;
use crate::store::{Position, StoreBatch};

const TABLE: u8 = 3;
const GROUPS: KeyGroups = KeyGroups { table: TABLE, prefix_bytes: 2 };

fn key(group: u8, number: u64) -> RowKey {
    let random = blake3::hash(&number.to_be_bytes());
    RowKey::new(TABLE, &[&[group], &random.as_bytes()[..15]])
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
        let keys = SeenKeys::of(&store, &[GROUPS]).unwrap();
        Self { store, keys }
    }

    fn add(&mut self, group: u8, number: u64) {
        self.keys.add(iter::once(&key(group, number)), &self.store).unwrap();
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
    assert!(taken_for_one * 50 < asked, "{taken_for_one} of {asked}");
    assert!(taken_for_one > 0, "a filter that is never wrong is not one");
}

/// As a fold adds them, of several drops and in every number that fits, or does not, into what is brought near at once.
#[test]
fn of_keys_that_are_added_together_none_is_left_out() {
    let mut seen = Seen::of(&[]);
    let mut number = 0;
    for count in 0..3 * NEAR as u64 {
        let numbers = number..number + count;
        let added = numbers.clone().map(|number| key(u8::try_from(number % 3).unwrap(), number));
        let added: Vec<_> = added.collect();
        seen.keys.add(added.iter(), &seen.store).unwrap();
        assert!(added.iter().all(|key| !seen.keys.rules_out(key)), "{count} of them");
        number += count;
    }
    assert!(seen.rules_out(1, u64::MAX));
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
    seen.keys.add(iter::once(&other), &seen.store).unwrap();
    assert!(seen.keys.known.is_empty() && !seen.keys.rules_out(&other));
    let mut none = SeenKeys::of(&seen.store, &[]).unwrap();
    none.add(iter::once(&key(1, 1)), &seen.store).unwrap();
    assert!(none.known.is_empty() && !none.rules_out(&key(1, 2)));
}

#[test]
fn memory_is_bounded_and_what_is_forgotten_counts_as_seen() {
    let words = (0..u32::try_from(FILTERS_MAX).unwrap()).map(|n| WORDS_MIN * GROWTH.pow(n));
    assert!(words.sum::<usize>() * size_of::<u64>() < 43 << 20);

    let mut seen = Seen::of(&[]);
    seen.keys.filters_max = 2;
    let room = (KEYS_PER_WORD * WORDS_MIN * (1 + GROWTH)) as u64;
    let taken_for_one = |seen: &Seen, group| {
        (0..1_000).filter(|number| !seen.rules_out(group, u64::MAX - number)).count()
    };
    (0..room).for_each(|number| seen.add(u8::try_from(number % 3).unwrap(), number));
    assert!((0..3).all(|group| taken_for_one(&seen, group) < 50), "there is room for them");
    // Two drops go on: their older keys, and those of the third, are in no filter any more. A fourth begins.
    seen.add(1, room);
    (room + 1..2 * room).for_each(|number| seen.add([1, 2, 4][(number % 3) as usize], number));
    assert!((0..3).all(|group| taken_for_one(&seen, group) == 1_000));
    assert!(taken_for_one(&seen, 4) < 50, "it is known from its first key on");
    // And once more.
    (0..2 * room).for_each(|number| seen.add(5, number));
    assert!([0, 1, 2, 4].iter().all(|group| taken_for_one(&seen, *group) == 1_000));
    assert!(seen.keys.filters.len() <= 2);
}

/// A disk that fails is not a drop that is new.
#[test]
fn a_store_that_cannot_tell_stops_the_owner() {
    let mut store = Opened::of(store_of(&[key(1, 1)]));
    store.cannot_tell = true;
    let mut keys = SeenKeys::of(&store, &[GROUPS]).unwrap();
    assert!(matches!(keys.add(iter::once(&key(2, 1)), &store), Err(StoreError::Failed(_))));
    assert!(!keys.rules_out(&key(2, 2)));
}
