//! Rows by id, for the API; digests, for the audit.

use schemas::ids::{CreatorId, DropId, Hash, OrderId, ProductId, UserId, VariantId};
use schemas::order::{
    DropRow, DropStatus, OrderRow, OrderRowLine, OrderStatus, Reason, StockRow, VariantRow,
};
use schemas::units::{Millis, MinorUnits, Units};
use serde::de::DeserializeOwned;
use sqlx::Row;
use sqlx::postgres::PgRow;
use uuid::Uuid;

use crate::rows::{Details, Line};
use crate::{PostgresViews, ViewError};

/// What an audit compares of an order.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct OrderDigest {
    /// The order.
    pub id: OrderId,
    /// Its status.
    pub status: String,
    /// Its reason.
    pub reason: Option<String>,
    /// Its version.
    pub version: i32,
    /// Its total in minor units.
    pub total: i64,
    /// Units over all lines.
    pub qty: i64,
}

fn word<T: DeserializeOwned>(text: &str) -> Result<T, sqlx::Error> {
    let word = serde::de::value::StrDeserializer::<serde::de::value::Error>::new(text);
    T::deserialize(word).map_err(|error| sqlx::Error::Decode(Box::new(error)))
}

fn id(row: &PgRow, column: &str) -> Result<[u8; 16], sqlx::Error> {
    row.try_get::<Uuid, _>(column).map(Uuid::into_bytes)
}

const ORDER: &str = "SELECT *, (extract(epoch from created_at) * 1000)::bigint AS created_ms, \
     (extract(epoch from decided_at) * 1000)::bigint AS decided_ms, \
     (extract(epoch from hold_expires_at) * 1000)::bigint AS hold_ms, \
     (extract(epoch from offer_expires_at) * 1000)::bigint AS offer_ms, details::text AS details_text, lines::text AS lines_text \
     FROM view_v1.orders WHERE id = $1";

const DROP: &str = "SELECT *, (extract(epoch from starts_at) * 1000)::bigint AS starts_ms, \
     (extract(epoch from ends_at) * 1000)::bigint AS ends_ms, \
     (extract(epoch from created_at) * 1000)::bigint AS created_ms, \
     (extract(epoch from opened_at) * 1000)::bigint AS opened_ms, \
     (extract(epoch from ended_at) * 1000)::bigint AS ended_ms, \
     (extract(epoch from archive_at) * 1000)::bigint AS archive_ms FROM view_v1.drops WHERE id = $1";

impl PostgresViews {
    /// An order by id. Its request hash and what was missing stay in the log.
    ///
    /// # Errors
    /// Where Postgres is away.
    pub async fn order(&self, order: OrderId) -> Result<Option<OrderRow>, ViewError> {
        let found = sqlx::query(ORDER).bind(Uuid::from(order)).fetch_optional(&self.pool).await?;
        Ok(found.as_ref().map(order_row).transpose()?)
    }

    /// A drop by id with its stock, variants in order.
    ///
    /// # Errors
    /// Where Postgres is away.
    pub async fn drop_with_stock(
        &self,
        drop: DropId,
    ) -> Result<Option<(DropRow, Vec<StockRow>)>, ViewError> {
        let found = sqlx::query(DROP).bind(Uuid::from(drop)).fetch_optional(&self.pool).await?;
        let Some(row) = found else { return Ok(None) };
        let variants = sqlx::query("SELECT * FROM view_v1.variants WHERE drop_id = $1 ORDER BY id")
            .bind(Uuid::from(drop))
            .fetch_all(&self.pool)
            .await?;
        let mut terms = Vec::new();
        let mut stocks = Vec::new();
        for variant in &variants {
            let (variant_id, initial) =
                (VariantId(id(variant, "id")?), Units(variant.try_get("initial")?));
            terms.push(VariantRow {
                variant_id,
                name: variant.try_get("name")?,
                price: MinorUnits(variant.try_get("price")?),
                initial_stock: initial,
            });
            stocks.push(stock_row(variant)?);
        }
        Ok(Some((drop_row(&row, drop, terms)?, stocks)))
    }

    /// Since when the user follows the creator.
    ///
    /// # Errors
    /// Where Postgres is away.
    pub async fn follow(
        &self,
        creator: CreatorId,
        user: UserId,
    ) -> Result<Option<Millis>, ViewError> {
        let since = sqlx::query_scalar::<_, i64>(
            "SELECT (extract(epoch from since) * 1000)::bigint FROM view_v1.follows \
             WHERE creator_id = $1 AND user_id = $2 AND following",
        )
        .bind(Uuid::from(creator))
        .bind(Uuid::from(user))
        .fetch_optional(&self.pool)
        .await?;
        Ok(since.map(Millis))
    }

    /// Every order, in id order.
    ///
    /// # Errors
    /// Where Postgres is away.
    pub async fn order_digests(&self) -> Result<Vec<OrderDigest>, ViewError> {
        let rows = sqlx::query(
            "SELECT o.id, o.status, o.reason, o.version, o.total, \
             (SELECT coalesce(sum((line->>'qty')::int), 0)::bigint FROM jsonb_array_elements(o.lines) line) AS qty \
             FROM view_v1.orders o ORDER BY o.id",
        )
        .fetch_all(&self.pool)
        .await?;
        let digests = rows.iter().map(|row| {
            Ok(OrderDigest {
                id: OrderId(id(row, "id")?),
                status: row.try_get("status")?,
                reason: row.try_get("reason")?,
                version: row.try_get("version")?,
                total: row.try_get("total")?,
                qty: row.try_get("qty")?,
            })
        });
        Ok(digests.collect::<Result<_, sqlx::Error>>()?)
    }

    /// Every stock row, in key order.
    ///
    /// # Errors
    /// Where Postgres is away.
    pub async fn stocks(&self) -> Result<Vec<StockRow>, ViewError> {
        let rows = sqlx::query("SELECT * FROM view_v1.variants ORDER BY drop_id, id")
            .fetch_all(&self.pool)
            .await?;
        Ok(rows.iter().map(stock_row).collect::<Result<_, sqlx::Error>>()?)
    }
}

fn stock_row(row: &PgRow) -> Result<StockRow, sqlx::Error> {
    Ok(StockRow {
        drop_id: DropId(id(row, "drop_id")?),
        variant_id: VariantId(id(row, "id")?),
        initial: Units(row.try_get("initial")?),
        available: Units(row.try_get("available")?),
        reserved: Units(row.try_get("reserved")?),
        sold: Units(row.try_get("sold")?),
        restocked: Units(row.try_get("restocked")?),
        withdrawn: Units(row.try_get("withdrawn")?),
    })
}

fn json<T: DeserializeOwned>(row: &PgRow, column: &str) -> Result<T, sqlx::Error> {
    let text = row.try_get(column)?;
    serde_json::from_str(text).map_err(|error| sqlx::Error::Decode(Box::new(error)))
}

fn order_row(row: &PgRow) -> Result<OrderRow, sqlx::Error> {
    let reason: Option<String> = row.try_get("reason")?;
    let hold: Option<i64> = row.try_get("hold_ms")?;
    let held: Option<Uuid> = row.try_get("held_order_id")?;
    let offer: Option<i64> = row.try_get("offer_ms")?;
    let details: Details = json(row, "details_text")?;
    let lines: Vec<Line> = json(row, "lines_text")?;
    let lines = lines.into_iter().map(|line| OrderRowLine {
        variant_id: VariantId(line.variant_id.into_bytes()),
        qty: line.qty,
        unit_price: MinorUnits(line.unit_price),
    });
    Ok(OrderRow {
        order_id: OrderId(id(row, "id")?),
        drop_id: DropId(id(row, "drop_id")?),
        user_id: UserId(id(row, "user_id")?),
        status: word::<OrderStatus>(row.try_get("status")?)?,
        reason: reason.map(|reason| word::<Reason>(&reason)).transpose()?,
        lines: lines.collect(),
        product_id: ProductId(id(row, "product_id")?),
        currency: row.try_get::<String, _>("currency")?.into(),
        total: MinorUnits(row.try_get("total")?),
        payment_method: row.try_get("payment_method")?,
        request_hash: Hash([0; 16]),
        version: row.try_get("version")?,
        created_at: Millis(row.try_get("created_ms")?),
        decided_at: Millis(row.try_get("decided_ms")?),
        hold_expires_at: hold.map(Millis),
        intent_offset: row.try_get("intent_offset")?,
        missing: Vec::new(),
        held_order_id: held.map(OrderId::from),
        payments: details.payments,
        operation: details.operation,
        offer_expires_at: offer.map(Millis),
        offer_left_ms: details.offer_left_ms,
        from_waitlist: details.from_waitlist,
        extended: details.extended,
        refund: details.refund,
    })
}

fn drop_row(row: &PgRow, drop: DropId, variants: Vec<VariantRow>) -> Result<DropRow, sqlx::Error> {
    let (opened, ended): (Option<i64>, Option<i64>) =
        (row.try_get("opened_ms")?, row.try_get("ended_ms")?);
    Ok(DropRow {
        drop_id: drop,
        creator_id: CreatorId(id(row, "creator_id")?),
        product_id: ProductId(id(row, "product_id")?),
        title: row.try_get("title")?,
        status: word::<DropStatus>(row.try_get("status")?)?,
        starts_at: Millis(row.try_get("starts_ms")?),
        ends_at: Millis(row.try_get("ends_ms")?),
        time_zone: row.try_get("time_zone")?,
        currency: row.try_get::<String, _>("currency")?.into(),
        variants,
        limit_per_user: row.try_get("limit_per_user")?,
        hold_seconds: row.try_get("hold_seconds")?,
        low_stock_threshold: Units(row.try_get("low_stock_threshold")?),
        payment_required: row.try_get("payment_required")?,
        schedule_key: Hash([0; 16]),
        request_hash: Hash([0; 16]),
        version: row.try_get("version")?,
        created_at: Millis(row.try_get("created_ms")?),
        opened_at: opened.map(Millis),
        ended_at: ended.map(Millis),
        offer_seconds: row.try_get("offer_seconds")?,
        waitlist: row.try_get("waitlist")?,
        payment_attempts: row.try_get("payment_attempts")?,
        archive_at: row.try_get::<Option<i64>, _>("archive_ms")?.map(Millis),
    })
}
