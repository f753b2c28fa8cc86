//! `decide` + `apply` on one thread, rows in a hash map: what the rules cost without log, Avro and store.

#![allow(missing_docs, clippy::unwrap_used, reason = "a bench")]

use std::hint::black_box;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use model::{Processor, QueueKey, ReadFailed, Row, RowChange, RowKey, Rows, Stamp};
use reservations::Reservations;
use reservations::command::{BuyerCommand, Caller, Command, DropCommand};
use reservations::rows::StateRow;
use rustc_hash::FxHashMap;
use schemas::ids::{CreatorId, DropId, Hash, OrderId, ProductId, UserId};
use schemas::order::{
    IfSoldOut, OrderLine, PaymentOutcome, PlaceOrder, ProviderOperationKind, ProviderResult,
    ScheduleDrop, StockChange, VariantSpec,
};
use schemas::partition::Partition;
use schemas::units::{Millis, MinorUnits, Units};

// The program's, so that a row costs here what it costs there.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

const DROP: DropId = DropId([0xd0; 16]);
const CREATOR: CreatorId = CreatorId([0xc0; 16]);
const ORDERS: u32 = 10_000;

/// Rows in a hash map; nobody waits in this bench, so queues are empty.
#[derive(Clone, Default)]
struct HashRows(FxHashMap<RowKey, StateRow>);

impl Rows<StateRow> for HashRows {
    fn get(&self, key: &RowKey) -> Result<Option<StateRow>, ReadFailed> {
        Ok(self.0.get(key).cloned())
    }

    fn next_in_queue(&self, _from: &QueueKey) -> Option<(QueueKey, RowKey)> {
        None
    }

    fn keys_after(
        &self,
        _prefix: &RowKey,
        _after: Option<&RowKey>,
        _limit: usize,
    ) -> Result<Vec<RowKey>, ReadFailed> {
        Ok(Vec::new())
    }
}

impl HashRows {
    fn send(&mut self, command: &Command, offset: i64) {
        let stamp = Stamp {
            partition: Partition(0),
            seq: offset,
            logic_version: Reservations::LOGIC_VERSION,
            offset,
            log_time: Millis(1_000),
            decided_at: Millis(1_000),
        };
        let decided = Reservations::decide(self, command, stamp).unwrap();
        let Some(body) = decided.body else { return };
        Reservations::changes(body).for_each(|change| match change {
            RowChange::Put(row) => drop(self.0.insert(row.key(), row)),
            RowChange::Delete(key) => drop(self.0.remove(&key)),
        });
    }
}

fn live_drop(stock: i64) -> HashRows {
    let terms = ScheduleDrop {
        creator_id: CREATOR,
        schedule_key: Hash([1; 16]),
        request_hash: Hash([2; 16]),
        product_id: ProductId([3; 16]),
        title: "Bench".into(),
        starts_at: Millis(0),
        ends_at: Millis(i64::MAX / 1_000_000),
        time_zone: None,
        currency: "EUR".into(),
        variants: vec![VariantSpec {
            variant_id: DROP.plain_variant(),
            name: String::new(),
            stock: Units(stock),
            price: MinorUnits(1_999),
        }],
        limit_per_user: None,
        hold_seconds: 600,
        low_stock_threshold: Units(0),
        payment_required: true,
        offer_seconds: 600,
        waitlist: false,
        payment_attempts: 3,
    };
    let mut rows = HashRows::default();
    rows.send(&Command::Schedule { drop: DROP, terms: Box::new(terms) }, 0);
    rows
}

fn user(number: u32) -> UserId {
    let mut id = [0xa0; 16];
    id[..4].copy_from_slice(&number.to_be_bytes());
    UserId(id)
}

fn order_id(number: u32) -> OrderId {
    OrderId::derive(DROP, user(number), "key")
}

fn place(number: u32) -> Command {
    let order = PlaceOrder {
        order_id: order_id(number),
        request_hash: Hash([4; 16]),
        lines: [OrderLine { variant_id: DROP.plain_variant(), qty: 1 }].into(),
        payment_method: Some("pm".into()),
        if_sold_out: IfSoldOut::Reject,
        expected_total: None,
        expected_currency: None,
    };
    Command::Place { user: user(number), drop: DROP, order }
}

fn buyer(number: u32, what: BuyerCommand) -> Command {
    Command::Buyer { user: user(number), order: order_id(number), what }
}

fn outcome(number: u32, operation: ProviderOperationKind) -> Command {
    Command::PaymentOutcome(PaymentOutcome {
        order_id: order_id(number),
        attempt: 1,
        operation,
        result: ProviderResult::Succeeded,
        captured: false,
        amount: MinorUnits(1_999),
        currency: "EUR".into(),
        detail: None,
        reference: None,
    })
}

fn restock(number: u32) -> Command {
    let mut key = [0; 16];
    key[..4].copy_from_slice(&number.to_be_bytes());
    let supply = StockChange {
        variant_id: None,
        qty: Units(1),
        key: Hash(key),
        request_hash: Hash([5; 16]),
    };
    let caller = Caller { creators: vec![CREATOR], admin: false };
    Command::Creator { drop: DROP, caller, what: DropCommand::Restock(supply) }
}

/// Commands of one kind after the ones that lead up to them.
fn measure(
    criterion: &mut Criterion,
    name: &str,
    stock: i64,
    before: &[&dyn Fn(u32) -> Command],
    measured: impl Fn(u32) -> Command,
) {
    let mut group = criterion.benchmark_group("decide + apply");
    group.throughput(Throughput::Elements(u64::from(ORDERS)));
    let mut rows = live_drop(stock);
    for step in before {
        (0..ORDERS).for_each(|number| rows.send(&step(number), i64::from(number) + 1));
    }
    let commands: Vec<_> = (0..ORDERS).map(measured).collect();
    group.bench_function(name, |bencher| {
        bencher.iter_batched_ref(
            || {
                let mut rows = rows.clone();
                rows.0.reserve(ORDERS as usize);
                rows
            },
            |rows| {
                for (command, offset) in commands.iter().zip(1..) {
                    rows.send(black_box(command), offset);
                }
            },
            BatchSize::LargeInput,
        );
    });
    group.finish();
}

fn decide(criterion: &mut Criterion) {
    let lots = 10_000_000;
    measure(criterion, "place, 1 % win", i64::from(ORDERS / 100), &[], place);
    measure(criterion, "place, all win", lots, &[], place);
    measure(criterion, "place, replayed", lots, &[&place], place);
    measure(criterion, "cancel", lots, &[&place], |n| buyer(n, BuyerCommand::Cancel));
    measure(criterion, "extend", lots, &[&place], |n| buyer(n, BuyerCommand::Extend));
    let authorise = |n| outcome(n, ProviderOperationKind::Authorise);
    measure(criterion, "authorised", lots, &[&place], authorise);
    measure(criterion, "captured", lots, &[&place, &authorise], |n| {
        outcome(n, ProviderOperationKind::Capture)
    });
    measure(criterion, "restock", 1_000, &[], restock);
}

criterion_group!(benches, decide);
criterion_main!(benches);
