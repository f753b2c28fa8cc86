//! Reading committed records of a topic.

use std::time::Duration;

use rocksdb::{IteratorMode, ReadOptions};
use runtime::{CommittedRecord, Tail, TailError, TailStart};
use schemas::partition::Partition;
use schemas::topics::Topic;

use super::EmbeddedLog;
use super::entry::{Kind, decode, offset_of, record_key, topic_index};

impl EmbeddedLog {
    /// Records of `from..until` that no aborted transaction holds, at most `records_max`, and the offset to
    /// go on from.
    pub(super) fn read_committed(
        &self,
        topic: Topic,
        partition: Partition,
        from: i64,
        until: i64,
        records_max: usize,
    ) -> Result<(Vec<CommittedRecord>, i64), String> {
        let mut options = ReadOptions::default();
        options.set_iterate_lower_bound(record_key(topic, partition, from));
        options.set_iterate_upper_bound(record_key(topic, partition, until));
        let mut records = Vec::new();
        let mut next = from;
        for item in self.inner.db.iterator_opt(IteratorMode::Start, options) {
            if records.len() >= records_max {
                return Ok((records, next));
            }
            let (key, value) = item.map_err(|error| error.to_string())?;
            let offset = offset_of(topic, partition, &key).ok_or("a record key is damaged")?;
            let (kind, append_time, payload) = decode(&value).ok_or("a record is damaged")?;
            next = offset + 1;
            let is_committed = match kind {
                Kind::Record => true,
                Kind::Transactional => !self.is_aborted(topic, partition, offset),
                Kind::Commit | Kind::Abort => false,
            };
            if is_committed {
                records.push(CommittedRecord {
                    partition,
                    offset,
                    append_time,
                    value: payload.to_vec(),
                });
            }
        }
        Ok((records, until.max(from)))
    }

    fn is_aborted(&self, topic: Topic, partition: Partition, offset: i64) -> bool {
        let transaction = self.inner.slot(topic, partition).transaction();
        transaction.aborted.range(..=offset).next_back().is_some_and(|(_, last)| offset <= *last)
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
            let (more, next) = self
                .log
                .read_committed(self.topic, *partition, *position, until, room)
                .map_err(TailError::Unreachable)?;
            records.extend(more);
            *position = next;
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
