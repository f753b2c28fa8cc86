//! Defects of the rules, put around the production processor from outside: what it reads, what it is asked, what it
//! says. Those of runtime, log, store and readers sit where they belong.

use std::sync::Arc;

use model::{
    Decided, Intent, Processor, QueueKey, ReadFailed, RowChange, RowKey, Rows, Stamp, Timer,
    Topology, UnreadableIntent,
};
use reservations::Reservations;
use reservations::command::Command;
use reservations::rows::StateRow;
use reservations::topology::tag;
use schemas::avro::Codec;
use schemas::ids::IntentId;
use schemas::order::{ContinuationRow, OrderBody, OrderStatus, ProviderOperationKind, RefundPlan};
use schemas::units::Millis;

pub use runtime::defect::{Defect, is_on};

/// The production rules with the current defect around them.
#[derive(Debug)]
pub struct Defective;

/// What the rules see.
struct Tampered<'a> {
    rows: &'a dyn Rows<StateRow>,
    command: Option<&'a Command>,
}

impl Rows<StateRow> for Tampered<'_> {
    fn get(&self, key: &RowKey) -> Result<Option<StateRow>, ReadFailed> {
        let row = self.rows.get(key)?;
        let places = matches!(self.command, Some(Command::Place { .. }));
        let hidden = match key.tag() {
            tag::ORDER => places && is_on(Defect::ForgetDedup),
            tag::BUYER => places && is_on(Defect::LimitPerOrder),
            _ => false,
        };
        if hidden {
            return Ok(None);
        }
        Ok(row.map(|row| match row {
            StateRow::Drop(mut drop) if is_on(Defect::LowStockOffByOne) => {
                Arc::make_mut(&mut drop).low_stock_threshold.0 += 1;
                StateRow::Drop(drop)
            }
            _ => row,
        }))
    }

    fn next_in_queue(&self, from: &QueueKey) -> Option<(QueueKey, RowKey)> {
        let first = self.rows.next_in_queue(from);
        let is_waiting = from.queue.tag() == tag::WAITING;
        if is_waiting && is_on(Defect::SkipTheWaitlist) {
            return None;
        }
        let (place, row) = first?;
        if is_waiting && is_on(Defect::OfferOutOfTurn) {
            let after = QueueKey { position: place.position + 1, ..place };
            let second =
                self.rows.next_in_queue(&after).filter(|(next, _)| next.size == place.size);
            return second.or(Some((place, row)));
        }
        Some((place, row))
    }

    fn keys_after(
        &self,
        prefix: &RowKey,
        after: Option<&RowKey>,
        limit: usize,
    ) -> Result<Vec<RowKey>, ReadFailed> {
        self.rows.keys_after(prefix, after, limit)
    }
}

fn tampered_stamp(stamp: Stamp) -> Stamp {
    let decided_at =
        if is_on(Defect::HoldFromAppendTime) { stamp.log_time } else { stamp.decided_at };
    Stamp { decided_at, ..stamp }
}

/// What the rules said, changed.
fn tampered_body(mut body: OrderBody, timer: Option<&Timer>) -> OrderBody {
    if is_on(Defect::DoubleRelease) && timer.is_some() {
        for order in body.orders.iter().filter(|order| order.status == OrderStatus::Expired) {
            for line in &order.lines {
                let mut stocks = body.stocks.iter_mut();
                let stock = stocks.find(|stock| stock.variant_id == line.variant_id);
                let Some(stock) = stock.filter(|stock| stock.reserved.0 >= i64::from(line.qty))
                else {
                    continue;
                };
                stock.reserved.0 -= i64::from(line.qty);
                stock.available.0 += i64::from(line.qty);
            }
        }
    }
    for order in body.orders.iter_mut().map(Arc::make_mut) {
        if is_on(Defect::CaptureBeforeConfirm)
            && let Some(operation) = &mut order.operation
            && operation.kind == ProviderOperationKind::Authorise
        {
            operation.kind = ProviderOperationKind::Capture;
        }
        if is_on(Defect::ForgetTheVoid) {
            let is_void = |kind| kind == ProviderOperationKind::Void;
            order.operation = order.operation.filter(|operation| !is_void(operation.kind));
        }
        if is_on(Defect::RestockBeforeRefund) && order.status == OrderStatus::RefundPending {
            order.status = OrderStatus::Refunded;
            order.refund = Some(RefundPlan { restock: true });
        }
    }
    if is_on(Defect::LoseHalfAContinuation) && timer.is_some_and(Timer::is_continuation) {
        let unfinished = body.continuations.drain(..);
        body.finished.extend(unfinished.map(|work: ContinuationRow| work.id));
        let kept = body.orders.len().div_ceil(2);
        body.orders.truncate(kept);
    }
    body
}

impl Processor for Defective {
    type Command = Command;
    type Row = StateRow;
    type Body = OrderBody;

    const TOPOLOGY: Topology = Reservations::TOPOLOGY;
    const LOGIC_VERSION: i32 = Reservations::LOGIC_VERSION;

    fn decision_codec() -> &'static Codec {
        Reservations::decision_codec()
    }

    fn read(codec: &Codec, datum: &[u8]) -> Result<Intent<Command>, UnreadableIntent> {
        Reservations::read(codec, datum)
    }

    fn decide(
        rows: &dyn Rows<StateRow>,
        command: &Command,
        stamp: Stamp,
    ) -> Result<Decided<OrderBody>, ReadFailed> {
        let mut command = command.clone();
        if let Command::Place { order, .. } = &mut command
            && is_on(Defect::IgnoreTheRequestHash)
            && let Some(StateRow::Order(first)) =
                rows.get(&reservations::rows::order_key(order.order_id))?
        {
            order.request_hash = first.request_hash;
        }
        let seen = Tampered { rows, command: Some(&command) };
        let decided = Reservations::decide(&seen, &command, tampered_stamp(stamp))?;
        let body = decided.body.map(|body| tampered_body(body, None));
        Ok(Decided { body, ..decided })
    }

    fn fire(
        rows: &dyn Rows<StateRow>,
        timer: &Timer,
        stamp: Stamp,
    ) -> Result<Option<OrderBody>, ReadFailed> {
        let seen = Tampered { rows, command: None };
        let fired = Reservations::fire(&seen, timer, tampered_stamp(stamp))?;
        Ok(fired.map(|body| tampered_body(body, Some(timer))))
    }

    fn changes(body: OrderBody) -> impl Iterator<Item = RowChange<StateRow>> {
        Reservations::changes(body)
    }

    fn activated(body: &OrderBody) -> Option<i32> {
        Reservations::activated(body)
    }

    fn record_key(body: &OrderBody) -> Option<[u8; 16]> {
        Reservations::record_key(body)
    }

    fn tick(intent_id: IntentId, now: Millis) -> Vec<u8> {
        Reservations::tick(intent_id, now)
    }
}
