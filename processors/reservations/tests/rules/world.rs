//! A partition without runtime: rows in a map, timers fired as the log protocol says, every decision
//! encoded, chained and kept for the auditor.

use std::sync::Arc;

use auditor::{LoggedDecision, LoggedIntent};
use model::{MapRows, Processor, Row, RowChange, RowKey, Rows, Stamp, Timer};
use reservations::Reservations;
use reservations::rows::{StateRow, order_key, stock_key};
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

pub(crate) struct World {
    pub(crate) logic_version: i32,
    lag: Millis,
    rows: MapRows<StateRow>,
    now: Millis,
    link: Chain,
    intents: Vec<LoggedIntent>,
    decisions: Vec<LoggedDecision>,
}

impl World {
    pub(crate) fn new() -> Self {
        let mut world = Self {
            logic_version: Reservations::LOGIC_VERSION,
            lag: Millis(0),
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
        world.log(Decision { genesis: Some(Box::new(genesis)), ..unsealed });
        world
    }

    /// A world whose writer reads every intent so long after it was appended.
    pub(crate) fn lagging(lag_ms: i64) -> Self {
        Self { lag: Millis(lag_ms), ..Self::new() }
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
            decided_at: self.now.after(self.lag),
            logic_version: self.logic_version,
        }
    }

    fn log(&mut self, decision: Decision<OrderBody>) -> Decision<OrderBody> {
        let mut value = Vec::new();
        framing::start(&mut value, 1);
        avro::ORDER_DECISION.encode(&decision, &mut value);
        self.link = seal(self.link, &mut value);
        let decision = Decision { chain: self.link, ..decision };
        if let Some(body) = decision.body.clone() {
            self.logic_version = body.activated.unwrap_or(self.logic_version);
            for change in Reservations::changes(body) {
                if let RowChange::Put(row) = &change {
                    let mut bytes = Vec::new();
                    row.encode(&mut bytes);
                    assert_eq!(StateRow::decode(row.key().tag(), &bytes).unwrap(), *row);
                }
                self.rows.apply(change);
            }
        }
        let offset = i64::try_from(self.decisions.len()).unwrap();
        self.decisions.push(LoggedDecision { offset, value, decision: decision.clone() });
        decision
    }

    fn stamp(&self) -> Stamp {
        let offset = i64::try_from(self.intents.len()).unwrap();
        Stamp {
            partition: Partition(0),
            seq: i64::try_from(self.decisions.len()).unwrap(),
            logic_version: self.logic_version,
            offset,
            log_time: self.now,
            decided_at: self.now.after(self.lag),
        }
    }

    fn fire_due(&mut self, only_continuations: bool) {
        loop {
            let first = self.rows.first_timer();
            let Some(timer) = first.filter(|timer| timer.is_due(self.now)) else { break };
            if only_continuations && !timer.is_continuation() {
                break;
            }
            let body = Reservations::fire(&self.rows, &timer, self.stamp()).unwrap();
            let header = self.header(None, None);
            self.log(Decision::unsealed(header, Outcome::Changed, body));
        }
    }

    /// Appends an intent at `at` and decides it, due timers first.
    pub(crate) fn send(&mut self, at: Millis, intent: OrderIntent) -> Decision<OrderBody> {
        self.now = self.now.max(at);
        self.fire_due(false);
        let mut datum = Vec::new();
        avro::ORDER_INTENT.encode(&intent, &mut datum);
        let read = Reservations::read(&avro::ORDER_INTENT, &datum).unwrap();
        let decided = Reservations::decide(&self.rows, &read.command, self.stamp()).unwrap();
        let offset = i64::try_from(self.intents.len()).unwrap();
        self.intents.push(LoggedIntent { offset, append_time: at, intent: Some(intent) });
        let header = self.header(Some(offset), Some(read.intent_id));
        let logged = self.log(Decision::unsealed(header, decided.outcome, decided.body));
        self.fire_due(true);
        logged
    }

    fn row(&self, key: RowKey) -> StateRow {
        self.rows.get(&key).unwrap().unwrap()
    }

    /// The order as it is now.
    pub(crate) fn order(&self, user: UserId, key: &str) -> OrderRow {
        let row = self.row(order_key(OrderId::derive(DROP, user, key)));
        let StateRow::Order(order) = row else { panic!("not an order") };
        Arc::unwrap_or_clone(order)
    }

    pub(crate) fn status(&self, user: UserId, key: &str) -> OrderStatus {
        self.order(user, key).status
    }

    pub(crate) fn stock(&self, variant: VariantId) -> StockRow {
        let row = self.row(stock_key(DROP, variant));
        let StateRow::Stock(stock) = row else { panic!("no stock") };
        *stock
    }

    pub(crate) fn rows(&self) -> &MapRows<StateRow> {
        &self.rows
    }

    pub(crate) fn intents(&self) -> &[LoggedIntent] {
        &self.intents
    }

    pub(crate) fn find_order(&self, id: OrderId) -> Option<OrderRow> {
        match self.rows.get(&order_key(id)).unwrap() {
            Some(StateRow::Order(order)) => Some(Arc::unwrap_or_clone(order)),
            _ => None,
        }
    }

    /// What a provider answers that was asked the first operation outstanding.
    pub(crate) fn answer_of_provider(&self, result: ProviderResult) -> Option<OrderIntent> {
        let asked = self.rows.iter().find_map(|(_, row)| match row {
            StateRow::Order(order) => Some((order, order.operation?)),
            _ => None,
        });
        let (order, operation) = asked?;
        let mut intent = outcome((order.user_id, ""), operation.attempt, operation.kind, result);
        let outcome = intent.payment_outcome.as_mut().unwrap();
        outcome.order_id = order.order_id;
        outcome.amount = order.total;
        Some(intent)
    }

    pub(crate) fn decisions(&self) -> &[LoggedDecision] {
        &self.decisions
    }

    pub(crate) fn rows_left(&self) -> usize {
        self.rows.iter().count()
    }

    pub(crate) fn timer_of(&self, key: RowKey) -> Option<Timer> {
        self.rows.get(&key).unwrap().and_then(|row| row.timer())
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
        offer_seconds: 300,
        waitlist: false,
        payment_attempts: 2,
    }
}

fn bare(kind: OrderIntentKind, actor: UserId) -> OrderIntent {
    OrderIntent { actor: Some(actor), ..OrderIntent::bare(IntentId([7; 16]), kind, Millis(0)) }
}

pub(crate) fn schedule(drop: DropId, terms: ScheduleDrop) -> OrderIntent {
    OrderIntent {
        drop_id: Some(drop),
        schedule: Some(Box::new(terms)),
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
        lines: lines.into(),
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
    decision.body.as_ref().unwrap().order().unwrap()
}

fn by_creator(kind: OrderIntentKind) -> OrderIntent {
    command(kind, DROP, CREATOR)
}

/// An order paid with a method, hence authorised at once.
pub(crate) fn paid_with(mut intent: OrderIntent, method: &str) -> OrderIntent {
    intent.place.as_mut().unwrap().payment_method = Some(method.into());
    intent
}

pub(crate) fn or_wait(mut intent: OrderIntent) -> OrderIntent {
    intent.place.as_mut().unwrap().if_sold_out = IfSoldOut::Waitlist;
    intent
}

pub(crate) fn extend(user: UserId, key: &str) -> OrderIntent {
    let order_id = OrderId::derive(DROP, user, key);
    let order_change = Some(OrderChange { order_id });
    OrderIntent { order_change, ..bare(OrderIntentKind::Extend, user) }
}

pub(crate) fn pay(user: UserId, key: &str) -> OrderIntent {
    let order_id = OrderId::derive(DROP, user, key);
    let payment = Some(PayOrder { order_id, payment_method: Some("pm_next".into()) });
    OrderIntent { payment, ..bare(OrderIntentKind::Pay, user) }
}

/// What the provider did with an operation of an order of Anna's or Ben's usual total.
pub(crate) fn outcome(
    (user, key): (UserId, &str),
    attempt: i32,
    operation: ProviderOperationKind,
    result: ProviderResult,
) -> OrderIntent {
    let outcome = PaymentOutcome {
        order_id: OrderId::derive(DROP, user, key),
        attempt,
        operation,
        result,
        captured: false,
        amount: MinorUnits(1_999),
        currency: "EUR".into(),
        detail: None,
        reference: None,
    };
    let kind = OrderIntentKind::PaymentOutcome;
    OrderIntent {
        payment_outcome: Some(Box::new(outcome)),
        ..OrderIntent::bare(IntentId([8; 16]), kind, Millis(0))
    }
}

pub(crate) fn supply(kind: OrderIntentKind, variant: VariantId, qty: i64, key: u8) -> OrderIntent {
    let request_hash = Hash::of(&[&variant.0, &qty.to_be_bytes()]);
    let stock_change = Some(StockChange {
        variant_id: Some(variant),
        qty: Units(qty),
        key: Hash([key; 16]),
        request_hash,
    });
    OrderIntent { stock_change, ..by_creator(kind) }
}

pub(crate) fn refund(user: UserId, order: &str, restock: bool, key: u8) -> OrderIntent {
    let order_id = OrderId::derive(DROP, user, order);
    let refund = Some(RefundOrder { order_id, restock, key: Hash([key; 16]) });
    OrderIntent { refund, ..by_creator(OrderIntentKind::Refund) }
}

pub(crate) fn edit(change: impl FnOnce(&mut EditDrop)) -> OrderIntent {
    let mut edit = EditDrop::default();
    change(&mut edit);
    OrderIntent { edit: Some(Box::new(edit)), ..by_creator(OrderIntentKind::Edit) }
}

pub(crate) fn activate(version: i32) -> OrderIntent {
    let kind = OrderIntentKind::Activate;
    OrderIntent { activate: Some(version), ..OrderIntent::bare(IntentId([6; 16]), kind, Millis(0)) }
}
