//! Why an intent is turned down.

use serde::{Deserialize, Serialize};

use crate::avro::words;
use crate::ids::{OrderId, UserId};
use crate::units::Millis;

use super::DropStatus;

/// Why an intent is turned down. The order of the variants is the order of the checks.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
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

words!(Reason {
    UnknownOrder = "unknown_order",
    UnknownDrop = "unknown_drop",
    Archived = "archived",
    NotCreator = "not_creator",
    DropExists = "drop_exists",
    InvalidSchedule = "invalid_schedule",
    WrongState = "wrong_state",
    NotOpen = "not_open",
    UnknownVariant = "unknown_variant",
    BadQuantity = "bad_quantity",
    PriceChanged = "price_changed",
    LimitExceeded = "limit_exceeded",
    InsufficientStock = "insufficient_stock",
    SoldOut = "sold_out",
    NotCancellable = "not_cancellable",
    PaymentInProgress = "payment_in_progress",
    AlreadyPaid = "already_paid",
    NotPayable = "not_payable",
    NotExtendable = "not_extendable",
    NotRefundable = "not_refundable",
    UnknownPayment = "unknown_payment",
    DropEnded = "drop_ended",
    DropCancelled = "drop_cancelled",
    PaymentDeclined = "payment_declined",
    CaptureFailed = "capture_failed",
    NotActivated = "not_activated",
    UnknownVersion = "unknown_version",
});

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
