//! The rows that one decision changes.
//!
//! Stock and buyer counters are never moved by hand: each is a function of (order row before, order row after),
//! so that no rule can release twice or forget to.

use std::sync::Arc;

use model::{ReadFailed, Rows, Stamp};
use schemas::ids::{DropId, OrderId, UserId, VariantId};
use schemas::limits::ROWS_PER_DECISION_MAX;
use schemas::order::{
    BuyerRow, ContinuationKind, ContinuationRow, DropEvent, DropEventKind, DropRow, DropStatus,
    OrderBody, OrderRow, OrderStatus, StockRow, WaitingEntry,
};
use schemas::units::Units;

use super::{WHOLE_LIFE, payments, stock, waitlist};
use crate::rows::{self, StateRow};

/// What one order may add to a decision: itself, its buyer, its lines' stock.
const ROWS_PER_ORDER: usize = 2 + schemas::limits::LINES_MAX;

/// Rows changed so far, over the rows as they were. A rule reads through it and sees its own changes.
pub(crate) struct Change<'a> {
    pub(super) rows: &'a dyn Rows<StateRow>,
    pub(super) stamp: Stamp,
    pub(super) body: OrderBody,
    /// Stock of every touched variant as it was.
    before: Vec<StockRow>,
}

impl<'a> Change<'a> {
    pub(super) fn new(rows: &'a dyn Rows<StateRow>, stamp: Stamp) -> Self {
        Self { rows, stamp, body: OrderBody::default(), before: Vec::new() }
    }

    /// Whether another order still fits into this record.
    pub(super) fn has_room(&self) -> bool {
        let rows = self.body.orders.len() + self.body.buyers.len() + self.body.stocks.len();
        // Room for the drop row and the continuation itself.
        rows + ROWS_PER_ORDER + 2 <= ROWS_PER_DECISION_MAX
    }

    /// A variant's units.
    pub(super) fn stock(
        &mut self,
        drop: DropId,
        variant: VariantId,
    ) -> Result<&mut StockRow, ReadFailed> {
        let is_it = |row: &StockRow| (row.drop_id, row.variant_id) == (drop, variant);
        if let Some(at) = self.body.stocks.iter().position(is_it) {
            return Ok(&mut self.body.stocks[at]);
        }
        let row = stock::read(self.rows, drop, variant)?;
        self.before.push(row);
        self.body.stocks.push(row);
        Ok(self.body.stocks.last_mut().expect("a row was pushed just before"))
    }

    /// The buyer's row as this decision has it; `None` before the first.
    fn buyer(&mut self, drop: DropId, user: UserId) -> Result<Option<BuyerRow>, ReadFailed> {
        let is_it = |row: &BuyerRow| (row.drop_id, row.user_id) == (drop, user);
        match self.body.buyers.iter().position(is_it) {
            Some(at) => Ok(Some(self.body.buyers.swap_remove(at))),
            None => rows::read_buyer(self.rows, drop, user),
        }
    }

    /// The only way an order changes: its row, and with it the counters of its lines and its buyer.
    pub(super) fn put_order(
        &mut self,
        drop: &DropRow,
        before: Option<&OrderRow>,
        after: OrderRow,
    ) -> Result<(), ReadFailed> {
        let mut after = after;
        if let Some(before) = before {
            after.version = before.version.saturating_add(1);
            after.decided_at = self.stamp.decided_at;
        }
        if after.status != OrderStatus::Reserved {
            after.hold_expires_at = None;
        }
        if after.status != OrderStatus::Offered {
            (after.offer_expires_at, after.offer_left_ms) = (None, None);
        }
        after.operation = payments::due_operation(&after);
        self.move_units(before, &after)?;
        if keeps_buyers(drop) {
            self.move_buyer(before, &after)?;
        }
        self.body.orders.push(Arc::new(after));
        Ok(())
    }

    fn move_units(
        &mut self,
        before: Option<&OrderRow>,
        after: &OrderRow,
    ) -> Result<(), ReadFailed> {
        let from = before.map_or(Counter::Available, stock_counter);
        let to = stock_counter(after);
        if from == to {
            return Ok(());
        }
        for line in &after.lines {
            let units = Units(i64::from(line.qty));
            let stock = self.stock(after.drop_id, line.variant_id)?;
            let source = counter_mut(stock, from);
            *source = source.checked_sub(units).expect("units are in the counter of their status");
            let target = counter_mut(stock, to);
            *target = target.checked_add(units).expect("no counter passes the stock limit");
            stock::assert_conserved(stock);
        }
        Ok(())
    }

    fn move_buyer(
        &mut self,
        before: Option<&OrderRow>,
        after: &OrderRow,
    ) -> Result<(), ReadFailed> {
        let from = before.map_or(OrderStatus::Rejected, |order| order.status);
        if buyer_counter(from) == buyer_counter(after.status)
            && is_entry(from) == is_entry(after.status)
        {
            return Ok(());
        }
        let (drop, user, units) = (after.drop_id, after.user_id, after.units());
        let mut buyer = self.buyer(drop, user)?.unwrap_or_else(|| new_buyer(drop, user));
        if let Some(counter) = buyer_counter_mut(&mut buyer, from) {
            *counter =
                counter.checked_sub(units).expect("a buyer's counters hold every live order");
        }
        if let Some(counter) = buyer_counter_mut(&mut buyer, after.status) {
            *counter = counter.checked_add(units).expect("the limit bounds a buyer's units");
        }
        let order = after.order_id;
        buyer.held_orders.retain(|held| *held != order);
        if after.status.holds_units() {
            buyer.held_orders.push(order);
        }
        buyer.entries.retain(|entry| entry.order_id != order);
        if is_entry(after.status) {
            let variant_id = after.lines[0].variant_id;
            buyer.entries.push(WaitingEntry { variant_id, order_id: order });
        }
        self.body.buyers.push(buyer);
        Ok(())
    }

    pub(super) fn put_drop(&mut self, mut drop: DropRow) {
        drop.version = drop.version.saturating_add(1);
        self.body.drops.push(drop);
    }

    pub(super) fn event(&mut self, drop: DropId, kind: DropEventKind) {
        self.body.events.push(DropEvent { kind, drop_id: drop });
    }

    /// Starts work that goes on in records of its own.
    pub(super) fn start(&mut self, kind: ContinuationKind, drop_id: DropId) {
        let id = self.stamp.seq;
        self.body.continuations.push(ContinuationRow { id, kind, drop_id, cursor: None });
    }

    /// Adds what follows from the change: edges crossed, and offers of what became available.
    pub(super) fn finish(mut self, drop: &DropRow) -> Result<OrderBody, ReadFailed> {
        if self.stamp.logic_version >= WHOLE_LIFE {
            self.cross_edges(drop)?;
            let released = self.before.iter().zip(&self.body.stocks).any(|(before, after)| {
                after.available > before.available || after.reserved < before.reserved
            });
            if released {
                waitlist::follow_up(&mut self, drop)?;
            }
        }
        // Reading a stock row is not changing it.
        let before = self.before;
        self.body.stocks.retain(|stock| !before.contains(stock));
        Ok(self.body)
    }

    /// Low stock and sold out, once per crossing, over all variants together.
    fn cross_edges(&mut self, drop: &DropRow) -> Result<(), ReadFailed> {
        let threshold = drop.low_stock_threshold;
        let fell = |(before, after): (&StockRow, &StockRow)| after.available < before.available;
        let pairs = || self.before.iter().zip(&self.body.stocks);
        // Above the threshold in one variant is above it in all: the other rows need not be read.
        if !pairs().any(fell)
            || self.body.stocks.iter().any(|s| s.available > threshold.max(Units(0)))
        {
            return Ok(());
        }
        let untouched = drop.variants.iter().filter(|variant| {
            !self.body.stocks.iter().any(|stock| stock.variant_id == variant.variant_id)
        });
        let mut others = 0;
        for variant in untouched {
            others += stock::read(self.rows, drop.drop_id, variant.variant_id)?.available.0;
        }
        let before = others + pairs().map(|(before, _)| before.available.0).sum::<i64>();
        let after = others + pairs().map(|(_, after)| after.available.0).sum::<i64>();
        if after == 0 && before > 0 {
            self.event(drop.drop_id, DropEventKind::SoldOut);
        } else if after <= threshold.0 && before > threshold.0 {
            self.event(drop.drop_id, DropEventKind::StockLow);
        }
        Ok(())
    }
}

/// Whether a drop needs to know its buyers.
pub(super) fn keeps_buyers(drop: &DropRow) -> bool {
    drop.limit_per_user.is_some() || drop.waitlist
}

pub(super) fn new_buyer(drop_id: DropId, user_id: UserId) -> BuyerRow {
    BuyerRow {
        drop_id,
        user_id,
        held: Units(0),
        sold: Units(0),
        held_orders: Vec::new(),
        waiting: Units(0),
        entries: Vec::new(),
    }
}

/// Where the units of an order are.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Counter {
    Available,
    Reserved,
    Sold,
}

fn stock_counter(order: &OrderRow) -> Counter {
    match order.status {
        OrderStatus::Reserved | OrderStatus::Offered => Counter::Reserved,
        OrderStatus::Confirmed
        | OrderStatus::Paid
        | OrderStatus::RefundPending
        | OrderStatus::RefundFailed => Counter::Sold,
        OrderStatus::Refunded if order.refund.is_none_or(|plan| !plan.restock) => Counter::Sold,
        OrderStatus::Refunded
        | OrderStatus::Rejected
        | OrderStatus::Expired
        | OrderStatus::Cancelled
        | OrderStatus::Waitlisted
        | OrderStatus::PaymentFailed => Counter::Available,
    }
}

fn counter_mut(stock: &mut StockRow, counter: Counter) -> &mut Units {
    match counter {
        Counter::Available => &mut stock.available,
        Counter::Reserved => &mut stock.reserved,
        Counter::Sold => &mut stock.sold,
    }
}

/// Which counter of its buyer an order is in.
#[derive(Clone, Copy, PartialEq, Eq)]
enum BuyerCounter {
    Held,
    Waiting,
    Sold,
}

fn buyer_counter(status: OrderStatus) -> Option<BuyerCounter> {
    match status {
        OrderStatus::Reserved | OrderStatus::Offered => Some(BuyerCounter::Held),
        OrderStatus::Waitlisted => Some(BuyerCounter::Waiting),
        OrderStatus::Confirmed
        | OrderStatus::Paid
        | OrderStatus::RefundPending
        | OrderStatus::RefundFailed => Some(BuyerCounter::Sold),
        OrderStatus::Rejected
        | OrderStatus::Expired
        | OrderStatus::Cancelled
        | OrderStatus::PaymentFailed
        | OrderStatus::Refunded => None,
    }
}

fn buyer_counter_mut(buyer: &mut BuyerRow, status: OrderStatus) -> Option<&mut Units> {
    Some(match buyer_counter(status)? {
        BuyerCounter::Held => &mut buyer.held,
        BuyerCounter::Waiting => &mut buyer.waiting,
        BuyerCounter::Sold => &mut buyer.sold,
    })
}

/// Whether an order with this status is its buyer's live waitlist entry.
fn is_entry(status: OrderStatus) -> bool {
    matches!(status, OrderStatus::Waitlisted | OrderStatus::Offered)
}

/// A drop in the status that lets units be offered.
pub(super) fn may_offer(drop: &DropRow) -> bool {
    drop.waitlist && matches!(drop.status, DropStatus::Live | DropStatus::Ended)
}

/// The order that `id` names.
pub(super) fn order(rows: &dyn Rows<StateRow>, id: OrderId) -> Result<OrderRow, ReadFailed> {
    rows::read_order(rows, id)?.ok_or_else(|| ReadFailed(format!("order {id} is gone")))
}

/// The drop of an order.
pub(super) fn drop_of(
    rows: &dyn Rows<StateRow>,
    order: &OrderRow,
) -> Result<Arc<DropRow>, ReadFailed> {
    rows::view_drop(rows, order.drop_id)?
        .ok_or_else(|| ReadFailed(format!("order {} has no drop", order.order_id)))
}
