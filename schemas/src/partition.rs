//! Which partition a key lives in: Kafka's murmur2, computed here because every producer must agree.
//!
//! Source of the function: Kafka's default partitioner, `Utils.murmur2` (Austin Appleby's `MurmurHash2`,
//! seed 0x9747b28c). librdkafka's own default is CRC32 and would scatter keys differently.

use crate::ids::{CreatorId, DropId, OrderId};

/// A partition of a topic, from 0.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Partition(pub u16);

impl std::fmt::Display for Partition {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(formatter)
    }
}

/// `MurmurHash2` with Kafka's seed.
#[must_use]
pub fn murmur2(key: &[u8]) -> u32 {
    const M: u32 = 0x5bd1_e995;
    let mut hash = 0x9747_b28c_u32 ^ u32::try_from(key.len()).unwrap_or(u32::MAX);
    let (words, tail) = key.as_chunks::<4>();
    for word in words {
        let mut k = u32::from_le_bytes(*word).wrapping_mul(M);
        k ^= k >> 24;
        hash = hash.wrapping_mul(M) ^ k.wrapping_mul(M);
    }
    for (index, byte) in tail.iter().enumerate() {
        hash ^= u32::from(*byte) << (8 * index);
    }
    if !tail.is_empty() {
        hash = hash.wrapping_mul(M);
    }
    hash ^= hash >> 13;
    hash = hash.wrapping_mul(M);
    hash ^ (hash >> 15)
}

/// A murmur2 value's partition among `count`, as Kafka's `toPositive(hash) % count`.
#[must_use]
pub fn of_hash(hash: u32, count: u16) -> Partition {
    let positive = hash & 0x7fff_ffff;
    Partition(u16::try_from(positive % u32::from(count.max(1))).unwrap_or(0))
}

impl DropId {
    /// The partition of every intent and decision of this drop.
    #[must_use]
    pub fn partition(self, count: u16) -> Partition {
        of_hash(murmur2(&self.0), count)
    }
}

impl OrderId {
    /// The partition of the order's drop.
    #[must_use]
    pub fn partition(self, count: u16) -> Partition {
        of_hash(self.drop_hash(), count)
    }
}

impl CreatorId {
    /// The partition of every follow intent and decision about this creator.
    #[must_use]
    pub fn partition(self, count: u16) -> Partition {
        of_hash(murmur2(&self.0), count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn murmur2_agrees_with_kafkas_published_vectors() {
        // From Kafka's UtilsTest.testMurmur2.
        for (key, expected) in [
            ("21", -973_932_308_i32),
            ("foobar", -790_332_482),
            ("a-little-bit-long-string", -985_981_536),
            ("a-little-bit-longer-string", -1_486_304_829),
            ("lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58_897_971),
            ("abc", 479_470_107),
        ] {
            assert_eq!(murmur2(key.as_bytes()).cast_signed(), expected, "{key}");
        }
    }

    #[test]
    fn an_order_id_names_the_partition_of_its_drop() {
        for seed in 0..200_u8 {
            let drop = DropId([seed; 16]);
            let order = OrderId::derive(drop, crate::ids::UserId([1; 16]), "key");
            for count in [1, 3, 12, 48] {
                assert_eq!(order.partition(count), drop.partition(count));
            }
        }
    }
}
