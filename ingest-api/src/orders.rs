//! Orders: place, cancel, read, stream.

use std::collections::BTreeMap;
use std::time::Duration;

use axum::Json;
use axum::extract::{Path, RawQuery, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use schemas::ids::{DropId, Hash, IntentId, OrderId, VariantId};
use schemas::limits::{LINES_MAX, QUANTITY_MAX};
use schemas::order::{
    DropStatus, IfSoldOut, OrderChange, OrderIntent, OrderIntentKind, OrderLine, OrderRow,
    OrderStatus, PlaceOrder,
};
use schemas::units::{Millis, Money};
use serde::Deserialize;
use serde_json::json;
use utoipa::ToSchema;

use crate::app::AppState;
use crate::archive::ArchiveError;
use crate::auth::Caller;
use crate::body::{StrictJson, WAIT_MS_MAX, idempotency_key};
use crate::position::IntentPosition;
use crate::problem::{FieldError, Problem};
use crate::streams;
use crate::views::{OrderView, now, rfc3339};
use crate::waiting::{answer_order, pending_order, take, too_early};
use crate::window::OrderSeen;

/// Ingest refuses an order by itself only if the drop opens later than this.
const EARLY_MS: Millis = Millis(2_000);

/// One line of an order request.
#[derive(Deserialize, ToSchema, Debug)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct LineRequest {
    #[schema(value_type = String, format = Uuid)]
    variant_id: String,
    qty: i64,
}

/// `{dropId, qty, paymentMethodId}` or `{dropId, lines: [{variantId, qty}], …}`.
#[derive(Deserialize, ToSchema, Debug)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct OrderRequest {
    drop_id: Option<String>,
    qty: Option<i64>,
    lines: Option<Vec<LineRequest>>,
    payment_method_id: Option<String>,
    #[serde(default)]
    #[schema(value_type = String)]
    if_sold_out: IfSoldOut,
    #[schema(value_type = Object)]
    expected_total: Option<Money>,
}

/// Places an order.
#[utoipa::path(post, path = "/orders", request_body = OrderRequest, responses(
    (status = 201, description = "decided: reserved or confirmed", body = OrderView),
    (status = 200, description = "decided before under this key", body = OrderView),
    (status = 202, description = "durable, not decided yet"),
    (status = 400, description = "malformed"), (status = 401, description = "who are you"),
    (status = 409, description = "refused"), (status = 413, description = "too large"),
    (status = 415, description = "not JSON"), (status = 422, description = "key reused"),
    (status = 503, description = "nothing was written"), (status = 504, description = "outcome unknown")))]
pub(crate) async fn place(
    State(state): State<AppState>,
    caller: Caller,
    headers: HeaderMap,
    StrictJson(request): StrictJson<OrderRequest>,
) -> Result<Response, Problem> {
    let drop = request
        .drop_id
        .as_deref()
        .ok_or_else(|| Problem::field("dropId", "is required"))
        .and_then(|text| parse_id("dropId", text))?;
    place_order(&state, &caller, &headers, drop, &request).await
}

/// Places an order in the drop the path names.
#[utoipa::path(post, path = "/drops/{id}/orders", request_body = OrderRequest, responses(
    (status = 201, description = "as for /orders", body = OrderView)))]
pub(crate) async fn place_in_drop(
    State(state): State<AppState>,
    caller: Caller,
    Path(drop): Path<String>,
    headers: HeaderMap,
    StrictJson(request): StrictJson<OrderRequest>,
) -> Result<Response, Problem> {
    let drop: DropId =
        drop.parse().map_err(|_| Problem::not_found("unknown_drop", "there is no such drop"))?;
    if let Some(other) = &request.drop_id
        && parse_id::<DropId>("dropId", other)? != drop
    {
        return Err(Problem::field("dropId", "is not the drop of the path"));
    }
    place_order(&state, &caller, &headers, drop, &request).await
}

fn parse_id<T: std::str::FromStr>(field: &str, text: &str) -> Result<T, Problem> {
    text.parse().map_err(|_| Problem::field(field, "is not a UUID"))
}

/// Lines summed per variant, in variant order: what the request means, whatever its spelling.
fn summed_lines(drop: DropId, request: &OrderRequest) -> Result<Vec<OrderLine>, Problem> {
    let mut errors = Vec::new();
    let mut fault = |field: String, message: &str| {
        errors.push(FieldError { field, message: message.to_owned() });
    };
    let mut sums: BTreeMap<VariantId, i64> = BTreeMap::new();
    let quantity = "must be a whole number from 1 to 1,000";
    match (&request.qty, &request.lines) {
        (Some(_), Some(_)) => fault("lines".into(), "send `qty` or `lines`, not both"),
        (None, None) => fault("qty".into(), "send `qty` or `lines`"),
        (Some(qty), None) if !(1..=QUANTITY_MAX).contains(qty) => fault("qty".into(), quantity),
        (Some(qty), None) => {
            sums.insert(drop.plain_variant(), *qty);
        }
        (None, Some(lines)) if lines.is_empty() || lines.len() > LINES_MAX => {
            fault("lines".into(), "must have 1 to 8 entries");
        }
        (None, Some(lines)) => {
            for (index, line) in lines.iter().enumerate() {
                if !(1..=QUANTITY_MAX).contains(&line.qty) {
                    fault(format!("lines[{index}].qty"), quantity);
                }
                match line.variant_id.parse() {
                    Ok(variant) => *sums.entry(variant).or_default() += line.qty,
                    Err(_) => fault(format!("lines[{index}].variantId"), "is not a UUID"),
                }
            }
        }
    }
    if request.payment_method_id.as_ref().is_some_and(|id| !(1..=255).contains(&id.chars().count()))
    {
        fault("paymentMethodId".into(), "must be 1 to 255 characters");
    }
    if let Some(total) = &request.expected_total
        && (total.amount.0 < 0 || total.currency.len() != 3)
    {
        fault("expectedTotal".into(), "must be minor units and a three-letter currency");
    }
    if !errors.is_empty() {
        return Err(Problem::fields(errors));
    }
    let lines = sums.into_iter().map(|(variant_id, qty)| OrderLine {
        variant_id,
        qty: i32::try_from(qty).unwrap_or(i32::MAX),
    });
    Ok(lines.collect())
}

/// Covers meaning: not the route, not the member order.
fn request_hash(drop: DropId, lines: &[OrderLine], request: &OrderRequest) -> Hash {
    let lines: Vec<u8> = lines
        .iter()
        .flat_map(|line| [&line.variant_id.0[..], &line.qty.to_be_bytes()].concat())
        .collect();
    let optional =
        |text: Option<&str>| text.map_or_else(Vec::new, |text| [b"=", text.as_bytes()].concat());
    let (amount, currency) = match &request.expected_total {
        None => (Vec::new(), Vec::new()),
        Some(total) => (total.amount.0.to_be_bytes().to_vec(), total.currency.as_bytes().to_vec()),
    };
    let payment = optional(request.payment_method_id.as_deref());
    let if_sold_out = [u8::from(request.if_sold_out == IfSoldOut::Waitlist)];
    Hash::of(&[&drop.0, &lines, &payment, &if_sold_out, &amount, &currency])
}

async fn place_order(
    state: &AppState,
    caller: &Caller,
    headers: &HeaderMap,
    drop: DropId,
    request: &OrderRequest,
) -> Result<Response, Problem> {
    let key = idempotency_key(headers)?;
    let lines = summed_lines(drop, request)?;
    let order_id = OrderId::derive(drop, caller.user, &key);
    if let Some((seen, _)) = state.window.drop_state(drop)
        && seen.drop.status == DropStatus::Upcoming
        && seen.drop.starts_at > now().after(EARLY_MS)
    {
        return Err(too_early(order_id, seen.drop.starts_at));
    }
    let place = PlaceOrder {
        order_id,
        request_hash: request_hash(drop, &lines, request),
        lines,
        payment_method: request.payment_method_id.clone(),
        if_sold_out: request.if_sold_out,
        expected_total: request.expected_total.as_ref().map(|total| total.amount),
        expected_currency: request.expected_total.as_ref().map(|total| total.currency.clone()),
    };
    let intent = OrderIntent {
        actor: Some(caller.user),
        drop_id: Some(drop),
        place: Some(place),
        ..OrderIntent::bare(new_intent_id(), OrderIntentKind::Place, now())
    };
    let partition = drop.partition(state.intake.partitions());
    let taken = take(state, headers, partition, drop.0, intent).await?;
    match &taken.decided {
        Some(decided) => answer_order(state, &taken, decided, true),
        None => Ok(pending_order(order_id, Some(drop.to_string()), taken.position)),
    }
}

pub(crate) fn new_intent_id() -> IntentId {
    platform::clock::random_uuid().into()
}

fn order_id(text: &str) -> Result<OrderId, Problem> {
    text.parse().map_err(|_| unknown_order())
}

fn unknown_order() -> Problem {
    Problem::not_found("unknown_order", "there is no such order")
}

/// Cancels an order. The writer checks whose it is.
#[utoipa::path(delete, path = "/orders/{id}", responses(
    (status = 200, description = "cancelled", body = OrderView), (status = 202, description = "durable"),
    (status = 404, description = "unknown or foreign"), (status = 409, description = "past cancelling")))]
pub(crate) async fn cancel(
    State(state): State<AppState>,
    caller: Caller,
    Path(order): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let order = order_id(&order)?;
    let intent = OrderIntent {
        actor: Some(caller.user),
        order_change: Some(OrderChange { order_id: order }),
        ..OrderIntent::bare(new_intent_id(), OrderIntentKind::Cancel, now())
    };
    let partition = order.partition(state.intake.partitions());
    let taken = take(&state, &headers, partition, order.0, intent).await?;
    match &taken.decided {
        Some(decided) => answer_order(&state, &taken, decided, false),
        None => Ok(pending_order(order, None, taken.position)),
    }
}

/// `waitMs`, `after`, `afterVersion`.
#[derive(Default)]
struct ReadQuery {
    wait_ms: i64,
    after: Option<IntentPosition>,
    after_version: Option<i32>,
}

impl ReadQuery {
    fn parse(query: Option<&str>) -> Result<Self, Problem> {
        let mut parsed = Self::default();
        for pair in query.unwrap_or("").split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let whole = |max: i64| {
                value
                    .parse::<i64>()
                    .ok()
                    .filter(|number| *number >= 0)
                    .map(|number| number.min(max))
                    .ok_or_else(|| Problem::field(name, "must be a whole number, 0 or more"))
            };
            match name {
                "waitMs" => parsed.wait_ms = whole(WAIT_MS_MAX)?,
                "after" => parsed.after = Some(IntentPosition::decode(value)?),
                "afterVersion" => {
                    parsed.after_version = i32::try_from(whole(i64::from(i32::MAX))?).ok();
                }
                other => return Err(Problem::field(other, "is not a parameter of this call")),
            }
        }
        Ok(parsed)
    }
}

/// An order as it is now, or PENDING.
#[utoipa::path(get, path = "/orders/{id}", responses(
    (status = 200, description = "the order", body = OrderView), (status = 404, description = "unknown or foreign")))]
pub(crate) async fn read(
    State(state): State<AppState>,
    caller: Caller,
    Path(order): Path<String>,
    RawQuery(query): RawQuery,
) -> Result<Response, Problem> {
    let order = order_id(&order)?;
    let query = ReadQuery::parse(query.as_deref())?;
    let deadline =
        tokio::time::Instant::now() + Duration::from_millis(query.wait_ms.cast_unsigned());
    loop {
        let (changed, seen) = state.window.watch_order(order);
        // Asked before the archive is read: what was passed by then must be in it.
        let passed = query.after.is_none_or(|after| {
            state.window.order_progress.has_passed(after.partition, after.offset)
        });
        let found = find(&state, order, seen).await?;
        let is_new =
            |row: &OrderRow| query.after_version.is_none_or(|version| row.version > version);
        let is_late = tokio::time::Instant::now() >= deadline;
        match found {
            Found::Row(row) if is_new(&row) || is_late => {
                state.window.forget_order_waiters(order);
                return show(&state, &caller, &row);
            }
            Found::Refused(refusal) => {
                state.window.forget_order_waiters(order);
                return show_refused(&caller, order, &refusal);
            }
            Found::Nothing if passed && (is_late || query.after.is_some()) => {
                state.window.forget_order_waiters(order);
                return Err(unknown_order());
            }
            Found::Nothing if is_late => {
                state.window.forget_order_waiters(order);
                let body = json!({"id": order.to_string(), "status": "PENDING", "serverTime": rfc3339(now())});
                return Ok(Json(body).into_response());
            }
            Found::Row(_) | Found::Nothing => {}
        }
        let passing = async {
            match query.after.filter(|_| !passed) {
                Some(after) => {
                    state.window.order_progress.wait_past(after.partition, after.offset).await;
                }
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = changed => {}
            () = passing => {}
            () = tokio::time::sleep_until(deadline) => {}
        }
    }
}

enum Found {
    Row(std::sync::Arc<OrderRow>),
    Refused(schemas::order::Refusal),
    Nothing,
}

/// The node's window first, then the archive.
async fn find(state: &AppState, order: OrderId, seen: Option<OrderSeen>) -> Result<Found, Problem> {
    match seen {
        Some(OrderSeen::Row { versions }) => {
            Ok(versions.last().cloned().map_or(Found::Nothing, Found::Row))
        }
        Some(OrderSeen::Refused(refusal)) => Ok(Found::Refused(refusal)),
        None => match state.archive.order(order).await {
            Ok(row) => Ok(row.map_or(Found::Nothing, |row| Found::Row(row.into()))),
            Err(error) => Err(archive_problem(&error)),
        },
    }
}

pub(crate) fn archive_problem(error: &ArchiveError) -> Problem {
    let code = match error {
        ArchiveError::NotConfigured => "view_not_configured",
        ArchiveError::Unreachable(_) => "view_unavailable",
    };
    Problem::unavailable(code, error.to_string())
}

fn may_see(state: &AppState, caller: &Caller, row: &OrderRow) -> bool {
    if caller.is_admin || caller.user == row.user_id {
        return true;
    }
    let drop = state.window.drop_state(row.drop_id);
    drop.is_some_and(|(drop, _)| caller.creators.contains(&drop.drop.creator_id))
}

fn show(state: &AppState, caller: &Caller, row: &OrderRow) -> Result<Response, Problem> {
    if !may_see(state, caller, row) {
        return Err(unknown_order());
    }
    let view = OrderView::new(row, state.intake.partitions());
    let etag = format!("\"{}\"", row.version);
    Ok(([(header::ETAG, etag)], Json(view)).into_response())
}

/// A refusal that left no row: shown while this node remembers it.
fn show_refused(
    caller: &Caller,
    order: OrderId,
    refusal: &schemas::order::Refusal,
) -> Result<Response, Problem> {
    if refusal.user_id != Some(caller.user) && !caller.is_admin {
        return Err(unknown_order());
    }
    let body = json!({
        "id": order.to_string(), "status": OrderStatus::Rejected.as_str(),
        "reason": refusal.reason.as_str(), "serverTime": rfc3339(now()),
    });
    Ok(Json(body).into_response())
}

/// An order's changes as server-sent events.
#[utoipa::path(get, path = "/orders/{id}/events", responses(
    (status = 200, description = "event stream"), (status = 204, description = "nothing is pending"),
    (status = 404, description = "unknown or foreign")))]
pub(crate) async fn events(
    State(state): State<AppState>,
    caller: Caller,
    Path(order): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let order = order_id(&order)?;
    let last = match headers.get("last-event-id").and_then(|value| value.to_str().ok()) {
        None => 0,
        Some(text) => text
            .parse::<i32>()
            .map_err(|_| Problem::field("Last-Event-ID", "is not an id this stream has given"))?,
    };
    let (_, seen) = state.window.watch_order(order);
    state.window.forget_order_waiters(order);
    if let Found::Row(row) = find(&state, order, seen).await? {
        if !may_see(&state, &caller, &row) {
            return Err(unknown_order());
        }
        if is_settled(row.status) && last >= row.version {
            return Ok(StatusCode::NO_CONTENT.into_response());
        }
    }
    let mut response = streams::order_stream(state, caller, order, last).into_response();
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}

/// Nothing is pending any more: no hold, no charge.
pub(crate) fn is_settled(status: OrderStatus) -> bool {
    status != OrderStatus::Reserved
}

/// The versions of an order after `last`, for its stream; `None` where the caller may not see it.
pub(crate) async fn versions_after(
    state: &AppState,
    caller: &Caller,
    order: OrderId,
    seen: Option<OrderSeen>,
    last: i32,
) -> Option<Vec<std::sync::Arc<OrderRow>>> {
    let versions = match seen {
        Some(OrderSeen::Row { versions }) => versions,
        other => match find(state, order, other).await {
            Ok(Found::Row(row)) => vec![row],
            Ok(Found::Refused(_) | Found::Nothing) | Err(_) => Vec::new(),
        },
    };
    if let Some(row) = versions.last()
        && !may_see(state, caller, row)
    {
        return None;
    }
    Some(versions.into_iter().filter(|row| row.version > last).collect())
}
