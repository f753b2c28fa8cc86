//! Money. It moves only after the units are the buyer's: authorise, confirm in the log, capture.
//!
//! One attempt and one provider operation are outstanding per order. Which operation is due follows from the
//! rows alone ([`due_operation`]), so no rule can forget to void or charge twice. Outcomes dedupe by (order,
//! attempt, operation): the first terminal one wins, but for a success after a decline, whose money must go back.

use model::{Decided, ReadFailed, Rows, Stamp};
use schemas::order::{
    DropRow, DropStatus, OrderBody, OrderRow, OrderStatus, PaymentOutcome, PaymentRow,
    PaymentState, ProviderOperation, ProviderOperationKind as Kind, ProviderResult, Reason,
    Refusal,
};
use schemas::units::Units;

use super::change::{Change, drop_of};
use super::{changed, refusal, refused, replayed, waitlist};
use crate::rows::{self, StateRow};

/// The order with one more attempt, to be authorised.
pub(super) fn with_attempt(mut order: OrderRow, method: Option<String>) -> OrderRow {
    let attempt = order.payments.last().map_or(1, |last| last.attempt.saturating_add(1));
    order.payments.push(PaymentRow {
        attempt,
        method,
        state: PaymentState::Pending,
        detail: None,
        reference: None,
    });
    order
}

/// What the provider is asked for next, oldest attempt first.
pub(super) fn due_operation(order: &OrderRow) -> Option<ProviderOperation> {
    let last = order.payments.last()?.attempt;
    order.payments.iter().find_map(|payment| {
        let wanted = payment.attempt == last;
        let kind = match payment.state {
            PaymentState::Pending | PaymentState::NeedsAction => Kind::Authorise,
            PaymentState::Authorised if wanted && order.status == OrderStatus::Confirmed => {
                Kind::Capture
            }
            PaymentState::Authorised => Kind::Void,
            PaymentState::Captured if wanted && order.status == OrderStatus::Paid => return None,
            PaymentState::Captured => Kind::Refund,
            _ => return None,
        };
        Some(ProviderOperation { attempt: payment.attempt, kind })
    })
}

/// Takes what the provider did into the log. Refusals in order: `unknown_order`, `unknown_payment`.
pub(super) fn outcome(
    rows: &dyn Rows<StateRow>,
    outcome: &PaymentOutcome,
    stamp: Stamp,
) -> Result<Decided<OrderBody>, ReadFailed> {
    let named = |reason| Refusal { order_id: Some(outcome.order_id), ..refusal(reason) };
    let Some(order) = rows::read_order(rows, outcome.order_id)? else {
        return Ok(refused(named(Reason::UnknownOrder)));
    };
    let Some(at) = order.payments.iter().position(|payment| payment.attempt == outcome.attempt)
    else {
        return Ok(refused(named(Reason::UnknownPayment)));
    };
    let asked = order.operation
        == Some(ProviderOperation { attempt: outcome.attempt, kind: outcome.operation });
    let Some(state) = next_state(order.payments[at].state, outcome, asked) else {
        return Ok(replayed(Some(order)));
    };
    let drop = drop_of(rows, &order)?;
    let was_open = order.payments[at].state.is_open();
    let mut after = order.clone();
    after.payments[at].state = state;
    after.payments[at].detail.clone_from(&outcome.detail);
    if outcome.reference.is_some() {
        after.payments[at].reference.clone_from(&outcome.reference);
    }
    let is_current = was_open && at + 1 == order.payments.len();
    match (outcome.operation, state) {
        (Kind::Authorise, PaymentState::Authorised | PaymentState::Captured) if is_current => {
            if (outcome.amount, &outcome.currency) == (order.total, &order.currency) {
                authorised(rows, &drop, &order, &mut after, stamp)?;
            } else {
                after.payments[at].detail = Some("amount_mismatch".into());
                attempt_failed(&drop, &mut after);
            }
        }
        (Kind::Authorise, PaymentState::Declined) if is_current => {
            attempt_failed(&drop, &mut after);
        }
        (Kind::Capture, PaymentState::Captured) if at + 1 == order.payments.len() => {
            captured(&mut after);
        }
        // A void that nobody asked for: the authorisation lapsed at the provider before it was captured.
        (Kind::Capture, PaymentState::CaptureFailed) | (Kind::Void, PaymentState::Voided)
            if at + 1 == order.payments.len() =>
        {
            capture_failed(&mut after);
        }
        (Kind::Refund, _) if at + 1 == order.payments.len() => refund_ended(&mut after, state),
        _ => {}
    }
    let mut change = Change::new(rows, stamp);
    change.put_order(&drop, Some(&order), after)?;
    change.finish(&drop).map(changed)
}

/// What an attempt becomes; `None` where the outcome tells nothing new. What the provider did counts even where
/// nobody asked for it; what it failed to do counts only where somebody did.
fn next_state(state: PaymentState, outcome: &PaymentOutcome, asked: bool) -> Option<PaymentState> {
    use PaymentState as S;
    use ProviderResult::{Failed, NeedsAction, Succeeded};
    match (outcome.operation, outcome.result, state) {
        // A success after a decline: the provider changed its mind, and has the money.
        (Kind::Authorise, Succeeded, S::Pending | S::NeedsAction | S::Declined) => {
            Some(if outcome.captured { S::Captured } else { S::Authorised })
        }
        (Kind::Authorise, Failed, S::Pending | S::NeedsAction) => Some(S::Declined),
        (Kind::Authorise, NeedsAction, S::Pending) => Some(S::NeedsAction),
        // After a failure too: the money is there, and has to go back.
        (
            Kind::Capture,
            Succeeded,
            S::Authorised | S::CaptureFailed | S::Voided | S::VoidFailed,
        ) => Some(S::Captured),
        (Kind::Capture, Failed, S::Authorised) if asked => Some(S::CaptureFailed),
        (Kind::Void, Succeeded, S::Authorised) => Some(S::Voided),
        (Kind::Void, Failed, S::Authorised) if asked => Some(S::VoidFailed),
        (Kind::Refund, Succeeded, S::Captured) => Some(S::Refunded),
        (Kind::Refund, Failed, S::Captured) if asked => Some(S::RefundFailed),
        _ => None,
    }
}

/// The money of the current attempt is reserved or taken: the units become the buyer's, if they still can.
/// Where they cannot, the order stays as it is, and the money is due to go back.
fn authorised(
    rows: &dyn Rows<StateRow>,
    drop: &DropRow,
    order: &OrderRow,
    after: &mut OrderRow,
    stamp: Stamp,
) -> Result<(), ReadFailed> {
    let in_time = order.status == OrderStatus::Reserved;
    let late = order.status == OrderStatus::Expired && may_revive(rows, drop, order, stamp)?;
    if in_time || late {
        let taken = after.payments.last().is_some_and(|p| p.state == PaymentState::Captured);
        after.status = if taken { OrderStatus::Paid } else { OrderStatus::Confirmed };
    }
    Ok(())
}

/// Whether an expired order whose money came late gets its units after all.
fn may_revive(
    rows: &dyn Rows<StateRow>,
    drop: &DropRow,
    order: &OrderRow,
    stamp: Stamp,
) -> Result<bool, ReadFailed> {
    if !matches!(drop.status, DropStatus::Live | DropStatus::Ended) {
        return Ok(false);
    }
    if let Some(limit) = drop.limit_per_user {
        let buyer = rows::read_buyer(rows, order.drop_id, order.user_id)?;
        let owned = buyer.map_or(Units(0), |buyer| owned_units(&buyer));
        if owned.0 + order.units().0 > i64::from(limit) {
            return Ok(false);
        }
    }
    let mut change = Change::new(rows, stamp);
    for line in &order.lines {
        let available = change.stock(order.drop_id, line.variant_id)?.available;
        let waits = waitlist::first_fitting(&mut change, drop, line.variant_id)?.is_some();
        if available.0 < i64::from(line.qty) || waits {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Units that count against the limit.
pub(super) fn owned_units(buyer: &schemas::order::BuyerRow) -> Units {
    [buyer.held, buyer.waiting, buyer.sold].into_iter().sum()
}

/// No attempt is left: the units go back. Otherwise the buyer may try again until the hold lapses.
fn attempt_failed(drop: &DropRow, after: &mut OrderRow) {
    let used = after.payments.last().map_or(0, |last| last.attempt);
    if after.status == OrderStatus::Reserved && used >= drop.payment_attempts {
        after.status = OrderStatus::PaymentFailed;
        after.reason = Some(Reason::PaymentDeclined);
    }
}

fn captured(after: &mut OrderRow) {
    if after.status == OrderStatus::Confirmed {
        let refund = after.refund.is_some();
        after.status = if refund { OrderStatus::RefundPending } else { OrderStatus::Paid };
    }
}

/// The reserved money could not be taken: the units go back.
fn capture_failed(after: &mut OrderRow) {
    if after.status == OrderStatus::Confirmed {
        after.status = OrderStatus::PaymentFailed;
        after.reason = Some(Reason::CaptureFailed);
    }
}

/// The money went back, asked for or not; or it did not.
fn refund_ended(after: &mut OrderRow, state: PaymentState) {
    if matches!(after.status, OrderStatus::RefundPending | OrderStatus::Paid) {
        let done = state == PaymentState::Refunded;
        after.status = if done { OrderStatus::Refunded } else { OrderStatus::RefundFailed };
    }
}
