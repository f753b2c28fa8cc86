//! The rows that a prefix of the decisions adds up to, in plain maps.

use std::collections::BTreeMap;

use schemas::ids::{DropId, OrderId, UserId, VariantId};
use schemas::order::{BuyerRow, DropRow, OrderBody, OrderRow, StockRow};

/// Every row by its key.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Fold {
    /// Drops.
    pub drops: BTreeMap<DropId, DropRow>,
    /// Stock of every variant.
    pub stocks: BTreeMap<(DropId, VariantId), StockRow>,
    /// Orders.
    pub orders: BTreeMap<OrderId, OrderRow>,
    /// Buyers in drops with a limit.
    pub buyers: BTreeMap<(DropId, UserId), BuyerRow>,
}

impl Fold {
    /// Puts the post-images of one decision.
    pub fn apply(&mut self, body: &OrderBody) {
        self.drops.extend(body.drops.iter().map(|row| (row.drop_id, row.clone())));
        self.stocks.extend(body.stocks.iter().map(|row| ((row.drop_id, row.variant_id), *row)));
        self.orders.extend(body.orders.iter().map(|row| (row.order_id, row.clone())));
        self.buyers.extend(body.buyers.iter().map(|row| ((row.drop_id, row.user_id), row.clone())));
    }
}
