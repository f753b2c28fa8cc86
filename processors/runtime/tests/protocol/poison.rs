//! Poison gets its one decision and the partition goes on; what might be read later waits.

use model::{
    Decided, Intent, Processor, ReadFailed, RowChange, Rows, Stamp, Timer, Topology,
    UnreadableIntent,
};
use reservations::Reservations;
use reservations::command::Command;
use reservations::rows::{StateRow, order_key};
use runtime::{MemoryStore, PartitionState, Wake, state_hash};
use schemas::avro::Codec;
use schemas::decision::{FIRST_LINK, Outcome, seal};
use schemas::ids::{IntentId, UserId};
use schemas::order::{OrderBody, OrderStatus};
use schemas::units::Millis;

use crate::life::order_of;
use crate::rig::*;

#[test]
fn every_kind_of_poison_is_one_undecodable_decision() {
    let good = framed(&place(1));
    let mut unknown_id = good.clone();
    unknown_id[4] = 200;
    let mut other_type = good.clone();
    other_type[4] = 2;
    let mut bare_place = place(9);
    bare_place.place = None;
    // The fifth byte is the schema's id, the kind follows the intent's id and the null of its correlation id.
    let mut endless_word = good[..=5 + 16].to_vec();
    endless_word.extend([0x80, 0x89, 0x7a]);
    endless_word.resize(endless_word.len() + 1_000_000, 0xff);
    // It can be read, and its decision would repeat the id.
    let mut endless_id = place(9);
    endless_id.correlation_id = Some("x".repeat(1_000_000));
    let rows = [
        ("a word of a megabyte", endless_word, "is no OrderIntentKind"),
        ("a correlation id of a megabyte", framed(&endless_id), "at most 262144 bytes"),
        ("random bytes", vec![0x8f, 1, 2, 3, 4, 5, 6], "magic byte"),
        ("empty", vec![], "5-byte"),
        ("text", b"{\"drop\":1}".to_vec(), "magic byte"),
        ("unknown schema id, healthy registry", unknown_id, "unknown to the registry"),
        ("a decision's schema", other_type, "not OrderIntent"),
        ("truncated", good[..good.len() - 5].to_vec(), ""),
        ("kind without its group", framed(&bare_place), "`place`"),
    ];
    let cases = rows.iter().flat_map(|row| BATCHINGS.map(|batching| (row, batching)));
    for ((name, value, expected), batching) in cases {
        let rig = Rig { batching, ..Rig::with_drop(1) };
        let length = value.len();
        rig.append_bytes(START, value.clone());
        rig.append(START, &place(1));
        let mut task = rig.task::<Reservations>(MemoryStore::default());
        rig.run(&mut task).unwrap();
        let decisions = rig.decisions();
        let [.., poison, after] = decisions.as_slice() else { panic!() };
        assert_eq!(poison.decision.outcome, Outcome::Undecodable, "{name}");
        let undecodable = poison.decision.undecodable.as_ref().unwrap();
        assert!(undecodable.error.contains(*expected), "{name}: {}", undecodable.error);
        assert!(undecodable.error.len() <= 1_024, "{name}: the log takes no decision of any size");
        assert_eq!(usize::try_from(undecodable.length).unwrap(), length);
        assert_eq!(after.decision.outcome, Outcome::Changed, "{name}: the partition goes on");
        rig.assert_sound();
    }
}

#[test]
fn a_gap_of_another_schema_waits_for_the_registry_and_is_folded_once() {
    let mut rig = Rig::with_drop(3);
    (1..=20).for_each(|buyer| rig.append(START, &place(buyer)));
    let mut owner = rig.task::<Reservations>(MemoryStore::default());
    rig.run(&mut owner).unwrap();
    let mut link = FIRST_LINK;
    for value in rig.broker.lock().decisions.iter_mut().flatten() {
        value[4] = 200;
        link = seal(link, value);
    }
    *rig.registry.is_away.lock().unwrap() = true;
    let mut task = rig.task::<Reservations>(MemoryStore::default());
    assert!(matches!(rig.run(&mut task).unwrap(), Wake::At(_)));
    assert!(rig.is_stalled());

    *rig.registry.is_away.lock().unwrap() = false;
    let current = schemas::avro::current("order-decisions-value").unwrap().text;
    rig.registry.texts.lock().unwrap().insert(200, current.to_owned());
    rig.now = Millis(rig.now.0 + 1_000);
    rig.run(&mut task).unwrap();
    assert_eq!(rig.assert_sound().orders.len(), 20);
    let (folded, decided) = (state_hash(task.store()).unwrap(), state_hash(owner.store()).unwrap());
    assert_eq!(folded, decided, "what was read before the stall is not the next attempt's");
}

#[test]
fn an_unknown_schema_id_waits_while_the_registry_is_away_or_has_lost_its_ids() {
    for batching in BATCHINGS {
        waits_for_its_schema(Rig { batching, ..Rig::with_drop(1) });
    }
}

fn waits_for_its_schema(mut rig: Rig) {
    let mut unknown = framed(&place(2));
    unknown[4] = 200;
    rig.append_bytes(START, unknown);
    rig.append(START, &place(1));
    let mut task = rig.task::<Reservations>(MemoryStore::default());
    *rig.registry.is_away.lock().unwrap() = true;
    assert!(matches!(rig.run(&mut task).unwrap(), Wake::At(_)));
    let PartitionState::Stalled(why) = rig.status.snapshot().state else { panic!() };
    assert!(why.contains("unreachable"), "{why}");

    *rig.registry.is_away.lock().unwrap() = false;
    let kept = std::mem::take(&mut *rig.registry.texts.lock().unwrap());
    assert!(matches!(rig.run(&mut task).unwrap(), Wake::At(_)));
    let PartitionState::Stalled(why) = rig.status.snapshot().state else { panic!() };
    assert!(why.contains("lost its schemas"), "{why}");
    assert_eq!(
        rig.outcomes().last(),
        Some(&Outcome::Changed),
        "nothing was decided past the stall"
    );

    // A newer producer's schema appears: the record was never poison.
    let current = schemas::avro::current("order-intents-value").unwrap().text;
    rig.registry.texts.lock().unwrap().extend(kept);
    rig.registry.texts.lock().unwrap().insert(200, current.to_owned());
    rig.now = Millis(rig.now.0 + 1_000);
    rig.run(&mut task).unwrap();
    let fold = rig.assert_sound();
    assert_eq!(fold.orders.len(), 2);
    assert_eq!(rig.status.snapshot().state, PartitionState::Running);
}

/// Reservations with bugs: the orders of one buyer panic, and the holds of another.
struct Panicking;

impl Processor for Panicking {
    type Command = Command;
    type Row = StateRow;
    type Body = OrderBody;
    const TOPOLOGY: Topology = Reservations::TOPOLOGY;
    const LOGIC_VERSION: i32 = 1;

    fn decision_codec() -> &'static Codec {
        Reservations::decision_codec()
    }

    fn read(codec: &Codec, datum: &[u8]) -> Result<Intent<Command>, UnreadableIntent> {
        Reservations::read(codec, datum)
    }

    fn decide(
        rows: &dyn Rows<StateRow>,
        command: &Command,
        stamp: Stamp,
    ) -> Result<Decided<OrderBody>, ReadFailed> {
        let unlucky = matches!(command, Command::Place { user, .. } if *user == UserId([13; 16]));
        assert!(!unlucky, "buyer 13");
        Reservations::decide(rows, command, stamp)
    }

    fn fire(
        rows: &dyn Rows<StateRow>,
        timer: &Timer,
        stamp: Stamp,
    ) -> Result<Option<OrderBody>, ReadFailed> {
        assert!(timer.row != order_key(order_of(15)), "hold 15");
        Reservations::fire(rows, timer, stamp)
    }

    fn changes(body: OrderBody) -> impl Iterator<Item = RowChange<StateRow>> {
        Reservations::changes(body)
    }

    fn record_key(body: &OrderBody) -> Option<[u8; 16]> {
        Reservations::record_key(body)
    }

    fn tick(intent_id: IntentId, now: Millis) -> Vec<u8> {
        Reservations::tick(intent_id, now)
    }
}

#[test]
fn a_decision_that_panics_is_poison_and_the_partition_goes_on() {
    let rig = Rig::with_drop(5);
    [12, 13, 14].into_iter().for_each(|buyer| rig.append(START, &place(buyer)));
    let mut task = rig.task::<Panicking>(MemoryStore::default());
    rig.run(&mut task).unwrap();
    let decisions = rig.decisions();
    let poison = &decisions[decisions.len() - 2].decision;
    assert_eq!(poison.outcome, Outcome::Undecodable);
    assert!(poison.undecodable.as_ref().unwrap().error.contains("buyer 13"));
    assert_eq!(rig.assert_sound().orders.len(), 2);
}

#[test]
fn a_timer_that_panics_stalls_the_partition_and_is_never_skipped() {
    let mut rig = Rig::new();
    rig.append(START, &schedule(5, true));
    rig.append(START, &place(14));
    rig.append(START, &place(15));
    let mut task = rig.task::<Panicking>(MemoryStore::default());
    rig.run(&mut task).unwrap();
    let lapsed = Millis(START.0 + 700_000);
    rig.now = lapsed;
    rig.append(lapsed, &place(16));
    for _ in 0..3 {
        rig.now = Millis(rig.now.0 + 10_000);
        assert!(matches!(rig.run(&mut task).unwrap(), Wake::At(_)));
    }
    let PartitionState::Stalled(why) = rig.status.snapshot().state else { panic!() };
    assert!(why.contains("hold 15"), "{why}");
    // What came before it is decided, once; nothing after it is, and no takeover is logged meanwhile.
    let outcomes = rig.outcomes();
    let owners = outcomes.iter().filter(|outcome| **outcome == Outcome::OwnerStarted).count();
    assert_eq!((owners, rig.audit().fold.orders.len()), (1, 2));

    // The build with the bug mended goes on where it stood.
    let mut mended = rig.task::<Reservations>(MemoryStore::default());
    rig.run(&mut mended).unwrap();
    let fold = rig.assert_sound();
    assert_eq!(fold.orders[&order_of(15)].status, OrderStatus::Expired);
    assert_eq!(fold.orders.len(), 3);
}
