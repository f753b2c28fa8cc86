//! What analysts read, on the real engine.

use clickhouse_views::{ClickhouseViews, DecisionFact, InsertedRange};
use platform::clock::random_uuid;
use uuid::Uuid;

use crate::harness::from_stack;

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
