//! A creator adds units, or takes available ones off sale.

use model::{Decided, ReadFailed, Rows, Stamp};
use schemas::ids::VariantId;
use schemas::limits::STOCK_MAX;
use schemas::order::{CommandRow, DropEventKind, DropRow, OrderBody, Reason, StockChange};
use schemas::units::Units;

use super::change::Change;
use super::{changed, key_reused, refusal, refused, replayed, stock};
use crate::rows::{self, StateRow};

/// The answer to a key that was seen before.
pub(super) fn repeated(
    rows: &dyn Rows<StateRow>,
    drop: &DropRow,
    wanted: &StockChange,
) -> Result<Option<Decided<OrderBody>>, ReadFailed> {
    let first = rows::read_command(rows, drop.drop_id, wanted.key)?;
    Ok(first.map(|first| {
        let same = first.request_hash == wanted.request_hash;
        if same { replayed(None) } else { key_reused(None) }
    }))
}

/// Refusals in order: `unknown_variant`, `bad_quantity`.
pub(super) fn restock(
    rows: &dyn Rows<StateRow>,
    drop: &DropRow,
    wanted: &StockChange,
    stamp: Stamp,
) -> Result<Decided<OrderBody>, ReadFailed> {
    let Some(variant) = named_variant(drop, wanted) else {
        return Ok(refused(refusal(Reason::UnknownVariant)));
    };
    let mut total = 0;
    for variant in &drop.variants {
        let stock = stock::read(rows, drop.drop_id, variant.variant_id)?;
        total += stock.initial.0 + stock.restocked.0;
    }
    if wanted.qty < Units(1) || total.saturating_add(wanted.qty.0) > STOCK_MAX.0 {
        return Ok(refused(refusal(Reason::BadQuantity)));
    }
    let mut change = Change::new(rows, stamp);
    let stock = change.stock(drop.drop_id, variant)?;
    stock.restocked.0 += wanted.qty.0;
    stock.available.0 += wanted.qty.0;
    stock::assert_conserved(stock);
    change.event(drop.drop_id, DropEventKind::Restocked);
    carried_out(change, drop, wanted)
}

/// Refusals in order: `unknown_variant`, `bad_quantity`, `insufficient_stock`.
pub(super) fn withdraw(
    rows: &dyn Rows<StateRow>,
    drop: &DropRow,
    wanted: &StockChange,
    stamp: Stamp,
) -> Result<Decided<OrderBody>, ReadFailed> {
    let Some(variant) = named_variant(drop, wanted) else {
        return Ok(refused(refusal(Reason::UnknownVariant)));
    };
    if wanted.qty < Units(1) {
        return Ok(refused(refusal(Reason::BadQuantity)));
    }
    let mut change = Change::new(rows, stamp);
    let stock = change.stock(drop.drop_id, variant)?;
    let Some(left) = stock.available.checked_sub(wanted.qty) else {
        return Ok(refused(refusal(Reason::InsufficientStock)));
    };
    stock.available = left;
    stock.withdrawn.0 += wanted.qty.0;
    stock::assert_conserved(stock);
    carried_out(change, drop, wanted)
}

/// The variant meant; a drop with one need not be asked which.
fn named_variant(drop: &DropRow, wanted: &StockChange) -> Option<VariantId> {
    match (wanted.variant_id, drop.variants.as_slice()) {
        (None, [only]) => Some(only.variant_id),
        (Some(id), variants) => variants.iter().map(|v| v.variant_id).find(|found| *found == id),
        (None, _) => None,
    }
}

fn carried_out(
    mut change: Change<'_>,
    drop: &DropRow,
    wanted: &StockChange,
) -> Result<Decided<OrderBody>, ReadFailed> {
    let (key, request_hash) = (wanted.key, wanted.request_hash);
    change.body.commands.push(CommandRow { key, drop_id: drop.drop_id, request_hash });
    change.finish(drop).map(changed)
}
