//! The endpoint that providers call, and the worker behind it, over HTTP.

#![allow(missing_docs, clippy::unwrap_used, reason = "tests")]

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use payments::client::SimulatedProvider;
use payments::provider::Provider as _;
use payments::webhook::{router, sign};
use payments::worker::{OutcomeLog, Worker};
use runtime::{AppendError, IntentAppender, IntentToAppend};
use schemas::avro;
use schemas::framing::HEADER_LENGTH;
use schemas::order::{OrderIntent, ProviderOperationKind};
use serde_json::json;
use tokio::sync::oneshot;

const SECRET: &str = "whsec";

/// A log that is away until told otherwise.
#[derive(Default)]
struct Log {
    is_up: AtomicBool,
    tries: AtomicUsize,
    intents: Mutex<Vec<OrderIntent>>,
}

impl IntentAppender for Log {
    fn append(&self, intent: IntentToAppend) -> oneshot::Receiver<Result<i64, AppendError>> {
        let (answer, acknowledged) = oneshot::channel();
        self.tries.fetch_add(1, Ordering::SeqCst);
        let result = if self.is_up.load(Ordering::SeqCst) {
            let intent = avro::ORDER_INTENT.decode(&intent.value[HEADER_LENGTH..]).unwrap();
            let mut intents = self.intents.lock().unwrap();
            intents.push(intent);
            Ok(i64::try_from(intents.len()).unwrap())
        } else {
            Err(AppendError::NotWritten("away".into()))
        };
        let _ = answer.send(result);
        acknowledged
    }

    fn is_reachable(&self) -> bool {
        self.is_up.load(Ordering::SeqCst)
    }
}

#[tokio::test]
async fn an_event_is_taken_once_it_is_in_the_log_and_not_before() {
    let log = Arc::new(Log::default());
    let provider = SimulatedProvider::new("http://127.0.0.1:9").unwrap();
    let (worker, tell) = Worker::new(provider, OutcomeLog::new(log.clone(), 4, 1));
    let running = tokio::spawn(worker.run());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/webhooks/simulated", listener.local_addr().unwrap());
    let endpoint = router::<SimulatedProvider>(SECRET.into(), tell);
    let serving = tokio::spawn(async move { axum::serve(listener, endpoint).await });

    let order = "00010203-0405-0607-0809-0a0b0c0d0e0f";
    let body =
        json!({"id": "evt_1", "operation": {"orderId": order, "attempt": 1, "operation": "capture",
        "status": "succeeded", "captured": false, "amount": 1, "currency": "EUR", "detail": null}})
        .to_string();
    let send = async || {
        let now_seconds = platform::clock::now_ms() / 1_000;
        let signature = sign(SECRET, body.as_bytes(), now_seconds);
        let request = reqwest::Client::new().post(&url).body(body.clone());
        let request = request.header(SimulatedProvider::SIGNATURE_HEADER, signature);
        request.send().await.unwrap().status().as_u16()
    };
    assert_eq!(send().await, 503, "the log is away: send it again");
    log.is_up.store(true, Ordering::SeqCst);
    assert_eq!(send().await, 200);
    assert_eq!(send().await, 200, "a third delivery");
    assert_eq!(log.tries.load(Ordering::SeqCst), 2, "the third delivery has no effect");
    let intents = log.intents.lock().unwrap();
    let outcome = intents[0].payment_outcome.as_ref().unwrap();
    assert_eq!((intents.len(), outcome.operation), (1, ProviderOperationKind::Capture));
    assert_eq!(outcome.order_id.to_string(), order);
    serving.abort();
    running.abort();
}
