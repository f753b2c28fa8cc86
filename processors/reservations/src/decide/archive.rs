//! Forgetting a settled drop: its orders go, a tombstone stays and answers `archived`.

use model::{ReadFailed, RowKey, Rows, Stamp};
use schemas::order::{
    ArchivedRows, ContinuationKind, ContinuationRow, DropRow, DropStatus, OrderBody, OrderRow,
    OrderStatus,
};
use schemas::units::Millis;

use super::change::Change;
use super::offers::order_prefix;
use crate::rows::{self, StateRow};
use crate::topology::tag;

/// Orders looked at per record while checking.
const CHECKED_PER_RECORD: usize = 512;
/// Rows deleted per record.
const DELETED_PER_RECORD: usize = 62;
/// When an unsettled drop is looked at again.
const LOOK_AGAIN: Millis = Millis::from_seconds(86_400);

/// The drop's time has come.
pub(super) fn begin(
    rows: &dyn Rows<StateRow>,
    drop: &DropRow,
    stamp: Stamp,
) -> Result<OrderBody, ReadFailed> {
    let mut change = Change::new(rows, stamp);
    change.start(ContinuationKind::CheckSettled, drop.drop_id);
    change.put_drop(DropRow { archive_at: None, ..drop.clone() });
    change.finish(drop)
}

/// Checks every order, then deletes every row.
pub(super) fn go_on(
    rows: &dyn Rows<StateRow>,
    work: ContinuationRow,
    drop: &DropRow,
    stamp: Stamp,
) -> Result<OrderBody, ReadFailed> {
    if work.kind == ContinuationKind::CheckSettled {
        check(rows, work, drop, stamp)
    } else {
        delete(rows, work, drop, stamp)
    }
}

fn check(
    rows: &dyn Rows<StateRow>,
    work: ContinuationRow,
    drop: &DropRow,
    stamp: Stamp,
) -> Result<OrderBody, ReadFailed> {
    let mut change = Change::new(rows, stamp);
    let after = work.cursor.map(rows::order_key);
    let keys = rows.keys_after(&order_prefix(drop), after.as_ref(), CHECKED_PER_RECORD)?;
    for key in &keys {
        let order = rows.get(key)?;
        if let Some(StateRow::Order(order)) = &order
            && order.drop_id == drop.drop_id
            && !is_settled(order)
        {
            let archive_at = Some(stamp.log_time.after(LOOK_AGAIN));
            change.put_drop(DropRow { archive_at, ..drop.clone() });
            change.body.finished.push(work.id);
            return change.finish(drop);
        }
    }
    let next = if keys.len() < CHECKED_PER_RECORD {
        ContinuationRow { kind: ContinuationKind::Archive, cursor: None, ..work }
    } else {
        ContinuationRow { cursor: keys.last().and_then(super::waitlist::order_in), ..work }
    };
    change.body.continuations.push(next);
    change.finish(drop)
}

/// Nothing can happen to it any more.
fn is_settled(order: &OrderRow) -> bool {
    let is_final = !matches!(
        order.status,
        OrderStatus::Reserved
            | OrderStatus::Offered
            | OrderStatus::Waitlisted
            | OrderStatus::RefundPending
    );
    is_final && order.operation.is_none()
}

fn delete(
    rows: &dyn Rows<StateRow>,
    work: ContinuationRow,
    drop: &DropRow,
    stamp: Stamp,
) -> Result<OrderBody, ReadFailed> {
    let mut change = Change::new(rows, stamp);
    let mut archived = ArchivedRows {
        drop_id: drop.drop_id,
        orders: Vec::new(),
        buyers: Vec::new(),
        variants: Vec::new(),
        commands: Vec::new(),
    };
    let after = work.cursor.map(rows::order_key);
    let orders = rows.keys_after(&order_prefix(drop), after.as_ref(), DELETED_PER_RECORD)?;
    let mut left = DELETED_PER_RECORD - orders.len();
    // Another drop's orders may share the four bytes; they stay.
    for key in &orders {
        if let Some(StateRow::Order(order)) = rows.get(key)?
            && order.drop_id == drop.drop_id
        {
            archived.orders.push(order.order_id);
        }
    }
    let mut take = |table: u8| -> Result<Vec<RowKey>, ReadFailed> {
        let keys = rows.keys_after(&RowKey::new(table, &[&drop.drop_id.0]), None, left)?;
        left -= keys.len();
        Ok(keys)
    };
    archived
        .buyers
        .extend(take(tag::BUYER)?.iter().filter_map(second_id).map(schemas::ids::UserId));
    archived
        .commands
        .extend(take(tag::COMMAND)?.iter().filter_map(second_id).map(schemas::ids::Hash));
    archived
        .variants
        .extend(take(tag::STOCK)?.iter().filter_map(second_id).map(schemas::ids::VariantId));
    if left > 0 {
        change.put_drop(DropRow { status: DropStatus::Archived, archive_at: None, ..drop.clone() });
        change.body.finished.push(work.id);
    } else {
        let cursor = orders.last().and_then(super::waitlist::order_in).or(work.cursor);
        change.body.continuations.push(ContinuationRow { cursor, ..work });
    }
    change.body.archived = Some(Box::new(archived));
    change.finish(drop)
}

/// The id after the drop's in a key.
fn second_id(key: &RowKey) -> Option<[u8; 16]> {
    key.as_bytes().last_chunk().copied()
}
