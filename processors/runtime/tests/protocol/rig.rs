//! One partition of reservations on the memory log.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use model::Processor;
use reservations::Reservations;
use runtime::{
    Batching, Exit, MemoryStore, PartitionStatus, PartitionTask, RegistryError, SchemaBook,
    SchemaRegistry, TaskSettings, Wake,
};
use schemas::avro::{self, RELEASED};
use schemas::decision::{Decision, Outcome};
use schemas::framing;
use schemas::ids::*;
use schemas::order::*;
use schemas::partition::Partition;
use schemas::units::{Millis, MinorUnits, Units};

use crate::memory_log::{Broker, MemoryLog};

pub(crate) const DROP: DropId = DropId([0xd0; 16]);
pub(crate) const START: Millis = Millis(1_000_000);
pub(crate) const END: Millis = Millis(9_000_000);

/// A registry whose moods a test sets.
#[derive(Default)]
pub(crate) struct TestRegistry {
    pub(crate) texts: Mutex<BTreeMap<u32, String>>,
    pub(crate) is_away: Mutex<bool>,
}

impl SchemaRegistry for TestRegistry {
    fn id_of(&self, subject: &str, text: &str) -> Result<u32, RegistryError> {
        let known = RELEASED.iter().position(|schema| schema.subject == subject);
        let id = u32::try_from(known.unwrap()).unwrap() + 1;
        self.texts.lock().unwrap().insert(id, text.to_owned());
        Ok(id)
    }

    fn text_of(&self, id: u32) -> Result<Option<String>, RegistryError> {
        if *self.is_away.lock().unwrap() {
            return Err(RegistryError::Unreachable("connection refused".into()));
        }
        Ok(self.texts.lock().unwrap().get(&id).cloned())
    }
}

pub(crate) fn new_intent_id() -> IntentId {
    IntentId([0x77; 16])
}

/// What is at hand is one transaction; one intent is, and the next is read ahead meanwhile.
pub(crate) const BATCHINGS: [Batching; 2] = [
    Batching { backlog_min: 1, threads: false, ..Batching::PRODUCTION },
    Batching { records_max: 1, backlog_min: 1, ..Batching::PRODUCTION },
];

pub(crate) type Task<P = Reservations> = PartitionTask<P, MemoryLog, MemoryStore>;

pub(crate) struct Rig {
    pub(crate) broker: Broker,
    pub(crate) registry: Arc<TestRegistry>,
    pub(crate) status: PartitionStatus,
    pub(crate) now: Millis,
    pub(crate) batching: Batching,
}

impl Rig {
    pub(crate) fn new() -> Self {
        Self {
            broker: Broker::new(),
            registry: Arc::default(),
            status: PartitionStatus::new("reservations", Partition(0)),
            now: START,
            batching: BATCHINGS[0],
        }
    }

    /// A rig with a live, free drop of `stock` units, nothing decided yet.
    pub(crate) fn with_drop(stock: i64) -> Self {
        let rig = Self::new();
        rig.append(START, &schedule(stock, false));
        rig
    }

    pub(crate) fn task<P: Processor>(&self, store: MemoryStore) -> Task<P> {
        PartitionTask::new(self.broker.client(), store, self.settings()).unwrap()
    }

    pub(crate) fn settings(&self) -> TaskSettings {
        TaskSettings {
            partition: Partition(0),
            build: "test".into(),
            schemas: Arc::new(SchemaBook::open(self.registry.clone()).unwrap()),
            new_intent_id,
            batching: self.batching,
            status: self.status.clone(),
        }
    }

    pub(crate) fn append(&self, at: Millis, intent: &OrderIntent) {
        self.append_bytes(at, framed(intent));
    }

    pub(crate) fn append_bytes(&self, at: Millis, value: Vec<u8>) {
        self.broker.lock().intents.push((at, value));
    }

    /// Steps until the task waits for intents.
    pub(crate) fn run<P: Processor>(&self, task: &mut Task<P>) -> Result<Wake, Exit> {
        let mut now = self.now;
        for _ in 0..1_000 {
            match task.step(now)? {
                Wake::Now => {}
                Wake::At(instant) if self.is_stalled() => return Ok(Wake::At(instant)),
                Wake::At(instant) => now = instant,
                waiting @ Wake::OnIntents { .. } => return Ok(waiting),
            }
        }
        panic!("the task never comes to rest");
    }

    pub(crate) fn is_stalled(&self) -> bool {
        matches!(self.status.snapshot().state, runtime::PartitionState::Stalled(_))
    }

    pub(crate) fn decisions(&self) -> Vec<auditor::LoggedDecision> {
        let shared = self.broker.lock();
        let records = shared.decisions.iter().enumerate().filter_map(|(offset, value)| {
            let value = value.clone()?;
            let datum = &value[framing::HEADER_LENGTH..];
            let decision: Decision<OrderBody> = avro::ORDER_DECISION.decode(datum).unwrap();
            let offset = i64::try_from(offset).unwrap();
            Some(auditor::LoggedDecision { offset, value, decision })
        });
        records.collect()
    }

    pub(crate) fn audit(&self) -> auditor::Report {
        let shared = self.broker.lock();
        let intents = shared.intents.iter().enumerate().map(|(offset, (append_time, value))| {
            // As a reader with a registry would: other ids are other types, or nothing.
            let known = framing::split(value).ok().filter(|(id, _)| {
                let texts = self.registry.texts.lock().unwrap();
                texts
                    .get(id)
                    .is_some_and(|text| text == avro::current("order-intents-value").unwrap().text)
            });
            let datum = known.map(|(_, datum)| datum);
            auditor::LoggedIntent {
                offset: i64::try_from(offset).unwrap(),
                append_time: *append_time,
                intent: datum.and_then(|datum| avro::ORDER_INTENT.decode(datum).ok()),
            }
        });
        let intents: Vec<_> = intents.collect();
        drop(shared);
        auditor::audit(&intents, &self.decisions())
    }

    /// The auditor agrees and nothing is left undecided.
    pub(crate) fn assert_sound(&self) -> auditor::Fold {
        let report = self.audit();
        assert_eq!(report.findings, vec![]);
        assert_eq!(report.undecided, 0);
        report.fold
    }

    pub(crate) fn outcomes(&self) -> Vec<Outcome> {
        self.decisions().iter().map(|logged| logged.decision.outcome).collect()
    }
}

pub(crate) fn framed(intent: &OrderIntent) -> Vec<u8> {
    let mut value = Vec::new();
    framing::start(&mut value, 1);
    avro::ORDER_INTENT.encode(intent, &mut value);
    value
}

pub(crate) fn schedule(stock: i64, payment_required: bool) -> OrderIntent {
    let variant = VariantSpec {
        variant_id: DROP.plain_variant(),
        name: String::new(),
        stock: Units(stock),
        price: MinorUnits(0),
    };
    let terms = ScheduleDrop {
        creator_id: CreatorId([0xc0; 16]),
        schedule_key: Hash([1; 16]),
        request_hash: Hash([2; 16]),
        product_id: ProductId([3; 16]),
        title: "Night Run".into(),
        starts_at: START,
        ends_at: END,
        time_zone: None,
        currency: "EUR".into(),
        variants: vec![variant],
        limit_per_user: None,
        hold_seconds: 600,
        low_stock_threshold: Units(1),
        payment_required,
        offer_seconds: 600,
        waitlist: false,
        payment_attempts: 3,
    };
    OrderIntent {
        actor: Some(UserId([0xc0; 16])),
        drop_id: Some(DROP),
        schedule: Some(Box::new(terms)),
        ..OrderIntent::bare(IntentId([1; 16]), OrderIntentKind::Schedule, START)
    }
}

pub(crate) fn place(buyer: u8) -> OrderIntent {
    let user = UserId([buyer; 16]);
    let order = PlaceOrder {
        order_id: OrderId::derive(DROP, user, "key"),
        request_hash: Hash([buyer; 16]),
        lines: [OrderLine { variant_id: DROP.plain_variant(), qty: 1 }].into(),
        payment_method: None,
        if_sold_out: IfSoldOut::Reject,
        expected_total: None,
        expected_currency: None,
    };
    OrderIntent {
        actor: Some(user),
        drop_id: Some(DROP),
        place: Some(order),
        ..OrderIntent::bare(IntentId([buyer; 16]), OrderIntentKind::Place, START)
    }
}
