//! Keys of the embedded log.

use schemas::partition::Partition;
use schemas::topics::{self, Topic};

/// Position of a topic in [`topics::ALL`]. The order of that table is part of the format.
pub(super) fn topic_index(topic: Topic) -> usize {
    let index = topics::ALL.iter().position(|known| known.name == topic.name);
    index.expect("every topic is in the table")
}

/// Bytes of tag, topic and partition.
const PREFIX_LENGTH: usize = 4;

fn prefix(tag: u8, topic: Topic, partition: Partition) -> [u8; PREFIX_LENGTH] {
    let topic = u8::try_from(topic_index(topic)).expect("there are few topics");
    let [high, low] = partition.0.to_be_bytes();
    [tag, topic, high, low]
}

/// The keys of one partition that end in an offset: they sort by it.
#[derive(Clone, Copy)]
pub(super) struct OffsetKeys([u8; PREFIX_LENGTH]);

impl OffsetKeys {
    /// Records and markers.
    pub(super) fn of_records(topic: Topic, partition: Partition) -> Self {
        Self(prefix(b'r', topic, partition))
    }

    /// Aborted transactions by their first offset.
    pub(super) fn of_aborted(topic: Topic, partition: Partition) -> Self {
        Self(prefix(b'a', topic, partition))
    }

    pub(super) fn key(self, offset: i64) -> [u8; PREFIX_LENGTH + 8] {
        let mut key = [0; PREFIX_LENGTH + 8];
        let (head, tail) = key.split_at_mut(PREFIX_LENGTH);
        head.copy_from_slice(&self.0);
        tail.copy_from_slice(&offset.to_be_bytes());
        key
    }

    /// The offset in a key, if it is one of these.
    pub(super) fn offset_of(self, key: &[u8]) -> Option<i64> {
        key.strip_prefix(&self.0)?.try_into().ok().map(i64::from_be_bytes)
    }
}

/// Key of the open transaction's first offset; -1 for none.
pub(super) fn open_key(topic: Topic, partition: Partition) -> [u8; PREFIX_LENGTH] {
    prefix(b'o', topic, partition)
}

/// Key of the last owner's epoch.
pub(super) fn epoch_key(topic: Topic, partition: Partition) -> [u8; PREFIX_LENGTH] {
    prefix(b'e', topic, partition)
}
