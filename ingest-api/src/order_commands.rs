//! What happens to an order after it was placed: cancel, extend, pay, refund. The writer checks whose it is.

use axum::extract::{Path, State};
use axum::http::HeaderMap;
use axum::response::Response;
use schemas::ids::{Hash, OrderId};
use schemas::order::{
    CreatorCommand, OrderChange, OrderIntent, OrderIntentKind, PayOrder, RefundOrder,
};
use serde::Deserialize;
use utoipa::ToSchema;

use crate::app::AppState;
use crate::auth::Caller;
use crate::body::{StrictJson, idempotency_key};
use crate::order_reads::order_id;
use crate::orders::{new_intent_id, payment_method_fault};
use crate::problem::Problem;
use crate::views::{OrderView, now};
use crate::waiting::{answer_order, pending_order, take};

async fn send(
    state: &AppState,
    headers: &HeaderMap,
    order: OrderId,
    intent: OrderIntent,
) -> Result<Response, Problem> {
    let partition = order.partition(state.intake.partitions());
    let taken = take(state, headers, partition, order.0, intent).await?;
    match &taken.decided {
        Some(decided) => answer_order(state, &taken, decided, false),
        None => Ok(pending_order(order, None, taken.position)),
    }
}

fn change(caller: &Caller, order: OrderId, kind: OrderIntentKind) -> OrderIntent {
    OrderIntent {
        actor: Some(caller.user),
        order_change: Some(OrderChange { order_id: order }),
        ..OrderIntent::bare(new_intent_id(), kind, now())
    }
}

/// Cancels an order; declines an offer; leaves the waitlist.
#[utoipa::path(delete, path = "/orders/{id}", responses(
    (status = 200, description = "cancelled", body = OrderView), (status = 202, description = "durable"),
    (status = 404, description = "unknown or foreign"),
    (status = 409, description = "payment_in_progress, already_paid or not_cancellable")))]
pub(crate) async fn cancel(
    State(state): State<AppState>,
    caller: Caller,
    Path(order): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let order = order_id(&order)?;
    send(&state, &headers, order, change(&caller, order, OrderIntentKind::Cancel)).await
}

/// Extends the hold once, while a payment is in progress.
#[utoipa::path(post, path = "/orders/{id}/extend", responses(
    (status = 200, description = "extended", body = OrderView), (status = 202, description = "durable"),
    (status = 404, description = "unknown or foreign"), (status = 409, description = "not_extendable")))]
pub(crate) async fn extend(
    State(state): State<AppState>,
    caller: Caller,
    Path(order): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let order = order_id(&order)?;
    send(&state, &headers, order, change(&caller, order, OrderIntentKind::Extend)).await
}

/// `{paymentMethodId}`.
#[derive(Deserialize, ToSchema, Debug)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct PaymentRequest {
    payment_method_id: String,
}

/// A further payment attempt, or the acceptance of an offer.
#[utoipa::path(post, path = "/orders/{id}/payments", request_body = PaymentRequest, responses(
    (status = 200, description = "the attempt is made", body = OrderView), (status = 202, description = "durable"),
    (status = 404, description = "unknown or foreign"),
    (status = 409, description = "payment_in_progress, already_paid or not_payable")))]
pub(crate) async fn pay(
    State(state): State<AppState>,
    caller: Caller,
    Path(order): Path<String>,
    headers: HeaderMap,
    StrictJson(request): StrictJson<PaymentRequest>,
) -> Result<Response, Problem> {
    let order = order_id(&order)?;
    if let Some(why) = payment_method_fault(&request.payment_method_id) {
        return Err(Problem::field("paymentMethodId", why));
    }
    let payment = PayOrder { order_id: order, payment_method: Some(request.payment_method_id) };
    let intent = OrderIntent {
        actor: Some(caller.user),
        payment: Some(payment),
        ..OrderIntent::bare(new_intent_id(), OrderIntentKind::Pay, now())
    };
    send(&state, &headers, order, intent).await
}

/// `{restock}`.
#[derive(Deserialize, ToSchema, Debug)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct RefundRequest {
    restock: bool,
}

/// Gives the money back, with or without the units.
#[utoipa::path(post, path = "/orders/{id}/refund", request_body = RefundRequest, responses(
    (status = 200, description = "asked for", body = OrderView), (status = 202, description = "durable"),
    (status = 404, description = "unknown, or another creator's"), (status = 409, description = "not_refundable"),
    (status = 422, description = "key reused")))]
pub(crate) async fn refund(
    State(state): State<AppState>,
    caller: Caller,
    Path(order): Path<String>,
    headers: HeaderMap,
    StrictJson(request): StrictJson<RefundRequest>,
) -> Result<Response, Problem> {
    let order = order_id(&order)?;
    let key = idempotency_key(&headers)?;
    let refund = RefundOrder {
        order_id: order,
        restock: request.restock,
        key: Hash::of(&[b"refund", &caller.user.0, key.as_bytes()]),
    };
    let command = CreatorCommand { creator_ids: caller.creators.clone(), admin: caller.is_admin };
    let intent = OrderIntent {
        actor: Some(caller.user),
        creator_command: Some(command),
        refund: Some(refund),
        ..OrderIntent::bare(new_intent_id(), OrderIntentKind::Refund, now())
    };
    send(&state, &headers, order, intent).await
}
