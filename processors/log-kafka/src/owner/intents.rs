//! The owner's reader of one intents partition, with what it has read and was not asked for yet.

use std::collections::VecDeque;
use std::time::Duration;

use rdkafka::error::KafkaError;
use rdkafka::message::{BorrowedMessage, Message, Timestamp};
use runtime::{IntentRecord, LogError};
use schemas::units::Millis;

use crate::Reader;

use super::consumer_error;

/// Of one read: an intent may have a quarter of a megabyte.
const READ_BYTES_MAX: usize = 8 * 1_024 * 1_024;

pub(super) struct Intents {
    reader: Reader,
    pub(super) stash: VecDeque<IntentRecord>,
    /// Whether the last poll said that this is the end of the topic.
    pub(super) at_end: bool,
}

impl Intents {
    pub(super) fn new(reader: Reader) -> Self {
        Self { reader, stash: VecDeque::new(), at_end: false }
    }

    /// Puts what one poll brings into the stash; false for nothing.
    pub(super) fn poll(&mut self, timeout: Duration) -> Result<bool, LogError> {
        let record = match self.reader.poll(timeout) {
            None => return Ok(false),
            Some(Ok(message)) => intent_record(&message),
            Some(Err(KafkaError::PartitionEOF(_))) => {
                self.at_end = true;
                return Ok(true);
            }
            Some(Err(error)) => return Err(consumer_error(&error)),
        };
        self.at_end = false;
        self.stash.push_back(record);
        Ok(true)
    }

    /// Fills the stash up to `records_max` with what the client has fetched, or with so many bytes of it.
    pub(super) fn take_at_hand(&mut self, records_max: usize) -> Result<(), LogError> {
        let mut bytes = 0;
        while self.stash.len() < records_max
            && bytes < READ_BYTES_MAX
            && self.poll(Duration::ZERO)?
        {
            bytes += self.stash.back().map_or(0, |record| record.value.len());
        }
        Ok(())
    }

    /// Waits for the first intent.
    pub(super) fn wait(&mut self, timeout: Duration) -> Result<(), LogError> {
        if self.stash.is_empty() {
            self.poll(timeout)?;
        }
        Ok(())
    }
}

fn intent_record(message: &BorrowedMessage<'_>) -> IntentRecord {
    // The topic is LogAppendTime; a broker that says otherwise is older than its configuration.
    let append_time = match message.timestamp() {
        Timestamp::LogAppendTime(time) | Timestamp::CreateTime(time) => Millis(time),
        Timestamp::NotAvailable => Millis(0),
    };
    IntentRecord {
        offset: message.offset(),
        append_time,
        value: message.payload().unwrap_or_default().to_vec(),
    }
}
