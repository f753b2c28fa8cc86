//! Orders and drops by id while the node's window, the view and the writer are not at the same point.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::body::Body;
use axum::http::request::Builder;
use axum::http::{Request, Response};
use http_body_util::BodyExt;
use ingest_api::archive::{Answer, Archive, ArchiveError, DropState, Reading};
use ingest_api::window::OrderDecided;
use ingest_api::{Intake, Settings, Verifier, Window};
use runtime::{AppendError, IntentAppender, IntentToAppend};
use schemas::decision::{Decision, DecisionHeader, Outcome};
use schemas::ids::{CreatorId, DropId, Hash, IntentId, OrderId, ProductId, UserId};
use schemas::order::{
    DropRow, DropStatus, OrderBody, OrderRow, OrderStatus, Reason, Refusal, StockRow, VariantRow,
};
use schemas::partition::Partition;
use schemas::units::{Millis, MinorUnits, Units};
use serde_json::Value;
use tokio::sync::oneshot;
use tower::ServiceExt;

use super::keys::{ED25519_PUBLIC, token};

const BUYER: UserId = UserId([5; 16]);
const STRANGER: UserId = UserId([6; 16]);
const CREATOR: CreatorId = CreatorId([0xc0; 16]);
const DROP: DropId = DropId([1; 16]);
const ORDER: OrderId = OrderId([7; 16]);

/// Where every intent is put.
const OFFSET: i64 = 3;

/// Takes every intent at once.
struct SmallLog;

impl IntentAppender for SmallLog {
    fn append(&self, _: IntentToAppend) -> oneshot::Receiver<Result<i64, AppendError>> {
        let (answer, receiver) = oneshot::channel();
        answer.send(Ok(OFFSET)).unwrap();
        receiver
    }

    fn is_reachable(&self) -> bool {
        true
    }
}

/// A view with at most one order and one drop.
#[derive(Clone, Default)]
struct View {
    /// Intents before this one are decided here.
    next_intent_offset: i64,
    order: Option<OrderRow>,
    drop: Option<DropState>,
}

/// Shared with the test, which moves it; away or not configured where it has an error.
#[derive(Clone)]
struct SharedView {
    view: Arc<Mutex<Result<View, ArchiveError>>>,
    times_asked: Arc<AtomicUsize>,
}

impl SharedView {
    fn read<T: Send + 'static>(&self, read: impl FnOnce(&View) -> T) -> Answer<'_, T> {
        self.times_asked.fetch_add(1, Ordering::Relaxed);
        let answer = self.view.lock().unwrap().as_ref().map(read).map_err(Clone::clone);
        Box::pin(std::future::ready(answer))
    }

    fn set(&self, view: View) {
        *self.view.lock().unwrap() = Ok(view);
    }
}

impl Archive for SharedView {
    fn shows(&self, _: Partition, intent_offset: i64) -> Answer<'_, bool> {
        self.read(|view| view.next_intent_offset > intent_offset)
    }

    fn order(&self, _: OrderId) -> Reading<'_, OrderRow> {
        self.read(|view| view.order.clone())
    }

    fn drop_state(&self, _: DropId) -> Reading<'_, DropState> {
        self.read(|view| view.drop.clone())
    }

    fn follow(&self, _: CreatorId, _: UserId) -> Reading<'_, Millis> {
        self.read(|_| None)
    }
}

struct Node {
    router: axum::Router,
    window: Arc<Window>,
    view: SharedView,
}

fn node(view: Result<View, ArchiveError>) -> Node {
    let window = Arc::new(Window::new(1));
    let view = SharedView { view: Arc::new(Mutex::new(view)), times_asked: Arc::default() };
    let router = ingest_api::router(Settings {
        verifier: Verifier::new(&[ED25519_PUBLIC.to_owned()]).unwrap(),
        intake: Intake::new(Arc::new(SmallLog), 1, (1, 3), 10),
        window: window.clone(),
        archive: Arc::new(view.clone()),
        partitions: Arc::new(Vec::new),
        render_metrics: Arc::new(String::new),
    });
    Node { router, window, view }
}

impl Node {
    async fn send(&self, request: Builder, token: &str, body: impl Into<Body>) -> Response<Body> {
        let request = request.header("authorization", format!("Bearer {token}"));
        self.router.clone().oneshot(request.body(body.into()).unwrap()).await.unwrap()
    }

    async fn get(&self, path: &str, token: &str) -> Response<Body> {
        self.send(Request::get(path), token, "").await
    }

    /// Status, and `status` or `code` of the body.
    async fn read(&self, query: &str, token: &str) -> (u16, String) {
        let response = self.get(&format!("/orders/{ORDER}{query}"), token).await;
        let status = response.status().as_u16();
        let body = json(response).await;
        let word = if status == 200 { &body["status"] } else { &body["code"] };
        (status, word.as_str().unwrap().to_owned())
    }

    /// What a client is given when it writes at [`OFFSET`].
    async fn after(&self, token: &str) -> String {
        let request = Request::post(format!("/drops/{DROP}/orders"))
            .header("content-type", "application/json")
            .header("idempotency-key", "key");
        let body = json(self.send(request, token, "{\"qty\":1}").await).await;
        format!("?after={}", body["position"].as_str().unwrap())
    }

    /// The node sees what was decided of the intent at [`OFFSET`].
    fn decide(&self, outcome: Outcome, body: OrderBody) {
        let header = DecisionHeader {
            seq: 4,
            epoch: 1,
            intent_offset: Some(OFFSET),
            next_intent_offset: OFFSET + 1,
            intent_id: Some(IntentId([9; 16])),
            correlation_id: None,
            log_time: Millis(0),
            decided_at: Millis(0),
            logic_version: 1,
        };
        let decision = Decision::unsealed(header, outcome, Some(body));
        self.window.apply_orders(vec![OrderDecided { partition: Partition(0), decision }]);
    }

    /// The node has come past it, and has not seen what became of the order.
    fn pass(&self) {
        self.decide(Outcome::Changed, OrderBody::default());
    }
}

async fn json(response: Response<Body>) -> Value {
    let body = response.into_body().collect().await.unwrap().to_bytes();
    serde_json::from_slice(&body).unwrap()
}

fn order_row() -> OrderRow {
    OrderRow {
        order_id: ORDER,
        drop_id: DROP,
        user_id: BUYER,
        status: OrderStatus::Confirmed,
        reason: None,
        lines: [].into_iter().collect(),
        product_id: ProductId([3; 16]),
        currency: "EUR".into(),
        total: MinorUnits(0),
        payment_method: None,
        request_hash: Hash([4; 16]),
        version: 1,
        created_at: Millis(0),
        decided_at: Millis(0),
        hold_expires_at: None,
        intent_offset: OFFSET,
        missing: Vec::new(),
        held_order_id: None,
        payments: Vec::new(),
        operation: None,
        offer_expires_at: None,
        offer_left_ms: None,
        from_waitlist: false,
        extended: false,
        refund: None,
    }
}

fn drop_row() -> DropRow {
    DropRow {
        drop_id: DROP,
        creator_id: CREATOR,
        product_id: ProductId([3; 16]),
        title: "Hot".into(),
        status: DropStatus::Live,
        starts_at: Millis(0),
        ends_at: Millis(4_000_000_000_000),
        time_zone: None,
        currency: "EUR".into(),
        variants: vec![VariantRow {
            variant_id: DROP.plain_variant(),
            name: String::new(),
            price: MinorUnits(0),
            initial_stock: Units(10),
        }],
        limit_per_user: None,
        hold_seconds: 600,
        low_stock_threshold: Units(0),
        payment_required: false,
        schedule_key: Hash([1; 16]),
        request_hash: Hash([2; 16]),
        version: 1,
        created_at: Millis(0),
        opened_at: Some(Millis(0)),
        ended_at: None,
        offer_seconds: 600,
        waitlist: false,
        payment_attempts: 3,
        archive_at: None,
    }
}

fn stock_row(available: i64) -> StockRow {
    StockRow {
        drop_id: DROP,
        variant_id: DROP.plain_variant(),
        initial: Units(10),
        available: Units(available),
        reserved: Units(0),
        sold: Units(10 - available),
        restocked: Units(0),
        withdrawn: Units(0),
    }
}

fn answer(status: u16, word: &str) -> (u16, String) {
    (status, word.to_owned())
}

#[tokio::test(start_paused = true)]
async fn what_is_not_decided_is_pending_whatever_a_view_says_and_what_is_decided_needs_one() {
    let buyer = token(BUYER, "");
    let away = ArchiveError::Unreachable("away".into());
    for (error, code) in
        [(ArchiveError::NotConfigured, "view_not_configured"), (away, "view_unavailable")]
    {
        let node = node(Err(error));
        let query = node.after(&buyer).await;
        assert_eq!(node.read(&query, &buyer).await, answer(200, "PENDING"));
        assert_eq!(node.read("", &buyer).await, answer(503, code), "pending or unknown?");
        node.pass();
        assert_eq!(node.read(&query, &buyer).await, answer(503, code), "it was decided");
    }
}

#[tokio::test(start_paused = true)]
async fn a_decision_within_the_wait_is_shown_although_no_view_is_there() {
    let node = node(Err(ArchiveError::NotConfigured));
    let buyer = token(BUYER, "");
    let decided = async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let orders = [Arc::new(order_row())].into_iter().collect();
        node.decide(Outcome::Changed, OrderBody { orders, ..OrderBody::default() });
    };
    let (read, ()) = tokio::join!(node.read("?waitMs=5000", &buyer), decided);
    assert_eq!(read, answer(200, "CONFIRMED"));
}

/// Of buyers who wait for a hot drop there are thousands.
#[tokio::test(start_paused = true)]
async fn no_view_is_asked_for_an_order_that_is_waited_for() {
    let node = node(Ok(View::default()));
    let buyer = token(BUYER, "");
    let waiting = format!("{}&waitMs=5000", node.after(&buyer).await);
    let decided = async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let orders = [Arc::new(order_row())].into_iter().collect();
        node.decide(Outcome::Changed, OrderBody { orders, ..OrderBody::default() });
    };
    let (read, ()) = tokio::join!(node.read(&waiting, &buyer), decided);
    assert_eq!(read, answer(200, "CONFIRMED"));
    assert_eq!(node.view.times_asked.load(Ordering::Relaxed), 0);
}

#[tokio::test(start_paused = true)]
async fn an_order_that_a_trailing_view_lacks_is_pending_and_not_unknown() {
    let node = node(Ok(View { next_intent_offset: OFFSET, ..View::default() }));
    let buyer = token(BUYER, "");
    let query = node.after(&buyer).await;
    node.pass(); // the window began behind the order's decision
    assert_eq!(node.read(&query, &buyer).await, answer(200, "PENDING"));
    let caught_up = View { next_intent_offset: OFFSET + 1, order: Some(order_row()), drop: None };
    let catching_up = async {
        tokio::time::sleep(Duration::from_secs(2)).await;
        node.view.set(caught_up.clone());
    };
    let waiting = format!("{query}&waitMs=30000");
    let (read, ()) = tokio::join!(node.read(&waiting, &buyer), catching_up);
    assert_eq!(read, answer(200, "CONFIRMED"));
    node.view.set(View { order: None, ..caught_up });
    assert_eq!(node.read(&query, &buyer).await, answer(404, "unknown_order"));
}

/// An early click leaves its key unspent: the same order may still be reserved.
#[tokio::test]
async fn the_stream_of_an_order_that_came_too_early_goes_on_to_its_reservation() {
    let node = node(Ok(View::default()));
    let refusal = Refusal {
        reason: Reason::NotOpen,
        order_id: Some(ORDER),
        user_id: Some(BUYER),
        opens_at: None,
        drop_status: Some(DropStatus::Upcoming),
    };
    node.decide(Outcome::Refused, OrderBody { refusal: Some(refusal), ..OrderBody::default() });
    let stream = node.get(&format!("/orders/{ORDER}/events"), &token(BUYER, "")).await;
    let mut stream = stream.into_body();
    let mut next = async || {
        let frame = stream.frame().await.unwrap().unwrap().into_data().unwrap();
        let text = std::str::from_utf8(&frame).unwrap().to_owned();
        text.lines().next().unwrap().to_owned()
    };
    assert_eq!(next().await, "event: PENDING");
    let orders = [Arc::new(order_row())].into_iter().collect();
    node.decide(Outcome::Changed, OrderBody { orders, ..OrderBody::default() });
    assert_eq!(next().await, "event: CONFIRMED");
    assert_eq!(next().await, "event: end");
}

#[tokio::test]
async fn a_creator_sees_orders_of_a_drop_that_this_node_has_not_seen() {
    let drop = Some(DropState { drop: drop_row(), stocks: vec![stock_row(9)] });
    let view = View { next_intent_offset: OFFSET + 1, order: Some(order_row()), drop };
    let node = node(Ok(view));
    let of = |creator: CreatorId| token(STRANGER, &format!("creator:{creator}:write"));
    assert_eq!(node.read("", &of(CREATOR)).await, answer(200, "CONFIRMED"));
    let other = CreatorId([0xc1; 16]);
    assert_eq!(node.read("", &of(other)).await, answer(404, "unknown_order"));
}

#[tokio::test]
async fn stock_that_the_node_has_seen_itself_is_newer_than_what_a_view_knows() {
    let drop = Some(DropState { drop: drop_row(), stocks: vec![stock_row(9)] });
    let node = node(Ok(View { drop, ..View::default() }));
    let sold_out = OrderBody { stocks: vec![stock_row(0)], ..OrderBody::default() };
    node.decide(Outcome::Changed, sold_out); // its terms were told before the window began
    let first_event = async || {
        let response = node.get(&format!("/drops/{DROP}/events"), &token(BUYER, "")).await;
        let frame = response.into_body().frame().await.unwrap().unwrap();
        String::from_utf8(frame.into_data().unwrap().to_vec()).unwrap()
    };
    let event = first_event().await;
    assert!(event.starts_with("event: drop\n"), "{event}");
    assert!(event.contains(r#""available":0"#), "{event}");
    let body = json(node.get(&format!("/drops/{DROP}"), &token(BUYER, "")).await).await;
    assert_eq!(body["variants"][0]["available"], 0, "{body}");
}

#[tokio::test]
async fn a_new_price_in_another_currency_is_refused_before_it_is_written() {
    let drop = Some(DropState { drop: drop_row(), stocks: vec![stock_row(9)] });
    let node = node(Ok(View { drop, ..View::default() }));
    let creator = token(STRANGER, &format!("creator:{CREATOR}:write"));
    let patch = async |body: String| {
        let request = Request::patch(format!("/drops/{DROP}"));
        let request = request.header("content-type", "application/json");
        node.send(request, &creator, body).await
    };
    let variant = DROP.plain_variant();
    let of_variant = format!(
        r#"{{"variants":[{{"variantId":"{variant}","price":{{"amount":5,"currency":"USD"}}}}]}}"#
    );
    let of_drop = |currency| format!(r#"{{"price":{{"amount":5,"currency":"{currency}"}}}}"#);
    for (body, field) in [(of_drop("USD"), "price"), (of_variant, "variants[0].price")] {
        let response = patch(body).await;
        assert_eq!(response.status(), 400);
        let body = json(response).await;
        assert_eq!(body["errors"][0]["field"], field, "{body}");
    }
    assert_eq!(patch(of_drop("EUR")).await.status(), 202);
}
