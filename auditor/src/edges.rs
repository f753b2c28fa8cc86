//! Low stock and sold out are told once per crossing, over all variants of a drop together.

use schemas::order::{DropEventKind, OrderBody};

use crate::{Finding, Fold};

/// Checks one decision's events against the stock before and after it. `before` is the fold without it.
pub fn check(before: &Fold, offset: i64, body: &OrderBody, findings: &mut Vec<Finding>) {
    let mut found = |what: String| findings.push(Finding { checker: "edges", offset, what });
    let Some(drop_id) = body.stocks.first().map(|stock| stock.drop_id) else { return };
    let Some(drop) = before.drops.get(&drop_id) else { return };
    let (mut was, mut is) = (0, 0);
    for variant in &drop.variants {
        let key = (drop_id, variant.variant_id);
        let old = before.stocks.get(&key).map_or(0, |stock| stock.available.0);
        let put = body.stocks.iter().find(|stock| stock.variant_id == variant.variant_id);
        was += old;
        is += put.map_or(old, |stock| stock.available.0);
    }
    let threshold = drop.low_stock_threshold.0;
    let expected = if was > 0 && is == 0 {
        Some(DropEventKind::SoldOut)
    } else if was > threshold && is <= threshold {
        Some(DropEventKind::StockLow)
    } else {
        None
    };
    for kind in [DropEventKind::SoldOut, DropEventKind::StockLow] {
        let told = body.events.iter().filter(|event| event.kind == kind).count();
        if told != usize::from(expected == Some(kind)) {
            found(format!("{kind:?} told {told} times as stock went from {was} to {is}"));
        }
    }
}
