//! Placing an order.
//!
//! The key is looked up before anything is refused. Then the refusals, in the order of [`Reason`]:
//! `unknown_drop`, `archived`, `not_open`, `unknown_variant`, `bad_quantity`, `price_changed`, `limit_exceeded`,
//! `insufficient_stock`, `sold_out`. A refusal is final for its key, but for three that leave no row:
//! `unknown_drop`, `archived`, and `not_open` of an upcoming or paused drop, so that an early click costs
//! nothing. With `ifSoldOut: waitlist` the last two become a place in the queue, where the drop has one.

use std::sync::Arc;

use model::{Decided, ReadFailed, Rows, Stamp};
use schemas::decision::Outcome;
use schemas::ids::{DropId, OrderId, UserId, VariantId};
use schemas::limits::QUANTITY_MAX;
use schemas::order::{
    BuyerRow, DropRow, DropStatus, IfSoldOut, MissingUnits, OrderBody, OrderLine, OrderRow,
    OrderRowLine, OrderStatus, PlaceOrder, Reason, Refusal, StockRow,
};
use schemas::units::{Millis, MinorUnits, Units};
use smallvec::{SmallVec, smallvec};

use super::change::{Change, keeps_buyers};
use super::{WHOLE_LIFE, changed, key_reused, payments, refusal, refused, replayed, stock};
use crate::rows::{self, StateRow};

pub(super) fn place(
    rows: &dyn Rows<StateRow>,
    user: UserId,
    drop_id: DropId,
    order: &PlaceOrder,
    stamp: Stamp,
) -> Result<Decided<OrderBody>, ReadFailed> {
    if let Some(first) = rows::read_order(rows, order.order_id)? {
        let same = first.request_hash == order.request_hash;
        return Ok(if same { replayed(Some(first)) } else { key_reused(Some(first)) });
    }
    let named =
        |reason| Refusal { order_id: Some(order.order_id), user_id: Some(user), ..refusal(reason) };
    let Some(drop) = rows::view_drop(rows, drop_id)? else {
        return Ok(refused(named(Reason::UnknownDrop)));
    };
    match drop.status {
        DropStatus::Archived => return Ok(refused(named(Reason::Archived))),
        DropStatus::Upcoming | DropStatus::Paused => {
            let opens_at = (drop.status == DropStatus::Upcoming).then_some(drop.starts_at);
            return Ok(refused(Refusal {
                opens_at,
                drop_status: Some(drop.status),
                ..named(Reason::NotOpen)
            }));
        }
        DropStatus::Live | DropStatus::Ended | DropStatus::Cancelled => {}
    }
    let wanted = Wanted { user, drop: &drop, order, lines: priced_lines(&drop, order), stamp };
    match refuse_terms(&wanted) {
        Some(reason) => Ok(wanted.rejected(reason, Vec::new(), None)),
        None => reserve(rows, &wanted),
    }
}

/// An order's lines summed per variant, in variant order, with the drop's prices. A variant that the drop
/// does not have is priced 0; the order is refused for it before the price matters.
fn priced_lines(drop: &DropRow, order: &PlaceOrder) -> SummedLines {
    let price_of = |variant: VariantId| {
        drop.variants.iter().find(|terms| terms.variant_id == variant).map(|terms| terms.price)
    };
    let mut lines = order.lines.clone();
    lines.sort_unstable_by_key(|line| line.variant_id);
    let mut sums = SummedLines::new();
    for OrderLine { variant_id, qty } in lines {
        // A line below 1 makes the whole sum bad: it must not hide behind a larger line.
        let qty = if qty < 1 { BAD_SUM } else { Units(i64::from(qty)) };
        match sums.last_mut().filter(|sum| sum.variant_id == variant_id) {
            Some(sum) if sum.qty == BAD_SUM || qty == BAD_SUM => sum.qty = BAD_SUM,
            Some(sum) => sum.qty.0 = sum.qty.0.saturating_add(qty.0),
            None => sums.push(SummedLine { variant_id, qty, price: price_of(variant_id) }),
        }
    }
    sums
}

/// Less than any sum of quantities.
const BAD_SUM: Units = Units(i64::MIN);

/// Nearly every order has one line.
type SummedLines = SmallVec<[SummedLine; 1]>;

struct SummedLine {
    variant_id: VariantId,
    qty: Units,
    price: Option<MinorUnits>,
}

/// An order against its drop, with nothing read yet.
struct Wanted<'a> {
    user: UserId,
    drop: &'a DropRow,
    order: &'a PlaceOrder,
    lines: SummedLines,
    stamp: Stamp,
}

impl Wanted<'_> {
    fn units(&self) -> Units {
        self.lines.iter().map(|line| line.qty).sum()
    }

    /// `None` on overflow, which only a refused quantity can cause.
    fn total(&self) -> Option<MinorUnits> {
        self.lines.iter().try_fold(MinorUnits(0), |total, line| {
            total.checked_add(line.price.unwrap_or_default().times(line.qty)?)
        })
    }

    fn row(&self, status: OrderStatus) -> OrderRow {
        let lines = self.lines.iter().map(|line| OrderRowLine {
            variant_id: line.variant_id,
            qty: i32::try_from(line.qty.0.max(0)).unwrap_or(i32::MAX),
            unit_price: line.price.unwrap_or_default(),
        });
        OrderRow {
            order_id: self.order.order_id,
            drop_id: self.drop.drop_id,
            user_id: self.user,
            status,
            reason: None,
            lines: lines.collect(),
            product_id: self.drop.product_id,
            currency: self.drop.currency.clone(),
            total: self.total().unwrap_or_default(),
            payment_method: self.order.payment_method.clone(),
            request_hash: self.order.request_hash,
            version: 1,
            created_at: self.stamp.log_time,
            decided_at: self.stamp.decided_at,
            hold_expires_at: None,
            intent_offset: self.stamp.offset,
            missing: Vec::new(),
            held_order_id: None,
            payments: Vec::new(),
            operation: None,
            offer_expires_at: None,
            offer_left_ms: None,
            from_waitlist: false,
            extended: false,
            refund: None,
        }
    }

    /// The order with its units, or with its place in the queue. A hold counts from the decision; a payment
    /// starts at once where the buyer said how.
    fn granted(&self, status: OrderStatus) -> OrderRow {
        let mut row = self.row(status);
        if status == OrderStatus::Reserved {
            let hold = Millis::from_seconds(i64::from(self.drop.hold_seconds));
            row.hold_expires_at = Some(self.stamp.decided_at.after(hold));
            if row.payment_method.is_some() && self.stamp.logic_version >= WHOLE_LIFE {
                let method = row.payment_method.clone();
                row = payments::with_attempt(row, method);
            }
        }
        row.from_waitlist = status == OrderStatus::Waitlisted;
        row
    }

    /// A final refusal: it is remembered under its key.
    fn rejected(
        &self,
        reason: Reason,
        missing: Vec<MissingUnits>,
        held_order_id: Option<OrderId>,
    ) -> Decided<OrderBody> {
        let mut row = self.row(OrderStatus::Rejected);
        row.reason = Some(reason);
        row.missing = missing;
        row.held_order_id = held_order_id;
        let refusal = Refusal {
            order_id: Some(row.order_id),
            user_id: Some(self.user),
            drop_status: (reason == Reason::NotOpen).then_some(self.drop.status),
            ..refusal(reason)
        };
        let body = OrderBody {
            refusal: Some(refusal),
            orders: smallvec![Arc::new(row)],
            ..OrderBody::default()
        };
        Decided { outcome: Outcome::Refused, body: Some(body) }
    }
}

/// The refusals that need no further row.
fn refuse_terms(wanted: &Wanted<'_>) -> Option<Reason> {
    if wanted.drop.status != DropStatus::Live {
        return Some(Reason::NotOpen);
    }
    if wanted.lines.iter().any(|line| line.price.is_none()) {
        return Some(Reason::UnknownVariant);
    }
    if wanted.lines.iter().any(|line| !(1..=QUANTITY_MAX).contains(&line.qty.0)) {
        return Some(Reason::BadQuantity);
    }
    let Some(total) = wanted.total() else { return Some(Reason::BadQuantity) };
    let expected = &wanted.order;
    let other_total = expected.expected_total.is_some_and(|seen| seen != total);
    let other_currency =
        expected.expected_currency.as_ref().is_some_and(|seen| *seen != wanted.drop.currency);
    (other_total || other_currency).then_some(Reason::PriceChanged)
}

/// Takes the units, all or nothing, or refuses for the limit or the stock.
fn reserve(
    rows: &dyn Rows<StateRow>,
    wanted: &Wanted<'_>,
) -> Result<Decided<OrderBody>, ReadFailed> {
    let drop = wanted.drop;
    let buyer =
        if keeps_buyers(drop) { rows::read_buyer(rows, drop.drop_id, wanted.user)? } else { None };
    if let Some(limit) = drop.limit_per_user {
        let owned = buyer.as_ref().map_or(Units(0), payments::owned_units);
        if owned.0 + wanted.units().0 > i64::from(limit) {
            let held = buyer.as_ref().and_then(|buyer| buyer.held_orders.last().copied());
            return Ok(wanted.rejected(Reason::LimitExceeded, Vec::new(), held));
        }
    }
    let mut stocks = SmallVec::<[StockRow; 1]>::new();
    for line in &wanted.lines {
        stocks.push(stock::read(rows, drop.drop_id, line.variant_id)?);
    }
    let status = match short_of_stock(wanted, &stocks) {
        None if drop.payment_required => OrderStatus::Reserved,
        None => OrderStatus::Confirmed,
        Some(_) if may_wait(wanted, buyer.as_ref()) => OrderStatus::Waitlisted,
        Some((reason, missing)) => return Ok(wanted.rejected(reason, missing, None)),
    };
    let mut change = Change::new(rows, wanted.stamp);
    change.put_order(drop, None, wanted.granted(status))?;
    change.finish(drop).map(changed)
}

/// One line, and no live entry of the buyer for its variant.
fn may_wait(wanted: &Wanted<'_>, buyer: Option<&BuyerRow>) -> bool {
    let [line] = wanted.lines.as_slice() else { return false };
    let entries = buyer.map_or(&[][..], |buyer| &buyer.entries);
    wanted.drop.waitlist
        && wanted.order.if_sold_out == IfSoldOut::Waitlist
        && !entries.iter().any(|entry| entry.variant_id == line.variant_id)
}

/// `sold_out` if a wanted variant has none left, else `insufficient_stock` with what is left of each.
fn short_of_stock(wanted: &Wanted<'_>, stocks: &[StockRow]) -> Option<(Reason, Vec<MissingUnits>)> {
    let enough = wanted.lines.iter().zip(stocks).all(|(line, stock)| stock.available >= line.qty);
    if enough {
        return None;
    }
    if stocks.iter().any(|stock| stock.available == Units(0)) {
        return Some((Reason::SoldOut, Vec::new()));
    }
    let missing = stocks
        .iter()
        .map(|stock| MissingUnits { variant_id: stock.variant_id, available: stock.available });
    Some((Reason::InsufficientStock, missing.collect()))
}
