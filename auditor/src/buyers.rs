//! The per-user limit holds, and every buyer's counters are what the buyer's orders add up to.

use std::collections::BTreeMap;

use schemas::ids::{DropId, UserId, VariantId};
use schemas::order::{OrderBody, OrderRow, OrderStatus};

use crate::{Finding, Fold};

/// Units of one buyer, counted from the orders alone.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
struct Owned {
    held: i64,
    waiting: i64,
    sold: i64,
    entries: BTreeMap<VariantId, i64>,
}

/// What every buyer of every drop owns.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Buyers(BTreeMap<(DropId, UserId), Owned>);

impl Buyers {
    fn add(&mut self, order: &OrderRow, sign: i64) {
        let units = sign * order.lines.iter().map(|line| i64::from(line.qty)).sum::<i64>();
        let owned = self.0.entry((order.drop_id, order.user_id)).or_default();
        match order.status {
            OrderStatus::Reserved | OrderStatus::Offered => owned.held += units,
            OrderStatus::Waitlisted => owned.waiting += units,
            OrderStatus::Confirmed
            | OrderStatus::Paid
            | OrderStatus::RefundPending
            | OrderStatus::RefundFailed => owned.sold += units,
            _ => {}
        }
        if matches!(order.status, OrderStatus::Waitlisted | OrderStatus::Offered)
            && let Some(line) = order.lines.first()
        {
            *owned.entries.entry(line.variant_id).or_default() += sign;
        }
    }

    /// Counts one decision and holds the buyers it touched against their rows and their limit.
    pub fn check(
        &mut self,
        fold: &Fold,
        offset: i64,
        body: &OrderBody,
        findings: &mut Vec<Finding>,
    ) {
        for order in &body.orders {
            if let Some(before) = fold.orders.get(&order.order_id) {
                self.add(before, -1);
            }
            self.add(order, 1);
        }
        let mut found = |what: String| findings.push(Finding { checker: "buyers", offset, what });
        for order in &body.orders {
            let Some(drop) = fold.drops.get(&order.drop_id) else { continue };
            let key = (order.drop_id, order.user_id);
            let owned = self.0.get(&key).cloned().unwrap_or_default();
            let limit = drop.limit_per_user.map_or(i64::MAX, i64::from);
            if owned.held + owned.waiting + owned.sold > limit {
                found(format!("the limit of {limit} is passed: {owned:?}"));
            }
            if owned.entries.values().any(|entries| *entries > 1) {
                found(format!("more than one waitlist entry for a variant: {owned:?}"));
            }
            if drop.limit_per_user.is_none() && !drop.waitlist {
                continue;
            }
            let put = body.buyers.iter().find(|row| (row.drop_id, row.user_id) == key);
            let row = put.or_else(|| fold.buyers.get(&key));
            let counters = row.map_or((0, 0, 0), |r| (r.held.0, r.waiting.0, r.sold.0));
            if counters != (owned.held, owned.waiting, owned.sold) {
                found(format!("orders add up to {owned:?}, not {row:?}"));
            }
        }
    }
}
