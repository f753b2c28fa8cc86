//! Released units go to waiting buyers, first come first among the quantities that fit, and before anybody new.

use schemas::order::{DropRow, DropStatus, OrderBody, OrderStatus};

use crate::{Finding, Fold};

/// Checks the offers that one decision makes, over the rows as they were.
pub fn check_offers(fold: &Fold, offset: i64, body: &OrderBody, findings: &mut Vec<Finding>) {
    let mut found = |what: String| findings.push(Finding { checker: "waitlist", offset, what });
    let mut left = fold
        .stocks
        .iter()
        .map(|(key, stock)| (*key, stock.available.0))
        .filter(|(key, _)| {
            body.orders.iter().any(|o| o.status == OrderStatus::Offered && o.drop_id == key.0)
        })
        .collect::<std::collections::BTreeMap<_, _>>();
    let mut offered = Vec::new();
    for order in body.orders.iter().filter(|order| order.status == OrderStatus::Offered) {
        let before = fold.orders.get(&order.order_id).map(|before| before.status);
        if before == Some(OrderStatus::Offered) {
            continue; // its clock was parked or armed again
        }
        let drop = fold.drops.get(&order.drop_id);
        if !drop
            .is_some_and(|d| d.waitlist && matches!(d.status, DropStatus::Live | DropStatus::Ended))
        {
            found(format!("an offer of a drop that is {:?}", drop.map(|drop| drop.status)));
        }
        let Some(line) = order.lines.first() else { continue };
        let available = left.entry((order.drop_id, line.variant_id)).or_default();
        let first = fold
            .waiting_for(order.drop_id, line.variant_id)
            .filter(|waiting| !offered.contains(&waiting.order_id))
            .find(|waiting| i64::from(waiting.lines[0].qty) <= *available);
        if first.map(|first| first.order_id) != Some(order.order_id) {
            found(format!("{} was offered out of turn", order.order_id));
        }
        *available -= i64::from(line.qty);
        offered.push(order.order_id);
    }
}

/// Checks, before an intent is decided, that nothing was left to offer or to end in its drop.
pub fn check_drained(fold: &Fold, offset: i64, drop: &DropRow, findings: &mut Vec<Finding>) {
    let mut found = |what: String| findings.push(Finding { checker: "waitlist", offset, what });
    if !drop.waitlist || !matches!(drop.status, DropStatus::Live | DropStatus::Ended) {
        return;
    }
    let mut reserved = 0;
    let mut waits = false;
    for variant in &drop.variants {
        let key = (drop.drop_id, variant.variant_id);
        let Some(stock) = fold.stocks.get(&key) else { continue };
        reserved += stock.reserved.0;
        for waiting in fold.waiting_for(key.0, key.1) {
            waits = true;
            if i64::from(waiting.lines[0].qty) <= stock.available.0 {
                found(format!(
                    "{} fits what is available and was not offered it",
                    waiting.order_id
                ));
            }
        }
    }
    if drop.status == DropStatus::Ended && waits && reserved == 0 {
        found("somebody still waits although the drop is over and nothing is held".into());
    }
}
