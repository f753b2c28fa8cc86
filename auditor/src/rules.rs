//! Each outcome is the one the rules give, recomputed naively from the rows before the decision.
//!
//! Written from the documented rules, not from the processor: two people reading one contract.

use std::collections::BTreeMap;

use schemas::decision::Outcome;
use schemas::ids::VariantId;
use schemas::limits::QUANTITY_MAX;
use schemas::order::{
    DropStatus, OrderBody, OrderIntent, OrderIntentKind, OrderStatus, PlaceOrder, Reason,
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

/// `None` where the record is legal Avro but the writer may still call it undecodable.
fn expected(fold: &Fold, logged: &LoggedDecision, intent: &OrderIntent) -> Option<Expected> {
    if logged.decision.outcome == Outcome::Undecodable {
        return None;
    }
    let drop = intent.drop_id.and_then(|id| fold.drops.get(&id));
    Some(match intent.kind {
        OrderIntentKind::Tick => Expected::Changed,
        OrderIntentKind::Place => place(fold, intent, intent.place.as_ref()?),
        OrderIntentKind::Cancel => {
            let order = fold.orders.get(&intent.order_change.as_ref()?.order_id);
            match order.filter(|order| Some(order.user_id) == intent.actor) {
                None => Expected::Refused(Reason::UnknownOrder),
                Some(order) => match order.status {
                    OrderStatus::Reserved | OrderStatus::Confirmed => Expected::Changed,
                    OrderStatus::Cancelled => Expected::Replayed,
                    _ => Expected::Refused(Reason::NotCancellable),
                },
            }
        }
        OrderIntentKind::Schedule => {
            let terms = intent.schedule.as_ref()?;
            match drop {
                None if logged.decision.outcome == Outcome::Refused => {
                    Expected::Refused(Reason::InvalidSchedule)
                }
                None => Expected::Changed,
                Some(drop)
                    if (drop.creator_id, drop.schedule_key)
                        != (terms.creator_id, terms.schedule_key) =>
                {
                    Expected::Refused(Reason::DropExists)
                }
                Some(drop) if drop.request_hash == terms.request_hash => Expected::Replayed,
                Some(_) => Expected::KeyReused,
            }
        }
        OrderIntentKind::Open | OrderIntentKind::Close => {
            let command = intent.creator_command.as_ref()?;
            let from = if intent.kind == OrderIntentKind::Open {
                DropStatus::Upcoming
            } else {
                DropStatus::Live
            };
            match drop {
                None => Expected::Refused(Reason::UnknownDrop),
                Some(drop) if !command.admin && !command.creator_ids.contains(&drop.creator_id) => {
                    Expected::Refused(Reason::NotCreator)
                }
                Some(drop) if drop.status == from => Expected::Changed,
                Some(_) => Expected::Refused(Reason::WrongState),
            }
        }
    })
}

fn place(fold: &Fold, intent: &OrderIntent, order: &PlaceOrder) -> Expected {
    if let Some(first) = fold.orders.get(&order.order_id) {
        let same = first.request_hash == order.request_hash;
        return if same { Expected::Replayed } else { Expected::KeyReused };
    }
    let (Some(drop_id), Some(user)) = (intent.drop_id, intent.actor) else {
        return Expected::Undecodable;
    };
    let Some(drop) = fold.drops.get(&drop_id) else {
        return Expected::Refused(Reason::UnknownDrop);
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
    let owned = fold.buyers.get(&(drop_id, user)).map_or(0, |buyer| buyer.held.0 + buyer.sold.0);
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
    broken
        .into_iter()
        .find_map(|(is_broken, reason)| is_broken.then_some(Expected::Refused(reason)))
        .unwrap_or(Expected::Changed)
}
