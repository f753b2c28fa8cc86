//! What buyers, pages and operators get over HTTP.

use std::time::Duration;

use futures_util::StreamExt;
use platform::clock::random_uuid;
use reqwest::Method;
use serde_json::json;

use crate::harness::*;
use crate::malformed::assert_problem;

/// Signatures the node has checked since it started.
async fn signatures_checked(client: &Client) -> u64 {
    let response = client.request(Method::GET, "/metrics").send().await.unwrap();
    let text = response.text().await.unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix("livedrops_token_signatures_total "));
    line.unwrap_or("0").parse().unwrap()
}

/// A token signed with the right key that ran out a minute ago.
pub(crate) fn expired_token(site: &Site) -> String {
    let pem = std::fs::read(site.path("keys/signing-key.pem")).unwrap();
    let key = jsonwebtoken::EncodingKey::from_ed_pem(&pem).unwrap();
    let now = now_ms() / 1_000;
    let claims = json!({"sub": random_uuid(), "iat": now - 120, "exp": now - 60});
    jsonwebtoken::encode(&jsonwebtoken::Header::new(jsonwebtoken::Algorithm::EdDSA), &claims, &key)
        .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_buyer_who_waits_on_the_page_has_a_verified_token_when_the_rush_comes() {
    let site = Site::embedded();
    let node = site.start("data", false, &["all"]).await;
    let (drop, _) = schedule(&site, &node, &drop_request(5)).await;
    let page = format!("/drops/{drop}");
    let buyer = node.client(&site.token(random_uuid(), ""));
    let before = signatures_checked(&buyer).await;
    assert_eq!(buyer.get(&page).await.0, 200);
    assert_eq!(signatures_checked(&buyer).await, before + 1, "with the page");
    let (status, _) = buyer.post(&format!("{page}/orders"), "k", &json!({"qty": 1})).await;
    assert_eq!(status, 201);
    assert_eq!(signatures_checked(&buyer).await, before + 1, "not again with the order");
    let watcher = node.client(&site.token(random_uuid(), ""));
    let stream = watcher.request(Method::GET, &format!("{page}/events")).send().await.unwrap();
    assert_eq!(stream.status(), 200);
    assert_eq!(signatures_checked(&buyer).await, before + 2, "with the stream");
    let stale = node.client(&expired_token(&site));
    assert_eq!(stale.get(&page).await.0, 200, "a page needs no token");
    let (status, body) = stale.post(&format!("{page}/orders"), "k", &json!({"qty": 1})).await;
    assert_problem("expired", status, &body, 401, "unauthorized", None);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_is_placed_polled_replayed_and_cancelled() {
    let site = Site::embedded();
    let node = site.start("data", false, &["all"]).await;
    let mut request = drop_request(5);
    request["price"]["amount"] = json!(1_999);
    request["limitPerUser"] = json!(2);
    let (drop, _) = schedule(&site, &node, &request).await;
    let buyer = node.client(&site.token(random_uuid(), ""));
    let orders = format!("/drops/{drop}/orders");
    let response = buyer
        .request(Method::POST, &orders)
        .header("idempotency-key", "\"k\"")
        .json(&json!({"qty": 2}))
        .send()
        .await
        .unwrap();
    let location = response.headers()["location"].to_str().unwrap().to_owned();
    let (status, body) = answer(response).await;
    assert_eq!((status, &body["order"]["status"]), (202, &json!("PENDING")));
    let (status, order) = buyer.get(&format!("{location}&waitMs=10000")).await;
    assert_eq!(
        (status, &order["status"], &order["total"]["amount"]),
        (200, &json!("RESERVED"), &json!(3_998))
    );
    assert_eq!(order["id"], body["order"]["id"]);
    let hold = order["holdExpiresAt"].as_str().unwrap() > order["decidedAt"].as_str().unwrap();
    assert!(hold, "{order}");
    let response = buyer
        .request(Method::POST, "/orders")
        .header("idempotency-key", "k")
        .header("prefer", "wait=20")
        .json(&json!({"dropId": drop, "lines": [{"variantId": drop, "qty": 2}]}))
        .send()
        .await
        .unwrap();
    assert_eq!(
        response.headers()["idempotent-replayed"],
        "true",
        "another spelling of the same request"
    );
    assert_eq!(response.status(), 200);
    let (status, body) = buyer.post(&orders, "k", &json!({"qty": 1})).await;
    assert_problem("key reused", status, &body, 422, "key_reused", None);
    let (status, body) = buyer.post(&orders, "l", &json!({"qty": 1})).await;
    assert_problem("limit", status, &body, 409, "limit_exceeded", None);
    assert_eq!((&body["heldOrderId"], &body["retry"]), (&order["id"], &json!("new-key")));
    let path = format!("/orders/{}", order["id"].as_str().unwrap());
    for _ in 0..2 {
        let cancel =
            buyer.request(Method::DELETE, &path).header("prefer", "wait=20").send().await.unwrap();
        let (status, body) = answer(cancel).await;
        assert_eq!((status, &body["order"]["status"]), (200, &json!("CANCELLED")));
    }
    let (_, body) = buyer.get(&format!("/drops/{drop}")).await;
    assert_eq!(body["stock"]["available"], 5);
    let (status, body) = buyer.get(&format!("/orders/{}?waitMs=100", random_uuid())).await;
    assert_problem("unknown order", status, &body, 404, "unknown_order", None);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_early_order_is_refused_and_its_key_is_unspent() {
    let site = Site::embedded();
    let node = site.start("data", false, &["all"]).await;
    let mut request = drop_request(1);
    let opens = now_ms() + 3_000;
    request["startsAt"] = json!(instant(opens));
    let (drop, _) = schedule(&site, &node, &request).await;
    let buyer = node.client(&site.token(random_uuid(), ""));
    let orders = format!("/drops/{drop}/orders");
    let mut early = 0;
    loop {
        let (status, body) = buyer.post(&orders, "key", &json!({"qty": 1})).await;
        if status == 201 {
            break;
        }
        assert_problem("early", status, &body, 409, "not_open", None);
        assert_eq!(body["retry"], "safe");
        assert!(body["opensInMs"].as_i64().unwrap() <= 3_000);
        early += 1;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(early > 5 && now_ms() >= opens, "{early} early answers");
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_tell_a_buyer_and_a_page_what_happens() {
    let site = Site::embedded();
    let node = site.start("data", false, &["all"]).await;
    let mut request = drop_request(3);
    request["price"]["amount"] = json!(100);
    request["holdSeconds"] = json!(1);
    let (drop, _) = schedule(&site, &node, &request).await;
    let buyer = node.client(&site.token(random_uuid(), ""));
    let page = buyer.request(Method::GET, &format!("/drops/{drop}/events")).send().await.unwrap();
    let (status, body) =
        buyer.post(&format!("/drops/{drop}/orders"), "k", &json!({"qty": 1})).await;
    assert_eq!(status, 201, "{body}");
    let path = format!("/orders/{}/events", body["order"]["id"].as_str().unwrap());
    let stream = buyer.request(Method::GET, &path).send().await.unwrap();
    let text = read_until(stream, "event: end").await;
    let order: Vec<_> =
        text.lines().filter(|l| l.starts_with("event:") || l.starts_with("id:")).collect();
    assert_eq!(
        order,
        ["event: RESERVED", "id: 1", "event: EXPIRED", "id: 2", "event: end"],
        "{text}"
    );
    let text = read_until(page, "data: {\"available\":3}").await;
    assert!(text.starts_with("event: drop") && text.contains("event: stock"), "{text}");
    let resumed =
        buyer.request(Method::GET, &path).header("last-event-id", "1").send().await.unwrap();
    let text = read_until(resumed, "event: end").await;
    assert!(text.contains("event: EXPIRED") && !text.contains("RESERVED"), "{text}");
    let done = buyer.request(Method::GET, &path).header("last-event-id", "2").send().await.unwrap();
    assert_eq!(done.status(), 204);
}

async fn read_until(response: reqwest::Response, last: &str) -> String {
    let mut text = String::new();
    let mut bytes = response.bytes_stream();
    let reading = async {
        while let Some(chunk) = bytes.next().await {
            text.push_str(&String::from_utf8_lossy(&chunk.unwrap()));
            if text.contains(last) {
                break;
            }
        }
    };
    tokio::time::timeout(PATIENCE, reading).await.unwrap();
    text.replace("event:", "event: ")
        .replace("event:  ", "event: ")
        .replace("id:", "id: ")
        .replace("id:  ", "id: ")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follow_is_read_back_by_position() {
    let site = Site::embedded();
    let node = site.start("data", false, &["all"]).await;
    let (user, creator) = (random_uuid(), random_uuid());
    let client = node.client(&site.token(user, ""));
    let pair = format!("/users/{user}/follows/{creator}");
    assert_eq!(client.get(&pair).await, (200, json!({"follows": false})));
    for (method, follows) in [(Method::POST, true), (Method::POST, true), (Method::DELETE, false)] {
        let (status, body) = answer(
            client.request(method, &format!("/creators/{creator}/follow")).send().await.unwrap(),
        )
        .await;
        assert_eq!((status, &body["following"]), (202, &json!(follows)));
        let position = body["position"].as_str().unwrap();
        let (status, body) = node.client("").get(&format!("{pair}?after={position}")).await;
        assert_eq!((status, &body["follows"]), (200, &json!(follows)), "no token is needed");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn operators_see_health_metrics_and_the_api_itself() {
    let site = Site::embedded();
    let node = site.start("data", false, &["all"]).await;
    let client = node.client("");
    assert_eq!(client.get("/healthz").await.0, 200);
    let (_, document) = client.get("/openapi.json").await;
    let paths: Vec<_> = document["paths"].as_object().unwrap().keys().cloned().collect();
    for path in [
        "/orders",
        "/orders/{id}",
        "/drops/{id}/orders",
        "/creators/{creator}/drops",
        "/creators/{creator}/follow",
        "/readyz",
    ] {
        assert!(paths.contains(&path.to_owned()), "{paths:?}");
    }
    let text = client.request(Method::GET, "/metrics").send().await.unwrap().text().await.unwrap();
    assert!(
        text.contains("livedrops_partition_running{")
            && text.contains("livedrops_http_seconds_bucket"),
        "{text}"
    );
}

/// Well formed, but not the caller's: the writer refuses.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_anothers_is_refused_and_stays_as_it_is() {
    let site = Site::embedded();
    let node = site.start("data", false, &["all"]).await;
    let (drop, creator) = schedule(&site, &node, &drop_request(5)).await;
    let buyer = node.client(&site.token(random_uuid(), ""));
    let orders = format!("/drops/{drop}/orders");
    let (status, body) = buyer.post(&orders, "mine", &json!({"qty": 1})).await;
    assert_eq!(status, 201, "{body}");
    let id = body["order"]["id"].as_str().unwrap().to_owned();
    let stranger = node.client(&site.token(random_uuid(), ""));
    let request =
        stranger.request(Method::DELETE, &format!("/orders/{id}")).header("prefer", "wait=20");
    let (status, body) = answer(request.send().await.unwrap()).await;
    assert_problem("foreign cancel", status, &body, 404, "unknown_order", None);
    let (status, body) = stranger.get(&format!("/orders/{id}")).await;
    assert_problem("foreign read", status, &body, 404, "unknown_order", None);
    let close =
        stranger.request(Method::POST, &format!("/drops/{drop}/close")).header("prefer", "wait=20");
    let (status, body) = answer(close.send().await.unwrap()).await;
    assert_problem("foreign close", status, &body, 403, "not_creator", None);
    let (_, body) = buyer.get(&format!("/orders/{id}")).await;
    assert_eq!(body["status"], "CONFIRMED", "the order was not touched");
    let (status, body) = creator.get(&format!("/orders/{id}")).await;
    assert_eq!(status, 200, "the drop's creator sees it: {body}");
}
