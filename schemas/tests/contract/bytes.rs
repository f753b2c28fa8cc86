//! Bytes on the log: pinned for ever, and readable by a decoder that shares no code with ours.

use std::fmt::Debug;
use std::path::Path;
use std::sync::Arc;

use apache_avro::reader::datum::GenericDatumReader;
use apache_avro::types::Value;
use schemas::avro::{self, Codec, Datum};
use schemas::decision::{Decision, FIRST_LINK, seal, verified_link};
use schemas::framing;
use schemas::order::{OrderBody, OrderIntent};
use schemas::units::Units;

use crate::samples;

fn encoded<T: Datum>(codec: &Codec, value: &T) -> Vec<u8> {
    let mut bytes = Vec::new();
    codec.encode(value, &mut bytes);
    bytes
}

fn round_trip<T: Datum + PartialEq + Debug>(codec: &Codec, subject: &str, value: &T) {
    let bytes = encoded(codec, value);
    assert_eq!(&codec.decode::<T>(&bytes).unwrap(), value);

    let text = avro::current(subject).unwrap().text;
    let schema = apache_avro::Schema::parse_str(text).unwrap();
    let reader = GenericDatumReader::builder(&schema).build().unwrap();
    let mut rest = bytes.as_slice();
    let independent: Value = reader.read_value(&mut rest).unwrap();
    assert!(rest.is_empty(), "the independent decoder leaves no byte");
    assert!(matches!(independent, Value::Record(_)));
    let again = apache_avro::writer::datum::GenericDatumWriter::builder(&schema)
        .build()
        .unwrap()
        .write_value_to_vec(independent)
        .unwrap();
    assert_eq!(again, bytes, "the independent encoder writes the same bytes");
}

#[test]
fn every_record_survives_an_independent_decoder_and_encoder() {
    round_trip(&avro::ORDER_INTENT, "order-intents-value", &samples::full_order_intent());
    round_trip(&avro::ORDER_INTENT, "order-intents-value", &samples::bare_order_intent());
    round_trip(&avro::ORDER_DECISION, "order-decisions-value", &samples::full_order_decision());
    round_trip(&avro::FOLLOW_INTENT, "follow-intents-value", &samples::full_follow_intent());
    round_trip(&avro::FOLLOW_DECISION, "follow-decisions-value", &samples::full_follow_decision());
}

/// What the schema-blind way writes is what the library writes, and each reads the other.
fn agrees<T: Datum + PartialEq + Debug>(subject: &str, value: &T) {
    let text = avro::current(subject).unwrap().text;
    let (blind, asking) = (Codec::parse(text).unwrap(), Codec::parse(text).unwrap().by_schema());
    let bytes = encoded(&blind, value);
    assert_eq!(bytes, encoded(&asking, value));
    assert_eq!(&asking.decode::<T>(&bytes).unwrap(), value);
    assert_eq!(&blind.decode::<T>(&bytes).unwrap(), value);
    // Every record that was cut off is refused.
    for length in 0..bytes.len() {
        assert!(blind.decode::<T>(&bytes[..length]).is_err(), "{length} of {} bytes", bytes.len());
    }
}

#[test]
fn records_are_written_without_the_schema_as_the_schema_says() {
    agrees("order-intents-value", &samples::full_order_intent());
    agrees("order-intents-value", &samples::bare_order_intent());
    agrees("order-decisions-value", &samples::full_order_decision());
    agrees("follow-intents-value", &samples::full_follow_intent());
    agrees("follow-decisions-value", &samples::full_follow_decision());
}

#[test]
fn bytes_that_are_no_avro_are_refused() {
    let codec = &avro::ORDER_INTENT;
    let good = encoded(codec, &samples::full_order_intent());
    let refuse =
        |bytes: &[u8]| assert!(codec.decode::<OrderIntent>(bytes).is_err(), "{bytes:02x?}");
    refuse(&[0xff; 40]);
    // The second field of an intent is a union: null or a string.
    let mut no_branch = good.clone();
    no_branch[16] = 4;
    refuse(&no_branch);
    let mut endless_text = good;
    endless_text.splice(17..18, [0xfe, 0xff, 0xff, 0xff, 0x0f]);
    refuse(&endless_text);
}

/// Compares with `tests/golden/{name}.hex`. A changed file means that old logs can no longer be read.
fn golden(name: &str, bytes: &[u8]) {
    use std::fmt::Write as _;
    let path = Path::new("tests/golden").join(format!("{name}.hex"));
    let hex = bytes.iter().fold(String::new(), |mut hex, byte| {
        write!(hex, "{byte:02x}").unwrap();
        hex
    });
    if std::env::var_os("WRITE_NEW_GOLDEN").is_some() && !path.exists() {
        std::fs::write(&path, format!("{hex}\n")).unwrap();
    }
    let pinned = std::fs::read_to_string(&path).unwrap();
    assert_eq!(pinned.trim(), hex, "{name}: released bytes changed");
}

#[test]
fn released_bytes_never_change() {
    golden("order_intent.v3", &encoded(&avro::ORDER_INTENT, &samples::full_order_intent()));
    golden("order_decision.v3", &encoded(&avro::ORDER_DECISION, &samples::full_order_decision()));
    golden("follow_intent.v1", &encoded(&avro::FOLLOW_INTENT, &samples::full_follow_intent()));
    golden(
        "follow_decision.v1",
        &encoded(&avro::FOLLOW_DECISION, &samples::full_follow_decision()),
    );
}

/// Bytes that an earlier release wrote, read with the schema they were written with.
fn released<T: Datum>(name: &str, subject: &str, version: u32) -> T {
    let path = Path::new("tests/golden").join(format!("{name}.hex"));
    let hex = std::fs::read_to_string(path).unwrap();
    let hex = hex.trim();
    let bytes: Vec<u8> = (0..hex.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap())
        .collect();
    let schema = avro::RELEASED.into_iter().find(|s| (s.subject, s.version) == (subject, version));
    Codec::parse(schema.unwrap().text).unwrap().decode(&bytes).unwrap()
}

#[test]
fn what_version_1_wrote_is_read_as_it_was_meant() {
    let intent: OrderIntent = released("order_intent.v1", "order-intents-value", 1);
    let mut expected = samples::full_order_intent();
    let terms = expected.schedule.as_mut().unwrap();
    (terms.offer_seconds, terms.waitlist, terms.payment_attempts) = (600, false, 3);
    (expected.payment, expected.payment_outcome, expected.stock_change) = (None, None, None);
    (expected.refund, expected.edit, expected.activate) = (None, None, None);
    assert_eq!(intent, expected);

    let decision: Decision<OrderBody> = released("order_decision.v1", "order-decisions-value", 1);
    let body = decision.body.unwrap();
    assert_eq!((body.commands, body.continuations, body.finished), (vec![], vec![], vec![]));
    assert_eq!((&body.drops[0].archive_at, body.drops[0].offer_seconds), (&None, 600));
    assert_eq!((body.stocks[0].restocked, body.buyers[0].waiting), (Units(0), Units(0)));
    let order = &body.orders[0];
    assert_eq!((&order.payments, order.operation, order.from_waitlist), (&vec![], None, false));
    assert_eq!(order.lines, samples::order_row().lines);
}

#[test]
fn what_version_2_wrote_is_read_as_it_was_meant() {
    let intent: OrderIntent = released("order_intent.v2", "order-intents-value", 2);
    let mut expected = samples::full_order_intent();
    expected.payment_outcome.as_mut().unwrap().reference = None;
    assert_eq!(intent, expected);

    let decision: Decision<OrderBody> = released("order_decision.v2", "order-decisions-value", 2);
    let mut expected = samples::order_row();
    expected.payments[0].reference = None;
    assert_eq!(decision.body.unwrap().orders[..], [Arc::new(expected)]);
}

#[test]
fn the_chain_shows_a_changed_byte_a_gap_and_another_history() {
    let mut value = Vec::new();
    framing::start(&mut value, 9);
    avro::ORDER_DECISION.encode(&samples::full_order_decision(), &mut value);
    let link = seal(FIRST_LINK, &mut value);
    assert_eq!(verified_link(FIRST_LINK, &value), Some(link));
    assert_eq!(verified_link(link, &value), None, "another history");
    for index in 0..value.len() {
        let mut tampered = value.clone();
        tampered[index] ^= 1;
        assert_eq!(verified_link(FIRST_LINK, &tampered), None, "byte {index}");
    }
    assert_eq!(verified_link(FIRST_LINK, &value[..10]), None, "too short to hold a link");
    let decoded: Decision<OrderBody> =
        avro::ORDER_DECISION.decode(&value[framing::HEADER_LENGTH..]).unwrap();
    assert_eq!(decoded.chain, link, "the chain is the record's last field");
}

#[test]
fn framing_names_what_is_wrong() {
    use framing::FramingError::{TooShort, WrongMagicByte};
    assert_eq!(framing::split(&[0, 0, 0, 1, 2, 42]), Ok((258, &[42][..])));
    assert_eq!(framing::split(&[0, 0, 0]), Err(TooShort(3)));
    assert_eq!(framing::split(&[]), Err(TooShort(0)));
    assert_eq!(framing::split(b"{\"a\":1}"), Err(WrongMagicByte(b'{')));
}

#[test]
fn an_unknown_enumeration_word_is_refused() {
    let mut bytes = encoded(&avro::ORDER_INTENT, &samples::bare_order_intent());
    let at = bytes.windows(4).position(|word| word == b"tick").unwrap();
    bytes[at..at + 4].copy_from_slice(b"tock");
    assert!(avro::ORDER_INTENT.decode::<OrderIntent>(&bytes).is_err());
}

#[test]
fn a_row_schema_stands_alone() {
    let codec = avro::row_codec("order-decisions-value", "OrderRow");
    round_trip_row(&codec, &samples::order_row());
    let codec = avro::row_codec("order-decisions-value", "StockRow");
    round_trip_row(&codec, &samples::full_order_decision().body.unwrap().stocks[0]);
}

fn round_trip_row<T: Datum + PartialEq + Debug>(codec: &Codec, row: &T) {
    assert_eq!(&codec.decode::<T>(&encoded(codec, row)).unwrap(), row);
}
