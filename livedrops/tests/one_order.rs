//! One order through the whole program, as README.md follows it: HTTP, Avro, store key and row.
//!
//! A real process takes the order; what differs from run to run (times, random ids, the chain over them) is
//! set to fixed values before it is compared with `golden/one_order.txt`.

#![allow(missing_docs, clippy::unwrap_used, clippy::print_stderr, reason = "tests")]

#[path = "pipeline/harness.rs"]
#[allow(dead_code, reason = "the pipeline tests use the rest")]
mod harness;

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use clickhouse_views::facts_of;
use harness::{Site, answer, drop_request};
use model::Row;
use reqwest::Method;
use reservations::rows::StateRow;
use runtime::{Tail, TailStart};
use schemas::avro;
use schemas::decision::{Decision, FIRST_LINK};
use schemas::framing;
use schemas::ids::{DropId, IntentId};
use schemas::order::{OrderBody, OrderIntent, OrderRow};
use schemas::topics::{ORDER_DECISIONS, ORDER_INTENTS, Topic};
use schemas::units::Millis;
use serde_json::{Value, json};
use store_rocksdb::EmbeddedLog;
use uuid::Uuid;

const DROP: &str = "d0d0d0d0-0000-8000-8000-000000000001";
const CREATOR: &str = "c0c0c0c0-0000-8000-8000-000000000002";
const BUYER: &str = "b0b0b0b0-0000-8000-8000-000000000003";
const TIME: Millis = Millis(1_800_000_000_000);

fn hex(bytes: &[u8]) -> String {
    let mut text = String::new();
    for line in bytes.chunks(40) {
        line.iter().for_each(|byte| write!(text, "{byte:02x}").unwrap());
        text.push('\n');
    }
    text
}

fn last_record(log: &EmbeddedLog, topic: Topic) -> Vec<u8> {
    let partition = DROP.parse::<DropId>().unwrap().partition(log.partitions());
    let mut tail = log.tail(topic, |_| TailStart::Beginning);
    let records = tail.poll(Duration::ZERO, 1_000).unwrap();
    records.into_iter().rfind(|record| record.partition == partition).unwrap().value
}

fn fixed_times(row: &mut OrderRow) {
    row.created_at = TIME;
    row.decided_at = TIME;
    row.hold_expires_at = row.hold_expires_at.map(|_| Millis(TIME.0 + 600_000));
}

#[tokio::test(flavor = "multi_thread")]
async fn one_order_leaves_the_same_bytes_at_every_station() {
    let site = Site::embedded();
    let node = site.start("data", false, &["all"]).await;
    let creator: Uuid = CREATOR.parse().unwrap();
    let owner = node.client(&site.token(creator, &format!("creator:{creator}:write")));
    let mut request = drop_request(10);
    request["dropId"] = json!(DROP);
    request["productId"] = json!(CREATOR);
    request["price"] = json!({"amount": 1_999, "currency": "EUR"});
    let (status, body) =
        owner.post(&format!("/creators/{creator}/drops"), "schedule", &request).await;
    assert_eq!(status, 201, "{body}");
    let buyer = node.client(&site.token(BUYER.parse().unwrap(), ""));
    let path = format!("/drops/{DROP}/orders");
    let post = buyer
        .request(Method::POST, &path)
        .header("idempotency-key", "cart-7")
        .header("prefer", "wait=20");
    let (status, mut body) =
        answer(post.json(&json!({"qty": 2, "paymentMethodId": "pm_1"})).send().await.unwrap())
            .await;
    for field in ["createdAt", "decidedAt", "holdExpiresAt", "serverTime"] {
        assert!(body["order"][field].is_string(), "{field}: {body}");
        body["order"][field] = json!("…");
    }
    assert_eq!(node.terminate(), Some(0));

    let mut text = format!(
        "POST {path}\nIdempotency-Key: cart-7\nPrefer: wait=20\n{{\"qty\":2,\"paymentMethodId\":\"pm_1\"}}\n\n"
    );
    let sorted: Value = serde_json::from_str(&body.to_string()).unwrap();
    write!(text, "{status}\n{}\n", serde_json::to_string_pretty(&sorted).unwrap()).unwrap();

    let log = EmbeddedLog::open(&site.path("data/log"), 4, "", || TIME).unwrap();
    let value = last_record(&log, ORDER_INTENTS);
    let mut intent: OrderIntent =
        avro::ORDER_INTENT.decode(&value[framing::HEADER_LENGTH..]).unwrap();
    (intent.intent_id, intent.sent_at) = (IntentId([7; 16]), TIME);
    let mut bytes = value[..framing::HEADER_LENGTH].to_vec();
    avro::ORDER_INTENT.encode(&intent, &mut bytes);
    write!(text, "\norder-intents, framed Avro\n{}", hex(&bytes)).unwrap();

    let value = last_record(&log, ORDER_DECISIONS);
    let mut decision: Decision<OrderBody> =
        avro::ORDER_DECISION.decode(&value[framing::HEADER_LENGTH..]).unwrap();
    decision.header.intent_id = Some(IntentId([7; 16]));
    (decision.header.log_time, decision.header.decided_at, decision.chain) =
        (TIME, TIME, FIRST_LINK);
    let row = Arc::make_mut(&mut decision.body.as_mut().unwrap().orders[0]);
    fixed_times(row);
    let row = StateRow::from(row.clone());
    let mut bytes = value[..framing::HEADER_LENGTH].to_vec();
    avro::ORDER_DECISION.encode(&decision, &mut bytes);
    write!(text, "\norder-decisions, framed Avro, chain blank\n{}", hex(&bytes)).unwrap();

    let mut stored = Vec::new();
    row.encode(&mut stored);
    write!(text, "\nstore, key\n{}store, row\n{}", hex(row.key().as_bytes()), hex(&stored))
        .unwrap();
    write!(text, "\nPostgres view_v1.orders, from\n{row:#?}\n").unwrap();
    let partition = DROP.parse::<DropId>().unwrap().partition(4);
    write!(
        text,
        "\nClickHouse decisions\n{:#?}\n",
        facts_of(partition, 0, &decision).next().unwrap()
    )
    .unwrap();
    compare(&text);
}

fn compare(text: &str) {
    let path = std::path::Path::new("tests/golden/one_order.txt");
    if std::env::var_os("WRITE_NEW_GOLDEN").is_some() && !path.exists() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    let golden = std::fs::read_to_string(path).unwrap();
    for (number, (expected, found)) in golden.lines().zip(text.lines()).enumerate() {
        assert_eq!(found, expected, "line {} of {}", number + 1, path.display());
    }
    assert_eq!(text.lines().count(), golden.lines().count());
}
