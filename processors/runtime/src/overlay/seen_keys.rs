//! Tells that a row cannot be there, without a search for it. Nearly every order is looked for once before there is one,
//! and a store that is asked in vain has to ask every one of its files.
//!
//! Every row passes through the overlay, so the keys of all that came since the store was opened are known: as a few
//! bits each (Bloom, "Space/time trade-offs in hash coding with allowable errors", 1970; all bits of a key in one word,
//! as in Putze, Sanders and Singler, "Cache-, hash- and space-efficient Bloom filters", 2007). Of what was there before
//! nothing is known, so it is asked once for each group of keys, the orders of a drop: only of one that had none is a key
//! ever ruled out. A drop that goes on after a restart is searched as ever.

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests;

use std::hash::BuildHasher;

use model::{KeyGroups, RowKey};
use rustc_hash::{FxBuildHasher, FxHashMap};

use crate::defect::{Defect, is_on};
use crate::store::{Store, StoreError, has_rows};

/// Two bytes for each key: of a full filter, one other key in two hundred counts as seen. Each filter is asked.
const KEYS_PER_WORD: usize = 4;
const BITS_PER_KEY: u32 = 4;
/// Of the first filter: 32 KiB, 16 thousand keys.
const WORDS_MIN: usize = 4_096;
/// A filter cannot grow, so the next one is so many times as large.
const GROWTH: usize = 4;
/// All filters of a partition have 43 MiB and 22 million keys at the most.
const FILTERS_MAX: usize = 6;
/// So many words are brought near at once.
const NEAR: usize = 16;

/// The keys that rows of some tables were put under since the store was opened, and some more. They must outlive
/// whatever is undone meanwhile: asked again, the store would not tell what it has in memory only.
#[derive(Debug)]
pub(super) struct SeenKeys {
    tables: Vec<Table>,
    /// Groups of which a key was added.
    known: FxHashMap<RowKey, Group>,
    /// Its keys are in the filters. Of the hottest drop there is mostly more than one in a row.
    last_filtered: Option<RowKey>,
    filters: Vec<Filter>,
    /// [`FILTERS_MAX`]; fewer in tests.
    filters_max: usize,
}

#[derive(Clone, Copy, Debug)]
struct Table {
    groups: KeyGroups,
    /// Nothing was in it when the store was opened.
    began_empty: bool,
}

impl Table {
    fn group_of(&self, key: &RowKey) -> RowKey {
        let prefix = &key.as_bytes()[..self.groups.prefix_bytes];
        RowKey::from_bytes(prefix).expect("a group's prefix begins with the table")
    }
}

/// What is known of a group.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Group {
    /// The filters have every key that was seen.
    Filtered,
    /// Each of its keys counts as seen.
    Whole,
}

#[derive(Debug)]
struct Filter {
    words: Vec<u64>,
    keys: usize,
}

/// Which of a filter's words, a power of two of them, has a key's bits.
fn word_of(words: usize, hash: u64) -> usize {
    // The upper half of the hash; the bits are from the lower one.
    usize::try_from(hash >> 32).expect("an index has at least 32 bits") & (words - 1)
}

fn bits_of(hash: u64) -> u64 {
    (0..BITS_PER_KEY).fold(0, |bits, bit| bits | 1 << ((hash >> (6 * bit)) & 63))
}

impl Filter {
    fn new(words: usize) -> Self {
        Self { words: vec![0; words], keys: 0 }
    }

    fn is_full(&self) -> bool {
        self.keys >= KEYS_PER_WORD * self.words.len()
    }

    fn add(&mut self, hash: u64) {
        let word = word_of(self.words.len(), hash);
        self.words[word] |= bits_of(hash);
        self.keys += 1;
    }

    /// Memory is waited for at each word: asked for together, they are waited for together.
    fn bring_near(&self, hashes: &[u64]) {
        let words = hashes.iter().map(|hash| self.words[word_of(self.words.len(), *hash)]);
        std::hint::black_box(words.fold(0, |all, word| all ^ word)); // else nobody needs to look
    }

    fn may_have(&self, hash: u64) -> bool {
        let bits = bits_of(hash);
        self.words[word_of(self.words.len(), hash)] & bits == bits
    }
}

impl SeenKeys {
    /// Of a store that was just opened.
    pub(super) fn of(store: &dyn Store, groups: &[KeyGroups]) -> Result<Self, StoreError> {
        let table = |groups: &KeyGroups| {
            // Not `may_hold`, which need not see what is in memory.
            Ok(Table { groups: *groups, began_empty: !has_rows(store, &[groups.table])? })
        };
        Ok(Self {
            tables: groups.iter().map(table).collect::<Result<_, _>>()?,
            known: FxHashMap::default(),
            last_filtered: None,
            filters: Vec::new(),
            filters_max: FILTERS_MAX,
        })
    }

    fn table_of(&self, key: &RowKey) -> Option<Table> {
        self.tables.iter().find(|table| table.groups.table == key.tag()).copied()
    }

    /// Whether no row was ever put under the key. False where it cannot be told.
    pub(super) fn rules_out(&self, key: &RowKey) -> bool {
        let Some(table) = self.table_of(key) else { return false };
        let is_filtered = || self.known.get(&table.group_of(key)) == Some(&Group::Filtered);
        let hash = FxBuildHasher.hash_one(key);
        (self.is_of_last(key) || is_filtered())
            && !self.filters.iter().any(|filter| filter.may_have(hash))
    }

    fn is_of_last(&self, key: &RowKey) -> bool {
        self.last_filtered.is_some_and(|group| key.as_bytes().starts_with(group.as_bytes()))
    }

    /// Rows are put under keys that had none. Whatever else their groups have was there when the store was opened, or was
    /// added here.
    pub(super) fn add<'a>(
        &mut self,
        keys: impl Iterator<Item = &'a RowKey>,
        store: &dyn Store,
    ) -> Result<(), StoreError> {
        let (mut hashes, mut count) = ([0; NEAR], 0);
        for key in keys {
            if self.is_to_be_filtered(key, store)? {
                hashes[count] = FxBuildHasher.hash_one(key);
                count += 1;
            }
            if count == NEAR {
                self.filter(&hashes);
                count = 0;
            }
        }
        self.filter(&hashes[..count]);
        Ok(())
    }

    fn is_to_be_filtered(&mut self, key: &RowKey, store: &dyn Store) -> Result<bool, StoreError> {
        let Some(table) = self.table_of(key) else { return Ok(false) };
        if self.is_of_last(key) {
            return Ok(true);
        }
        let group = table.group_of(key);
        let is_filtered = self.known_or_new(group, table, store)? == Group::Filtered;
        if is_filtered {
            self.last_filtered = Some(group);
        }
        Ok(is_filtered)
    }

    fn filter(&mut self, hashes: &[u64]) {
        if hashes.is_empty() {
            return;
        }
        if self.filters.last().is_none_or(Filter::is_full) {
            self.add_filter();
        }
        let filter = self.filters.last_mut().expect("one with room was added above");
        filter.bring_near(hashes);
        hashes.iter().for_each(|hash| filter.add(*hash));
    }

    fn known_or_new(
        &mut self,
        group: RowKey,
        table: Table,
        store: &dyn Store,
    ) -> Result<Group, StoreError> {
        if let Some(known) = self.known.get(&group) {
            return Ok(*known);
        }
        let is_new = table.began_empty
            || is_on(Defect::ForgetRowsBeforeTheStart)
            || !store.may_hold(group.as_bytes())?;
        let new = if is_new { Group::Filtered } else { Group::Whole };
        self.known.insert(group, new);
        Ok(new)
    }

    /// Where there are enough, what they know is forgotten: each of their groups counts as seen whole.
    fn add_filter(&mut self) {
        if self.filters.len() == self.filters_max {
            self.filters.clear();
            self.known.values_mut().for_each(|group| *group = Group::Whole);
            self.last_filtered = None;
        }
        let words = self.filters.last().map_or(WORDS_MIN, |last| GROWTH * last.words.len());
        self.filters.push(Filter::new(words));
    }
}
