//! Released units, offers, restocks and pauses: who of the waiting gets what.

use schemas::decision::Outcome;
use schemas::ids::{OrderId, UserId};
use schemas::order::ProviderOperationKind::Authorise;
use schemas::order::ProviderResult::Succeeded;
use schemas::order::{OrderIntentKind as Kind, OrderStatus as S, PaymentState, Reason};
use schemas::units::{Millis, Units};

use crate::life::{LIVE, buyer, later};
use crate::world::*;

/// Two small units, no limit, a waitlist; holds last 600 s and offers 300 s.
fn scarce() -> World {
    World::with_drop(|terms| {
        terms.waitlist = true;
        terms.limit_per_user = None;
        terms.variants.iter_mut().for_each(|variant| variant.stock = Units(2));
    })
}

fn waits(user: UserId, qty: i32) -> schemas::order::OrderIntent {
    or_wait(place(user, "k", &[(SMALL, qty)]))
}

#[test]
fn released_units_go_to_the_first_whose_quantity_fits() {
    let mut world = scarce();
    world.send(LIVE, place(ANNA, "a", &[(SMALL, 1)]));
    world.send(LIVE, place(ANNA, "b", &[(SMALL, 1)]));
    for (byte, qty) in [(1, 2), (2, 1), (3, 1)] {
        world.send(LIVE, waits(buyer(byte), qty));
        assert_eq!(world.status(buyer(byte), "k"), S::Waitlisted);
    }
    world.send(later(1), cancel(ANNA, OrderId::derive(DROP, ANNA, "a")));
    // One unit: the first waits for two, so the second gets it.
    assert_eq!(world.status(buyer(1), "k"), S::Waitlisted);
    assert_eq!(world.status(buyer(2), "k"), S::Offered);
    // A newcomer gets nothing while anybody fits.
    let newcomer = world.send(later(2), place(BEN, "k", &[(SMALL, 1)]));
    assert_eq!(reason(&newcomer), Some(Reason::SoldOut));
    // Nobody acts: the offer lapses and goes on to the third.
    world.send(later(300_002), tick());
    assert_eq!(world.status(buyer(2), "k"), S::Expired);
    assert_eq!(world.status(buyer(3), "k"), S::Offered);
    // Declined: nobody fits one unit, so it is anybody's.
    world.send(later(300_003), cancel(buyer(3), OrderId::derive(DROP, buyer(3), "k")));
    assert_eq!(world.stock(SMALL).available, Units(1));
    world.assert_sound();
}

#[test]
fn an_offer_is_charged_only_by_the_buyers_act_and_keeps_its_deadline() {
    let mut world = scarce();
    world.send(LIVE, place(ANNA, "a", &[(SMALL, 2)]));
    world.send(LIVE, paid_with(waits(BEN, 1), "pm"));
    world.send(later(1), cancel(ANNA, OrderId::derive(DROP, ANNA, "a")));
    let offered = world.order(BEN, "k");
    assert_eq!((offered.status, offered.operation), (S::Offered, None));
    assert_eq!(offered.offer_expires_at, Some(later(300_001)));
    world.send(later(2), pay(BEN, "k"));
    let order = world.order(BEN, "k");
    assert_eq!((order.status, order.hold_expires_at), (S::Reserved, Some(later(300_001))));
    assert_eq!(reason(&world.send(later(3), extend(BEN, "k"))), Some(Reason::NotExtendable));
    world.send(later(4), outcome((BEN, "k"), 1, Authorise, Succeeded));
    assert_eq!(world.status(BEN, "k"), S::Confirmed);
    world.assert_sound();
}

#[test]
fn a_buyer_waits_once_per_variant_with_one_line_and_within_the_limit() {
    let mut world = World::with_drop(|terms| {
        terms.waitlist = true;
        terms.limit_per_user = Some(3);
        terms.variants.iter_mut().for_each(|variant| variant.stock = Units(1));
    });
    world.send(LIVE, place(ANNA, "a", &[(SMALL, 1), (LARGE, 1)]));
    world.send(LIVE, waits(BEN, 1));
    // (key, lines, refusal): a second entry, two lines, past the limit with what is waited for.
    for (key, lines, expected) in [
        ("again", vec![(SMALL, 1)], Reason::SoldOut),
        ("two", vec![(SMALL, 1), (LARGE, 1)], Reason::SoldOut),
        ("much", vec![(LARGE, 3)], Reason::LimitExceeded),
    ] {
        let refused = world.send(LIVE, or_wait(place(BEN, key, &lines)));
        assert_eq!(reason(&refused), Some(expected), "{key}");
    }
    world.send(LIVE, or_wait(place(BEN, "large", &[(LARGE, 1)])));
    assert_eq!(world.status(BEN, "large"), S::Waitlisted);
    let mut without = World::with_drop(|terms| terms.limit_per_user = None);
    without.send(LIVE, place(ANNA, "a", &[(LARGE, 5)]));
    let refused = without.send(LIVE, or_wait(place(BEN, "k", &[(LARGE, 1)])));
    assert_eq!(reason(&refused), Some(Reason::SoldOut), "the drop has no waitlist");
    world.assert_sound();
}

#[test]
fn restock_racing_the_waitlist_waiters_come_first_and_a_key_restocks_once() {
    let mut world = scarce();
    world.send(LIVE, place(ANNA, "a", &[(SMALL, 2)]));
    world.send(LIVE, waits(BEN, 2));
    world.send(later(1), supply(Kind::Restock, SMALL, 3, 1));
    let newcomer = world.send(later(1), place(buyer(9), "k", &[(SMALL, 2)]));
    assert_eq!(reason(&newcomer), Some(Reason::InsufficientStock), "two of three are Ben's");
    assert_eq!(world.status(BEN, "k"), S::Offered);
    let again = world.send(later(2), supply(Kind::Restock, SMALL, 3, 1));
    assert_eq!(again.outcome, Outcome::Replayed);
    let other = world.send(later(2), supply(Kind::Restock, SMALL, 4, 1));
    assert_eq!(other.outcome, Outcome::KeyReused);
    assert_eq!(world.stock(SMALL).restocked, Units(3));
    let much = world.send(later(3), supply(Kind::Withdraw, SMALL, 2, 2));
    assert_eq!(reason(&much), Some(Reason::InsufficientStock), "one is available");
    world.send(later(3), supply(Kind::Withdraw, SMALL, 1, 3));
    assert_eq!((world.stock(SMALL).withdrawn, world.stock(SMALL).available), (Units(1), Units(0)));
    world.assert_sound();
}

#[test]
fn offer_racing_the_end_of_the_drop_offers_go_on_until_no_hold_lives() {
    let mut world = scarce();
    let end = Millis(END.0 - 1);
    world.send(end, place(ANNA, "a", &[(SMALL, 2)]));
    world.send(end, waits(BEN, 1));
    world.send(end, waits(buyer(9), 2));
    world.send(Millis(END.0 + 1), tick());
    assert_eq!(world.status(BEN, "k"), S::Waitlisted, "Anna's hold may still come back");
    world.send(Millis(END.0 + 2), cancel(ANNA, OrderId::derive(DROP, ANNA, "a")));
    assert_eq!(world.status(BEN, "k"), S::Offered, "an offer after the end");
    assert_eq!(world.status(buyer(9), "k"), S::Waitlisted);
    world.send(Millis(END.0 + 3), pay(BEN, "k"));
    world.send(Millis(END.0 + 4), outcome((BEN, "k"), 1, Authorise, Succeeded));
    let last = world.order(buyer(9), "k");
    assert_eq!((last.status, last.reason), (S::Rejected, Some(Reason::DropEnded)));
    world.assert_sound();
}

#[test]
fn a_pause_refuses_orders_stops_offers_and_lets_holds_run_and_pay() {
    let mut world = scarce();
    world.send(LIVE, paid_with(place(ANNA, "a", &[(SMALL, 1)]), "pm"));
    world.send(LIVE, place(ANNA, "b", &[(SMALL, 1)]));
    world.send(LIVE, waits(BEN, 1));
    world.send(later(0), cancel(ANNA, OrderId::derive(DROP, ANNA, "b")));
    assert_eq!(world.order(BEN, "k").offer_expires_at, Some(later(300_000)));
    world.send(later(100_000), command(Kind::Pause, DROP, CREATOR));
    assert_eq!(world.order(BEN, "k").offer_left_ms, Some(200_000));
    let early = world.send(later(100_001), place(buyer(9), "k", &[(SMALL, 1)]));
    assert_eq!((reason(&early), order_rows(&early)), (Some(Reason::NotOpen), 0));
    world.send(later(100_002), outcome((ANNA, "a"), 1, Authorise, Succeeded));
    assert_eq!(world.order(ANNA, "a").payments[0].state, PaymentState::Authorised);
    world.send(later(500_000), supply(Kind::Restock, SMALL, 1, 1));
    world.send(later(500_000), tick());
    assert_eq!(world.status(BEN, "k"), S::Offered, "its clock stands still");
    world.send(later(900_000), command(Kind::Resume, DROP, CREATOR));
    assert_eq!(world.order(BEN, "k").offer_expires_at, Some(later(1_100_000)));
    let now = world.send(later(900_001), place(buyer(9), "k", &[(SMALL, 1)]));
    assert_eq!(now.outcome, Outcome::Changed, "the restocked unit, which nobody waits for");
    world.assert_sound();
}

fn order_rows(decision: &schemas::decision::Decision<schemas::order::OrderBody>) -> usize {
    decision.body.as_ref().map_or(0, |body| body.orders.len())
}
