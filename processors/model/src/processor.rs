use std::fmt::Debug;
use std::ops::Range;

use schemas::avro::{Codec, Datum};
use schemas::decision::{DecisionHeader, Outcome};
use schemas::ids::IntentId;
use schemas::topics::Topic;
use schemas::units::Millis;

use crate::{ReadFailed, Row, RowChange, RowKey, Rows, Stamp, Timer};

/// What a processor reads, writes and keeps. `topology.md` has these rows; a test compares.
#[derive(Clone, Copy, Debug)]
pub struct Topology {
    /// Names the store folder, the consumer group and the `transactional.id`s.
    pub processor: &'static str,
    /// Its one input.
    pub intents: Topic,
    /// Its one output, with as many partitions.
    pub decisions: Topic,
    /// (tag, table, key, what it holds), tags pinned for ever.
    pub tables: &'static [(u8, &'static str, &'static str, &'static str)],
}

/// An intent that could be read.
#[derive(Clone, PartialEq, Debug)]
pub struct Intent<C> {
    /// Echoed by the decision.
    pub intent_id: IntentId,
    /// Echoed by the decision.
    pub correlation_id: Option<String>,
    /// What is asked for.
    pub command: C,
}

/// An intent that can never be decided: poison. The text is for an operator.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{why}")]
pub struct UnreadableIntent {
    /// What is wrong with it.
    pub why: String,
    /// Its id, where that much could be read.
    pub intent_id: Option<IntentId>,
}

/// What a decision says.
#[derive(Clone, PartialEq, Debug)]
pub struct Decided<B> {
    /// The header's outcome.
    pub outcome: Outcome,
    /// Answer and post-images; `None` where there is nothing to say.
    pub body: Option<B>,
}

/// A decision that leaves one row and nothing else: all that a fold needs of it.
#[derive(Clone, PartialEq, Debug)]
pub struct LoneRow {
    /// The decision's.
    pub header: DecisionHeader,
    /// Of the row: it is the first of this key, has no timer and is in no queue.
    pub key: RowKey,
    /// Where the row's bytes are in the decision's datum.
    pub bytes: Range<usize>,
}

/// The rules of one processor.
pub trait Processor: Send + Sync + 'static {
    /// What an intent asks for.
    type Command: Debug + Send;
    /// What is kept.
    type Row: Row;
    /// What a decision record holds beside its header.
    type Body: Clone + PartialEq + Debug + Datum + Send;

    /// Names, topics, tables.
    const TOPOLOGY: Topology;
    /// The newest logic version that this build knows: a fresh partition starts with it, an older one is
    /// activated for it, and a partition that is ahead of it is refused.
    const LOGIC_VERSION: i32;

    /// Codec of the decisions this build writes.
    fn decision_codec() -> &'static Codec;

    /// Reads an intent written with the schema behind `codec`.
    ///
    /// # Errors
    /// [`UnreadableIntent`]: the record gets an `undecodable` decision and the partition goes on.
    fn read(codec: &Codec, datum: &[u8]) -> Result<Intent<Self::Command>, UnreadableIntent>;

    /// Decides one command.
    ///
    /// # Errors
    /// Only where a row cannot be read. A refusal is an [`Outcome`], not an error.
    fn decide(
        rows: &dyn Rows<Self::Row>,
        command: &Self::Command,
        stamp: Stamp,
    ) -> Result<Decided<Self::Body>, ReadFailed>;

    /// Decides what a due timer does; `None` where its row no longer asks for it.
    ///
    /// # Errors
    /// Only where a row cannot be read.
    fn fire(
        rows: &dyn Rows<Self::Row>,
        timer: &Timer,
        stamp: Stamp,
    ) -> Result<Option<Self::Body>, ReadFailed>;

    /// The post-images of a decision, in the order in which they are applied.
    fn changes(body: Self::Body) -> impl Iterator<Item = RowChange<Self::Row>>;

    /// The decision in `datum`, of the current schema, where it is a [`LoneRow`]: a fold copies the row instead of taking
    /// the decision apart. `None` where it is anything else, or cannot be told: then it is read whole.
    #[must_use]
    fn lone_row(_datum: &[u8]) -> Option<LoneRow> {
        None
    }

    /// The logic version that holds from this decision on, where it activates one.
    fn activated(_body: &Self::Body) -> Option<i32> {
        None
    }

    /// Kafka key of the decision record.
    fn record_key(body: &Self::Body) -> Option<[u8; 16]>;

    /// A tick intent's datum in the current schema.
    fn tick(intent_id: IntentId, now: Millis) -> Vec<u8>;
}
