//! What a decision says and the rows it leaves behind.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use smallvec::SmallVec;

use crate::avro::words;
use crate::ids::{DropId, Hash, OrderId, UserId, VariantId};

use super::{BuyerRow, DropEvent, DropRow, OrderRow, Refusal, StockRow};

/// Outcome and post-images of a reservation decision. What is large and rare is boxed: every decision is moved through a
/// few places as a whole.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct OrderBody {
    /// For refused and `key_reused`.
    pub refusal: Option<Refusal>,
    /// Copy of an order row as it is; never applied.
    pub answer: Option<Box<OrderRow>>,
    /// Order rows to put; mostly one. Shared from the start: the overlay and the window take the pointer.
    pub orders: SmallVec<[Arc<OrderRow>; 1]>,
    /// Drop rows to put.
    pub drops: Vec<DropRow>,
    /// Stock rows to put.
    pub stocks: Vec<StockRow>,
    /// Buyer rows to put.
    pub buyers: Vec<BuyerRow>,
    /// Edges crossed.
    pub events: Vec<DropEvent>,
    /// Command rows to put.
    #[serde(default)]
    pub commands: Vec<CommandRow>,
    /// Continuation rows to put.
    #[serde(default)]
    pub continuations: Vec<ContinuationRow>,
    /// Continuations that are done and go.
    #[serde(default)]
    pub finished: Vec<i64>,
    /// Rows to delete.
    #[serde(default)]
    pub archived: Option<Box<ArchivedRows>>,
    /// Logic version that holds from this record on.
    #[serde(default)]
    pub activated: Option<i32>,
}

impl OrderBody {
    /// The order that the decision is about, where it is about one: as it leaves it, or as it answers with it.
    #[must_use]
    pub fn order(&self) -> Option<&OrderRow> {
        self.orders.first().map(AsRef::as_ref).or(self.answer.as_deref())
    }
}

/// Idempotency record of a creator's restock, withdrawal or refund.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct CommandRow {
    /// Hash of (actor, idempotency key).
    pub key: Hash,
    /// The drop.
    pub drop_id: DropId,
    /// Hash over the meaning of the request.
    pub request_hash: Hash,
}

/// What a continuation does.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum ContinuationKind {
    /// Offers released units to waiting buyers.
    Offer,
    /// Stops the clocks of open offers of a paused drop.
    ParkOffers,
    /// Starts them again.
    RearmOffers,
    /// Turns the remaining waiting buyers down.
    EndWaitlist,
    /// Releases units and money of a drop that was called off.
    Abort,
    /// Makes sure that every order is settled, then [`ContinuationKind::Archive`].
    CheckSettled,
    /// Forgets a settled drop's orders.
    Archive,
}

words!(ContinuationKind {
    Offer = "offer",
    ParkOffers = "park_offers",
    RearmOffers = "rearm_offers",
    EndWaitlist = "end_waitlist",
    Abort = "abort",
    CheckSettled = "check_settled",
    Archive = "archive",
});

/// Work that one record cannot hold; drained before anything else, oldest first.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ContinuationRow {
    /// Sequence number of the decision that started it.
    pub id: i64,
    /// What it does.
    pub kind: ContinuationKind,
    /// The drop.
    pub drop_id: DropId,
    /// Last order dealt with.
    pub cursor: Option<OrderId>,
}

/// Rows of a settled drop that are forgotten.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ArchivedRows {
    /// The drop.
    pub drop_id: DropId,
    /// Order rows to delete.
    pub orders: Vec<OrderId>,
    /// Buyer rows to delete.
    pub buyers: Vec<UserId>,
    /// Stock rows to delete.
    pub variants: Vec<VariantId>,
    /// Command rows to delete.
    pub commands: Vec<Hash>,
}
