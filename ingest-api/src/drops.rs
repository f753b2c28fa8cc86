//! Commands on a drop: open, close, pause, resume, call off, restock, withdraw.

use axum::Json;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use schemas::decision::Outcome;
use schemas::ids::{DropId, Hash, VariantId};
use schemas::limits::STOCK_MAX;
use schemas::order::{CreatorCommand, OrderIntent, OrderIntentKind, StockChange};
use schemas::units::Units;
use serde::Deserialize;
use serde_json::json;
use utoipa::ToSchema;

use crate::app::AppState;
use crate::auth::Caller;
use crate::body::{StrictJson, idempotency_key};
use crate::drop_reads::{find, unknown_drop, view};
use crate::orders::new_intent_id;
use crate::problem::Problem;
use crate::views::{DropView, now};
use crate::waiting::{Taken, key_reused, refusal_problem, take, unexpected};

pub(crate) fn drop_id(text: &str) -> Result<DropId, Problem> {
    text.parse().map_err(|_| unknown_drop())
}

pub(crate) async fn answer_drop(
    state: &AppState,
    drop: DropId,
    taken: &Taken,
    decided_status: StatusCode,
) -> Result<Response, Problem> {
    let position = taken.position.encode();
    let Some(decided) = &taken.decided else {
        let body =
            json!({"drop": {"id": drop.to_string(), "status": "PENDING"}, "position": position});
        let location = format!("/drops/{drop}?after={position}");
        return Ok(
            (StatusCode::ACCEPTED, [(header::LOCATION, location)], Json(body)).into_response()
        );
    };
    let (status, is_replay) = match decided.decision.outcome {
        Outcome::Changed => (decided_status, false),
        Outcome::Replayed => (StatusCode::OK, true),
        Outcome::KeyReused => return Err(key_reused(None)),
        Outcome::Refused => {
            return Err(decided.decision.body.as_ref().map_or_else(unexpected, refusal_problem));
        }
        Outcome::Undecodable | Outcome::Genesis | Outcome::OwnerStarted => return Err(unexpected()),
    };
    let found = find(state, drop).await?.ok_or_else(unexpected)?;
    let body = Json(json!({"drop": view(state, &found), "position": position}));
    let location = format!("/drops/{drop}");
    let mut response = (status, [(header::LOCATION, location)], body).into_response();
    if is_replay {
        response.headers_mut().insert("idempotent-replayed", HeaderValue::from_static("true"));
    }
    Ok(response)
}

/// Opens a drop ahead of its time.
#[utoipa::path(post, path = "/drops/{id}/open", responses(
    (status = 200, description = "done", body = DropView), (status = 202, description = "durable"),
    (status = 403, description = "not_creator"), (status = 404, description = "unknown_drop"),
    (status = 409, description = "wrong_state")))]
pub(crate) async fn open(
    State(state): State<AppState>,
    caller: Caller,
    Path(drop): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    command(&state, &caller, &headers, &drop, OrderIntentKind::Open).await
}

/// Closes a drop ahead of its time; live holds run on.
#[utoipa::path(post, path = "/drops/{id}/close", responses(
    (status = 200, description = "done", body = DropView), (status = 202, description = "durable"),
    (status = 403, description = "not_creator"), (status = 404, description = "unknown_drop"),
    (status = 409, description = "wrong_state")))]
pub(crate) async fn close(
    State(state): State<AppState>,
    caller: Caller,
    Path(drop): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    command(&state, &caller, &headers, &drop, OrderIntentKind::Close).await
}

/// Takes a live drop off sale for a while; holds run and may pay.
#[utoipa::path(post, path = "/drops/{id}/pause", responses(
    (status = 200, description = "done", body = DropView), (status = 202, description = "durable"),
    (status = 403, description = "not_creator"), (status = 404, description = "unknown_drop"),
    (status = 409, description = "wrong_state")))]
pub(crate) async fn pause(
    State(state): State<AppState>,
    caller: Caller,
    Path(drop): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    command(&state, &caller, &headers, &drop, OrderIntentKind::Pause).await
}

/// Puts a paused drop on sale again.
#[utoipa::path(post, path = "/drops/{id}/resume", responses(
    (status = 200, description = "done", body = DropView), (status = 202, description = "durable"),
    (status = 403, description = "not_creator"), (status = 404, description = "unknown_drop"),
    (status = 409, description = "wrong_state")))]
pub(crate) async fn resume(
    State(state): State<AppState>,
    caller: Caller,
    Path(drop): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    command(&state, &caller, &headers, &drop, OrderIntentKind::Resume).await
}

/// Calls a drop off: units are released, money goes back.
#[utoipa::path(post, path = "/drops/{id}/cancel", responses(
    (status = 200, description = "done", body = DropView), (status = 202, description = "durable"),
    (status = 403, description = "not_creator"), (status = 404, description = "unknown_drop"),
    (status = 409, description = "wrong_state")))]
pub(crate) async fn abort(
    State(state): State<AppState>,
    caller: Caller,
    Path(drop): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    command(&state, &caller, &headers, &drop, OrderIntentKind::Abort).await
}

/// The same as `POST /drops/{id}/cancel`.
#[utoipa::path(delete, path = "/drops/{id}", responses(
    (status = 200, description = "called off", body = DropView), (status = 202, description = "durable"),
    (status = 403, description = "not_creator"), (status = 404, description = "unknown_drop"),
    (status = 409, description = "wrong_state")))]
pub(crate) async fn delete(
    State(state): State<AppState>,
    caller: Caller,
    Path(drop): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    command(&state, &caller, &headers, &drop, OrderIntentKind::Abort).await
}

/// `{variantId?, qty}`.
#[derive(Deserialize, ToSchema, Debug)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct SupplyRequest {
    variant_id: Option<String>,
    qty: i64,
}

/// Adds units; who waits gets them first.
#[utoipa::path(post, path = "/drops/{id}/restock", request_body = SupplyRequest, responses(
    (status = 200, description = "done, or a replay", body = DropView), (status = 202, description = "durable"),
    (status = 403, description = "not_creator"), (status = 404, description = "unknown_drop"),
    (status = 409, description = "wrong_state, unknown_variant or bad_quantity"), (status = 422, description = "key reused")))]
pub(crate) async fn restock(
    State(state): State<AppState>,
    caller: Caller,
    Path(drop): Path<String>,
    headers: HeaderMap,
    StrictJson(request): StrictJson<SupplyRequest>,
) -> Result<Response, Problem> {
    supply(&state, &caller, &headers, &drop, (OrderIntentKind::Restock, request)).await
}

/// Takes available units off sale; held and sold ones stay.
#[utoipa::path(post, path = "/drops/{id}/withdraw", request_body = SupplyRequest, responses(
    (status = 200, description = "done, or a replay", body = DropView), (status = 202, description = "durable"),
    (status = 403, description = "not_creator"), (status = 404, description = "unknown_drop"),
    (status = 409, description = "wrong_state, unknown_variant or insufficient_stock"), (status = 422, description = "key reused")))]
pub(crate) async fn withdraw(
    State(state): State<AppState>,
    caller: Caller,
    Path(drop): Path<String>,
    headers: HeaderMap,
    StrictJson(request): StrictJson<SupplyRequest>,
) -> Result<Response, Problem> {
    supply(&state, &caller, &headers, &drop, (OrderIntentKind::Withdraw, request)).await
}

async fn supply(
    state: &AppState,
    caller: &Caller,
    headers: &HeaderMap,
    drop: &str,
    (kind, request): (OrderIntentKind, SupplyRequest),
) -> Result<Response, Problem> {
    let drop = drop_id(drop)?;
    let key = idempotency_key(headers)?;
    let variant_id: Option<VariantId> = match &request.variant_id {
        None => None,
        Some(text) => Some(text.parse().map_err(|_| Problem::field("variantId", "is not a UUID"))?),
    };
    if !(1..=STOCK_MAX.0).contains(&request.qty) {
        let message = format!("must be a whole number from 1 to {STOCK_MAX}");
        return Err(Problem::field("qty", message));
    }
    if variant_id.is_none()
        && let Some((seen, _)) = state.window.drop_state(drop)
        && seen.drop.variants.len() > 1
    {
        return Err(Problem::field("variantId", "is required: the drop has several variants"));
    }
    let scope: &[u8] = if kind == OrderIntentKind::Restock { b"restock" } else { b"withdraw" };
    let named = variant_id.map_or([0; 16], |variant| variant.0);
    let stock_change = StockChange {
        variant_id,
        qty: Units(request.qty),
        key: Hash::of(&[scope, &caller.user.0, key.as_bytes()]),
        request_hash: Hash::of(&[&drop.0, &named, &request.qty.to_be_bytes()]),
    };
    let intent = command_intent(caller, drop, kind);
    send_command(state, headers, drop, OrderIntent { stock_change: Some(stock_change), ..intent })
        .await
}

async fn command(
    state: &AppState,
    caller: &Caller,
    headers: &HeaderMap,
    drop: &str,
    kind: OrderIntentKind,
) -> Result<Response, Problem> {
    let drop = drop_id(drop)?;
    send_command(state, headers, drop, command_intent(caller, drop, kind)).await
}

/// A creator's command; the writer checks whose drop it is.
pub(crate) fn command_intent(caller: &Caller, drop: DropId, kind: OrderIntentKind) -> OrderIntent {
    let command = CreatorCommand { creator_ids: caller.creators.clone(), admin: caller.is_admin };
    OrderIntent {
        actor: Some(caller.user),
        drop_id: Some(drop),
        creator_command: Some(command),
        ..OrderIntent::bare(new_intent_id(), kind, now())
    }
}

pub(crate) async fn send_command(
    state: &AppState,
    headers: &HeaderMap,
    drop: DropId,
    intent: OrderIntent,
) -> Result<Response, Problem> {
    let partition = drop.partition(state.intake.partitions());
    let taken = take(state, headers, partition, drop.0, intent).await?;
    if taken.decided.is_none() {
        let body = json!({"drop": {"id": drop.to_string()}, "position": taken.position.encode()});
        return Ok((StatusCode::ACCEPTED, Json(body)).into_response());
    }
    answer_drop(state, drop, &taken, StatusCode::OK).await
}
