//! Orders by id: read, wait, stream.

use std::time::Duration;

use axum::Json;
use axum::extract::{Path, RawQuery, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use schemas::ids::OrderId;
use schemas::order::{OrderRow, OrderStatus};
use serde_json::json;

use crate::app::AppState;
use crate::archive::ArchiveError;
use crate::auth::Caller;
use crate::body::WAIT_MS_MAX;
use crate::position::IntentPosition;
use crate::problem::Problem;
use crate::streams;
use crate::views::{OrderView, now, rfc3339};
use crate::window::OrderSeen;

pub(crate) fn order_id(text: &str) -> Result<OrderId, Problem> {
    text.parse().map_err(|_| unknown_order())
}

fn unknown_order() -> Problem {
    Problem::not_found("unknown_order", "there is no such order")
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
        let (watch, seen) = state.window.watch_order(order);
        // Asked before the archive is read: what was passed by then must be in it.
        let passed = query.after.is_none_or(|after| {
            state.window.order_progress.has_passed(after.partition, after.offset)
        });
        let found = find(&state, order, seen).await?;
        let is_new =
            |row: &OrderRow| query.after_version.is_none_or(|version| row.version > version);
        let is_late = tokio::time::Instant::now() >= deadline;
        match found {
            // A row from before `after` is not yet what the client wrote.
            Found::Row(row) if (passed && is_new(&row)) || is_late => {
                return show(&state, &caller, &row);
            }
            // One from before `after` may be of an earlier try with the same key.
            Found::Refused(refusal) if passed => {
                return show_refused(&caller, order, &refusal);
            }
            Found::Nothing if passed && (is_late || query.after.is_some()) => {
                return Err(unknown_order());
            }
            Found::Nothing | Found::Refused(_) if is_late => {
                let body = json!({"id": order.to_string(), "status": "PENDING", "serverTime": rfc3339(now())});
                return Ok(Json(body).into_response());
            }
            Found::Row(_) | Found::Refused(_) | Found::Nothing => {}
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
            () = watch.changed() => {}
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
    let creator = state.window.creator_of(row.drop_id);
    creator.is_some_and(|creator| caller.creators.contains(&creator))
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
    if let Found::Row(row) = find(&state, order, seen).await? {
        if !may_see(&state, &caller, &row) {
            return Err(unknown_order());
        }
        if is_settled(&row) && last >= row.version {
            return Ok(StatusCode::NO_CONTENT.into_response());
        }
    }
    let mut response = streams::order_stream(state, caller, order, last).into_response();
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}

/// Nothing is pending any more: no hold, no waitlist entry, no offer, no charge, no refund.
pub(crate) fn is_settled(row: &OrderRow) -> bool {
    let is_open = matches!(
        row.status,
        OrderStatus::Reserved
            | OrderStatus::Waitlisted
            | OrderStatus::Offered
            | OrderStatus::RefundPending
    );
    !is_open && row.operation.is_none()
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
