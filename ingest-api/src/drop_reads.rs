//! Drops by id: read, stream.

use std::time::Duration;

use axum::Json;
use axum::extract::{Path, RawQuery, State};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use schemas::ids::DropId;

use crate::app::AppState;
use crate::archive::DropState;
use crate::auth::TokenAhead;
use crate::drops::drop_id;
use crate::order_reads::archive_problem;
use crate::position::IntentPosition;
use crate::problem::Problem;
use crate::streams;
use crate::views::DropView;

/// `?after=` waits this long for this node to catch up.
pub(crate) const READ_OWN_WRITE: Duration = Duration::from_secs(2);

/// The drop with the position this node has come to.
pub(crate) fn view(state: &AppState, found: &DropState) -> DropView {
    let partition = found.drop.drop_id.partition(state.intake.partitions());
    let offset = state.window.order_progress.last_decided(partition);
    DropView::new(found, IntentPosition { partition, offset })
}

pub(crate) fn unknown_drop() -> Problem {
    Problem::not_found("unknown_drop", "there is no such drop")
}

/// The node's window first, then the archive, whose answer the window keeps.
pub(crate) async fn find(state: &AppState, drop: DropId) -> Result<Option<DropState>, Problem> {
    if let Some((seen, _)) = state.window.drop_state(drop).filter(|(seen, _)| is_whole(seen)) {
        return Ok(Some(seen));
    }
    let found = state.archive.drop_state(drop).await.map_err(|error| archive_problem(&error))?;
    let Some(found) = found else { return Ok(None) };
    state.window.adopt_drop(found.clone());
    // With what the window had seen of it.
    Ok(Some(state.window.drop_state(drop).map_or(found, |(seen, _)| seen)))
}

/// A drop seen only in part, because its stock rows are older than the window, must come from the archive.
fn is_whole(state: &DropState) -> bool {
    state.stocks.len() == state.drop.variants.len()
}

/// A drop as it is now.
#[utoipa::path(get, path = "/drops/{id}", responses(
    (status = 200, description = "the drop", body = DropView), (status = 404, description = "unknown_drop")))]
pub(crate) async fn read(
    State(state): State<AppState>,
    _: TokenAhead,
    Path(drop): Path<String>,
    RawQuery(query): RawQuery,
) -> Result<Response, Problem> {
    let drop = drop_id(&drop)?;
    if let Some(after) = after_of(query.as_deref())? {
        let passed = state.window.order_progress.wait_past(after.partition, after.offset);
        // Late is not wrong: the client gets what this node knows.
        drop_elapsed(tokio::time::timeout(READ_OWN_WRITE, passed).await);
    }
    let found = find(&state, drop).await?.ok_or_else(unknown_drop)?;
    let sold: i64 = found.stocks.iter().map(|stock| stock.available.0 ^ (stock.sold.0 << 20)).sum();
    let etag = format!("\"{}-{sold:x}\"", found.drop.version);
    let cache = (header::CACHE_CONTROL, "public, max-age=1".to_owned());
    Ok(([cache, (header::ETAG, etag)], Json(view(&state, &found))).into_response())
}

pub(crate) fn drop_elapsed(result: Result<(), tokio::time::error::Elapsed>) {
    drop(result);
}

/// The `after` parameter, the only one of browse calls by id.
pub(crate) fn after_of(query: Option<&str>) -> Result<Option<IntentPosition>, Problem> {
    let mut after = None;
    for pair in query.unwrap_or("").split('&').filter(|pair| !pair.is_empty()) {
        match pair.split_once('=') {
            Some(("after", value)) => after = Some(IntentPosition::decode(value)?),
            _ => return Err(Problem::field(pair, "is not a parameter of this call")),
        }
    }
    Ok(after)
}

/// A drop's changes as server-sent events.
#[utoipa::path(get, path = "/drops/{id}/events", responses(
    (status = 200, description = "event stream"), (status = 404, description = "unknown_drop")))]
pub(crate) async fn events(
    State(state): State<AppState>,
    _: TokenAhead,
    Path(drop): Path<String>,
) -> Result<Response, Problem> {
    let drop = drop_id(&drop)?;
    find(&state, drop).await?.ok_or_else(unknown_drop)?;
    let (shown, changes) = state.window.drop_state(drop).ok_or_else(unknown_drop)?;
    Ok(streams::drop_stream(state, shown, changes).into_response())
}
