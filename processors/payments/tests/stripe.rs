//! What Stripe's objects tell of an operation.

#![allow(missing_docs, clippy::unwrap_used, reason = "tests")]

use payments::operations::Call;
use payments::provider::Provider as _;
use payments::stripe::{Found, Intent, Stripe};
use schemas::ids::OrderId;
use schemas::order::{PaymentOutcome, ProviderOperationKind as Kind, ProviderResult};
use schemas::units::MinorUnits;
use serde_json::{Value, json};

fn call(kind: Kind) -> Call {
    Call {
        order_id: OrderId([1; 16]),
        attempt: 2,
        kind,
        amount: MinorUnits(1_999),
        currency: "EUR".into(),
        method: Some("pm_1".into()),
        reference: Some("pi_1".into()),
    }
}

fn intent(status: &str) -> Value {
    json!({"id": "pi_1", "object": "payment_intent", "status": status, "amount": 1_999, "currency": "eur",
        "metadata": {"order_id": OrderId([1; 16]).to_string(), "attempt": "2"},
        "next_action": null, "last_payment_error": null, "latest_charge": "ch_1"})
}

#[test]
fn every_status_of_an_intent_has_one_meaning_per_operation() {
    use ProviderResult::{Failed, NeedsAction, Succeeded};
    // What it tells of (authorise, capture, void): a result, `thinking`, or `not done`.
    let rows = [
        ("requires_payment_method", [Some(Failed), Some(Failed), None]),
        ("requires_action", [Some(NeedsAction), None, None]),
        ("requires_capture", [Some(Succeeded), None, None]),
        ("succeeded", [Some(Succeeded), Some(Succeeded), Some(Failed)]),
        ("canceled", [Some(Failed), Some(Failed), Some(Succeeded)]),
    ];
    for (status, expected) in rows {
        let intent: Intent = serde_json::from_value(intent(status)).unwrap();
        for (kind, expected) in
            [Kind::Authorise, Kind::Capture, Kind::Void].into_iter().zip(expected)
        {
            let found = intent.found(&call(kind));
            let Some(expected) = expected else {
                assert_eq!(found, Found::NotDone, "{status} {kind:?}");
                continue;
            };
            let Found::Outcome(Some(outcome)) = found else {
                panic!("{status} {kind:?}: {found:?}")
            };
            assert_eq!(outcome.result, expected, "{status} {kind:?}");
            assert_eq!((outcome.amount, outcome.currency.as_str()), (MinorUnits(1_999), "EUR"));
            let took_at_once = (kind, status) == (Kind::Authorise, "succeeded");
            assert_eq!(outcome.captured, took_at_once, "{status} {kind:?}");
        }
        assert_eq!(intent.found(&call(Kind::Refund)), Found::NotDone, "{status}");
    }
    let thinking: Intent = serde_json::from_value(intent("processing")).unwrap();
    for kind in [Kind::Authorise, Kind::Capture, Kind::Void, Kind::Refund] {
        assert_eq!(thinking.found(&call(kind)), Found::Outcome(None), "{kind:?}");
    }
}

#[test]
fn a_refund_is_read_from_the_charge_and_a_decline_names_its_cause() {
    let mut refunded = intent("succeeded");
    refunded["latest_charge"] = json!({"id": "ch_1", "refunded": true});
    let refunded: Intent = serde_json::from_value(refunded).unwrap();
    let outcome = refunded.outcome(&call(Kind::Refund)).unwrap();
    assert_eq!(outcome.result, ProviderResult::Succeeded);

    let mut declined = intent("requires_payment_method");
    declined["last_payment_error"] = json!({"type": "card_error", "code": "card_declined",
        "decline_code": "insufficient_funds", "message": "Your card has insufficient funds."});
    let declined: Intent = serde_json::from_value(declined).unwrap();
    let outcome = declined.outcome(&call(Kind::Authorise)).unwrap();
    assert_eq!(outcome.detail.as_deref(), Some("insufficient_funds"));

    let mut step = intent("requires_action");
    step["next_action"] =
        json!({"type": "redirect_to_url", "redirect_to_url": {"url": "https://bank.example/x"}});
    let step: Intent = serde_json::from_value(step).unwrap();
    let outcome = step.outcome(&call(Kind::Authorise)).unwrap();
    assert_eq!(outcome.detail.as_deref(), Some("https://bank.example/x"));
}

fn told(kind: &str, object: &Value) -> Option<PaymentOutcome> {
    let event = json!({"id": "evt_1", "type": kind, "data": {"object": object}});
    let event = Stripe::read_event(event.to_string().as_bytes()).unwrap();
    assert_eq!(event.id, "evt_1");
    event.outcome
}

#[test]
fn events_tell_what_happened_to_our_own_payments_alone() {
    use ProviderResult::{Failed, Succeeded};
    let rows = [
        (
            "payment_intent.amount_capturable_updated",
            "requires_capture",
            Kind::Authorise,
            Succeeded,
        ),
        ("payment_intent.payment_failed", "requires_payment_method", Kind::Authorise, Failed),
        ("payment_intent.succeeded", "succeeded", Kind::Capture, Succeeded),
        ("payment_intent.canceled", "canceled", Kind::Void, Succeeded),
    ];
    for (event, status, operation, result) in rows {
        let outcome = told(event, &intent(status)).unwrap();
        assert_eq!((outcome.operation, outcome.result), (operation, result), "{event}");
        assert_eq!((outcome.order_id, outcome.attempt), (OrderId([1; 16]), 2), "{event}");
        assert_eq!(outcome.reference.as_deref(), Some("pi_1"), "{event}");
    }
    let mut refund = json!({"id": "re_1", "status": "failed", "failure_reason": "lost_or_stolen_card",
        "amount": 1_999, "currency": "eur", "payment_intent": "pi_1",
        "metadata": intent("succeeded")["metadata"]});
    let failed = told("refund.failed", &refund).unwrap();
    assert_eq!((failed.operation, failed.result), (Kind::Refund, Failed));
    assert_eq!(failed.detail.as_deref(), Some("lost_or_stolen_card"));
    refund["status"] = json!("pending");
    assert_eq!(told("refund.created", &refund), None, "the money is on its way");

    let mut foreign = intent("succeeded");
    foreign["metadata"] = json!({});
    assert_eq!(
        told("payment_intent.succeeded", &foreign),
        None,
        "another shop on the same account"
    );
    assert_eq!(told("customer.created", &json!({"id": "cus_1"})), None);
    let nonsense =
        json!({"id": "evt_1", "type": "payment_intent.succeeded", "data": {"object": {}}});
    assert!(Stripe::read_event(nonsense.to_string().as_bytes()).is_err());
}
