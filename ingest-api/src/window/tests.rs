use schemas::decision::DecisionHeader;
use schemas::units::Millis;

use super::*;

const ORDER: OrderId = OrderId([7; 16]);

#[test]
fn whoever_waits_for_an_order_leaves_nothing_behind() {
    let window = Arc::new(Window::new(1));
    let (first, _) = window.watch_order(ORDER);
    let (second, _) = window.watch_order(ORDER);
    drop(first);
    assert_eq!(lock(&window.state).order_waiters[&ORDER].len(), 1, "the other one still waits");
    drop(second.changed()); // hung up before anything came
    assert!(lock(&window.state).order_waiters.is_empty());
}

#[test]
fn only_a_refused_place_is_shown_as_its_order() {
    let cases = [
        (Reason::NotOpen, true),
        (Reason::UnknownDrop, true),
        (Reason::Archived, true),
        (Reason::NotCreator, false),
        (Reason::UnknownOrder, false),
        (Reason::NotRefundable, false),
    ];
    for (reason, is_shown) in cases {
        let header = DecisionHeader {
            seq: 1,
            epoch: 1,
            intent_offset: Some(0),
            next_intent_offset: 1,
            intent_id: None,
            correlation_id: None,
            log_time: Millis(0),
            decided_at: Millis(0),
            logic_version: 1,
        };
        let refusal = Refusal {
            reason,
            order_id: Some(ORDER),
            user_id: None,
            opens_at: None,
            drop_status: None,
        };
        let body = OrderBody { refusal: Some(refusal), ..OrderBody::default() };
        let decision = Decision::unsealed(header, Outcome::Refused, Some(body));
        let mut state = State::default();
        state.apply(&decision, &mut Vec::new(), &mut Vec::new());
        assert_eq!(state.orders.contains_key(&ORDER), is_shown, "{reason:?}");
    }
}
