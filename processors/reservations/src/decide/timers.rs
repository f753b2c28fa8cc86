//! What a due timer does. Each checks its row: the timer is only a proposal.

use std::sync::Arc;

use model::{ReadFailed, Row, Rows, Stamp, Timer};
use schemas::order::{DropStatus, OrderBody, OrderStatus};

use super::{cancel, drops};
use crate::rows::StateRow;

pub(crate) fn fire(
    rows: &dyn Rows<StateRow>,
    timer: &Timer,
    stamp: Stamp,
) -> Result<Option<OrderBody>, ReadFailed> {
    let row = rows.get(&timer.row)?.map(Arc::unwrap_or_clone);
    let Some(row) = row.filter(|row| row.timer() == Some(*timer)) else {
        return Ok(None);
    };
    match row {
        StateRow::Drop(drop) => Ok(match drop.status {
            DropStatus::Upcoming => Some(drops::opened(drop, stamp)),
            DropStatus::Live => Some(drops::ended(drop, stamp)),
            DropStatus::Ended => None,
        }),
        StateRow::Order(order) => {
            cancel::given_back(rows, order, OrderStatus::Expired, stamp).map(Some)
        }
        StateRow::Stock(_) | StateRow::Buyer(_) => Ok(None),
    }
}
