//! I8: every opening, closing and expiry happens at its instant in log time, neither early nor late.

use std::collections::BTreeSet;

use schemas::decision::Outcome;
use schemas::ids::{DropId, OrderId};
use schemas::order::{DropRow, DropStatus, OrderRow, OrderStatus};
use schemas::units::Millis;

use crate::{Finding, Fold, LoggedDecision, LoggedIntent};

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Subject {
    Opening(DropId),
    Drop(DropId),
    Order(OrderId),
}

/// The deadlines that are open after the decisions seen so far.
#[derive(Default, Debug)]
pub struct Deadlines {
    open: BTreeSet<(Millis, Subject)>,
    log_time: Millis,
}

fn of_drop(drop: &DropRow) -> Option<(Millis, Subject)> {
    match drop.status {
        DropStatus::Upcoming => Some((drop.starts_at, Subject::Opening(drop.drop_id))),
        DropStatus::Live | DropStatus::Paused => Some((drop.ends_at, Subject::Drop(drop.drop_id))),
        DropStatus::Ended | DropStatus::Cancelled => {
            drop.archive_at.map(|instant| (instant, Subject::Drop(drop.drop_id)))
        }
        DropStatus::Archived => None,
    }
}

fn of_order(order: &OrderRow) -> Option<(Millis, Subject)> {
    let deadline = match order.status {
        OrderStatus::Reserved => order.hold_expires_at?,
        OrderStatus::Offered => order.offer_expires_at?,
        _ => return None,
    };
    Some((deadline, Subject::Order(order.order_id)))
}

fn is_due((deadline, subject): &(Millis, Subject), log_time: Millis) -> bool {
    *deadline < log_time || (*deadline == log_time && matches!(subject, Subject::Opening(_)))
}

impl Deadlines {
    /// Checks one decision against the deadlines open before it, then notes the ones it opens.
    pub fn check(
        &mut self,
        fold: &Fold,
        logged: &LoggedDecision,
        intent: Option<&LoggedIntent>,
        findings: &mut Vec<Finding>,
    ) {
        let header = &logged.decision.header;
        let mut found = |what: String| {
            findings.push(Finding { checker: "deadlines", offset: logged.offset, what });
        };
        if let Some(intent) = intent {
            let expected = self.log_time.max(intent.append_time);
            if header.log_time != expected {
                found(format!("log time {:?}, the intents give {expected:?}", header.log_time));
            }
        }
        self.log_time = self.log_time.max(header.log_time);
        let fired = header.intent_offset.is_none()
            && logged.decision.outcome == Outcome::Changed
            && fold.continuations.is_empty();
        let overdue =
            self.open.first().filter(|deadline| is_due(deadline, header.log_time)).copied();
        if header.intent_offset.is_some()
            && let Some(overdue) = overdue
        {
            found(format!("decided at {:?} before {overdue:?} had fired", header.log_time));
        }
        let body = logged.decision.body.as_ref();
        if fired
            && body
                .into_iter()
                .flat_map(|body| changes(fold, body))
                .all(|(closed, _)| closed != overdue)
        {
            found(format!("a timer fired, but {overdue:?} was due first"));
        }
        for (closed, opened) in body.into_iter().flat_map(|body| changes(fold, body)) {
            if fired && closed.is_none_or(|deadline| !is_due(&deadline, header.log_time)) {
                found(format!(
                    "a timer fired early or for nothing at {:?}: {closed:?}",
                    header.log_time
                ));
            }
            if let Some(closed) = closed {
                self.open.remove(&closed);
            }
            self.open.extend(opened);
        }
        for order in body.into_iter().flat_map(|body| &body.orders) {
            if let Some(length) = missing_time(fold, order, header.decided_at) {
                found(format!("{} was given {length} ms too little", order.order_id));
            }
        }
    }
}

/// I8: a hold or an offer that begins lasts its whole length from the decision on.
fn missing_time(fold: &Fold, order: &OrderRow, decided_at: Millis) -> Option<i64> {
    let drop = fold.drops.get(&order.drop_id)?;
    let before = fold.orders.get(&order.order_id).map(|before| before.status);
    let (seconds, deadline) = match (before, order.status) {
        (None, OrderStatus::Reserved) => (drop.hold_seconds, order.hold_expires_at),
        (Some(OrderStatus::Waitlisted), OrderStatus::Offered) => {
            (drop.offer_seconds, order.offer_expires_at)
        }
        _ => return None,
    };
    let due = decided_at.after(Millis::from_seconds(i64::from(seconds)));
    let missing = due.since(deadline.unwrap_or(Millis(0))).0;
    (missing != 0).then_some(missing)
}

type Deadline = Option<(Millis, Subject)>;

/// The deadline each changed row had, and the one it has now.
fn changes(fold: &Fold, body: &schemas::order::OrderBody) -> Vec<(Deadline, Deadline)> {
    let drops =
        body.drops.iter().map(|row| (fold.drops.get(&row.drop_id).and_then(of_drop), of_drop(row)));
    let orders = body
        .orders
        .iter()
        .map(|row| (fold.orders.get(&row.order_id).and_then(of_order), of_order(row)));
    drops.chain(orders).collect()
}
