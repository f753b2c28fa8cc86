//! What the log gives: the owner's transactional view, appenders of intents, tails of committed decisions.
//!
//! Each trait has two implementations: Kafka (`log-kafka`) and the embedded log (`store-rocksdb`).

#![allow(clippy::missing_errors_doc, reason = "the error type says it, once for every call")]

use std::collections::VecDeque;
use std::ops::Range;
use std::time::Duration;

use schemas::partition::Partition;
use schemas::topics::Topic;
use schemas::units::Millis;
use tokio::sync::oneshot;

/// An intent as it lies in the log.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct IntentRecord {
    /// Its offset.
    pub offset: i64,
    /// The log's clock when it was appended.
    pub append_time: Millis,
    /// Framed Avro, or poison.
    pub value: Vec<u8>,
}

/// A committed decision read back during recovery.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DecisionRecord {
    /// Its offset.
    pub offset: i64,
    /// Framed Avro, sealed.
    pub value: Vec<u8>,
}

/// A decision on its way into the log.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct OutgoingDecision {
    /// Record key: the drop or creator, where there is one.
    pub key: Option<[u8; 16]>,
    /// Framed Avro, sealed.
    pub value: Vec<u8>,
}

/// What went wrong with the log; the variant is what the owner does next.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum LogError {
    /// Another owner has taken over. Stop; only a later assignment starts this partition again here.
    #[error("fenced by a newer owner: {0}")]
    Fenced(String),
    /// The outcome of the last call is unknown or the client is spent. Discard everything and recover.
    #[error("the log's client must be rebuilt: {0}")]
    Recover(String),
    /// Nobody answers. Nothing is lost; recover when somebody does.
    #[error("the log is unreachable: {0}")]
    Unreachable(String),
    /// Records that this partition depends on are gone. Refuse.
    #[error("the log has lost records: {0}")]
    Truncated(String),
}

/// One owner's view of `intents[p]` and `decisions[p]`.
pub trait Log: Send {
    /// Identity of the log; the same after a restart, another for another log.
    fn log_id(&mut self) -> Result<String, LogError>;

    /// Partitions of the intents topic and of the decisions topic.
    fn partition_counts(&mut self) -> Result<(u16, u16), LogError>;

    /// Fences every older owner and waits until its last transaction is decided.
    fn fence(&mut self) -> Result<(), LogError>;

    /// First retained and next offset of the intents.
    fn intents_range(&mut self) -> Result<Range<i64>, LogError>;

    /// First retained offset and *high watermark* of the decisions. Not the last stable offset: a
    /// transaction whose markers are still on their way would be missed, and its orders decided again.
    fn decisions_range(&mut self) -> Result<Range<i64>, LogError>;

    /// First retained and *last stable offset* of the decisions: what is committed for good. For a standby, which has
    /// fenced nobody; an owner asks [`Log::decisions_range`].
    fn committed_range(&mut self) -> Result<Range<i64>, LogError>;

    /// Committed decisions from `from` on, as many as are at hand, and the offset to go on from, which may
    /// lie past the last record: markers consume offsets.
    fn read_decisions(&mut self, from: i64) -> Result<(Vec<DecisionRecord>, i64), LogError>;

    /// Sets where [`Log::poll_intents`] goes on.
    fn seek_intents(&mut self, offset: i64) -> Result<(), LogError>;

    /// Takes intents that are at hand, without waiting for more, until `into` holds `records_max`. Returns whether
    /// the end of the topic was reached. A backlog's next ones may be read ahead; [`Log::fence`] and
    /// [`Log::seek_intents`] forget them.
    fn poll_intents(
        &mut self,
        into: &mut VecDeque<IntentRecord>,
        records_max: usize,
    ) -> Result<bool, LogError>;

    /// Begins a transaction and sends its records, which nobody sees before they are committed as a whole. A backlog's
    /// may already be committed when this returns: an owner that does not await it has to recover.
    fn submit(&mut self, decisions: Vec<OutgoingDecision>) -> Result<(), LogError>;

    /// The submitted transaction is committed when this returns; the offset after its last record.
    fn await_commit(&mut self) -> Result<i64, LogError>;

    /// Appends a tick to the intents, outside any transaction. It may get lost; the owner asks again.
    fn append_tick(&mut self, value: Vec<u8>) -> Result<(), LogError>;

    /// Sleeps until intents arrive or `timeout` has passed.
    fn wait_for_intents(&mut self, timeout: Duration);
}

/// An intent on its way into the log.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct IntentToAppend {
    /// The topic.
    pub topic: Topic,
    /// The partition, always computed by us.
    pub partition: Partition,
    /// Record key.
    pub key: Option<[u8; 16]>,
    /// Framed Avro.
    pub value: Vec<u8>,
    /// W3C trace context, passed on as a record header.
    pub traceparent: Option<String>,
}

/// Why an append was not acknowledged; the variant is what the caller may tell its client.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum AppendError {
    /// Nothing was written. A retry is safe.
    #[error("nothing was written: {0}")]
    NotWritten(String),
    /// The record may or may not be in the log. Retry with the same key only.
    #[error("the outcome is unknown: {0}")]
    Unknown(String),
}

/// Appends intents and reports the offset once they are durable on every in-sync replica.
pub trait IntentAppender: Send + Sync {
    /// Starts an append. A dropped receiver does not take the record back.
    fn append(&self, intent: IntentToAppend) -> oneshot::Receiver<Result<i64, AppendError>>;

    /// Whether the log takes appends now.
    fn is_reachable(&self) -> bool;
}

/// A record that is committed, so it may be shown.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CommittedRecord {
    /// Its partition.
    pub partition: Partition,
    /// Its offset.
    pub offset: i64,
    /// The log's append time where the topic has one.
    pub append_time: Millis,
    /// Its bytes.
    pub value: Vec<u8>,
}

/// Why a tail cannot go on.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum TailError {
    /// Nobody answers; poll again later.
    #[error("the log is unreachable: {0}")]
    Unreachable(String),
    /// The position is no longer in the log.
    #[error("the log has lost records: {0}")]
    Truncated(String),
}

/// Where a tail starts in a partition.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TailStart {
    /// The first retained record.
    Beginning,
    /// This offset.
    Offset(i64),
    /// So many offsets before the end, or the beginning.
    BeforeEnd(i64),
}

/// Reads committed records of one topic.
pub trait Tail: Send {
    /// Records at hand, after waiting at most `timeout` for the first.
    fn poll(
        &mut self,
        timeout: Duration,
        records_max: usize,
    ) -> Result<Vec<CommittedRecord>, TailError>;

    /// Committed end of each partition (last stable offset).
    fn ends(&mut self) -> Result<Vec<(Partition, i64)>, TailError>;

    /// Where the tail stands in each partition: every committed record below was returned.
    fn positions(&mut self) -> Result<Vec<(Partition, i64)>, TailError>;
}

impl<L: Log + ?Sized> Log for Box<L> {
    fn log_id(&mut self) -> Result<String, LogError> {
        (**self).log_id()
    }

    fn partition_counts(&mut self) -> Result<(u16, u16), LogError> {
        (**self).partition_counts()
    }

    fn fence(&mut self) -> Result<(), LogError> {
        (**self).fence()
    }

    fn intents_range(&mut self) -> Result<Range<i64>, LogError> {
        (**self).intents_range()
    }

    fn decisions_range(&mut self) -> Result<Range<i64>, LogError> {
        (**self).decisions_range()
    }

    fn committed_range(&mut self) -> Result<Range<i64>, LogError> {
        (**self).committed_range()
    }

    fn read_decisions(&mut self, from: i64) -> Result<(Vec<DecisionRecord>, i64), LogError> {
        (**self).read_decisions(from)
    }

    fn seek_intents(&mut self, offset: i64) -> Result<(), LogError> {
        (**self).seek_intents(offset)
    }

    fn poll_intents(
        &mut self,
        into: &mut VecDeque<IntentRecord>,
        records_max: usize,
    ) -> Result<bool, LogError> {
        (**self).poll_intents(into, records_max)
    }

    fn submit(&mut self, decisions: Vec<OutgoingDecision>) -> Result<(), LogError> {
        (**self).submit(decisions)
    }

    fn await_commit(&mut self) -> Result<i64, LogError> {
        (**self).await_commit()
    }

    fn append_tick(&mut self, value: Vec<u8>) -> Result<(), LogError> {
        (**self).append_tick(value)
    }

    fn wait_for_intents(&mut self, timeout: Duration) {
        (**self).wait_for_intents(timeout);
    }
}
