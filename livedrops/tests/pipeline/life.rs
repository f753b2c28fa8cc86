//! Payments, waitlist, pause, restock and refund over HTTP, with a provider in a process of its own.

use std::net::{SocketAddr, TcpListener};
use std::process::Stdio;
use std::time::Duration;

use payments::client::SimulatedProvider;
use payments::provider::Provider as _;
use payments::webhook::sign;
use platform::clock::{monotonic, random_uuid};
use reqwest::Method;
use serde_json::{Value, json};

use crate::harness::*;

/// A provider that never fails, and a node that uses it.
struct Paying {
    node: Node,
    _provider: Process,
    provider_url: String,
}

/// An address that was free a moment ago: two processes need to know each other's before either listens.
pub(crate) fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

const SECRET: &str = "whsec_test";

async fn paying(site: &Site) -> Paying {
    let (node, provider) = (free_address(), free_address());
    let url = format!("http://{node}/webhooks/simulated");
    let process = site
        .command(
            "none",
            false,
            &["provider", "--listen", &provider.to_string(), "--webhook-url", &url],
        )
        .args([
            "--declines",
            "0",
            "--timeouts",
            "0",
            "--late",
            "0",
            "--actions",
            "0",
            "--pending",
            "50",
        ])
        .env("LIVEDROPS_PAYMENTS__WEBHOOK_SECRET", SECRET)
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let provider_url = format!("http://{provider}");
    let mut command = site.command("data", false, &["all", "--listen", &node.to_string()]);
    command
        .env("LIVEDROPS_PAYMENTS__PROVIDER_URL", &provider_url)
        .env("LIVEDROPS_PAYMENTS__WEBHOOK_SECRET", SECRET);
    let node = Node::spawn(command);
    node.wait_until_ready().await;
    Paying { node, _provider: Process(process), provider_url }
}

/// Reads an order until it has a status.
pub(crate) async fn until(client: &Client, order: &str, status: &str) -> Value {
    until_at(client, order, "/status", status).await
}

/// Reads an order until it has a word in a place (a JSON pointer).
pub(crate) async fn until_at(client: &Client, order: &str, place: &str, word: &str) -> Value {
    let started = monotonic();
    loop {
        let (_, body) = client.get(&format!("/orders/{order}")).await;
        if body.pointer(place).is_some_and(|found| found == word) {
            return body;
        }
        assert!(started.elapsed() < PATIENCE, "{order} does not become {word}: {body}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

pub(crate) fn paid_drop(stock: i64) -> Value {
    let mut request = drop_request(stock);
    request["price"]["amount"] = json!(1_999);
    request["waitlist"] = json!(true);
    request["limitPerUser"] = json!(2);
    request
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_is_paid_refunded_and_its_unit_offered_to_who_waits() {
    let site = Site::embedded();
    let paying = paying(&site).await;
    let node = &paying.node;
    let (drop, creator) = schedule(&site, node, &paid_drop(1)).await;
    let orders = format!("/drops/{drop}/orders");
    let [anna, ben] = [(); 2].map(|()| node.client(&site.token(random_uuid(), "")));
    let (status, body) = anna.post(&orders, "k", &json!({"qty": 1, "paymentMethodId": "pm"})).await;
    assert_eq!((status, &body["order"]["status"]), (201, &json!("RESERVED")), "{body}");
    let first = body["order"]["id"].as_str().unwrap().to_owned();
    let paid = until(&anna, &first, "PAID").await;
    assert_eq!(paid["payment"]["state"], "CAPTURED");
    let gone =
        anna.request(Method::DELETE, &format!("/orders/{first}")).header("prefer", "wait=20");
    let (status, body) = answer(gone.send().await.unwrap()).await;
    assert_eq!((status, &body["code"]), (409, &json!("already_paid")));

    let body = json!({"qty": 1, "paymentMethodId": "pm", "ifSoldOut": "waitlist"});
    let (status, body) = ben.post(&orders, "k", &body).await;
    assert_eq!((status, &body["order"]["status"]), (201, &json!("WAITLISTED")), "{body}");
    let second = body["order"]["id"].as_str().unwrap().to_owned();

    let path = format!("/orders/{first}/refund");
    let (status, body) = creator.post(&path, "refund", &json!({"restock": true})).await;
    assert_eq!((status, &body["order"]["status"]), (200, &json!("REFUND_PENDING")), "{body}");
    until(&anna, &first, "REFUNDED").await;
    let offered = until(&ben, &second, "OFFERED").await;
    assert!(offered["offerExpiresAt"].is_string() && offered["payment"].is_null(), "{offered}");
    let path = format!("/orders/{second}/payments");
    let (status, body) = ben.post(&path, "unused", &json!({"paymentMethodId": "pm_2"})).await;
    assert_eq!((status, &body["order"]["status"]), (200, &json!("RESERVED")), "{body}");
    until(&ben, &second, "PAID").await;

    let ledger: Value = reqwest::get(format!("{}/ledger", paying.provider_url))
        .await
        .unwrap()
        .json()
        .await
        .unwrap();
    let kept = |charge: &&Value| charge["captured"] == true && charge["refunded"] == false;
    let charges = ledger.as_array().unwrap();
    assert_eq!((charges.len(), charges.iter().filter(kept).count()), (2, 1), "{ledger}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_creator_pauses_resumes_restocks_withdraws_edits_and_calls_off() {
    let site = Site::embedded();
    let node = site.start("data", false, &["all"]).await;
    let (drop, creator) = schedule(&site, &node, &paid_drop(2)).await;
    let path = |what: &str| format!("/drops/{drop}/{what}");
    let buyer = node.client(&site.token(random_uuid(), ""));
    let (status, body) = creator.post(&path("pause"), "x", &Value::Null).await;
    assert_eq!((status, &body["drop"]["status"]), (200, &json!("PAUSED")), "{body}");
    let (status, body) = buyer.post(&path("orders"), "k", &json!({"qty": 1})).await;
    assert_eq!((status, &body["code"], &body["retry"]), (409, &json!("not_open"), &json!("safe")));
    let (status, _) = creator.post(&path("resume"), "x", &Value::Null).await;
    assert_eq!(status, 200);
    let (status, body) = buyer.post(&path("orders"), "k", &json!({"qty": 1})).await;
    assert_eq!(
        (status, &body["order"]["status"]),
        (201, &json!("RESERVED")),
        "the key was unspent"
    );
    for expected in [false, true] {
        let (status, body) = creator.post(&path("restock"), "more", &json!({"qty": 3})).await;
        assert_eq!(
            (status, &body["drop"]["variants"][0]["restocked"]),
            (200, &json!(3)),
            "{expected}: {body}"
        );
    }
    let (status, body) = creator.post(&path("restock"), "more", &json!({"qty": 4})).await;
    assert_eq!((status, &body["code"]), (422, &json!("key_reused")));
    let (status, body) = creator.post(&path("withdraw"), "less", &json!({"qty": 5})).await;
    assert_eq!((status, &body["code"]), (409, &json!("insufficient_stock")));
    let edit =
        creator.request(Method::PATCH, &format!("/drops/{drop}")).header("prefer", "wait=20");
    let (status, body) = answer(edit.json(&json!({"title": "New"})).send().await.unwrap()).await;
    assert_eq!((status, &body["code"]), (409, &json!("wrong_state")), "only while upcoming");
    let (status, body) = creator.post(&path("cancel"), "x", &Value::Null).await;
    assert_eq!((status, &body["drop"]["status"]), (200, &json!("CANCELLED")), "{body}");
    let (status, body) = creator.post(&path("resume"), "x", &Value::Null).await;
    assert_eq!((status, &body["code"]), (409, &json!("wrong_state")));
    let (status, body) = buyer.post(&path("pause"), "x", &Value::Null).await;
    assert_eq!((status, &body["code"]), (403, &json!("not_creator")), "{body}");
    assert_eq!(node.terminate(), Some(0));
    assert_audit(&site, "data", false);
}

#[tokio::test(flavor = "multi_thread")]
async fn malformed_commands_name_the_field_and_forged_webhooks_are_refused() {
    let site = Site::embedded();
    let paying = paying(&site).await;
    let node = &paying.node;
    let (drop, creator) = schedule(&site, node, &paid_drop(1)).await;
    let order = random_uuid();
    let (restock, withdraw) = (format!("/drops/{drop}/restock"), format!("/drops/{drop}/withdraw"));
    let (pay, refund) = (format!("/orders/{order}/payments"), format!("/orders/{order}/refund"));
    let rows = [
        (Method::POST, restock.clone(), json!({"qty": 0}), 400, "qty"),
        (Method::POST, restock.clone(), json!({"qty": 1.5}), 400, "qty"),
        (Method::POST, restock.clone(), json!({}), 400, "qty"),
        (Method::POST, restock, json!({"qty": 1, "variantId": "x"}), 400, "variantId"),
        (Method::POST, withdraw, json!({"qty": 1, "sku": 1}), 400, "sku"),
        (Method::POST, pay.clone(), json!({}), 400, "paymentMethodId"),
        (Method::POST, pay.clone(), json!({"paymentMethodId": ""}), 400, "paymentMethodId"),
        (Method::POST, pay, json!({"paymentMethodId": "a\0"}), 400, "paymentMethodId"),
        (Method::POST, refund, json!({"restock": "yes"}), 400, "restock"),
        (Method::PATCH, format!("/drops/{drop}"), json!({"startsAt": "soon"}), 400, "startsAt"),
        (Method::PATCH, format!("/drops/{drop}"), json!({"holdSeconds": 0}), 400, "holdSeconds"),
        (Method::PATCH, format!("/drops/{drop}"), json!({"title": "a\0"}), 400, "title"),
        (Method::PATCH, format!("/drops/{drop}"), json!({"stock": 5}), 400, "stock"),
    ];
    for (method, path, body, expected, field) in rows {
        let request = creator.request(method, &path).header("idempotency-key", "k").json(&body);
        let (status, problem) = answer(request.send().await.unwrap()).await;
        assert_eq!((status, &problem["code"]), (expected, &json!("malformed")), "{path} {body}");
        assert_eq!(problem["errors"][0]["field"], field, "{path} {body}: {problem}");
    }
    for path in [format!("/drops/{drop}/pause"), format!("/orders/{order}/extend")] {
        let request = reqwest::Client::new().post(format!("{}{path}", node.url));
        assert_eq!(request.send().await.unwrap().status(), 401, "{path}");
    }
    let stranger = node.client(&site.token(random_uuid(), ""));
    let (status, body) = stranger.post(&format!("/orders/{order}/extend"), "k", &Value::Null).await;
    assert_eq!((status, &body["code"]), (404, &json!("unknown_order")));

    // An event that nobody signed, one signed with another secret, an old one, and one that is sound but strange.
    let event = json!({"id": "evt_x", "operation": {"orderId": order, "attempt": 1,
        "operation": "authorise", "status": "succeeded", "captured": false, "amount": 1, "currency": "EUR"}});
    let body = event.to_string();
    let now = now_ms() / 1_000;
    for (signature, expected) in [
        (String::new(), 400),
        (sign("other", body.as_bytes(), now), 400),
        (sign(SECRET, body.as_bytes(), now - 301), 400),
        (sign(SECRET, body.as_bytes(), now), 200),
        (sign(SECRET, body.as_bytes(), now), 200),
    ] {
        let request = reqwest::Client::new()
            .post(format!("{}/webhooks/simulated", node.url))
            .header(SimulatedProvider::SIGNATURE_HEADER, signature.clone())
            .body(body.clone());
        assert_eq!(request.send().await.unwrap().status().as_u16(), expected, "{signature}");
    }
}
