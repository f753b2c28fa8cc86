//! Reading committed records of a topic.

use std::ops::{Range, RangeInclusive};
use std::time::Duration;

use rocksdb::{DBRawIterator, ReadOptions};
use runtime::{CommittedRecord, Tail, TailError, TailStart};
use schemas::partition::Partition;
use schemas::topics::Topic;

use super::EmbeddedLog;
use super::keys::{OffsetKeys, topic_index};
use super::row::{Kind, Row};

/// Of an owner, who reads everything once: what views and payments read too would go from the cache for what nobody asks
/// for again.
pub(super) fn read_once() -> ReadOptions {
    let mut options = ReadOptions::default();
    options.fill_cache(false);
    options
}

/// Goes to the row that holds `from`, or to the first one after it.
fn seek(entries: &mut DBRawIterator<'_>, keys: OffsetKeys, from: i64) {
    let key = keys.key(from);
    entries.seek(key);
    if entries.key() == Some(&key) {
        return;
    }
    // Rare, of whoever took only a part of a row: looking backwards takes twice as long.
    entries.seek_for_prev(key);
    if !entries.valid() && entries.status().is_ok() {
        entries.seek_to_first();
    }
}

/// Of one read: an intent may have a quarter of a megabyte.
const READ_BYTES_MAX: usize = 16 * 1_024 * 1_024;

impl EmbeddedLog {
    /// Records of `from..until` that no aborted transaction holds, at most `records_max` or some megabytes of them, and
    /// the offset to go on from.
    pub(super) fn read_committed(
        &self,
        topic: Topic,
        partition: Partition,
        from: i64,
        until: i64,
        records_max: usize,
        mut options: ReadOptions,
    ) -> Result<(Vec<CommittedRecord>, i64), String> {
        let keys = OffsetKeys::of_records(topic, partition);
        options.set_iterate_lower_bound(keys.key(0));
        options.set_iterate_upper_bound(keys.key(until));
        let aborted = self.aborted(topic, partition, from..until);
        let is_aborted = |offset| aborted.iter().any(|aborted| aborted.contains(&offset));
        let (mut records, mut bytes, mut room) = (Vec::new(), 0, Vec::new());
        // Not the iterator that copies every key and value.
        let mut entries = self.inner.db.raw_iterator_opt(options);
        seek(&mut entries, keys, from);
        let mut due = None;
        while let Some((key, value)) = entries.item() {
            let first = keys.offset_of(key).ok_or("a record key is damaged")?;
            if due.map_or(first > from, |due| due != first) {
                return Err(format!("a row begins at {first}, {} is due", due.unwrap_or(from)));
            }
            let row = Row::read(value, &mut room).ok_or("a record is damaged")?;
            let append_time = row.append_time;
            let is_committed = match row.kind {
                Kind::Record => true,
                Kind::Transactional => !is_aborted(first), // a row is of one transaction
                Kind::Commit | Kind::Abort => false,
            };
            let mut offset = first;
            for record in row.records() {
                let record = record.ok_or("a record is damaged")?;
                if is_committed && offset >= from {
                    if records.len() >= records_max || bytes >= READ_BYTES_MAX {
                        return Ok((records, offset));
                    }
                    bytes += record.len();
                    let value = record.to_vec();
                    records.push(CommittedRecord { partition, offset, append_time, value });
                }
                offset += 1;
            }
            due = Some(offset);
            entries.next();
        }
        entries.status().map_err(|error| error.to_string())?;
        let end = due.unwrap_or(from);
        if end < until {
            return Err(format!("the rows end at {end}, {until} is the end of the log"));
        }
        Ok((records, until.max(from)))
    }

    /// Aborted transactions with records in `offsets`.
    fn aborted(
        &self,
        topic: Topic,
        partition: Partition,
        offsets: Range<i64>,
    ) -> Vec<RangeInclusive<i64>> {
        let transaction = self.inner.slot(topic, partition).transaction();
        // Transactions do not overlap: the latest ones come first, and an older one ends before they begin.
        let begun = transaction.aborted.range(..offsets.end).rev();
        let touching = begun.take_while(|(_, last)| **last >= offsets.start);
        touching.map(|(first, last)| *first..=*last).collect()
    }

    /// A tail of committed records of every partition of `topic`, which starts where `start` says.
    #[must_use]
    pub fn tail(&self, topic: Topic, start: impl Fn(Partition) -> TailStart) -> EmbeddedTail {
        let positions = (0..self.inner.partitions).map(|partition| {
            let partition = Partition(partition);
            let end = self.inner.slot(topic, partition).last_stable_offset();
            let position = match start(partition) {
                TailStart::Beginning => 0,
                TailStart::Offset(offset) => offset,
                TailStart::BeforeEnd(count) => (end - count).max(0),
            };
            (partition, position)
        });
        EmbeddedTail { log: self.clone(), topic, positions: positions.collect() }
    }
}

/// See [`EmbeddedLog::tail`].
#[derive(Debug)]
pub struct EmbeddedTail {
    log: EmbeddedLog,
    topic: Topic,
    positions: Vec<(Partition, i64)>,
}

impl EmbeddedTail {
    fn read(&mut self, records_max: usize) -> Result<Vec<CommittedRecord>, TailError> {
        let mut records = Vec::new();
        for (partition, position) in &mut self.positions {
            let until = self.log.inner.slot(self.topic, *partition).last_stable_offset();
            let room = records_max.saturating_sub(records.len());
            if *position >= until || room == 0 {
                continue;
            }
            let options = ReadOptions::default();
            let read =
                self.log.read_committed(self.topic, *partition, *position, until, room, options);
            match read {
                Ok((more, next)) => {
                    records.extend(more);
                    *position = next;
                }
                // What was read of other partitions is past their positions: the next read meets the error again.
                Err(_) if !records.is_empty() => break,
                Err(why) => return Err(TailError::Unreachable(why)),
            }
        }
        Ok(records)
    }
}

impl Tail for EmbeddedTail {
    fn poll(
        &mut self,
        timeout: Duration,
        records_max: usize,
    ) -> Result<Vec<CommittedRecord>, TailError> {
        let inner = self.log.inner.clone();
        let signal = &inner.topic_signals[topic_index(self.topic)];
        let seen = signal.version();
        let records = self.read(records_max)?;
        if !records.is_empty() {
            return Ok(records);
        }
        signal.wait_past(seen, timeout);
        self.read(records_max)
    }

    fn ends(&mut self) -> Result<Vec<(Partition, i64)>, TailError> {
        let slot_end = |partition| self.log.inner.slot(self.topic, partition).last_stable_offset();
        let partitions = (0..self.log.inner.partitions).map(Partition);
        Ok(partitions.map(|partition| (partition, slot_end(partition))).collect())
    }

    fn positions(&mut self) -> Result<Vec<(Partition, i64)>, TailError> {
        Ok(self.positions.clone())
    }
}
