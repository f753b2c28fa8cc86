//! What most decisions of a hot drop are: one order's first row, and nothing else that is kept.

use model::LoneRow;
use schemas::avro::{Datum as _, Reader};
use schemas::decision::{CHAIN_LENGTH, DecisionHeader, Outcome};
use schemas::order::{OrderRow, Refusal};

use crate::rows::{is_first_order, order_deadline, order_key, order_place};

/// Neither genesis, `owner_started` nor undecodable, but a body.
const BODY_ALONE: &[u8] = &[0, 0, 0, 2];
/// No answer, and a block of one order.
const ONE_ORDER: &[u8] = &[0, 2];
/// The end of the orders, seven empty arrays, nothing archived, nothing activated.
const NOTHING_MORE: &[u8] = &[0; 10];

/// See [`model::Processor::lone_row`].
pub(crate) fn read(datum: &[u8]) -> Option<LoneRow> {
    let mut reader = Reader::new(datum);
    let header = DecisionHeader::read(&mut reader).ok()?;
    Outcome::read(&mut reader).ok()?;
    reader.expect(BODY_ALONE)?;
    Option::<Refusal>::read(&mut reader).ok()?;
    reader.expect(ONE_ORDER)?;
    let start = datum.len() - reader.rest().len();
    let row = OrderRow::read(&mut reader).ok()?;
    let bytes = start..datum.len() - reader.rest().len();
    reader.expect(NOTHING_MORE)?;
    let is_bare =
        is_first_order(&row) && order_deadline(&row).is_none() && order_place(&row).is_none();
    let is_all = reader.rest().len() == CHAIN_LENGTH;
    (is_bare && is_all).then(|| LoneRow { header, key: order_key(row.order_id), bytes })
}
