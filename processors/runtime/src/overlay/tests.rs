//! An overlay over its store against rows in one map, whatever a row has gone through.

use std::cell::Cell;

use model::{KeyGroups, MapRows};
use proptest::prelude::*;
use schemas::avro::AvroError;

use super::*;

const TABLE: u8 = 7;
const KEYS: u8 = 5;

/// A row whose deadline and place in the queue follow from its value.
#[derive(Clone, PartialEq, Debug)]
struct Toy {
    id: u8,
    value: u8,
    is_first: bool,
}

/// Two ids are a group.
fn key(id: u8) -> RowKey {
    RowKey::new(TABLE, &[&[id / 2, id]])
}

impl Row for Toy {
    const MOSTLY_MISSING: &'static [KeyGroups] = &[KeyGroups { table: TABLE, prefix_bytes: 2 }];

    fn key(&self) -> RowKey {
        key(self.id)
    }

    fn timer(&self) -> Option<Timer> {
        let deadline = Millis(i64::from(self.value));
        self.value.is_multiple_of(3).then(|| Timer { deadline, kind: Timer::AT, row: self.key() })
    }

    fn queue(&self) -> Option<QueueKey> {
        let place = place(u32::from(self.value % 5), i64::from(self.id));
        self.value.is_multiple_of(4).then_some(place)
    }

    fn is_first(&self) -> bool {
        self.is_first
    }

    fn encode(&self, buffer: &mut Vec<u8>) {
        buffer.extend([self.id, self.value, u8::from(self.is_first)]);
    }

    fn decode(tag: u8, bytes: &[u8]) -> Result<Self, AvroError> {
        let &[id, value, is_first] = bytes else { return Err(AvroError::new("three bytes")) };
        assert_eq!(tag, TABLE);
        Ok(Self { id, value, is_first: is_first == 1 })
    }
}

fn place(size: u32, position: i64) -> QueueKey {
    QueueKey { queue: RowKey::new(TABLE + 1, &[]), size, position }
}

#[derive(Clone, Copy, Debug)]
enum Step {
    /// The row says that it is the first, where it is and may; then its bytes may be put alone, as a fold does.
    Put {
        id: u8,
        value: u8,
        says_first: bool,
        as_bytes: bool,
    },
    Delete(u8),
    Get(u8),
    /// The transaction goes on its way, after the one before has arrived.
    End,
    Commit,
    /// What was not committed is gone.
    Abort,
    Reopen,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        8 => (0..KEYS, any::<u8>(), any::<bool>(), any::<bool>())
            .prop_map(|(id, value, says_first, as_bytes)| Step::Put { id, value, says_first, as_bytes }),
        3 => (0..KEYS).prop_map(Step::Delete),
        3 => (0..KEYS).prop_map(Step::Get),
        3 => Just(Step::End),
        3 => Just(Step::Commit),
        1 => Just(Step::Abort),
        1 => Just(Step::Reopen),
    ];
    proptest::collection::vec(step, 1..60)
}

/// Rows as of the last decision, the last transaction sent, and the last one committed.
#[derive(Default)]
struct Expected {
    now: MapRows<Toy>,
    on_its_way: Option<MapRows<Toy>>,
    committed: MapRows<Toy>,
}

/// A store that says no more than it has to: of what has come since it was opened, nothing.
pub(super) struct Opened {
    live: MemoryStore,
    before: MemoryStore,
    asked: Cell<usize>,
    /// What it had is on a disk that fails.
    pub(super) cannot_tell: bool,
}

impl Opened {
    pub(super) fn of(live: MemoryStore) -> Self {
        Self { before: live.clone(), live, asked: Cell::new(0), cannot_tell: false }
    }
}

impl Store for Opened {
    fn position(&self) -> Result<Option<Position>, StoreError> {
        self.live.position()
    }

    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        self.asked.set(self.asked.get() + 1);
        self.live.get(key)
    }

    fn scan(
        &self,
        prefix: &[u8],
        from: &[u8],
        visit: &mut dyn FnMut(&[u8], &[u8]) -> bool,
    ) -> Result<(), StoreError> {
        self.live.scan(prefix, from, visit)
    }

    fn may_hold(&self, prefix: &[u8]) -> Result<bool, StoreError> {
        if self.cannot_tell {
            return Err(StoreError::Failed("no disk".into()));
        }
        self.before.may_hold(prefix)
    }

    fn write(&mut self, batch: StoreBatch) -> Result<(), StoreError> {
        self.live.write(batch)
    }
}

struct Compared {
    overlay: Overlay<Toy, Opened>,
    expected: Expected,
}

impl Compared {
    fn apply(&mut self, change: RowChange<Toy>) {
        self.overlay.apply(change.clone()).unwrap();
        self.expected.now.apply(change);
    }

    fn put_first(&mut self, row: Toy) {
        let mut bytes = Vec::new();
        row.encode(&mut bytes);
        self.overlay.note(std::iter::once(&row.key())).unwrap();
        self.overlay.put_noted(row.key(), &bytes);
        self.expected.now.apply(RowChange::Put(row));
    }

    fn commit(&mut self) {
        if let Some(rows) = self.expected.on_its_way.take() {
            self.overlay.write(Position::start("log".into())).unwrap();
            self.expected.committed = rows;
        }
    }

    fn abort(&mut self) {
        self.expected.on_its_way = None;
        self.expected.now = self.expected.committed.clone();
    }

    fn take(&mut self, step: Step) {
        match step {
            Step::Put { id, value, says_first, as_bytes } => {
                let is_first = says_first && self.expected.now.get(&key(id)).unwrap().is_none();
                let row = Toy { id, value, is_first };
                if is_first && as_bytes && row.timer().is_none() && row.queue().is_none() {
                    self.put_first(row);
                } else {
                    self.apply(RowChange::Put(row));
                }
            }
            Step::Delete(id) => self.apply(RowChange::Delete(key(id))),
            Step::Get(id) => {
                let expected = self.expected.now.get(&key(id)).unwrap();
                assert_eq!(self.overlay.get(&key(id)).unwrap(), expected);
            }
            Step::End => {
                self.commit();
                self.overlay.end_transaction();
                self.expected.on_its_way = Some(self.expected.now.clone());
            }
            Step::Commit => self.commit(),
            Step::Abort => {
                self.overlay.reset().unwrap();
                self.abort();
            }
            Step::Reopen => {
                let store = Opened::of(self.overlay.store.live.clone());
                self.overlay = Overlay::open(store).unwrap();
                self.abort();
            }
        }
    }

    fn assert_alike(&self) {
        let (overlay, expected) = (&self.overlay, &self.expected.now);
        assert_eq!(overlay.first_timer(), expected.first_timer());
        for size in 0..5 {
            let from = place(size, 2);
            assert_eq!(overlay.next_in_queue(&from), expected.next_in_queue(&from));
        }
        let table = RowKey::new(TABLE, &[]);
        for (after, limit) in [(None, 9), (Some(key(1)), 2), (Some(key(3)), 9)] {
            let keys = overlay.keys_after(&table, after.as_ref(), limit).unwrap();
            assert_eq!(keys, expected.keys_after(&table, after.as_ref(), limit).unwrap());
        }
    }
}

#[test]
fn rows_that_cannot_be_there_are_not_searched_for() {
    let mut overlay = Overlay::open(Opened::of(MemoryStore::default())).unwrap();
    let searches = |overlay: &Overlay<Toy, Opened>, id| {
        overlay.store.asked.set(0);
        assert_eq!(overlay.get(&key(id)).unwrap(), None);
        overlay.store.asked.get()
    };
    overlay.apply(RowChange::Put(Toy { id: 2, value: 1, is_first: true })).unwrap();
    assert_eq!(searches(&overlay, 3), 0, "its group began here");
    assert_eq!(searches(&overlay, 4), 1, "nothing is known of its group");
    overlay.flush(Position::start("log".into())).unwrap();
    let mut reopened = Overlay::open(Opened::of(overlay.store.live)).unwrap();
    reopened.apply(RowChange::Put(Toy { id: 2, value: 2, is_first: false })).unwrap();
    assert_eq!(searches(&reopened, 3), 1, "its group was there before");
}

proptest! {
    /// A row may be new, new and changed again, deleted, asked for or not, in this transaction, the one on its way or
    /// the store.
    #[test]
    fn rows_are_as_the_last_decision_left_them(steps in steps()) {
        let overlay = Overlay::open(Opened::of(MemoryStore::default())).unwrap();
        let mut compared = Compared { overlay, expected: Expected::default() };
        for step in steps {
            compared.take(step);
            compared.assert_alike();
        }
        (0..KEYS).for_each(|id| compared.take(Step::Get(id)));
    }
}
