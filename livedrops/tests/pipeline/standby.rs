//! Two processes that stand by for each other, on real Kafka.

use std::collections::BTreeMap;
use std::time::Duration;

use platform::clock::{monotonic, random_uuid};
use serde_json::{Value, json};

use crate::harness::*;
use crate::kafka::{append_raw, orders_and_poison, partition_of};

/// Processor and partition, with state and sequence number.
type Partitions = BTreeMap<(String, i64), (String, i64)>;

async fn partitions(node: &Node) -> Partitions {
    let (_, body) = node.client("").get("/readyz").await;
    let all = body["partitions"].as_array().into_iter().flatten();
    let word = |value: &Value| value.as_str().unwrap().to_owned();
    all.map(|it| {
        let key = (word(&it["processor"]), it["partition"].as_i64().unwrap());
        (key, (word(&it["state"]), it["seq"].as_i64().unwrap()))
    })
    .collect()
}

/// Every partition is decided by one of them and followed to its end by the other.
fn are_in_step(one: &Partitions, other: &Partitions) -> bool {
    one.len() == 24
        && one.len() == other.len()
        && one.iter().zip(other).all(
            |((key, (state, seq)), (other_key, (other_state, other_seq)))| {
                let states = [state.as_str(), other_state.as_str()];
                let is_shared =
                    states == ["running", "standby"] || states == ["standby", "running"];
                key == other_key && is_shared && seq == other_seq
            },
        )
}

async fn until_in_step(one: &Node, other: &Node) -> Partitions {
    let started = monotonic();
    loop {
        let (here, there) = (partitions(one).await, partitions(other).await);
        if are_in_step(&here, &there) {
            return here;
        }
        assert!(started.elapsed() < PATIENCE, "never in step: {here:?}\n{there:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_standby_follows_the_owner_and_takes_over_what_it_follows() {
    let _broker = BROKER.lock().await;
    let site = Site::kafka();
    let start = async |data: &str| {
        let mut command = site.command(data, false, &["all", "--listen", "127.0.0.1:0"]);
        command.env("LIVEDROPS_KAFKA__STANDBY", "true");
        let node = Node::spawn(command);
        node.wait_until_ready().await;
        node
    };
    let (first, second) = (start("first").await, start("second").await);
    let (drop, _) = schedule(&site, &first, &drop_request(4_000)).await;
    until_in_step(&first, &second).await;
    // All of it is decided and followed while both live.
    let partition = partition_of(drop);
    append_raw(partition, &orders_and_poison(drop, 6_000).await);
    let late = first.client(&site.token(random_uuid(), ""));
    let path = format!("/drops/{drop}/orders");
    let (_, body) = late.post(&path, "late", &json!({"qty": 1})).await;
    assert_eq!(body["code"], "sold_out", "after all of them: {body}");
    let seen = until_in_step(&first, &second).await;

    let key = ("reservations".to_owned(), i64::from(partition));
    let (owner, standby) =
        if seen[&key].0 == "running" { (first, second) } else { (second, first) };
    owner.kill();
    let client = standby.client(&late.token);
    let (_, replayed) = client.post(&path, "late", &json!({"qty": 1})).await;
    assert_eq!(
        (&replayed["code"], &replayed["order"]["id"]),
        (&body["code"], &body["order"]["id"])
    );
    let (_, again) = client.post(&path, "again", &json!({"qty": 1})).await;
    assert_eq!(again["code"], "sold_out", "{again}");
    assert_eq!(partitions(&standby).await[&key].0, "running");
    assert_eq!(standby.terminate(), Some(0));
    for data in ["first", "second"] {
        let text = assert_audit(&site, data, false);
        assert!(text.contains("0 oversold · 0 undecided · 0 decided twice"), "{data}: {text}");
    }
}
