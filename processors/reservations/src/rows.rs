//! What is kept: the rows of the four tables, their keys, their timers, their bytes.

use std::sync::{Arc, LazyLock};

use model::{ReadFailed, Row, RowKey, Rows, Timer};
use schemas::avro::{AvroError, Codec, row_codec};
use schemas::ids::{DropId, OrderId, UserId, VariantId};
use schemas::order::{BuyerRow, DropRow, DropStatus, OrderBody, OrderRow, OrderStatus, StockRow};
use schemas::topics::ORDER_DECISIONS;

use crate::topology::tag;

/// A row of any of the four tables.
#[derive(Clone, PartialEq, Debug)]
pub enum StateRow {
    /// Terms and status of a drop.
    Drop(DropRow),
    /// Units of a variant.
    Stock(StockRow),
    /// An order.
    Order(OrderRow),
    /// Units of a buyer.
    Buyer(BuyerRow),
}

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

struct RowCodecs {
    drop: Codec,
    stock: Codec,
    order: Codec,
    buyer: Codec,
}

static CODECS: LazyLock<RowCodecs> = LazyLock::new(|| RowCodecs {
    drop: row_codec(ORDER_DECISIONS.subject, "DropRow"),
    stock: row_codec(ORDER_DECISIONS.subject, "StockRow"),
    order: row_codec(ORDER_DECISIONS.subject, "OrderRow"),
    buyer: row_codec(ORDER_DECISIONS.subject, "BuyerRow"),
});

impl Row for StateRow {
    fn key(&self) -> RowKey {
        match self {
            Self::Drop(row) => drop_key(row.drop_id),
            Self::Stock(row) => stock_key(row.drop_id, row.variant_id),
            Self::Order(row) => order_key(row.order_id),
            Self::Buyer(row) => buyer_key(row.drop_id, row.user_id),
        }
    }

    fn timer(&self) -> Option<Timer> {
        let (deadline, kind) = match self {
            Self::Drop(row) => match row.status {
                DropStatus::Upcoming => (row.starts_at, Timer::AT),
                DropStatus::Live => (row.ends_at, Timer::AFTER),
                DropStatus::Ended => return None,
            },
            Self::Order(row) if row.status == OrderStatus::Reserved => {
                (row.hold_expires_at?, Timer::AFTER)
            }
            Self::Order(_) | Self::Stock(_) | Self::Buyer(_) => return None,
        };
        Some(Timer { deadline, kind, row: self.key() })
    }

    fn encode(&self, buffer: &mut Vec<u8>) {
        match self {
            Self::Drop(row) => CODECS.drop.encode(row, buffer),
            Self::Stock(row) => CODECS.stock.encode(row, buffer),
            Self::Order(row) => CODECS.order.encode(row, buffer),
            Self::Buyer(row) => CODECS.buyer.encode(row, buffer),
        }
    }

    fn decode(table: u8, bytes: &[u8]) -> Result<Self, AvroError> {
        match table {
            tag::DROP => CODECS.drop.decode(bytes).map(Self::Drop),
            tag::STOCK => CODECS.stock.decode(bytes).map(Self::Stock),
            tag::ORDER => CODECS.order.decode(bytes).map(Self::Order),
            tag::BUYER => CODECS.buyer.decode(bytes).map(Self::Buyer),
            other => Err(AvroError::new(format!("no table has the tag {other}"))),
        }
    }
}

/// The rows a decision puts.
#[must_use]
pub fn post_images(body: OrderBody) -> Vec<StateRow> {
    let mut rows = Vec::with_capacity(
        body.orders.len() + body.drops.len() + body.stocks.len() + body.buyers.len(),
    );
    rows.extend(body.drops.into_iter().map(StateRow::Drop));
    rows.extend(body.stocks.into_iter().map(StateRow::Stock));
    rows.extend(body.orders.into_iter().map(StateRow::Order));
    rows.extend(body.buyers.into_iter().map(StateRow::Buyer));
    rows
}

/// The drop a decision is about, where it changes or answers something.
#[must_use]
pub fn drop_of(body: &OrderBody) -> Option<DropId> {
    let order = body.orders.first().or(body.answer.as_ref()).map(|order| order.drop_id);
    order.or_else(|| body.drops.first().map(|drop| drop.drop_id))
}

fn wrong_table(key: RowKey) -> ReadFailed {
    ReadFailed(format!("row {key:?} is not of the table its key names"))
}

macro_rules! reader {
    ($(#[$doc:meta])* $name:ident, $key:expr, ($($argument:ident: $kind:ty),+), $variant:ident, $row:ty) => {
        $(#[$doc])*
        pub(crate) fn $name(rows: &dyn Rows<StateRow>, $($argument: $kind),+) -> Result<Option<$row>, ReadFailed> {
            let key = $key;
            match rows.get(&key)?.map(Arc::unwrap_or_clone) {
                None => Ok(None),
                Some(StateRow::$variant(row)) => Ok(Some(row)),
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
