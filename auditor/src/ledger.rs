//! The provider's ledger of money against the log: no charge without units, no units without a charge.

use std::collections::BTreeMap;

use schemas::ids::OrderId;
use schemas::order::{OrderRow, OrderStatus, PaymentState, ProviderOperationKind as Kind};
use schemas::units::MinorUnits;
use serde::{Deserialize, Serialize};

use crate::Fold;

/// What has happened to the money of one attempt, at a provider that does as it is asked.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[allow(
    clippy::struct_excessive_bools,
    reason = "four facts about money, none of which implies another"
)]
pub struct ChargeState {
    /// The money was reserved.
    pub authorised: bool,
    /// The money was taken.
    pub captured: bool,
    /// The reservation was let go.
    pub voided: bool,
    /// The taken money went back.
    pub refunded: bool,
}

impl ChargeState {
    /// Does what is asked, where it can be done; whether it was. `accepts` is the bank's word, asked for only where there
    /// is something to reserve or to take.
    pub fn carry_out(&mut self, kind: Kind, accepts: impl FnOnce() -> bool) -> bool {
        let holds = self.authorised && !self.voided;
        let (fact, is_done) = match kind {
            Kind::Authorise => (&mut self.authorised, accepts()),
            Kind::Capture => (&mut self.captured, holds && accepts()),
            Kind::Void => (&mut self.voided, holds && !self.captured),
            Kind::Refund => (&mut self.refunded, self.captured),
        };
        *fact = is_done;
        is_done
    }
}

/// One attempt as the provider has it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Charge {
    /// The order.
    pub order_id: OrderId,
    /// The attempt.
    pub attempt: i32,
    /// Amount reserved or taken.
    pub amount: MinorUnits,
    /// What has happened to it.
    pub state: ChargeState,
}

impl Charge {
    /// Money that the creator has.
    #[must_use]
    pub fn is_kept(&self) -> bool {
        self.state.captured && !self.state.refunded
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
    let by_attempt: BTreeMap<_, _> =
        charges.iter().map(|charge| ((charge.order_id, charge.attempt), charge)).collect();
    for fold in folds.clone() {
        for order in fold.orders.values().chain(fold.archived_orders.values()) {
            let Some(last) = order.payments.last() else { continue };
            let charge = by_attempt.get(&(order.order_id, last.attempt)).copied();
            if order.status == OrderStatus::Paid && !charge.is_some_and(Charge::is_kept) {
                findings.push(format!("{} is PAID without a charge: {charge:?}", order.order_id));
            }
            if order.status == OrderStatus::Confirmed {
                findings.push(format!("{} stays CONFIRMED: {charge:?}", order.order_id));
            }
            if order.status == OrderStatus::Refunded && !charge.is_some_and(|c| c.state.refunded) {
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
    let ChargeState { authorised, captured, voided, .. } = charge.state;
    if authorised && !captured && !voided && !lapses {
        findings.push(format!("{charge:?} is reserved for ever: {:?} {state:?}", order.status));
    }
}
