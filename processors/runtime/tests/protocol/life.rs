//! The races of sale day on the real task: who is first in the log wins, whatever the batch, and the outcome is
//! the one the rules give. Each runs in one batch and one intent at a time.

use reservations::Reservations;
use runtime::{MemoryStore, Store, state_hash};
use schemas::ids::*;
use schemas::limits::ARCHIVE_AFTER_SECONDS;
use schemas::order::ProviderOperationKind::{Authorise, Capture, Void};
use schemas::order::ProviderResult::Succeeded;
use schemas::order::*;
use schemas::units::{Millis, MinorUnits, Units};

use crate::rig::*;

const HOLD_MS: i64 = 600_000;

fn at(ms: i64) -> Millis {
    Millis(START.0 + ms)
}

fn user(byte: u8) -> UserId {
    UserId([byte; 16])
}

pub(crate) fn order_of(buyer: u8) -> OrderId {
    OrderId::derive(DROP, user(buyer), "key")
}

fn paid(buyer: u8) -> OrderIntent {
    let mut intent = place(buyer);
    intent.place.as_mut().unwrap().payment_method = Some("pm".into());
    intent
}

fn waiting(buyer: u8) -> OrderIntent {
    let mut intent = place(buyer);
    intent.place.as_mut().unwrap().if_sold_out = IfSoldOut::Waitlist;
    intent
}

fn cancel(buyer: u8) -> OrderIntent {
    OrderIntent {
        actor: Some(user(buyer)),
        order_change: Some(OrderChange { order_id: order_of(buyer) }),
        ..OrderIntent::bare(IntentId([buyer; 16]), OrderIntentKind::Cancel, START)
    }
}

fn outcome(buyer: u8, operation: ProviderOperationKind) -> OrderIntent {
    let outcome = PaymentOutcome {
        order_id: order_of(buyer),
        attempt: 1,
        operation,
        result: Succeeded,
        captured: false,
        amount: MinorUnits(1_999),
        currency: "EUR".into(),
        detail: None,
        reference: None,
    };
    OrderIntent {
        payment_outcome: Some(Box::new(outcome)),
        ..OrderIntent::bare(IntentId([9; 16]), OrderIntentKind::PaymentOutcome, START)
    }
}

fn command(kind: OrderIntentKind) -> OrderIntent {
    let creator = CreatorId([0xc0; 16]);
    let command = CreatorCommand { creator_ids: vec![creator], admin: false };
    OrderIntent {
        actor: Some(UserId(creator.0)),
        drop_id: Some(DROP),
        creator_command: Some(command),
        ..OrderIntent::bare(IntentId([8; 16]), kind, START)
    }
}

fn restock(qty: i64) -> OrderIntent {
    let stock_change = StockChange {
        variant_id: None,
        qty: Units(qty),
        key: Hash([1; 16]),
        request_hash: Hash([2; 16]),
    };
    OrderIntent { stock_change: Some(stock_change), ..command(OrderIntentKind::Restock) }
}

/// A paid drop of `stock` units with a waitlist, then the intents; the same fold however they are batched.
fn played(stock: i64, limit: Option<i32>, intents: &[(Millis, OrderIntent)]) -> auditor::Fold {
    let folds = [true, false].map(|in_one_batch| {
        let mut rig = Rig::new();
        rig.now = intents.last().map_or(START, |(at, _)| *at).max(START);
        let mut terms = schedule(stock, true);
        let drop = terms.schedule.as_mut().unwrap();
        (drop.waitlist, drop.limit_per_user) = (true, limit);
        drop.variants[0].price = MinorUnits(1_999);
        rig.append(START, &terms);
        let mut task = rig.task::<Reservations>(MemoryStore::default());
        for (at, intent) in intents {
            rig.append(*at, intent);
            if !in_one_batch {
                rig.run(&mut task).unwrap();
            }
        }
        rig.run(&mut task).unwrap();
        assert!(task.store().position().unwrap().is_some());
        rig.assert_sound()
    });
    let [one, other] = folds;
    let statuses = |fold: &auditor::Fold| {
        fold.orders.values().map(|order| (order.order_id, order.status)).collect::<Vec<_>>()
    };
    assert_eq!(statuses(&one), statuses(&other), "batching changes nothing");
    one
}

fn status(fold: &auditor::Fold, buyer: u8) -> OrderStatus {
    fold.orders[&order_of(buyer)].status
}

fn operation(fold: &auditor::Fold, buyer: u8) -> Option<ProviderOperationKind> {
    fold.orders[&order_of(buyer)].operation.map(|operation| operation.kind)
}

#[test]
fn second_hold_by_the_same_buyer_is_refused() {
    let mut second = place(1);
    second.place.as_mut().unwrap().order_id = OrderId::derive(DROP, user(1), "other phone");
    let fold = played(5, Some(1), &[(at(1), place(1)), (at(2), second)]);
    let refused = &fold.orders[&OrderId::derive(DROP, user(1), "other phone")];
    assert_eq!(refused.reason, Some(Reason::LimitExceeded));
    assert_eq!(refused.held_order_id, Some(order_of(1)));
}

#[test]
fn a_double_click_is_one_order() {
    let mut again = place(1);
    again.intent_id = IntentId([77; 16]);
    let fold = played(5, None, &[(at(1), place(1)), (at(1), again)]);
    assert_eq!((fold.orders.len(), fold.stocks.values().next().unwrap().reserved), (1, Units(1)));
}

#[test]
fn cancel_racing_authorisation() {
    let cancelled =
        played(5, None, &[(at(1), paid(1)), (at(2), cancel(1)), (at(2), outcome(1, Authorise))]);
    assert_eq!(
        (status(&cancelled, 1), operation(&cancelled, 1)),
        (OrderStatus::Cancelled, Some(Void))
    );
    let confirmed =
        played(5, None, &[(at(1), paid(1)), (at(2), outcome(1, Authorise)), (at(2), cancel(1))]);
    assert_eq!(
        (status(&confirmed, 1), operation(&confirmed, 1)),
        (OrderStatus::Confirmed, Some(Capture))
    );
}

#[test]
fn authorisation_racing_expiry() {
    let rows = [
        (HOLD_MS + 1, false, OrderStatus::Confirmed, Capture),
        (HOLD_MS + 2, false, OrderStatus::Confirmed, Capture),
        (HOLD_MS + 2, true, OrderStatus::Expired, Void),
    ];
    for (when, taken, expected, due) in rows {
        let mut intents = vec![(at(1), paid(1))];
        if taken {
            intents.push((at(when), place(2)));
        }
        intents.push((at(when), outcome(1, Authorise)));
        let mut rig = Rig::new();
        rig.now = at(1);
        let mut terms = schedule(1, true);
        terms.schedule.as_mut().unwrap().variants[0].price = MinorUnits(1_999);
        rig.append(START, &terms);
        let mut task = rig.task::<Reservations>(MemoryStore::default());
        for (at, intent) in intents {
            rig.now = at;
            rig.append(at, &intent);
            rig.run(&mut task).unwrap();
        }
        let fold = rig.assert_sound();
        assert_eq!(
            (status(&fold, 1), operation(&fold, 1)),
            (expected, Some(due)),
            "{when} {taken}"
        );
    }
}

#[test]
fn abort_racing_capture() {
    let start = [
        (at(1), paid(1)),
        (at(2), outcome(1, Authorise)),
        (at(3), command(OrderIntentKind::Abort)),
    ];
    let marked = played(5, None, &start);
    assert_eq!(status(&marked, 1), OrderStatus::Confirmed);
    let captured: Vec<_> = start.into_iter().chain([(at(4), outcome(1, Capture))]).collect();
    assert_eq!(status(&played(5, None, &captured), 1), OrderStatus::RefundPending);
}

#[test]
fn restock_racing_the_waitlist() {
    let fold = played(
        1,
        None,
        &[(at(1), place(1)), (at(2), waiting(2)), (at(3), restock(1)), (at(3), place(3))],
    );
    assert_eq!(status(&fold, 2), OrderStatus::Offered, "who waited comes before who came");
    assert_eq!(fold.orders[&order_of(3)].reason, Some(Reason::SoldOut));
}

#[test]
fn offer_racing_the_end_of_the_drop() {
    let end = Millis(END.0 + 1);
    let before_the_end = Millis(END.0 - 1);
    let fold = played(
        1,
        None,
        &[
            (before_the_end, place(1)),
            (before_the_end, waiting(2)),
            (before_the_end, waiting(3)),
            (end, cancel(1)),
            (end, cancel(2)),
            (end, cancel(3)),
        ],
    );
    // The unit came back after the end: offered to one, declined, offered to the next, declined.
    assert_eq!(status(&fold, 2), OrderStatus::Cancelled);
    assert_eq!(status(&fold, 3), OrderStatus::Cancelled);
    assert_eq!(fold.orders[&order_of(3)].version, 3, "it was offered before it was declined");
    let lonely = played(
        1,
        None,
        &[
            (before_the_end, place(1)),
            (before_the_end, waiting(2)),
            (Millis(END.0 + HOLD_MS), cancel(1)),
        ],
    );
    assert_eq!(status(&lonely, 2), OrderStatus::Offered);
}

#[test]
fn archive_racing_a_retry() {
    let archive = END.0 + ARCHIVE_AFTER_SECONDS * 1_000;
    let late = Millis(archive + 86_400_000);
    let mut rig = Rig::new();
    rig.append(START, &schedule(3, false));
    rig.append(at(1), &place(1));
    let mut task = rig.task::<Reservations>(MemoryStore::default());
    rig.run(&mut task).unwrap();
    // A retry after the drop is forgotten is told so, and makes no second order.
    rig.now = late;
    rig.append(
        Millis(END.0 + 1),
        &OrderIntent::bare(IntentId([1; 16]), OrderIntentKind::Tick, START),
    );
    rig.append(late, &place(1));
    rig.run(&mut task).unwrap();
    let decisions = rig.decisions();
    let answer = decisions.last().unwrap().decision.body.as_ref().unwrap();
    assert_eq!(answer.refusal.as_ref().unwrap().reason, Reason::Archived);
    let fold = rig.assert_sound();
    assert_eq!((fold.orders.len(), fold.archived_orders.len()), (0, 1));
}

/// Decisions that releases wrote, by the schema version they wrote them in, and what they fold to. The hash is over
/// rows as this release stores them: where a row gets a field, it is written anew, and the review sees that.
#[test]
fn the_golden_logs_of_this_and_the_last_release_fold_to_their_frozen_hashes() {
    use std::fmt::Write as _;
    let folder = std::path::Path::new("tests/golden");
    for version in [2, 3] {
        let log = folder.join(format!("decisions.v{version}.hex"));
        let hash = folder.join(format!("decisions.v{version}.hash"));
        let writes = std::env::var_os("WRITE_NEW_GOLDEN").is_some();
        if writes && version == 3 && !log.exists() {
            let lines = golden_decisions().into_iter().map(|value| {
                value.iter().fold(String::new(), |mut hex, byte| {
                    write!(hex, "{byte:02x}").unwrap();
                    hex
                })
            });
            std::fs::write(&log, lines.collect::<Vec<_>>().join("\n")).unwrap();
        }
        let bytes = |line: &str| -> Vec<u8> {
            let digits = (0..line.len()).step_by(2);
            digits.map(|at| u8::from_str_radix(&line[at..at + 2], 16).unwrap()).collect()
        };
        let text = std::fs::read_to_string(&log).unwrap();
        let folded = folded_hash(version, &text.lines().map(bytes).collect::<Vec<_>>());
        if writes && !hash.exists() {
            std::fs::write(&hash, &folded).unwrap();
        }
        assert_eq!(folded, std::fs::read_to_string(&hash).unwrap(), "version {version}");
    }
}

fn golden_decisions() -> Vec<Vec<u8>> {
    let rig = Rig::new();
    let mut terms = schedule(2, true);
    let drop = terms.schedule.as_mut().unwrap();
    (drop.waitlist, drop.limit_per_user) = (true, Some(3));
    drop.variants[0].price = MinorUnits(1_999);
    rig.append(START, &terms);
    for (at, intent) in [
        (at(1), paid(1)),
        (at(2), place(2)),
        (at(3), waiting(3)),
        (at(4), waiting(4)),
        (at(5), outcome(1, Authorise)),
        (at(6), cancel(2)),
        (at(7), command(OrderIntentKind::Pause)),
        (at(8), restock(1)),
        (at(9), command(OrderIntentKind::Resume)),
        (at(10), outcome(1, Capture)),
        (at(11), command(OrderIntentKind::Abort)),
    ] {
        rig.append(at, &intent);
    }
    let mut task = rig.task::<Reservations>(MemoryStore::default());
    rig.run(&mut task).unwrap();
    rig.assert_sound();
    rig.decisions().into_iter().map(|logged| logged.value).collect()
}

/// As a new owner folds them, whose registry knows the schema that they were written with.
fn folded_hash(version: u32, decisions: &[Vec<u8>]) -> String {
    let rig = Rig::new();
    let subject = schemas::topics::ORDER_DECISIONS.subject;
    let released = schemas::avro::RELEASED.into_iter();
    let written = released.into_iter().find(|s| (s.subject, s.version) == (subject, version));
    let codec = schemas::avro::Codec::parse(written.unwrap().text).unwrap();
    let current = rig.settings().schemas.write_id(subject);
    let id = if codec.is_current() { current } else { current + 100 };
    rig.registry.texts.lock().unwrap().insert(id, written.unwrap().text.to_owned());
    let mut link = schemas::decision::FIRST_LINK;
    let reframed = decisions.iter().map(|value| {
        let mut framed = Vec::new();
        schemas::framing::start(&mut framed, id);
        framed.extend_from_slice(&value[schemas::framing::HEADER_LENGTH..]);
        link = schemas::decision::seal(link, &mut framed);
        Some(framed)
    });
    let last: schemas::decision::Decision<OrderBody> =
        codec.decode(&decisions.last().unwrap()[schemas::framing::HEADER_LENGTH..]).unwrap();
    let decided = usize::try_from(last.header.next_intent_offset).unwrap();
    {
        let mut shared = rig.broker.lock();
        (shared.decisions, shared.intents) = (reframed.collect(), vec![(START, vec![]); decided]);
    }
    let mut task = rig.task::<Reservations>(MemoryStore::default());
    task.step(START).unwrap();
    assert_eq!(rig.status.snapshot().state, runtime::PartitionState::Running);
    state_hash(task.store()).unwrap()
}

#[test]
fn a_store_that_missed_continuations_folds_to_the_same_hash() {
    let rig = Rig::new();
    let mut terms = schedule(500, true);
    terms.schedule.as_mut().unwrap().variants[0].price = MinorUnits(1_999);
    rig.append(START, &terms);
    (1..=200).for_each(|buyer| rig.append(at(1), &place(buyer)));
    rig.append(at(2), &command(OrderIntentKind::Abort));
    let mut task = rig.task::<Reservations>(MemoryStore::default());
    rig.run(&mut task).unwrap();
    let live = state_hash(task.store()).unwrap();
    let mut successor = rig.task::<Reservations>(MemoryStore::default());
    rig.run(&mut successor).unwrap();
    assert_eq!(state_hash(successor.store()).unwrap(), live);
    let fold = rig.assert_sound();
    assert!(fold.orders.values().all(|order| order.status == OrderStatus::Cancelled));
}
