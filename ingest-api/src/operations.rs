//! Health, readiness, metrics, time, the API's own description.

use axum::Json;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use runtime::{PartitionState, PartitionStatus};
use serde_json::{Value, json};
use utoipa::openapi::OpenApi;

use crate::app::{AppState, RenderMetrics};
use crate::views::{now, rfc3339};

/// The server's clock.
#[utoipa::path(get, path = "/time", responses((status = 200, description = "now, RFC 3339")))]
pub(crate) async fn time() -> Json<Value> {
    Json(json!({"now": rfc3339(now())}))
}

/// The process is alive.
#[utoipa::path(get, path = "/healthz", responses((status = 200, description = "alive")))]
pub(crate) async fn healthz() -> &'static str {
    "ok"
}

/// Whether the log takes intents and every owned partition decides; names those that do not.
#[utoipa::path(get, path = "/readyz", responses(
    (status = 200, description = "ready"), (status = 503, description = "not ready, with the reasons")))]
pub(crate) async fn readyz(State(state): State<AppState>) -> Response {
    readiness(&(state.partitions)(), state.intake.is_reachable())
}

/// 200 when the log takes intents and every partition decides, or stands by.
pub(crate) fn readiness(statuses: &[PartitionStatus], log: bool) -> Response {
    let partitions: Vec<Value> = statuses
        .iter()
        .map(|status| {
            let snapshot = status.snapshot();
            let (word, reason) = match snapshot.state {
                PartitionState::Recovering => ("recovering", None),
                PartitionState::Running => ("running", None),
                PartitionState::Stalled(why) => ("stalled", Some(why)),
                PartitionState::Refused(why) => ("refused", Some(why)),
                PartitionState::Standby => ("standby", None),
                PartitionState::Stopped => ("stopped", None),
            };
            json!({
                "processor": status.processor, "partition": status.partition.0, "state": word,
                "reason": reason, "seq": snapshot.seq, "nextIntentOffset": snapshot.next_intent_offset,
                "transactions": snapshot.transactions, "decisions": snapshot.decisions,
            })
        })
        .collect();
    let is_well = |state: &Value| state == "running" || state == "standby";
    let is_ready = log && partitions.iter().all(|partition| is_well(&partition["state"]));
    let status = if is_ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let body = json!({"ready": is_ready, "log": log, "partitions": partitions});
    (status, Json(body)).into_response()
}

/// Metrics in Prometheus' text format.
#[utoipa::path(get, path = "/metrics", responses((status = 200, description = "Prometheus text")))]
pub(crate) async fn metrics(State(state): State<AppState>) -> Response {
    rendered(&(state.partitions)(), &state.render_metrics)
}

/// The partitions' gauges brought up to date, then every metric.
pub(crate) fn rendered(statuses: &[PartitionStatus], render: &RenderMetrics) -> Response {
    for status in statuses {
        let snapshot = status.snapshot();
        let labels = [
            ("processor", status.processor.to_owned()),
            ("partition", status.partition.to_string()),
        ];
        #[allow(clippy::cast_precision_loss, reason = "gauges are doubles")]
        metrics::gauge!("livedrops_partition_seq", &labels).set(snapshot.seq as f64);
        let is_running = f64::from(u8::from(snapshot.state == PartitionState::Running));
        metrics::gauge!("livedrops_partition_running", &labels).set(is_running);
        metrics::counter!("livedrops_decisions_total", &labels).absolute(snapshot.decisions);
        metrics::counter!("livedrops_transactions_total", &labels).absolute(snapshot.transactions);
    }
    let text = render();
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], text).into_response()
}

/// Adds what the routes alone do not say.
pub(crate) fn describe(mut document: OpenApi) -> OpenApi {
    document.info.title = "Live Drops".into();
    document.info.version = env!("CARGO_PKG_VERSION").into();
    document.info.description =
        Some("Limited stock at a set instant. Errors are RFC 9457 problem documents.".into());
    document
}
