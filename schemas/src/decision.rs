//! What every decision shares: header, outcome, control records, and the chain over the bytes.

use serde::{Deserialize, Serialize};

use crate::avro::words;
use crate::framing;
use crate::ids::{Chain, Hash, IntentId};
use crate::units::Millis;

/// Version of the log protocol (record framing, chain, recovery). Stores and logs of another refuse.
pub const LOG_FORMAT: i32 = 1;

/// Bytes of the chain link that ends every decision record.
pub const CHAIN_LENGTH: usize = 16;

/// What a decision record is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// First record of the partition.
    Genesis,
    /// A takeover.
    OwnerStarted,
    /// The intent or timer was carried out; a tick changes nothing.
    Changed,
    /// The intent was understood and turned down.
    Refused,
    /// The intent repeats one already decided; the answer is the same.
    Replayed,
    /// The idempotency key was used for another request.
    KeyReused,
    /// The intent could not be read.
    Undecodable,
}

words!(Outcome {
    Genesis = "genesis",
    OwnerStarted = "owner_started",
    Changed = "changed",
    Refused = "refused",
    Replayed = "replayed",
    KeyReused = "key_reused",
    Undecodable = "undecodable",
});

/// Where a decision stands in its partition, who made it and when.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct DecisionHeader {
    /// Contiguous per partition from 0.
    pub seq: i64,
    /// One more at every takeover.
    pub epoch: i32,
    /// Null for genesis, `owner_started` and timers.
    pub intent_offset: Option<i64>,
    /// Where the owner goes on reading after this record.
    pub next_intent_offset: i64,
    /// Echo of the intent's id where it could be read.
    pub intent_id: Option<IntentId>,
    /// Echo of the intent's correlation id.
    pub correlation_id: Option<String>,
    /// Greatest append time seen in the partition.
    pub log_time: Millis,
    /// The owner's wall clock, never before `log_time`.
    pub decided_at: Millis,
    /// Version of the rules.
    pub logic_version: i32,
}

/// First record of a decisions partition.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Genesis {
    /// Identity of the log.
    pub log_id: String,
    /// This partition.
    pub partition: i32,
    /// Partitions of the topic, fixed for ever.
    pub partition_count: i32,
    /// [`LOG_FORMAT`] at the time.
    pub format: i32,
}

/// A schema id the owner relies on.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct PinnedSchema {
    /// Id in the registry or the embedded log's own table.
    pub id: i32,
    /// First 16 bytes of BLAKE3 over the schema text.
    pub fingerprint: Hash,
}

/// A new owner has taken the partition over.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct OwnerStarted {
    /// Version of the program.
    pub build: String,
    /// Ids pinned for this epoch.
    pub schemas: Vec<PinnedSchema>,
}

/// The intent could not be read; its bytes stay in the intents topic.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Undecodable {
    /// Why, for an operator.
    pub error: String,
    /// Bytes of the record value.
    pub length: i32,
}

/// A decision record; `B` is [`crate::order::OrderBody`] or [`crate::follow::FollowBody`].
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Decision<B> {
    /// Position and stamp.
    pub header: DecisionHeader,
    /// What this record is.
    pub outcome: Outcome,
    /// Filled for [`Outcome::Genesis`].
    pub genesis: Option<Box<Genesis>>,
    /// Filled for [`Outcome::OwnerStarted`].
    pub owner_started: Option<Box<OwnerStarted>>,
    /// Filled for [`Outcome::Undecodable`].
    pub undecodable: Option<Box<Undecodable>>,
    /// What is decided and the rows it leaves behind.
    pub body: Option<B>,
    /// Link of the chain; [`seal`] fills it.
    pub chain: Chain,
}

impl<B> Decision<B> {
    /// A decision with its chain still open.
    pub fn unsealed(header: DecisionHeader, outcome: Outcome, body: Option<B>) -> Self {
        Self {
            header,
            outcome,
            genesis: None,
            owner_started: None,
            undecodable: None,
            body,
            chain: Chain([0; CHAIN_LENGTH]),
        }
    }
}

/// Chain before the first record of a partition.
pub const FIRST_LINK: Chain = Chain([0; CHAIN_LENGTH]);

/// First 16 bytes of BLAKE3 over the previous link and the record before its chain field.
///
/// The idea of chaining log records is Haber and Stornetta's ("How to time-stamp a digital document", 1991).
#[must_use]
pub fn next_link(previous: Chain, record_before_chain: &[u8]) -> Chain {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&previous.0);
    hasher.update(record_before_chain);
    let hash = hasher.finalize();
    let (link, _) = hash.as_bytes().split_first_chunk().expect("a hash has 32 bytes");
    Chain(*link)
}

/// Replaces the open chain field that ends `value` by the link after `previous`, and returns that link.
pub fn seal(previous: Chain, value: &mut [u8]) -> Chain {
    let before = value.len().saturating_sub(CHAIN_LENGTH);
    let (record, chain) = value.split_at_mut(before);
    let link = next_link(previous, record);
    chain.copy_from_slice(&link.0);
    link
}

/// The link that ends `value`, whatever it follows. Of what is too short to have one it is the first, which helps
/// nobody: [`verified_link`] has none of it.
#[must_use]
pub fn claimed_link(value: &[u8]) -> Chain {
    value.last_chunk().map_or(FIRST_LINK, |link| Chain(*link))
}

/// The link that ends `value`, if it follows `previous`.
#[must_use]
pub fn verified_link(previous: Chain, value: &[u8]) -> Option<Chain> {
    let before = value.len().checked_sub(CHAIN_LENGTH + framing::HEADER_LENGTH)?;
    let (record, chain) = value.split_at(before + framing::HEADER_LENGTH);
    let link = next_link(previous, record);
    (link.0 == *chain).then_some(link)
}

/// First 16 bytes of BLAKE3 over a schema's text.
#[must_use]
pub fn schema_fingerprint(schema_text: &str) -> Hash {
    Hash(next_link(FIRST_LINK, schema_text.as_bytes()).0)
}
