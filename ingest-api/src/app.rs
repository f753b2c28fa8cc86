//! The routes, and what every handler shares.

use std::sync::Arc;

use axum::Router;
use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderMap, StatusCode};
use axum::middleware::{self, Next};
use axum::response::Response;
use axum::routing::get;
use runtime::PartitionStatus;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::archive::Archive;
use crate::auth::Verifier;
use crate::intake::Intake;
use crate::problem::{Problem, Retry};
use crate::window::Window;
use crate::{
    drop_reads, drops, follows, operations, order_commands, order_reads, orders, schedule,
};

/// How the partitions owned by this process are doing.
pub type Partitions = Arc<dyn Fn() -> Vec<PartitionStatus> + Send + Sync>;
/// Metrics in Prometheus' text format.
pub type RenderMetrics = Arc<dyn Fn() -> String + Send + Sync>;

/// What a node is made of.
pub struct Settings {
    /// Checks tokens.
    pub verifier: Verifier,
    /// Appends intents.
    pub intake: Intake,
    /// Committed decisions.
    pub window: Arc<Window>,
    /// Older rows.
    pub archive: Arc<dyn Archive>,
    /// Partitions owned by this process, for readiness.
    pub partitions: Partitions,
    /// Renders metrics.
    pub render_metrics: RenderMetrics,
}

impl std::fmt::Debug for Settings {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Settings").field("intake", &self.intake).finish_non_exhaustive()
    }
}

/// Shared by every handler.
pub type AppState = Arc<Settings>;

/// The public interface.
pub fn router(settings: Settings) -> Router {
    let state: AppState = Arc::new(settings);
    let (api, document) = OpenApiRouter::new()
        .routes(routes!(orders::place))
        .routes(routes!(orders::place_in_drop))
        .routes(routes!(order_reads::read, order_commands::cancel))
        .routes(routes!(order_reads::events))
        .routes(routes!(order_commands::extend))
        .routes(routes!(order_commands::pay))
        .routes(routes!(order_commands::refund))
        .routes(routes!(schedule::schedule))
        .routes(routes!(drops::open))
        .routes(routes!(drops::close))
        .routes(routes!(drops::pause))
        .routes(routes!(drops::resume))
        .routes(routes!(drops::abort))
        .routes(routes!(drops::restock))
        .routes(routes!(drops::withdraw))
        .routes(routes!(drop_reads::read, schedule::edit, drops::delete))
        .routes(routes!(drop_reads::events))
        .routes(routes!(follows::follow, follows::unfollow))
        .routes(routes!(follows::read))
        .routes(routes!(operations::time))
        .routes(routes!(operations::healthz))
        .routes(routes!(operations::readyz))
        .routes(routes!(operations::metrics))
        .split_for_parts();
    let document = Arc::new(operations::describe(document));
    api.route("/openapi.json", get(move || async move { axum::Json(document.as_ref().clone()) }))
        .fallback(not_found)
        .method_not_allowed_fallback(method_not_allowed)
        .layer(middleware::from_fn_with_state(state.clone(), measure))
        .with_state(state)
}

/// Health, readiness and metrics alone, for processes without the API.
pub fn health_router(partitions: Partitions, render_metrics: RenderMetrics) -> Router {
    let ready = partitions.clone();
    Router::new()
        .route("/healthz", get(operations::healthz))
        .route("/readyz", get(move || async move { operations::readiness(&ready(), true) }))
        .route(
            "/metrics",
            get(move || async move { operations::rendered(&partitions(), &render_metrics) }),
        )
        .fallback(not_found)
}

async fn not_found() -> Problem {
    Problem::not_found("not_found", "no such resource")
}

async fn method_not_allowed() -> Problem {
    let detail = "the resource does not take this method";
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", Retry::Never, detail)
}

async fn measure(State(_): State<AppState>, request: Request, next: Next) -> Response {
    let route = request.extensions().get::<MatchedPath>().map(|path| path.as_str().to_owned());
    let started = platform::clock::monotonic();
    let response = next.run(request).await;
    let route = route.unwrap_or_else(|| "unmatched".into());
    let status = response.status().as_str().to_owned();
    metrics::histogram!("livedrops_http_seconds", "route" => route, "status" => status)
        .record(started.elapsed().as_secs_f64());
    response
}

/// The request's id, for the log and the decision's correlation id.
pub(crate) fn correlation_id(headers: &HeaderMap) -> Option<String> {
    let id = headers.get("x-request-id")?.to_str().ok()?;
    (!id.is_empty() && id.len() <= 128).then(|| id.to_owned())
}

/// W3C trace context of the request.
pub(crate) fn traceparent(headers: &HeaderMap) -> Option<String> {
    let value = headers.get("traceparent")?.to_str().ok()?;
    (value.len() <= 128).then(|| value.to_owned())
}
