//! What a due timer does. Each checks its row: the timer is only a proposal.

use std::sync::Arc;

use model::{ReadFailed, Row, Rows, Stamp, Timer};
use schemas::order::{DropRow, DropStatus, OrderBody, OrderRow, OrderStatus};

use super::change::{Change, drop_of};
use super::{archive, drops, offers};
use crate::rows::StateRow;

pub(crate) fn fire(
    rows: &dyn Rows<StateRow>,
    timer: &Timer,
    stamp: Stamp,
) -> Result<Option<OrderBody>, ReadFailed> {
    let row = rows.get(&timer.row)?;
    let Some(row) = row.filter(|row| row.timer() == Some(*timer)) else {
        return Ok(None);
    };
    match row {
        StateRow::Drop(drop) => drop_is_due(rows, Arc::unwrap_or_clone(drop), stamp),
        StateRow::Order(order) => lapsed(rows, &order, stamp).map(Some),
        StateRow::Continuation(work) => offers::go_on(rows, *work, stamp).map(Some),
        StateRow::Stock(_) | StateRow::Buyer(_) | StateRow::Command(_) => Ok(None),
    }
}

fn drop_is_due(
    rows: &dyn Rows<StateRow>,
    drop: DropRow,
    stamp: Stamp,
) -> Result<Option<OrderBody>, ReadFailed> {
    match drop.status {
        DropStatus::Upcoming => drops::opened(rows, drop, stamp).map(Some),
        DropStatus::Live | DropStatus::Paused => drops::ended(rows, drop, stamp).map(Some),
        DropStatus::Ended | DropStatus::Cancelled => archive::begin(rows, &drop, stamp).map(Some),
        DropStatus::Archived => Ok(None),
    }
}

/// A hold or an offer nobody took up: its units go back. A payment under way is followed to its end.
fn lapsed(
    rows: &dyn Rows<StateRow>,
    order: &OrderRow,
    stamp: Stamp,
) -> Result<OrderBody, ReadFailed> {
    let drop = drop_of(rows, order)?;
    let mut change = Change::new(rows, stamp);
    let expired = OrderRow { status: OrderStatus::Expired, ..order.clone() };
    change.put_order(&drop, Some(order), expired)?;
    change.finish(&drop)
}
