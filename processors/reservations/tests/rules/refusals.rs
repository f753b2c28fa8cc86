//! What a refusal tells besides its reason, then idempotency, cancel and schedule.

use schemas::decision::Outcome;
use schemas::ids::{CreatorId, DropId, Hash, OrderId};
use schemas::order::{OrderIntentKind, OrderStatus, Reason, ScheduleDrop};
use schemas::units::{Millis, MinorUnits, Units};

use crate::life::LIVE;
use crate::world::*;

/// A live drop in which Anna holds 4 small ones and 5 large ones are gone.
fn busy_drop() -> World {
    let mut world = World::with_drop(|_| {});
    world.send(LIVE, place(ANNA, "first", &[(SMALL, 4)]));
    world.send(LIVE, place(BEN, "first", &[(LARGE, 5)]));
    world
}

#[test]
fn a_refusal_for_the_limit_names_the_live_hold() {
    let mut world = busy_drop();
    let decision = world.send(LIVE, place(ANNA, "again", &[(SMALL, 3)]));
    assert_eq!(order(&decision).held_order_id, Some(OrderId::derive(DROP, ANNA, "first")));
    world.assert_sound();
}

#[test]
fn insufficient_stock_lists_what_is_left_of_every_wanted_variant() {
    let mut world = World::with_drop(|terms| terms.limit_per_user = None);
    let decision = world.send(LIVE, place(ANNA, "k", &[(LARGE, 6), (SMALL, 1)]));
    let missing = &order(&decision).missing;
    assert_eq!(
        missing.iter().map(|m| (m.variant_id, m.available)).collect::<Vec<_>>(),
        vec![(SMALL, Units(10)), (LARGE, Units(5))]
    );
}

#[test]
fn a_repeated_key_gives_the_same_order_and_another_body_changes_nothing() {
    let mut world = World::with_drop(|_| {});
    let first = world.send(LIVE, place(ANNA, "key", &[(SMALL, 1), (LARGE, 1)]));
    let again = world.send(LIVE, place(ANNA, "key", &[(SMALL, 1), (LARGE, 1)]));
    let other = world.send(LIVE, place(ANNA, "key", &[(SMALL, 2)]));
    assert_eq!(first.outcome, Outcome::Changed);
    assert_eq!((again.outcome, order(&again)), (Outcome::Replayed, order(&first)));
    assert_eq!(other.outcome, Outcome::KeyReused);
    let fold = world.assert_sound();
    assert_eq!(fold.orders.len(), 1);
    assert_eq!(fold.stocks[&(DROP, SMALL)].available, Units(9));
}

#[test]
fn a_final_refusal_is_replayed_but_an_early_click_costs_nothing() {
    let mut world = World::with_drop(|_| {});
    let early = world.send(Millis(START.0 - 1), place(ANNA, "key", &[(SMALL, 1)]));
    assert_eq!(reason(&early), Some(Reason::NotOpen));
    assert_eq!(early.body.as_ref().unwrap().orders[..], []);
    let now = world.send(START, place(ANNA, "key", &[(SMALL, 1)]));
    assert_eq!(order(&now).status, OrderStatus::Reserved);
    let greedy = world.send(START, place(BEN, "key", &[(SMALL, 7)]));
    assert_eq!(reason(&greedy), Some(Reason::LimitExceeded));
    let again = world.send(START, place(BEN, "key", &[(SMALL, 7)]));
    assert_eq!(again.outcome, Outcome::Replayed);
    assert_eq!(order(&again).status, OrderStatus::Rejected);
    world.assert_sound();
}

#[test]
fn lines_of_one_variant_are_summed_before_the_stock_is_checked() {
    let mut world = World::with_drop(|terms| terms.limit_per_user = None);
    let decision = world.send(LIVE, place(ANNA, "k", &[(LARGE, 3), (LARGE, 3)]));
    assert_eq!(reason(&decision), Some(Reason::InsufficientStock));
    let decision = world.send(LIVE, place(ANNA, "l", &[(LARGE, 3), (SMALL, 1), (LARGE, 2)]));
    assert_eq!(
        order(&decision).lines.iter().map(|l| (l.variant_id, l.qty)).collect::<Vec<_>>(),
        vec![(SMALL, 1), (LARGE, 5)]
    );
    assert_eq!(order(&decision).total, MinorUnits(6 * 1_999));
    world.assert_sound();
}

#[test]
fn cancelling_gives_the_units_back_once_and_only_to_the_owner() {
    for (free, key) in [(false, "held"), (true, "confirmed")] {
        let mut world = World::with_drop(|terms| terms.payment_required = !free);
        let placed = world.send(LIVE, place(ANNA, key, &[(SMALL, 4)]));
        let id = order(&placed).order_id;
        assert_eq!(reason(&world.send(LIVE, cancel(BEN, id))), Some(Reason::UnknownOrder));
        let unknown = OrderId::derive(DROP, ANNA, "never");
        assert_eq!(reason(&world.send(LIVE, cancel(ANNA, unknown))), Some(Reason::UnknownOrder));
        let cancelled = world.send(LIVE, cancel(ANNA, id));
        assert_eq!(order(&cancelled).status, OrderStatus::Cancelled);
        assert_eq!(world.send(LIVE, cancel(ANNA, id)).outcome, Outcome::Replayed);
        let fold = world.assert_sound();
        assert_eq!(fold.stocks[&(DROP, SMALL)].available, Units(10));
        let buyer = &fold.buyers[&(DROP, ANNA)];
        assert_eq!((buyer.held, buyer.sold, buyer.held_orders.len()), (Units(0), Units(0), 0));
    }
}

#[test]
fn an_expired_or_rejected_order_cannot_be_cancelled() {
    let mut world = World::with_drop(|_| {});
    let placed = world.send(LIVE, place(ANNA, "k", &[(SMALL, 1)]));
    let later = Millis(LIVE.0 + 600_001);
    let decision = world.send(later, cancel(ANNA, order(&placed).order_id));
    assert_eq!(reason(&decision), Some(Reason::NotCancellable));
    assert_eq!(order(&decision).status, OrderStatus::Expired);
    let rejected = world.send(later, place(ANNA, "l", &[(SMALL, 99)]));
    let decision = world.send(later, cancel(ANNA, order(&rejected).order_id));
    assert_eq!(reason(&decision), Some(Reason::NotCancellable));
    world.assert_sound();
}

#[test]
fn creator_commands_check_drop_then_creator_then_state() {
    use OrderIntentKind::{Close, Open};
    let other = CreatorId([0xee; 16]);
    let mut world = World::with_drop(|_| {});
    let before = Millis(600_000);
    assert_eq!(
        reason(&world.send(before, command(Open, DropId([9; 16]), other))),
        Some(Reason::UnknownDrop)
    );
    assert_eq!(reason(&world.send(before, command(Close, DROP, other))), Some(Reason::NotCreator));
    assert_eq!(
        reason(&world.send(before, command(Close, DROP, CREATOR))),
        Some(Reason::WrongState)
    );
    assert_eq!(world.send(before, command(Open, DROP, CREATOR)).outcome, Outcome::Changed);
    assert_eq!(reason(&world.send(before, command(Open, DROP, CREATOR))), Some(Reason::WrongState));
    assert_eq!(
        order(&world.send(before, place(ANNA, "k", &[(SMALL, 1)]))).status,
        OrderStatus::Reserved
    );
    assert_eq!(world.send(before, command(Close, DROP, CREATOR)).outcome, Outcome::Changed);
    assert_eq!(reason(&world.send(before, place(BEN, "k", &[(SMALL, 1)]))), Some(Reason::NotOpen));
    world.assert_sound();
}

#[test]
fn a_schedule_is_made_once_per_key() {
    let mut world = World::with_drop(|_| {});
    let at = Millis(600_000);
    assert_eq!(world.send(at, schedule(DROP, terms())).outcome, Outcome::Replayed);
    let other_body = ScheduleDrop { request_hash: Hash([5; 16]), ..terms() };
    assert_eq!(world.send(at, schedule(DROP, other_body)).outcome, Outcome::KeyReused);
    let other_key = ScheduleDrop { schedule_key: Hash([5; 16]), ..terms() };
    assert_eq!(reason(&world.send(at, schedule(DROP, other_key))), Some(Reason::DropExists));
    let other_creator = ScheduleDrop { creator_id: CreatorId([5; 16]), ..terms() };
    assert_eq!(reason(&world.send(at, schedule(DROP, other_creator))), Some(Reason::DropExists));
    world.assert_sound();
}

#[test]
fn the_writer_refuses_a_schedule_that_breaks_a_limit() {
    type Change = fn(&mut ScheduleDrop);
    let rows: [(&str, Change); 13] = [
        ("no variants", |t| t.variants.clear()),
        ("33 variants", |t| t.variants = vec![t.variants[0].clone(); 33]),
        ("a variant twice", |t| t.variants[1].variant_id = t.variants[0].variant_id),
        ("no stock", |t| t.variants[0].stock = Units(0)),
        ("too much stock", |t| t.variants[0].stock = Units(10_000_000)),
        ("a negative price", |t| t.variants[0].price = MinorUnits(-1)),
        ("ends as it starts", |t| t.ends_at = t.starts_at),
        ("starts before time", |t| t.starts_at = Millis(i64::MIN)),
        ("ends after the year 9999", |t| t.ends_at = Millis(i64::MAX)),
        ("no hold", |t| t.hold_seconds = 0),
        ("limit 0", |t| t.limit_per_user = Some(0)),
        ("no title", |t| t.title.clear()),
        ("a negative threshold", |t| t.low_stock_threshold = Units(-1)),
    ];
    for (name, change) in rows {
        let mut terms = terms();
        change(&mut terms);
        let mut world = World::new();
        let decision = world.send(Millis(1), schedule(DROP, terms));
        assert_eq!(reason(&decision), Some(Reason::InvalidSchedule), "{name}");
        world.assert_sound();
    }
}
