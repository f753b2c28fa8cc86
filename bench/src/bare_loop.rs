//! The limit: intents in, records of a decision's size out, transaction after transaction, and nothing decided or kept.
//!
//! What the production task takes longer than this is ours; what this takes is librdkafka's and the broker's.

use std::collections::VecDeque;

use anyhow::Result;
use model::Topology;
use runtime::{Log as _, OutgoingDecision};
use schemas::partition::Partition;
use schemas::topics::{FOLLOW_DECISIONS, FOLLOW_INTENTS};

use crate::ours::{self, OurLog};
use crate::workload::HotDrop;

/// Topics that nothing else in a run of the benchmarks uses.
const TOPOLOGY: Topology = Topology {
    processor: "bare-loop",
    intents: FOLLOW_INTENTS,
    decisions: FOLLOW_DECISIONS,
    tables: &[],
};
/// As many as the production task takes, and what it makes of each.
const TRANSACTION_RECORDS: usize = 14_000;
const RECORD_BYTES: usize = 330;
/// Of eight bytes each: chain, ids.
const RANDOM_WORDS: usize = 10;

/// Records per second.
pub(crate) fn run(log: &OurLog, partition: Partition, drop: HotDrop) -> Result<f64> {
    let mut owned = log.own(TOPOLOGY, partition);
    let from = owned.intents_range()?.end;
    ours::fill_drop(log, (FOLLOW_INTENTS, partition), drop)?;
    owned.fence()?;
    owned.seek_intents(from)?;
    let end = owned.intents_range()?.end;
    let (mut pending, mut at, mut in_flight) = (VecDeque::new(), from, false);
    let started = platform::clock::monotonic();
    while at < end {
        owned.poll_intents(&mut pending, TRANSACTION_RECORDS)?;
        let Some(last) = pending.back() else {
            owned.wait_for_intents(std::time::Duration::from_millis(20));
            continue;
        };
        at = last.offset + 1;
        let records = pending.drain(..).map(|intent| OutgoingDecision {
            key: None,
            value: padded(intent.value, intent.offset),
        });
        let records = records.collect();
        if in_flight {
            owned.await_commit()?;
        }
        owned.submit(records)?;
        in_flight = true;
    }
    owned.await_commit()?;
    Ok(f64::from(u32::try_from(end - from)?) / started.elapsed().as_secs_f64())
}

/// The intent, then as much that no compressor can shorten as a decision has in ids and hashes, then zeros.
fn padded(mut value: Vec<u8>, offset: i64) -> Vec<u8> {
    let mut word = offset.cast_unsigned().wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    for _ in 0..RANDOM_WORDS {
        // Xorshift (Marsaglia): cheap, and good enough to be incompressible.
        word ^= word << 13;
        word ^= word >> 7;
        word ^= word << 17;
        value.extend_from_slice(&word.to_le_bytes());
    }
    value.resize(RECORD_BYTES, 0);
    value
}
