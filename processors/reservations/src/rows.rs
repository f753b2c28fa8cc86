//! What is kept: the rows of the six tables, their keys, timers and queues, their bytes.

use std::sync::{Arc, LazyLock};

use model::{KeyGroups, QueueKey, ReadFailed, Row, RowChange, RowKey, Rows, Timer};
use schemas::avro::{AvroError, Codec, row_codec};
use schemas::ids::{DropId, Hash, OrderId, UserId, VariantId};
use schemas::order::{
    ArchivedRows, BuyerRow, CommandRow, ContinuationRow, DropRow, DropStatus, OrderBody, OrderRow,
    OrderStatus, StockRow,
};
use schemas::topics::ORDER_DECISIONS;
use schemas::units::Millis;

use crate::topology::tag;

/// A row of any of the six tables. A pointer: rows are half a kilobyte, and every place that one is moved through costs
/// as much as a rule.
#[derive(Clone, PartialEq, Debug)]
pub enum StateRow {
    /// Terms and status of a drop.
    Drop(Arc<DropRow>),
    /// Units of a variant.
    Stock(Arc<StockRow>),
    /// An order.
    Order(Arc<OrderRow>),
    /// Units of a buyer.
    Buyer(Arc<BuyerRow>),
    /// A creator command that was carried out.
    Command(Arc<CommandRow>),
    /// Work to go on with.
    Continuation(Arc<ContinuationRow>),
}

macro_rules! shared {
    ($($table:ident: $row:ty),+) => {$(
        impl From<$row> for StateRow {
            fn from(row: $row) -> Self {
                Self::$table(Arc::new(row))
            }
        }
    )+};
}

shared!(
    Drop: DropRow, Stock: StockRow, Order: OrderRow, Buyer: BuyerRow, Command: CommandRow,
    Continuation: ContinuationRow
);

/// Key of a drop row.
#[must_use]
pub fn drop_key(drop: DropId) -> RowKey {
    RowKey::new(tag::DROP, &[&drop.0])
}

/// Key of a stock row.
#[must_use]
pub fn stock_key(drop: DropId, variant: VariantId) -> RowKey {
    RowKey::new(tag::STOCK, &[&drop.0, &variant.0])
}

/// Key of an order row.
#[must_use]
pub fn order_key(order: OrderId) -> RowKey {
    RowKey::new(tag::ORDER, &[&order.0])
}

/// Key of a buyer row.
#[must_use]
pub fn buyer_key(drop: DropId, user: UserId) -> RowKey {
    RowKey::new(tag::BUYER, &[&drop.0, &user.0])
}

/// Key of a command row.
#[must_use]
pub fn command_key(drop: DropId, key: Hash) -> RowKey {
    RowKey::new(tag::COMMAND, &[&drop.0, &key.0])
}

/// Key of a continuation row: key order is the order of their starting.
#[must_use]
pub fn continuation_key(id: i64) -> RowKey {
    RowKey::new(tag::CONTINUATION, &[&id.to_be_bytes()])
}

/// Where an order stands that waits for `qty` units of a variant, since the intent at `offset`.
#[must_use]
pub fn waiting_place(drop: DropId, variant: VariantId, qty: u32, offset: i64) -> QueueKey {
    let queue = RowKey::new(tag::WAITING, &[&drop.0, &variant.0]);
    QueueKey { queue, size: qty, position: offset }
}

/// Where an offered order stands.
#[must_use]
pub fn offered_place(drop: DropId, offset: i64) -> QueueKey {
    QueueKey { queue: RowKey::new(tag::OFFERED, &[&drop.0]), size: 0, position: offset }
}

/// When the hold or the offer of an order ends.
pub(crate) fn order_deadline(row: &OrderRow) -> Option<Millis> {
    match row.status {
        OrderStatus::Reserved => row.hold_expires_at,
        OrderStatus::Offered => row.offer_expires_at,
        _ => None,
    }
}

/// Where an order stands that waits or is offered its units.
pub(crate) fn order_place(row: &OrderRow) -> Option<QueueKey> {
    let line = row.lines.first()?;
    match row.status {
        OrderStatus::Waitlisted => {
            let qty = line.qty.cast_unsigned();
            Some(waiting_place(row.drop_id, line.variant_id, qty, row.intent_offset))
        }
        OrderStatus::Offered => Some(offered_place(row.drop_id, row.intent_offset)),
        _ => None,
    }
}

/// Whether no row of the order can be older.
pub(crate) fn is_first_order(row: &OrderRow) -> bool {
    row.version == 1
}

struct RowCodecs {
    drop: Codec,
    stock: Codec,
    order: Codec,
    buyer: Codec,
    command: Codec,
    continuation: Codec,
}

static CODECS: LazyLock<RowCodecs> = LazyLock::new(|| RowCodecs {
    drop: row_codec(ORDER_DECISIONS.subject, "DropRow"),
    stock: row_codec(ORDER_DECISIONS.subject, "StockRow"),
    order: row_codec(ORDER_DECISIONS.subject, "OrderRow"),
    buyer: row_codec(ORDER_DECISIONS.subject, "BuyerRow"),
    command: row_codec(ORDER_DECISIONS.subject, "CommandRow"),
    continuation: row_codec(ORDER_DECISIONS.subject, "ContinuationRow"),
});

impl Row for StateRow {
    /// An order comes once, but for those that are sent again, and most buyers of a hot drop get nothing. The orders of
    /// a drop begin with its hash, its buyers with its id.
    const MOSTLY_MISSING: &'static [KeyGroups] = &[
        KeyGroups { table: tag::ORDER, prefix_bytes: 5 },
        KeyGroups { table: tag::BUYER, prefix_bytes: 17 },
    ];

    fn key(&self) -> RowKey {
        match self {
            Self::Drop(row) => drop_key(row.drop_id),
            Self::Stock(row) => stock_key(row.drop_id, row.variant_id),
            Self::Order(row) => order_key(row.order_id),
            Self::Buyer(row) => buyer_key(row.drop_id, row.user_id),
            Self::Command(row) => command_key(row.drop_id, row.key),
            Self::Continuation(row) => continuation_key(row.id),
        }
    }

    fn timer(&self) -> Option<Timer> {
        let (deadline, kind) = match self {
            Self::Drop(row) => match row.status {
                DropStatus::Upcoming => (row.starts_at, Timer::AT),
                DropStatus::Live | DropStatus::Paused => (row.ends_at, Timer::AFTER),
                DropStatus::Ended | DropStatus::Cancelled => (row.archive_at?, Timer::AFTER),
                DropStatus::Archived => return None,
            },
            Self::Order(row) => (order_deadline(row)?, Timer::AFTER),
            Self::Continuation(_) => return Some(Timer::continuation(self.key())),
            Self::Stock(_) | Self::Buyer(_) | Self::Command(_) => return None,
        };
        Some(Timer { deadline, kind, row: self.key() })
    }

    fn is_first(&self) -> bool {
        matches!(self, Self::Order(row) if is_first_order(row))
    }

    fn queue(&self) -> Option<QueueKey> {
        match self {
            Self::Order(row) => order_place(row),
            _ => None,
        }
    }

    fn encode(&self, buffer: &mut Vec<u8>) {
        match self {
            Self::Drop(row) => CODECS.drop.encode(row, buffer),
            Self::Stock(row) => CODECS.stock.encode(row, buffer),
            Self::Order(row) => CODECS.order.encode(row, buffer),
            Self::Buyer(row) => CODECS.buyer.encode(row, buffer),
            Self::Command(row) => CODECS.command.encode(row, buffer),
            Self::Continuation(row) => CODECS.continuation.encode(row, buffer),
        }
    }

    fn decode(table: u8, bytes: &[u8]) -> Result<Self, AvroError> {
        match table {
            tag::DROP => CODECS.drop.decode(bytes).map(Self::Drop),
            tag::STOCK => CODECS.stock.decode(bytes).map(Self::Stock),
            tag::ORDER => CODECS.order.decode(bytes).map(Self::Order),
            tag::BUYER => CODECS.buyer.decode(bytes).map(Self::Buyer),
            tag::COMMAND => CODECS.command.decode(bytes).map(Self::Command),
            tag::CONTINUATION => CODECS.continuation.decode(bytes).map(Self::Continuation),
            other => Err(AvroError::new(format!("no table has the tag {other}"))),
        }
    }
}

/// What a decision does to the rows, one after the other; each row at most once, so the order means nothing.
pub fn changes(mut body: OrderBody) -> impl Iterator<Item = RowChange<StateRow>> {
    let orders = std::mem::take(&mut body.orders).into_iter().map(StateRow::Order);
    // Most decisions of a hot drop leave the row of an order and nothing else. They do not pay for the other tables,
    // nor for moving an iterator over all of them about.
    let others = if leaves_only_orders(&body) { Vec::new() } else { other_changes(body).collect() };
    orders.map(RowChange::Put).chain(others)
}

fn leaves_only_orders(body: &OrderBody) -> bool {
    let OrderBody {
        drops,
        stocks,
        buyers,
        commands,
        continuations,
        finished,
        archived,
        orders: _,
        refusal: _,
        answer: _,
        events: _,
        activated: _,
    } = body;
    drops.is_empty()
        && stocks.is_empty()
        && buyers.is_empty()
        && commands.is_empty()
        && continuations.is_empty()
        && finished.is_empty()
        && archived.is_none()
}

/// But for the rows of orders.
fn other_changes(body: OrderBody) -> impl Iterator<Item = RowChange<StateRow>> {
    let drops = body.drops.into_iter().map(StateRow::from);
    let stocks = body.stocks.into_iter().map(StateRow::from);
    let buyers = body.buyers.into_iter().map(StateRow::from);
    let commands = body.commands.into_iter().map(StateRow::from);
    let continuations = body.continuations.into_iter().map(StateRow::from);
    let rows = drops.chain(stocks).chain(buyers).chain(commands).chain(continuations);
    let finished = body.finished.into_iter().map(continuation_key);
    let gone =
        finished.chain(body.archived.into_iter().flat_map(|archived| archived_keys(*archived)));
    rows.map(RowChange::Put).chain(gone.map(RowChange::Delete))
}

fn archived_keys(archived: ArchivedRows) -> impl Iterator<Item = RowKey> {
    let drop = archived.drop_id;
    let orders = archived.orders.into_iter().map(order_key);
    let buyers = archived.buyers.into_iter().map(move |id| buyer_key(drop, id));
    let stocks = archived.variants.into_iter().map(move |id| stock_key(drop, id));
    let commands = archived.commands.into_iter().map(move |key| command_key(drop, key));
    orders.chain(buyers).chain(stocks).chain(commands)
}

/// The drop a decision is about, where it changes or answers something.
#[must_use]
pub fn drop_of(body: &OrderBody) -> Option<DropId> {
    let order = body.order().map(|order| order.drop_id);
    let order = order.or_else(|| body.drops.first().map(|drop| drop.drop_id));
    let order = order.or_else(|| body.stocks.first().map(|stock| stock.drop_id));
    let order = order.or_else(|| body.continuations.first().map(|work| work.drop_id));
    order.or_else(|| body.archived.as_ref().map(|archived| archived.drop_id))
}

fn wrong_table(key: RowKey) -> ReadFailed {
    ReadFailed(format!("row {key:?} is not of the table its key names"))
}

/// The drop, if it was scheduled, for reading: the hot path does not copy titles and variants.
pub(crate) fn view_drop(
    rows: &dyn Rows<StateRow>,
    drop: DropId,
) -> Result<Option<Arc<DropRow>>, ReadFailed> {
    let key = drop_key(drop);
    match rows.get(&key)? {
        None => Ok(None),
        Some(StateRow::Drop(row)) => Ok(Some(row)),
        Some(_) => Err(wrong_table(key)),
    }
}

macro_rules! reader {
    ($(#[$doc:meta])* $name:ident, $key:expr, ($($argument:ident: $kind:ty),+), $variant:ident, $row:ty) => {
        $(#[$doc])*
        pub(crate) fn $name(rows: &dyn Rows<StateRow>, $($argument: $kind),+) -> Result<Option<$row>, ReadFailed> {
            let key = $key;
            match rows.get(&key)? {
                None => Ok(None),
                Some(StateRow::$variant(row)) => Ok(Some(Arc::unwrap_or_clone(row))),
                Some(_) => Err(wrong_table(key)),
            }
        }
    };
}

reader!(
    /// The drop, if it was scheduled.
    read_drop, drop_key(drop), (drop: DropId), Drop, DropRow
);
reader!(
    /// The units of a variant, if the drop has it.
    read_stock, stock_key(drop, variant), (drop: DropId, variant: VariantId), Stock, StockRow
);
reader!(
    /// The order, if its key was ever decided for good.
    read_order, order_key(order), (order: OrderId), Order, OrderRow
);
reader!(
    /// The buyer's units, if the drop has a limit and the buyer ever got any.
    read_buyer, buyer_key(drop, user), (drop: DropId, user: UserId), Buyer, BuyerRow
);
reader!(
    /// The creator command, if it was carried out.
    read_command, command_key(drop, key), (drop: DropId, key: Hash), Command, CommandRow
);
