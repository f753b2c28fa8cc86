//! The rows that a prefix of the decisions adds up to, in plain maps.

use std::collections::BTreeMap;

use schemas::ids::{DropId, Hash, OrderId, UserId, VariantId};
use schemas::order::{
    BuyerRow, CommandRow, ContinuationRow, DropRow, OrderBody, OrderRow, OrderStatus, StockRow,
};

/// Every row by its key.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Fold {
    /// Drops.
    pub drops: BTreeMap<DropId, DropRow>,
    /// Stock of every variant.
    pub stocks: BTreeMap<(DropId, VariantId), StockRow>,
    /// Orders.
    pub orders: BTreeMap<OrderId, OrderRow>,
    /// Buyers in drops with a limit or a waitlist.
    pub buyers: BTreeMap<(DropId, UserId), BuyerRow>,
    /// Creator commands that were carried out.
    pub commands: BTreeMap<(DropId, Hash), CommandRow>,
    /// Work that is not done.
    pub continuations: BTreeMap<i64, ContinuationRow>,
    /// Orders that the writer has forgotten, as they were.
    pub archived_orders: BTreeMap<OrderId, OrderRow>,
    /// Stock that the writer has forgotten, as it was.
    pub archived_stocks: Vec<StockRow>,
    /// Waiting orders by drop, variant and the intent they came with: an index over `orders`.
    pub waiting: BTreeMap<(DropId, VariantId, i64), OrderId>,
}

impl Fold {
    /// Every row that a store must hold, in the form that the store's owner has for it.
    pub fn rows<R>(&self) -> impl Iterator<Item = R>
    where
        R: From<DropRow>
            + From<StockRow>
            + From<OrderRow>
            + From<BuyerRow>
            + From<CommandRow>
            + From<ContinuationRow>,
    {
        let drops = self.drops.values().cloned().map(R::from);
        let stocks = self.stocks.values().copied().map(R::from);
        let orders = self.orders.values().cloned().map(R::from);
        let buyers = self.buyers.values().cloned().map(R::from);
        let commands = self.commands.values().copied().map(R::from);
        let works = self.continuations.values().copied().map(R::from);
        drops.chain(stocks).chain(orders).chain(buyers).chain(commands).chain(works)
    }

    /// Puts and deletes what one decision says.
    pub fn apply(&mut self, body: &OrderBody) {
        self.drops.extend(body.drops.iter().map(|row| (row.drop_id, row.clone())));
        self.stocks.extend(body.stocks.iter().map(|row| ((row.drop_id, row.variant_id), *row)));
        for order in &body.orders {
            if let Some(line) = order.lines.first() {
                let place = (order.drop_id, line.variant_id, order.intent_offset);
                if order.status == OrderStatus::Waitlisted {
                    self.waiting.insert(place, order.order_id);
                } else {
                    self.waiting.remove(&place);
                }
            }
            self.orders.insert(order.order_id, OrderRow::clone(order));
        }
        self.buyers.extend(body.buyers.iter().map(|row| ((row.drop_id, row.user_id), row.clone())));
        self.commands.extend(body.commands.iter().map(|row| ((row.drop_id, row.key), *row)));
        self.continuations.extend(body.continuations.iter().map(|row| (row.id, *row)));
        for id in &body.finished {
            self.continuations.remove(id);
        }
        let Some(archived) = &body.archived else { return };
        let drop = archived.drop_id;
        let orders = archived.orders.iter().filter_map(|id| self.orders.remove_entry(id));
        self.archived_orders.extend(orders);
        let stocks = archived.variants.iter().filter_map(|id| self.stocks.remove(&(drop, *id)));
        self.archived_stocks.extend(stocks);
        self.buyers.retain(|key, _| key.0 != drop || !archived.buyers.contains(&key.1));
        self.commands.retain(|key, _| key.0 != drop || !archived.commands.contains(&key.1));
    }

    /// Waiting orders of a variant, first come first.
    pub fn waiting_for(&self, drop: DropId, variant: VariantId) -> impl Iterator<Item = &OrderRow> {
        let range = (drop, variant, i64::MIN)..=(drop, variant, i64::MAX);
        self.waiting.range(range).filter_map(|(_, id)| self.orders.get(id))
    }
}
