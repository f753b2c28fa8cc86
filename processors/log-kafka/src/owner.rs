//! The owner's transactional view of one partition.

mod decisions;
mod intents;
mod transactions;

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use model::Topology;
use rdkafka::consumer::Consumer;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::Producer;
use rdkafka::{Offset, TopicPartitionList};
use runtime::{
    BACKLOG_MIN, DecisionRecord, IntentAppender, IntentRecord, IntentToAppend, Log, LogError,
    OutgoingDecision, Worker,
};
use schemas::partition::Partition;
use schemas::topics::Topic;
use schemas::units::Millis;

use crate::appender::KafkaAppender;
use crate::{KafkaSettings, METADATA_TIMEOUT, Reader, Watermarks, close_aside};

use decisions::Decisions;
use intents::{Intents, gathering_after};
use transactions::{Context, DecisionProducer, Transactions, classify};

/// Transactions that take longer are aborted by the coordinator; readers wait as long at most.
const TRANSACTION_TIMEOUT: Duration = Duration::from_secs(10);
/// Of one read: an intent may have a quarter of a megabyte, a decision 64 rows.
const READ_BYTES_MAX: usize = 8 * 1_024 * 1_024;
/// How long the markers of a transaction usually take.
const MARKER_DELAY: Millis = Millis(4);

/// One transactional id of the partition.
struct Writer {
    transactions: Transactions,
    /// When its last transaction was committed; its markers follow a little later.
    committed_at: Millis,
}

/// Two transactional ids, used in turn and strictly one after the other: a transaction that is begun before the markers of
/// its predecessor are written is turned away and retried after 20 ms (fixed in librdkafka), and the other id has no
/// markers outstanding. Both are fenced before recovery reads to the end.
///
/// A pair that was just made begins with the first id, which is also fenced first. Of two owners that fence at the same
/// time each may hold one id, and only who holds the first one commits anything.
struct Writers {
    pair: [Writer; 2],
    turn: usize,
}

impl Writers {
    fn current(&self) -> &Writer {
        &self.pair[self.turn]
    }

    fn committed(&mut self, at: Millis) {
        self.pair[self.turn].committed_at = at;
        self.turn = (self.turn + 1) % self.pair.len();
    }
}

/// `intents[p]` and `decisions[p]` in the hands of one owner.
pub struct OwnedPartition {
    settings: KafkaSettings,
    log_id: String,
    topology: Topology,
    partition: Partition,
    appender: Arc<KafkaAppender>,
    watermarks: Arc<Watermarks>,
    decisions: Decisions,
    /// Reads intents from recovery on. Not one reader for both: one that is assigned anew has to wait for the long
    /// poll that it has open, and idle partitions should poll rarely.
    intents: Option<Intents>,
    /// Has the reader while it takes a backlog's next intents from the client.
    reading: Worker<Intents>,
    writers: Option<Writers>,
    /// Decisions of the transaction that is not committed yet.
    submitted: usize,
    /// Until when the next transaction may wait for more intents.
    gathering_until: Millis,
    deliveries: Context,
    /// Sends and commits a backlog's transactions.
    committing: Worker<i64>,
}

impl std::fmt::Debug for OwnedPartition {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("OwnedPartition")
            .field("processor", &self.topology.processor)
            .field("partition", &self.partition)
            .finish_non_exhaustive()
    }
}

fn unreachable(error: impl std::fmt::Display) -> LogError {
    LogError::Unreachable(error.to_string())
}

impl OwnedPartition {
    pub(crate) fn new(
        settings: KafkaSettings,
        log_id: String,
        topology: Topology,
        partition: Partition,
        appender: Arc<KafkaAppender>,
        watermarks: Arc<Watermarks>,
    ) -> Self {
        Self {
            decisions: Decisions::new(
                settings.clone(),
                watermarks.clone(),
                topology.decisions,
                partition,
            ),
            watermarks,
            intents: None,
            settings,
            log_id,
            topology,
            partition,
            appender,
            reading: Worker::named("log-reader"),
            writers: None,
            submitted: 0,
            gathering_until: Millis(0),
            deliveries: Context::default(),
            committing: Worker::named("log-committer"),
        }
    }

    fn transactional_id(&self, writer: usize) -> String {
        format!("{}-{}-{writer}", self.topology.processor, self.partition)
    }

    fn create_producer(&self, writer: usize) -> Result<DecisionProducer, KafkaError> {
        let timeout_ms = TRANSACTION_TIMEOUT.as_millis().to_string();
        self.settings
            .client(&[
                ("transactional.id", &self.transactional_id(writer)),
                ("transaction.timeout.ms", &timeout_ms),
                ("message.timeout.ms", "8000"),
                ("socket.timeout.ms", "5000"),
                ("acks", "all"),
                ("enable.idempotence", "true"),
                ("linger.ms", "0"),
                ("retry.backoff.ms", "10"),
                ("retry.backoff.max.ms", "100"),
                ("compression.type", "lz4"),
                ("queue.buffering.max.messages", "200000"),
            ])
            .create_with_context(self.deliveries.clone())
    }

    fn writer(&self) -> Result<&Writer, LogError> {
        let writers = self.writers.as_ref();
        writers.map(Writers::current).ok_or_else(|| LogError::Recover("no producer".into()))
    }

    /// Creates the producers, then fences with each: all that an earlier owner did is decided when this returns.
    fn create_writers(&self) -> Result<Writers, LogError> {
        let create = |writer| -> Result<Writer, LogError> {
            let producer = self.create_producer(writer).map_err(unreachable)?;
            let transactions = Transactions {
                producer: Arc::new(producer),
                deliveries: self.deliveries.clone(),
                topic: self.topology.decisions,
                partition: self.partition,
                clock: self.settings.clock,
            };
            Ok(Writer { transactions, committed_at: Millis(0) })
        };
        let pair = [create(0)?, create(1)?];
        for writer in &pair {
            let producer = &writer.transactions.producer;
            connect(producer, self.topology.decisions)?;
            let fenced = producer.init_transactions(Duration::from_secs(30));
            fenced.map_err(|error| classify(&error))?;
        }
        Ok(Writers { pair, turn: 0 })
    }

    fn now(&self) -> Millis {
        (self.settings.clock)()
    }

    /// The reader of intents, back from reading ahead.
    fn intents(&mut self) -> Result<&mut Intents, LogError> {
        if let Some(intents) = self.reading.outcome() {
            self.intents = Some(intents?);
        }
        let intents = self.intents.as_mut();
        intents.ok_or_else(|| LogError::Recover("intents are read after recovery".into()))
    }
}

fn range(client: &Reader, topic: Topic, partition: Partition) -> Result<Range<i64>, LogError> {
    let (low, high) = client
        .fetch_watermarks(topic.name, i32::from(partition.0), METADATA_TIMEOUT)
        .map_err(unreachable)?;
    Ok(low..high)
}

fn assign(
    reader: &Reader,
    topic: Topic,
    partition: Partition,
    offset: i64,
) -> Result<(), LogError> {
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(topic.name, i32::from(partition.0), Offset::Offset(offset))
        .and_then(|()| reader.assign(&list))
        .map_err(|error| LogError::Recover(error.to_string()))
}

/// Waits until `producer` is connected. One that looks for its coordinator before looks again after 500 ms. The first
/// answer may come over the connection to a bootstrap address, which is closed then, so two are awaited.
fn connect(producer: &DecisionProducer, topic: Topic) -> Result<(), LogError> {
    for _ in 0..2 {
        let answer = producer.client().fetch_metadata(Some(topic.name), METADATA_TIMEOUT);
        answer.map_err(unreachable)?;
    }
    Ok(())
}

fn consumer_error(error: &KafkaError) -> LogError {
    match error.rdkafka_error_code() {
        Some(RDKafkaErrorCode::OffsetOutOfRange | RDKafkaErrorCode::AutoOffsetReset) => {
            LogError::Truncated(error.to_string())
        }
        Some(
            RDKafkaErrorCode::BrokerTransportFailure
            | RDKafkaErrorCode::AllBrokersDown
            | RDKafkaErrorCode::OperationTimedOut,
        ) => LogError::Unreachable(error.to_string()),
        _ => LogError::Recover(error.to_string()),
    }
}

impl Log for OwnedPartition {
    fn log_id(&mut self) -> Result<String, LogError> {
        Ok(self.log_id.clone())
    }

    fn partition_counts(&mut self) -> Result<(u16, u16), LogError> {
        let count = |topic: Topic| -> Result<u16, LogError> {
            let metadata =
                self.watermarks.uncommitted.fetch_metadata(Some(topic.name), METADATA_TIMEOUT);
            let metadata = metadata.map_err(unreachable)?;
            let partitions = metadata.topics().first().map_or(0, |topic| topic.partitions().len());
            Ok(u16::try_from(partitions).unwrap_or(u16::MAX))
        };
        Ok((count(self.topology.intents)?, count(self.topology.decisions)?))
    }

    fn fence(&mut self) -> Result<(), LogError> {
        // The old producers first: they may hold the transaction that the new ones have to abort.
        drop(self.committing.outcome());
        drop(self.reading.outcome());
        self.writers = None;
        if let Some(intents) = self.intents.take() {
            close_aside(intents);
        }
        self.decisions.close();
        self.deliveries = Context::default();
        self.writers = Some(self.create_writers()?);
        Ok(())
    }

    fn intents_range(&mut self) -> Result<Range<i64>, LogError> {
        range(&self.watermarks.uncommitted, self.topology.intents, self.partition)
    }

    fn decisions_range(&mut self) -> Result<Range<i64>, LogError> {
        self.decisions.range()
    }

    fn committed_range(&mut self) -> Result<Range<i64>, LogError> {
        self.decisions.committed_range()
    }

    fn read_decisions(&mut self, from: i64) -> Result<(Vec<DecisionRecord>, i64), LogError> {
        self.decisions.read(from)
    }

    fn seek_intents(&mut self, offset: i64) -> Result<(), LogError> {
        drop(self.reading.outcome());
        self.decisions.close();
        let reader = self.settings.intents_reader().map_err(unreachable)?;
        assign(&reader, self.topology.intents, self.partition, offset)?;
        self.intents = Some(Intents::new(reader));
        Ok(())
    }

    fn poll_intents(
        &mut self,
        into: &mut VecDeque<IntentRecord>,
        records_max: usize,
    ) -> Result<bool, LogError> {
        let room = records_max.saturating_sub(into.len());
        // Markers may be outstanding on both ids: gathering a little longer is cheaper than the 20 ms. A backlog's
        // transaction takes longer to decide than they take.
        let free_at = self.writer()?.committed_at.after(MARKER_DELAY);
        let begin_at = free_at.max(self.gathering_until);
        let clock = self.settings.clock;
        let intents = self.intents()?;
        intents.gather(room, begin_at, clock)?;
        let taken = room.min(intents.stash.len());
        into.extend(intents.stash.drain(..taken));
        let at_end = intents.at_end && intents.stash.is_empty();
        if taken >= BACKLOG_MIN
            && !at_end
            && let Some(mut intents) = self.intents.take()
        {
            self.reading.start(move || {
                intents.take_at_hand(records_max)?;
                Ok(intents)
            });
        }
        Ok(at_end)
    }

    fn submit(&mut self, decisions: Vec<OutgoingDecision>) -> Result<(), LogError> {
        self.submitted = decisions.len();
        let transactions = &self.writer()?.transactions;
        if decisions.len() < BACKLOG_MIN {
            return transactions.send(&decisions);
        }
        let transactions = transactions.clone();
        self.committing
            .start(move || transactions.send(&decisions).and_then(|()| transactions.commit()));
        Ok(())
    }

    fn await_commit(&mut self) -> Result<i64, LogError> {
        let next = match self.committing.outcome() {
            Some(outcome) => outcome,
            None => self.writer()?.transactions.commit(),
        }?;
        let now = self.now();
        self.gathering_until = now.after(gathering_after(self.submitted));
        if let Some(writers) = &mut self.writers {
            writers.committed(now);
        }
        Ok(next)
    }

    fn append_tick(&mut self, value: Vec<u8>) -> Result<(), LogError> {
        let (topic, partition) = (self.topology.intents, self.partition);
        let tick = IntentToAppend { topic, partition, key: None, value, traceparent: None };
        drop(self.appender.append(tick));
        Ok(())
    }

    fn wait_for_intents(&mut self, timeout: Duration) {
        let Some(intents) = &mut self.intents else { return };
        if let Err(error) = intents.wait(timeout) {
            // The next poll meets the same error and reports it.
            tracing::debug!(%error, "waiting for intents");
        }
    }
}
