//! Keys and values of the embedded log.

use schemas::partition::Partition;
use schemas::topics::{self, Topic};
use schemas::units::Millis;

/// What lies at an offset.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    /// A record outside any transaction.
    Record = 0,
    /// A record of a transaction.
    Transactional = 1,
    /// The end of a committed transaction.
    Commit = 2,
    /// The end of an aborted transaction.
    Abort = 3,
}

/// Position of a topic in [`topics::ALL`]. The order of that table is part of the format.
pub(super) fn topic_index(topic: Topic) -> usize {
    let index = topics::ALL.iter().position(|known| known.name == topic.name);
    index.expect("every topic is in the table")
}

fn key(tag: u8, topic: Topic, partition: Partition, rest: &[u8]) -> Vec<u8> {
    let topic = u8::try_from(topic_index(topic)).expect("there are few topics");
    [&[tag, topic][..], &partition.0.to_be_bytes(), rest].concat()
}

/// Key of a record or marker.
pub(super) fn record_key(topic: Topic, partition: Partition, offset: i64) -> Vec<u8> {
    key(b'r', topic, partition, &offset.to_be_bytes())
}

/// Key of an aborted transaction by its first offset.
pub(super) fn aborted_key(topic: Topic, partition: Partition, first: i64) -> Vec<u8> {
    key(b'a', topic, partition, &first.to_be_bytes())
}

/// Key of the open transaction's first offset; -1 for none.
pub(super) fn open_key(topic: Topic, partition: Partition) -> Vec<u8> {
    key(b'o', topic, partition, &[])
}

/// Key of the last owner's epoch.
pub(super) fn epoch_key(topic: Topic, partition: Partition) -> Vec<u8> {
    key(b'e', topic, partition, &[])
}

/// Offset in a record key of this partition.
pub(super) fn offset_of(topic: Topic, partition: Partition, key: &[u8]) -> Option<i64> {
    let own = record_key(topic, partition, 0);
    let offset = key.strip_prefix(&own[..own.len() - 8])?;
    offset.try_into().ok().map(i64::from_be_bytes)
}

/// A record's value: kind, append time, payload.
pub(super) fn encode(kind: Kind, append_time: Millis, payload: &[u8]) -> Vec<u8> {
    [&[kind as u8][..], &append_time.0.to_be_bytes(), payload].concat()
}

/// Kind, append time and payload.
pub(super) fn decode(value: &[u8]) -> Option<(Kind, Millis, &[u8])> {
    let (kind, rest) = value.split_first()?;
    let (time, payload) = rest.split_first_chunk::<8>()?;
    let kind = match kind {
        0 => Kind::Record,
        1 => Kind::Transactional,
        2 => Kind::Commit,
        3 => Kind::Abort,
        _ => return None,
    };
    Some((kind, Millis(i64::from_be_bytes(*time)), payload))
}
