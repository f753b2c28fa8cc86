//! Which status may follow which, for orders and drops; versions rise by one; a key keeps its request.

use schemas::order::{DropRow, DropStatus, OrderBody, OrderRow, OrderStatus};

use crate::{Finding, Fold};

/// Checks the order and drop rows that one decision puts, over the rows as they were.
pub fn check(fold: &Fold, offset: i64, body: &OrderBody, findings: &mut Vec<Finding>) {
    let mut found = |what: String| findings.push(Finding { checker: "transitions", offset, what });
    for order in &body.orders {
        match fold.orders.get(&order.order_id) {
            None if order.version != 1 || !is_first(order.status) => {
                found(format!("an order begins as {:?} version {}", order.status, order.version));
            }
            None => {}
            Some(before) => {
                if !order_may_go(before, order) {
                    found(format!("{:?} after {:?}", order.status, before.status));
                }
                if order.version != before.version + 1 {
                    found(format!("version {} after {}", order.version, before.version));
                }
                if identity(order) != identity(before) {
                    found(format!("an order changed what it is: {before:?} to {order:?}"));
                }
            }
        }
    }
    for drop in &body.drops {
        let before = fold.drops.get(&drop.drop_id);
        if !drop_may_go(before.map(|drop| drop.status), drop.status) {
            found(format!("drop {:?} after {:?}", drop.status, before.map(|drop| drop.status)));
        }
        let version = before.map_or(0, |drop| drop.version);
        if drop.version != version + 1 {
            found(format!("drop version {} after {version}", drop.version));
        }
        if let Some(before) = before
            && before.status != DropStatus::Upcoming
            && prices(drop) != prices(before)
        {
            found("a price changed after the opening".into());
        }
    }
}

fn prices(drop: &DropRow) -> Vec<i64> {
    drop.variants.iter().map(|variant| variant.price.0).collect()
}

#[allow(clippy::type_complexity, reason = "a tuple to compare, used twice")]
fn identity(
    order: &OrderRow,
) -> (
    schemas::ids::DropId,
    schemas::ids::UserId,
    schemas::ids::Hash,
    &[schemas::order::OrderRowLine],
    schemas::units::MinorUnits,
    i64,
) {
    (
        order.drop_id,
        order.user_id,
        order.request_hash,
        &order.lines,
        order.total,
        order.intent_offset,
    )
}

fn is_first(status: OrderStatus) -> bool {
    use OrderStatus::{Confirmed, Rejected, Reserved, Waitlisted};
    matches!(status, Reserved | Confirmed | Rejected | Waitlisted)
}

fn order_may_go(before: &OrderRow, after: &OrderRow) -> bool {
    use OrderStatus as S;
    if before.status == after.status {
        return true; // its payment, its hold or its mark changed
    }
    let next: &[S] = match before.status {
        S::Reserved => &[S::Confirmed, S::Paid, S::Expired, S::Cancelled, S::PaymentFailed],
        S::Confirmed => &[S::Paid, S::Cancelled, S::PaymentFailed, S::RefundPending],
        S::Waitlisted => &[S::Offered, S::Cancelled, S::Rejected],
        S::Offered => &[S::Reserved, S::Confirmed, S::Expired, S::Cancelled],
        S::Expired => &[S::Confirmed, S::Paid],
        S::Paid => &[S::RefundPending, S::Refunded], // refunded at the provider, unasked
        S::RefundPending => &[S::Refunded, S::RefundFailed],
        S::Rejected | S::Cancelled | S::PaymentFailed | S::Refunded | S::RefundFailed => &[],
    };
    next.contains(&after.status)
}

fn drop_may_go(before: Option<DropStatus>, after: DropStatus) -> bool {
    use DropStatus as S;
    let next: &[S] = match before {
        None => &[S::Upcoming, S::Live],
        Some(S::Upcoming) => &[S::Upcoming, S::Live, S::Cancelled],
        Some(S::Live) => &[S::Paused, S::Ended, S::Cancelled],
        Some(S::Paused) => &[S::Live, S::Ended, S::Cancelled],
        Some(S::Ended) => &[S::Ended, S::Archived],
        Some(S::Cancelled) => &[S::Cancelled, S::Archived],
        Some(S::Archived) => &[],
    };
    next.contains(&after)
}
