//! The reader of one decisions partition, for a recovery or a standby. There is one only while there is something to read.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use rdkafka::error::KafkaError;
use rdkafka::message::Message;
use runtime::{DecisionRecord, LogError};
use schemas::partition::Partition;
use schemas::topics::Topic;
use schemas::units::Millis;

use crate::{KafkaSettings, Reader, Watermarks, close_aside};

use super::{READ_BYTES_MAX, TRANSACTION_TIMEOUT, assign, consumer_error, range, unreachable};

/// Decisions returned by one read.
const READ_RECORDS_MAX: usize = 10_000;
const READ_WAIT: Duration = Duration::from_secs(10);
/// Before the end is asked for again, where markers are on their way.
const MARKERS_PAUSE: Duration = Duration::from_millis(5);
/// After so many looks that showed nothing new, a standby keeps no reader: it would poll.
const IDLE_LOOKS_MAX: u32 = 20;

pub(super) struct Decisions {
    settings: KafkaSettings,
    watermarks: Arc<Watermarks>,
    topic: Topic,
    partition: Partition,
    reader: Option<Reader>,
    /// Where the reader goes on, if it has not met an end that may not be one.
    at: Option<i64>,
    /// Where reading ends.
    end: i64,
    /// Whether an owner reads, which has fenced and is in a hurry.
    is_recovery: bool,
    /// Since when older transactions have been open.
    waiting_since: Option<Millis>,
    /// Looks of a standby since there was something to read.
    idle_looks: u32,
}

impl Decisions {
    pub(super) fn new(
        settings: KafkaSettings,
        watermarks: Arc<Watermarks>,
        topic: Topic,
        partition: Partition,
    ) -> Self {
        Self {
            settings,
            watermarks,
            topic,
            partition,
            reader: None,
            at: None,
            end: 0,
            is_recovery: false,
            waiting_since: None,
            idle_looks: 0,
        }
    }

    /// Up to the high watermark.
    pub(super) fn range(&mut self) -> Result<Range<i64>, LogError> {
        let range = range(&self.watermarks.uncommitted, self.topic, self.partition)?;
        (self.end, self.is_recovery) = (range.end, true);
        Ok(range)
    }

    /// Up to the last stable offset.
    pub(super) fn committed_range(&mut self) -> Result<Range<i64>, LogError> {
        let range = self.stable_range()?;
        let is_at_end = self.at.is_some_and(|at| at >= range.end);
        self.idle_looks = if is_at_end { self.idle_looks + 1 } else { 0 };
        if self.idle_looks > IDLE_LOOKS_MAX {
            self.close();
        }
        (self.end, self.is_recovery) = (range.end, false);
        Ok(range)
    }

    fn stable_range(&self) -> Result<Range<i64>, LogError> {
        range(&self.watermarks.committed, self.topic, self.partition)
    }

    pub(super) fn close(&mut self) {
        self.at = None;
        if let Some(reader) = self.reader.take() {
            close_aside(reader);
        }
    }

    /// The reader, standing at `from`. `None` while older transactions may still be open.
    fn standing_at(&mut self, from: i64) -> Result<Option<&Reader>, LogError> {
        if self.at != Some(from) {
            // The fence has decided every older transaction, but its markers may still be on their way.
            if self.stable_range()?.end < self.end {
                return self.wait_for_markers().map(|()| None);
            }
            self.waiting_since = None;
            let reader = match self.reader.take() {
                Some(reader) => Ok(reader),
                None if self.is_recovery => self.settings.recovery_reader(),
                None => self.settings.reader("read_committed"),
            };
            let reader = reader.map_err(unreachable)?;
            assign(&reader, self.topic, self.partition, from)?;
            self.reader = Some(reader);
        }
        Ok(self.reader.as_ref())
    }

    /// Pauses. A transaction that its coordinator has forgotten ends never, and an owner has to be able to.
    fn wait_for_markers(&mut self) -> Result<(), LogError> {
        let now = (self.settings.clock)();
        let waited = now.since(*self.waiting_since.get_or_insert(now));
        if u128::try_from(waited.0).is_ok_and(|waited| waited > 2 * TRANSACTION_TIMEOUT.as_millis())
        {
            self.waiting_since = None;
            let why = "a transaction stays open: look for a hanging one with kafka-transactions.sh";
            return Err(LogError::Unreachable(format!(
                "{} {}: {why}",
                self.topic.name, self.partition
            )));
        }
        std::thread::sleep(MARKERS_PAUSE);
        Ok(())
    }

    /// See [`runtime::Log::read_decisions`].
    pub(super) fn read(&mut self, from: i64) -> Result<(Vec<DecisionRecord>, i64), LogError> {
        let end = self.end;
        let is_checked = self.at != Some(from);
        let Some(reader) = self.standing_at(from)? else {
            return Ok((Vec::new(), from));
        };
        let mut records = Vec::new();
        let (mut next, mut bytes) = (from, 0);
        while records.len() < READ_RECORDS_MAX && bytes < READ_BYTES_MAX && next < end {
            match reader.poll(READ_WAIT) {
                None => return Err(LogError::Unreachable("no decisions within 10 s".into())),
                // Markers at the end have no message of their own: there is nothing but them if the leader that has just
                // been asked for the end shows no record either. A new leader may show less at first: ask it as well.
                Some(Err(KafkaError::PartitionEOF(_))) if is_checked && records.is_empty() => {
                    next = end;
                }
                Some(Err(KafkaError::PartitionEOF(_))) => {
                    self.at = None;
                    return Ok((records, next));
                }
                Some(Err(error)) => return Err(consumer_error(&error)),
                Some(Ok(message)) => {
                    next = message.offset() + 1;
                    let value = message.payload().unwrap_or_default().to_vec();
                    bytes += value.len();
                    records.push(DecisionRecord { offset: message.offset(), value });
                }
            }
        }
        self.at = Some(next);
        Ok((records, next))
    }
}
