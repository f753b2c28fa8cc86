//! Money moves only for units that are the buyer's, and every reserved or taken amount has an end.

use schemas::order::{
    OrderBody, OrderRow, OrderStatus, PaymentState, ProviderOperationKind as Kind,
};

use crate::{Finding, Fold};

/// Checks the order rows that one decision puts.
pub fn check(fold: &Fold, offset: i64, body: &OrderBody, findings: &mut Vec<Finding>) {
    let mut found = |what: String| findings.push(Finding { checker: "money", offset, what });
    for order in &body.orders {
        let Some(drop) = fold.drops.get(&order.drop_id) else { continue };
        let states: Vec<_> = order.payments.iter().map(|payment| payment.state).collect();
        let last = states.last().copied();
        let expected = match order.status {
            OrderStatus::Confirmed if drop.payment_required => Some(PaymentState::Authorised),
            OrderStatus::Paid | OrderStatus::RefundPending => Some(PaymentState::Captured),
            OrderStatus::Refunded => Some(PaymentState::Refunded),
            OrderStatus::RefundFailed => Some(PaymentState::RefundFailed),
            _ => last,
        };
        if last != expected {
            found(format!("{:?} with its last payment {last:?}", order.status));
        }
        let numbered = order.payments.iter().zip(1..).all(|(payment, n)| payment.attempt == n);
        let open = states.iter().filter(|state| state.is_open()).count();
        if !numbered || open > 1 || (open == 1 && last.is_some_and(|last| !last.is_open())) {
            found(format!("attempts are not one after the other: {:?}", order.payments));
        }
        if i64::try_from(states.len()).unwrap_or(i64::MAX) > i64::from(drop.payment_attempts.max(1))
        {
            found(format!("{} attempts of {}", states.len(), drop.payment_attempts));
        }
        if !operation_is_right(order) {
            let (operation, payments) = (order.operation, &order.payments);
            found(format!("{operation:?} is asked of {:?} {payments:?}", order.status));
        }
        if !drop.payment_required && !states.is_empty() {
            found("a free order with a payment".into());
        }
    }
}

/// Whether what is asked of the provider is allowed, and nothing that must be asked is missing.
fn operation_is_right(order: &OrderRow) -> bool {
    let state_of = |attempt| {
        order
            .payments
            .iter()
            .find(|payment| payment.attempt == attempt)
            .map(|payment| payment.state)
    };
    let is_last = |attempt| order.payments.last().is_some_and(|last| last.attempt == attempt);
    match order.operation {
        None => order.payments.iter().all(|payment| match payment.state {
            PaymentState::Pending | PaymentState::NeedsAction | PaymentState::Authorised => false,
            PaymentState::Captured => order.status == OrderStatus::Paid && is_last(payment.attempt),
            _ => true,
        }),
        Some(operation) => {
            let keeps = is_last(operation.attempt) && order.status == OrderStatus::Confirmed;
            let paid = is_last(operation.attempt) && order.status == OrderStatus::Paid;
            match (operation.kind, state_of(operation.attempt)) {
                (Kind::Authorise, Some(state)) => state.is_open(),
                (Kind::Capture, Some(PaymentState::Authorised)) => keeps,
                (Kind::Void, Some(PaymentState::Authorised)) => !keeps,
                (Kind::Refund, Some(PaymentState::Captured)) => !paid,
                _ => false,
            }
        }
    }
}
