//! Payments, captures and refunds, and what races them.

use schemas::decision::Outcome;
use schemas::ids::OrderId;
use schemas::order::ProviderOperationKind::{Authorise, Capture, Refund, Void};
use schemas::order::ProviderResult::{Failed, NeedsAction, Succeeded};
use schemas::order::{OrderIntentKind as Kind, OrderStatus as S, PaymentState, Reason};
use schemas::units::{Millis, Units};

use crate::life::{LIVE, later};
use crate::world::*;

#[test]
fn a_payment_goes_authorise_confirm_capture_paid() {
    let mut world = World::with_drop(|_| {});
    world.send(LIVE, paid_with(place(ANNA, "k", &[(SMALL, 1)]), "pm"));
    assert_eq!(world.order(ANNA, "k").operation.unwrap().kind, Authorise);
    world.send(later(1), outcome((ANNA, "k"), 1, Authorise, NeedsAction));
    assert_eq!(world.status(ANNA, "k"), S::Reserved);
    world.send(later(2), outcome((ANNA, "k"), 1, Authorise, Succeeded));
    let order = world.order(ANNA, "k");
    assert_eq!((order.status, order.operation.unwrap().kind), (S::Confirmed, Capture));
    assert_eq!((world.stock(SMALL).reserved, world.stock(SMALL).sold), (Units(0), Units(1)));
    world.send(later(3), outcome((ANNA, "k"), 1, Capture, Succeeded));
    let order = world.order(ANNA, "k");
    assert_eq!((order.status, order.operation), (S::Paid, None));
    // The first terminal outcome of an operation wins.
    let again = world.send(later(4), outcome((ANNA, "k"), 1, Capture, Failed));
    assert_eq!((again.outcome, world.status(ANNA, "k")), (Outcome::Replayed, S::Paid));
    world.assert_sound();
}

#[test]
fn a_declined_buyer_may_try_again_until_no_attempt_is_left() {
    let mut world = World::with_drop(|_| {});
    world.send(LIVE, paid_with(place(ANNA, "k", &[(SMALL, 1)]), "pm"));
    let busy = world.send(later(1), pay(ANNA, "k"));
    assert_eq!(reason(&busy), Some(Reason::PaymentInProgress));
    world.send(later(2), outcome((ANNA, "k"), 1, Authorise, Failed));
    assert_eq!(world.status(ANNA, "k"), S::Reserved);
    world.send(later(3), pay(ANNA, "k"));
    assert_eq!(world.order(ANNA, "k").payments[1].method.as_deref(), Some("pm_next"));
    world.send(later(4), outcome((ANNA, "k"), 2, Authorise, Failed));
    let order = world.order(ANNA, "k");
    assert_eq!((order.status, order.reason), (S::PaymentFailed, Some(Reason::PaymentDeclined)));
    assert_eq!(world.stock(SMALL).available, Units(10));
    // The provider changed its mind: its money goes back.
    world.send(later(5), outcome((ANNA, "k"), 1, Authorise, Succeeded));
    let order = world.order(ANNA, "k");
    assert_eq!((order.status, order.operation.unwrap().kind), (S::PaymentFailed, Void));
    world.assert_sound();
}

#[test]
fn money_of_another_amount_or_currency_is_let_go() {
    type Change = fn(&mut schemas::order::PaymentOutcome);
    let rows: [(&str, Change); 2] = [
        ("amount", |outcome| outcome.amount.0 -= 1),
        ("currency", |outcome| outcome.currency = "USD".into()),
    ];
    for (name, change) in rows {
        let mut world = World::with_drop(|_| {});
        world.send(LIVE, paid_with(place(ANNA, "k", &[(SMALL, 1)]), "pm"));
        let mut intent = outcome((ANNA, "k"), 1, Authorise, Succeeded);
        change(intent.payment_outcome.as_mut().unwrap());
        world.send(later(1), intent);
        let order = world.order(ANNA, "k");
        assert_eq!((order.status, order.operation.unwrap().kind), (S::Reserved, Void), "{name}");
        world.assert_sound();
    }
}

#[test]
fn authorisation_racing_expiry_wins_at_the_deadline_and_is_revived_or_voided_after_it() {
    // (ms after the deadline, does somebody take the units meanwhile, status, operation)
    for (offset, taken, status, operation) in [
        (0, false, S::Confirmed, Capture),
        (1, false, S::Confirmed, Capture),
        (1, true, S::Expired, Void),
    ] {
        let mut world = World::with_drop(|terms| terms.limit_per_user = None);
        world.send(LIVE, paid_with(place(ANNA, "k", &[(SMALL, 1)]), "pm"));
        let deadline = world.order(ANNA, "k").hold_expires_at.unwrap();
        let at = Millis(deadline.0 + offset);
        if taken {
            world.send(at, place(BEN, "k", &[(SMALL, 10)]));
            assert_eq!(world.status(BEN, "k"), S::Reserved);
        }
        world.send(at, outcome((ANNA, "k"), 1, Authorise, Succeeded));
        let order = world.order(ANNA, "k");
        assert_eq!((order.status, order.operation.unwrap().kind), (status, operation), "{offset}");
        world.assert_sound();
    }
}

#[test]
fn a_late_authorisation_is_not_revived_past_the_limit_nor_while_paused() {
    let mut world = World::with_drop(|terms| terms.hold_seconds = 60);
    world.send(LIVE, paid_with(place(ANNA, "k", &[(SMALL, 1)]), "pm"));
    let after = Millis(world.order(ANNA, "k").hold_expires_at.unwrap().0 + 1);
    world.send(after, place(ANNA, "l", &[(SMALL, 6)]));
    world.send(after, outcome((ANNA, "k"), 1, Authorise, Succeeded));
    assert_eq!(world.status(ANNA, "k"), S::Expired);
    world.send(after, paid_with(place(BEN, "k", &[(SMALL, 1)]), "pm"));
    let after = Millis(world.order(BEN, "k").hold_expires_at.unwrap().0 + 1);
    world.send(after, command(Kind::Pause, DROP, CREATOR));
    world.send(after, outcome((BEN, "k"), 1, Authorise, Succeeded));
    assert_eq!(world.order(BEN, "k").operation.unwrap().kind, Void);
    world.assert_sound();
}

#[test]
fn cancel_racing_authorisation_the_first_in_the_log_wins() {
    for cancel_first in [true, false] {
        let mut world = World::with_drop(|_| {});
        world.send(LIVE, paid_with(place(ANNA, "k", &[(SMALL, 1)]), "pm"));
        let id = OrderId::derive(DROP, ANNA, "k");
        if cancel_first {
            world.send(later(1), cancel(ANNA, id));
            world.send(later(1), outcome((ANNA, "k"), 1, Authorise, Succeeded));
            let order = world.order(ANNA, "k");
            assert_eq!((order.status, order.operation.unwrap().kind), (S::Cancelled, Void));
        } else {
            world.send(later(1), outcome((ANNA, "k"), 1, Authorise, Succeeded));
            let refused = world.send(later(1), cancel(ANNA, id));
            assert_eq!(reason(&refused), Some(Reason::PaymentInProgress));
            world.send(later(2), outcome((ANNA, "k"), 1, Capture, Succeeded));
            let refused = world.send(later(2), cancel(ANNA, id));
            assert_eq!(reason(&refused), Some(Reason::AlreadyPaid));
        }
        world.assert_sound();
    }
}

#[test]
fn a_capture_that_fails_releases_the_units() {
    let mut world = World::with_drop(|_| {});
    world.send(LIVE, paid_with(place(ANNA, "k", &[(SMALL, 1)]), "pm"));
    world.send(later(1), outcome((ANNA, "k"), 1, Authorise, Succeeded));
    world.send(later(2), outcome((ANNA, "k"), 1, Capture, Failed));
    let order = world.order(ANNA, "k");
    assert_eq!((order.status, order.reason), (S::PaymentFailed, Some(Reason::CaptureFailed)));
    assert_eq!(world.stock(SMALL).available, Units(10));
    world.assert_sound();
}

#[test]
fn abort_racing_capture_the_outcome_of_the_capture_chooses() {
    for (result, then) in [(Succeeded, S::RefundPending), (Failed, S::PaymentFailed)] {
        let mut world = World::with_drop(|_| {});
        world.send(LIVE, paid_with(place(ANNA, "k", &[(SMALL, 1)]), "pm"));
        world.send(LIVE, place(BEN, "k", &[(SMALL, 2)]));
        world.send(later(1), outcome((ANNA, "k"), 1, Authorise, Succeeded));
        world.send(later(2), command(Kind::Abort, DROP, CREATOR));
        assert_eq!(world.status(BEN, "k"), S::Cancelled);
        assert_eq!(world.order(BEN, "k").reason, Some(Reason::DropCancelled));
        assert_eq!(world.status(ANNA, "k"), S::Confirmed, "only marked");
        world.send(later(3), outcome((ANNA, "k"), 1, Capture, result));
        assert_eq!(world.status(ANNA, "k"), then);
        if result == Succeeded {
            world.send(later(4), outcome((ANNA, "k"), 1, Refund, Succeeded));
            assert_eq!(world.status(ANNA, "k"), S::Refunded);
        }
        assert_eq!(world.stock(SMALL).available, Units(10));
        world.assert_sound();
    }
}

#[test]
fn a_refund_restocks_only_if_asked_and_only_when_it_is_done() {
    for restock in [true, false] {
        let mut world = World::with_drop(|_| {});
        world.send(LIVE, paid_with(place(ANNA, "k", &[(SMALL, 1)]), "pm"));
        let early = world.send(LIVE, refund(ANNA, "k", restock, 1));
        assert_eq!(reason(&early), Some(Reason::NotRefundable));
        world.send(later(1), outcome((ANNA, "k"), 1, Authorise, Succeeded));
        world.send(later(2), outcome((ANNA, "k"), 1, Capture, Succeeded));
        assert_eq!(world.send(later(3), refund(ANNA, "k", restock, 2)).outcome, Outcome::Changed);
        assert_eq!(world.send(later(3), refund(ANNA, "k", restock, 2)).outcome, Outcome::Replayed);
        let other = world.send(later(3), refund(ANNA, "k", !restock, 2));
        assert_eq!(other.outcome, Outcome::KeyReused);
        assert_eq!(world.stock(SMALL).sold, Units(1), "not before the money is back");
        world.send(later(4), outcome((ANNA, "k"), 1, Refund, Succeeded));
        assert_eq!(world.status(ANNA, "k"), S::Refunded);
        assert_eq!(world.stock(SMALL).sold, Units(i64::from(!restock)));
        world.assert_sound();
    }
}

#[test]
fn a_refund_during_a_capture_waits_for_it_and_a_failed_refund_stays_visible() {
    let mut world = World::with_drop(|_| {});
    world.send(LIVE, paid_with(place(ANNA, "k", &[(SMALL, 1)]), "pm"));
    world.send(later(1), outcome((ANNA, "k"), 1, Authorise, Succeeded));
    world.send(later(2), refund(ANNA, "k", false, 1));
    assert_eq!(world.status(ANNA, "k"), S::Confirmed);
    let twice = world.send(later(2), refund(ANNA, "k", false, 2));
    assert_eq!(reason(&twice), Some(Reason::NotRefundable));
    world.send(later(3), outcome((ANNA, "k"), 1, Capture, Succeeded));
    assert_eq!(world.order(ANNA, "k").operation.unwrap().kind, Refund);
    world.send(later(4), outcome((ANNA, "k"), 1, Refund, Failed));
    let order = world.order(ANNA, "k");
    assert_eq!(
        (order.status, order.payments[0].state),
        (S::RefundFailed, PaymentState::RefundFailed)
    );
    world.assert_sound();
}

#[test]
fn money_taken_after_a_failed_capture_goes_back() {
    let mut world = World::with_drop(|_| {});
    world.send(LIVE, paid_with(place(ANNA, "k", &[(SMALL, 1)]), "pm"));
    world.send(LIVE, outcome((ANNA, "k"), 1, Authorise, Succeeded));
    world.send(LIVE, outcome((ANNA, "k"), 1, Capture, Failed));
    assert_eq!(world.status(ANNA, "k"), S::PaymentFailed);
    world.send(LIVE, outcome((ANNA, "k"), 1, Capture, Succeeded));
    let order = world.order(ANNA, "k");
    assert_eq!((order.status, order.operation.unwrap().kind), (S::PaymentFailed, Refund));
    world.send(LIVE, outcome((ANNA, "k"), 1, Refund, Succeeded));
    assert_eq!(world.order(ANNA, "k").operation, None);
    world.assert_sound();
}

#[test]
fn a_late_word_on_an_older_attempt_moves_its_own_money_alone() {
    let mut world = World::with_drop(|_| {});
    world.send(LIVE, paid_with(place(ANNA, "k", &[(SMALL, 1)]), "pm"));
    world.send(LIVE, outcome((ANNA, "k"), 1, Authorise, Failed));
    world.send(LIVE, pay(ANNA, "k"));
    world.send(LIVE, outcome((ANNA, "k"), 2, Authorise, Succeeded));
    world.send(LIVE, outcome((ANNA, "k"), 2, Capture, Succeeded));
    world.send(LIVE, outcome((ANNA, "k"), 1, Authorise, Succeeded));
    let order = world.order(ANNA, "k");
    let due = order.operation.unwrap();
    assert_eq!((order.status, due.attempt, due.kind), (S::Paid, 1, Void));
    world.send(LIVE, outcome((ANNA, "k"), 1, Void, Failed));
    assert_eq!(world.order(ANNA, "k").status, S::Paid, "the paid attempt stands");
    world.assert_sound();
}
