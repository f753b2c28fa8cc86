//! A log that does not answer: load is shed before it, and an unknown outcome is reported as unknown.

use std::sync::{Arc, Mutex};

use axum::body::Body;
use axum::http::{Request, Response};
use http_body_util::BodyExt;
use ingest_api::archive::{Answer, Archive, ArchiveError, DropState, Reading};
use ingest_api::{Intake, Settings, Verifier, Window};
use runtime::{AppendError, IntentAppender, IntentToAppend};
use schemas::ids::{CreatorId, DropId, OrderId, UserId};
use schemas::order::OrderRow;
use schemas::partition::Partition;
use schemas::units::Millis;
use serde_json::Value;
use tokio::sync::oneshot;
use tower::ServiceExt;

use super::keys::{ED25519_PUBLIC, token};

type Held = Arc<Mutex<Vec<oneshot::Sender<Result<i64, AppendError>>>>>;

/// A log that takes everything and acknowledges nothing until told.
#[derive(Clone, Default)]
struct SilentLog(Held);

impl IntentAppender for SilentLog {
    fn append(&self, _: IntentToAppend) -> oneshot::Receiver<Result<i64, AppendError>> {
        let (answer, receiver) = oneshot::channel();
        self.0.lock().unwrap().push(answer);
        receiver
    }

    fn is_reachable(&self) -> bool {
        true
    }
}

/// Neither a view nor a store.
struct NoArchive;

impl Archive for NoArchive {
    fn shows(&self, _: Partition, _: i64) -> Answer<'_, bool> {
        Box::pin(std::future::ready(Err(ArchiveError::NotConfigured)))
    }

    fn order(&self, _: OrderId) -> Reading<'_, OrderRow> {
        Box::pin(std::future::ready(Err(ArchiveError::NotConfigured)))
    }

    fn drop_state(&self, _: DropId) -> Reading<'_, DropState> {
        Box::pin(std::future::ready(Err(ArchiveError::NotConfigured)))
    }

    fn follow(&self, _: CreatorId, _: UserId) -> Reading<'_, Millis> {
        Box::pin(std::future::ready(Err(ArchiveError::NotConfigured)))
    }
}

fn router(log: &SilentLog, in_flight_max: usize) -> axum::Router {
    ingest_api::router(Settings {
        verifier: Verifier::new(&[ED25519_PUBLIC.to_owned()]).unwrap(),
        intake: Intake::new(Arc::new(log.clone()), 1, (1, 3), in_flight_max),
        window: Arc::new(Window::new(1)),
        archive: Arc::new(NoArchive),
        partitions: Arc::new(Vec::new),
        render_metrics: Arc::new(String::new),
    })
}

fn order(key: &str) -> Request<Body> {
    Request::post(format!("/drops/{}/orders", DropId([1; 16])))
        .header("authorization", format!("Bearer {}", token(UserId([5; 16]), "")))
        .header("idempotency-key", key)
        .header("content-type", "application/json")
        .body(Body::from("{\"qty\":1}"))
        .unwrap()
}

async fn problem(response: Response<Body>) -> (u16, Value, Option<String>) {
    let status = response.status().as_u16();
    let retry_after =
        response.headers().get("retry-after").map(|value| value.to_str().unwrap().to_owned());
    let body = response.into_body().collect().await.unwrap().to_bytes();
    (status, serde_json::from_slice(&body).unwrap(), retry_after)
}

/// Lets spawned requests run until the log holds `count` intents.
async fn until_held(log: &SilentLog, count: usize) {
    while log.0.lock().unwrap().len() < count {
        tokio::task::yield_now().await;
    }
}

#[tokio::test(start_paused = true)]
async fn beyond_the_limit_nothing_is_written_and_the_client_may_retry() {
    let log = SilentLog::default();
    let router = router(&log, 2);
    let waiting: Vec<_> = ["a", "b"]
        .map(|key| tokio::spawn(router.clone().oneshot(order(key))))
        .into_iter()
        .collect();
    until_held(&log, 2).await;
    let (status, body, retry_after) =
        problem(router.clone().oneshot(order("c")).await.unwrap()).await;
    assert_eq!(
        (status, body["code"].as_str(), body["retry"].as_str()),
        (503, Some("overloaded"), Some("safe"))
    );
    assert_eq!(retry_after.as_deref(), Some("1"));
    assert_eq!(log.0.lock().unwrap().len(), 2, "nothing was written");
    for answer in log.0.lock().unwrap().drain(..) {
        answer.send(Ok(0)).unwrap();
    }
    for response in waiting {
        assert_eq!(response.await.unwrap().unwrap().status(), 202);
    }
}

#[tokio::test(start_paused = true)]
async fn a_log_that_stays_silent_or_fails_is_an_unknown_outcome() {
    let log = SilentLog::default();
    let router = router(&log, 10);
    let (status, body, _) = problem(router.clone().oneshot(order("silent")).await.unwrap()).await;
    assert_eq!(
        (status, body["code"].as_str(), body["retry"].as_str()),
        (504, Some("outcome_unknown"), Some("same-key"))
    );
    for (error, expected) in [
        (AppendError::Unknown("timed out".into()), (504, "outcome_unknown", "same-key")),
        (AppendError::NotWritten("queue full".into()), (503, "log_unavailable", "safe")),
    ] {
        log.0.lock().unwrap().clear();
        let sending = tokio::spawn(router.clone().oneshot(order("failing")));
        until_held(&log, 1).await;
        log.0.lock().unwrap().pop().unwrap().send(Err(error)).unwrap();
        let (status, body, _) = problem(sending.await.unwrap().unwrap()).await;
        assert_eq!(
            (status, body["code"].as_str().unwrap(), body["retry"].as_str().unwrap()),
            expected
        );
    }
}
