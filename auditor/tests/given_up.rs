//! What an owner may give up without deciding it, and what that would hide.

#![allow(missing_docs, clippy::unwrap_used, reason = "tests")]

use auditor::{LoggedDecision, LoggedIntent, audit};
use schemas::decision::{Decision, DecisionHeader, Outcome, Undecodable};
use schemas::ids::{DropId, Hash, IntentId, OrderId, UserId};
use schemas::limits::INTENT_BYTES_MAX;
use schemas::order::{
    IfSoldOut, OrderBody, OrderChange, OrderIntent, OrderIntentKind as Kind, OrderLine, PlaceOrder,
};
use schemas::units::Millis;

const NOW: Millis = Millis(1_000);

fn place(lines: usize) -> OrderIntent {
    let drop = DropId([1; 16]);
    let line = OrderLine { variant_id: drop.plain_variant(), qty: 1 };
    let order = PlaceOrder {
        order_id: OrderId([2; 16]),
        request_hash: Hash([3; 16]),
        lines: vec![line; lines].into(),
        payment_method: None,
        if_sold_out: IfSoldOut::Reject,
        expected_total: None,
        expected_currency: None,
    };
    OrderIntent {
        actor: Some(UserId([4; 16])),
        drop_id: Some(drop),
        place: Some(order),
        ..OrderIntent::bare(IntentId([5; 16]), Kind::Place, NOW)
    }
}

fn cancel() -> OrderIntent {
    let change = OrderChange { order_id: OrderId([2; 16]) };
    OrderIntent {
        actor: Some(UserId([4; 16])),
        order_change: Some(change),
        ..OrderIntent::bare(IntentId([5; 16]), Kind::Cancel, NOW)
    }
}

/// What the rules say where an owner gave `intent` up for `error`.
fn found(intent: Option<OrderIntent>, error: &str, length: usize) -> Vec<String> {
    let header = DecisionHeader {
        seq: 0,
        epoch: 0,
        intent_offset: Some(0),
        next_intent_offset: 1,
        intent_id: None,
        correlation_id: None,
        log_time: NOW,
        decided_at: NOW,
        logic_version: 2,
    };
    let mut decision: Decision<OrderBody> = Decision::unsealed(header, Outcome::Undecodable, None);
    let length = i32::try_from(length).unwrap();
    decision.undecodable = Some(Box::new(Undecodable { error: error.into(), length }));
    let intents = [LoggedIntent { offset: 0, append_time: NOW, intent }];
    let report = audit(&intents, &[LoggedDecision { offset: 0, value: Vec::new(), decision }]);
    let rules = report.findings.into_iter().filter(|finding| finding.checker == "rules");
    rules.map(|finding| finding.what).collect()
}

#[test]
fn a_request_that_can_be_read_is_not_given_up() {
    let activate = OrderIntent {
        activate: Some(2),
        ..OrderIntent::bare(IntentId([5; 16]), Kind::Activate, NOW)
    };
    for (intent, kind) in [(place(1), "place"), (cancel(), "cancel"), (activate, "activate")] {
        let expected = [format!("a complete {kind} was given up")];
        assert_eq!(found(Some(intent), "unexpected end of data", 100), expected);
    }
}

#[test]
fn what_asks_for_nothing_is_given_up() {
    let no_buyer = OrderIntent { actor: None, ..place(1) };
    let no_order = OrderIntent { order_change: None, ..cancel() };
    let no_version = OrderIntent::bare(IntentId([5; 16]), Kind::Activate, NOW);
    for intent in [place(0), place(9), no_buyer, no_order, no_version] {
        assert!(found(Some(intent.clone()), "incomplete", 100).is_empty(), "{intent:?}");
    }
    assert!(found(None, "unexpected end of data", 100).is_empty(), "bytes of nobody");
}

#[test]
fn what_cannot_be_echoed_or_decided_is_given_up() {
    assert!(found(Some(place(1)), "too long", INTENT_BYTES_MAX + 1).is_empty());
    assert_eq!(found(Some(place(1)), "too long", INTENT_BYTES_MAX).len(), 1, "it is not");
    assert!(found(Some(place(1)), "deciding it panicked: overflow", 100).is_empty());
}
