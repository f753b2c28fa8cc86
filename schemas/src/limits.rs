//! The limits of the public interface, checked by ingest for a quick answer and by the writer for good.

use crate::units::{Millis, MinorUnits, Units};

/// Most bytes of an intent's record: four times what ingest takes as a body. A decision repeats parts of its intent, and
/// the log takes records of up to a megabyte: a writer that is not ours could send what no decision can answer.
pub const INTENT_BYTES_MAX: usize = 256 * 1_024;
/// Most lines of one order.
pub const LINES_MAX: usize = 8;
/// Most units of one variant in one order.
pub const QUANTITY_MAX: i64 = 1_000;
/// Most variants of a drop.
pub const VARIANTS_MAX: usize = 32;
/// Most units of a drop, all variants together.
pub const STOCK_MAX: Units = Units(10_000_000);
/// Longest hold in seconds.
pub const HOLD_SECONDS_MAX: i32 = 86_400;
/// Longest offer in seconds.
pub const OFFER_SECONDS_MAX: i32 = 86_400;
/// How long an offer lasts where the creator does not say.
pub const OFFER_SECONDS_DEFAULT: i32 = 600;
/// Most payment attempts of an order.
pub const PAYMENT_ATTEMPTS_MAX: i32 = 10;
/// How many a buyer has where the creator does not say.
pub const PAYMENT_ATTEMPTS_DEFAULT: i32 = 3;
/// How far a hold is extended, once.
pub const EXTENSION_SECONDS: i64 = 120;
/// How long orders are kept after their drop ended, in seconds.
pub const ARCHIVE_AFTER_SECONDS: i64 = 180 * 86_400;
/// Most rows that one decision changes.
pub const ROWS_PER_DECISION_MAX: usize = 64;
/// Greatest per-user limit.
pub const LIMIT_PER_USER_MAX: i32 = 10_000;
/// Longest title of a drop and name of a variant in characters.
pub const TITLE_CHARACTERS_MAX: usize = 200;
/// Longest reference to a payment method in characters.
pub const PAYMENT_METHOD_CHARACTERS_MAX: usize = 255;
/// Greatest price of one unit.
pub const PRICE_MAX: MinorUnits = MinorUnits(1_000_000_000_000);
/// End of the year 9999: a later instant cannot be written as RFC 3339.
pub const INSTANT_MAX: Millis = Millis(253_402_300_799_999);

const _: () = {
    let units_max = QUANTITY_MAX * 8;
    assert!(
        LINES_MAX == 8 && PRICE_MAX.0 <= i64::MAX / units_max,
        "the greatest order's total fits in 63 bits"
    );
};
