//! Tables, and the views analysts ask for first. Each statement may run again.

/// In order.
pub(crate) const STATEMENTS: [&str; 8] = [
    "CREATE TABLE IF NOT EXISTS inserted_ranges (
        partition UInt16, first_offset Int64, next_offset Int64, last_seq Int64, facts UInt64
     ) ENGINE = ReplacingMergeTree ORDER BY (partition, next_offset)",
    "CREATE TABLE IF NOT EXISTS decisions (
        partition UInt16, offset Int64, seq Int64, position UInt16,
        outcome LowCardinality(String), status LowCardinality(String), reason LowCardinality(String),
        drop_id UUID, order_id UUID, user_id UUID, units Int64, total Int64, currency LowCardinality(String),
        available Int64, events LowCardinality(String),
        log_time DateTime64(3, 'UTC'), decided_at DateTime64(3, 'UTC')
     ) ENGINE = ReplacingMergeTree ORDER BY (partition, seq, position)
     SETTINGS non_replicated_deduplication_window = 10000",
    // Per-second drop facts: demand, grants, refusals, what is left. An order counts once, in the second in which it first
    // appeared and was first granted: its hold may be extended, then paid for, and each of that is a decision too. An offer
    // is granted when it is taken up. `available_min` is NULL where nothing touched the stock.
    "CREATE OR REPLACE VIEW drop_seconds AS
     SELECT drop_id, second, sum(placed) AS orders, sum(won) AS granted, sum(turned_down) AS refused,
        sum(units_won) AS units_granted, min(left_over) AS available_min
     FROM (
        SELECT drop_id, toStartOfSecond(min(log_time)) AS second, 1 AS placed, 0 AS won, 0 AS turned_down,
            0 AS units_won, NULL AS left_over
        FROM decisions FINAL WHERE order_id != toUUIDOrZero('') AND status != '' GROUP BY drop_id, order_id
        UNION ALL
        SELECT drop_id, toStartOfSecond(min(log_time)), 0, 1, 0, any(units), NULL
        FROM decisions FINAL WHERE status IN ('RESERVED', 'CONFIRMED') GROUP BY drop_id, order_id
        UNION ALL
        SELECT drop_id, toStartOfSecond(log_time), 0, 0, countIf(outcome = 'refused'), 0,
            min(if(available >= 0, available, NULL))
        FROM decisions FINAL GROUP BY drop_id, toStartOfSecond(log_time)
     ) GROUP BY drop_id, second",
    "CREATE OR REPLACE VIEW sales_per_minute AS
     SELECT drop_id, toStartOfMinute(log_time) AS minute, currency, count() AS orders, sum(units) AS units,
        sum(total) AS revenue
     FROM (SELECT drop_id, order_id, any(currency) AS currency, any(units) AS units, max(total) AS total,
        min(log_time) AS log_time FROM decisions FINAL WHERE status IN ('CONFIRMED', 'PAID')
        GROUP BY drop_id, order_id)
     GROUP BY drop_id, minute, currency",
    "CREATE OR REPLACE VIEW demand_against_stock AS
     SELECT drop_id, uniqExact(user_id) AS buyers, sum(units) AS units_wanted,
        sumIf(units, was_granted) AS units_granted, sumIf(units, NOT was_granted) AS units_unmet
     FROM (SELECT drop_id, order_id, any(user_id) AS user_id, any(units) AS units,
        countIf(status IN ('RESERVED', 'CONFIRMED', 'OFFERED', 'PAID')) > 0 AS was_granted
        FROM decisions FINAL WHERE order_id != toUUIDOrZero('') AND status != '' GROUP BY drop_id, order_id)
     GROUP BY drop_id",
    "CREATE OR REPLACE VIEW refusals_by_reason AS
     SELECT drop_id, reason, count() AS refusals, sum(units) AS units
     FROM decisions FINAL WHERE outcome = 'refused' AND reason != '' GROUP BY drop_id, reason",
    "CREATE OR REPLACE VIEW time_to_sell_out AS
     SELECT drop_id, minIf(log_time, has(splitByChar(',', events), 'drop_started')) AS started_at,
        minIf(log_time, has(splitByChar(',', events), 'sold_out')) AS sold_out_at,
        if(countIf(has(splitByChar(',', events), 'sold_out')) = 0, NULL,
           dateDiff('millisecond', started_at, sold_out_at)) AS milliseconds
     FROM decisions FINAL GROUP BY drop_id",
    "CREATE OR REPLACE VIEW decision_latency AS
     SELECT toStartOfMinute(log_time) AS minute, count() AS decisions,
        quantiles(0.5, 0.95, 0.99)(dateDiff('millisecond', log_time, decided_at)) AS p50_p95_p99_ms
     FROM decisions FINAL WHERE outcome IN ('changed', 'refused') GROUP BY minute",
];
