//! Each outcome is the one the rules give, recomputed naively from the rows before the decision.
//!
//! Written from the documented rules, not from the processor: two people reading one contract.

use std::collections::BTreeMap;

use schemas::decision::Outcome;
use schemas::ids::{Hash, VariantId};
use schemas::limits::{INTENT_BYTES_MAX, LINES_MAX, QUANTITY_MAX, STOCK_MAX};
use schemas::order::{
    DropStatus, IfSoldOut, OrderBody, OrderIntent, OrderIntentKind, OrderStatus, PaymentState,
    ProviderOperationKind, ProviderResult, Reason,
};

use crate::{Finding, Fold, LoggedDecision, LoggedIntent};

/// What the rules give for an intent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Expected {
    Changed,
    Refused(Reason),
    Replayed,
    KeyReused,
    Undecodable,
}

/// Compares one decision's outcome with the naive one.
pub fn check(
    fold: &Fold,
    logged: &LoggedDecision,
    intent: Option<&LoggedIntent>,
    findings: &mut Vec<Finding>,
) {
    let Some(logged_intent) = intent else { return };
    let given = outcome_of(logged);
    let expected = match &logged_intent.intent {
        None => Expected::Undecodable,
        Some(intent) if !is_complete(intent) => Expected::Undecodable,
        Some(intent) if given == Some(Expected::Undecodable) => {
            if !may_be_given_up(logged) {
                let what = format!("a complete {} was given up", intent.kind.as_str());
                findings.push(Finding { checker: "rules", offset: logged.offset, what });
            }
            return;
        }
        Some(intent) => match expected(fold, logged, intent) {
            Some(expected) => expected,
            None => return,
        },
    };
    if given != Some(expected) {
        let what = format!("{given:?} where the rules give {expected:?}");
        findings.push(Finding { checker: "rules", offset: logged.offset, what });
    }
}

fn outcome_of(logged: &LoggedDecision) -> Option<Expected> {
    let body: Option<&OrderBody> = logged.decision.body.as_ref();
    match logged.decision.outcome {
        Outcome::Changed => Some(Expected::Changed),
        Outcome::Refused => Some(Expected::Refused(body?.refusal.as_ref()?.reason)),
        Outcome::Replayed => Some(Expected::Replayed),
        Outcome::KeyReused => Some(Expected::KeyReused),
        Outcome::Undecodable => Some(Expected::Undecodable),
        Outcome::Genesis | Outcome::OwnerStarted => None,
    }
}

/// Whether the record asks for something: legal Avro may leave out what its kind needs.
fn is_complete(intent: &OrderIntent) -> bool {
    use OrderIntentKind as Kind;
    let by_buyer = intent.actor.is_some();
    let by_creator = intent.creator_command.is_some();
    let on_drop = intent.drop_id.is_some();
    match intent.kind {
        Kind::Tick => true,
        Kind::Activate => intent.activate.is_some(),
        Kind::Place => {
            let lines = intent.place.as_ref().map_or(0, |order| order.lines.len());
            by_buyer && on_drop && (1..=LINES_MAX).contains(&lines)
        }
        Kind::Cancel | Kind::Extend => by_buyer && intent.order_change.is_some(),
        Kind::Pay => by_buyer && intent.payment.is_some(),
        Kind::Schedule => on_drop && intent.schedule.is_some(),
        Kind::Refund => by_creator && intent.refund.is_some(),
        Kind::PaymentOutcome => intent.payment_outcome.is_some(),
        Kind::Open | Kind::Close | Kind::Pause | Kind::Resume | Kind::Abort => {
            by_creator && on_drop
        }
        Kind::Edit => by_creator && on_drop && intent.edit.is_some(),
        Kind::Restock | Kind::Withdraw => by_creator && on_drop && intent.stock_change.is_some(),
    }
}

/// Whether an intent that can be read may be given up all the same: it is too long to be echoed, or deciding it panics.
pub(crate) fn may_be_given_up<B>(logged: &LoggedDecision<B>) -> bool {
    logged.decision.undecodable.as_ref().is_some_and(|undecodable| {
        let is_too_long = usize::try_from(undecodable.length).is_ok_and(|at| at > INTENT_BYTES_MAX);
        is_too_long || undecodable.error.starts_with("deciding it panicked")
    })
}

/// Of a complete intent that was decided. `None` where more than one outcome is right.
fn expected(fold: &Fold, logged: &LoggedDecision, intent: &OrderIntent) -> Option<Expected> {
    use OrderIntentKind as Kind;
    if outcome_of(logged) == Some(Expected::Refused(Reason::NotActivated)) {
        // Legal while the partition stands at an older logic version, never after.
        return (logged.decision.header.logic_version < crate::WHOLE_LIFE)
            .then_some(Expected::Refused(Reason::NotActivated));
    }
    Some(match intent.kind {
        Kind::Tick => Expected::Changed,
        Kind::Activate => return None,
        Kind::Place => place(fold, intent)?,
        Kind::Cancel | Kind::Extend | Kind::Pay => buyer(fold, intent)?,
        Kind::Schedule => schedule(fold, logged, intent)?,
        Kind::Refund => refund(fold, intent)?,
        Kind::PaymentOutcome => payment_outcome(fold, intent)?,
        Kind::Open
        | Kind::Close
        | Kind::Pause
        | Kind::Resume
        | Kind::Abort
        | Kind::Edit
        | Kind::Restock
        | Kind::Withdraw => creator(fold, logged, intent)?,
    })
}

fn schedule(fold: &Fold, logged: &LoggedDecision, intent: &OrderIntent) -> Option<Expected> {
    let terms = intent.schedule.as_ref()?;
    Some(match fold.drops.get(&intent.drop_id?) {
        None if logged.decision.outcome == Outcome::Refused => {
            Expected::Refused(Reason::InvalidSchedule)
        }
        None => Expected::Changed,
        Some(drop)
            if (drop.creator_id, drop.schedule_key) != (terms.creator_id, terms.schedule_key) =>
        {
            Expected::Refused(Reason::DropExists)
        }
        Some(drop) if drop.request_hash == terms.request_hash => Expected::Replayed,
        Some(_) => Expected::KeyReused,
    })
}

/// Cancel, extend, pay.
fn buyer(fold: &Fold, intent: &OrderIntent) -> Option<Expected> {
    use OrderStatus as S;
    let id = match intent.kind {
        OrderIntentKind::Pay => intent.payment.as_ref()?.order_id,
        _ => intent.order_change.as_ref()?.order_id,
    };
    let Some(order) = fold.orders.get(&id).filter(|order| Some(order.user_id) == intent.actor)
    else {
        return Some(Expected::Refused(Reason::UnknownOrder));
    };
    let free = !fold.drops.get(&order.drop_id)?.payment_required;
    let paying = order.payments.last().is_some_and(|payment| payment.state.is_open());
    let refused = |reason| Some(Expected::Refused(reason));
    match (intent.kind, order.status) {
        (OrderIntentKind::Cancel, S::Cancelled) => Some(Expected::Replayed),
        (OrderIntentKind::Cancel, S::Reserved | S::Offered | S::Waitlisted) => {
            Some(Expected::Changed)
        }
        (OrderIntentKind::Cancel, S::Confirmed) if free => Some(Expected::Changed),
        (OrderIntentKind::Cancel, S::Confirmed) => refused(Reason::PaymentInProgress),
        (OrderIntentKind::Cancel, S::Paid) => refused(Reason::AlreadyPaid),
        (OrderIntentKind::Cancel, _) => refused(Reason::NotCancellable),
        (OrderIntentKind::Extend, S::Reserved)
            if paying && !order.extended && !order.from_waitlist =>
        {
            Some(Expected::Changed)
        }
        (OrderIntentKind::Extend, _) => refused(Reason::NotExtendable),
        (_, S::Offered) => Some(Expected::Changed),
        (_, S::Reserved) if paying => refused(Reason::PaymentInProgress),
        (_, S::Reserved) => {
            let allowed = fold.drops.get(&order.drop_id)?.payment_attempts;
            let used = i32::try_from(order.payments.len()).unwrap_or(i32::MAX);
            if used < allowed { Some(Expected::Changed) } else { refused(Reason::NotPayable) }
        }
        (_, S::Confirmed | S::Paid) => refused(Reason::AlreadyPaid),
        _ => refused(Reason::NotPayable),
    }
}

fn creator(fold: &Fold, logged: &LoggedDecision, intent: &OrderIntent) -> Option<Expected> {
    use DropStatus as S;
    let command = intent.creator_command.as_ref()?;
    let refused = |reason| Some(Expected::Refused(reason));
    let Some(drop) = fold.drops.get(&intent.drop_id?) else { return refused(Reason::UnknownDrop) };
    if drop.status == S::Archived {
        return refused(Reason::Archived);
    }
    if !command.admin && !command.creator_ids.contains(&drop.creator_id) {
        return refused(Reason::NotCreator);
    }
    if matches!(intent.kind, OrderIntentKind::Restock | OrderIntentKind::Withdraw) {
        let wanted = intent.stock_change.as_ref()?;
        if let Some(first) = fold.commands.get(&(drop.drop_id, wanted.key)) {
            let same = first.request_hash == wanted.request_hash;
            return Some(if same { Expected::Replayed } else { Expected::KeyReused });
        }
    }
    let allowed = match intent.kind {
        OrderIntentKind::Open | OrderIntentKind::Edit => drop.status == S::Upcoming,
        OrderIntentKind::Pause => drop.status == S::Live,
        OrderIntentKind::Resume => drop.status == S::Paused,
        OrderIntentKind::Close => matches!(drop.status, S::Live | S::Paused),
        _ => matches!(drop.status, S::Upcoming | S::Live | S::Paused),
    };
    if !allowed {
        return refused(Reason::WrongState);
    }
    match intent.kind {
        OrderIntentKind::Edit if logged.decision.outcome == Outcome::Refused => None,
        OrderIntentKind::Restock | OrderIntentKind::Withdraw => supply(fold, intent),
        _ => Some(Expected::Changed),
    }
}

fn supply(fold: &Fold, intent: &OrderIntent) -> Option<Expected> {
    let (drop, wanted) = (fold.drops.get(&intent.drop_id?)?, intent.stock_change.as_ref()?);
    let variant = match wanted.variant_id {
        None if drop.variants.len() == 1 => drop.variants.first(),
        id => drop.variants.iter().find(|variant| Some(variant.variant_id) == id),
    };
    let Some(variant) = variant else { return Some(Expected::Refused(Reason::UnknownVariant)) };
    let stock = fold.stocks.get(&(drop.drop_id, variant.variant_id))?;
    let ever: i64 = fold
        .stocks
        .iter()
        .filter(|(key, _)| key.0 == drop.drop_id)
        .map(|(_, stock)| stock.initial.0 + stock.restocked.0)
        .sum();
    let adds = intent.kind == OrderIntentKind::Restock;
    Some(if wanted.qty.0 < 1 || (adds && ever.saturating_add(wanted.qty.0) > STOCK_MAX.0) {
        Expected::Refused(Reason::BadQuantity)
    } else if !adds && wanted.qty > stock.available {
        Expected::Refused(Reason::InsufficientStock)
    } else {
        Expected::Changed
    })
}

fn refund(fold: &Fold, intent: &OrderIntent) -> Option<Expected> {
    let (wanted, caller) = (intent.refund.as_ref()?, intent.creator_command.as_ref()?);
    let order = fold.orders.get(&wanted.order_id);
    let drop = order.and_then(|order| fold.drops.get(&order.drop_id));
    let (Some(order), Some(drop)) = (order, drop) else {
        return Some(Expected::Refused(Reason::UnknownOrder));
    };
    if !caller.admin && !caller.creator_ids.contains(&drop.creator_id) {
        return Some(Expected::Refused(Reason::UnknownOrder));
    }
    if let Some(first) = fold.commands.get(&(drop.drop_id, wanted.key)) {
        let same =
            first.request_hash == Hash::of(&[&wanted.order_id.0, &[u8::from(wanted.restock)]]);
        return Some(if same { Expected::Replayed } else { Expected::KeyReused });
    }
    let capturing =
        order.status == OrderStatus::Confirmed && drop.payment_required && order.refund.is_none();
    Some(if order.status == OrderStatus::Paid || capturing {
        Expected::Changed
    } else {
        Expected::Refused(Reason::NotRefundable)
    })
}

/// An outcome tells something new, or repeats, or is about nothing.
fn payment_outcome(fold: &Fold, intent: &OrderIntent) -> Option<Expected> {
    use PaymentState as S;
    use ProviderOperationKind as Kind;
    let outcome = intent.payment_outcome.as_ref()?;
    let Some(order) = fold.orders.get(&outcome.order_id) else {
        return Some(Expected::Refused(Reason::UnknownOrder));
    };
    let Some(payment) = order.payments.iter().find(|p| p.attempt == outcome.attempt) else {
        return Some(Expected::Refused(Reason::UnknownPayment));
    };
    let asked = order.operation.is_some_and(|operation| {
        (operation.attempt, operation.kind) == (outcome.attempt, outcome.operation)
    });
    let news = match (outcome.operation, outcome.result) {
        (Kind::Authorise, ProviderResult::Succeeded) => {
            payment.state.is_open() || payment.state == S::Declined
        }
        (Kind::Authorise, ProviderResult::Failed) => payment.state.is_open(),
        (Kind::Authorise, ProviderResult::NeedsAction) => payment.state == S::Pending,
        (_, ProviderResult::NeedsAction) => false,
        (Kind::Capture, ProviderResult::Succeeded) => {
            use PaymentState::{Authorised, CaptureFailed, VoidFailed, Voided};
            matches!(payment.state, Authorised | CaptureFailed | Voided | VoidFailed)
        }
        (_, ProviderResult::Failed) if !asked => false,
        (Kind::Capture | Kind::Void, _) => payment.state == S::Authorised,
        (Kind::Refund, _) => payment.state == S::Captured,
    };
    Some(if news { Expected::Changed } else { Expected::Replayed })
}

fn place(fold: &Fold, intent: &OrderIntent) -> Option<Expected> {
    let (order, drop_id, user) = (intent.place.as_ref()?, intent.drop_id?, intent.actor?);
    if let Some(first) = fold.orders.get(&order.order_id) {
        let same = first.request_hash == order.request_hash;
        return Some(if same { Expected::Replayed } else { Expected::KeyReused });
    }
    let Some(drop) = fold.drops.get(&drop_id) else {
        return Some(Expected::Refused(Reason::UnknownDrop));
    };
    let mut wanted: BTreeMap<VariantId, i64> = BTreeMap::new();
    for line in &order.lines {
        *wanted.entry(line.variant_id).or_default() += i64::from(line.qty);
    }
    let price =
        |id: &VariantId| drop.variants.iter().find(|v| v.variant_id == *id).map(|v| v.price.0);
    let left =
        |id: &VariantId| fold.stocks.get(&(drop_id, *id)).map_or(0, |stock| stock.available.0);
    let total: i64 =
        wanted.iter().map(|(id, qty)| price(id).unwrap_or(0).saturating_mul(*qty)).sum();
    let units: i64 = wanted.values().sum();
    if drop.status == DropStatus::Archived {
        return Some(Expected::Refused(Reason::Archived));
    }
    let buyer = fold.buyers.get(&(drop_id, user));
    let owned = buyer.map_or(0, |buyer| buyer.held.0 + buyer.waiting.0 + buyer.sold.0);
    let broken = [
        (drop.status != DropStatus::Live, Reason::NotOpen),
        (wanted.keys().any(|id| price(id).is_none()), Reason::UnknownVariant),
        (order.lines.iter().any(|line| line.qty < 1), Reason::BadQuantity),
        (wanted.values().any(|qty| *qty > QUANTITY_MAX), Reason::BadQuantity),
        (order.expected_total.is_some_and(|seen| seen.0 != total), Reason::PriceChanged),
        (
            order.expected_currency.as_ref().is_some_and(|seen| *seen != drop.currency),
            Reason::PriceChanged,
        ),
        (
            drop.limit_per_user.is_some_and(|limit| owned + units > i64::from(limit)),
            Reason::LimitExceeded,
        ),
        (
            wanted.iter().any(|(id, qty)| left(id) < *qty && left(id) > 0)
                && wanted.keys().all(|id| left(id) > 0),
            Reason::InsufficientStock,
        ),
        (wanted.keys().any(|id| left(id) == 0), Reason::SoldOut),
    ];
    let refused = broken.into_iter().find_map(|(is_broken, reason)| is_broken.then_some(reason));
    let waits = |id: &VariantId| {
        drop.waitlist
            && order.if_sold_out == IfSoldOut::Waitlist
            && !buyer.is_some_and(|buyer| buyer.entries.iter().any(|e| e.variant_id == *id))
    };
    Some(match refused {
        Some(Reason::InsufficientStock | Reason::SoldOut)
            if wanted.len() == 1 && wanted.keys().all(waits) =>
        {
            Expected::Changed
        }
        Some(reason) => Expected::Refused(reason),
        None => Expected::Changed,
    })
}
