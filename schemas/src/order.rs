//! Records of the order topics, field for field as in `schemas/avro/order_*.avsc`.

use serde::{Deserialize, Serialize};

use crate::ids::{CreatorId, DropId, Hash, IntentId, OrderId, ProductId, UserId, VariantId};
use crate::units::{Millis, MinorUnits, Units};

/// What an order intent asks for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OrderIntentKind {
    /// A buyer asks for units.
    Place,
    /// A buyer gives an order up.
    Cancel,
    /// A creator announces a drop.
    Schedule,
    /// A creator opens a drop ahead of its time.
    Open,
    /// A creator closes a drop ahead of its time.
    Close,
    /// The owner moves log time on, so that due timers of a quiet partition fire.
    Tick,
}

/// What to do when the units are gone.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum IfSoldOut {
    /// Refuse.
    #[default]
    Reject,
    /// Wait for released units, where the drop has a waitlist.
    Waitlist,
}

/// Units of one variant.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct OrderLine {
    /// The variant.
    pub variant_id: VariantId,
    /// Units, 1 or more.
    pub qty: i32,
}

/// A buyer asks for units.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct PlaceOrder {
    /// See [`OrderId::derive`].
    pub order_id: OrderId,
    /// Hash over the meaning of the request.
    pub request_hash: Hash,
    /// All or nothing; lines of one variant are summed.
    pub lines: Vec<OrderLine>,
    /// Opaque reference.
    pub payment_method: Option<String>,
    /// What to do when the units are gone.
    pub if_sold_out: IfSoldOut,
    /// Total the buyer saw.
    pub expected_total: Option<MinorUnits>,
    /// Its currency.
    pub expected_currency: Option<String>,
}

/// A buyer changes an order.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct OrderChange {
    /// The order.
    pub order_id: OrderId,
}

/// A creator opens or closes a drop.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct CreatorCommand {
    /// Creators the caller may write for.
    pub creator_ids: Vec<CreatorId>,
    /// Whether the caller is an operator.
    pub admin: bool,
}

/// One variant on sale.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct VariantSpec {
    /// The variant.
    pub variant_id: VariantId,
    /// Display name; empty for the unnamed variant.
    pub name: String,
    /// Units on sale.
    pub stock: Units,
    /// Price of one unit.
    pub price: MinorUnits,
}

/// A creator announces a drop.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ScheduleDrop {
    /// The drop's creator.
    pub creator_id: CreatorId,
    /// Hash of (creator, idempotency key).
    pub schedule_key: Hash,
    /// Hash over the meaning of the request.
    pub request_hash: Hash,
    /// The product sold.
    pub product_id: ProductId,
    /// Public title.
    pub title: String,
    /// Opening instant.
    pub starts_at: Millis,
    /// Closing instant.
    pub ends_at: Millis,
    /// IANA zone for display.
    pub time_zone: Option<String>,
    /// ISO 4217.
    pub currency: String,
    /// 1 to 32 variants.
    pub variants: Vec<VariantSpec>,
    /// Most units per buyer.
    pub limit_per_user: Option<i32>,
    /// Length of a hold.
    pub hold_seconds: i32,
    /// Available units that count as low.
    pub low_stock_threshold: Units,
    /// False for free drops.
    pub payment_required: bool,
}

/// A command for one drop.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct OrderIntent {
    /// Random id, echoed by the decision.
    pub intent_id: IntentId,
    /// Request id of the call behind it.
    pub correlation_id: Option<String>,
    /// Names the one group that is filled.
    pub kind: OrderIntentKind,
    /// Who asks; null for a tick.
    pub actor: Option<UserId>,
    /// The appender's clock; informational.
    pub sent_at: Millis,
    /// Null for order commands and ticks.
    pub drop_id: Option<DropId>,
    /// For [`OrderIntentKind::Place`].
    pub place: Option<PlaceOrder>,
    /// For [`OrderIntentKind::Cancel`].
    pub order_change: Option<OrderChange>,
    /// For [`OrderIntentKind::Open`] and [`OrderIntentKind::Close`].
    pub creator_command: Option<CreatorCommand>,
    /// For [`OrderIntentKind::Schedule`].
    pub schedule: Option<ScheduleDrop>,
}

impl OrderIntent {
    /// An intent without any group, for the caller to fill the one its kind names.
    #[must_use]
    pub fn bare(intent_id: IntentId, kind: OrderIntentKind, sent_at: Millis) -> Self {
        Self {
            intent_id,
            correlation_id: None,
            kind,
            actor: None,
            sent_at,
            drop_id: None,
            place: None,
            order_change: None,
            creator_command: None,
            schedule: None,
        }
    }
}

/// Where an order stands.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum OrderStatus {
    /// Units are held until the deadline.
    Reserved,
    /// Units are the buyer's.
    Confirmed,
    /// Refused, for good under this key.
    Rejected,
    /// The hold lapsed; the units went back.
    Expired,
    /// The buyer gave it up; the units went back.
    Cancelled,
}

impl OrderStatus {
    /// The word on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Reserved => "RESERVED",
            Self::Confirmed => "CONFIRMED",
            Self::Rejected => "REJECTED",
            Self::Expired => "EXPIRED",
            Self::Cancelled => "CANCELLED",
        }
    }
}

/// Why an intent is turned down. The order of the variants is the order of the checks.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// No such order, or somebody else's.
    UnknownOrder,
    /// No such drop.
    UnknownDrop,
    /// The caller may not write for the drop's creator.
    NotCreator,
    /// The drop id is taken by another schedule.
    DropExists,
    /// The schedule breaks a limit that ingest checks too.
    InvalidSchedule,
    /// The drop's status does not allow the command.
    WrongState,
    /// The drop is not on sale now.
    NotOpen,
    /// The drop has no such variant.
    UnknownVariant,
    /// A variant's summed quantity is below 1 or above 1,000.
    BadQuantity,
    /// The total is not the one the buyer saw.
    PriceChanged,
    /// The buyer would own or hold more than the drop allows.
    LimitExceeded,
    /// Some units are left, but not enough.
    InsufficientStock,
    /// No unit is left of a wanted variant.
    SoldOut,
    /// The order is past cancelling.
    NotCancellable,
}

impl Reason {
    /// The word on the wire and in problem documents.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::UnknownOrder => "unknown_order",
            Self::UnknownDrop => "unknown_drop",
            Self::NotCreator => "not_creator",
            Self::DropExists => "drop_exists",
            Self::InvalidSchedule => "invalid_schedule",
            Self::WrongState => "wrong_state",
            Self::NotOpen => "not_open",
            Self::UnknownVariant => "unknown_variant",
            Self::BadQuantity => "bad_quantity",
            Self::PriceChanged => "price_changed",
            Self::LimitExceeded => "limit_exceeded",
            Self::InsufficientStock => "insufficient_stock",
            Self::SoldOut => "sold_out",
            Self::NotCancellable => "not_cancellable",
        }
    }
}

/// Units of one variant at a fixed price.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct OrderRowLine {
    /// The variant.
    pub variant_id: VariantId,
    /// Units.
    pub qty: i32,
    /// Price of one unit, snapshotted when the units were reserved.
    pub unit_price: MinorUnits,
}

/// What was left of a wanted variant.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct MissingUnits {
    /// The variant.
    pub variant_id: VariantId,
    /// Units available at that moment.
    pub available: Units,
}

/// An order as it is after a decision; also the record of its idempotency key.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct OrderRow {
    /// The order.
    pub order_id: OrderId,
    /// Its drop.
    pub drop_id: DropId,
    /// Its buyer.
    pub user_id: UserId,
    /// Where it stands.
    pub status: OrderStatus,
    /// Why it was rejected.
    pub reason: Option<Reason>,
    /// Summed per variant, in variant order.
    pub lines: Vec<OrderRowLine>,
    /// The drop's product.
    pub product_id: ProductId,
    /// ISO 4217.
    pub currency: String,
    /// Sum of qty times unit price.
    pub total: MinorUnits,
    /// Opaque reference.
    pub payment_method: Option<String>,
    /// Hash of the request that made the order.
    pub request_hash: Hash,
    /// 1 for the first decision, one more at every change.
    pub version: i32,
    /// Append time of the placing intent.
    pub created_at: Millis,
    /// When the last change was decided.
    pub decided_at: Millis,
    /// Deadline of the hold while reserved.
    pub hold_expires_at: Option<Millis>,
    /// Offset of the placing intent.
    pub intent_offset: i64,
    /// For [`Reason::InsufficientStock`].
    pub missing: Vec<MissingUnits>,
    /// For [`Reason::LimitExceeded`].
    pub held_order_id: Option<OrderId>,
}

/// Where a drop stands.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum DropStatus {
    /// Announced, not yet on sale.
    Upcoming,
    /// On sale.
    Live,
    /// No longer on sale.
    Ended,
}

impl DropStatus {
    /// The word on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Upcoming => "UPCOMING",
            Self::Live => "LIVE",
            Self::Ended => "ENDED",
        }
    }
}

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
    pub currency: String,
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
}

/// Units of one variant: `available + reserved + sold == initial`.
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
}

/// Units of one buyer in one drop; kept only where the drop has a limit.
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
}

/// Why nothing was granted.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Refusal {
    /// The code.
    pub reason: Reason,
    /// The order refused, where one was named.
    pub order_id: Option<OrderId>,
    /// Who asked.
    pub user_id: Option<UserId>,
    /// For an upcoming drop: when it opens.
    pub opens_at: Option<Millis>,
    /// For `not_open` and `wrong_state`: the drop's status.
    pub drop_status: Option<DropStatus>,
}

/// An edge that a drop crosses once.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DropEventKind {
    /// On sale from here on.
    DropStarted,
    /// Off sale from here on.
    DropEnded,
}

/// An edge that a drop crosses once.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct DropEvent {
    /// Which edge.
    pub kind: DropEventKind,
    /// The drop.
    pub drop_id: DropId,
}

/// Outcome and post-images of a reservation decision.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct OrderBody {
    /// For refused and `key_reused`.
    pub refusal: Option<Refusal>,
    /// Copy of an order row as it is; never applied.
    pub answer: Option<OrderRow>,
    /// Order rows to put.
    pub orders: Vec<OrderRow>,
    /// Drop rows to put.
    pub drops: Vec<DropRow>,
    /// Stock rows to put.
    pub stocks: Vec<StockRow>,
    /// Buyer rows to put.
    pub buyers: Vec<BuyerRow>,
    /// Edges crossed.
    pub events: Vec<DropEvent>,
}
