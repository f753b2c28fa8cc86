//! State and log disagree, met by real processes: the partition refuses, the others go on, nothing is written.

use std::time::Duration;

use platform::clock::monotonic;
use runtime::{Position, Store, StoreBatch};
use serde_json::{Value, json};
use store_rocksdb::RocksStore;

use crate::harness::*;

type Damage = fn(&mut Position);

/// What is done to the store of each partition, and what the program must say of it.
const DAMAGES: [(Damage, [&str; 2]); 4] = [
    (
        |position| position.next_decision_offset += 1_000_000,
        ["the store stands at decision offset", "Restore the decisions topic"],
    ),
    (
        |position| (position.next_decision_offset, position.seq) = (1, 41),
        ["has seq 1, 42 is due", "Restore the decisions topic"],
    ),
    (
        |position| {
            (position.next_decision_offset, position.seq, position.chain) = (1, 0, [9; 16]);
        },
        ["does not continue the chain", "move the store folder away"],
    ),
    (
        |position| position.format = 99,
        ["store format 99, this build knows 4", "Start the version that wrote it"],
    ),
];

/// Damages the stores of the first partitions, one way each.
fn damage_stores(site: &Site) {
    for (partition, (damage, _)) in DAMAGES.iter().enumerate() {
        let folder = site.path(&format!("data/state/reservations/{partition}"));
        let mut store = RocksStore::open(&folder).unwrap();
        let mut position = store.position().unwrap().unwrap();
        damage(&mut position);
        store.write(StoreBatch::new(position)).unwrap();
    }
}

fn in_state<'a>(partitions: &'a [Value], state: &str) -> Vec<&'a Value> {
    partitions.iter().filter(|partition| partition["state"] == state).collect()
}

/// Each damaged partition refuses with its reason, all others run, and the process ends with 4.
async fn assert_each_damage_refuses(site: &Site, others: usize) {
    assert_eq!(site.start("data", false, &["all"]).await.terminate(), Some(0));
    damage_stores(site);
    let node = Node::spawn(site.command("data", false, &["all", "--listen", "127.0.0.1:0"]));
    let client = node.client("");
    let started = monotonic();
    let partitions = loop {
        let (status, body) = client.get("/readyz").await;
        let partitions = body["partitions"].as_array().unwrap().clone();
        let refused = in_state(&partitions, "refused").len();
        if refused == DAMAGES.len() && in_state(&partitions, "running").len() == others {
            assert_eq!(status, 503, "a refused partition is not ready");
            break partitions;
        }
        assert!(started.elapsed() < PATIENCE, "{body}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    for refused in in_state(&partitions, "refused") {
        assert_eq!(refused["processor"], json!("reservations"));
        let partition = usize::try_from(refused["partition"].as_u64().unwrap()).unwrap();
        let reason = refused["reason"].as_str().unwrap();
        for expected in DAMAGES[partition].1 {
            assert!(reason.contains(expected), "{expected}: {reason}");
        }
    }
    assert_eq!(node.terminate(), Some(4));
    // The log was not touched: without the damaged stores all is as before.
    for partition in 0..DAMAGES.len() {
        std::fs::remove_dir_all(site.path(&format!("data/state/reservations/{partition}")))
            .unwrap();
    }
    assert_eq!(site.start("data", false, &["all"]).await.terminate(), Some(0));
    assert_audit(site, "data", false);
}

#[tokio::test(flavor = "multi_thread")]
async fn damaged_stores_refuse_on_the_embedded_log() {
    assert_each_damage_refuses(&Site::embedded(), 4).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn damaged_stores_refuse_on_kafka() {
    let _broker = BROKER.lock().await;
    assert_each_damage_refuses(&Site::kafka(), 20).await;
}
