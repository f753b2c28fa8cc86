//! Opening and closing a drop, by command or by its timer.

use model::{Decided, ReadFailed, Rows, Stamp};
use schemas::order::{DropEvent, DropEventKind, DropRow, DropStatus, OrderBody, Reason};

use super::{changed, refusal, refused, wrong_state};
use crate::command::OnDrop;
use crate::rows::{self, StateRow};

pub(super) fn open(
    rows: &dyn Rows<StateRow>,
    on: &OnDrop,
    stamp: Stamp,
) -> Result<Decided<OrderBody>, ReadFailed> {
    move_on(rows, on, DropStatus::Upcoming, |drop| opened(drop, stamp))
}

pub(super) fn close(
    rows: &dyn Rows<StateRow>,
    on: &OnDrop,
    stamp: Stamp,
) -> Result<Decided<OrderBody>, ReadFailed> {
    move_on(rows, on, DropStatus::Live, |drop| ended(drop, stamp))
}

/// Refusals in order: `unknown_drop`, `not_creator`, `wrong_state`.
fn move_on(
    rows: &dyn Rows<StateRow>,
    on: &OnDrop,
    from: DropStatus,
    to: impl FnOnce(DropRow) -> OrderBody,
) -> Result<Decided<OrderBody>, ReadFailed> {
    let Some(drop) = rows::read_drop(rows, on.drop)? else {
        return Ok(refused(refusal(Reason::UnknownDrop)));
    };
    if !on.admin && !on.creators.contains(&drop.creator_id) {
        return Ok(refused(refusal(Reason::NotCreator)));
    }
    if drop.status != from {
        return Ok(wrong_state(drop.status));
    }
    Ok(changed(to(drop)))
}

/// The drop on sale.
pub(super) fn opened(drop: DropRow, stamp: Stamp) -> OrderBody {
    let drop = DropRow { status: DropStatus::Live, opened_at: Some(stamp.log_time), ..drop };
    crossed(drop, DropEventKind::DropStarted)
}

/// The drop off sale; live holds run on.
pub(super) fn ended(drop: DropRow, stamp: Stamp) -> OrderBody {
    let drop = DropRow { status: DropStatus::Ended, ended_at: Some(stamp.log_time), ..drop };
    crossed(drop, DropEventKind::DropEnded)
}

fn crossed(mut drop: DropRow, kind: DropEventKind) -> OrderBody {
    drop.version = drop.version.saturating_add(1);
    let event = DropEvent { kind, drop_id: drop.drop_id };
    OrderBody { drops: vec![drop], events: vec![event], ..OrderBody::default() }
}
