//! The owner's transactional view of one partition.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::atomic::Ordering;
use std::time::Duration;

use model::Topology;
use rocksdb::WriteBatch;
use runtime::{
    BACKLOG_MIN, DecisionRecord, IntentAppender, IntentRecord, IntentToAppend, Log, LogError,
    OutgoingDecision, Worker,
};
use schemas::partition::Partition;
use schemas::topics::Topic;
use schemas::units::Millis;

use super::keys::{OffsetKeys, epoch_key, open_key};
use super::row::{Kind, Run};
use super::tail::read_once;
use super::{EmbeddedLog, Slot, TransactionState};

/// Decisions returned by one read during recovery.
const READ_RECORDS_MAX: usize = 1_024;
/// No transaction is open.
const NONE: i64 = -1;
/// Roughly what a record's length and its part of a row add to it in a batch, where nothing is compressed.
const RECORD_OVERHEAD: usize = 8;

/// `intents[p]` and `decisions[p]` in the hands of one owner.
#[derive(Debug)]
pub struct OwnedPartition {
    log: EmbeddedLog,
    topology: Topology,
    partition: Partition,
    epoch: u32,
    next_intent: i64,
    /// Intents before `next_intent` that were not asked for yet.
    stash: VecDeque<IntentRecord>,
    seen: u64,
    /// Takes a backlog's next intents from the log.
    reading: Worker<Intents>,
    /// Sends and commits a backlog's transactions.
    committing: Worker<i64>,
}

/// Intents, and the offset after them.
type Intents = (VecDeque<IntentRecord>, i64);

/// The transactions of one owner, one at a time.
#[derive(Clone, Debug)]
struct Transactions {
    log: EmbeddedLog,
    topic: Topic,
    partition: Partition,
    epoch: u32,
}

impl EmbeddedLog {
    /// The owner's view of a partition; [`Log::fence`] makes it the only one.
    #[must_use]
    pub fn own(&self, topology: Topology, partition: Partition) -> OwnedPartition {
        OwnedPartition {
            log: self.clone(),
            topology,
            partition,
            epoch: 0,
            next_intent: 0,
            stash: VecDeque::new(),
            seen: 0,
            reading: Worker::named("log-reader"),
            committing: Worker::named("log-committer"),
        }
    }
}

impl OwnedPartition {
    fn decisions(&self) -> &Slot {
        self.log.inner.slot(self.topology.decisions, self.partition)
    }

    fn intents(&self) -> &Slot {
        self.log.inner.slot(self.topology.intents, self.partition)
    }

    /// What reads intents of `from..until`, as many as asked for.
    fn intents_reader(&self) -> impl Fn(Range<i64>, usize) -> Result<Intents, LogError> + use<> {
        let (log, topic, partition) = (self.log.clone(), self.topology.intents, self.partition);
        move |offsets, records_max| {
            let (records, next) = log
                .read_committed(
                    topic,
                    partition,
                    offsets.start,
                    offsets.end,
                    records_max,
                    read_once(),
                )
                .map_err(recover)?;
            let intents = records.into_iter().map(|record| IntentRecord {
                offset: record.offset,
                append_time: record.append_time,
                value: record.value,
            });
            Ok((intents.collect(), next))
        }
    }

    fn keep(&mut self, (mut intents, next): Intents) {
        self.stash.append(&mut intents);
        self.next_intent = next;
    }

    fn transactions(&self) -> Transactions {
        Transactions {
            log: self.log.clone(),
            topic: self.topology.decisions,
            partition: self.partition,
            epoch: self.epoch,
        }
    }
}

impl Transactions {
    fn slot(&self) -> &Slot {
        self.log.inner.slot(self.topic, self.partition)
    }

    fn check_epoch(&self, transaction: &TransactionState) -> Result<(), LogError> {
        if transaction.owner_epoch == self.epoch {
            return Ok(());
        }
        Err(LogError::Fenced(format!("epoch {} follows {}", transaction.owner_epoch, self.epoch)))
    }

    /// Ends the open transaction with a marker; returns the marker's batch, to be written with it.
    fn marker(&self, batch: &mut WriteBatch, kind: Kind, first: i64, end: i64) {
        let now = (self.log.inner.clock)();
        let keys = OffsetKeys::of_records(self.topic, self.partition);
        let mut marker = Run::new(keys, kind, now, end);
        marker.push(batch, &first.to_be_bytes());
        marker.finish(batch);
        batch.put(open_key(self.topic, self.partition), NONE.to_be_bytes());
    }

    fn send(&self, decisions: &[OutgoingDecision]) -> Result<(), LogError> {
        let slot = self.slot();
        // Only the owner moves the end, or a fence, after which this one's epoch is over: so rows are made, and
        // compressed, while others may read.
        let first = slot.end();
        let size = decisions.iter().map(|decision| decision.value.len() + RECORD_OVERHEAD).sum();
        let mut batch = WriteBatch::with_capacity_bytes(size);
        let keys = OffsetKeys::of_records(self.topic, self.partition);
        let mut run = Run::new(keys, Kind::Transactional, Millis(0), first);
        for OutgoingDecision { value, .. } in decisions {
            run.push(&mut batch, value);
        }
        let end = run.finish(&mut batch);
        batch.put(open_key(self.topic, self.partition), first.to_be_bytes());
        let mut transaction = slot.transaction();
        self.check_epoch(&transaction)?;
        // Not synced: the commit marker's fsync makes both durable, in this order.
        self.log.inner.write(batch, false).map_err(recover)?;
        transaction.open_from = Some(first);
        slot.end.store(end, Ordering::Release);
        Ok(())
    }

    fn commit(&self) -> Result<i64, LogError> {
        let slot = self.slot();
        let mut transaction = slot.transaction();
        self.check_epoch(&transaction)?;
        let Some(first) = transaction.open_from else {
            return Err(LogError::Recover("no transaction is open".into()));
        };
        let end = slot.end();
        let mut batch = WriteBatch::default();
        self.marker(&mut batch, Kind::Commit, first, end);
        self.log.inner.write(batch, true).map_err(recover)?;
        slot.end.fetch_add(1, Ordering::AcqRel);
        transaction.open_from = None;
        drop(transaction);
        self.log.inner.announce(self.topic, self.partition);
        Ok(end)
    }
}

fn recover(error: String) -> LogError {
    LogError::Recover(error)
}

impl Log for OwnedPartition {
    fn log_id(&mut self) -> Result<String, LogError> {
        Ok(self.log.inner.log_id.clone())
    }

    fn partition_counts(&mut self) -> Result<(u16, u16), LogError> {
        Ok((self.log.inner.partitions, self.log.inner.partitions))
    }

    fn fence(&mut self) -> Result<(), LogError> {
        drop(self.committing.outcome());
        let (topic, partition) = (self.topology.decisions, self.partition);
        let slot = self.decisions();
        let mut transaction = slot.transaction();
        let epoch = transaction.owner_epoch + 1;
        let mut batch = WriteBatch::default();
        batch.put(epoch_key(topic, partition), i64::from(epoch).to_be_bytes());
        let open = transaction.open_from;
        if let Some(first) = open {
            let end = slot.end();
            self.transactions().marker(&mut batch, Kind::Abort, first, end);
            let key = OffsetKeys::of_aborted(topic, partition).key(first);
            batch.put(key, (end - 1).to_be_bytes());
        }
        self.log.inner.write(batch, true).map_err(LogError::Unreachable)?;
        if let Some(first) = open {
            let end = slot.end.fetch_add(1, Ordering::AcqRel);
            transaction.aborted.insert(first, end - 1);
            transaction.open_from = None;
        }
        transaction.owner_epoch = epoch;
        drop(transaction);
        self.epoch = epoch;
        self.log.inner.announce(topic, partition);
        Ok(())
    }

    fn intents_range(&mut self) -> Result<Range<i64>, LogError> {
        Ok(0..self.intents().end())
    }

    fn decisions_range(&mut self) -> Result<Range<i64>, LogError> {
        Ok(0..self.decisions().end())
    }

    fn committed_range(&mut self) -> Result<Range<i64>, LogError> {
        Ok(0..self.decisions().last_stable_offset())
    }

    fn read_decisions(&mut self, from: i64) -> Result<(Vec<DecisionRecord>, i64), LogError> {
        let until = self.decisions().last_stable_offset();
        let topic = self.topology.decisions;
        let (records, next) = self
            .log
            .read_committed(topic, self.partition, from, until, READ_RECORDS_MAX, read_once())
            .map_err(recover)?;
        let records = records.into_iter();
        let decisions =
            records.map(|record| DecisionRecord { offset: record.offset, value: record.value });
        Ok((decisions.collect(), next))
    }

    fn seek_intents(&mut self, offset: i64) -> Result<(), LogError> {
        drop(self.reading.outcome());
        self.stash.clear();
        self.next_intent = offset;
        Ok(())
    }

    fn poll_intents(
        &mut self,
        into: &mut VecDeque<IntentRecord>,
        records_max: usize,
    ) -> Result<bool, LogError> {
        self.seen = self.intents().signal.version();
        let end = self.intents().end();
        if let Some(read) = self.reading.outcome() {
            self.keep(read?);
        }
        let read = self.intents_reader();
        let room = records_max.saturating_sub(into.len());
        if self.next_intent < end && self.stash.len() < room {
            self.keep(read(self.next_intent..end, room - self.stash.len())?);
        }
        into.extend(self.stash.drain(..room.min(self.stash.len())));
        if self.next_intent < end && self.stash.is_empty() && into.len() >= BACKLOG_MIN {
            let offsets = self.next_intent..end;
            self.reading.start(move || read(offsets, records_max));
        }
        Ok(self.next_intent == end && self.stash.is_empty())
    }

    fn submit(&mut self, decisions: Vec<OutgoingDecision>) -> Result<(), LogError> {
        let transactions = self.transactions();
        if decisions.len() < BACKLOG_MIN {
            return transactions.send(&decisions);
        }
        self.committing
            .start(move || transactions.send(&decisions).and_then(|()| transactions.commit()));
        Ok(())
    }

    fn await_commit(&mut self) -> Result<i64, LogError> {
        self.committing.outcome().unwrap_or_else(|| self.transactions().commit())
    }

    fn append_tick(&mut self, value: Vec<u8>) -> Result<(), LogError> {
        let (topic, partition) = (self.topology.intents, self.partition);
        let tick = IntentToAppend { topic, partition, key: None, value, traceparent: None };
        drop(self.log.append(tick));
        Ok(())
    }

    fn wait_for_intents(&mut self, timeout: Duration) {
        self.intents().signal.wait_past(self.seen, timeout);
    }
}
