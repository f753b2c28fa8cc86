//! What is asked and when, who may tell us what happened, and what the provider of our own does.

#![allow(missing_docs, clippy::unwrap_used, reason = "tests")]

use payments::operations::{How, Operations};
use payments::webhook::{Refused, SeenEvents, sign, verify};
use schemas::ids::{DropId, Hash, OrderId, ProductId, UserId};
use schemas::order::{
    OrderRow, OrderStatus, PaymentRow, PaymentState, ProviderOperation, ProviderOperationKind,
    ProviderResult,
};
use schemas::units::{Millis, MinorUnits};

fn row(kind: Option<ProviderOperationKind>, attempt: i32) -> OrderRow {
    let payments = (1..=attempt).map(|attempt| PaymentRow {
        attempt,
        method: Some("pm".into()),
        state: PaymentState::Pending,
        detail: None,
        reference: None,
    });
    OrderRow {
        order_id: OrderId([1; 16]),
        drop_id: DropId([2; 16]),
        user_id: UserId([3; 16]),
        status: OrderStatus::Reserved,
        reason: None,
        lines: [].into_iter().collect(),
        product_id: ProductId([4; 16]),
        currency: "EUR".into(),
        total: MinorUnits(1_999),
        payment_method: None,
        request_hash: Hash([5; 16]),
        version: 1,
        created_at: Millis(0),
        decided_at: Millis(0),
        hold_expires_at: None,
        intent_offset: 0,
        missing: Vec::new(),
        held_order_id: None,
        payments: payments.collect(),
        operation: kind.map(|kind| ProviderOperation { attempt, kind }),
        offer_expires_at: None,
        offer_left_ms: None,
        from_waitlist: false,
        extended: false,
        refund: None,
    }
}

const AUTHORISE: Option<ProviderOperationKind> = Some(ProviderOperationKind::Authorise);
const CAPTURE: Option<ProviderOperationKind> = Some(ProviderOperationKind::Capture);

#[test]
fn an_operation_is_asked_once_until_its_outcome_is_unknown() {
    let mut operations = Operations::default();
    operations.read([row(AUTHORISE, 1)], Millis(0));
    let asked = operations.take_due(Millis(0), 10);
    assert_eq!(asked.len(), 1);
    assert_eq!(asked[0].0.key(), format!("{}:1:authorise", OrderId([1; 16])));
    // The same row again, as after a restart of the tail, asks nothing.
    operations.read([row(AUTHORISE, 1)], Millis(1));
    assert_eq!(operations.take_due(Millis(1_000), 10), vec![]);
    // Unknown: the same key again, later and later.
    let call = &asked[0].0;
    operations.retry(call, Millis(1_000));
    assert_eq!(operations.take_due(Millis(1_199), 10), vec![]);
    assert_eq!(operations.take_due(Millis(1_200), 10).len(), 1);
    operations.retry(call, Millis(2_000));
    assert_eq!(operations.next_due(), Some(Millis(2_400)));
}

#[test]
fn the_log_moves_on_and_the_old_operation_is_forgotten() {
    let mut operations = Operations::default();
    operations.read([row(AUTHORISE, 1)], Millis(0));
    let (call, _) = operations.take_due(Millis(0), 10).remove(0);
    operations.await_log(&call, Millis(5));
    operations.read([row(CAPTURE, 1)], Millis(6));
    // A late word on the authorisation does not touch the capture.
    operations.retry(&call, Millis(7));
    let asked = operations.take_due(Millis(7), 10);
    assert_eq!(asked[0].0.kind, ProviderOperationKind::Capture);
    operations.read([row(None, 1)], Millis(8));
    assert!(operations.is_empty());
    assert_eq!(operations.next_due(), None);
}

#[test]
fn an_outcome_that_the_log_does_not_show_is_asked_for_again() {
    let mut operations = Operations::default();
    operations.read([row(AUTHORISE, 1)], Millis(0));
    let (call, _) = operations.take_due(Millis(0), 10).remove(0);
    operations.await_log(&call, Millis(0));
    assert_eq!(operations.take_due(Millis(29_999), 10), vec![]);
    assert_eq!(operations.take_due(Millis(30_000), 10).len(), 1);
}

#[test]
fn an_operation_that_the_provider_took_is_looked_up_when_its_webhook_is_lost() {
    let mut operations = Operations::default();
    operations.read([row(AUTHORISE, 1)], Millis(0));
    let (call, how) = operations.take_due(Millis(0), 10).remove(0);
    assert_eq!(how, How::Execute);
    operations.await_webhook(&call, Millis(0));
    assert_eq!(operations.take_due(Millis(59_999), 10), vec![]);
    assert_eq!(operations.take_due(Millis(60_000), 10)[0].1, How::LookUp);
}

#[test]
fn after_23_hours_a_key_is_only_looked_up() {
    let mut operations = Operations::default();
    operations.read([row(CAPTURE, 2)], Millis(0));
    let day = 23 * 3_600_000;
    let mut how = Vec::new();
    for at in [0, day, day + 1] {
        let (call, asked) = operations.take_due(Millis(at), 1).remove(0);
        how.push(asked);
        operations.retry(&call, Millis(at - 60_000));
    }
    assert_eq!(how, vec![How::Execute, How::Execute, How::LookUp]);
}

#[test]
fn what_the_log_settled_while_the_processor_was_away_is_not_asked() {
    let mut operations = Operations::default();
    let other = OrderRow { order_id: OrderId([7; 16]), ..row(CAPTURE, 1) };
    operations.read([row(AUTHORISE, 1), other.clone()], Millis(0));
    operations.restart(vec![other], Millis(5));
    let asked = operations.take_due(Millis(5), 10);
    assert_eq!(asked.iter().map(|(call, _)| call.order_id).collect::<Vec<_>>(), [OrderId([7; 16])]);
}

#[test]
fn the_age_of_an_operation_counts_from_its_decision_not_from_a_restart() {
    let mut operations = Operations::default();
    let day = 24 * 3_600_000;
    operations.restart(vec![row(CAPTURE, 1)], Millis(day));
    assert_eq!(operations.take_due(Millis(day), 1)[0].1, How::LookUp);
}

#[test]
fn an_untaken_step_at_the_bank_is_told_once_and_called_off_when_the_units_are_gone() {
    let waiting = |status, decided_at| {
        let mut order = OrderRow { status, decided_at, ..row(AUTHORISE, 1) };
        order.payments[0].state = PaymentState::NeedsAction;
        order
    };
    let mut operations = Operations::default();
    operations.read([row(AUTHORISE, 1)], Millis(0));
    let (call, _) = operations.take_due(Millis(0), 1).remove(0);
    let told = call.outcome(ProviderResult::NeedsAction);
    assert!(operations.is_news(&told));
    operations.read([waiting(OrderStatus::Reserved, Millis(10))], Millis(10));
    assert!(!operations.is_news(&told));
    assert!(operations.is_news(&call.outcome(ProviderResult::Succeeded)));
    let expired_at = 600_000;
    operations.read([waiting(OrderStatus::Expired, Millis(expired_at))], Millis(expired_at));
    for (after, expected) in [(0, How::LookUp), (3_600_000, How::LookUp), (3_600_001, How::GiveUp)]
    {
        let now = Millis(expired_at + after);
        operations.retry(&call, Millis(now.0 - 60_000));
        assert_eq!(
            operations.take_due(now, 1)[0].1,
            expected,
            "{after} ms after the units went back"
        );
    }
}

/// Signature, body, now, verdict.
type Row<'a> = (Option<&'a str>, &'a [u8], i64, Result<(), Refused>);

#[test]
fn only_fresh_events_signed_with_our_secret_are_taken() {
    let body = br#"{"id":"evt_1"}"#;
    let signature = sign("secret", body, 1_000);
    // (signature, body, now, verdict)
    let rows: [Row<'_>; 8] = [
        (Some(&signature), body, 1_000, Ok(())),
        (Some(&signature), body, 1_300, Ok(())),
        (Some(&signature), body, 1_301, Err(Refused::Stale)),
        (Some(&signature), body, 699, Err(Refused::Stale)),
        (Some(&signature), br#"{"id":"evt_2"}"#, 1_000, Err(Refused::Forged)),
        (Some("t=1000,v1=00"), body, 1_000, Err(Refused::Forged)),
        (Some("v1=00"), body, 1_000, Err(Refused::Malformed)),
        (None, body, 1_000, Err(Refused::Malformed)),
    ];
    for (signature, body, now, expected) in rows {
        assert_eq!(verify("secret", signature, body, now), expected, "{signature:?} at {now}");
    }
    let moved = signature.replace("t=1000", "t=1200");
    assert_eq!(verify("secret", Some(&moved), body, 1_200), Err(Refused::Forged));
    assert_eq!(verify("other", Some(&signature), body, 1_000), Err(Refused::Forged));
}

#[test]
fn an_event_is_known_once_it_had_its_effect() {
    let mut seen = SeenEvents::default();
    assert!(!seen.has("evt_1"));
    seen.note("evt_1");
    assert!(seen.has("evt_1") && !seen.has("evt_2"));
}
