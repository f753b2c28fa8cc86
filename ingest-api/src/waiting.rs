//! From a decision to an HTTP answer: 202 while undecided, else what was decided.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use schemas::decision::Outcome;
use schemas::ids::{IntentId, OrderId};
use schemas::order::{DropStatus, OrderBody, OrderIntent, OrderRow, OrderStatus, Reason, Refusal};
use schemas::partition::Partition;
use schemas::topics::ORDER_INTENTS;
use serde::Serialize;
use serde_json::{Value, json};
use tokio::sync::oneshot;

use crate::app::{AppState, correlation_id, traceparent};
use crate::body::preferred_wait_ms;
use crate::position::IntentPosition;
use crate::problem::{Problem, Retry};
use crate::views::{OrderView, now};
use crate::window::{OrderDecided, Window};

/// An order intent that is in the log, and its decision if the client wanted to wait and it came in time.
pub(crate) struct Taken {
    pub(crate) position: IntentPosition,
    pub(crate) decided: Option<Arc<OrderDecided>>,
}

/// Appends an order intent and waits for its decision as long as the client asked to.
pub(crate) async fn take(
    state: &AppState,
    headers: &HeaderMap,
    partition: Partition,
    key: [u8; 16],
    mut intent: OrderIntent,
) -> Result<Taken, Problem> {
    let wait_ms = preferred_wait_ms(headers)?;
    intent.correlation_id = correlation_id(headers);
    let mut value = state.intake.order_value();
    schemas::avro::ORDER_INTENT.encode(&intent, &mut value);
    // Registered before the append: the decision may come before the acknowledgement.
    let waiter = wait_ms.map(|_| Waiter::new(state, intent.intent_id));
    let appended = state.intake.append(ORDER_INTENTS, partition, key, value, traceparent(headers));
    let offset = appended.await?;
    let position = IntentPosition { partition, offset };
    let decided = match (waiter, wait_ms) {
        (Some(waiter), Some(wait_ms)) => {
            let wait = Duration::from_millis(wait_ms.max(0).cast_unsigned());
            waiter.decided_within(wait).await
        }
        _ => None,
    };
    Ok(Taken { position, decided })
}

/// Waits for a decision; leaves nothing behind, also when the client hangs up in the middle.
struct Waiter<'a> {
    window: &'a Window,
    intent: IntentId,
    decided: oneshot::Receiver<Arc<OrderDecided>>,
}

impl<'a> Waiter<'a> {
    fn new(state: &'a AppState, intent: IntentId) -> Self {
        let window = &state.window;
        Self { window, intent, decided: window.await_order_decision(intent) }
    }

    async fn decided_within(mut self, wait: Duration) -> Option<Arc<OrderDecided>> {
        tokio::time::timeout(wait, &mut self.decided).await.ok()?.ok()
    }
}

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        self.window.forget_order_decision(self.intent);
    }
}

/// An order that is in the log and not decided yet.
#[derive(Serialize)]
struct Pending {
    order: PendingOrder,
    position: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct PendingOrder {
    id: String,
    status: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    drop_id: Option<String>,
}

/// 202 with where to look.
pub(crate) fn pending_order(
    order: OrderId,
    drop_id: Option<String>,
    position: IntentPosition,
) -> Response {
    let (id, position) = (order.to_string(), position.encode());
    let location = format!("/orders/{id}?after={position}");
    let order = PendingOrder { id, status: "PENDING", drop_id };
    (StatusCode::ACCEPTED, [(header::LOCATION, location)], Json(Pending { order, position }))
        .into_response()
}

/// The answer to a decided place or cancel.
pub(crate) fn answer_order(
    state: &AppState,
    taken: &Taken,
    decided: &OrderDecided,
    created: bool,
) -> Result<Response, Problem> {
    let body = decided.decision.body.as_ref();
    let row = body.and_then(OrderBody::order);
    match decided.decision.outcome {
        Outcome::Changed | Outcome::Replayed => {
            let row = row.ok_or_else(unexpected)?;
            let is_replay = decided.decision.outcome == Outcome::Replayed;
            order_response(state, taken.position, row, created, is_replay)
        }
        Outcome::KeyReused => Err(key_reused(row)),
        Outcome::Refused => Err(refusal_problem(body.ok_or_else(unexpected)?)),
        Outcome::Undecodable | Outcome::Genesis | Outcome::OwnerStarted => Err(unexpected()),
    }
}

fn order_response(
    state: &AppState,
    position: IntentPosition,
    row: &OrderRow,
    created: bool,
    is_replay: bool,
) -> Result<Response, Problem> {
    if let Some(reason) = row.reason.filter(|_| row.status == OrderStatus::Rejected) {
        let mut problem = rejected_problem(row, reason);
        problem.members.insert("replayed".into(), json!(is_replay));
        return Err(problem);
    }
    let view = OrderView::new(row, state.intake.partitions());
    let body = Json(json!({"order": view, "position": position.encode()}));
    let status = if created && !is_replay { StatusCode::CREATED } else { StatusCode::OK };
    let location = format!("/orders/{}", row.order_id);
    let mut response = (status, [(header::LOCATION, location)], body).into_response();
    if is_replay {
        response.headers_mut().insert("idempotent-replayed", HeaderValue::from_static("true"));
    }
    Ok(response)
}

/// 500 for a decision that cannot follow from what was sent.
pub(crate) fn unexpected() -> Problem {
    let detail = "the intent was logged but could not be decided; an operator can see why";
    Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "undecidable", Retry::Never, detail)
}

pub(crate) fn key_reused(row: Option<&OrderRow>) -> Problem {
    let detail = "the Idempotency-Key was used for another request; nothing was changed";
    let problem =
        Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "key_reused", Retry::Never, detail);
    match row {
        Some(row) => problem.with("orderId", row.order_id.to_string()),
        None => problem,
    }
}

/// The problem of a fresh refusal.
pub(crate) fn refusal_problem(body: &OrderBody) -> Problem {
    let Some(refusal) = &body.refusal else { return unexpected() };
    match body.order() {
        Some(row) if row.status == OrderStatus::Rejected && row.reason == Some(refusal.reason) => {
            rejected_problem(row, refusal.reason)
        }
        Some(row) => bare_problem(refusal).with("orderStatus", row.status.as_str()),
        None => bare_problem(refusal),
    }
}

fn rejected_problem(row: &OrderRow, reason: Reason) -> Problem {
    let refusal = Refusal {
        reason,
        order_id: Some(row.order_id),
        user_id: Some(row.user_id),
        opens_at: None,
        drop_status: None,
    };
    let mut problem = bare_problem(&refusal);
    if !row.missing.is_empty() {
        let missing: Vec<Value> = row
            .missing
            .iter()
            .map(|m| json!({"variantId": m.variant_id.to_string(), "available": m.available.0}))
            .collect();
        problem = problem.with("available", missing);
    }
    if let Some(held) = row.held_order_id {
        problem = problem.with("heldOrderId", held.to_string());
    }
    problem
}

fn bare_problem(refusal: &Refusal) -> Problem {
    let is_early = refusal.drop_status == Some(DropStatus::Upcoming);
    let (status, retry, detail) = match refusal.reason {
        Reason::UnknownOrder => (StatusCode::NOT_FOUND, Retry::Never, "there is no such order"),
        Reason::UnknownDrop => (StatusCode::NOT_FOUND, Retry::Never, "there is no such drop"),
        Reason::NotCreator => {
            (StatusCode::FORBIDDEN, Retry::Never, "the token is not of the drop's creator")
        }
        Reason::InvalidSchedule => {
            (StatusCode::BAD_REQUEST, Retry::Never, "the schedule breaks a limit")
        }
        Reason::DropExists => (StatusCode::CONFLICT, Retry::Never, "the drop id is taken"),
        Reason::WrongState => {
            (StatusCode::CONFLICT, Retry::Never, "the drop's status does not allow it")
        }
        Reason::NotOpen if is_early => {
            (StatusCode::CONFLICT, Retry::Safe, "the drop is not on sale yet; the key is unspent")
        }
        Reason::NotOpen if refusal.drop_status == Some(DropStatus::Paused) => {
            (StatusCode::CONFLICT, Retry::Safe, "the drop is paused; the key is unspent")
        }
        Reason::NotOpen => (StatusCode::CONFLICT, Retry::Never, "the drop is no longer on sale"),
        Reason::Archived => (StatusCode::GONE, Retry::Never, "the drop is long settled"),
        Reason::UnknownVariant => {
            (StatusCode::CONFLICT, Retry::Never, "the drop has no such variant")
        }
        Reason::BadQuantity => {
            (StatusCode::CONFLICT, Retry::Never, "1 to 1,000 units of a variant per order")
        }
        Reason::PriceChanged => {
            (StatusCode::CONFLICT, Retry::NewKey, "the total is not the one you saw")
        }
        Reason::LimitExceeded => {
            (StatusCode::CONFLICT, Retry::NewKey, "more than the drop allows one buyer")
        }
        Reason::InsufficientStock => {
            (StatusCode::CONFLICT, Retry::NewKey, "fewer units are left than you asked for")
        }
        Reason::SoldOut => (StatusCode::CONFLICT, Retry::NewKey, "no unit is left"),
        other => (StatusCode::CONFLICT, Retry::Never, order_state(other)),
    };
    let mut problem = Problem::new(status, refusal.reason.as_str(), retry, detail);
    if let Some(order) = refusal.order_id {
        problem = problem.with("orderId", order.to_string());
    }
    if let Some(opens_at) = refusal.opens_at {
        problem = problem.with("opensInMs", opens_at.since(now()).0.max(0));
    }
    if let Some(status) = refusal.drop_status {
        problem = problem.with("dropStatus", status.as_str());
    }
    problem
}

/// Why the order's, payment's or partition's state does not allow what was asked.
fn order_state(reason: Reason) -> &'static str {
    match reason {
        Reason::NotCancellable => "the order is past cancelling",
        Reason::PaymentInProgress => "a payment is under way: wait for its outcome",
        Reason::AlreadyPaid => "the order is paid for; ask the creator for a refund",
        Reason::NotPayable => "there is nothing to pay for, or no attempt is left",
        Reason::NotExtendable => {
            "a hold is extended once, while a payment is under way, and never after an offer"
        }
        Reason::NotRefundable => "no money was captured, or it is on its way back",
        Reason::DropEnded => "the drop ended before units came back",
        Reason::DropCancelled => "the creator called the drop off",
        Reason::NotActivated => {
            "an operator has to activate this for the partition: livedrops activate"
        }
        _ => "the state does not allow it",
    }
}

/// 409 of a drop that opens later, decided by this node without writing.
pub(crate) fn too_early(order: OrderId, opens_at: schemas::units::Millis) -> Problem {
    bare_problem(&Refusal {
        reason: Reason::NotOpen,
        order_id: Some(order),
        user_id: None,
        opens_at: Some(opens_at),
        drop_status: Some(DropStatus::Upcoming),
    })
}
