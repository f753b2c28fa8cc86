//! One row per decision, or per order where a decision changes several: what analysts count.

use std::sync::LazyLock;

use schemas::decision::{Decision, Outcome};
use schemas::order::{OrderBody, OrderRow, OrderStatus, Reason};
use schemas::partition::Partition;
use schemas::units::Currency;
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
    /// Which of the decision's orders; 0 for the first, and where there is none.
    pub position: u16,
    /// Header outcome.
    pub outcome: &'static str,
    /// Order status after the decision; empty where no order changed.
    pub status: &'static str,
    /// Refusal code; empty for none.
    pub reason: &'static str,
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
    pub currency: Currency,
    /// Units available in the drop after the decision, over the variants it touched; -1 where it touched none.
    pub available: i64,
    /// Edge events, comma separated.
    pub events: String,
    /// Log time in milliseconds.
    pub log_time: i64,
    /// Decision time in milliseconds.
    pub decided_at: i64,
}

/// The facts of one decision: one, or one per order where it changes several (a continuation).
pub fn facts_of(
    partition: Partition,
    offset: i64,
    decision: &Decision<OrderBody>,
) -> impl Iterator<Item = DecisionFact> {
    let is_control = matches!(decision.outcome, Outcome::Genesis | Outcome::OwnerStarted);
    let body = decision.body.as_ref().filter(|_| !is_control);
    let fact = move |order| fact(partition, offset, decision, order);
    let first = (!is_control).then(|| fact(body.and_then(OrderBody::order)));
    let further = body.map_or(&[][..], |body| &body.orders).iter().zip(0_u16..).skip(1);
    // What belongs to the decision as a whole is told once.
    first.into_iter().chain(further.map(move |(order, position)| DecisionFact {
        position,
        available: -1,
        events: String::new(),
        ..fact(Some(order))
    }))
}

fn fact(
    partition: Partition,
    offset: i64,
    decision: &Decision<OrderBody>,
    order: Option<&OrderRow>,
) -> DecisionFact {
    static NONE: LazyLock<OrderBody> = LazyLock::new(OrderBody::default);
    let header = &decision.header;
    let body = decision.body.as_ref().unwrap_or(&NONE);
    let changed = order.filter(|_| !body.orders.is_empty());
    let refusal = body.refusal.as_ref();
    let drop = order.map(|order| order.drop_id);
    let drop = drop.or_else(|| body.drops.first().map(|drop| drop.drop_id));
    let drop = drop.or_else(|| body.stocks.first().map(|stock| stock.drop_id));
    let user = order.map(|order| order.user_id).or_else(|| refusal?.user_id);
    let granted = |order: &&OrderRow| order.status != OrderStatus::Rejected;
    let available = body.stocks.iter().map(|stock| stock.available.0).sum();
    let events: Vec<_> = body.events.iter().map(|event| event.kind.as_str()).collect();
    // A row that a timer or continuation ended says why itself.
    let reason = refusal.map(|refusal| refusal.reason).or_else(|| changed?.reason);
    DecisionFact {
        partition: partition.0,
        offset,
        seq: header.seq,
        position: 0,
        outcome: decision.outcome.as_str(),
        status: changed.map(|order| order.status.as_str()).unwrap_or_default(),
        reason: reason.map(Reason::as_str).unwrap_or_default(),
        drop_id: drop.map(Uuid::from).unwrap_or_default(),
        order_id: order.map(|order| Uuid::from(order.order_id)).unwrap_or_default(),
        user_id: user.map(Uuid::from).unwrap_or_default(),
        units: order.map_or(0, |order| order.units().0),
        total: changed.filter(granted).map_or(0, |order| order.total.0),
        currency: order.map(|order| order.currency.clone()).unwrap_or_default(),
        available: if body.stocks.is_empty() { -1 } else { available },
        events: events.join(","),
        log_time: header.log_time.0,
        decided_at: header.decided_at.0,
    }
}
