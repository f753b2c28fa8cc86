//! Our side: the production task on its log, with Avro and its store.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use log_kafka::{KafkaLog, KafkaSettings};
use model::{Processor as _, Row as _, Topology};
use reservations::Reservations;
use reservations::rows::{StateRow, stock_key};
use runtime::{
    Batching, IntentAppender, IntentToAppend, Log, PartitionState, PartitionStatus, PartitionTask,
    RegistryError, SchemaBook, SchemaRegistry, Store as _, TaskSettings, Wake,
};
use schemas::avro::{self, RELEASED};
use schemas::framing;
use schemas::order::OrderIntent;
use schemas::partition::Partition;
use schemas::topics::{ORDER_INTENTS, Topic};
use schemas::units::Millis;
use store_rocksdb::{EmbeddedLog, RocksStore, StoreReader};

use crate::machine::cpu_seconds;
use crate::report::per_second;
use crate::workload::HotDrop;

/// Where a single hot drop is: a drop has one partition.
pub(crate) const FIRST: Partition = Partition(0);
/// Appends that wait for their acknowledgement at once.
const APPENDS_MAX: usize = 20_000;
/// A run that takes longer is stuck.
const PATIENCE: Duration = Duration::from_mins(5);

pub(crate) fn wall_clock() -> Millis {
    Millis(platform::clock::now_ms())
}

/// Ids are the places in the table of released schemas: no registry is asked in a transaction.
struct Table;

impl SchemaRegistry for Table {
    fn id_of(&self, subject: &str, text: &str) -> Result<u32, RegistryError> {
        let at =
            RELEASED.iter().position(|schema| (schema.subject, schema.text) == (subject, text));
        let at = at.ok_or_else(|| RegistryError::NotRegistered(subject.to_owned()))?;
        Ok(u32::try_from(at).unwrap_or(0) + 1)
    }

    fn text_of(&self, id: u32) -> Result<Option<String>, RegistryError> {
        Ok(RELEASED.get(id as usize - 1).map(|schema| schema.text.to_owned()))
    }
}

/// Either log.
pub(crate) enum OurLog {
    Kafka(KafkaLog),
    Embedded(EmbeddedLog),
}

/// A new embedded log.
pub(crate) fn embedded_log(folder: &Path, partitions: u16) -> Result<EmbeddedLog> {
    Ok(EmbeddedLog::open(folder, partitions, "bench", wall_clock)?)
}

impl OurLog {
    /// Makes the topics where they are missing.
    pub(crate) async fn kafka(brokers: &str, partitions: u16) -> Result<Self> {
        let settings = KafkaSettings {
            brokers: brokers.to_owned(),
            session_timeout_ms: 1_500,
            clock: wall_clock,
        };
        let made = log_kafka::admin::apply_topics(&settings, partitions, 1).await;
        made.map_err(anyhow::Error::msg)?;
        let opened = tokio::task::spawn_blocking(move || KafkaLog::open(settings)).await?;
        Ok(Self::Kafka(opened?))
    }

    pub(crate) fn appender(&self) -> Arc<dyn IntentAppender> {
        match self {
            Self::Kafka(log) => log.appender(),
            Self::Embedded(log) => Arc::new(log.clone()),
        }
    }

    pub(crate) fn own(&self, topology: Topology, partition: Partition) -> Box<dyn Log> {
        match self {
            Self::Kafka(log) => Box::new(log.own(topology, partition)),
            Self::Embedded(log) => Box::new(log.own(topology, partition)),
        }
    }

    /// A recovered owner with its store.
    fn task(&self, partition: Partition, store_folder: &Path) -> Result<Owner> {
        let status = PartitionStatus::new("reservations", partition);
        let settings = TaskSettings {
            partition,
            build: env!("CARGO_PKG_VERSION").into(),
            schemas: Arc::new(SchemaBook::open(Arc::new(Table))?),
            new_intent_id: || platform::clock::random_uuid().into(),
            batching: Batching::PRODUCTION,
            status: status.clone(),
        };
        let store = RocksStore::open(store_folder)?;
        let reader = store.reader();
        let mut task =
            PartitionTask::new(self.own(Reservations::TOPOLOGY, partition), store, settings)?;
        while status.snapshot().state != PartitionState::Running {
            step(&mut task)?;
        }
        Ok(Owner { task, status, reader })
    }
}

/// A running partition.
struct Owner {
    task: Task,
    status: PartitionStatus,
    reader: StoreReader,
}

type Task = PartitionTask<Reservations, Box<dyn Log>, RocksStore>;

/// Appends every record and waits until the log has it.
pub(crate) fn fill(
    appender: &dyn IntentAppender,
    (topic, partition): (Topic, Partition),
    values: impl Iterator<Item = ([u8; 16], Vec<u8>)>,
) -> Result<()> {
    let mut waiting = std::collections::VecDeque::new();
    for (key, value) in values {
        let intent = IntentToAppend { topic, partition, key: Some(key), value, traceparent: None };
        waiting.push_back(appender.append(intent));
        if waiting.len() >= APPENDS_MAX {
            for acknowledged in waiting.drain(..APPENDS_MAX / 2) {
                acknowledged.blocking_recv()??;
            }
        }
    }
    for acknowledged in waiting {
        acknowledged.blocking_recv()??;
    }
    Ok(())
}

fn framed(intent: &OrderIntent, schema_id: u32) -> Vec<u8> {
    let mut value = Vec::with_capacity(256);
    framing::start(&mut value, schema_id);
    avro::ORDER_INTENT.encode(intent, &mut value);
    value
}

fn fill_intents(
    log: &OurLog,
    place: (Topic, Partition),
    intents: impl Iterator<Item = OrderIntent>,
) -> Result<()> {
    let current = avro::current(ORDER_INTENTS.subject).context("intents have a schema")?;
    let id = Table.id_of(current.subject, current.text)?;
    let keyed = |intent: OrderIntent| {
        let key = intent.drop_id.map_or([0; 16], |drop| drop.0);
        (key, framed(&intent, id))
    };
    fill(&*log.appender(), place, intents.map(keyed))
}

/// Puts the drop and its orders into the log.
pub(crate) fn fill_drop(log: &OurLog, place: (Topic, Partition), drop: HotDrop) -> Result<()> {
    let orders = (0..drop.intents).map(|intent| drop.place(intent));
    fill_intents(log, place, std::iter::once(drop.schedule()).chain(orders))
}

/// Puts drops into the log that open in the far future.
pub(crate) fn fill_upcoming(
    log: &OurLog,
    partition: Partition,
    numbers: std::ops::Range<u32>,
) -> Result<()> {
    fill_intents(log, (ORDER_INTENTS, partition), numbers.map(HotDrop::upcoming))
}

/// What a run decided, and how long it took from the first transaction to the last.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Decided {
    pub(crate) decisions: u32,
    pub(crate) transactions: u64,
    pub(crate) took: Duration,
}

impl Decided {
    pub(crate) fn per_second(self) -> f64 {
        per_second(self.decisions, self.took)
    }
}

/// A recovered partition, and where its intents end.
pub(crate) struct Ready {
    owner: Owner,
    end: i64,
}

impl Ready {
    pub(crate) fn new(log: &OurLog, partition: Partition, store_folder: &Path) -> Result<Self> {
        let end = log.own(Reservations::TOPOLOGY, partition).intents_range()?.end;
        Ok(Self { owner: log.task(partition, store_folder)?, end })
    }

    /// Decides everything that is in the log, and checks that the drop sold exactly its stock.
    pub(crate) fn decide(self, drop: HotDrop) -> Result<Decided> {
        let Self { owner: Owner { mut task, status, reader }, end } = self;
        let (before, started) = (status.snapshot(), platform::clock::monotonic());
        while status.snapshot().next_intent_offset < end {
            step(&mut task)?;
            ensure!(started.elapsed() < PATIENCE, "stuck at {:?}", status.snapshot());
        }
        let took = started.elapsed();
        let after = status.snapshot();
        task.store().position()?; // waits for the last batch
        let key = stock_key(drop.drop(), drop.drop().plain_variant());
        let stock = reader.get(key.as_bytes())?.context("no stock")?;
        let StateRow::Stock(stock) = StateRow::decode(key.tag(), &stock)? else {
            anyhow::bail!("the stock row is of another table");
        };
        let sold = i64::from(drop.stock.min(drop.orders()));
        ensure!(stock.sold.0 == sold, "{sold} of {} units are sold: {stock:?}", drop.stock);
        Ok(Decided {
            decisions: u32::try_from(after.decisions - before.decisions)?,
            transactions: after.transactions - before.transactions,
            took,
        })
    }
}

fn step(task: &mut Task) -> Result<()> {
    match task.step(wall_clock()) {
        Ok(Wake::Now) => Ok(()),
        Ok(Wake::OnIntents { .. }) => {
            task.wait_for_intents(Duration::from_millis(20));
            Ok(())
        }
        Ok(Wake::At(_)) => {
            std::thread::sleep(Duration::from_millis(1));
            Ok(())
        }
        Err(exit) => anyhow::bail!("the task ended: {exit:?}"),
    }
}

/// What a restore took.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Restored {
    pub(crate) decisions: u32,
    pub(crate) took: Duration,
    /// Of all threads, until every row is in a file.
    pub(crate) cpu: Duration,
}

/// Folds every decision of the log into a new store.
pub(crate) fn restore(log: &OurLog, store_folder: &Path) -> Result<Restored> {
    let used =
        || Ok::<_, anyhow::Error>(Duration::from_secs_f64(cpu_seconds(&[std::process::id()])?));
    let (started, before) = (platform::clock::monotonic(), used()?);
    let owner = log.task(FIRST, store_folder)?;
    let took = started.elapsed();
    let decisions = u32::try_from(owner.task.position().seq)?;
    drop(owner); // writes what is left
    Ok(Restored { decisions, took, cpu: used()?.saturating_sub(before) })
}

/// What each of so many idle partitions adds to the memory of its process, in kibibytes.
pub(crate) fn kibibytes_per_idle_partition(folder: &Path, partitions: u16) -> Result<u32> {
    let log = OurLog::Embedded(embedded_log(&folder.join("log"), partitions)?);
    let before = resident_kibibytes(std::process::id())?;
    let owners = (0..partitions).map(|number| {
        let mut owner = log.task(Partition(number), &folder.join(format!("store-{number}")))?;
        for _ in 0..3 {
            step(&mut owner.task)?;
        }
        Ok(owner)
    });
    let owners = owners.collect::<Result<Vec<_>>>()?;
    let grown = resident_kibibytes(std::process::id())?.saturating_sub(before);
    drop(owners);
    Ok(grown / u32::from(partitions))
}

/// Memory that a process holds.
pub(crate) fn resident_kibibytes(pid: u32) -> Result<u32> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
    Ok(line.trim().trim_end_matches(" kB").trim().parse()?)
}
