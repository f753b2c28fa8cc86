//! A buyer gives an order up.

use model::{Decided, ReadFailed, Rows, Stamp};
use schemas::decision::Outcome;
use schemas::ids::{OrderId, UserId};
use schemas::order::{OrderBody, OrderRow, OrderStatus, Reason, Refusal};

use super::stock::{Released, release};
use super::{changed, refusal, refused, replayed};
use crate::rows::{self, StateRow};

pub(super) fn cancel(
    rows: &dyn Rows<StateRow>,
    user: UserId,
    order_id: OrderId,
    stamp: Stamp,
) -> Result<Decided<OrderBody>, ReadFailed> {
    let named =
        |reason| Refusal { order_id: Some(order_id), user_id: Some(user), ..refusal(reason) };
    // A foreign order is answered like an unknown one: its existence is nobody else's business.
    let order = match rows::read_order(rows, order_id)? {
        Some(order) if order.user_id == user => order,
        _ => return Ok(refused(named(Reason::UnknownOrder))),
    };
    match order.status {
        // CONFIRMED is always a free order here: no money has to go back.
        OrderStatus::Reserved | OrderStatus::Confirmed => {
            Ok(changed(given_back(rows, order, OrderStatus::Cancelled, stamp)?))
        }
        OrderStatus::Cancelled => Ok(replayed(Some(order))),
        OrderStatus::Rejected | OrderStatus::Expired => Ok(Decided {
            outcome: Outcome::Refused,
            body: Some(OrderBody {
                refusal: Some(named(Reason::NotCancellable)),
                answer: Some(order),
                ..OrderBody::default()
            }),
        }),
    }
}

/// The order in its final status, its units available again.
pub(super) fn given_back(
    rows: &dyn Rows<StateRow>,
    order: OrderRow,
    status: OrderStatus,
    stamp: Stamp,
) -> Result<OrderBody, ReadFailed> {
    let Released { stocks, buyers } = release(rows, &order)?;
    let order = OrderRow {
        status,
        version: order.version.saturating_add(1),
        decided_at: stamp.decided_at,
        hold_expires_at: None,
        ..order
    };
    Ok(OrderBody { orders: vec![order], stocks, buyers, ..OrderBody::default() })
}
