//! Committed records out.

use std::collections::BTreeSet;
use std::time::Duration;

use rdkafka::consumer::Consumer;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Message};
use rdkafka::{Offset, TopicPartitionList};
use runtime::{CommittedRecord, Tail, TailError, TailStart};
use schemas::partition::Partition;
use schemas::topics::Topic;

use crate::{KafkaSettings, METADATA_TIMEOUT, Reader, append_time};

/// See [`crate::KafkaLog::tail`].
pub struct KafkaTail {
    consumer: Reader,
    topic: Topic,
    positions: Vec<(Partition, i64)>,
    at_end: BTreeSet<Partition>,
    /// Met behind records that were taken.
    failed: Option<TailError>,
}

impl std::fmt::Debug for KafkaTail {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("KafkaTail").field("topic", &self.topic.name).finish_non_exhaustive()
    }
}

/// Between two questions for a leader.
const LEADER_PAUSE: Duration = Duration::from_millis(50);

fn unreachable(error: impl std::fmt::Display) -> TailError {
    TailError::Unreachable(error.to_string())
}

impl KafkaTail {
    pub(crate) fn new(
        settings: &KafkaSettings,
        topic: Topic,
        partitions: u16,
        start: impl Fn(Partition) -> TailStart,
        gather: Duration,
    ) -> Result<Self, TailError> {
        let consumer = settings.gathering_reader("read_committed", gather).map_err(unreachable)?;
        let mut positions = Vec::new();
        let mut list = TopicPartitionList::new();
        for partition in (0..partitions).map(Partition) {
            let (low, high) = watermarks(&consumer, topic, partition)?;
            let position = match start(partition) {
                TailStart::Beginning => low,
                TailStart::Offset(offset) if offset < low || offset > high => {
                    let what = format!(
                        "{} {partition}: offset {offset} is not in {low}..{high}",
                        topic.name
                    );
                    return Err(TailError::Truncated(what));
                }
                TailStart::Offset(offset) => offset,
                TailStart::BeforeEnd(count) => (high - count).max(low),
            };
            positions.push((partition, position));
            list.add_partition_offset(topic.name, i32::from(partition.0), Offset::Offset(position))
                .map_err(unreachable)?;
        }
        consumer.assign(&list).map_err(unreachable)?;
        Ok(Self { consumer, topic, positions, at_end: BTreeSet::new(), failed: None })
    }

    fn end_of(&self, partition: Partition) -> Result<i64, TailError> {
        let partition = i32::from(partition.0);
        // A `read_committed` client calls the last stable offset the end.
        let (_, stable) = self
            .consumer
            .fetch_watermarks(self.topic.name, partition, METADATA_TIMEOUT)
            .map_err(unreachable)?;
        Ok(stable)
    }
}

impl Tail for KafkaTail {
    fn poll(
        &mut self,
        timeout: Duration,
        records_max: usize,
    ) -> Result<Vec<CommittedRecord>, TailError> {
        let Self { consumer, at_end, failed, positions, .. } = self;
        let records = before_error(failed, records_max, |taken| {
            loop {
                let wait = if taken == 0 { timeout } else { Duration::ZERO };
                match consumer.poll(wait)? {
                    Ok(message) => {
                        at_end.remove(&partition_of(message.partition()));
                        break Some(Ok(committed_record(&message)));
                    }
                    Err(KafkaError::PartitionEOF(partition)) => {
                        at_end.insert(partition_of(partition));
                    }
                    Err(error) => break Some(Err(tail_error(&error))),
                }
            }
        })?;
        for record in &records {
            move_to(positions, record.partition, record.offset + 1);
        }
        Ok(records)
    }

    fn ends(&mut self) -> Result<Vec<(Partition, i64)>, TailError> {
        let partitions: Vec<_> = self.positions.iter().map(|(partition, _)| *partition).collect();
        partitions.into_iter().map(|partition| Ok((partition, self.end_of(partition)?))).collect()
    }

    fn positions(&mut self) -> Result<Vec<(Partition, i64)>, TailError> {
        // Markers at the end have no message that would carry the position past them.
        for partition in std::mem::take(&mut self.at_end) {
            let end = self.end_of(partition)?;
            move_to(&mut self.positions, partition, end);
        }
        Ok(self.positions.clone())
    }
}

/// Up to the first error. Where records lie before it, the client stands past them: they are handed over, and the error is
/// told by the next call. Whoever went on without them would miss decisions for ever.
fn before_error<T>(
    failed: &mut Option<TailError>,
    records_max: usize,
    mut next: impl FnMut(usize) -> Option<Result<T, TailError>>,
) -> Result<Vec<T>, TailError> {
    if let Some(error) = failed.take() {
        return Err(error);
    }
    let mut records = Vec::new();
    while records.len() < records_max {
        match next(records.len()) {
            None => break,
            Some(Ok(record)) => records.push(record),
            Some(Err(error)) if records.is_empty() => return Err(error),
            Some(Err(error)) => {
                *failed = Some(error);
                break;
            }
        }
    }
    Ok(records)
}

fn committed_record(message: &BorrowedMessage<'_>) -> CommittedRecord {
    CommittedRecord {
        partition: partition_of(message.partition()),
        offset: message.offset(),
        append_time: append_time(message),
        value: message.payload().unwrap_or_default().to_vec(),
    }
}

fn move_to(positions: &mut [(Partition, i64)], partition: Partition, position: i64) {
    if let Some(slot) = positions.iter_mut().find(|(known, _)| *known == partition) {
        slot.1 = slot.1.max(position);
    }
}

/// Where a partition begins and ends. A partition that was just made, or whose leader moves, has no leader
/// for a moment: that is waited for.
fn watermarks(
    consumer: &Reader,
    topic: Topic,
    partition: Partition,
) -> Result<(i64, i64), TailError> {
    let tries = METADATA_TIMEOUT.as_millis() / LEADER_PAUSE.as_millis();
    let mut last = String::new();
    for _ in 0..tries {
        match consumer.fetch_watermarks(topic.name, i32::from(partition.0), METADATA_TIMEOUT) {
            Ok(range) => return Ok(range),
            Err(error) => {
                let code = error.rdkafka_error_code();
                last = error.to_string();
                if !matches!(
                    code,
                    Some(
                        RDKafkaErrorCode::NotLeaderForPartition
                            | RDKafkaErrorCode::LeaderNotAvailable
                            | RDKafkaErrorCode::UnknownTopicOrPartition
                            | RDKafkaErrorCode::UnknownPartition
                    )
                ) {
                    break;
                }
                std::thread::sleep(LEADER_PAUSE);
            }
        }
    }
    Err(TailError::Unreachable(last))
}

fn partition_of(number: i32) -> Partition {
    Partition(u16::try_from(number).unwrap_or(0))
}

fn tail_error(error: &KafkaError) -> TailError {
    match error.rdkafka_error_code() {
        Some(RDKafkaErrorCode::OffsetOutOfRange | RDKafkaErrorCode::AutoOffsetReset) => {
            TailError::Truncated(error.to_string())
        }
        _ => unreachable(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_before_an_error_are_handed_over_and_the_error_comes_next() {
        let error = TailError::Unreachable("a broker is gone".into());
        let mut events =
            [Some(Ok(1)), Some(Ok(2)), Some(Err(error.clone())), Some(Ok(3)), None].into_iter();
        let (mut failed, mut taken) = (None, Vec::new());
        let mut poll = || {
            before_error(&mut failed, 10, |count| {
                taken.push(count);
                events.next().flatten()
            })
        };
        assert_eq!(poll(), Ok(vec![1, 2]));
        assert_eq!(poll(), Err(error));
        assert_eq!(poll(), Ok(vec![3]));
        assert_eq!(poll(), Ok(vec![]));
        assert_eq!(taken, [0, 1, 2, 0, 1, 0], "the first of each call may be waited for");
    }
}
