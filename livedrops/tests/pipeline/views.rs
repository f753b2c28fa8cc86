//! What the views say, on the real engines.

use std::path::Path;
use std::time::Duration;

use clickhouse_views::{ClickhouseViews, DecisionFact, InsertedRange};
use platform::clock::{monotonic, random_uuid};
use postgres_views::PostgresViews;
use reqwest::Method;
use schemas::ids::{DropId, OrderId};
use sqlx::migrate::Migrator;
use sqlx::{Connection as _, PgConnection};
use uuid::Uuid;

use crate::harness::*;

/// A decision on an order of two units; `second` of a drop, with what it left of the stock.
fn fact(seq: i64, order: u128, second: i64, status: &'static str, available: i64) -> DecisionFact {
    let is_refused = status == "REJECTED";
    DecisionFact {
        partition: 0,
        offset: seq,
        seq,
        position: 0,
        outcome: if is_refused { "refused" } else { "changed" },
        status,
        reason: if is_refused { "sold_out" } else { "" },
        drop_id: Uuid::from_u128(1),
        order_id: Uuid::from_u128(order),
        user_id: Uuid::from_u128(order),
        units: 2,
        total: 0,
        currency: "EUR".into(),
        available,
        events: String::new(),
        log_time: second * 1_000,
        decided_at: second * 1_000,
    }
}

/// Lines of tab-separated values.
async fn asked(url: &str, query: String) -> String {
    let response = reqwest::Client::new().post(url).body(query).send().await.unwrap();
    let status = response.status();
    let text = response.text().await.unwrap();
    assert_eq!(status, 200, "{text}");
    text
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_that_is_extended_and_paid_counts_once_for_analysts() {
    let url = from_stack("LIVEDROPS_CLICKHOUSE__URL");
    let database = format!("analysts_{}", random_uuid().simple());
    let views = ClickhouseViews::connect(&url, &database).await.unwrap();
    let facts = [
        fact(0, 7, 100, "RESERVED", 0),
        fact(1, 8, 100, "REJECTED", -1),
        fact(2, 7, 101, "RESERVED", -1), // extended
        fact(3, 9, 101, "REJECTED", -1),
        fact(4, 7, 102, "CONFIRMED", 0),
        fact(5, 7, 103, "PAID", -1),
    ];
    let range =
        InsertedRange { partition: 0, first_offset: 0, next_offset: 6, last_seq: 5, facts: 6 };
    views.insert(range, &facts, false).await.unwrap();
    let seconds = format!(
        "SELECT toUnixTimestamp(second), orders, granted, refused, units_granted, ifNull(available_min, -1) \
         FROM {database}.drop_seconds ORDER BY second FORMAT TabSeparated"
    );
    assert_eq!(
        asked(&url, seconds).await,
        "100\t2\t1\t1\t2\t0\n101\t1\t0\t1\t0\t-1\n102\t0\t0\t0\t0\t0\n103\t0\t0\t0\t0\t-1\n"
    );
    let demand = format!(
        "SELECT buyers, units_wanted, units_granted, units_unmet FROM {database}.demand_against_stock FORMAT TabSeparated"
    );
    assert_eq!(asked(&url, demand).await, "3\t6\t2\t4\n");
    let sales =
        format!("SELECT orders, units FROM {database}.sales_per_minute FORMAT TabSeparated");
    assert_eq!(asked(&url, sales).await, "1\t2\n");
}

/// A database as the migrations up to `last` leave it.
async fn migrated_up_to(url: &str, last: &str) -> PgConnection {
    let all = Path::new(env!("CARGO_MANIFEST_DIR")).join("../processors/postgres-views/migrations");
    let some = tempfile::tempdir().unwrap();
    for file in std::fs::read_dir(all).unwrap() {
        let file = file.unwrap();
        if file.file_name().to_str().unwrap() <= last {
            std::fs::copy(file.path(), some.path().join(file.file_name())).unwrap();
        }
    }
    let mut connection = PgConnection::connect(url).await.unwrap();
    let migrations = Migrator::new(some.path()).await.unwrap();
    migrations.run(&mut connection).await.unwrap();
    connection
}

/// A Postgres database without a view.
async fn new_database() -> String {
    let server = from_stack("LIVEDROPS_POSTGRES__URL");
    let database = format!("test_{}", random_uuid().simple());
    let mut connection = PgConnection::connect(&server).await.unwrap();
    let create = format!("CREATE DATABASE {database}");
    sqlx::raw_sql(sqlx::AssertSqlSafe(create)).execute(&mut connection).await.unwrap();
    let (host, _) = server.rsplit_once('/').unwrap();
    format!("{host}/{database}")
}

#[tokio::test(flavor = "multi_thread")]
async fn lines_of_orders_from_before_move_into_their_orders() {
    let url = new_database().await;
    let mut before = migrated_up_to(&url, "0002_whole_life.sql").await;
    let [two_lines, none] = [7, 8].map(Uuid::from_u128);
    let orders = format!(
        "INSERT INTO view_v1.orders (id, drop_id, user_id, product_id, status, currency, total, version, created_at, \
         decided_at, missing, intent_offset, seq) SELECT id, id, id, id, 'PAID', 'EUR', 1, 1, now(), now(), '[]', 1, 1 \
         FROM UNNEST('{{{two_lines}, {none}}}'::uuid[]) AS t(id); \
         INSERT INTO view_v1.order_lines VALUES ('{two_lines}', '{none}', 3, 500), ('{two_lines}', '{two_lines}', 1, 250)"
    );
    sqlx::raw_sql(sqlx::AssertSqlSafe(orders)).execute(&mut before).await.unwrap();
    let views = PostgresViews::connect(&url).await.unwrap();
    let order = views.order(OrderId::from(two_lines)).await.unwrap().unwrap();
    let lines = order.lines.iter().map(|line| (line.variant_id.0[15], line.qty, line.unit_price.0));
    assert_eq!(lines.collect::<Vec<_>>(), [(7, 1, 250), (8, 3, 500)], "in variant order");
    assert!(views.order(OrderId::from(none)).await.unwrap().unwrap().lines.is_empty());
    let units: Vec<_> =
        views.order_digests().await.unwrap().iter().map(|order| order.qty).collect();
    assert_eq!(units, [4, 0]);
}

/// The value of the last of these metrics.
fn metric(text: &str, name: &str, labels: [&str; 2]) -> Option<f64> {
    let is_it = |line: &&str| line.starts_with(name) && labels.iter().all(|it| line.contains(it));
    text.lines().rev().find(is_it)?.rsplit_once(' ')?.1.parse().ok()
}

#[tokio::test(flavor = "multi_thread")]
async fn operators_see_how_far_each_view_trails_its_owner() {
    let site = Site::embedded();
    let mut command = site.command("data", true, &["all", "--listen", "127.0.0.1:0"]);
    command.env("LIVEDROPS_POSTGRES__URL", new_database().await);
    let database = format!("trailing_{}", random_uuid().simple());
    command.env("LIVEDROPS_CLICKHOUSE__DATABASE", database);
    let node = Node::spawn(command);
    node.wait_until_ready().await;
    let (drop, _) = schedule(&site, &node, &drop_request(5)).await;
    let client = node.client("");
    let partition = format!("partition=\"{}\"", DropId::from(drop).partition(4));
    let deadline = monotonic() + Duration::from_secs(30);
    for view in ["postgres-orders", "clickhouse-orders"] {
        loop {
            let response = client.request(Method::GET, "/metrics").send().await.unwrap();
            let text = response.text().await.unwrap();
            let view = format!("view=\"{view}\"");
            let at = metric(&text, "livedrops_view_seq{", [&partition, &view]);
            let owner = "processor=\"reservations\"";
            let seq = metric(&text, "livedrops_partition_seq{", [&partition, owner]);
            if at.is_some() && at == seq {
                break;
            }
            assert!(monotonic() < deadline, "{view} stands at {at:?}, its owner at {seq:?}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}
