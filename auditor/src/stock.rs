//! I1: units are conserved after every decision and equal what the orders themselves add up to.

use std::collections::BTreeMap;

use schemas::ids::{DropId, VariantId};
use schemas::order::{OrderBody, OrderStatus};
use schemas::units::Units;

use crate::{Finding, Fold};

/// Checks the stock rows that one decision put.
pub fn check(fold: &Fold, offset: i64, body: &OrderBody, findings: &mut Vec<Finding>) {
    for stock in &body.stocks {
        let counters = [stock.available, stock.reserved, stock.sold];
        let sum: i64 = counters.iter().map(|units| units.0).sum();
        let terms = fold.drops.get(&stock.drop_id).and_then(|drop| {
            drop.variants.iter().find(|variant| variant.variant_id == stock.variant_id)
        });
        let initial = terms.map(|terms| terms.initial_stock);
        if counters.iter().any(|units| units.0 < 0) || sum != stock.initial.0 {
            findings.push(Finding {
                checker: "stock",
                offset,
                what: format!("not conserved: {stock:?}"),
            });
        }
        if initial != Some(stock.initial) {
            let what = format!("initial stock is {initial:?} by the drop's terms: {stock:?}");
            findings.push(Finding { checker: "stock", offset, what });
        }
    }
}

/// Units held and sold per variant, counted from the orders alone.
#[must_use]
pub fn counted_from_orders(fold: &Fold) -> BTreeMap<(DropId, VariantId), (Units, Units)> {
    let mut counted: BTreeMap<_, (Units, Units)> = BTreeMap::new();
    for order in fold.orders.values() {
        for line in &order.lines {
            let (reserved, sold) = counted.entry((order.drop_id, line.variant_id)).or_default();
            match order.status {
                OrderStatus::Reserved => reserved.0 += i64::from(line.qty),
                OrderStatus::Confirmed => sold.0 += i64::from(line.qty),
                OrderStatus::Rejected | OrderStatus::Expired | OrderStatus::Cancelled => {}
            }
        }
    }
    counted
}

/// Units sold beyond the stock, all drops together, counted from the orders alone.
#[must_use]
pub fn oversold(fold: &Fold) -> i64 {
    let counted = counted_from_orders(fold);
    counted
        .iter()
        .map(|(key, (reserved, sold))| {
            let initial = fold.stocks.get(key).map_or(0, |stock| stock.initial.0);
            (reserved.0 + sold.0 - initial).max(0)
        })
        .sum()
}

/// At the end, the counters of every variant against its orders.
pub fn check_totals(fold: &Fold, findings: &mut Vec<Finding>) {
    let counted = counted_from_orders(fold);
    for (key, stock) in &fold.stocks {
        let (reserved, sold) = counted.get(key).copied().unwrap_or_default();
        if (stock.reserved, stock.sold) != (reserved, sold) {
            let what =
                format!("orders add up to {reserved} reserved and {sold} sold, not {stock:?}");
            findings.push(Finding { checker: "stock", offset: -1, what });
        }
    }
}
