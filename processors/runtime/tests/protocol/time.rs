//! Log time: who wins at an instant depends on when the log took the intent, never on when we read it.

use reservations::Reservations;
use runtime::{MemoryStore, PartitionState, Wake};
use schemas::order::{DropStatus, OrderChange, OrderIntent, OrderIntentKind, OrderStatus, Reason};
use schemas::units::Millis;

use crate::rig::*;

fn later(instant: Millis, milliseconds: i64) -> Millis {
    Millis(instant.0 + milliseconds)
}

fn cancel(buyer: u8) -> OrderIntent {
    let order_id = place(buyer).place.unwrap().order_id;
    OrderIntent {
        kind: OrderIntentKind::Cancel,
        place: None,
        order_change: Some(OrderChange { order_id }),
        ..place(buyer)
    }
}

/// Status of every buyer's order, in buyer order.
fn statuses(rig: &Rig, buyers: &[u8]) -> Vec<Option<OrderStatus>> {
    let fold = rig.assert_sound();
    let ids = buyers.iter().map(|buyer| place(*buyer).place.unwrap().order_id);
    ids.map(|id| fold.orders.get(&id).map(|order| order.status)).collect()
}

/// Appends (buyer, append time) orders to a free drop and decides them with the clock at `now`: all in one
/// batch, or one batch each.
fn decide(orders: &[(u8, Millis)], now: Millis, one_batch: bool) -> Rig {
    let mut rig = Rig::new();
    rig.append(later(START, -500_000), &schedule(100, false));
    let mut task = rig.task::<Reservations>(MemoryStore::default());
    if !one_batch {
        rig.now = now;
        rig.run(&mut task).unwrap();
    }
    for (buyer, at) in orders {
        rig.append(*at, &place(*buyer));
        if !one_batch {
            rig.run(&mut task).unwrap();
        }
    }
    rig.now = now;
    rig.run(&mut task).unwrap();
    rig
}

#[test]
fn opening_and_closing_split_a_batch_at_their_millisecond() {
    use OrderStatus::{Confirmed, Rejected};
    let orders = [
        (1, later(START, -1)),
        (2, START),
        (3, later(START, 1)),
        (4, later(END, -1)),
        (5, END),
        (6, later(END, 1)),
    ];
    let expected = vec![
        None,
        Some(Confirmed),
        Some(Confirmed),
        Some(Confirmed),
        Some(Confirmed),
        Some(Rejected),
    ];
    // The same whether each comes alone or all in one batch, read on time or by an owner paused for a minute.
    for one_batch in [false, true] {
        for pause in [0, 60_000] {
            let rig = decide(&orders, later(END, 1 + pause), one_batch);
            let all = statuses(&rig, &[1, 2, 3, 4, 5, 6]);
            assert_eq!(all, expected, "one batch: {one_batch}, paused {pause} ms");
            let early =
                rig.decisions().into_iter().find_map(|logged| logged.decision.body?.refusal);
            assert_eq!(early.unwrap().reason, Reason::NotOpen);
        }
    }
}

#[test]
fn a_cancel_at_the_hold_deadline_wins_and_one_after_it_does_not() {
    for pause in [0, 60_000] {
        let mut rig = Rig::new();
        rig.append(START, &schedule(100, true));
        [1, 2].into_iter().for_each(|buyer| rig.append(START, &place(buyer)));
        let mut task = rig.task::<Reservations>(MemoryStore::default());
        rig.run(&mut task).unwrap();
        let deadline = later(START, 600_000);
        rig.append(deadline, &cancel(1));
        rig.append(later(deadline, 1), &cancel(2));
        rig.now = later(deadline, 1 + pause);
        rig.run(&mut task).unwrap();
        let all = statuses(&rig, &[1, 2]);
        assert_eq!(all, vec![Some(OrderStatus::Cancelled), Some(OrderStatus::Expired)]);
    }
}

#[test]
fn a_hold_counts_from_its_decision_so_that_a_backlog_costs_nobody_time() {
    let mut rig = Rig::new();
    rig.append(START, &schedule(100, true));
    rig.append(START, &place(1));
    rig.now = later(START, 90_000);
    let mut task = rig.task::<Reservations>(MemoryStore::default());
    rig.run(&mut task).unwrap();
    let fold = rig.assert_sound();
    let order = fold.orders.values().next().unwrap();
    assert_eq!(order.created_at, START);
    assert_eq!(order.hold_expires_at, Some(later(START, 90_000 + 600_000)));
}

#[test]
fn a_quiet_partition_ticks_once_and_fires() {
    let mut rig = Rig::new();
    rig.append(later(START, -1_000), &schedule(1, false));
    rig.now = later(START, -1_000);
    let mut task = rig.task::<Reservations>(MemoryStore::default());
    let wake = rig.run(&mut task).unwrap();
    assert_eq!(wake, Wake::OnIntents { until: Some(START) }, "it asks to be woken at the opening");
    assert_eq!(rig.broker.lock().ticks, 0);
    rig.now = START;
    rig.broker.lock().clock = START;
    rig.run(&mut task).unwrap();
    rig.run(&mut task).unwrap();
    assert_eq!(rig.broker.lock().ticks, 1);
    assert_eq!(rig.assert_sound().drops[&DROP].status, DropStatus::Live);
    let wake = rig.run(&mut task).unwrap();
    assert_eq!(wake, Wake::OnIntents { until: Some(later(END, 1)) });
}

/// Kafka tells the end of a quiet partition with the next empty fetch, which may be long in coming.
#[test]
fn a_log_that_is_slow_to_tell_its_end_delays_no_hold_and_keeps_no_core_busy() {
    let mut rig = Rig::new();
    rig.append(later(START, -1_000), &schedule(1, false));
    rig.broker.lock().hides_its_end = true;
    rig.broker.lock().clock = START;
    rig.now = START;
    let mut task = rig.task::<Reservations>(MemoryStore::default());
    let soon = later(START, 100);
    assert_eq!(rig.run(&mut task).unwrap(), Wake::OnIntents { until: Some(soon) });
    assert_eq!(rig.broker.lock().ticks, 0);
    rig.now = soon;
    rig.run(&mut task).unwrap();
    rig.run(&mut task).unwrap();
    assert_eq!(rig.assert_sound().drops[&DROP].status, DropStatus::Live);
}

#[test]
fn ticks_back_off_while_the_logs_clock_is_behind_ours() {
    let mut rig = Rig::new();
    rig.append(later(START, -10_000), &schedule(1, false));
    let mut task = rig.task::<Reservations>(MemoryStore::default());
    rig.broker.lock().clock = later(START, -5_000);
    let mut ticks = Vec::new();
    for millisecond in 0..20_000 {
        rig.now = later(START, millisecond);
        rig.run(&mut task).unwrap();
        let sent = rig.broker.lock().ticks;
        if sent > ticks.len() {
            ticks.push(millisecond);
        }
    }
    let gaps: Vec<_> = ticks.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert!(gaps.iter().all(|gap| (100..=5_000).contains(gap)), "{gaps:?}");
    assert!(gaps.last() > gaps.first() && ticks.len() < 12, "{gaps:?}");
    assert_eq!(
        rig.assert_sound().drops[&DROP].status,
        DropStatus::Upcoming,
        "no tick opens a drop early"
    );
}

#[test]
fn log_time_far_ahead_of_the_wall_clock_stalls_instead_of_lapsing_every_hold() {
    let mut rig = Rig::new();
    rig.append(START, &schedule(100, true));
    rig.append(START, &place(1));
    rig.append(later(START, 10_000_000), &place(2));
    let mut task = rig.task::<Reservations>(MemoryStore::default());
    assert!(matches!(rig.run(&mut task).unwrap(), Wake::At(_)));
    let PartitionState::Stalled(why) = rig.status.snapshot().state else { panic!() };
    assert!(why.contains("clock"), "{why}");
    let held = rig.audit().fold.orders.values().next().unwrap().status;
    assert_eq!(held, OrderStatus::Reserved);
    rig.now = later(START, 9_999_000);
    rig.run(&mut task).unwrap();
    rig.assert_sound();
}

#[test]
fn append_times_that_go_back_do_not_take_log_time_back() {
    let rig = decide(&[(1, later(END, 1)), (2, START)], later(END, 1), true);
    let rejected = Some(OrderStatus::Rejected);
    assert_eq!(statuses(&rig, &[1, 2]), vec![rejected, rejected]);
}
