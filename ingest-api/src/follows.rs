//! Follow and unfollow, and the check of one pair.

use std::time::Duration;

use axum::Json;
use axum::extract::{Path, RawQuery, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use schemas::follow::{FollowChange, FollowIntent, FollowIntentKind};
use schemas::ids::{CreatorId, UserId};
use schemas::topics::FOLLOW_INTENTS;
use serde_json::json;

use crate::app::{AppState, correlation_id, traceparent};
use crate::auth::Caller;
use crate::body::preferred_wait_ms;
use crate::drop_reads::{READ_OWN_WRITE, after_of, drop_elapsed};
use crate::order_reads::archive_problem;
use crate::orders::new_intent_id;
use crate::position::IntentPosition;
use crate::problem::Problem;
use crate::views::{now, rfc3339};

/// Follows a creator.
#[utoipa::path(post, path = "/creators/{creator}/follow", responses(
    (status = 200, description = "decided"), (status = 202, description = "durable"),
    (status = 401, description = "who are you")))]
pub(crate) async fn follow(
    State(state): State<AppState>,
    caller: Caller,
    Path(creator): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    change(&state, &caller, &creator, &headers, FollowIntentKind::Follow).await
}

/// Stops following a creator.
#[utoipa::path(delete, path = "/creators/{creator}/follow", responses(
    (status = 200, description = "decided"), (status = 202, description = "durable"),
    (status = 401, description = "who are you")))]
pub(crate) async fn unfollow(
    State(state): State<AppState>,
    caller: Caller,
    Path(creator): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    change(&state, &caller, &creator, &headers, FollowIntentKind::Unfollow).await
}

async fn change(
    state: &AppState,
    caller: &Caller,
    creator: &str,
    headers: &HeaderMap,
    kind: FollowIntentKind,
) -> Result<Response, Problem> {
    let creator: CreatorId = creator
        .parse()
        .map_err(|_| Problem::not_found("unknown_creator", "there is no such creator"))?;
    let wait_ms = preferred_wait_ms(headers)?;
    let intent = FollowIntent {
        intent_id: new_intent_id(),
        correlation_id: correlation_id(headers),
        kind,
        actor: Some(caller.user),
        sent_at: now(),
        follow_change: Some(FollowChange { creator_id: creator, user_id: caller.user }),
    };
    let mut value = state.intake.follow_value();
    schemas::avro::FOLLOW_INTENT.encode(&intent, &mut value);
    let waiter = wait_ms.map(|_| state.window.await_follow_decision(intent.intent_id));
    let partition = creator.partition(state.intake.partitions());
    let appended = state
        .intake
        .append(FOLLOW_INTENTS, partition, creator.0, value, traceparent(headers))
        .await;
    let mut status = StatusCode::ACCEPTED;
    if let (Ok(_), Some(waiter), Some(wait_ms)) = (&appended, waiter, wait_ms) {
        let wait = Duration::from_millis(wait_ms.max(0).cast_unsigned());
        if matches!(tokio::time::timeout(wait, waiter).await, Ok(Ok(_))) {
            status = StatusCode::OK;
        }
    }
    state.window.forget_follow_decision(intent.intent_id);
    let position = IntentPosition { partition, offset: appended? };
    let body = json!({
        "creatorId": creator.to_string(), "userId": caller.user.to_string(),
        "following": kind == FollowIntentKind::Follow, "position": position.encode(),
    });
    Ok((status, Json(body)).into_response())
}

/// Whether a user follows a creator.
#[utoipa::path(get, path = "/users/{user}/follows/{creator}", responses(
    (status = 200, description = "{follows, since?}"), (status = 404, description = "not a pair of ids")))]
pub(crate) async fn read(
    State(state): State<AppState>,
    Path((user, creator)): Path<(String, String)>,
    RawQuery(query): RawQuery,
) -> Result<Response, Problem> {
    let unknown = || Problem::not_found("not_found", "not a pair of ids");
    let user: UserId = user.parse().map_err(|_| unknown())?;
    let creator: CreatorId = creator.parse().map_err(|_| unknown())?;
    if let Some(after) = after_of(query.as_deref())? {
        let passed = state.window.follow_progress.wait_past(after.partition, after.offset);
        drop_elapsed(tokio::time::timeout(READ_OWN_WRITE, passed).await);
    }
    let since = match state.window.follow(creator, user) {
        Some(row) => row.following.then_some(row.since),
        None => {
            state.archive.follow(creator, user).await.map_err(|error| archive_problem(&error))?
        }
    };
    let body = match since {
        Some(since) => json!({"follows": true, "since": rfc3339(since)}),
        None => json!({"follows": false}),
    };
    Ok(Json(body).into_response())
}
