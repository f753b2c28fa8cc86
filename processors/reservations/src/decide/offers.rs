//! Continuations over many orders of one drop: offers, their parking, the end of waiting, and an abort. Each call
//! is one record of at most 64 rows; the continuation's row says how far it got.

use model::{ReadFailed, Rows, Stamp};
use schemas::ids::OrderId;
use schemas::order::{
    ContinuationKind, ContinuationRow, DropRow, OrderBody, OrderRow, OrderStatus, Reason,
    RefundPlan,
};
use schemas::units::Millis;

use super::change::{self, Change, may_offer};
use super::{archive, refund, waitlist};
use crate::rows::{self, StateRow};
use crate::topology::tag;

/// Keys looked at per record.
const KEYS_PER_RECORD: usize = 64;

/// Goes on with a continuation.
pub(super) fn go_on(
    rows: &dyn Rows<StateRow>,
    work: ContinuationRow,
    stamp: Stamp,
) -> Result<OrderBody, ReadFailed> {
    let drop = rows::view_drop(rows, work.drop_id)?
        .ok_or_else(|| ReadFailed(format!("continuation {} has no drop", work.id)))?;
    let mut change = Change::new(rows, stamp);
    let cursor = match work.kind {
        ContinuationKind::Offer => offer(&mut change, &drop)?,
        ContinuationKind::EndWaitlist => end_waitlist(&mut change, &drop)?,
        ContinuationKind::ParkOffers | ContinuationKind::RearmOffers => {
            move_clocks(&mut change, &drop, work)?
        }
        ContinuationKind::Abort => abort(&mut change, &drop, work)?,
        ContinuationKind::CheckSettled | ContinuationKind::Archive => {
            return archive::go_on(rows, work, &drop, stamp);
        }
    };
    match cursor {
        Progress::More(cursor) => {
            change.body.continuations.push(ContinuationRow { cursor, ..work });
            change.finish(&drop)
        }
        Progress::Done => {
            change.body.finished.push(work.id);
            let may_follow = [ContinuationKind::Offer, ContinuationKind::RearmOffers];
            if may_follow.contains(&work.kind) {
                waitlist::follow_up(&mut change, &drop)?;
            }
            change.finish(&drop)
        }
    }
}

/// How far one record got.
enum Progress {
    More(Option<OrderId>),
    Done,
}

/// Offers what is available to whom it fits, first come first.
fn offer(change: &mut Change<'_>, drop: &DropRow) -> Result<Progress, ReadFailed> {
    if !may_offer(drop) {
        return Ok(Progress::Done);
    }
    let length = Millis::from_seconds(i64::from(drop.offer_seconds));
    let deadline = change.stamp.decided_at.after(length);
    for variant in &drop.variants {
        while let Some(id) = waitlist::first_fitting(change, drop, variant.variant_id)? {
            if !change.has_room() {
                return Ok(Progress::More(None));
            }
            let order = change::order(change.rows, id)?;
            let offered = OrderRow {
                status: OrderStatus::Offered,
                offer_expires_at: Some(deadline),
                ..order.clone()
            };
            change.put_order(drop, Some(&order), offered)?;
        }
    }
    Ok(Progress::Done)
}

/// Turns down who still waits when nothing can come back any more.
fn end_waitlist(change: &mut Change<'_>, drop: &DropRow) -> Result<Progress, ReadFailed> {
    for variant in &drop.variants {
        let mut from = rows::waiting_place(drop.drop_id, variant.variant_id, 0, i64::MIN);
        while let Some((place, row)) = change.rows.next_in_queue(&from) {
            if !change.has_room() {
                return Ok(Progress::More(None));
            }
            from = place;
            from.position += 1;
            let Some(id) = waitlist::order_in(&row) else { continue };
            let order = change::order(change.rows, id)?;
            let rejected = OrderRow {
                status: OrderStatus::Rejected,
                reason: Some(Reason::DropEnded),
                ..order.clone()
            };
            change.put_order(drop, Some(&order), rejected)?;
        }
    }
    Ok(Progress::Done)
}

/// Stops the clocks of open offers while the drop is paused, or starts them with what was left.
fn move_clocks(
    change: &mut Change<'_>,
    drop: &DropRow,
    work: ContinuationRow,
) -> Result<Progress, ReadFailed> {
    let stamp = change.stamp;
    let done = match work.cursor {
        Some(id) => change::order(change.rows, id)?.intent_offset,
        None => -1,
    };
    let mut from = rows::offered_place(drop.drop_id, done + 1);
    let mut cursor = work.cursor;
    while let Some((place, row)) = change.rows.next_in_queue(&from) {
        if !change.has_room() {
            return Ok(Progress::More(cursor));
        }
        from.position = place.position + 1;
        let Some(id) = waitlist::order_in(&row) else { continue };
        cursor = Some(id);
        let order = change::order(change.rows, id)?;
        let mut after = order.clone();
        if work.kind == ContinuationKind::ParkOffers {
            let left =
                order.offer_expires_at.map(|deadline| deadline.since(stamp.log_time).0.max(0));
            (after.offer_expires_at, after.offer_left_ms) = (None, left);
        } else {
            let deadline = order.offer_left_ms.map(|left| stamp.decided_at.after(Millis(left)));
            (after.offer_expires_at, after.offer_left_ms) = (deadline, None);
        }
        change.put_order(drop, Some(&order), after)?;
    }
    Ok(Progress::Done)
}

/// Releases units and money of a drop that was called off, order by order.
fn abort(
    change: &mut Change<'_>,
    drop: &DropRow,
    work: ContinuationRow,
) -> Result<Progress, ReadFailed> {
    let prefix = order_prefix(drop);
    let after = work.cursor.map(rows::order_key);
    let keys = change.rows.keys_after(&prefix, after.as_ref(), KEYS_PER_RECORD)?;
    let mut cursor = work.cursor;
    for key in &keys {
        if !change.has_room() {
            return Ok(Progress::More(cursor));
        }
        let Some(id) = waitlist::order_in(key) else { continue };
        cursor = Some(id);
        let order = change::order(change.rows, id)?;
        if order.drop_id == drop.drop_id
            && let Some(after) = called_off(&order, drop)
        {
            change.put_order(drop, Some(&order), after)?;
        }
    }
    Ok(if keys.len() < KEYS_PER_RECORD { Progress::Done } else { Progress::More(cursor) })
}

/// An order of a drop that was called off, where something has to change.
fn called_off(order: &OrderRow, drop: &DropRow) -> Option<OrderRow> {
    let cancelled = || OrderRow {
        status: OrderStatus::Cancelled,
        reason: Some(Reason::DropCancelled),
        ..order.clone()
    };
    match order.status {
        OrderStatus::Reserved | OrderStatus::Offered | OrderStatus::Waitlisted => Some(cancelled()),
        OrderStatus::Confirmed if !drop.payment_required => Some(cancelled()),
        _ => refund::refunding(order, drop.payment_required).map(|status| OrderRow {
            status,
            refund: Some(RefundPlan { restock: true }),
            ..order.clone()
        }),
    }
}

/// What every order id of a drop begins with.
pub(super) fn order_prefix(drop: &DropRow) -> model::RowKey {
    model::RowKey::new(tag::ORDER, &[&schemas::partition::murmur2(&drop.drop_id.0).to_be_bytes()])
}
