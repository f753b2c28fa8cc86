//! The owner's reader of one intents partition, with what it has read and was not asked for yet.

use std::collections::VecDeque;
use std::time::Duration;

use rdkafka::error::KafkaError;
use rdkafka::message::{BorrowedMessage, Message};
use runtime::{BACKLOG_MIN, IntentRecord, LogError};
use schemas::units::Millis;

use crate::{Reader, append_time};

use super::{READ_BYTES_MAX, consumer_error};

/// For so many decisions of the last transaction the next one waits a millisecond for more.
const DECISIONS_PER_GATHERED_MS: usize = 8;
/// At the most.
const GATHERING_MAX: Millis = Millis(48);
/// Nobody else is coming if nobody has come for so long.
const QUIET: Duration = Duration::from_millis(4);

/// How long a transaction may wait for more intents if the last one had so many decisions.
///
/// Whatever it holds, a transaction costs broker and owner milliseconds of CPU time: a dozen requests, and everybody who
/// reads decisions is woken. A lone order waits for nobody; in a burst that time would be taken from the buyers who are
/// not answered yet.
pub(super) fn gathering_after(decisions: usize) -> Millis {
    let milliseconds = i64::try_from(decisions / DECISIONS_PER_GATHERED_MS);
    milliseconds.map_or(GATHERING_MAX, |wanted| GATHERING_MAX.min(Millis(wanted)))
}

/// How long to wait for the next intent, so long before the transaction has to begin; `None` for not at all.
fn patience(left: Millis) -> Option<Duration> {
    // Further away than the maximum: somebody has set the clock.
    let is_gathering = (Millis(1)..=GATHERING_MAX).contains(&left);
    is_gathering.then(|| QUIET.min(Duration::from_millis(left.0.cast_unsigned())))
}

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

    /// Takes what is at hand and, where that is less than a backlog, what comes until `begin_at` without a gap.
    pub(super) fn gather(
        &mut self,
        records_max: usize,
        begin_at: Millis,
        clock: fn() -> Millis,
    ) -> Result<(), LogError> {
        self.take_at_hand(records_max)?;
        while (1..records_max.min(BACKLOG_MIN)).contains(&self.stash.len())
            && let Some(patience) = patience(begin_at.since(clock()))
            && self.poll(patience)?
        {
            self.take_at_hand(records_max)?;
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
    IntentRecord {
        offset: message.offset(),
        append_time: append_time(message),
        value: message.payload().unwrap_or_default().to_vec(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lone_order_waits_for_nobody_and_a_burst_no_longer_than_a_moment() {
        let cases = [(0, 0), (1, 0), (7, 0), (8, 1), (80, 10), (383, 47), (384, 48), (16_384, 48)];
        for (decisions, milliseconds) in cases {
            assert_eq!(gathering_after(decisions), Millis(milliseconds), "{decisions} decisions");
        }
    }

    #[test]
    fn a_burst_is_waited_for_while_it_lasts_and_the_clock_is_as_it_was() {
        let cases = [
            (-1, None),
            (0, None),
            (1, Some(1)),
            (4, Some(4)),
            (5, Some(4)),
            (48, Some(4)),
            (49, None),
        ];
        for (left, expected) in cases {
            let expected = expected.map(Duration::from_millis);
            assert_eq!(patience(Millis(left)), expected, "{left} ms before the beginning");
        }
    }
}
