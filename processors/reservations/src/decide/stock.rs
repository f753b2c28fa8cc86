//! The counters of a variant and the invariant over them.

use model::{ReadFailed, Rows};
use schemas::ids::{DropId, VariantId};
use schemas::order::StockRow;
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
        counters.into_iter().sum::<Units>().0
            == stock.initial.0 + stock.restocked.0 - stock.withdrawn.0,
        "available + reserved + sold is not initial + restocked - withdrawn: {stock:?}"
    );
}

/// The stock of a variant that the drop has.
pub(super) fn read(
    rows: &dyn Rows<StateRow>,
    drop: DropId,
    variant: VariantId,
) -> Result<StockRow, ReadFailed> {
    rows::read_stock(rows, drop, variant)?
        .ok_or_else(|| ReadFailed(format!("variant {variant} of drop {drop} has no stock row")))
}
