//! A creator gives the money of an order back.

use model::{Decided, ReadFailed, Rows, Stamp};
use schemas::ids::Hash;
use schemas::order::{
    CommandRow, OrderBody, OrderRow, OrderStatus, Reason, RefundOrder, RefundPlan, Refusal,
};

use super::change::{Change, drop_of};
use super::{changed, key_reused, refusal, refused, refused_with, replayed};
use crate::command::Caller;
use crate::rows::{self, StateRow};

/// Refusals in order: `unknown_order` (an order of another creator's drop too), `not_refundable`.
pub(super) fn refund(
    rows: &dyn Rows<StateRow>,
    caller: &Caller,
    wanted: &RefundOrder,
    stamp: Stamp,
) -> Result<Decided<OrderBody>, ReadFailed> {
    let named = |reason| Refusal { order_id: Some(wanted.order_id), ..refusal(reason) };
    let Some(order) = rows::read_order(rows, wanted.order_id)? else {
        return Ok(refused(named(Reason::UnknownOrder)));
    };
    let drop = drop_of(rows, &order)?;
    if !caller.may_write_for(drop.creator_id) {
        return Ok(refused(named(Reason::UnknownOrder)));
    }
    let request_hash = Hash::of(&[&wanted.order_id.0, &[u8::from(wanted.restock)]]);
    if let Some(first) = rows::read_command(rows, drop.drop_id, wanted.key)? {
        let same = first.request_hash == request_hash;
        return Ok(if same { replayed(Some(order)) } else { key_reused(Some(order)) });
    }
    let Some(status) = refunding(&order, drop.payment_required) else {
        return Ok(refused_with(named(Reason::NotRefundable), order));
    };
    let plan = RefundPlan { restock: wanted.restock };
    let after = OrderRow { status, refund: Some(plan), ..order.clone() };
    let mut change = Change::new(rows, stamp);
    let key = CommandRow { key: wanted.key, drop_id: drop.drop_id, request_hash };
    change.body.commands.push(key);
    change.put_order(&drop, Some(&order), after)?;
    change.finish(&drop).map(changed)
}

/// The status of an order whose money is to go back. During a capture the order is only marked: the outcome
/// of the capture chooses.
pub(super) fn refunding(order: &OrderRow, payment_required: bool) -> Option<OrderStatus> {
    match order.status {
        OrderStatus::Paid => Some(OrderStatus::RefundPending),
        OrderStatus::Confirmed if payment_required && order.refund.is_none() => {
            Some(OrderStatus::Confirmed)
        }
        _ => None,
    }
}
