//! Batches that are not in a file yet, to be found by key. They stay as they came, each in its one buffer; a hash table
//! says which of them has the latest change of a key. Nothing asks for their order before they go into a file: an
//! ordered memtable would pay for it at every row, mostly in cache misses.

use std::hash::BuildHasher;

use hashbrown::HashTable;
use hashbrown::hash_table::Entry;
use runtime::{Position, StoreBatch};
use rustc_hash::FxBuildHasher;

/// A key with its value; `None` where it is deleted.
pub(super) type Change<'a> = (&'a [u8], Option<&'a [u8]>);

/// The first byte of a key names its table.
const TABLES: usize = 256;

/// Where the latest change of a key is.
#[derive(Clone, Copy, Debug)]
struct Place {
    hash: u64,
    batch: u32,
    change: u32,
}

/// The batches that are written out together.
#[derive(Debug, Default)]
pub(super) struct Recent {
    batches: Vec<StoreBatch>,
    latest: HashTable<Place>,
    memory_bytes: usize,
}

/// A place in the table, with the room that is free beside it.
const PLACE_BYTES: usize = 2 * size_of::<Place>();

fn hash_of(key: &[u8]) -> u64 {
    FxBuildHasher.hash_one(key)
}

fn number(index: usize) -> u32 {
    u32::try_from(index).expect("a file is written long before 2^32 changes")
}

/// How long the bytes are that all keys of a table begin with.
fn common_lengths(changes: &[Change<'_>]) -> [usize; TABLES] {
    let mut prefixes = [None; TABLES];
    for (key, _) in changes {
        let prefix: &mut &[u8] = prefixes[table_of(key)].get_or_insert(key);
        let common = prefix.iter().zip(*key).take_while(|(one, other)| one == other).count();
        *prefix = &prefix[..common];
    }
    prefixes.map(|prefix| prefix.map_or(0, <[u8]>::len))
}

fn table_of(key: &[u8]) -> usize {
    key.first().copied().map_or(0, usize::from)
}

/// A key's table, and the seven bytes after what all keys of the table begin with. They sort as the keys do, and tell
/// nearly all apart where what follows is random: orders, and the buyers of one drop.
fn telling_bytes(key: &[u8], common_lengths: &[usize; TABLES]) -> u64 {
    let table = table_of(key);
    let mut telling = [0; 8];
    let rest = &key[common_lengths[table]..];
    let length = rest.len().min(7);
    telling[1..=length].copy_from_slice(&rest[..length]);
    ((table as u64) << 56) | u64::from_be_bytes(telling)
}

impl Recent {
    /// Room for as many keys as the batches before had.
    pub(super) fn sized_like(other: &Self) -> Self {
        let latest = HashTable::with_capacity(other.latest.len());
        Self { batches: Vec::with_capacity(other.batches.len()), latest, memory_bytes: 0 }
    }

    pub(super) fn add(&mut self, batch: StoreBatch) {
        let index = number(self.batches.len());
        self.memory_bytes += batch.memory_bytes() + batch.len() * PLACE_BYTES;
        self.batches.push(batch);
        let Self { batches, latest, .. } = self;
        let key_of = |place: &Place| batches[place.batch as usize].change(place.change as usize).0;
        for change in 0..number(batches[index as usize].len()) {
            let (key, _) = batches[index as usize].change(change as usize);
            let place = Place { hash: hash_of(key), batch: index, change };
            let is_same = |other: &Place| other.hash == place.hash && key_of(other) == key;
            match latest.entry(place.hash, is_same, |place| place.hash) {
                Entry::Occupied(mut earlier) => *earlier.get_mut() = place,
                Entry::Vacant(vacant) => drop(vacant.insert(place)),
            }
        }
    }

    fn change(&self, place: &Place) -> Change<'_> {
        self.batches[place.batch as usize].change(place.change as usize)
    }

    /// The latest change of a key.
    pub(super) fn get(&self, key: &[u8]) -> Option<Change<'_>> {
        let hash = hash_of(key);
        let is_same = |place: &Place| place.hash == hash && self.change(place).0 == key;
        self.latest.find(hash, is_same).map(|place| self.change(place))
    }

    /// Where the last batch stands.
    pub(super) fn position(&self) -> Option<&Position> {
        self.batches.last().map(|batch| &batch.position)
    }

    /// What all batches take, those without changes too: they carry a position, and have to end in a file.
    pub(super) fn memory_bytes(&self) -> usize {
        self.memory_bytes
    }

    /// The latest change of every key, in key order.
    pub(super) fn in_key_order(&self) -> Vec<Change<'_>> {
        // One after the other, as they lie in memory: in the order of the hash table, each would be a cache miss.
        let mut changes = Vec::with_capacity(self.batches.iter().map(StoreBatch::len).sum());
        changes.extend(self.batches.iter().flat_map(StoreBatch::changes));
        let key_of = |at: u32| changes[at as usize].0;
        let common_lengths = common_lengths(&changes);
        let telling = |(key, _): &Change<'_>| telling_bytes(key, &common_lengths);
        let mut order: Vec<(u64, u32)> = changes.iter().map(telling).zip(0..).collect();
        order.sort_unstable_by(|(telling, at), (other_telling, other)| {
            let whole = || key_of(*at).cmp(key_of(*other));
            telling.cmp(other_telling).then_with(whole).then(other.cmp(at)) // the latest first
        });
        order.dedup_by(|(telling, at), (latest_telling, latest)| {
            telling == latest_telling && key_of(*at) == key_of(*latest)
        });
        order.into_iter().map(|(_, at)| changes[at as usize]).collect()
    }
}
