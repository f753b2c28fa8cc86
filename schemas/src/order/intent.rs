//! What may be asked of the writer of a drop.

use serde::{Deserialize, Serialize};
use smallvec::SmallVec;

use crate::avro::words;
use crate::ids::{CreatorId, DropId, Hash, IntentId, OrderId, ProductId, UserId, VariantId};
use crate::limits::{OFFER_SECONDS_DEFAULT, PAYMENT_ATTEMPTS_DEFAULT};
use crate::units::{Currency, Millis, MinorUnits, Units};

use super::ProviderOperationKind;

/// What an order intent asks for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
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
    /// A buyer asks for more time while a payment is in progress.
    Extend,
    /// A buyer pays: a further attempt, or the acceptance of an offer.
    Pay,
    /// What the provider did; written by the payments processor alone.
    PaymentOutcome,
    /// A creator changes the terms of a drop that is not yet on sale.
    Edit,
    /// A creator takes a live drop off sale for a while.
    Pause,
    /// A creator puts a paused drop on sale again.
    Resume,
    /// A creator adds units.
    Restock,
    /// A creator takes available units off sale.
    Withdraw,
    /// A creator calls a drop off: units are released, money goes back.
    Abort,
    /// A creator gives the money of an order back.
    Refund,
    /// An operator lets the partition write what an older build would not understand.
    Activate,
    /// The owner moves log time on, so that due timers of a quiet partition fire.
    Tick,
}

words!(OrderIntentKind {
    Place = "place",
    Cancel = "cancel",
    Schedule = "schedule",
    Open = "open",
    Close = "close",
    Extend = "extend",
    Pay = "pay",
    PaymentOutcome = "payment_outcome",
    Edit = "edit",
    Pause = "pause",
    Resume = "resume",
    Restock = "restock",
    Withdraw = "withdraw",
    Abort = "abort",
    Refund = "refund",
    Activate = "activate",
    Tick = "tick",
});

/// What to do when the units are gone.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum IfSoldOut {
    /// Refuse.
    #[default]
    Reject,
    /// Wait for released units, where the drop has a waitlist.
    Waitlist,
}

words!(IfSoldOut {
    Reject = "reject",
    Waitlist = "waitlist",
});

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
    pub lines: SmallVec<[OrderLine; 1]>,
    /// Opaque reference.
    pub payment_method: Option<String>,
    /// What to do when the units are gone.
    pub if_sold_out: IfSoldOut,
    /// Total the buyer saw.
    pub expected_total: Option<MinorUnits>,
    /// Its currency.
    pub expected_currency: Option<Currency>,
}

/// A buyer changes an order.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct OrderChange {
    /// The order.
    pub order_id: OrderId,
}

/// Who commands a drop, or one of its orders, as its creator.
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
    pub currency: Currency,
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
    /// How long a waiting buyer may take up an offer.
    #[serde(default = "default_offer_seconds")]
    pub offer_seconds: i32,
    /// Whether buyers may wait for released units.
    #[serde(default)]
    pub waitlist: bool,
    /// Most payment attempts per order.
    #[serde(default = "default_payment_attempts")]
    pub payment_attempts: i32,
}

pub(super) const fn default_offer_seconds() -> i32 {
    OFFER_SECONDS_DEFAULT
}

pub(super) const fn default_payment_attempts() -> i32 {
    PAYMENT_ATTEMPTS_DEFAULT
}

/// A buyer pays.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct PayOrder {
    /// The order.
    pub order_id: OrderId,
    /// Opaque reference; `None` where nothing is charged.
    pub payment_method: Option<String>,
}

/// How a provider operation ended, or what it waits for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum ProviderResult {
    /// Done. Terminal.
    Succeeded,
    /// Turned down, for good. Terminal.
    Failed,
    /// The buyer has a step to take; the outcome is still to come.
    NeedsAction,
}

words!(ProviderResult {
    Succeeded = "succeeded",
    Failed = "failed",
    NeedsAction = "needs_action",
});

/// What the provider did with one operation.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct PaymentOutcome {
    /// The order.
    pub order_id: OrderId,
    /// Payment attempt, from 1.
    pub attempt: i32,
    /// Which operation.
    pub operation: ProviderOperationKind,
    /// How it ended.
    pub result: ProviderResult,
    /// Whether the method took the money with the authorisation.
    pub captured: bool,
    /// Amount that the provider names.
    pub amount: MinorUnits,
    /// ISO 4217, as the provider names it.
    pub currency: Currency,
    /// Why it failed, or where the buyer has to go.
    pub detail: Option<String>,
    /// The provider's own name of the charge: later operations ask for it by this.
    #[serde(default)]
    pub reference: Option<String>,
}

/// Units added to or taken from what is available.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct StockChange {
    /// The variant; may be missing where the drop has one.
    pub variant_id: Option<VariantId>,
    /// Units, 1 or more.
    pub qty: Units,
    /// Hash of (actor, idempotency key).
    pub key: Hash,
    /// Hash over the meaning of the request.
    pub request_hash: Hash,
}

/// A creator gives the money of an order back.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct RefundOrder {
    /// The order.
    pub order_id: OrderId,
    /// Whether the units become available again.
    pub restock: bool,
    /// Hash of (actor, idempotency key).
    pub key: Hash,
}

/// A variant's new price.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct PriceChange {
    /// The variant.
    pub variant_id: VariantId,
    /// Price of one unit.
    pub price: MinorUnits,
}

/// New terms of a drop that is not yet on sale; `None` keeps the old one.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct EditDrop {
    /// Public title.
    pub title: Option<String>,
    /// Opening instant.
    pub starts_at: Option<Millis>,
    /// Closing instant.
    pub ends_at: Option<Millis>,
    /// IANA zone for display.
    pub time_zone: Option<String>,
    /// Most units per buyer.
    pub limit_per_user: Option<i32>,
    /// Length of a hold.
    pub hold_seconds: Option<i32>,
    /// Available units that count as low.
    pub low_stock_threshold: Option<Units>,
    /// Variants with a new price.
    pub prices: Vec<PriceChange>,
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
    /// For [`OrderIntentKind::Cancel`] and [`OrderIntentKind::Extend`].
    pub order_change: Option<OrderChange>,
    /// For every kind that a creator commands, [`OrderIntentKind::Schedule`] apart.
    pub creator_command: Option<CreatorCommand>,
    /// For [`OrderIntentKind::Schedule`].
    pub schedule: Option<Box<ScheduleDrop>>,
    /// For [`OrderIntentKind::Pay`].
    #[serde(default)]
    pub payment: Option<PayOrder>,
    /// For [`OrderIntentKind::PaymentOutcome`].
    #[serde(default)]
    pub payment_outcome: Option<Box<PaymentOutcome>>,
    /// For [`OrderIntentKind::Restock`] and [`OrderIntentKind::Withdraw`].
    #[serde(default)]
    pub stock_change: Option<StockChange>,
    /// For [`OrderIntentKind::Refund`].
    #[serde(default)]
    pub refund: Option<RefundOrder>,
    /// For [`OrderIntentKind::Edit`].
    #[serde(default)]
    pub edit: Option<Box<EditDrop>>,
    /// For [`OrderIntentKind::Activate`].
    #[serde(default)]
    pub activate: Option<i32>,
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
            payment: None,
            payment_outcome: None,
            stock_change: None,
            refund: None,
            edit: None,
            activate: None,
        }
    }
}
