//! Real Kafka, real registry, real Postgres, real `ClickHouse` engine. One broker, so one test at a time.

use std::time::Duration;

use platform::clock::{monotonic, random_uuid};
use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::producer::{BaseRecord, DefaultProducerContext, Producer, ThreadedProducer};
use reqwest::Method;
use schemas::ids::{DropId, Hash, OrderId, UserId};
use schemas::order::{IfSoldOut, OrderIntent, OrderIntentKind, OrderLine, PlaceOrder};
use schemas::units::Millis;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::harness::*;

#[tokio::test(flavor = "multi_thread")]
async fn ten_kills_in_a_burst_lose_nothing_and_decide_nothing_twice() {
    let _broker = BROKER.lock().await;
    let site = Site::kafka();
    survive_ten_kills(&site, true).await;
    let text = assert_audit(&site, "data", true);
    assert!(text.contains("0 oversold · 0 undecided · 0 decided twice"), "{text}");
    assert!(text.contains("orders = log") && text.contains("decisions = log"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_key_sent_three_times_over_two_api_processes_is_one_order() {
    let _broker = BROKER.lock().await;
    let site = Site::kafka();
    let first = site.start("data", false, &["all"]).await;
    let second = site.start("api", true, &["ingest-api"]).await;
    let (drop, _) = schedule(&site, &first, &drop_request(1_000)).await;
    let path = format!("/drops/{drop}/orders");
    let mut sending = tokio::task::JoinSet::new();
    for number in 0..50 {
        let token = site.token(random_uuid(), "");
        let nodes = [first.client(&token), second.client(&token), first.client(&token)];
        let path = path.clone();
        sending.spawn(async move {
            let body = json!({"qty": 2});
            let key = format!("key-{number}");
            let (a, b, c) = tokio::join!(
                nodes[0].post(&path, &key, &body),
                nodes[1].post(&path, &key, &body),
                nodes[2].post(&path, &key, &body)
            );
            let other = nodes[1].post(&path, &key, &json!({"qty": 3})).await;
            ([a, b, c], other)
        });
    }
    while let Some(answers) = sending.join_next().await {
        let (answers, (other_status, other)) = answers.unwrap();
        let created = answers.iter().filter(|(status, _)| *status == 201).count();
        let replayed = answers.iter().filter(|(status, _)| *status == 200).count();
        assert_eq!((created, replayed), (1, 2), "{answers:?}");
        let orders: Vec<_> = answers
            .iter()
            .map(|(_, body)| {
                let mut order = body["order"].clone();
                order.as_object_mut().unwrap().remove("serverTime");
                order
            })
            .collect();
        assert!(orders.iter().all(|order| *order == orders[0]), "{orders:?}");
        assert_eq!((other_status, &other["code"]), (422, &json!("key_reused")));
    }
    let (_, body) = first.client("").get(&format!("/drops/{drop}")).await;
    assert_eq!(
        body["variants"][0]["sold"], 100,
        "fifty orders of two units each, whatever was sent"
    );
    drop_nodes([first, second]);
    assert_audit(&site, "data", false);
}

pub(crate) fn drop_nodes<const N: usize>(nodes: [Node; N]) {
    nodes.into_iter().for_each(|node| assert_eq!(node.terminate(), Some(0)));
}

/// Appends raw bytes to the order intents, as a broken or hostile program would.
pub(crate) fn append_raw(partition: i32, values: &[Vec<u8>]) {
    let producer: ThreadedProducer<DefaultProducerContext> = ClientConfig::new()
        .set("bootstrap.servers", from_stack("LIVEDROPS_KAFKA__BROKERS"))
        .create()
        .unwrap();
    for value in values {
        let record: BaseRecord<'_, (), [u8]> =
            BaseRecord::to("order-intents").partition(partition).payload(value.as_slice());
        producer.send(record).map_err(|(error, _)| error).unwrap();
    }
    producer.flush(Duration::from_secs(10)).unwrap();
}

pub(crate) fn partition_of(drop: Uuid) -> i32 {
    i32::from(DropId::from(drop).partition(12).0)
}

async fn state_of(client: &Client, partition: i32) -> (String, String) {
    let (_, body) = client.get("/readyz").await;
    let partitions = body["partitions"].as_array().unwrap();
    let found = partitions
        .iter()
        .find(|p| p["processor"] == "reservations" && p["partition"] == partition)
        .unwrap();
    (found["state"].as_str().unwrap().to_owned(), found["reason"].as_str().unwrap_or("").to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn poison_is_one_decision_each_and_an_absent_registry_only_stalls() {
    let _broker = BROKER.lock().await;
    let site = Site::kafka();
    let node = site.start("data", false, &["all"]).await;
    let (drop, _) = schedule(&site, &node, &drop_request(100)).await;
    let partition = partition_of(drop);
    let random: Vec<u8> = (0..64_u8).map(|i| i.wrapping_mul(97).wrapping_add(131)).collect();
    let unknown = [&[0, 0, 15, 66, 64][..], &random].concat();
    append_raw(
        partition,
        &[random.clone(), b"{\"hello\":1}".to_vec(), Vec::new(), unknown.clone()],
    );
    let buyer = node.client(&site.token(random_uuid(), ""));
    let path = format!("/drops/{drop}/orders");
    let (status, body) = buyer.post(&path, "after-poison", &json!({"qty": 1})).await;
    assert_eq!(status, 201, "the partition goes on: {body}");

    // The registry is away (stopped, so that every call times out): an unknown id must wait, not be judged.
    let registry = Stopped::new(from_stack("STACK_REGISTRY_PID").parse().unwrap());
    let later = [&[0, 0, 15, 66, 65][..], &random].concat();
    append_raw(partition, &[later]);
    let started = monotonic();
    let reason = loop {
        let (state, reason) = state_of(&buyer, partition).await;
        if state == "stalled" {
            break reason;
        }
        assert!(started.elapsed() < PATIENCE, "{state}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    let pending = buyer
        .request(Method::POST, &path)
        .header("idempotency-key", "while-stalled")
        .json(&json!({"qty": 1}))
        .send()
        .await
        .unwrap();
    let location = pending.headers()["location"].to_str().unwrap().to_owned();
    std::mem::drop(registry);
    assert!(reason.contains("registry is unreachable"), "{reason}");
    let (status, body) = buyer.get(&format!("{location}&waitMs=30000")).await;
    assert_eq!((status, &body["status"]), (200, &json!("CONFIRMED")), "nothing was lost: {body}");
    assert_eq!(node.terminate(), Some(0));

    let list = site.run("data", false, &["dead-letters", "list"]);
    let list = String::from_utf8_lossy(&list.stdout).into_owned();
    for expected in
        ["magic byte", "5-byte", "schema id 1000000 is unknown", "schema id 1000001 is unknown"]
    {
        assert!(list.contains(expected), "{expected}: {list}");
    }
    let line = list.lines().find(|line| line.contains("first byte is 0x7b")).unwrap();
    let place = line.split_whitespace().next().unwrap();
    assert!(place.starts_with("order-intents:"), "{line}");
    let shown = site.run("data", false, &["dead-letters", "show", place]);
    assert!(String::from_utf8_lossy(&shown.stdout).contains("{\"hello\":1}"), "{shown:?}");
    assert_audit(&site, "data", false);
}

/// Framed orders of buyers that nobody has seen, with a record that is none after every thousandth.
pub(crate) async fn orders_and_poison(drop: Uuid, count: usize) -> Vec<Vec<u8>> {
    let url = from_stack("LIVEDROPS_KAFKA__REGISTRY_URL");
    let latest = reqwest::get(format!("{url}/subjects/order-intents-value/versions/latest"));
    let latest: Value = latest.await.unwrap().json().await.unwrap();
    let schema_id = u32::try_from(latest["id"].as_u64().unwrap()).unwrap();
    let mut values = Vec::new();
    for number in 1..=count {
        let (drop, user) = (DropId::from(drop), UserId::from(random_uuid()));
        let order = PlaceOrder {
            order_id: OrderId::derive(drop, user, "key"),
            request_hash: Hash([0; 16]),
            lines: [OrderLine { variant_id: drop.plain_variant(), qty: 1 }].into(),
            payment_method: None,
            if_sold_out: IfSoldOut::Reject,
            expected_total: None,
            expected_currency: None,
        };
        let intent = OrderIntent {
            actor: Some(user),
            drop_id: Some(drop),
            place: Some(order),
            ..OrderIntent::bare(random_uuid().into(), OrderIntentKind::Place, Millis(now_ms()))
        };
        let mut value = Vec::new();
        schemas::framing::start(&mut value, schema_id);
        schemas::avro::ORDER_INTENT.encode(&intent, &mut value);
        values.push(value);
        if number % 1_000 == 0 {
            values.push(b"poison".to_vec());
        }
    }
    values
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backlog_is_decided_once_and_in_order_over_kills() {
    let _broker = BROKER.lock().await;
    let site = Site::kafka();
    let mut node = site.start("data", false, &["all"]).await;
    let (drop, _) = schedule(&site, &node, &drop_request(40_000)).await;
    let token = site.token(random_uuid(), "");
    let backlog = orders_and_poison(drop, 60_000).await;
    append_raw(partition_of(drop), &backlog);
    let sold = async |node: &Node| {
        let (_, body) = node.client(&token).get(&format!("/drops/{drop}")).await;
        body["variants"][0]["sold"].as_i64().unwrap()
    };
    node.kill();
    node = site.start("data", false, &["all"]).await;
    let mut seen = 0;
    while seen < 40_000 {
        let started = monotonic();
        let before = std::mem::replace(&mut seen, sold(&node).await);
        assert!(seen >= before, "{seen} after {before}");
        while seen == before || seen == 0 {
            assert!(started.elapsed() < PATIENCE, "stuck at {seen}");
            seen = sold(&node).await;
        }
        if seen < 40_000 {
            node.kill();
            node = site.start("data", false, &["all"]).await;
        }
    }
    let path = format!("/drops/{drop}/orders");
    let late = node.client(&token).post(&path, "late", &json!({"qty": 1})).await;
    assert_eq!((late.0, &late.1["code"]), (409, &json!("sold_out")), "after all of them: {late:?}");
    assert_eq!(node.terminate(), Some(0));
    let text = assert_audit(&site, "data", false);
    assert!(text.contains("0 oversold · 0 undecided · 0 decided twice"), "{text}");
}

/// What the registry asks of a new schema.
async fn compatibility_level(registry_url: &str) -> Value {
    let config = reqwest::get(format!("{registry_url}/config")).await.unwrap();
    config.json::<Value>().await.unwrap()["compatibilityLevel"].take()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_registry_refuses_an_incompatible_schema() {
    let _broker = BROKER.lock().await;
    let site = Site::kafka();
    let registered = site.run("data", false, &["schemas", "register"]);
    assert!(registered.status.success(), "{registered:?}");
    let url = from_stack("LIVEDROPS_KAFKA__REGISTRY_URL");
    let http = reqwest::Client::new();
    assert_eq!(compatibility_level(&url).await, "FULL_TRANSITIVE");
    let mut schema: Value = serde_json::from_str(schemas::avro::RELEASED[0].text).unwrap();
    schema["fields"]
        .as_array_mut()
        .unwrap()
        .push(json!({"name": "novel", "type": "string", "doc": "no default"}));
    let body = json!({"schema": schema.to_string(), "schemaType": "AVRO"});
    let post = http.post(format!("{url}/subjects/order-intents-value/versions")).json(&body);
    let response = post.send().await.unwrap();
    assert_eq!(response.status(), 409, "{}", response.text().await.unwrap());
    schema["fields"].as_array_mut().unwrap().last_mut().unwrap()["default"] = json!("");
    let compatible = json!({"schema": schema.to_string(), "schemaType": "AVRO"});
    let check = http
        .post(format!("{url}/compatibility/subjects/order-intents-value/versions/latest"))
        .json(&compatible);
    let answer: Value = check.send().await.unwrap().json().await.unwrap();
    assert_eq!(answer["is_compatible"], true, "a field with a default is welcome: {answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn processes_that_meet_a_new_registry_at_once_all_register() {
    let _broker = BROKER.lock().await;
    let site = Site::kafka();
    assert!(site.run("data", false, &["schemas", "register"]).status.success());
    // As on the first day: no rule stands. Schemas stay, because ids in the log stand for them.
    let url = from_stack("LIVEDROPS_KAFKA__REGISTRY_URL");
    let admin = url.replace("/apis/ccompat/v7", "/apis/registry/v3/admin/rules");
    let forgotten = reqwest::Client::new().delete(&admin).send().await.unwrap();
    assert!(forgotten.status().is_success(), "{admin}: {}", forgotten.status());
    let command = || {
        let mut command = site.command("data", false, &["schemas", "register"]);
        command.stderr(std::process::Stdio::piped()).spawn().unwrap()
    };
    let starting: Vec<_> = (0..6).map(|_| command()).collect();
    for process in starting {
        let output = process.wait_with_output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    assert_eq!(compatibility_level(&url).await, "FULL_TRANSITIVE");
}

/// Where a partition of the order intents ends.
fn intents_end(partition: i32) -> i64 {
    let reader: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", from_stack("LIVEDROPS_KAFKA__BROKERS"))
        .create()
        .unwrap();
    reader.fetch_watermarks("order-intents", partition, PATIENCE).unwrap().1
}

#[tokio::test(flavor = "multi_thread")]
async fn behind_a_silent_broker_every_order_is_answered_and_taken_when_it_is_sent_again() {
    let _broker = BROKER.lock().await;
    let site = Site::kafka();
    let node = site.start("data", false, &["all"]).await;
    let (drop_id, _) = schedule(&site, &node, &drop_request(1_000)).await;
    let path = format!("/drops/{drop_id}/orders");
    let buyers: Vec<_> = (0..40).map(|_| node.client(&site.token(random_uuid(), ""))).collect();
    let order = async |buyer: &Client| buyer.post(&path, "k", &json!({"qty": 1})).await;
    let before = intents_end(partition_of(drop_id));
    let broker = Stopped::new(from_stack("STACK_KAFKA_PID").parse().unwrap());
    let answers = futures_util::future::join_all(buyers.iter().map(order)).await;
    drop(broker);
    let told = |expected: (u16, &str, &str)| {
        let is_it = |(status, body): &&(u16, Value)| {
            (*status, body["code"].as_str(), body["retry"].as_str())
                == (expected.0, Some(expected.1), Some(expected.2))
        };
        answers.iter().filter(is_it).count()
    };
    let unknown = told((504, "outcome_unknown", "same-key"));
    let not_written = told((503, "log_unavailable", "safe"));
    assert_eq!(unknown + not_written, 40, "{answers:?}");
    assert!(unknown > 0 && not_written > 0, "{answers:?}");
    for (status, body) in futures_util::future::join_all(buyers.iter().map(order)).await {
        assert!(matches!(status, 200 | 201), "{body}");
        assert_eq!(body["order"]["status"], "CONFIRMED", "{body}");
    }
    // Those that were on their way may be in the log twice; those that were told that nothing was written are not.
    let written = intents_end(partition_of(drop_id)) - before;
    assert!((40..=40 + i64::try_from(unknown).unwrap()).contains(&written), "{written}");
    assert_eq!(node.terminate(), Some(0));
    let text = assert_audit(&site, "data", false);
    assert!(text.contains("0 undecided · 0 decided twice"), "{text}");
}
