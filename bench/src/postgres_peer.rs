//! The hot drop in Postgres: a row lock. One round trip per order, so that the lock is held as short as it can be.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::Result;
use sqlx::PgPool;
use sqlx::postgres::PgPoolOptions;

use crate::workload::HotDrop;

/// Concurrent buyers. A winner holds the row's lock until its commit is synced; those who are sold out share theirs.
const CONNECTIONS: u32 = 32;
/// A run that takes longer counts as far as it has come.
const LENGTH_MAX: Duration = Duration::from_secs(30);

const SCHEMA: [&str; 5] = [
    "DROP TABLE IF EXISTS bench_stock, bench_orders, bench_outbox",
    "CREATE TABLE bench_stock (drop_id uuid PRIMARY KEY, available bigint NOT NULL) WITH (fillfactor = 50)",
    "CREATE TABLE bench_orders (id uuid PRIMARY KEY, drop_id uuid NOT NULL, outcome text NOT NULL)",
    "CREATE TABLE bench_outbox (seq bigserial PRIMARY KEY, order_id uuid NOT NULL, outcome text NOT NULL)",
    "CREATE OR REPLACE FUNCTION bench_reserve(wanted uuid, drop_wanted uuid, qty bigint) RETURNS text AS $$
     DECLARE known text; result text := 'sold_out';
     BEGIN
       SELECT outcome INTO known FROM bench_orders WHERE id = wanted;
       IF FOUND THEN RETURN known; END IF;
       UPDATE bench_stock SET available = available - qty WHERE drop_id = drop_wanted AND available >= qty;
       IF FOUND THEN result := 'reserved'; END IF;
       INSERT INTO bench_orders VALUES (wanted, drop_wanted, result) ON CONFLICT DO NOTHING;
       INSERT INTO bench_outbox (order_id, outcome) VALUES (wanted, result);
       RETURN result;
     END $$ LANGUAGE plpgsql",
];

/// Reserves until the drop ends; decisions and how long they took.
pub(crate) async fn run(url: &str, drop: HotDrop) -> Result<(u32, Duration)> {
    let pool = PgPoolOptions::new().max_connections(CONNECTIONS).connect(url).await?;
    for statement in SCHEMA {
        sqlx::query(statement).execute(&pool).await?;
    }
    let insert = sqlx::query("INSERT INTO bench_stock VALUES ($1, $2)");
    insert.bind(uuid(drop.drop().0)).bind(i64::from(drop.stock)).execute(&pool).await?;
    let next = Arc::new(AtomicU32::new(0));
    let started = platform::clock::monotonic();
    let buyers = (0..CONNECTIONS).map(|_| tokio::spawn(buy(pool.clone(), drop, next.clone())));
    let mut done = 0;
    for buyer in buyers.collect::<Vec<_>>() {
        done += buyer.await??;
    }
    Ok((done, started.elapsed()))
}

async fn buy(pool: PgPool, drop: HotDrop, next: Arc<AtomicU32>) -> Result<u32> {
    let mut connection = pool.acquire().await?;
    let (started, mut done) = (platform::clock::monotonic(), 0);
    while started.elapsed() < LENGTH_MAX {
        let intent = next.fetch_add(1, Ordering::Relaxed);
        if intent >= drop.intents {
            break;
        }
        sqlx::query_scalar::<_, String>("SELECT bench_reserve($1, $2, 1)")
            .bind(uuid(drop.order_id(HotDrop::buyer(intent)).0))
            .bind(uuid(drop.drop().0))
            .fetch_one(&mut *connection)
            .await?;
        done += 1;
    }
    Ok(done)
}

fn uuid(bytes: [u8; 16]) -> uuid::Uuid {
    uuid::Uuid::from_bytes(bytes)
}

/// What the server says it is.
pub(crate) async fn version(url: &str) -> Result<String> {
    let pool = PgPoolOptions::new().max_connections(1).connect(url).await?;
    Ok(sqlx::query_scalar("SHOW server_version").fetch_one(&pool).await?)
}
