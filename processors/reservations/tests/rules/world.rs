//! A partition without runtime: rows in a map, timers fired as the log protocol says, every decision
//! encoded, chained and kept for the auditor.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::Arc;

use auditor::{LoggedDecision, LoggedIntent};
use model::{Processor, ReadFailed, Row, RowKey, Rows, Stamp, Timer};
use reservations::Reservations;
use reservations::rows::StateRow;
use schemas::avro;
use schemas::decision::{Decision, DecisionHeader, FIRST_LINK, Genesis, Outcome, seal};
use schemas::framing;
use schemas::ids::{
    Chain, CreatorId, DropId, Hash, IntentId, OrderId, ProductId, UserId, VariantId,
};
use schemas::order::*;
use schemas::partition::Partition;
use schemas::units::{Millis, MinorUnits, Units};

pub(crate) const DROP: DropId = DropId([0xd0; 16]);
pub(crate) const CREATOR: CreatorId = CreatorId([0xc0; 16]);
pub(crate) const ANNA: UserId = UserId([0xa0; 16]);
pub(crate) const BEN: UserId = UserId([0xb0; 16]);
pub(crate) const SMALL: VariantId = VariantId([1; 16]);
pub(crate) const LARGE: VariantId = VariantId([2; 16]);
pub(crate) const START: Millis = Millis(1_000_000);
pub(crate) const END: Millis = Millis(2_000_000);

#[derive(Default)]
struct MapRows(RefCell<BTreeMap<RowKey, Arc<StateRow>>>);

impl Rows<StateRow> for MapRows {
    fn get(&self, key: &RowKey) -> Result<Option<Arc<StateRow>>, ReadFailed> {
        Ok(self.0.borrow().get(key).cloned())
    }
}

pub(crate) struct World {
    rows: MapRows,
    now: Millis,
    link: Chain,
    intents: Vec<LoggedIntent>,
    decisions: Vec<LoggedDecision>,
}

impl World {
    pub(crate) fn new() -> Self {
        let mut world = Self {
            rows: MapRows::default(),
            now: Millis(0),
            link: FIRST_LINK,
            intents: Vec::new(),
            decisions: Vec::new(),
        };
        let genesis =
            Genesis { log_id: "test".into(), partition: 0, partition_count: 1, format: 1 };
        let header = world.header(None, None);
        let unsealed = Decision::unsealed(header, Outcome::Genesis, None);
        world.log(Decision { genesis: Some(genesis), ..unsealed });
        world
    }

    /// A world with the usual drop: two variants of 10 and 5 units at 1,999, limit 6, hold 600 s.
    pub(crate) fn with_drop(change: impl FnOnce(&mut ScheduleDrop)) -> Self {
        let mut world = Self::new();
        let mut terms = terms();
        change(&mut terms);
        let decision = world.send(Millis(500_000), schedule(DROP, terms));
        assert_eq!(decision.outcome, Outcome::Changed);
        world
    }

    fn header(&self, intent_offset: Option<i64>, intent_id: Option<IntentId>) -> DecisionHeader {
        DecisionHeader {
            seq: i64::try_from(self.decisions.len()).unwrap(),
            epoch: 0,
            intent_offset,
            next_intent_offset: i64::try_from(self.intents.len()).unwrap(),
            intent_id,
            correlation_id: None,
            log_time: self.now,
            decided_at: self.now,
            logic_version: 1,
        }
    }

    fn log(&mut self, decision: Decision<OrderBody>) -> Decision<OrderBody> {
        let mut value = Vec::new();
        framing::start(&mut value, 1);
        avro::ORDER_DECISION.encode(&decision, &mut value);
        self.link = seal(self.link, &mut value);
        let decision = Decision { chain: self.link, ..decision };
        if let Some(body) = decision.body.clone() {
            for row in Reservations::rows(body) {
                let mut bytes = Vec::new();
                row.encode(&mut bytes);
                assert_eq!(StateRow::decode(row.key().tag(), &bytes).unwrap(), row);
                self.rows.0.borrow_mut().insert(row.key(), Arc::new(row));
            }
        }
        let offset = i64::try_from(self.decisions.len()).unwrap();
        self.decisions.push(LoggedDecision { offset, value, decision: decision.clone() });
        decision
    }

    fn stamp(&self) -> Stamp {
        let offset = i64::try_from(self.intents.len()).unwrap();
        Stamp { partition: Partition(0), offset, log_time: self.now, decided_at: self.now }
    }

    /// Appends an intent at `at` and decides it, due timers first.
    pub(crate) fn send(&mut self, at: Millis, intent: OrderIntent) -> Decision<OrderBody> {
        self.now = self.now.max(at);
        loop {
            let timers = self.rows.0.borrow().values().filter_map(|row| row.timer()).min();
            let Some(timer) = timers.filter(|timer| timer.is_due(self.now)) else { break };
            let body = Reservations::fire(&self.rows, &timer, self.stamp()).unwrap();
            let header = self.header(None, None);
            self.log(Decision::unsealed(header, Outcome::Changed, body));
        }
        let mut datum = Vec::new();
        avro::ORDER_INTENT.encode(&intent, &mut datum);
        let read = Reservations::read(&avro::ORDER_INTENT, &datum).unwrap();
        let decided = Reservations::decide(&self.rows, &read.command, self.stamp()).unwrap();
        let offset = i64::try_from(self.intents.len()).unwrap();
        self.intents.push(LoggedIntent { offset, append_time: at, intent: Some(intent) });
        let header = self.header(Some(offset), Some(read.intent_id));
        self.log(Decision::unsealed(header, decided.outcome, decided.body))
    }

    pub(crate) fn timer_of(&self, key: RowKey) -> Option<Timer> {
        self.rows.0.borrow().get(&key).and_then(|row| row.timer())
    }

    pub(crate) fn audit(&self) -> auditor::Report {
        auditor::audit(&self.intents, &self.decisions)
    }

    /// Ends a test: the auditor must agree with everything that happened.
    pub(crate) fn assert_sound(&self) -> auditor::Fold {
        let report = self.audit();
        assert_eq!(report.findings, vec![]);
        assert_eq!(report.undecided, 0);
        report.fold
    }
}

pub(crate) fn terms() -> ScheduleDrop {
    let variant = |variant_id, stock| VariantSpec {
        variant_id,
        name: "size".into(),
        stock: Units(stock),
        price: MinorUnits(1_999),
    };
    ScheduleDrop {
        creator_id: CREATOR,
        schedule_key: Hash([1; 16]),
        request_hash: Hash([2; 16]),
        product_id: ProductId([3; 16]),
        title: "Night Run".into(),
        starts_at: START,
        ends_at: END,
        time_zone: None,
        currency: "EUR".into(),
        variants: vec![variant(LARGE, 5), variant(SMALL, 10)],
        limit_per_user: Some(6),
        hold_seconds: 600,
        low_stock_threshold: Units(1),
        payment_required: true,
    }
}

fn bare(kind: OrderIntentKind, actor: UserId) -> OrderIntent {
    OrderIntent { actor: Some(actor), ..OrderIntent::bare(IntentId([7; 16]), kind, Millis(0)) }
}

pub(crate) fn schedule(drop: DropId, terms: ScheduleDrop) -> OrderIntent {
    OrderIntent {
        drop_id: Some(drop),
        schedule: Some(terms),
        ..bare(OrderIntentKind::Schedule, UserId(CREATOR.0))
    }
}

pub(crate) fn command(kind: OrderIntentKind, drop: DropId, creator: CreatorId) -> OrderIntent {
    let command = CreatorCommand { creator_ids: vec![creator], admin: false };
    OrderIntent {
        drop_id: Some(drop),
        creator_command: Some(command),
        ..bare(kind, UserId(creator.0))
    }
}

pub(crate) fn place(user: UserId, key: &str, lines: &[(VariantId, i32)]) -> OrderIntent {
    let lines: Vec<_> = lines
        .iter()
        .map(|(variant_id, qty)| OrderLine { variant_id: *variant_id, qty: *qty })
        .collect();
    let meaning: Vec<u8> = lines
        .iter()
        .flat_map(|line| [&line.variant_id.0[..], &line.qty.to_be_bytes()].concat())
        .collect();
    let order = PlaceOrder {
        order_id: OrderId::derive(DROP, user, key),
        request_hash: Hash::of(&[&meaning]),
        lines,
        payment_method: None,
        if_sold_out: IfSoldOut::Reject,
        expected_total: None,
        expected_currency: None,
    };
    OrderIntent { drop_id: Some(DROP), place: Some(order), ..bare(OrderIntentKind::Place, user) }
}

pub(crate) fn expecting(mut intent: OrderIntent, total: i64, currency: &str) -> OrderIntent {
    let order = intent.place.as_mut().unwrap();
    order.expected_total = Some(MinorUnits(total));
    order.expected_currency = Some(currency.into());
    intent
}

pub(crate) fn cancel(user: UserId, order_id: OrderId) -> OrderIntent {
    OrderIntent {
        order_change: Some(OrderChange { order_id }),
        ..bare(OrderIntentKind::Cancel, user)
    }
}

pub(crate) fn tick() -> OrderIntent {
    OrderIntent::bare(IntentId([9; 16]), OrderIntentKind::Tick, Millis(0))
}

pub(crate) fn reason(decision: &Decision<OrderBody>) -> Option<Reason> {
    decision.body.as_ref()?.refusal.as_ref().map(|refusal| refusal.reason)
}

pub(crate) fn order(decision: &Decision<OrderBody>) -> &OrderRow {
    let body = decision.body.as_ref().unwrap();
    body.orders.first().or(body.answer.as_ref()).unwrap()
}
