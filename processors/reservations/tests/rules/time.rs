//! Deadlines are judged by the log's append time, to the millisecond.

use reservations::rows::{drop_key, order_key};
use schemas::limits::ARCHIVE_AFTER_SECONDS;
use schemas::order::{DropStatus, OrderStatus, Reason};
use schemas::units::{Millis, Units};

use crate::world::*;

fn at(instant: Millis, offset: i64) -> Millis {
    Millis(instant.0 + offset)
}

#[test]
fn the_opening_instant_is_on_sale_and_the_closing_instant_still_is() {
    // (append time, first outcome)
    for (when, expected) in [
        (at(START, -1), Err(Reason::NotOpen)),
        (START, Ok(())),
        (at(START, 1), Ok(())),
        (at(END, -1), Ok(())),
        (END, Ok(())),
        (at(END, 1), Err(Reason::NotOpen)),
    ] {
        let mut world = World::with_drop(|_| {});
        let decision = world.send(when, place(ANNA, "k", &[(SMALL, 1)]));
        assert_eq!(reason(&decision).map_or(Ok(()), Err), expected, "appended at {when:?}");
        world.assert_sound();
    }
}

#[test]
fn a_hold_lapses_after_its_deadline_and_not_at_it() {
    for (offset, expected) in [(0, OrderStatus::Cancelled), (1, OrderStatus::Expired)] {
        let mut world = World::with_drop(|_| {});
        let placed = world.send(START, place(ANNA, "k", &[(SMALL, 1)]));
        let id = order(&placed).order_id;
        let deadline = order(&placed).hold_expires_at.unwrap();
        assert_eq!(deadline, at(START, 600_000));
        assert_eq!(world.timer_of(order_key(id)).unwrap().deadline, deadline);
        let decision = world.send(at(deadline, offset), cancel(ANNA, id));
        assert_eq!(order(&decision).status, expected);
        assert_eq!(world.timer_of(order_key(id)), None);
        let fold = world.assert_sound();
        assert_eq!(fold.stocks[&(DROP, SMALL)].available, Units(10));
    }
}

#[test]
fn a_tick_fires_what_is_due_and_units_of_a_lapsed_hold_sell_again() {
    let mut world = World::with_drop(|terms| terms.limit_per_user = None);
    world.send(START, place(ANNA, "k", &[(LARGE, 5)]));
    assert_eq!(reason(&world.send(START, place(BEN, "k", &[(LARGE, 1)]))), Some(Reason::SoldOut));
    assert_eq!(world.send(at(START, 600_001), tick()).body, None);
    let second = world.send(at(START, 600_001), place(BEN, "l", &[(LARGE, 1)]));
    assert_eq!(order(&second).status, OrderStatus::Reserved);
    world.assert_sound();
}

#[test]
fn a_drop_scheduled_in_the_past_opens_at_once_and_closes_before_the_next_intent() {
    let mut world = World::new();
    let late = at(END, 10);
    let decision = world.send(late, schedule(DROP, terms()));
    assert_eq!(decision.body.unwrap().drops[0].status, DropStatus::Live);
    let placed = world.send(late, place(ANNA, "k", &[(SMALL, 1)]));
    assert_eq!(reason(&placed), Some(Reason::NotOpen));
    let archive = Millis(late.0 + ARCHIVE_AFTER_SECONDS * 1_000);
    assert_eq!(world.timer_of(drop_key(DROP)).map(|timer| timer.deadline), Some(archive));
    world.assert_sound();
}

#[test]
fn a_drop_opened_early_closes_at_its_instant_and_holds_outlive_it() {
    let mut world = World::with_drop(|_| {});
    world.send(at(START, -9), command(schemas::order::OrderIntentKind::Open, DROP, CREATOR));
    let placed = world.send(at(END, -1), place(ANNA, "k", &[(SMALL, 2)]));
    world.send(at(END, 1), tick());
    let fold = world.assert_sound();
    assert_eq!(fold.drops[&DROP].status, DropStatus::Ended);
    assert_eq!(fold.orders[&order(&placed).order_id].status, OrderStatus::Reserved);
    world.send(at(END, 600_000), tick());
    let fold = world.assert_sound();
    assert_eq!(fold.orders[&order(&placed).order_id].status, OrderStatus::Expired);
}
