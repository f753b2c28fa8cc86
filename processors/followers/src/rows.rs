//! What is kept: follow rows and counters, their keys, their bytes.

use std::sync::LazyLock;

use model::{Row, RowKey, Timer};
use schemas::avro::{AvroError, Codec, row_codec};
use schemas::follow::{CreatorRow, FollowRow};
use schemas::ids::{CreatorId, UserId};
use schemas::topics::FOLLOW_DECISIONS;

use crate::topology::tag;

/// A row of either table.
#[derive(Clone, PartialEq, Debug)]
pub enum StateRow {
    /// One pair.
    Follow(FollowRow),
    /// One creator's counters.
    Creator(CreatorRow),
}

/// Key of a follow row.
#[must_use]
pub fn follow_key(creator: CreatorId, user: UserId) -> RowKey {
    RowKey::new(tag::FOLLOW, &[&creator.0, &user.0])
}

/// Key of a creator row.
#[must_use]
pub fn creator_key(creator: CreatorId) -> RowKey {
    RowKey::new(tag::CREATOR, &[&creator.0])
}

static FOLLOW: LazyLock<Codec> = LazyLock::new(|| row_codec(FOLLOW_DECISIONS.subject, "FollowRow"));
static CREATOR: LazyLock<Codec> =
    LazyLock::new(|| row_codec(FOLLOW_DECISIONS.subject, "CreatorRow"));

impl Row for StateRow {
    fn key(&self) -> RowKey {
        match self {
            Self::Follow(row) => follow_key(row.creator_id, row.user_id),
            Self::Creator(row) => creator_key(row.creator_id),
        }
    }

    fn timer(&self) -> Option<Timer> {
        None
    }

    fn encode(&self, buffer: &mut Vec<u8>) {
        match self {
            Self::Follow(row) => FOLLOW.encode(row, buffer),
            Self::Creator(row) => CREATOR.encode(row, buffer),
        }
    }

    fn decode(table: u8, bytes: &[u8]) -> Result<Self, AvroError> {
        match table {
            tag::FOLLOW => FOLLOW.decode(bytes).map(Self::Follow),
            tag::CREATOR => CREATOR.decode(bytes).map(Self::Creator),
            other => Err(AvroError::new(format!("no table has the tag {other}"))),
        }
    }
}
