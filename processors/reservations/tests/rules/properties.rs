//! Random histories: whatever is sent, in whatever order and at whatever time, the auditor agrees.

use auditor::LoggedDecision;
use model::{LoneRow, MapRows, Processor, Row, RowChange, RowKey};
use proptest::prelude::*;
use reservations::Reservations;
use reservations::rows::{StateRow, buyer_key, order_key};
use schemas::decision::{Decision, DecisionHeader, Outcome};
use schemas::ids::{DropId, OrderId, UserId};
use schemas::order::{
    OrderBody, OrderIntent, OrderIntentKind, ProviderOperationKind, ProviderResult, ScheduleDrop,
};
use schemas::units::Millis;

use crate::world::*;

#[derive(Clone, Debug)]
enum Act {
    Place {
        user: u8,
        key: u8,
        small: i32,
        large: i32,
        pays: bool,
        waits: bool,
    },
    Buyer {
        user: u8,
        key: u8,
        kind: OrderIntentKind,
    },
    Outcome {
        user: u8,
        key: u8,
        attempt: i32,
        operation: ProviderOperationKind,
        result: ProviderResult,
        odd: u8,
    },
    Provider {
        result: ProviderResult,
    },
    Creator {
        kind: OrderIntentKind,
    },
    Supply {
        kind: OrderIntentKind,
        large: bool,
        qty: i64,
        key: u8,
    },
    Refund {
        user: u8,
        key: u8,
        restock: bool,
    },
    Edit {
        hold_seconds: i32,
    },
    Tick,
}

fn operation() -> impl Strategy<Value = ProviderOperationKind> {
    use ProviderOperationKind::{Authorise, Capture, Refund, Void};
    prop_oneof![Just(Authorise), Just(Capture), Just(Void), Just(Refund)]
}

fn result() -> impl Strategy<Value = ProviderResult> {
    use ProviderResult::{Failed, NeedsAction, Succeeded};
    prop_oneof![6 => Just(Succeeded), 3 => Just(Failed), 1 => Just(NeedsAction)]
}

fn act() -> impl Strategy<Value = Act> {
    use OrderIntentKind as Kind;
    let buyer = prop_oneof![3 => Just(Kind::Cancel), 1 => Just(Kind::Extend), 3 => Just(Kind::Pay)];
    let creator = prop_oneof![
        2 => Just(Kind::Open), 1 => Just(Kind::Close), 4 => Just(Kind::Pause), 6 => Just(Kind::Resume),
        1 => Just(Kind::Abort)
    ];
    let supply = prop_oneof![2 => Just(Kind::Restock), 1 => Just(Kind::Withdraw)];
    prop_oneof![
        20 => (0..6_u8, 0..4_u8, 0..4_i32, 0..3_i32, any::<bool>(), any::<bool>())
            .prop_map(|(user, key, small, large, pays, waits)| Act::Place { user, key, small, large, pays, waits }),
        8 => (0..6_u8, 0..4_u8, buyer).prop_map(|(user, key, kind)| Act::Buyer { user, key, kind }),
        6 => (0..6_u8, 0..4_u8, 0..4_i32, operation(), result(), 0..8_u8).prop_map(
            |(user, key, attempt, operation, result, odd)| Act::Outcome { user, key, attempt, operation, result, odd }),
        14 => result().prop_map(|result| Act::Provider { result }),
        3 => creator.prop_map(|kind| Act::Creator { kind }),
        3 => (supply, any::<bool>(), 0..4_i64, 0..6_u8)
            .prop_map(|(kind, large, qty, key)| Act::Supply { kind, large, qty, key }),
        3 => (0..6_u8, 0..4_u8, any::<bool>()).prop_map(|(user, key, restock)| Act::Refund { user, key, restock }),
        1 => (0..100_i32).prop_map(|hold_seconds| Act::Edit { hold_seconds }),
        4 => Just(Act::Tick),
    ]
}

fn user(byte: u8) -> UserId {
    UserId([byte; 16])
}

/// The intent of an act; `None` where the provider has nothing to answer.
fn intent_of(world: &World, act: &Act) -> Option<OrderIntent> {
    Some(match *act {
        Act::Place { user: who, key, small, large, pays, waits } => {
            let lines: Vec<_> =
                [(SMALL, small), (LARGE, large)].into_iter().filter(|(_, qty)| *qty > 0).collect();
            let lines = if lines.is_empty() { vec![(SMALL, 0)] } else { lines };
            let intent = place(user(who), &key.to_string(), &lines);
            let intent = if waits { or_wait(intent) } else { intent };
            if pays { paid_with(intent, "pm_1") } else { intent }
        }
        Act::Buyer { user: who, key, kind } => {
            let key = key.to_string();
            match kind {
                OrderIntentKind::Cancel => {
                    cancel(user(who), OrderId::derive(DROP, user(who), &key))
                }
                OrderIntentKind::Extend => extend(user(who), &key),
                _ => pay(user(who), &key),
            }
        }
        // Anything at any time: late, twice, for what was never asked, of another amount.
        Act::Outcome { user: who, key, attempt, operation, result, odd } => {
            let mut intent = outcome((user(who), &key.to_string()), attempt, operation, result);
            let outcome = intent.payment_outcome.as_mut().unwrap();
            outcome.captured = odd == 0;
            if odd > 1
                && let Some(order) = world.find_order(outcome.order_id)
            {
                outcome.amount = order.total;
            }
            intent
        }
        Act::Provider { result } => world.answer_of_provider(result)?,
        Act::Creator { kind } => command(kind, DROP, CREATOR),
        Act::Supply { kind, large, qty, key } => {
            supply(kind, if large { LARGE } else { SMALL }, qty, key)
        }
        Act::Refund { user: who, key, restock } => {
            refund(user(who), &key.to_string(), restock, who * 4 + key)
        }
        Act::Edit { hold_seconds } => edit(|edit| edit.hold_seconds = Some(hold_seconds)),
        Act::Tick => tick(),
    })
}

#[derive(Clone, Debug)]
struct History {
    free: bool,
    waitlist: bool,
    limit: Option<i32>,
    acts: Vec<(Act, i64)>,
}

fn history() -> impl Strategy<Value = History> {
    let limit = prop_oneof![Just(None), (1..8_i32).prop_map(Some)];
    // Append times go back too, as leaders change.
    let acts = prop::collection::vec(
        (act(), prop_oneof![4 => -2_000..20_000_i64, 1 => 0..400_000_i64]),
        1..120,
    );
    (prop::bool::weighted(0.2), prop::bool::weighted(0.7), limit, acts)
        .prop_map(|(free, waitlist, limit, acts)| History { free, waitlist, limit, acts })
}

fn played(history: &History) -> World {
    let mut world = World::with_drop(|terms: &mut ScheduleDrop| {
        terms.payment_required = !history.free;
        terms.waitlist = history.waitlist;
        terms.limit_per_user = history.limit;
        terms.hold_seconds = 60;
        terms.offer_seconds = 30;
        if history.free {
            terms.variants.iter_mut().for_each(|variant| variant.price.0 = 0);
        }
    });
    let mut now = Millis(START.0 - 20_000);
    for (act, step) in &history.acts {
        now = Millis(now.0 + step);
        if let Some(intent) = intent_of(&world, act) {
            world.send(now, intent);
        }
    }
    world
}

type Told = Option<(DecisionHeader, RowKey, Vec<u8>)>;

/// What is told of a decision's lone row, and what reading it whole says.
fn lone_row_told_and_left(decision: &Decision<OrderBody>) -> (Told, Told) {
    let mut datum = Vec::new();
    Reservations::decision_codec().encode(decision, &mut datum);
    let told = Reservations::lone_row(&datum)
        .map(|LoneRow { header, key, bytes }| (header, key, datum[bytes].to_vec()));
    let changes = decision.body.clone().into_iter().flat_map(Reservations::changes);
    let left = match &changes.collect::<Vec<_>>()[..] {
        [RowChange::Put(row)]
            if row.is_first() && row.timer().is_none() && row.queue().is_none() =>
        {
            let mut bytes = Vec::new();
            row.encode(&mut bytes);
            Some((decision.header.clone(), row.key(), bytes))
        }
        _ => None,
    };
    if told.is_some() {
        let shorter = (0..datum.len()).find(|end| Reservations::lone_row(&datum[..*end]).is_some());
        assert_eq!(shorter, None, "cut off");
        datum.push(0);
        assert_eq!(Reservations::lone_row(&datum), None, "a byte too many");
    }
    (told, left)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_500, ..ProptestConfig::default() })]

    /// I1: after every decision, whatever came before it, units are conserved and nothing is oversold.
    #[test]
    fn units_are_conserved_and_nothing_is_oversold(history in history()) {
        let report = played(&history).audit();
        prop_assert_eq!(report.findings, vec![]);
        prop_assert_eq!(auditor::stock::oversold(&report.fold), 0);
    }

    /// I2: every intent has one decision, and sending the whole history again changes no order.
    #[test]
    fn every_intent_is_answered_once_and_repeated_keys_change_nothing(history in history()) {
        let mut world = played(&history);
        let report = world.audit();
        prop_assert_eq!(report.decided, i64::try_from(world.intents().len()).unwrap());
        let orders: Vec<_> = report.fold.orders.keys().copied().collect();
        for intent in world.intents().to_vec() {
            let intent = intent.intent.unwrap();
            let known = intent.place.as_ref().is_some_and(|place| orders.contains(&place.order_id));
            if intent.kind == OrderIntentKind::Place && known {
                let again = world.send(Millis(0), intent);
                prop_assert!(matches!(again.outcome, Outcome::Replayed | Outcome::KeyReused));
            }
        }
        prop_assert_eq!(world.audit().findings, vec![]);
    }

    /// I4: the rows are the fold of the decisions alone, at every prefix.
    #[test]
    fn folding_the_decisions_gives_the_rows(history in history()) {
        let world = played(&history);
        let fold = |decisions: &[LoggedDecision]| {
            let mut rows = MapRows::default();
            let bodies = decisions.iter().filter_map(|logged| logged.decision.body.clone());
            bodies.flat_map(Reservations::changes).for_each(|change| rows.apply(change));
            rows
        };
        let folded = fold(world.decisions());
        prop_assert!(folded.iter().eq(world.rows().iter()));
        prop_assert_eq!(folded.first_timer(), world.rows().first_timer());
    }

    /// A fold copies a lone row and reads no more of its decision: were it told of one where there is more to do, a
    /// restart would lose a row, a deadline or a place in the waitlist.
    #[test]
    fn a_lone_row_is_all_that_its_decision_leaves(history in history()) {
        for LoggedDecision { decision, .. } in played(&history).decisions() {
            let (told, left) = lone_row_told_and_left(decision);
            prop_assert_eq!(told, left);
            // Deadlines and places come with other rows today, which alone makes a decision none of a lone row.
            for order in decision.body.iter().flat_map(|body| &body.orders) {
                let body = OrderBody { orders: [order.clone()].into_iter().collect(), ..OrderBody::default() };
                let (told, left) = lone_row_told_and_left(&Decision { body: Some(body), ..decision.clone() });
                prop_assert_eq!(told, left);
            }
        }
    }

    /// I8: lag is nobody's loss. A writer that decides everything an hour late gives every hold its whole
    /// length and judges every instant by the log's time.
    #[test]
    fn a_writer_that_lags_costs_nobody_a_hold(history in history(), lag in 0..3_600_000_i64) {
        let prompt = played(&history);
        let mut late = World::lagging(lag);
        for intent in prompt.intents() {
            late.send(intent.append_time, intent.intent.clone().unwrap());
        }
        let report = late.audit();
        prop_assert_eq!(report.findings, vec![]);
        for order in report.fold.orders.values() {
            if let Some(deadline) = order.hold_expires_at.filter(|_| !order.from_waitlist) {
                prop_assert!(deadline.0 >= order.created_at.0 + lag);
            }
        }
    }
}

/// One for each order would grow without end, one for all drops would never be ruled out after a restart.
#[test]
fn the_orders_and_the_buyers_of_a_drop_are_a_group_each() {
    let group = |key: RowKey| {
        let mut tables = StateRow::MOSTLY_MISSING.iter();
        let table = tables.find(|groups| groups.table == key.tag()).unwrap();
        key.as_bytes()[..table.prefix_bytes].to_vec()
    };
    let groups = |drop: u8, user: u8| {
        let (drop, user) = (DropId([drop; 16]), UserId([user; 16]));
        [order_key(OrderId::derive(drop, user, "key")), buyer_key(drop, user)].map(group)
    };
    assert_eq!(groups(1, 1), groups(1, 2));
    let [order, buyer] = groups(1, 1);
    let [other_order, other_buyer] = groups(2, 1);
    assert!(order != other_order && buyer != other_buyer && order != buyer);
}
