//! A drop, its stock and its buyers as they are after a decision.

use serde::{Deserialize, Serialize};

use crate::avro::words;
use crate::ids::{CreatorId, DropId, Hash, OrderId, ProductId, UserId, VariantId};
use crate::units::{Currency, Millis, MinorUnits, Units};

/// Where a drop stands.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum DropStatus {
    /// Announced, not yet on sale.
    Upcoming,
    /// On sale.
    Live,
    /// No longer on sale.
    Ended,
    /// Off sale for a while; live holds run on.
    Paused,
    /// Called off.
    Cancelled,
    /// Settled and forgotten; only this row is left.
    Archived,
}

words!(DropStatus {
    Upcoming = "UPCOMING",
    Live = "LIVE",
    Ended = "ENDED",
    Paused = "PAUSED",
    Cancelled = "CANCELLED",
    Archived = "ARCHIVED",
});

/// Terms of one variant.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct VariantRow {
    /// The variant.
    pub variant_id: VariantId,
    /// Display name; empty for the unnamed variant.
    pub name: String,
    /// Price of one unit.
    pub price: MinorUnits,
    /// Units at scheduling; never changes.
    pub initial_stock: Units,
}

/// A drop's terms and state; its counters are [`StockRow`]s.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct DropRow {
    /// The drop.
    pub drop_id: DropId,
    /// Its creator.
    pub creator_id: CreatorId,
    /// The product sold.
    pub product_id: ProductId,
    /// Public title.
    pub title: String,
    /// Where it stands.
    pub status: DropStatus,
    /// Scheduled opening.
    pub starts_at: Millis,
    /// Scheduled closing.
    pub ends_at: Millis,
    /// IANA zone for display.
    pub time_zone: Option<String>,
    /// ISO 4217.
    pub currency: Currency,
    /// In variant order.
    pub variants: Vec<VariantRow>,
    /// Most units per buyer.
    pub limit_per_user: Option<i32>,
    /// Length of a hold.
    pub hold_seconds: i32,
    /// Available units that count as low.
    pub low_stock_threshold: Units,
    /// False for free drops.
    pub payment_required: bool,
    /// Key of the schedule request.
    pub schedule_key: Hash,
    /// Hash of the schedule request.
    pub request_hash: Hash,
    /// One more at every change.
    pub version: i32,
    /// Append time of the schedule.
    pub created_at: Millis,
    /// Log time of the opening.
    pub opened_at: Option<Millis>,
    /// Log time of the closing.
    pub ended_at: Option<Millis>,
    /// How long a waiting buyer may take up an offer.
    #[serde(default = "super::intent::default_offer_seconds")]
    pub offer_seconds: i32,
    /// Whether buyers may wait for released units.
    #[serde(default)]
    pub waitlist: bool,
    /// Most payment attempts per order.
    #[serde(default = "super::intent::default_payment_attempts")]
    pub payment_attempts: i32,
    /// When the orders are forgotten.
    #[serde(default)]
    pub archive_at: Option<Millis>,
}

/// Units of one variant: `available + reserved + sold == initial + restocked - withdrawn`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct StockRow {
    /// The drop.
    pub drop_id: DropId,
    /// The variant.
    pub variant_id: VariantId,
    /// Units at scheduling.
    pub initial: Units,
    /// Units anyone may still reserve.
    pub available: Units,
    /// Units held for a payment.
    pub reserved: Units,
    /// Units confirmed.
    pub sold: Units,
    /// Units added since scheduling.
    #[serde(default)]
    pub restocked: Units,
    /// Units taken off sale since scheduling.
    #[serde(default)]
    pub withdrawn: Units,
}

/// Units of one buyer in one drop; kept only where the drop has a limit or a waitlist.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct BuyerRow {
    /// The drop.
    pub drop_id: DropId,
    /// The buyer.
    pub user_id: UserId,
    /// Units in live holds.
    pub held: Units,
    /// Units confirmed.
    pub sold: Units,
    /// Live holds, oldest first.
    pub held_orders: Vec<OrderId>,
    /// Units waited for.
    #[serde(default)]
    pub waiting: Units,
    /// Live waitlist entries and offers, at most one per variant.
    #[serde(default)]
    pub entries: Vec<WaitingEntry>,
}

/// A live waitlist entry.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct WaitingEntry {
    /// The variant.
    pub variant_id: VariantId,
    /// The order that waits.
    pub order_id: OrderId,
}

/// What happened to a drop, told once per crossing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DropEventKind {
    /// On sale from here on.
    DropStarted,
    /// Off sale from here on.
    DropEnded,
    /// Off sale for a while.
    DropPaused,
    /// On sale again.
    DropResumed,
    /// Called off.
    DropCancelled,
    /// Available units fell to the threshold.
    StockLow,
    /// The last available unit went.
    SoldOut,
    /// Units were added.
    Restocked,
}

words!(DropEventKind {
    DropStarted = "drop_started",
    DropEnded = "drop_ended",
    DropPaused = "drop_paused",
    DropResumed = "drop_resumed",
    DropCancelled = "drop_cancelled",
    StockLow = "stock_low",
    SoldOut = "sold_out",
    Restocked = "restocked",
});

/// An edge that a drop crosses once.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct DropEvent {
    /// Which edge.
    pub kind: DropEventKind,
    /// The drop.
    pub drop_id: DropId,
}
