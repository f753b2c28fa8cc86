//! The provider's ledger of money against the log: no charge without units, no units without a charge.

use schemas::ids::OrderId;
use schemas::order::{OrderRow, OrderStatus, PaymentState};
use schemas::units::MinorUnits;

use crate::Fold;

/// One attempt as the provider has it.
#[derive(Clone, PartialEq, Eq, Debug)]
#[allow(
    clippy::struct_excessive_bools,
    reason = "four facts about money, none of which implies another"
)]
pub struct Charge {
    /// The order.
    pub order_id: OrderId,
    /// The attempt.
    pub attempt: i32,
    /// Amount reserved or taken.
    pub amount: MinorUnits,
    /// The money was reserved.
    pub authorised: bool,
    /// The money was taken.
    pub captured: bool,
    /// The reservation was let go.
    pub voided: bool,
    /// The taken money went back.
    pub refunded: bool,
}

impl Charge {
    /// Money that the creator has.
    #[must_use]
    pub fn is_kept(&self) -> bool {
        self.captured && !self.refunded
    }
}

/// What differs, once nothing is under way any more; and the amount both agree is kept.
#[must_use]
pub fn compare<'a>(
    folds: &(impl Iterator<Item = &'a Fold> + Clone),
    charges: &[Charge],
) -> (Vec<String>, MinorUnits) {
    let mut findings = Vec::new();
    let order_of = |id: &OrderId| {
        folds.clone().find_map(|fold| fold.orders.get(id).or_else(|| fold.archived_orders.get(id)))
    };
    let mut kept = MinorUnits(0);
    for charge in charges {
        let Some(order) = order_of(&charge.order_id) else {
            findings.push(format!("the provider has a charge of unknown order {charge:?}"));
            continue;
        };
        if charge.is_kept() {
            kept.0 += charge.amount.0;
        }
        check_charge(charge, order, &mut findings);
    }
    let charge_of = |order: &OrderRow| {
        let attempt = order.payments.last().map_or(0, |last| last.attempt);
        charges.iter().find(|c| c.order_id == order.order_id && c.attempt == attempt)
    };
    for fold in folds.clone() {
        for order in fold.orders.values().chain(fold.archived_orders.values()) {
            if order.payments.is_empty() {
                continue;
            }
            let charge = charge_of(order);
            if order.status == OrderStatus::Paid && !charge.is_some_and(Charge::is_kept) {
                findings.push(format!("{} is PAID without a charge: {charge:?}", order.order_id));
            }
            if order.status == OrderStatus::Confirmed {
                findings.push(format!("{} stays CONFIRMED: {charge:?}", order.order_id));
            }
            if order.status == OrderStatus::Refunded && !charge.is_some_and(|c| c.refunded) {
                findings.push(format!("{} is REFUNDED without its money", order.order_id));
            }
        }
    }
    (findings, kept)
}

fn check_charge(charge: &Charge, order: &OrderRow, findings: &mut Vec<String>) {
    let payment = order.payments.iter().find(|payment| payment.attempt == charge.attempt);
    let state = payment.map(|payment| payment.state);
    let is_last = order.payments.last().is_some_and(|last| last.attempt == charge.attempt);
    let is_paid = order.status == OrderStatus::Paid && is_last && charge.amount == order.total;
    if charge.is_kept() && !is_paid {
        findings.push(format!("{charge:?} is kept for {:?} {state:?}", order.status));
    }
    let lapses = state == Some(PaymentState::CaptureFailed);
    if charge.authorised && !charge.captured && !charge.voided && !lapses {
        findings.push(format!("{charge:?} is reserved for ever: {:?} {state:?}", order.status));
    }
}
