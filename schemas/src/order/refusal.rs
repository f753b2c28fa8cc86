//! Why an intent is turned down.

use serde::{Deserialize, Serialize};

use crate::ids::{OrderId, UserId};
use crate::units::Millis;

use super::DropStatus;

/// Why an intent is turned down. The order of the variants is the order of the checks.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// No such order, or somebody else's.
    UnknownOrder,
    /// No such drop.
    UnknownDrop,
    /// The drop was settled long ago and its orders are forgotten.
    Archived,
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
    /// Money is on its way: the order can be neither cancelled nor paid again now.
    PaymentInProgress,
    /// The order is paid for.
    AlreadyPaid,
    /// There is nothing to pay for.
    NotPayable,
    /// No payment is in progress, or the hold was extended before, or began as an offer.
    NotExtendable,
    /// No money was captured, or it is on its way back.
    NotRefundable,
    /// The outcome names an attempt that was never made.
    UnknownPayment,
    /// The drop ended before units came back. Of orders, never of intents.
    DropEnded,
    /// The creator called the drop off. Of orders, never of intents.
    DropCancelled,
    /// The last payment attempt was declined. Of orders, never of intents.
    PaymentDeclined,
    /// The reserved money could not be taken. Of orders, never of intents.
    CaptureFailed,
    /// The partition still writes for older builds; an operator has to activate this command.
    NotActivated,
    /// This build does not know the logic version to activate.
    UnknownVersion,
}

impl Reason {
    /// The word on the wire and in problem documents.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::UnknownOrder => "unknown_order",
            Self::UnknownDrop => "unknown_drop",
            Self::Archived => "archived",
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
            Self::PaymentInProgress => "payment_in_progress",
            Self::AlreadyPaid => "already_paid",
            Self::NotPayable => "not_payable",
            Self::NotExtendable => "not_extendable",
            Self::NotRefundable => "not_refundable",
            Self::UnknownPayment => "unknown_payment",
            Self::DropEnded => "drop_ended",
            Self::DropCancelled => "drop_cancelled",
            Self::PaymentDeclined => "payment_declined",
            Self::CaptureFailed => "capture_failed",
            Self::NotActivated => "not_activated",
            Self::UnknownVersion => "unknown_version",
        }
    }
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
