//! The whole life of a reservation but for its money: holds, abort, edits, archive, activation.

use schemas::decision::Outcome;
use schemas::ids::{DropId, OrderId, UserId};
use schemas::limits::ARCHIVE_AFTER_SECONDS;
use schemas::order::ProviderOperationKind::Authorise;
use schemas::order::ProviderResult::{Failed, Succeeded};
use schemas::order::{
    DropEventKind, DropStatus, OrderIntentKind as Kind, OrderStatus as S, Reason,
};
use schemas::units::{Millis, Units};

use crate::world::*;

pub(crate) const LIVE: Millis = Millis(START.0 + 1);

pub(crate) fn later(ms: i64) -> Millis {
    Millis(LIVE.0 + ms)
}

pub(crate) fn buyer(byte: u8) -> UserId {
    UserId([byte; 16])
}

#[test]
fn an_abort_of_many_orders_is_a_continuation_of_small_records() {
    let mut world = World::with_drop(|terms| {
        terms.limit_per_user = None;
        terms.variants.iter_mut().for_each(|variant| variant.stock = Units(500));
    });
    for number in 0..300_u16 {
        world.send(LIVE, place(ANNA, &number.to_string(), &[(SMALL, 1)]));
    }
    let before = world.decisions().len();
    world.send(later(1), command(Kind::Abort, DROP, CREATOR));
    assert!(world.decisions().len() - before > 5, "several records");
    let fold = world.assert_sound();
    assert!(fold.orders.values().all(|order| order.status == S::Cancelled));
    assert_eq!((world.stock(SMALL).available, fold.continuations.len()), (Units(500), 0));
}

#[test]
fn a_hold_is_extended_once_and_only_while_a_payment_is_in_progress() {
    let mut world = World::with_drop(|_| {});
    world.send(LIVE, place(ANNA, "idle", &[(SMALL, 1)]));
    assert_eq!(reason(&world.send(LIVE, extend(ANNA, "idle"))), Some(Reason::NotExtendable));
    world.send(LIVE, paid_with(place(ANNA, "k", &[(SMALL, 1)]), "pm"));
    let deadline = world.order(ANNA, "k").hold_expires_at.unwrap();
    assert_eq!(reason(&world.send(LIVE, extend(BEN, "k"))), Some(Reason::UnknownOrder));
    world.send(later(5), extend(ANNA, "k"));
    assert_eq!(world.order(ANNA, "k").hold_expires_at, Some(Millis(deadline.0 + 120_000)));
    assert_eq!(reason(&world.send(later(6), extend(ANNA, "k"))), Some(Reason::NotExtendable));
    world.send(Millis(deadline.0 + 120_000), outcome((ANNA, "k"), 1, Authorise, Succeeded));
    assert_eq!(world.status(ANNA, "k"), S::Confirmed);
    world.assert_sound();
}

#[test]
fn low_stock_and_sold_out_are_told_once_per_crossing_over_all_variants() {
    let mut world = World::with_drop(|terms| {
        terms.limit_per_user = None;
        terms.low_stock_threshold = Units(3);
    });
    let events = |decision: &schemas::decision::Decision<schemas::order::OrderBody>| {
        decision.body.as_ref().unwrap().events.iter().map(|event| event.kind).collect::<Vec<_>>()
    };
    let mut order = |key: &str, lines: &[(schemas::ids::VariantId, i32)]| {
        events(&world.send(LIVE, place(ANNA, key, lines)))
    };
    assert_eq!(order("a", &[(SMALL, 10)]), vec![], "five large ones are left");
    assert_eq!(order("b", &[(LARGE, 1)]), vec![]);
    assert_eq!(order("c", &[(LARGE, 1)]), vec![DropEventKind::StockLow]);
    assert_eq!(order("d", &[(LARGE, 1)]), vec![]);
    assert_eq!(order("e", &[(LARGE, 2)]), vec![DropEventKind::SoldOut]);
    world.send(LIVE, cancel(ANNA, OrderId::derive(DROP, ANNA, "e")));
    let again = world.send(LIVE, place(ANNA, "f", &[(LARGE, 2)]));
    assert_eq!(events(&again), vec![DropEventKind::SoldOut], "a crossing of its own");
    world.assert_sound();
}

#[test]
fn an_upcoming_drop_is_edited_and_its_instants_follow() {
    let mut world = World::with_drop(|_| {});
    let before = Millis(600_000);
    world.send(before, edit(|edit| edit.starts_at = Some(Millis(START.0 + 500))));
    let early = world.send(LIVE, place(ANNA, "k", &[(SMALL, 1)]));
    assert_eq!(reason(&early), Some(Reason::NotOpen));
    let bad = world.send(LIVE, edit(|edit| edit.ends_at = Some(Millis(1))));
    assert_eq!(reason(&bad), Some(Reason::InvalidSchedule));
    let late = world.send(later(500), edit(|edit| edit.title = Some("x".into())));
    assert_eq!(reason(&late), Some(Reason::WrongState));
    world.assert_sound();
}

#[test]
fn archive_racing_a_retry_forgets_a_settled_drop_and_answers_archived() {
    let mut world = World::with_drop(|terms| terms.limit_per_user = None);
    for number in 0..100_u16 {
        world.send(LIVE, place(ANNA, &number.to_string(), &[(SMALL, 20)]));
    }
    world.send(LIVE, place(ANNA, "kept", &[(SMALL, 1)]));
    world.send(LIVE, supply(Kind::Restock, SMALL, 1, 1));
    let archive = Millis(END.0 + 1 + ARCHIVE_AFTER_SECONDS * 1_000);
    world.send(Millis(END.0 + 1), tick());
    let known = world.send(archive, place(ANNA, "kept", &[(SMALL, 1)]));
    assert_eq!(known.outcome, Outcome::Replayed, "still known at the instant");
    let gone = world.send(Millis(archive.0 + 1), place(ANNA, "kept", &[(SMALL, 1)]));
    assert_eq!((gone.outcome, reason(&gone)), (Outcome::Refused, Some(Reason::Archived)));
    let fold = world.assert_sound();
    assert_eq!(fold.drops[&DROP].status, DropStatus::Archived);
    assert_eq!((world.rows_left(), fold.archived_orders.len()), (1, 101), "a tombstone");
    let command = world.send(Millis(archive.0 + 2), command(Kind::Close, DROP, CREATOR));
    assert_eq!(reason(&command), Some(Reason::Archived));
}

#[test]
fn a_drop_with_money_in_flight_is_not_archived_yet() {
    let mut world = World::with_drop(|_| {});
    world.send(LIVE, paid_with(place(ANNA, "k", &[(SMALL, 1)]), "pm"));
    world.send(Millis(END.0 + 1), tick());
    let archive = Millis(END.0 + 2 + ARCHIVE_AFTER_SECONDS * 1_000);
    world.send(archive, tick());
    assert_eq!(world.order(ANNA, "k").operation.unwrap().kind, Authorise, "nobody knows yet");
    world.send(archive, outcome((ANNA, "k"), 1, Authorise, Failed));
    world.send(Millis(archive.0 + 86_400_001), tick());
    assert_eq!(world.assert_sound().drops[&DROP].status, DropStatus::Archived);
}

#[test]
fn a_partition_at_an_older_logic_version_writes_nothing_newer_until_activated() {
    let mut world = World::with_drop(|_| {});
    world.logic_version = 1;
    world.send(LIVE, paid_with(place(ANNA, "k", &[(SMALL, 1)]), "pm"));
    assert_eq!(world.order(ANNA, "k").payments, vec![]);
    for intent in [
        command(Kind::Pause, DROP, CREATOR),
        pay(ANNA, "k"),
        supply(Kind::Restock, SMALL, 1, 1),
        outcome((ANNA, "k"), 1, Authorise, Succeeded),
    ] {
        assert_eq!(reason(&world.send(LIVE, intent)), Some(Reason::NotActivated));
    }
    assert_eq!(reason(&world.send(LIVE, activate(99))), Some(Reason::UnknownVersion));
    let activated = world.send(LIVE, activate(2));
    assert_eq!(activated.body.unwrap().activated, Some(2));
    world.send(LIVE, pay(ANNA, "k"));
    assert_eq!(world.order(ANNA, "k").operation.unwrap().kind, Authorise);
    let again = world.send(LIVE, activate(1));
    assert_eq!(again.body.unwrap().activated, None, "never back");
    world.assert_sound();
}

#[test]
fn second_hold_by_the_same_buyer_is_refused_and_names_the_first() {
    let mut world = World::with_drop(|terms| terms.limit_per_user = Some(1));
    world.send(LIVE, place(ANNA, "phone", &[(SMALL, 1)]));
    let second = world.send(LIVE, place(ANNA, "laptop", &[(SMALL, 1)]));
    assert_eq!(reason(&second), Some(Reason::LimitExceeded));
    assert_eq!(order(&second).held_order_id, Some(OrderId::derive(DROP, ANNA, "phone")));
    world.assert_sound();
}

#[test]
fn nobody_commands_what_is_not_theirs() {
    let mut world = World::with_drop(|_| {});
    world.send(LIVE, place(ANNA, "k", &[(SMALL, 1)]));
    let other = schemas::ids::CreatorId([0xee; 16]);
    for kind in [Kind::Pause, Kind::Resume, Kind::Abort, Kind::Close] {
        let refused = world.send(LIVE, command(kind, DROP, other));
        assert_eq!(reason(&refused), Some(Reason::NotCreator), "{kind:?}");
        let unknown = world.send(LIVE, command(kind, DropId([9; 16]), other));
        assert_eq!(reason(&unknown), Some(Reason::UnknownDrop), "{kind:?}");
    }
    let mut foreign = refund(ANNA, "k", true, 1);
    foreign.creator_command.as_mut().unwrap().creator_ids = vec![other];
    assert_eq!(reason(&world.send(LIVE, foreign)), Some(Reason::UnknownOrder));
    assert_eq!(reason(&world.send(LIVE, pay(BEN, "k"))), Some(Reason::UnknownOrder));
    world.assert_sound();
}
