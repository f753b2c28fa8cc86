//! Every endpoint against every kind of bad input: one table, a row for each, which is why it is long.

use platform::clock::random_uuid;
use reqwest::Method;
use serde_json::{Value, json};

use crate::harness::*;
use crate::http::expired_token;

/// What, client, path, body, status, code, field.
type Row<'a> = (&'a str, &'a Client, &'a str, String, u16, &'a str, Option<&'a str>);

/// How far the log has come: nothing malformed may move it.
async fn intents_decided(client: &Client) -> i64 {
    let (_, body) = client.get("/readyz").await;
    body["partitions"]
        .as_array()
        .unwrap()
        .iter()
        .map(|p| p["nextIntentOffset"].as_i64().unwrap())
        .sum()
}

pub(crate) fn assert_problem(
    what: &str,
    status: u16,
    body: &Value,
    expected: u16,
    code: &str,
    field: Option<&str>,
) {
    assert_eq!(status, expected, "{what}: {body}");
    assert_eq!(body["code"], code, "{what}: {body}");
    assert_eq!(body["status"], expected, "{what}: {body}");
    assert!(
        ["safe", "same-key", "new-key", "never"].contains(&body["retry"].as_str().unwrap()),
        "{what}: {body}"
    );
    if let Some(field) = field {
        let fields: Vec<_> = body["errors"]
            .as_array()
            .unwrap()
            .iter()
            .map(|e| e["field"].as_str().unwrap())
            .collect();
        assert!(fields.contains(&field), "{what}: {fields:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
#[allow(clippy::too_many_lines, reason = "one table")]
async fn nothing_malformed_or_unauthenticated_reaches_the_log() {
    let site = Site::embedded();
    let node = site.start("data", false, &["all"]).await;
    let (drop, _) = schedule(&site, &node, &drop_request(5)).await;
    let buyer = node.client(&site.token(random_uuid(), ""));
    let before = intents_decided(&buyer).await;
    let creator_id = random_uuid();
    let schedules = format!("/creators/{creator_id}/drops");
    let owner = node.client(&site.token(creator_id, &format!("creator:{creator_id}:write")));
    let with = |change: fn(&mut Value)| {
        let mut request = drop_request(5);
        change(&mut request);
        request.to_string()
    };
    let orders = format!("/drops/{drop}/orders");
    // (what, client, path, body, status, code, field)
    let rows: Vec<Row<'_>> = vec![
        ("broken JSON", &buyer, &orders, "{\"qty\":".into(), 400, "malformed", None),
        ("not an object", &buyer, &orders, "[]".into(), 400, "malformed", None),
        ("trailing text", &buyer, &orders, "{\"qty\":1} x".into(), 400, "malformed", Some("body")),
        ("text quantity", &buyer, &orders, "{\"qty\":\"1\"}".into(), 400, "malformed", Some("qty")),
        ("fraction", &buyer, &orders, "{\"qty\":1.5}".into(), 400, "malformed", Some("qty")),
        ("zero", &buyer, &orders, "{\"qty\":0}".into(), 400, "malformed", Some("qty")),
        ("1,001", &buyer, &orders, "{\"qty\":1001}".into(), 400, "malformed", Some("qty")),
        ("no quantity", &buyer, &orders, "{}".into(), 400, "malformed", Some("qty")),
        (
            "qty and lines",
            &buyer,
            &orders,
            json!({"qty": 1, "lines": []}).to_string(),
            400,
            "malformed",
            Some("lines"),
        ),
        (
            "no lines",
            &buyer,
            &orders,
            json!({"lines": []}).to_string(),
            400,
            "malformed",
            Some("lines"),
        ),
        (
            "nine lines",
            &buyer,
            &orders,
            json!({"lines": vec![json!({"variantId": drop, "qty": 1}); 9]}).to_string(),
            400,
            "malformed",
            Some("lines"),
        ),
        (
            "bad variant",
            &buyer,
            &orders,
            json!({"lines": [{"variantId": "x", "qty": 1}]}).to_string(),
            400,
            "malformed",
            Some("lines[0].variantId"),
        ),
        (
            "line without qty",
            &buyer,
            &orders,
            json!({"lines": [{"variantId": drop}]}).to_string(),
            400,
            "malformed",
            Some("lines[0].qty"),
        ),
        (
            "unknown member",
            &buyer,
            &orders,
            "{\"qty\":1,\"price\":1}".into(),
            400,
            "malformed",
            Some("price"),
        ),
        (
            "repeated member",
            &buyer,
            &orders,
            "{\"qty\":1,\"qty\":2}".into(),
            400,
            "malformed",
            Some("qty"),
        ),
        (
            "another drop",
            &buyer,
            &orders,
            json!({"qty": 1, "dropId": random_uuid()}).to_string(),
            400,
            "malformed",
            Some("dropId"),
        ),
        ("no drop", &buyer, "/orders", "{\"qty\":1}".into(), 400, "malformed", Some("dropId")),
        (
            "drop no UUID",
            &buyer,
            "/orders",
            "{\"qty\":1,\"dropId\":\"x\"}".into(),
            400,
            "malformed",
            Some("dropId"),
        ),
        (
            "empty payment method",
            &buyer,
            &orders,
            "{\"qty\":1,\"paymentMethodId\":\"\"}".into(),
            400,
            "malformed",
            Some("paymentMethodId"),
        ),
        (
            "a payment method that Postgres cannot keep",
            &buyer,
            &orders,
            "{\"qty\":1,\"paymentMethodId\":\"\\u0000\"}".into(),
            400,
            "malformed",
            Some("paymentMethodId"),
        ),
        (
            "bad ifSoldOut",
            &buyer,
            &orders,
            "{\"qty\":1,\"ifSoldOut\":\"maybe\"}".into(),
            400,
            "malformed",
            Some("ifSoldOut"),
        ),
        (
            "too large",
            &buyer,
            &orders,
            format!("{{\"qty\":1,\"paymentMethodId\":\"{}\"}}", "x".repeat(70_000)),
            413,
            "too_large",
            None,
        ),
        (
            "path no UUID",
            &buyer,
            "/drops/x/orders",
            "{\"qty\":1}".into(),
            404,
            "unknown_drop",
            None,
        ),
        (
            "foreign creator",
            &buyer,
            &schedules,
            drop_request(5).to_string(),
            403,
            "forbidden",
            None,
        ),
        (
            "no time zone offset",
            &owner,
            &schedules,
            with(|r| r["startsAt"] = json!("2030-01-01T00:00:00")),
            400,
            "malformed",
            Some("startsAt"),
        ),
        (
            "absurd year",
            &owner,
            &schedules,
            with(|r| r["endsAt"] = json!("99999-01-01T00:00:00Z")),
            400,
            "malformed",
            Some("endsAt"),
        ),
        (
            "ends before it starts",
            &owner,
            &schedules,
            with(|r| r["endsAt"] = json!("2019-01-01T00:00:00Z")),
            400,
            "malformed",
            Some("endsAt"),
        ),
        (
            "unknown zone",
            &owner,
            &schedules,
            with(|r| r["timeZone"] = json!("Mars/Olympus")),
            400,
            "malformed",
            Some("timeZone"),
        ),
        (
            "no stock",
            &owner,
            &schedules,
            with(|r| r["stock"] = json!(0)),
            400,
            "malformed",
            Some("stock"),
        ),
        (
            "too much stock",
            &owner,
            &schedules,
            with(|r| r["stock"] = json!(10_000_001)),
            400,
            "malformed",
            Some("stock"),
        ),
        (
            "negative price",
            &owner,
            &schedules,
            with(|r| r["price"]["amount"] = json!(-1)),
            400,
            "malformed",
            Some("price"),
        ),
        (
            "odd currency",
            &owner,
            &schedules,
            with(|r| r["price"]["currency"] = json!("euro")),
            400,
            "malformed",
            Some("price"),
        ),
        (
            "no title",
            &owner,
            &schedules,
            with(|r| r["title"] = json!("")),
            400,
            "malformed",
            Some("title"),
        ),
        (
            "a title that Postgres cannot keep",
            &owner,
            &schedules,
            with(|r| r["title"] = json!("a\0")),
            400,
            "malformed",
            Some("title"),
        ),
        (
            "long title",
            &owner,
            &schedules,
            with(|r| r["title"] = json!("x".repeat(201))),
            400,
            "malformed",
            Some("title"),
        ),
        (
            "hold 0",
            &owner,
            &schedules,
            with(|r| r["holdSeconds"] = json!(0)),
            400,
            "malformed",
            Some("holdSeconds"),
        ),
        (
            "limit 0",
            &owner,
            &schedules,
            with(|r| r["limitPerUser"] = json!(0)),
            400,
            "malformed",
            Some("limitPerUser"),
        ),
        (
            "product no UUID",
            &owner,
            &schedules,
            with(|r| r["productId"] = json!(7)),
            400,
            "malformed",
            Some("productId"),
        ),
    ];
    for (what, client, path, body, expected, code, field) in rows {
        let request =
            client.request(Method::POST, path).header("idempotency-key", what.replace(' ', "-"));
        let request = request.header("content-type", "application/json").body(body);
        let (status, body) = answer(request.send().await.unwrap()).await;
        assert_problem(what, status, &body, expected, code, field);
    }
    let good = "{\"qty\":1}";
    let post = || {
        buyer.request(Method::POST, &orders).header("content-type", "application/json").body(good)
    };
    for key in ["", " ", "a b", "ä", &"x".repeat(129)] {
        let request = post().header("idempotency-key", key.as_bytes());
        let (status, body) = answer(request.send().await.unwrap()).await;
        assert_problem("key", status, &body, 400, "malformed", Some("Idempotency-Key"));
    }
    let (status, body) = answer(post().send().await.unwrap()).await;
    assert_problem("no key", status, &body, 400, "malformed", Some("Idempotency-Key"));
    let (status, body) = answer(
        post().header("idempotency-key", "k").header("prefer", "wait=soon").send().await.unwrap(),
    )
    .await;
    assert_problem("prefer", status, &body, 400, "malformed", Some("Prefer"));
    for media in ["text/plain", "application/json; charset=latin1", ""] {
        let request = buyer
            .request(Method::POST, &orders)
            .header("idempotency-key", "k")
            .header("content-type", media);
        let (status, body) = answer(request.body(good).send().await.unwrap()).await;
        assert_problem(media, status, &body, 415, "unsupported_media_type", None);
    }
    let other_site = Site::embedded();
    let minted_elsewhere = other_site.token(random_uuid(), "");
    let tampered = format!("{}x", buyer.token);
    let expired = expired_token(&site);
    let calls = [
        (Method::POST, orders.clone()),
        (Method::POST, "/orders".into()),
        (Method::DELETE, format!("/orders/{drop}")),
        (Method::GET, format!("/orders/{drop}")),
        (Method::GET, format!("/orders/{drop}/events")),
        (Method::POST, schedules.clone()),
        (Method::POST, format!("/drops/{drop}/open")),
        (Method::POST, format!("/drops/{drop}/close")),
        (Method::POST, format!("/creators/{creator_id}/follow")),
        (Method::DELETE, format!("/creators/{creator_id}/follow")),
    ];
    for (method, path) in calls {
        for token in ["", "nonsense", &tampered, &minted_elsewhere, &expired] {
            let client = node.client(token);
            let request = client.request(method.clone(), &path).header("idempotency-key", "k");
            let (status, body) =
                answer(request.json(&json!({"qty": 1})).send().await.unwrap()).await;
            assert_problem(
                &format!("{method} {path} {token}"),
                status,
                &body,
                401,
                "unauthorized",
                None,
            );
        }
    }
    let (status, body) = buyer.get(&format!("/orders/{drop}?after=made-up")).await;
    assert_problem("made-up position", status, &body, 400, "malformed", Some("after"));
    let (status, body) = buyer.get(&format!("/orders/{drop}?waitMs=-1")).await;
    assert_problem("negative wait", status, &body, 400, "malformed", Some("waitMs"));
    let (status, body) = buyer.get("/nothing/here").await;
    assert_problem("no route", status, &body, 404, "not_found", None);
    let put = buyer.request(Method::PUT, &orders).send().await.unwrap();
    let (status, body) = answer(put).await;
    assert_problem("no method", status, &body, 405, "method_not_allowed", None);
    assert_eq!(intents_decided(&buyer).await, before, "nothing of this reached the log");
}
