//! Who waits, and what follows when units come back.
//!
//! Released and restocked units go to the lowest sequence number among the quantities that fit. A new buyer
//! never gets a unit that a waiting one fits: offers are a continuation, drained before the next intent.

use model::{ReadFailed, Rows};
use schemas::ids::{OrderId, VariantId};
use schemas::order::{ContinuationKind, DropRow, DropStatus};

use super::change::{Change, may_offer};
use crate::rows::{self, StateRow};
use crate::topology::tag;

/// Starts what a release makes due: offers; or, once the drop is over and no hold lives, the end of waiting.
pub(super) fn follow_up(change: &mut Change<'_>, drop: &DropRow) -> Result<(), ReadFailed> {
    if !may_offer(drop) || !change.body.continuations.is_empty() {
        return Ok(());
    }
    for variant in &drop.variants {
        if first_fitting(change, drop, variant.variant_id)?.is_some() {
            change.start(ContinuationKind::Offer, drop.drop_id);
            return Ok(());
        }
    }
    if drop.status == DropStatus::Ended
        && has_waiting(change.rows, drop)
        && !holds_live(change, drop)?
    {
        change.start(ContinuationKind::EndWaitlist, drop.drop_id);
    }
    Ok(())
}

/// The waiting order that gets the next units of a variant.
pub(super) fn first_fitting(
    change: &mut Change<'_>,
    drop: &DropRow,
    variant: VariantId,
) -> Result<Option<OrderId>, ReadFailed> {
    if !drop.waitlist {
        return Ok(None);
    }
    let available = change.stock(drop.drop_id, variant)?.available;
    let mut best = None;
    let mut from = rows::waiting_place(drop.drop_id, variant, 1, i64::MIN);
    while let Some((place, row)) = change.rows.next_in_queue(&from) {
        if i64::from(place.size) > available.0 {
            break;
        }
        let order = order_in(&row);
        let is_dealt_with =
            change.body.orders.iter().any(|changed| Some(changed.order_id) == order);
        if is_dealt_with {
            from.size = place.size;
            from.position = place.position + 1;
            continue;
        }
        if best.is_none_or(|(position, _)| place.position < position) {
            best = order.map(|order| (place.position, order));
        }
        (from.size, from.position) = (place.size + 1, i64::MIN);
    }
    Ok(best.map(|(_, order)| order))
}

/// The order that an order row's key names.
pub(super) fn order_in(key: &model::RowKey) -> Option<OrderId> {
    let bytes = key.as_bytes().strip_prefix(&[tag::ORDER])?;
    bytes.try_into().ok().map(OrderId)
}

/// Whether anybody waits for any variant.
pub(super) fn has_waiting(rows: &dyn Rows<StateRow>, drop: &DropRow) -> bool {
    drop.variants.iter().any(|variant| {
        let from = rows::waiting_place(drop.drop_id, variant.variant_id, 0, i64::MIN);
        rows.next_in_queue(&from).is_some()
    })
}

/// Whether any offer is open.
pub(super) fn has_offers(rows: &dyn Rows<StateRow>, drop: &DropRow) -> bool {
    rows.next_in_queue(&rows::offered_place(drop.drop_id, i64::MIN)).is_some()
}

/// Whether units are still held, so that some may yet come back.
fn holds_live(change: &mut Change<'_>, drop: &DropRow) -> Result<bool, ReadFailed> {
    for variant in &drop.variants {
        if change.stock(drop.drop_id, variant.variant_id)?.reserved.0 > 0 {
            return Ok(true);
        }
    }
    Ok(false)
}
