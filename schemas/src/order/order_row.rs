//! An order as it is after a decision.

use serde::{Deserialize, Serialize};
use smallvec::SmallVec;

use crate::avro::words;
use crate::ids::{DropId, Hash, OrderId, ProductId, UserId, VariantId};
use crate::units::{Currency, Millis, MinorUnits, Units};

use super::Reason;

/// Where an order stands.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum OrderStatus {
    /// Units are held until the deadline.
    Reserved,
    /// Units are the buyer's; where the drop is paid for, the capture is under way.
    Confirmed,
    /// The money is captured.
    Paid,
    /// Refused, for good under this key.
    Rejected,
    /// The hold lapsed; the units went back.
    Expired,
    /// The buyer or the creator gave it up; the units went back.
    Cancelled,
    /// Waiting for released units.
    Waitlisted,
    /// Released units are held until the buyer takes them up.
    Offered,
    /// No attempt is left, or the capture failed; the units went back.
    PaymentFailed,
    /// The provider was asked to give the money back.
    RefundPending,
    /// The money went back.
    Refunded,
    /// The provider refused to give the money back: a case for an operator.
    RefundFailed,
}

words!(OrderStatus {
    Reserved = "RESERVED",
    Confirmed = "CONFIRMED",
    Paid = "PAID",
    Rejected = "REJECTED",
    Expired = "EXPIRED",
    Cancelled = "CANCELLED",
    Waitlisted = "WAITLISTED",
    Offered = "OFFERED",
    PaymentFailed = "PAYMENT_FAILED",
    RefundPending = "REFUND_PENDING",
    Refunded = "REFUNDED",
    RefundFailed = "REFUND_FAILED",
});

impl OrderStatus {
    /// Whether units are held for an order with this status.
    #[must_use]
    pub const fn holds_units(self) -> bool {
        matches!(self, Self::Reserved | Self::Offered)
    }
}

/// What a provider can be asked for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum ProviderOperationKind {
    /// Reserve the money.
    Authorise,
    /// Take the reserved money.
    Capture,
    /// Let the reserved money go.
    Void,
    /// Give captured money back.
    Refund,
}

words!(ProviderOperationKind {
    Authorise = "authorise",
    Capture = "capture",
    Void = "void",
    Refund = "refund",
});

/// What is known of the money of one attempt.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum PaymentState {
    /// Authorisation asked for.
    Pending,
    /// The buyer has a step to take at the provider.
    NeedsAction,
    /// No money was reserved.
    Declined,
    /// Money is reserved.
    Authorised,
    /// Money is taken.
    Captured,
    /// The reserved money could not be taken.
    CaptureFailed,
    /// The reserved money was let go.
    Voided,
    /// The reserved money could not be let go; it lapses at the provider.
    VoidFailed,
    /// The taken money went back.
    Refunded,
    /// The taken money did not go back.
    RefundFailed,
}

words!(PaymentState {
    Pending = "PENDING",
    NeedsAction = "NEEDS_ACTION",
    Declined = "DECLINED",
    Authorised = "AUTHORISED",
    Captured = "CAPTURED",
    CaptureFailed = "CAPTURE_FAILED",
    Voided = "VOIDED",
    VoidFailed = "VOID_FAILED",
    Refunded = "REFUNDED",
    RefundFailed = "REFUND_FAILED",
});

impl PaymentState {
    /// Whether the provider has still to say what became of the authorisation.
    #[must_use]
    pub const fn is_open(self) -> bool {
        matches!(self, Self::Pending | Self::NeedsAction)
    }
}

/// One payment attempt.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct PaymentRow {
    /// From 1.
    pub attempt: i32,
    /// Opaque reference.
    pub method: Option<String>,
    /// What is known of its money.
    pub state: PaymentState,
    /// Why it failed, or where the buyer has to go.
    pub detail: Option<String>,
    /// The provider's own name of the charge, once it told one.
    #[serde(default)]
    pub reference: Option<String>,
}

/// The one thing the provider is asked for now.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ProviderOperation {
    /// Attempt it belongs to.
    pub attempt: i32,
    /// What is asked.
    pub kind: ProviderOperationKind,
}

/// The money goes back as soon as it is captured.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct RefundPlan {
    /// Whether the units become available again.
    pub restock: bool,
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
    pub lines: SmallVec<[OrderRowLine; 1]>,
    /// The drop's product.
    pub product_id: ProductId,
    /// ISO 4217.
    pub currency: Currency,
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
    /// Payment attempts, oldest first.
    #[serde(default)]
    pub payments: Vec<PaymentRow>,
    /// Provider operation outstanding; at most one.
    #[serde(default)]
    pub operation: Option<ProviderOperation>,
    /// Deadline of the offer while offered.
    #[serde(default)]
    pub offer_expires_at: Option<Millis>,
    /// What was left of the offer when the drop was paused.
    #[serde(default)]
    pub offer_left_ms: Option<i64>,
    /// Once it waited, it cannot be extended.
    #[serde(default)]
    pub from_waitlist: bool,
    /// A hold is extended once.
    #[serde(default)]
    pub extended: bool,
    /// Refund asked for.
    #[serde(default)]
    pub refund: Option<RefundPlan>,
}

impl OrderRow {
    /// Units of all lines.
    #[must_use]
    pub fn units(&self) -> Units {
        self.lines.iter().map(|line| Units(i64::from(line.qty))).sum()
    }
}
