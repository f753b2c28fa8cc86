//! Rows as clients see them.

use schemas::order::{OrderRow, PaymentRow, PaymentState, StockRow};
use schemas::units::{Millis, Money};
use serde::Serialize;
use serde_json::{Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use utoipa::ToSchema;

use crate::archive::DropState;
use crate::position::IntentPosition;

/// RFC 3339 with millisecond precision.
#[must_use]
pub fn rfc3339(instant: Millis) -> String {
    let nanoseconds = i128::from(instant.0) * 1_000_000;
    OffsetDateTime::from_unix_timestamp_nanos(nanoseconds)
        .ok()
        .and_then(|instant| instant.format(&Rfc3339).ok())
        .unwrap_or_default()
}

/// One line of an order.
#[derive(Serialize, ToSchema, Debug)]
#[serde(rename_all = "camelCase")]
pub struct OrderLineView {
    variant_id: String,
    product_id: String,
    qty: i32,
    #[schema(value_type = Object)]
    unit_price: Money,
}

/// The last payment attempt.
#[derive(Serialize, ToSchema, Debug)]
#[serde(rename_all = "camelCase")]
pub struct PaymentView {
    attempt: i32,
    state: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    payment_method_id: Option<String>,
    /// Where the buyer has to go to finish the payment.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_action: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    failure: Option<String>,
    /// What the provider is asked for now.
    #[serde(skip_serializing_if = "Option::is_none")]
    operation: Option<&'static str>,
}

impl PaymentView {
    fn new(payment: &PaymentRow, row: &OrderRow) -> Self {
        let waits = payment.state == PaymentState::NeedsAction;
        let detail = |wanted: bool| payment.detail.clone().filter(|_| wanted);
        Self {
            attempt: payment.attempt,
            state: payment.state.as_str(),
            payment_method_id: payment.method.clone(),
            next_action: detail(waits),
            failure: detail(!waits),
            operation: row.operation.map(|operation| operation.kind.as_str()),
        }
    }
}

/// An order as it is now.
#[derive(Serialize, ToSchema, Debug)]
#[serde(rename_all = "camelCase")]
pub struct OrderView {
    id: String,
    drop_id: String,
    user_id: String,
    status: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'static str>,
    lines: Vec<OrderLineView>,
    qty: i64,
    #[schema(value_type = Object)]
    total: Money,
    #[serde(skip_serializing_if = "Option::is_none")]
    payment: Option<PaymentView>,
    #[serde(skip_serializing_if = "Option::is_none")]
    hold_expires_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    offer_expires_at: Option<String>,
    version: i32,
    created_at: String,
    decided_at: String,
    position: String,
    server_time: String,
}

impl OrderView {
    pub(crate) fn new(row: &OrderRow, partitions: u16) -> Self {
        let money = |amount| Money { amount, currency: row.currency.clone() };
        let lines = row.lines.iter().map(|line| OrderLineView {
            variant_id: line.variant_id.to_string(),
            product_id: row.product_id.to_string(),
            qty: line.qty,
            unit_price: money(line.unit_price),
        });
        let partition = row.drop_id.partition(partitions);
        Self {
            id: row.order_id.to_string(),
            drop_id: row.drop_id.to_string(),
            user_id: row.user_id.to_string(),
            status: row.status.as_str(),
            reason: row.reason.map(schemas::order::Reason::as_str),
            lines: lines.collect(),
            qty: row.lines.iter().map(|line| i64::from(line.qty)).sum(),
            total: money(row.total),
            payment: row.payments.last().map(|payment| PaymentView::new(payment, row)),
            hold_expires_at: row.hold_expires_at.map(rfc3339),
            offer_expires_at: row.offer_expires_at.map(rfc3339),
            version: row.version,
            created_at: rfc3339(row.created_at),
            decided_at: rfc3339(row.decided_at),
            position: IntentPosition { partition, offset: row.intent_offset }.encode(),
            server_time: rfc3339(now()),
        }
    }
}

/// One variant of a drop with its counters.
#[derive(Serialize, ToSchema, Debug)]
#[serde(rename_all = "camelCase")]
pub struct VariantView {
    variant_id: String,
    name: String,
    #[schema(value_type = Object)]
    price: Money,
    available: i64,
    reserved: i64,
    sold: i64,
    restocked: i64,
    withdrawn: i64,
}

/// A drop as it is now.
#[derive(Serialize, ToSchema, Debug)]
#[serde(rename_all = "camelCase")]
pub struct DropView {
    id: String,
    creator_id: String,
    product_id: String,
    title: String,
    status: &'static str,
    starts_at: String,
    ends_at: String,
    time_zone: Option<String>,
    payment: &'static str,
    initial_stock: i64,
    low_stock_threshold: i64,
    limit_per_user: Option<i32>,
    hold_seconds: i32,
    offer_seconds: i32,
    waitlist: bool,
    payment_attempts: i32,
    variants: Vec<VariantView>,
    #[schema(value_type = Object)]
    stock: Value,
    version: i32,
    position: String,
    server_time: String,
}

impl DropView {
    /// `position` is how far the answering node has come in the drop's partition.
    pub(crate) fn new(state: &DropState, position: IntentPosition) -> Self {
        let row = &state.drop;
        let count = |variant, of: fn(&StockRow) -> i64| {
            state.stocks.iter().find(|stock| stock.variant_id == variant).map_or(0, of)
        };
        let variants = row.variants.iter().map(|variant| VariantView {
            variant_id: variant.variant_id.to_string(),
            name: variant.name.clone(),
            price: Money { amount: variant.price, currency: row.currency.clone() },
            available: count(variant.variant_id, |stock| stock.available.0),
            reserved: count(variant.variant_id, |stock| stock.reserved.0),
            sold: count(variant.variant_id, |stock| stock.sold.0),
            restocked: count(variant.variant_id, |stock| stock.restocked.0),
            withdrawn: count(variant.variant_id, |stock| stock.withdrawn.0),
        });
        Self {
            id: row.drop_id.to_string(),
            creator_id: row.creator_id.to_string(),
            product_id: row.product_id.to_string(),
            title: row.title.clone(),
            status: row.status.as_str(),
            starts_at: rfc3339(row.starts_at),
            ends_at: rfc3339(row.ends_at),
            time_zone: row.time_zone.clone(),
            payment: if row.payment_required { "required" } else { "none" },
            initial_stock: row.variants.iter().map(|variant| variant.initial_stock.0).sum(),
            low_stock_threshold: row.low_stock_threshold.0,
            limit_per_user: row.limit_per_user,
            hold_seconds: row.hold_seconds,
            offer_seconds: row.offer_seconds,
            waitlist: row.waitlist,
            payment_attempts: row.payment_attempts,
            variants: variants.collect(),
            stock: available(state),
            version: row.version,
            position: position.encode(),
            server_time: rfc3339(now()),
        }
    }
}

/// `{"available": n}` over all variants.
pub(crate) fn available(state: &DropState) -> Value {
    json!({"available": state.stocks.iter().map(|stock| stock.available.0).sum::<i64>()})
}

pub(crate) fn now() -> Millis {
    Millis(platform::clock::now_ms())
}
