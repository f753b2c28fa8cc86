use std::collections::BTreeMap;
use std::fmt;
use std::hash::{Hash, Hasher};

use schemas::avro::AvroError;
use schemas::units::Millis;

/// A store key: one table tag, then ids. Small and `Copy`, because the hot path makes several per decision.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct RowKey {
    bytes: [u8; Self::LENGTH_MAX],
    length: u8,
}

impl Hash for RowKey {
    /// Ids are random or hashes: their words and the tag tell keys apart without a walk over every byte.
    fn hash<H: Hasher>(&self, state: &mut H) {
        let word = |at: usize| {
            let bytes = self.bytes[at..].first_chunk().expect("a key has room for two ids");
            u64::from_le_bytes(*bytes)
        };
        state.write_u64(word(1) ^ u64::from(self.bytes[0]));
        state.write_u64(word(9) ^ word(17).rotate_left(16) ^ word(25).rotate_left(32));
    }
}

impl RowKey {
    /// A tag and two ids.
    pub const LENGTH_MAX: usize = 33;

    /// A key in the table `tag`. Tags are pinned for ever in the processor's `rows.rs`.
    ///
    /// # Panics
    /// Where the ids are longer than two UUIDs: a mistake that the first test of the row finds.
    #[must_use]
    #[inline]
    pub fn new(tag: u8, ids: &[&[u8]]) -> Self {
        let mut bytes = [0; Self::LENGTH_MAX];
        bytes[0] = tag;
        let mut length = 1;
        for id in ids {
            bytes[length..length + id.len()].copy_from_slice(id);
            length += id.len();
        }
        Self { bytes, length: u8::try_from(length).expect("a key is at most 33 bytes") }
    }

    /// A key read back from a store, or `None` where it is empty or too long to be one.
    #[must_use]
    pub fn from_bytes(key: &[u8]) -> Option<Self> {
        let (tag, rest) = key.split_first()?;
        (rest.len() < Self::LENGTH_MAX).then(|| Self::new(*tag, &[rest]))
    }

    /// The table.
    #[must_use]
    pub fn tag(&self) -> u8 {
        self.bytes[0]
    }

    /// The bytes in the store.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.length)]
    }
}

impl fmt::Debug for RowKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_bytes().iter().try_for_each(|byte| write!(formatter, "{byte:02x}"))
    }
}

/// A place of a row in one of its processor's queues. Ordered by (queue, size, position), so that all that is
/// of one size stands together, first come first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct QueueKey {
    /// Names the queue: a tag and up to two ids.
    pub queue: RowKey,
    /// What the row asks for.
    pub size: u32,
    /// When it came.
    pub position: i64,
}

impl QueueKey {
    /// The first place at or after this one in its queue, and whose it is.
    #[must_use]
    pub fn next_in(&self, places: &BTreeMap<Self, RowKey>) -> Option<(Self, RowKey)> {
        let (place, row) = places.range(self..).next()?;
        (place.queue == self.queue).then_some((*place, *row))
    }
}

/// A deadline of a row. Ordered by (deadline, kind, row): the order in which due timers fire.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Timer {
    /// The deadline in log time.
    pub deadline: Millis,
    /// [`Timer::AT`] or [`Timer::AFTER`].
    pub kind: u8,
    /// The row it belongs to.
    pub row: RowKey,
}

impl Timer {
    /// Fires before the first intent at or after the deadline: an opening.
    pub const AT: u8 = 0;
    /// Fires before the first intent after the deadline: a closing or an expiry. An intent appended at the
    /// very deadline still wins.
    pub const AFTER: u8 = 1;

    /// Work to go on with before anything else: it is due at once and comes before every deadline. Rows with
    /// such a timer are taken in key order, hence oldest first where the key is a growing number.
    #[must_use]
    pub const fn continuation(row: RowKey) -> Self {
        Self { deadline: Millis(i64::MIN), kind: Self::AT, row }
    }

    /// Whether it is a [`Timer::continuation`].
    #[must_use]
    pub const fn is_continuation(&self) -> bool {
        self.deadline.0 == i64::MIN
    }

    /// Whether it fires before an intent appended at `log_time`.
    #[must_use]
    pub fn is_due(&self, log_time: Millis) -> bool {
        self.deadline < log_time || (self.deadline == log_time && self.kind == Self::AT)
    }
}

/// A table whose rows are mostly asked for where there is none, and the groups that its keys fall into.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct KeyGroups {
    /// Its tag.
    pub table: u8,
    /// Keys that begin with the same bytes, so many with the tag, are a group: one that comes up as a whole, as the
    /// orders of a drop do. Each key is longer.
    pub prefix_bytes: usize,
}

/// A row of a processor's state. Cheap to clone: what is large in it is shared.
pub trait Row: Sized + Clone + PartialEq + fmt::Debug + Send + Sync + 'static {
    /// Tables whose rows are mostly asked for in vain: the runtime spares itself most of the searches.
    const MOSTLY_MISSING: &'static [KeyGroups] = &[];

    /// Where it lives.
    fn key(&self) -> RowKey;

    /// Its deadline, if it has one. The timer index is a function of (old row, new row), nothing else.
    fn timer(&self) -> Option<Timer>;

    /// Its place in a queue, if it waits in one. Like the timer, a function of the row alone.
    fn queue(&self) -> Option<QueueKey> {
        None
    }

    /// Whether nothing can be under its key yet: a fold need not ask the store for an older row. False where unknown.
    fn is_first(&self) -> bool {
        false
    }

    /// Appends its bytes.
    fn encode(&self, buffer: &mut Vec<u8>);

    /// Reads it back.
    ///
    /// # Errors
    /// Where the bytes are not a row of the table `tag`: the store is damaged or newer than this build.
    fn decode(tag: u8, bytes: &[u8]) -> Result<Self, AvroError>;
}

/// The store could not be read. The batch is thrown away and the partition recovers.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("store read failed: {0}")]
pub struct ReadFailed(pub String);

/// The rows a decision may read: the store under the batch's own uncommitted puts.
pub trait Rows<R: Row> {
    /// The row as of the decision before this one.
    ///
    /// # Errors
    /// [`ReadFailed`] where the store cannot answer; the decision must not be made without it.
    fn get(&self, key: &RowKey) -> Result<Option<R>, ReadFailed>;

    /// The first place at or after `from` in the queue that `from` names, and whose it is.
    fn next_in_queue(&self, from: &QueueKey) -> Option<(QueueKey, RowKey)>;

    /// Up to `limit` keys that begin with `prefix` and come after `after`, in key order. For continuations:
    /// it reads the store, so no rule on the hot path may need it.
    ///
    /// # Errors
    /// [`ReadFailed`] where the store cannot answer.
    fn keys_after(
        &self,
        prefix: &RowKey,
        after: Option<&RowKey>,
        limit: usize,
    ) -> Result<Vec<RowKey>, ReadFailed>;
}

/// What a decision does to the rows.
#[derive(Clone, PartialEq, Debug)]
pub enum RowChange<R> {
    /// The row is this from now on.
    Put(R),
    /// The row is gone.
    Delete(RowKey),
}
