//! Orders by id: read, wait, stream.

use std::time::Duration;

use axum::Json;
use axum::extract::{Path, RawQuery, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use schemas::ids::OrderId;
use schemas::order::{OrderRow, OrderStatus, Refusal};
use serde_json::json;

use crate::app::AppState;
use crate::archive::ArchiveError;
use crate::auth::Caller;
use crate::body::WAIT_MS_MAX;
use crate::drop_reads;
use crate::position::IntentPosition;
use crate::problem::Problem;
use crate::streams;
use crate::views::{OrderView, now, rfc3339};
use crate::window::OrderSeen;

/// How often a view that trails is asked again.
const ARCHIVE_POLL: Duration = Duration::from_millis(200);

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
        // Asked before anything is read: what was passed by then must be there.
        let is_decided = query.after.is_none_or(|after| {
            state.window.order_progress.has_passed(after.partition, after.offset)
        });
        let (watch, seen) = state.window.watch_order(order);
        let is_late = tokio::time::Instant::now() >= deadline;
        let (is_shown, found) = if seen.is_some() || is_decided || is_late {
            look(&state, order, seen, query.after.filter(|_| is_decided)).await
        } else {
            (false, Ok(Found::Nothing)) // no archive knows what is not decided
        };
        let is_now = is_decided && is_shown;
        let is_new =
            |row: &OrderRow| query.after_version.is_none_or(|version| row.version > version);
        match found {
            // A row from before `after` is not yet what the client wrote.
            Ok(Found::Row(row)) if (is_now && is_new(&row)) || is_late => {
                return show(&state, &caller, &row).await;
            }
            // One from before `after` may be of an earlier try with the same key.
            Ok(Found::Refused(refusal)) if is_now => {
                return show_refused(&caller, order, &refusal);
            }
            Ok(Found::Nothing) if is_now && (is_late || query.after.is_some()) => {
                return Err(unknown_order());
            }
            Err(error) if is_decided && (is_late || query.after.is_some()) => {
                return Err(archive_problem(&error));
            }
            // An archive that is away says nothing of what is not decided.
            _ if is_late => return Ok(Json(pending(order)).into_response()),
            _ => {}
        }
        let passing = async {
            match query.after {
                Some(after) if !is_decided => {
                    state.window.order_progress.wait_past(after.partition, after.offset).await;
                }
                Some(_) if !is_shown => tokio::time::sleep(ARCHIVE_POLL).await,
                _ => std::future::pending().await,
            }
        };
        tokio::select! {
            () = watch.changed() => {}
            () = passing => {}
            () = tokio::time::sleep_until(deadline) => {}
        }
    }
}

pub(crate) fn pending(order: OrderId) -> serde_json::Value {
    json!({"id": order.to_string(), "status": "PENDING", "serverTime": rfc3339(now())})
}

enum Found {
    Row(std::sync::Arc<OrderRow>),
    Refused(Refusal),
    Nothing,
}

/// The node's window first, then the archive. And whether that has come past `after`: a view trails the log.
async fn look(
    state: &AppState,
    order: OrderId,
    seen: Option<OrderSeen>,
    after: Option<IntentPosition>,
) -> (bool, Result<Found, ArchiveError>) {
    let is_shown = match after {
        Some(after) if seen.is_none() => state.archive.shows(after.partition, after.offset).await,
        _ => Ok(true),
    };
    match is_shown {
        Ok(is_shown) => (is_shown, find(state, order, seen).await),
        Err(error) => (false, Err(error)),
    }
}

async fn find(
    state: &AppState,
    order: OrderId,
    seen: Option<OrderSeen>,
) -> Result<Found, ArchiveError> {
    match seen {
        Some(OrderSeen::Row { versions }) => {
            Ok(versions.last().cloned().map_or(Found::Nothing, Found::Row))
        }
        Some(OrderSeen::Refused(refusal)) => Ok(Found::Refused(refusal)),
        None => {
            let row = state.archive.order(order).await?;
            Ok(row.map_or(Found::Nothing, |row| Found::Row(row.into())))
        }
    }
}

pub(crate) fn archive_problem(error: &ArchiveError) -> Problem {
    let code = match error {
        ArchiveError::NotConfigured => "view_not_configured",
        ArchiveError::Unreachable(_) => "view_unavailable",
    };
    Problem::unavailable(code, error.to_string())
}

/// The buyer, an admin, or whoever may write for the drop's creator.
async fn may_see(state: &AppState, caller: &Caller, row: &OrderRow) -> Result<bool, Problem> {
    if caller.is_admin || caller.user == row.user_id {
        return Ok(true);
    }
    if caller.creators.is_empty() {
        return Ok(false);
    }
    let found = drop_reads::find(state, row.drop_id).await?;
    Ok(found.is_some_and(|found| caller.creators.contains(&found.drop.creator_id)))
}

async fn show(state: &AppState, caller: &Caller, row: &OrderRow) -> Result<Response, Problem> {
    if !may_see(state, caller, row).await? {
        return Err(unknown_order());
    }
    let view = OrderView::new(row, state.intake.partitions());
    let etag = format!("\"{}\"", row.version);
    Ok(([(header::ETAG, etag)], Json(view)).into_response())
}

/// A refusal that left no row: shown while this node remembers it.
fn show_refused(caller: &Caller, order: OrderId, refusal: &Refusal) -> Result<Response, Problem> {
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
    match find(&state, order, seen).await {
        Ok(Found::Row(row)) => {
            if !may_see(&state, &caller, &row).await? {
                return Err(unknown_order());
            }
            if is_settled(&row) && last >= row.version {
                return Ok(StatusCode::NO_CONTENT.into_response());
            }
        }
        Err(error @ ArchiveError::Unreachable(_)) => return Err(archive_problem(&error)),
        // Not decided yet, as far as this node can tell: its stream begins with PENDING.
        Ok(Found::Refused(_) | Found::Nothing) | Err(ArchiveError::NotConfigured) => {}
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

/// Every version there is to tell of, oldest first, for an order's stream; `None` where the caller may not see it. None is
/// told of one that is not decided, or was refused and left no row: its key is unspent, and may be decided anew.
pub(crate) async fn versions(
    state: &AppState,
    caller: &Caller,
    order: OrderId,
    seen: Option<OrderSeen>,
) -> Option<Vec<std::sync::Arc<OrderRow>>> {
    let versions = match seen {
        Some(OrderSeen::Row { versions }) => versions,
        other => match find(state, order, other).await {
            Ok(Found::Row(row)) => vec![row],
            Ok(Found::Refused(_) | Found::Nothing) | Err(_) => Vec::new(),
        },
    };
    if let Some(row) = versions.last()
        && !may_see(state, caller, row).await.unwrap_or(false)
    {
        return None;
    }
    Some(versions)
}
