//! The embedded log in a process of its own: kill -9, deleted store, refusals, restarts.

use std::time::Duration;

use platform::clock::{monotonic, random_uuid};
use runtime::{Store as _, StoreBatch};
use serde_json::json;
use store_rocksdb::RocksStore;

use crate::harness::*;

#[tokio::test(flavor = "multi_thread")]
async fn ten_kills_in_a_burst_lose_nothing_and_decide_nothing_twice() {
    let site = Site::embedded();
    survive_ten_kills(&site, false).await;
    let text = assert_audit(&site, "data", false);
    assert!(text.contains("0 oversold · 0 undecided · 0 decided twice"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_store_is_rebuilt_from_the_log_and_equals_it() {
    let site = Site::embedded();
    let node = site.start("data", false, &["all"]).await;
    let (drop, _) = schedule(&site, &node, &drop_request(5)).await;
    for buyer in 0..8 {
        let client = node.client(&site.token(random_uuid(), ""));
        let (status, _) =
            client.post(&format!("/drops/{drop}/orders"), "k", &json!({"qty": 1})).await;
        assert_eq!(status, if buyer < 5 { 201 } else { 409 });
    }
    assert_eq!(node.terminate(), Some(0));
    let before = assert_audit(&site, "data", false);
    assert!(before.contains("stores     8 = log"), "{before}");
    assert!(!before.contains("behind"), "{before}");
    site.start("data", false, &["all"]).await.kill();
    let killed = assert_audit(&site, "data", false);
    assert!(killed.contains("8 more behind"), "each owner's start is in the log alone: {killed}");
    std::fs::remove_dir_all(site.path("data/state")).unwrap();
    let node = site.start("data", false, &["all"]).await;
    let (status, body) = node.client("").get(&format!("/drops/{drop}")).await;
    assert_eq!((status, &body["variants"][0]["sold"]), (200, &json!(5)));
    assert_eq!(node.terminate(), Some(0));
    let after = assert_audit(&site, "data", false);
    assert!(after.contains("stores     8 = log"), "{after}");
}

#[tokio::test(flavor = "multi_thread")]
async fn stores_of_another_log_refuse_with_exit_code_4_and_say_what_to_do() {
    let site = Site::embedded();
    assert_eq!(site.start("data", false, &["all"]).await.terminate(), Some(0));
    std::fs::remove_dir_all(site.path("data/log")).unwrap();
    let output = site.run("data", false, &["all", "--listen", "127.0.0.1:0"]);
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(4), "{text}");
    assert!(
        text.contains("belongs to log") && text.contains("move the store folder away"),
        "{text}"
    );
}

/// Puts a row that no decision has left into a store.
fn slip_in_a_row(store: &std::path::Path) {
    let mut store = RocksStore::open(store).unwrap();
    let mut batch = StoreBatch::new(store.position().unwrap().unwrap());
    batch.put(b"nobody has decided this", |value| value.push(1));
    store.write(batch).unwrap();
}

/// Their owners refuse to start, so the audit must not call them stores that only trail.
#[tokio::test(flavor = "multi_thread")]
async fn the_audit_names_every_store_that_is_ahead_of_its_log_and_every_one_it_cannot_read() {
    let site = Site::embedded();
    assert_eq!(site.start("data", false, &["all"]).await.terminate(), Some(0));
    let copy = |from: &str, to: &str| {
        drop(std::fs::remove_dir_all(site.path(to)));
        let paths = [site.path(from), site.path(to)];
        let copied = std::process::Command::new("cp").arg("-r").args(paths).status();
        assert!(copied.unwrap().success());
    };
    copy("data/log", "log-before");
    assert_eq!(site.start("data", false, &["all"]).await.terminate(), Some(0));
    std::fs::write(site.path("data/state/reservations/1/CURRENT"), "damaged").unwrap();
    // As far as its own and as empty, but of another partition.
    copy("data/state/reservations/2", "kept");
    copy("data/state/reservations/3", "data/state/reservations/2");
    copy("data/state/followers/0", "kept-follows");
    slip_in_a_row(&site.path("data/state/followers/0"));
    let audit = || {
        let output = site.run("data", false, &["audit"]);
        (output.status.code(), String::from_utf8(output.stdout).unwrap())
    };
    let (code, text) = audit();
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("stores     5 = log, 2 ≠ log"), "{text}");
    assert!(text.contains("store of partition 2 of reservations is of another history"), "{text}");
    assert!(
        text.contains("store of partition 0 of followers is not the fold of the log"),
        "{text}"
    );
    copy("kept", "data/state/reservations/2");
    copy("kept-follows", "data/state/followers/0");
    let (code, text) = audit();
    assert_eq!(code, Some(3), "what was read is well: {text}");
    assert!(
        text.contains("0 oversold") && text.contains("partition 1 of reservations: "),
        "{text}"
    );
    copy("log-before", "data/log");
    let assert_all_ahead = || {
        let (code, text) = audit();
        assert_eq!(code, Some(1), "{text}");
        assert!(text.contains("stores     0 = log, 7 ≠ log"), "{text}");
        assert!(text.contains("partition 1 of reservations: "), "{text}");
        assert_eq!(text.matches(" is ahead of the log").count(), 7, "{text}");
    };
    assert_all_ahead();
    // Not a partition of it has a decision.
    std::fs::remove_dir_all(site.path("data/log")).unwrap();
    std::fs::create_dir(site.path("data/log")).unwrap();
    assert_all_ahead();
    let nowhere = site.run("dada", false, &["audit"]);
    assert_eq!(nowhere.status.code(), Some(2), "{nowhere:?}");
    assert!(String::from_utf8_lossy(&nowhere.stderr).contains("there is no log in this folder"));
    assert!(!site.path("dada").exists(), "an audit makes nothing");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_refused_partition_is_named_while_the_others_go_on() {
    let site = Site::embedded();
    assert_eq!(site.start("data", false, &["all"]).await.terminate(), Some(0));
    // Partition 0 gets partition 1's store: its position does not continue its own chain.
    std::fs::remove_dir_all(site.path("data/state/reservations/0")).unwrap();
    let other = Site::embedded();
    assert_eq!(other.start("data", false, &["all"]).await.terminate(), Some(0));
    let (from, to) =
        (other.path("data/state/reservations/0"), site.path("data/state/reservations/0"));
    assert!(
        std::process::Command::new("cp").arg("-r").arg(from).arg(to).status().unwrap().success()
    );
    let node = Node::spawn(site.command("data", false, &["all", "--listen", "127.0.0.1:0"]));
    let started = monotonic();
    let client = node.client("");
    let partitions = loop {
        let (status, body) = client.get("/readyz").await;
        let partitions = body["partitions"].as_array().unwrap().clone();
        let running = partitions.iter().filter(|p| p["state"] == "running").count();
        let refused = partitions.iter().any(|p| p["state"] == "refused");
        if status == 503 && running == 7 && refused {
            break partitions;
        }
        assert!(started.elapsed() < PATIENCE, "{body}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    let refused = partitions.iter().find(|p| p["state"] == "refused").unwrap();
    assert_eq!((&refused["processor"], &refused["partition"]), (&json!("reservations"), &json!(0)));
    assert!(refused["reason"].as_str().unwrap().contains("belongs to log"));
    assert_eq!(node.terminate(), Some(4), "and the process says so when it ends");
}

#[test]
fn bad_usage_exits_2_and_names_the_field() {
    let site = Site::embedded();
    let rows: [(&[&str], &str, &str, &str); 6] = [
        (&["processor", "reservations"], "LIVEDROPS_LOG__KIND", "embedded", "log.kind"),
        (&["all"], "LIVEDROPS_LISTEN__PUBLIC", "nowhere", "listen.public"),
        (&["all"], "LIVEDROPS_AUTH__PUBLIC_KEYS", "/missing.pem", "auth.public_keys"),
        (&["all"], "LIVEDROPS_LOG__PARTITIONS", "0", "log.partitions"),
        (&["all"], "LIVEDROPS_DATA_DIR", "/dev/null/x", "data_dir"),
        (&["all"], "LIVEDROPS_MISSPELT", "1", "misspelt"),
    ];
    for (arguments, name, value, field) in rows {
        let output = site.command("data", false, arguments).env(name, value).output().unwrap();
        let text = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{name}={value}: {text}");
        assert!(text.contains(field), "{name}={value}: {text}");
    }
    let again = site.run("data", false, &["keys", "--out", site.path("keys").to_str().unwrap()]);
    assert_eq!(again.status.code(), Some(2), "keys are never overwritten");
    let away = site
        .command("data", false, &["all"])
        .env("LIVEDROPS_LOG__KIND", "kafka")
        .env("LIVEDROPS_KAFKA__BROKERS", "127.0.0.1:1")
        .env("LIVEDROPS_KAFKA__REGISTRY_URL", "http://127.0.0.1:1")
        .output()
        .unwrap();
    assert_eq!(away.status.code(), Some(3), "{}", String::from_utf8_lossy(&away.stderr));
}

/// A database of its own beside the one of the stack: two logs cannot share a view.
async fn fresh_database() -> (sqlx::PgPool, String) {
    let url = from_stack("LIVEDROPS_POSTGRES__URL");
    let name = format!("view_{}", random_uuid().simple());
    let admin = sqlx::PgPool::connect(&url).await.unwrap();
    sqlx::query(sqlx::AssertSqlSafe(format!("CREATE DATABASE {name}")))
        .execute(&admin)
        .await
        .unwrap();
    let url = format!("{}/{name}", url.rsplit_once('/').unwrap().0);
    (sqlx::PgPool::connect(&url).await.unwrap(), url)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_view_whose_write_failed_catches_up_although_nothing_more_is_decided() {
    let site = Site::embedded();
    let (database, url) = fresh_database().await;
    let mut command = site.command("data", false, &["all", "--listen", "127.0.0.1:0"]);
    command.env("LIVEDROPS_POSTGRES__URL", &url);
    let node = Node::spawn(command);
    node.wait_until_ready().await;
    let (drop, _) = schedule(&site, &node, &drop_request(5)).await;
    // The view's write waits for the lock, is cut off there, and has to be done again.
    let mut lock = database.begin().await.unwrap();
    sqlx::query("LOCK TABLE view_v1.orders").execute(&mut *lock).await.unwrap();
    let client = node.client(&site.token(random_uuid(), ""));
    let (status, _) = client.post(&format!("/drops/{drop}/orders"), "k", &json!({"qty": 1})).await;
    assert_eq!(status, 201);
    let cut_off = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity \
                   WHERE wait_event_type = 'Lock' AND datname = current_database()";
    let started = monotonic();
    while sqlx::query_scalar::<_, i64>(cut_off).fetch_one(&database).await.unwrap() == 0 {
        assert!(started.elapsed() < PATIENCE, "the view does not write");
    }
    lock.rollback().await.unwrap();
    let orders = "SELECT count(*) FROM view_v1.orders";
    while sqlx::query_scalar::<_, i64>(orders).fetch_one(&database).await.unwrap() == 0 {
        assert!(started.elapsed() < PATIENCE, "the view does not catch up");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(node.terminate(), Some(0));
}
