//! Post-images of a batch as versioned upserts: one statement per table, whatever the batch's size. Within a
//! batch only the last image of a row counts, because one statement cannot touch a row twice.

use std::collections::BTreeMap;
use std::sync::Arc;

use schemas::follow::{CreatorRow, FollowBody, FollowRow};
use schemas::order::{
    DropRow, OrderBody, OrderRow, PaymentRow, ProviderOperation, RefundPlan, StockRow,
};
use schemas::units::Millis;
use serde::{Deserialize, Serialize};
use sqlx::PgConnection;
use uuid::Uuid;

use crate::{Placed, ViewError};

/// The last image of every row, with the `seq` of its decision, in key order: concurrent writers that lock
/// rows in one order cannot deadlock.
fn last_images<'a, B, K: Ord, R>(
    batch: &'a [Placed<B>],
    rows: impl Fn(&'a B) -> &'a [R],
    key: impl Fn(&R) -> K,
) -> Vec<(i64, &'a R)> {
    let mut last = BTreeMap::new();
    for placed in batch {
        let Some(body) = &placed.decision.body else { continue };
        for row in rows(body) {
            last.insert(key(row), (placed.decision.header.seq, row));
        }
    }
    last.into_values().collect()
}

fn column<R, T>(rows: &[(i64, &R)], value: impl Fn(&R) -> T) -> Vec<T> {
    rows.iter().map(|(_, row)| value(row)).collect()
}

fn seqs<R>(rows: &[(i64, &R)]) -> Vec<i64> {
    rows.iter().map(|(seq, _)| *seq).collect()
}

fn ms(instant: Option<Millis>) -> Option<i64> {
    instant.map(|instant| instant.0)
}

pub(crate) async fn put_drops(
    connection: &mut PgConnection,
    batch: &[Placed<OrderBody>],
) -> Result<(), ViewError> {
    let rows: Vec<(i64, &DropRow)> =
        last_images(batch, |body| body.drops.as_slice(), |row| row.drop_id);
    if rows.is_empty() {
        return Ok(());
    }
    sqlx::query(
        "INSERT INTO view_v1.drops (id, creator_id, product_id, title, status, starts_at, ends_at, time_zone, \
         currency, limit_per_user, hold_seconds, low_stock_threshold, payment_required, version, created_at, \
         opened_at, ended_at, offer_seconds, waitlist, payment_attempts, archive_at, seq) SELECT id, creator, product, title, status, to_timestamp(starts / 1e3), \
         to_timestamp(ends / 1e3), zone, currency, lim, hold, low, pay, version, to_timestamp(created / 1e3), \
         to_timestamp(opened / 1e3), to_timestamp(ended / 1e3), offer, waitlist, attempts, \
         to_timestamp(archive / 1e3), seq \
         FROM UNNEST($1::uuid[], $2::uuid[], $3::uuid[], $4::text[], $5::text[], $6::bigint[], $7::bigint[], \
         $8::text[], $9::text[], $10::int[], $11::int[], $12::bigint[], $13::bool[], $14::int[], $15::bigint[], \
         $16::bigint[], $17::bigint[], $18::int[], $19::bool[], $20::int[], $21::bigint[], $22::bigint[]) \
         AS t(id, creator, product, title, status, starts, ends, zone, currency, lim, hold, low, pay, version, \
         created, opened, ended, offer, waitlist, attempts, archive, seq) \
         ON CONFLICT (id) DO UPDATE SET title = EXCLUDED.title, status = EXCLUDED.status, \
         starts_at = EXCLUDED.starts_at, ends_at = EXCLUDED.ends_at, time_zone = EXCLUDED.time_zone, \
         limit_per_user = EXCLUDED.limit_per_user, hold_seconds = EXCLUDED.hold_seconds, \
         low_stock_threshold = EXCLUDED.low_stock_threshold, version = EXCLUDED.version, \
         opened_at = EXCLUDED.opened_at, ended_at = EXCLUDED.ended_at, archive_at = EXCLUDED.archive_at, \
         seq = EXCLUDED.seq \
         WHERE view_v1.drops.seq < EXCLUDED.seq",
    )
    .bind(column(&rows, |row| Uuid::from(row.drop_id)))
    .bind(column(&rows, |row| Uuid::from(row.creator_id)))
    .bind(column(&rows, |row| Uuid::from(row.product_id)))
    .bind(column(&rows, |row| storable(&row.title)))
    .bind(column(&rows, |row| row.status.as_str()))
    .bind(column(&rows, |row| row.starts_at.0))
    .bind(column(&rows, |row| row.ends_at.0))
    .bind(column(&rows, |row| row.time_zone.clone()))
    .bind(column(&rows, |row| row.currency.to_string()))
    .bind(column(&rows, |row| row.limit_per_user))
    .bind(column(&rows, |row| row.hold_seconds))
    .bind(column(&rows, |row| row.low_stock_threshold.0))
    .bind(column(&rows, |row| row.payment_required))
    .bind(column(&rows, |row| row.version))
    .bind(column(&rows, |row| row.created_at.0))
    .bind(column(&rows, |row| ms(row.opened_at)))
    .bind(column(&rows, |row| ms(row.ended_at)))
    .bind(column(&rows, |row| row.offer_seconds))
    .bind(column(&rows, |row| row.waitlist))
    .bind(column(&rows, |row| row.payment_attempts))
    .bind(column(&rows, |row| ms(row.archive_at)))
    .bind(seqs(&rows))
    .execute(&mut *connection)
    .await?;
    Ok(())
}

pub(crate) async fn put_stocks(
    connection: &mut PgConnection,
    batch: &[Placed<OrderBody>],
) -> Result<(), ViewError> {
    let rows: Vec<(i64, &StockRow)> =
        last_images(batch, |body| body.stocks.as_slice(), |row| (row.drop_id, row.variant_id));
    if rows.is_empty() {
        return Ok(());
    }
    sqlx::query(
        "INSERT INTO view_v1.variants (drop_id, id, initial, available, reserved, sold, restocked, withdrawn, seq) \
         SELECT * FROM UNNEST($1::uuid[], $2::uuid[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[], \
         $7::bigint[], $8::bigint[], $9::bigint[]) \
         ON CONFLICT (drop_id, id) DO UPDATE SET available = EXCLUDED.available, reserved = EXCLUDED.reserved, \
         sold = EXCLUDED.sold, restocked = EXCLUDED.restocked, withdrawn = EXCLUDED.withdrawn, \
         seq = EXCLUDED.seq \
         WHERE view_v1.variants.seq < EXCLUDED.seq",
    )
    .bind(column(&rows, |row| Uuid::from(row.drop_id)))
    .bind(column(&rows, |row| Uuid::from_bytes(row.variant_id.0)))
    .bind(column(&rows, |row| row.initial.0))
    .bind(column(&rows, |row| row.available.0))
    .bind(column(&rows, |row| row.reserved.0))
    .bind(column(&rows, |row| row.sold.0))
    .bind(column(&rows, |row| row.restocked.0))
    .bind(column(&rows, |row| row.withdrawn.0))
    .bind(seqs(&rows))
    .execute(&mut *connection)
    .await?;
    name_variants(connection, batch).await
}

/// Names and prices come with the drop row; an edit before the opening changes prices.
async fn name_variants(
    connection: &mut PgConnection,
    batch: &[Placed<OrderBody>],
) -> Result<(), ViewError> {
    let drops: Vec<(i64, &DropRow)> =
        last_images(batch, |body| body.drops.as_slice(), |row| row.drop_id);
    for (_, drop) in drops {
        let variants = &drop.variants;
        sqlx::query(
            "UPDATE view_v1.variants SET name = t.name, price = t.price \
             FROM UNNEST($2::uuid[], $3::text[], $4::bigint[]) AS t(id, name, price) \
             WHERE variants.drop_id = $1 AND variants.id = t.id",
        )
        .bind(Uuid::from(drop.drop_id))
        .bind(variants.iter().map(|v| Uuid::from_bytes(v.variant_id.0)).collect::<Vec<_>>())
        .bind(variants.iter().map(|v| storable(&v.name)).collect::<Vec<_>>())
        .bind(variants.iter().map(|v| v.price.0).collect::<Vec<_>>())
        .execute(&mut *connection)
        .await?;
    }
    Ok(())
}

/// What of an order has no column of its own. What most orders do not have is not written: of a hot drop's sold-out
/// orders nothing is left.
#[derive(Serialize, Deserialize, Default)]
#[serde(default)]
pub(crate) struct Details {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) payments: Vec<PaymentRow>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) operation: Option<ProviderOperation>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) offer_left_ms: Option<i64>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(crate) from_waitlist: bool,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(crate) extended: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) refund: Option<RefundPlan>,
}

impl Details {
    fn of(row: &OrderRow) -> Self {
        Self {
            payments: row.payments.clone(),
            operation: row.operation,
            offer_left_ms: row.offer_left_ms,
            from_waitlist: row.from_waitlist,
            extended: row.extended,
            refund: row.refund,
        }
    }
}

/// A line of an order. Inside the order's row: a table of lines was a third of the work of an insert, and no line is ever
/// asked for without its order.
#[derive(Serialize, Deserialize)]
pub(crate) struct Line {
    pub(crate) variant_id: Uuid,
    pub(crate) qty: i32,
    pub(crate) unit_price: i64,
}

fn lines_json(row: &OrderRow) -> String {
    let lines = row.lines.iter().map(|line| Line {
        variant_id: Uuid::from_bytes(line.variant_id.0),
        qty: line.qty,
        unit_price: line.unit_price.0,
    });
    json(&lines.collect::<Vec<_>>())
}

/// As JSON that Postgres keeps; see [`storable`].
fn json(value: &impl Serialize) -> String {
    let text = serde_json::to_string(value).expect("plain data has a JSON form");
    if text.contains("\\u0000") { text.replace("\\u0000", "\\ufffd") } else { text }
}

/// A text as Postgres keeps it: it refuses NUL, and a record that is in the log would stop the view for ever.
fn storable(text: &str) -> String {
    text.replace('\0', "\u{fffd}")
}

/// Lines never change after an order's first decision.
pub(crate) async fn put_orders(
    connection: &mut PgConnection,
    batch: &[Placed<OrderBody>],
) -> Result<(), ViewError> {
    let rows: Vec<(i64, &Arc<OrderRow>)> =
        last_images(batch, |body| body.orders.as_slice(), |row| row.order_id);
    if rows.is_empty() {
        return Ok(());
    }
    sqlx::query(
        "INSERT INTO view_v1.orders (id, drop_id, user_id, product_id, status, reason, currency, total, \
         payment_method, version, created_at, decided_at, hold_expires_at, held_order_id, lines, intent_offset, \
         offer_expires_at, payment_state, details, seq) SELECT id, drop_id, user_id, product, status, reason, currency, total, \
         method, version, to_timestamp(created / 1e3), to_timestamp(decided / 1e3), to_timestamp(hold / 1e3), \
         held, lines::jsonb, intent, to_timestamp(offer / 1e3), payment, details::jsonb, seq \
         FROM UNNEST($1::uuid[], $2::uuid[], $3::uuid[], $4::uuid[], $5::text[], $6::text[], $7::text[], \
         $8::bigint[], $9::text[], $10::int[], $11::bigint[], $12::bigint[], $13::bigint[], $14::uuid[], \
         $15::text[], $16::bigint[], $17::bigint[], $18::text[], $19::text[], $20::bigint[]) \
         AS t(id, drop_id, user_id, product, status, reason, currency, total, method, version, created, decided, \
         hold, held, lines, intent, offer, payment, details, seq) \
         ON CONFLICT (id) DO UPDATE SET status = EXCLUDED.status, reason = EXCLUDED.reason, \
         version = EXCLUDED.version, decided_at = EXCLUDED.decided_at, \
         hold_expires_at = EXCLUDED.hold_expires_at, offer_expires_at = EXCLUDED.offer_expires_at, \
         payment_state = EXCLUDED.payment_state, details = EXCLUDED.details, seq = EXCLUDED.seq \
         WHERE view_v1.orders.seq < EXCLUDED.seq",
    )
    .bind(column(&rows, |row| Uuid::from(row.order_id)))
    .bind(column(&rows, |row| Uuid::from(row.drop_id)))
    .bind(column(&rows, |row| Uuid::from(row.user_id)))
    .bind(column(&rows, |row| Uuid::from(row.product_id)))
    .bind(column(&rows, |row| row.status.as_str()))
    .bind(column(&rows, |row| row.reason.map(schemas::order::Reason::as_str)))
    .bind(column(&rows, |row| row.currency.to_string()))
    .bind(column(&rows, |row| row.total.0))
    .bind(column(&rows, |row| row.payment_method.as_deref().map(storable)))
    .bind(column(&rows, |row| row.version))
    .bind(column(&rows, |row| row.created_at.0))
    .bind(column(&rows, |row| row.decided_at.0))
    .bind(column(&rows, |row| ms(row.hold_expires_at)))
    .bind(column(&rows, |row| row.held_order_id.map(Uuid::from)))
    .bind(column(&rows, |row| lines_json(row)))
    .bind(column(&rows, |row| row.intent_offset))
    .bind(column(&rows, |row| ms(row.offer_expires_at)))
    .bind(column(&rows, |row| row.payments.last().map(|payment| payment.state.as_str())))
    .bind(column(&rows, |row| json(&Details::of(row))))
    .bind(seqs(&rows))
    .execute(&mut *connection)
    .await?;
    Ok(())
}

pub(crate) async fn put_follows(
    connection: &mut PgConnection,
    batch: &[Placed<FollowBody>],
) -> Result<(), ViewError> {
    let rows: Vec<(i64, &FollowRow)> =
        last_images(batch, |body| body.follows.as_slice(), |row| (row.creator_id, row.user_id));
    sqlx::query(
        "INSERT INTO view_v1.follows SELECT creator, follower, following, to_timestamp(since / 1e3), seq \
         FROM UNNEST($1::uuid[], $2::uuid[], $3::bool[], $4::bigint[], $5::bigint[]) \
         AS t(creator, follower, following, since, seq) \
         ON CONFLICT (creator_id, user_id) DO UPDATE SET following = EXCLUDED.following, \
         since = EXCLUDED.since, seq = EXCLUDED.seq WHERE view_v1.follows.seq < EXCLUDED.seq",
    )
    .bind(column(&rows, |row| Uuid::from(row.creator_id)))
    .bind(column(&rows, |row| Uuid::from(row.user_id)))
    .bind(column(&rows, |row| row.following))
    .bind(column(&rows, |row| row.since.0))
    .bind(seqs(&rows))
    .execute(&mut *connection)
    .await?;
    let rows: Vec<(i64, &CreatorRow)> =
        last_images(batch, |body| body.creators.as_slice(), |row| row.creator_id);
    sqlx::query(
        "INSERT INTO view_v1.creators SELECT * FROM UNNEST($1::uuid[], $2::bigint[], $3::bigint[]) \
         ON CONFLICT (id) DO UPDATE SET followers = EXCLUDED.followers, seq = EXCLUDED.seq \
         WHERE view_v1.creators.seq < EXCLUDED.seq",
    )
    .bind(column(&rows, |row| Uuid::from(row.creator_id)))
    .bind(column(&rows, |row| row.followers.0))
    .bind(seqs(&rows))
    .execute(&mut *connection)
    .await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_postgres_refuses_of_a_text_is_replaced_so_that_no_record_can_stop_the_view() {
        assert_eq!(storable("pm\0_1"), "pm\u{fffd}_1");
        assert_eq!(json(&["a\0", "b"]), r#"["a\ufffd","b"]"#);
        assert_eq!(json(&["a", "b\n"]), r#"["a","b\n"]"#);
    }
}
