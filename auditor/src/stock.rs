//! I1: units are conserved after every decision and equal what the orders themselves add up to.

use std::collections::{BTreeMap, BTreeSet};

use schemas::ids::{DropId, VariantId};
use schemas::order::{OrderBody, OrderRow, OrderStatus};
use schemas::units::Units;

use crate::{Finding, Fold};

/// Checks the stock rows that one decision put, and those of the orders it put.
pub fn check(
    before: &Counts,
    fold: &Fold,
    offset: i64,
    body: &OrderBody,
    findings: &mut Vec<Finding>,
) {
    let mut found = |what: String| findings.push(Finding { checker: "stock", offset, what });
    for stock in &body.stocks {
        let counters = [stock.available, stock.reserved, stock.sold];
        let sum: i64 = counters.iter().map(|units| units.0).sum();
        let supply = stock.initial.0 + stock.restocked.0 - stock.withdrawn.0;
        if counters.iter().any(|units| units.0 < 0) || sum != supply {
            found(format!("not conserved: {stock:?}"));
        }
        let terms = fold.drops.get(&stock.drop_id).and_then(|drop| {
            drop.variants.iter().find(|variant| variant.variant_id == stock.variant_id)
        });
        let initial = terms.map(|terms| terms.initial_stock);
        if initial != Some(stock.initial) {
            found(format!("initial stock is {initial:?} by the drop's terms: {stock:?}"));
        }
    }
    let put = body.stocks.iter().map(|stock| (stock.drop_id, stock.variant_id));
    let moved = body.orders.iter().flat_map(|order| keys(order));
    for key in put.chain(moved).collect::<BTreeSet<_>>() {
        let (reserved, sold) = before.0.get(&key).copied().unwrap_or_default();
        if let Some(stock) = fold.stocks.get(&key)
            && (stock.reserved, stock.sold) != (reserved, sold)
        {
            found(format!("orders add up to {reserved} reserved and {sold} sold, not {stock:?}"));
        }
    }
}

fn keys(order: &OrderRow) -> impl Iterator<Item = (DropId, VariantId)> {
    order.lines.iter().map(|line| (order.drop_id, line.variant_id))
}

/// Units held and sold per variant, counted from the orders alone.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Counts(pub BTreeMap<(DropId, VariantId), (Units, Units)>);

impl Counts {
    /// Counts what a decision changes, over the orders as they were.
    pub fn apply(&mut self, fold: &Fold, body: &OrderBody) {
        for order in &body.orders {
            if let Some(before) = fold.orders.get(&order.order_id) {
                self.add(before, -1);
            }
            self.add(order, 1);
        }
        for id in body.archived.iter().flat_map(|archived| &archived.orders) {
            if let Some(before) = fold.orders.get(id) {
                self.add(before, -1);
            }
        }
    }

    fn add(&mut self, order: &OrderRow, sign: i64) {
        let (reserved, sold) = match order.status {
            OrderStatus::Reserved | OrderStatus::Offered => (1, 0),
            OrderStatus::Confirmed
            | OrderStatus::Paid
            | OrderStatus::RefundPending
            | OrderStatus::RefundFailed => (0, 1),
            // Money back, goods kept: still gone from the stock.
            OrderStatus::Refunded => (0, i64::from(!order.refund.is_some_and(|plan| plan.restock))),
            _ => (0, 0),
        };
        for line in &order.lines {
            let counted = self.0.entry((order.drop_id, line.variant_id)).or_default();
            counted.0.0 += sign * reserved * i64::from(line.qty);
            counted.1.0 += sign * sold * i64::from(line.qty);
        }
    }
}

/// Units sold or held beyond the supply, all drops together, counted from the orders alone.
#[must_use]
pub fn oversold(fold: &Fold) -> i64 {
    let mut counts = Counts::default();
    fold.orders.values().for_each(|order| counts.add(order, 1));
    let over = counts.0.iter().map(|(key, (reserved, sold))| {
        let supply = fold
            .stocks
            .get(key)
            .map_or(0, |stock| stock.initial.0 + stock.restocked.0 - stock.withdrawn.0);
        (reserved.0 + sold.0 - supply).max(0)
    });
    over.sum()
}

/// At the end, the counters of every variant against its orders.
pub fn check_totals(fold: &Fold, findings: &mut Vec<Finding>) {
    let mut counts = Counts::default();
    fold.orders.values().for_each(|order| counts.add(order, 1));
    for (key, stock) in &fold.stocks {
        let (reserved, sold) = counts.0.get(key).copied().unwrap_or_default();
        if (stock.reserved, stock.sold) != (reserved, sold) {
            let what =
                format!("orders add up to {reserved} reserved and {sold} sold, not {stock:?}");
            findings.push(Finding { checker: "stock", offset: -1, what });
        }
    }
}
