//! Moving units between the three counters of a variant, and the invariant over them.

use model::{ReadFailed, Rows};
use schemas::ids::OrderId;
use schemas::order::{BuyerRow, OrderRow, OrderStatus, StockRow};
use schemas::units::Units;

use crate::rows::{self, StateRow};

/// I1: no unit is lost or made. Kept on in every build: selling a unit twice is worse than stopping.
pub(super) fn assert_conserved(stock: &StockRow) {
    let counters = [stock.available, stock.reserved, stock.sold];
    assert!(
        counters.iter().all(|units| units.0 >= 0),
        "a stock counter fell below zero: {stock:?}"
    );
    assert!(
        counters.into_iter().sum::<Units>() == stock.initial,
        "available + reserved + sold is not the initial stock: {stock:?}"
    );
}

/// What a release puts back.
pub(super) struct Released {
    pub(super) stocks: Vec<StockRow>,
    pub(super) buyers: Vec<BuyerRow>,
}

/// Moves every unit of an order back to available: from reserved before it was confirmed, from sold after.
pub(super) fn release(rows: &dyn Rows<StateRow>, order: &OrderRow) -> Result<Released, ReadFailed> {
    let confirmed = order.status == OrderStatus::Confirmed;
    let mut stocks = Vec::with_capacity(order.lines.len());
    for line in &order.lines {
        let mut stock =
            rows::read_stock(rows, order.drop_id, line.variant_id)?.ok_or_else(|| {
                ReadFailed(format!("order {} names a variant without stock", order.order_id))
            })?;
        let units = Units(i64::from(line.qty));
        let from = if confirmed { &mut stock.sold } else { &mut stock.reserved };
        *from = from.checked_sub(units).expect("an order's units are in the counter of its status");
        stock.available =
            stock.available.checked_add(units).expect("available stays below the initial stock");
        assert_conserved(&stock);
        stocks.push(stock);
    }
    let buyers = rows::read_buyer(rows, order.drop_id, order.user_id)?
        .map(|buyer| without_order(buyer, order.order_id, total_units(order), confirmed));
    Ok(Released { stocks, buyers: buyers.into_iter().collect() })
}

fn total_units(order: &OrderRow) -> Units {
    order.lines.iter().map(|line| Units(i64::from(line.qty))).sum()
}

fn without_order(mut buyer: BuyerRow, order: OrderId, units: Units, confirmed: bool) -> BuyerRow {
    let from = if confirmed { &mut buyer.sold } else { &mut buyer.held };
    *from = from.checked_sub(units).expect("a buyer's counters hold the units of every live order");
    buyer.held_orders.retain(|held| *held != order);
    buyer
}
