//! What a buyer does with an order: give it up, ask for more time, pay.

use model::{Decided, ReadFailed, Rows, Stamp};
use schemas::ids::{OrderId, UserId};
use schemas::limits::EXTENSION_SECONDS;
use schemas::order::{DropRow, OrderRow, OrderStatus, Reason, Refusal};
use schemas::units::Millis;

use super::change::{Change, drop_of};
use super::{changed, payments, refusal, refused, refused_with, replayed};
use crate::command::BuyerCommand;
use crate::rows::{self, StateRow};

/// Refusals in order: `unknown_order`, then what the order's status does not allow.
pub(super) fn change(
    rows: &dyn Rows<StateRow>,
    user: UserId,
    order_id: OrderId,
    what: &BuyerCommand,
    stamp: Stamp,
) -> Result<Decided<schemas::order::OrderBody>, ReadFailed> {
    let named =
        |reason| Refusal { order_id: Some(order_id), user_id: Some(user), ..refusal(reason) };
    // A foreign order is answered like an unknown one: its existence is nobody else's business.
    let order = match rows::read_order(rows, order_id)? {
        Some(order) if order.user_id == user => order,
        _ => return Ok(refused(named(Reason::UnknownOrder))),
    };
    if *what == BuyerCommand::Cancel && order.status == OrderStatus::Cancelled {
        return Ok(replayed(Some(order)));
    }
    let drop = drop_of(rows, &order)?;
    let after = match what {
        BuyerCommand::Cancel => cancelled(&order, &drop),
        BuyerCommand::Extend => extended(&order),
        BuyerCommand::Pay { method } => paying(&order, &drop, method.clone(), stamp),
    };
    let after = match after {
        Ok(after) => after,
        Err(reason) => return Ok(refused_with(named(reason), order)),
    };
    let mut change = Change::new(rows, stamp);
    change.put_order(&drop, Some(&order), after)?;
    change.finish(&drop).map(changed)
}

/// Gives an order up. Units confirmed for nothing return; money that is on its way does not stop.
fn cancelled(order: &OrderRow, drop: &DropRow) -> Result<OrderRow, Reason> {
    let status = OrderStatus::Cancelled;
    match order.status {
        OrderStatus::Reserved | OrderStatus::Offered | OrderStatus::Waitlisted => {
            Ok(OrderRow { status, ..order.clone() })
        }
        OrderStatus::Confirmed if !drop.payment_required => {
            Ok(OrderRow { status, ..order.clone() })
        }
        OrderStatus::Confirmed => Err(Reason::PaymentInProgress),
        OrderStatus::Paid => Err(Reason::AlreadyPaid),
        _ => Err(Reason::NotCancellable),
    }
}

/// More time, once, while a payment is in progress, and never for what began as an offer.
fn extended(order: &OrderRow) -> Result<OrderRow, Reason> {
    let in_progress = order.payments.last().is_some_and(|payment| payment.state.is_open());
    if order.status != OrderStatus::Reserved
        || order.extended
        || order.from_waitlist
        || !in_progress
    {
        return Err(Reason::NotExtendable);
    }
    let length = Millis::from_seconds(EXTENSION_SECONDS);
    let hold_expires_at = order.hold_expires_at.map(|deadline| deadline.after(length));
    Ok(OrderRow { extended: true, hold_expires_at, ..order.clone() })
}

/// A further attempt, or an offer taken up: its units are the buyer's until the offer's deadline.
fn paying(
    order: &OrderRow,
    drop: &DropRow,
    method: Option<String>,
    stamp: Stamp,
) -> Result<OrderRow, Reason> {
    match order.status {
        OrderStatus::Offered if !drop.payment_required => {
            Ok(OrderRow { status: OrderStatus::Confirmed, ..order.clone() })
        }
        OrderStatus::Offered => {
            let parked = order.offer_left_ms.map(|left| stamp.decided_at.after(Millis(left)));
            let hold_expires_at = order.offer_expires_at.or(parked);
            let after =
                OrderRow { status: OrderStatus::Reserved, hold_expires_at, ..order.clone() };
            Ok(payments::with_attempt(after, method))
        }
        OrderStatus::Reserved => {
            if order.payments.last().is_some_and(|payment| payment.state.is_open()) {
                return Err(Reason::PaymentInProgress);
            }
            if order.payments.len() >= usize::try_from(drop.payment_attempts).unwrap_or(0) {
                return Err(Reason::NotPayable);
            }
            Ok(payments::with_attempt(order.clone(), method))
        }
        OrderStatus::Confirmed | OrderStatus::Paid => Err(Reason::AlreadyPaid),
        _ => Err(Reason::NotPayable),
    }
}
