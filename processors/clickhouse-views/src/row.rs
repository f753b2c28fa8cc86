//! One row per decision about something: what analysts count.

use schemas::decision::{Decision, Outcome};
use schemas::order::{OrderBody, OrderStatus};
use schemas::partition::Partition;
use serde::Serialize;
use uuid::Uuid;

/// A decision as a flat row. Control records (genesis, `owner_started`) are none.
#[derive(Clone, PartialEq, Debug, Serialize, clickhouse::Row)]
pub struct DecisionFact {
    /// Decisions partition.
    pub partition: u16,
    /// Decision offset.
    pub offset: i64,
    /// Decision sequence number.
    pub seq: i64,
    /// Header outcome.
    pub outcome: String,
    /// Order status after the decision; empty where no order changed.
    pub status: String,
    /// Refusal code; empty for none.
    pub reason: String,
    /// The drop; nil for none.
    #[serde(with = "clickhouse::serde::uuid")]
    pub drop_id: Uuid,
    /// The order; nil for none.
    #[serde(with = "clickhouse::serde::uuid")]
    pub order_id: Uuid,
    /// The buyer; nil for none.
    #[serde(with = "clickhouse::serde::uuid")]
    pub user_id: Uuid,
    /// Units of the order.
    pub units: i64,
    /// Total of the order in minor units.
    pub total: i64,
    /// ISO 4217; empty for none.
    pub currency: String,
    /// Units available in the drop after the decision, over the variants it touched; -1 where it touched none.
    pub available: i64,
    /// Edge events, comma separated.
    pub events: String,
    /// Log time in milliseconds.
    pub log_time: i64,
    /// Decision time in milliseconds.
    pub decided_at: i64,
}

fn word<T: Serialize>(value: T) -> String {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(word)) => word,
        _ => String::new(),
    }
}

/// The fact of one decision, if it is one.
#[must_use]
pub fn facts_of(
    partition: Partition,
    offset: i64,
    decision: &Decision<OrderBody>,
) -> Option<DecisionFact> {
    if matches!(decision.outcome, Outcome::Genesis | Outcome::OwnerStarted) {
        return None;
    }
    let header = &decision.header;
    let body = decision.body.as_ref();
    let order = body.and_then(|body| body.orders.first().or(body.answer.as_ref()));
    let changed = body.and_then(|body| body.orders.first());
    let refusal = body.and_then(|body| body.refusal.as_ref());
    let drop = order.map(|order| order.drop_id).or_else(|| {
        let body = body?;
        body.drops
            .first()
            .map(|drop| drop.drop_id)
            .or_else(|| body.stocks.first().map(|stock| stock.drop_id))
    });
    let granted = |status: OrderStatus| status != OrderStatus::Rejected;
    let stocks = body.map(|body| body.stocks.as_slice()).unwrap_or_default();
    let events = body.map(|body| body.events.as_slice()).unwrap_or_default();
    Some(DecisionFact {
        partition: partition.0,
        offset,
        seq: header.seq,
        outcome: decision.outcome.as_str().to_owned(),
        status: changed.map(|order| order.status.as_str().to_owned()).unwrap_or_default(),
        reason: refusal.map(|refusal| refusal.reason.as_str().to_owned()).unwrap_or_default(),
        drop_id: drop.map(Uuid::from).unwrap_or_default(),
        order_id: order.map(|order| Uuid::from(order.order_id)).unwrap_or_default(),
        user_id: order
            .map(|order| order.user_id)
            .or_else(|| refusal.and_then(|refusal| refusal.user_id))
            .map(Uuid::from)
            .unwrap_or_default(),
        units: order.map_or(0, |order| order.lines.iter().map(|line| i64::from(line.qty)).sum()),
        total: changed.filter(|order| granted(order.status)).map_or(0, |order| order.total.0),
        currency: order.map(|order| order.currency.clone()).unwrap_or_default(),
        available: if stocks.is_empty() {
            -1
        } else {
            stocks.iter().map(|stock| stock.available.0).sum()
        },
        events: events.iter().map(|event| word(event.kind)).collect::<Vec<_>>().join(","),
        log_time: header.log_time.0,
        decided_at: header.decided_at.0,
    })
}
