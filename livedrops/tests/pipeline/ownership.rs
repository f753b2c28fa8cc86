//! Who decides a partition: processes that sleep, and processes that their group has replaced. Real Kafka.

use std::time::Duration;

use platform::clock::{monotonic, random_uuid};
use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use reqwest::Method;
use serde_json::json;

use crate::harness::*;
use crate::kafka::drop_nodes;

async fn wait_until(due_ms: i64) {
    let left =
        u64::try_from(due_ms - now_ms()).expect("the machine is too slow for this test's instants");
    tokio::time::sleep(Duration::from_millis(left)).await;
}

/// Two reserved orders of a payable drop: buyer, order id, when the hold ends.
async fn two_holds(site: &Site, api: &Node) -> Vec<(Client, String, i64)> {
    let mut request = drop_request(100);
    request["price"]["amount"] = json!(1_000);
    request["holdSeconds"] = json!(15);
    let (drop, _) = schedule(site, api, &request).await;
    let mut holds = Vec::new();
    for _ in 0..2 {
        let buyer = api.client(&site.token(random_uuid(), ""));
        let body = json!({"qty": 1, "paymentMethodId": "pm_1"});
        let (status, body) = buyer.post(&format!("/drops/{drop}/orders"), "k", &body).await;
        assert_eq!((status, &body["order"]["status"]), (201, &json!("RESERVED")), "{body}");
        let order = &body["order"];
        let expires_at = milliseconds(order["holdExpiresAt"].as_str().unwrap());
        holds.push((buyer, order["id"].as_str().unwrap().to_owned(), expires_at));
    }
    holds
}

#[tokio::test(flavor = "multi_thread")]
async fn a_processor_paused_for_a_minute_is_fenced_and_each_order_is_judged_by_its_append_time() {
    let _broker = BROKER.lock().await;
    let site = Site::kafka();
    // Single roles make nothing by themselves.
    for arguments in [["topics", "apply"], ["schemas", "register"], ["topics", "plan"]] {
        let output = site.run("none", false, &arguments);
        assert!(output.status.success(), "{output:?}");
    }
    let api = site.start("api", true, &["ingest-api"]).await;
    let paused = site.command("zombie", false, &["processor", "reservations"]).spawn();
    let mut paused = Process(paused.unwrap());
    let mut request = drop_request(100);
    let opens = now_ms() + 8_000;
    request["startsAt"] = json!(instant(opens));
    request["endsAt"] = json!(instant(opens + 1_500));
    let (drop, _) = schedule(&site, &api, &request).await;
    let holds = two_holds(&site, &api).await;
    let stopped = Stopped::new(paused.0.id());
    let stopped_at = now_ms();
    // Appended while nobody decides: before the opening, while on sale, after the closing; and a cancellation
    // just before and just after the hold ran out.
    let mut sent = Vec::new();
    for (due, expected) in [
        (opens - 300, "not_open"),
        (opens + 300, "CONFIRMED"),
        (opens + 1_200, "CONFIRMED"),
        (opens + 2_000, "not_open"),
    ] {
        wait_until(due).await;
        let buyer = api.client(&site.token(random_uuid(), ""));
        let post = buyer
            .request(Method::POST, &format!("/drops/{drop}/orders"))
            .header("idempotency-key", "k");
        let response = post.json(&json!({"qty": 1})).send().await.unwrap();
        assert_eq!(response.status(), 202);
        sent.push((buyer, response.headers()["location"].to_str().unwrap().to_owned(), expected));
    }
    for ((buyer, order, expires_at), (distance_ms, expected)) in
        holds.into_iter().zip([(-250, "CANCELLED"), (250, "EXPIRED")])
    {
        wait_until(expires_at + distance_ms).await;
        let path = format!("/orders/{order}");
        let response = buyer.request(Method::DELETE, &path).send().await.unwrap();
        assert_eq!(response.status(), 202);
        sent.push((buyer, response.headers()["location"].to_str().unwrap().to_owned(), expected));
    }
    wait_until(stopped_at + 60_000).await;
    // A successor takes over, then the zombie wakes up and must find itself fenced.
    let successor = site.command("successor", false, &["processor", "reservations"]).spawn();
    let mut successor = Process(successor.unwrap());
    for (buyer, location, expected) in sent {
        let (_, body) = buyer.get(&format!("{location}&waitMs=30000")).await;
        let outcome = if body["status"] == "REJECTED" { &body["reason"] } else { &body["status"] };
        assert_eq!(outcome, expected, "{body}");
    }
    std::mem::drop(stopped);
    let buyer = api.client(&site.token(random_uuid(), ""));
    let (status, body) =
        buyer.post(&format!("/drops/{drop}/orders"), "late", &json!({"qty": 1})).await;
    assert_eq!((status, &body["code"]), (409, &json!("not_open")));
    for child in [&mut paused, &mut successor] {
        assert_eq!(terminate(&mut child.0), Some(0));
    }
    drop_nodes([api]);
    assert_audit(&site, "zombie", false);
}

/// Joins the group of order processors under the name of another process, until it has got every partition.
fn steal_the_membership(site: &Site, data: &str) -> BaseConsumer {
    let instance = std::fs::read_to_string(site.path(data).join("instance-id")).unwrap();
    let thief: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", from_stack("LIVEDROPS_KAFKA__BROKERS"))
        .set("group.id", "livedrops-reservations")
        .set("group.instance.id", format!("reservations-{}", instance.trim()))
        .set("partition.assignment.strategy", "cooperative-sticky")
        .create()
        .unwrap();
    thief.subscribe(&["order-intents"]).unwrap();
    let started = monotonic();
    while thief.assignment().unwrap().count() < 12 {
        assert!(started.elapsed() < PATIENCE, "the thief gets nothing");
        drop(thief.poll(Duration::from_millis(50)));
    }
    thief
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_whose_group_has_replaced_it_joins_again() {
    let _broker = BROKER.lock().await;
    let site = Site::kafka();
    let node = site.start("data", false, &["all"]).await;
    let (drop_id, _) = schedule(&site, &node, &drop_request(1)).await;
    let thief = steal_the_membership(&site, "data");
    let started = monotonic();
    while thief.client().fatal_error().is_none() {
        assert!(started.elapsed() < PATIENCE, "the node does not take its membership back");
        drop(thief.poll(Duration::from_millis(50)));
    }
    drop(thief);
    let buyer = node.client(&site.token(random_uuid(), ""));
    let (status, body) =
        buyer.post(&format!("/drops/{drop_id}/orders"), "k", &json!({"qty": 1})).await;
    assert_eq!(status, 201, "it owns the partitions again: {body}");
    drop_nodes([node]);
}
