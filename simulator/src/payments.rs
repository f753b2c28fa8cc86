//! The payments processor and its provider: calls that time out, webhooks that come late or twice, and a ledger of
//! the money, which the end of the run is held against.

use std::collections::BTreeMap;
use std::sync::Arc;

use auditor::Fold;
use auditor::ledger::{Charge, ChargeState};
use schemas::ids::OrderId;
use schemas::order::{
    OrderIntent, OrderIntentKind, OrderRow, PaymentOutcome, ProviderOperationKind as Kind,
    ProviderResult,
};
use schemas::units::Millis;

use crate::faults::{Fault, Faults};
use crate::workload::Workload;

type Call = (OrderId, i32, Kind);

/// Money, by order and attempt; and what every provider key was answered.
#[derive(Debug, Default)]
pub(crate) struct Payments {
    ledger: BTreeMap<(OrderId, i32), Charge>,
    answers: BTreeMap<Call, PaymentOutcome>,
    /// What the log asks for, as far as this processor has read.
    wanted: BTreeMap<OrderId, OrderRow>,
    /// Webhooks under way.
    webhooks: Vec<(Millis, PaymentOutcome)>,
    /// Next decision to read, per partition.
    pub(crate) positions: BTreeMap<usize, usize>,
}

impl Payments {
    /// Takes order rows in log order.
    pub(crate) fn read(&mut self, orders: &[Arc<OrderRow>]) {
        for order in orders {
            if order.operation.is_some() {
                self.wanted.insert(order.order_id, OrderRow::clone(order));
            } else {
                self.wanted.remove(&order.order_id);
            }
        }
    }

    /// A new process: it knows what the provider and the log know.
    pub(crate) fn restart(&mut self) {
        self.wanted.clear();
        self.webhooks.clear();
        self.positions.clear();
    }

    pub(crate) fn is_idle(&self) -> bool {
        self.wanted.is_empty() && self.webhooks.is_empty()
    }

    /// Calls the provider for what is wanted; returns the outcomes that have arrived, to be logged.
    pub(crate) fn step(
        &mut self,
        faults: &mut Faults,
        workload: &mut Workload,
        now: Millis,
    ) -> Vec<(OrderId, OrderIntent)> {
        let wanted: Vec<_> = self.wanted.values().cloned().collect();
        for order in wanted {
            let Some(operation) = order.operation else { continue };
            let call = (order.order_id, operation.attempt, operation.kind);
            let under_way = |(_, outcome): &(Millis, PaymentOutcome)| {
                (outcome.order_id, outcome.attempt, outcome.operation) == call
            };
            if self.webhooks.iter().any(under_way) || !faults.chance(0.7) {
                continue;
            }
            let before_lost = faults.strikes(Fault::ProviderTimeout);
            if before_lost && faults.chance(0.5) {
                continue; // the request was lost
            }
            let outcome = self.execute(&order, call, faults);
            if before_lost {
                continue; // the answer was lost; the key is tried again
            }
            let delay = Millis(i64::try_from(faults.below(40_000)).unwrap_or(0));
            if faults.strikes(Fault::WebhookTwice) {
                let again = Millis(i64::try_from(faults.below(60_000)).unwrap_or(0));
                self.webhooks.push((now.after(again), outcome.clone()));
            }
            self.webhooks.push((now.after(delay), outcome));
        }
        let (due, later) =
            std::mem::take(&mut self.webhooks).into_iter().partition(|(at, _)| *at <= now);
        self.webhooks = later;
        let due: Vec<(Millis, PaymentOutcome)> = due;
        let intents = due.into_iter().map(|(_, outcome)| {
            let kind = OrderIntentKind::PaymentOutcome;
            let intent = OrderIntent::bare(workload.fresh_id(), kind, now);
            let order = outcome.order_id;
            (order, OrderIntent { payment_outcome: Some(Box::new(outcome)), ..intent })
        });
        intents.collect()
    }

    /// The provider does what it is asked, once per key.
    fn execute(&mut self, order: &OrderRow, call: Call, faults: &mut Faults) -> PaymentOutcome {
        if let Some(answer) = self.answers.get(&call) {
            return answer.clone();
        }
        let (order_id, attempt, kind) = call;
        let charge = self.ledger.entry((order_id, attempt)).or_insert_with(|| Charge {
            order_id,
            attempt,
            amount: order.total,
            state: ChargeState::default(),
        });
        let succeeded = charge.state.carry_out(kind, || !faults.strikes(Fault::Declined));
        let outcome = PaymentOutcome {
            order_id,
            attempt,
            operation: kind,
            result: if succeeded { ProviderResult::Succeeded } else { ProviderResult::Failed },
            captured: false,
            amount: order.total,
            currency: order.currency.clone(),
            detail: None,
            reference: None,
        };
        self.answers.insert(call, outcome.clone());
        outcome
    }

    /// The ledger against the log, at the end.
    pub(crate) fn compare(&self, fold: &Fold, findings: &mut Vec<String>) {
        let charges: Vec<_> = self.ledger.values().cloned().collect();
        findings.extend(auditor::ledger::compare(&std::iter::once(fold), &charges).0);
    }
}
