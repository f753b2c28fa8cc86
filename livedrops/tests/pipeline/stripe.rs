//! Payments through the Stripe adapter, against a mock of Stripe that is not ours (`deploy/stack --with stripe`).

use payments::provider::Provider as _;
use payments::stripe::Stripe;
use payments::webhook::sign;
use platform::clock::{now_ms, random_uuid};
use reqwest::Method;
use serde_json::{Value, json};

use crate::harness::*;
use crate::life::{free_address, paid_drop, until, until_at};

const SECRET: &str = "whsec_stripe";
const KEY: &str = "sk_test_livedrops";

/// The mock, as its own dashboard would show it.
struct Dashboard {
    url: String,
    http: reqwest::Client,
}

impl Dashboard {
    fn new() -> Self {
        let url = std::env::var("STRIPE_MOCK_URL").expect("deploy/stack run --with stripe");
        Self { url, http: reqwest::Client::new() }
    }

    async fn call(&self, method: Method, path: &str, form: &[(&str, &str)]) -> Value {
        let request = self.http.request(method, format!("{}{path}", self.url)).bearer_auth(KEY);
        let response = request.form(form).send().await.unwrap();
        assert!(response.status().is_success(), "{path}: {}", response.text().await.unwrap());
        serde_json::from_slice(&response.bytes().await.unwrap()).unwrap_or_default()
    }

    async fn get(&self, path: &str) -> Value {
        self.call(Method::GET, path, &[]).await
    }

    /// The payment intent of an order's attempt.
    async fn intent(&self, order: &str, attempt: &str) -> Value {
        let list = self.get("/v1/payment_intents?limit=100").await;
        let is_wanted =
            |intent: &&Value| intent["metadata"] == json!({"order_id": order, "attempt": attempt});
        list["data"].as_array().unwrap().iter().find(is_wanted).unwrap().clone()
    }
}

struct Paying {
    node: Node,
    stripe: Dashboard,
    site: Site,
    drop: String,
    creator: Client,
}

async fn paying() -> Paying {
    let (site, stripe) = (Site::embedded(), Dashboard::new());
    let address = free_address();
    let hook = format!("http://{address}/webhooks/stripe");
    stripe
        .http
        .post(format!("{}/_config/webhooks/{}", stripe.url, address.port()))
        .json(&json!({"url": hook, "secret": SECRET}))
        .send()
        .await
        .unwrap();
    let mut command = site.command("data", false, &["all", "--listen", &address.to_string()]);
    command
        .env("LIVEDROPS_PAYMENTS__PROVIDER", "stripe")
        .env("LIVEDROPS_PAYMENTS__PROVIDER_URL", &stripe.url)
        .env("LIVEDROPS_PAYMENTS__SECRET_KEY", KEY)
        .env("LIVEDROPS_PAYMENTS__WEBHOOK_SECRET", SECRET);
    let node = Node::spawn(command);
    node.wait_until_ready().await;
    let (drop, creator) = schedule(&site, &node, &paid_drop(5)).await;
    Paying { node, stripe, site, drop: drop.to_string(), creator }
}

impl Paying {
    fn buyer(&self) -> Client {
        self.node.client(&self.site.token(random_uuid(), ""))
    }

    async fn place(&self, buyer: &Client, method: &str) -> String {
        let body = json!({"qty": 1, "paymentMethodId": method});
        let path = format!("/drops/{}/orders", self.drop);
        let (status, body) = buyer.post(&path, "k", &body).await;
        assert_eq!((status, &body["order"]["status"]), (201, &json!("RESERVED")), "{body}");
        body["order"]["id"].as_str().unwrap().to_owned()
    }

    /// Sends what Stripe sends when money is reserved after a step at the bank; the mock does not.
    async fn tell_of_authorisation(&self, intent: &Value) {
        let event = json!({"id": format!("evt_{}", intent["id"]), "data": {"object": intent},
            "type": "payment_intent.amount_capturable_updated"});
        let body = event.to_string();
        let request = reqwest::Client::new().post(format!("{}/webhooks/stripe", self.node.url));
        let signature = sign(SECRET, body.as_bytes(), now_ms() / 1_000);
        let request = request.header(Stripe::SIGNATURE_HEADER, signature).body(body);
        assert_eq!(request.send().await.unwrap().status(), 200);
    }
}

/// Reads an order until its payment has a state.
async fn until_payment(client: &Client, order: &str, state: &str) -> Value {
    until_at(client, order, "/payment/state", state).await
}

#[tokio::test(flavor = "multi_thread")]
async fn stripe_takes_the_money_once_and_gives_it_back() {
    let paying = paying().await;
    let buyer = paying.buyer();
    let order = paying.place(&buyer, "pm_card_visa").await;
    until(&buyer, &order, "PAID").await;
    let intent = paying.stripe.intent(&order, "1").await;
    let facts = [&intent["status"], &intent["amount"], &intent["currency"]];
    assert_eq!(facts, [&json!("succeeded"), &json!(1_999), &json!("eur")]);

    let path = format!("/orders/{order}/refund");
    let (status, body) = paying.creator.post(&path, "refund", &json!({"restock": true})).await;
    assert_eq!(status, 200, "{body}");
    until(&buyer, &order, "REFUNDED").await;
    let charge = intent["latest_charge"]["id"].as_str().unwrap();
    assert_eq!(paying.stripe.get(&format!("/v1/charges/{charge}")).await["refunded"], true);
    assert_eq!(paying.node.terminate(), Some(0));
    assert_audit(&paying.site, "data", false);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_card_that_stripe_declines_leaves_the_hold_for_another_card() {
    let paying = paying().await;
    let buyer = paying.buyer();
    let order = paying.place(&buyer, "pm_card_chargeCustomerFail").await;
    let declined = until_payment(&buyer, &order, "DECLINED").await;
    assert_eq!(declined["payment"]["failure"], "card_declined", "{declined}");
    assert_eq!(declined["status"], "RESERVED");
    let path = format!("/orders/{order}/payments");
    // A method that Stripe does not know is a decline as well: the buyer can mend it, we cannot.
    let (status, body) = buyer.post(&path, "x", &json!({"paymentMethodId": "pm_unknown"})).await;
    assert_eq!(status, 200, "{body}");
    until_payment(&buyer, &order, "DECLINED").await;
    let (status, body) = buyer.post(&path, "y", &json!({"paymentMethodId": "pm_card_visa"})).await;
    assert_eq!(status, 200, "{body}");
    until(&buyer, &order, "PAID").await;
    assert_eq!(paying.stripe.intent(&order, "3").await["status"], "succeeded");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_step_at_the_bank_ends_in_a_capture_or_after_a_cancel_in_a_void() {
    let paying = paying().await;
    let stripe = &paying.stripe;
    for (cancels, status, standing) in
        [(false, "PAID", "succeeded"), (true, "CANCELLED", "canceled")]
    {
        let card = [
            ("type", "card"),
            ("card[number]", "4000002500003155"),
            ("card[exp_month]", "12"),
            ("card[exp_year]", "2040"),
            ("card[cvc]", "123"),
        ];
        let method = stripe.call(Method::POST, "/v1/payment_methods", &card).await;
        let buyer = paying.buyer();
        let order = paying.place(&buyer, method["id"].as_str().unwrap()).await;
        let waiting = until_payment(&buyer, &order, "NEEDS_ACTION").await;
        let intent = stripe.intent(&order, "1").await;
        assert_eq!(waiting["payment"]["nextAction"], intent["id"], "{waiting}");
        if cancels {
            let gone = buyer.request(Method::DELETE, &format!("/orders/{order}"));
            let gone = gone.header("prefer", "wait=20").send().await.unwrap();
            assert_eq!(gone.status(), 200);
        }
        let path = format!("/v1/payment_intents/{}/_authenticate", intent["id"].as_str().unwrap());
        let secret = intent["client_secret"].as_str().unwrap();
        let step = [("client_secret", secret), ("success", "true")];
        let authorised = stripe.call(Method::POST, &path, &step).await;
        assert_eq!(authorised["status"], "requires_capture");
        paying.tell_of_authorisation(&authorised).await;
        until(&buyer, &order, status).await;
        until_payment(&buyer, &order, if cancels { "VOIDED" } else { "CAPTURED" }).await;
        assert_eq!(stripe.intent(&order, "1").await["status"], standing);
    }
    assert_eq!(paying.node.terminate(), Some(0));
    assert_audit(&paying.site, "data", false);
}
