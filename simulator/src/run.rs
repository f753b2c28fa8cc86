//! One run: a seed, a mix of faults, processes that own partitions, and a verdict.

use std::collections::BTreeMap;
use std::sync::Arc;

use model::Processor;
use reservations::command::Command;
use reservations::rows::StateRow;
use runtime::{
    Batching, Exit, MemoryStore, PartitionStatus, PartitionTask, Refused, RegistryError,
    SchemaBook, SchemaRegistry, Store, TaskSettings, Wake, state_hash, state_hash_of_rows,
};
use schemas::avro;
use schemas::decision::Decision;
use schemas::framing;
use schemas::ids::{DropId, IntentId};
use schemas::order::{OrderBody, OrderIntent};
use schemas::partition::Partition;
use schemas::units::Millis;

use crate::broker::{Broker, SimulatedLog, offset};
use crate::defects::{Defect, is_on};
use crate::disk::Disk;
use crate::faults::{Counts, Fault, Faults};
use crate::payments::Payments;
use crate::verdict::{self, Acknowledged};
use crate::workload::Workload;

const PARTITIONS: usize = 2;
const PROCESSES: usize = 3;
/// Of one transaction where all is taken for a backlog.
const BACKLOG_RECORDS: usize = 4;
const START: Millis = Millis(1_800_000_000_000);
/// Steps until the faults stop.
pub const STEPS: usize = 700;

/// What a run is made of.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Drives everything.
    pub seed: u64,
    /// Steps with faults.
    pub steps: usize,
    /// Kinds of faults that stay off.
    pub without: Vec<Fault>,
}

/// What a run came to.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// What is wrong; empty is good.
    pub findings: Vec<String>,
    /// Faults injected.
    pub faults: Counts,
    /// Decisions in the log.
    pub decisions: usize,
    /// What happened, in order.
    pub trace: Vec<String>,
}

type Task<P> = PartitionTask<P, SimulatedLog, Disk>;

struct Owner<P: Processor> {
    process: usize,
    task: Task<P>,
    paused_until: Millis,
    wake_at: Millis,
}

/// A registry that is away when the cluster says so. It holds what this build writes.
struct Registry(Broker);

impl SchemaRegistry for Registry {
    fn id_of(&self, subject: &str, _text: &str) -> Result<u32, RegistryError> {
        let known = schemas::topics::ALL.iter().position(|topic| topic.subject == subject);
        let known = known.and_then(|index| u32::try_from(index + 1).ok());
        known.ok_or_else(|| RegistryError::NotRegistered(subject.to_owned()))
    }

    fn text_of(&self, id: u32) -> Result<Option<String>, RegistryError> {
        if self.0.lock().registry_is_away {
            return Err(RegistryError::Unreachable("connection refused".into()));
        }
        let topic =
            usize::try_from(id).ok().and_then(|id| schemas::topics::ALL.get(id.checked_sub(1)?));
        let schema = topic.and_then(|topic| avro::current(topic.subject));
        Ok(schema.map(|schema| schema.text.to_owned()))
    }
}

fn tick_id() -> IntentId {
    IntentId([0x77; 16])
}

struct World<P: Processor> {
    broker: Broker,
    schemas: Arc<SchemaBook>,
    disks: BTreeMap<(usize, usize), Disk>,
    owners: Vec<Vec<Owner<P>>>,
    skews: [Millis; PROCESSES],
    workload: Workload,
    payments: Payments,
    retries: Vec<(DropId, OrderIntent)>,
    acknowledged: Vec<Acknowledged>,
    /// What a reader of committed records was shown, per partition.
    shown: Vec<BTreeMap<i64, Vec<u8>>>,
    read_to: [usize; PARTITIONS],
    poison: u64,
    findings: Vec<String>,
    trace: Vec<String>,
}

/// Runs a plan on the rules `P`. A panic outside a decision is a finding like any other.
#[must_use]
pub fn run<P>(plan: &Plan) -> Outcome
where
    P: Processor<Command = Command, Row = StateRow, Body = OrderBody>,
{
    std::panic::catch_unwind(|| run_to_the_end::<P>(plan)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string));
        let finding = format!("the process panicked: {}", text.unwrap_or_default());
        let faults = [0; Fault::ALL.len()];
        Outcome { findings: vec![finding], faults, decisions: 0, trace: Vec::new() }
    })
}

fn run_to_the_end<P>(plan: &Plan) -> Outcome
where
    P: Processor<Command = Command, Row = StateRow, Body = OrderBody>,
{
    let mut world = World::<P>::new(plan);
    for _ in 0..plan.steps {
        world.step();
        if !world.findings.is_empty() {
            break;
        }
    }
    world.come_to_rest();
    world.judge()
}

impl<P> World<P>
where
    P: Processor<Command = Command, Row = StateRow, Body = OrderBody>,
{
    fn new(plan: &Plan) -> Self {
        let mut faults = Faults::new(plan.seed, &plan.without);
        let workload = Workload::new(&mut faults, START);
        let broker = Broker::new(PARTITIONS, faults, START);
        let registry = Arc::new(Registry(broker.clone()));
        let schemas =
            SchemaBook::open(registry).expect("the simulated registry knows every schema");
        let mut world = Self {
            broker,
            schemas: Arc::new(schemas),
            disks: BTreeMap::new(),
            owners: (0..PARTITIONS).map(|_| Vec::new()).collect(),
            skews: [Millis(0); PROCESSES],
            workload,
            payments: Payments::default(),
            retries: Vec::new(),
            acknowledged: Vec::new(),
            shown: vec![BTreeMap::new(); PARTITIONS],
            read_to: [0; PARTITIONS],
            poison: 0,
            findings: Vec::new(),
            trace: Vec::new(),
        };
        for number in 0..world.workload.drops.len() {
            let drop = world.workload.drops[number].id;
            let intent = world.workload.schedule(number);
            world.append(drop, intent);
        }
        for partition in 0..PARTITIONS {
            world.take_over(partition, 0);
        }
        world
    }

    fn say(&mut self, what: impl FnOnce() -> String) {
        let now = self.broker.lock().now.since(START).0;
        self.trace.push(format!("{now:>8} ms  {}", what()));
    }

    fn below(&self, bound: usize) -> usize {
        self.broker.lock().faults.below(bound)
    }

    fn strikes(&self, fault: Fault) -> bool {
        self.broker.lock().faults.strikes(fault)
    }

    /// A process starts as owner of a partition, on whatever its disk holds.
    fn take_over(&mut self, partition: usize, process: usize) {
        let disk = self.disks.entry((process, partition)).or_default().clone();
        let number = Partition(u16::try_from(partition).unwrap_or(0));
        let settings = TaskSettings {
            partition: number,
            build: "simulated".into(),
            schemas: self.schemas.clone(),
            new_intent_id: tick_id,
            // Every other process takes all for a backlog, in small transactions: it reads ahead, and decides ahead of
            // each commit. The others never do.
            batching: if process.is_multiple_of(2) {
                Batching { records_max: BACKLOG_RECORDS, backlog_min: 1, threads: false }
            } else {
                Batching { backlog_min: usize::MAX, threads: false, ..Batching::PRODUCTION }
            },
            status: PartitionStatus::new("reservations", number),
        };
        let log = self.broker.client(process, partition);
        match PartitionTask::new(log, disk, settings) {
            Ok(task) => {
                let (paused_until, wake_at) = (Millis(0), Millis(0));
                self.owners[partition].push(Owner { process, task, paused_until, wake_at });
            }
            Err(error) => self.findings.push(format!("a store cannot be opened: {error}")),
        }
        self.say(|| format!("process {process} takes partition {partition}"));
    }

    fn step(&mut self) {
        match self.below(100) {
            0..45 => self.step_owner(),
            45..70 => self.somebody_acts(),
            70..78 => self.step_payments(),
            78..86 => self.read_committed(),
            86..92 => {
                let milliseconds = self.below(2_500);
                self.broker.advance(Millis(offset(milliseconds)));
            }
            92..94 => {
                let milliseconds = self.below(60_000);
                self.broker.advance(Millis(offset(milliseconds)));
            }
            94..97 => self.cluster_moves(),
            _ => self.machines_fail(),
        }
    }

    fn step_owner(&mut self) {
        let partition = self.below(PARTITIONS);
        if self.owners[partition].is_empty() {
            let process = self.below(PROCESSES);
            self.take_over(partition, process);
        }
        let which = self.below(self.owners[partition].len());
        self.step_task(partition, which);
    }

    fn step_task(&mut self, partition: usize, which: usize) {
        let now = self.broker.lock().now;
        let owner = &mut self.owners[partition][which];
        if owner.paused_until > now {
            return;
        }
        let process = owner.process;
        let clock = now.after(self.skews[process]);
        if owner.wake_at > clock {
            return;
        }
        let stepped = owner.task.step(clock);
        let died = std::mem::take(&mut self.broker.lock().died);
        if died.contains(&process) {
            self.owners[partition].remove(which);
            return self.say(|| format!("process {process} is killed, partition {partition}"));
        }
        match stepped {
            Ok(Wake::At(instant)) => self.owners[partition][which].wake_at = instant,
            Ok(Wake::Now | Wake::OnIntents { .. }) => {}
            Err(exit) => {
                self.owners[partition].remove(which);
                self.exited(partition, process, &exit);
            }
        }
    }

    fn exited(&mut self, partition: usize, process: usize, exit: &Exit) {
        self.say(|| format!("process {process} leaves partition {partition}: {exit:?}"));
        if let Exit::Refused(refused) = exit
            && !self.broker.lock().is_truncated
        {
            self.findings.push(format!("partition {partition} refuses: {refused}"));
        }
        if let Exit::StoreFailed(why) = exit {
            self.findings.push(format!("a store failed: {why}"));
        }
    }

    fn somebody_acts(&mut self) {
        let retry = (!self.retries.is_empty() && self.below(3) == 0)
            .then(|| self.below(self.retries.len()));
        let (drop, intent) = if let Some(which) = retry {
            // The same request again: a retry has an intent id of its own.
            let (drop, intent) = self.retries.swap_remove(which);
            (drop, OrderIntent { intent_id: self.workload.fresh_id(), ..intent })
        } else {
            let mut cluster = self.broker.lock();
            self.workload.next(&mut cluster.faults)
        };
        let clicks = if self.below(12) == 0 { 3 } else { 1 };
        for _ in 0..clicks {
            self.append(drop, intent.clone());
        }
    }

    fn append(&mut self, drop: DropId, intent: OrderIntent) {
        if self.strikes(Fault::AppendUnknown) {
            let written = self.below(2) == 0;
            if written {
                self.broker.append(partition_of(drop), framed(&intent));
            }
            return self.retries.push((drop, intent));
        }
        let partition = partition_of(drop);
        let at = self.broker.append(partition, framed(&intent));
        self.acknowledged.push(Acknowledged { partition, offset: at, intent: intent.intent_id });
    }

    fn step_payments(&mut self) {
        if self.strikes(Fault::PaymentsRestarted) {
            self.payments.restart();
        }
        for partition in 0..PARTITIONS {
            let from = self.payments.positions.get(&partition).copied().unwrap_or(0);
            let cluster = self.broker.lock();
            let log = &cluster.partitions[partition];
            let (records, next) = if is_on(Defect::PublishBeforeCommit) {
                (log.uncommitted(from), log.end())
            } else {
                log.committed(from, 200)
            };
            let orders: Vec<_> = records
                .into_iter()
                .filter_map(|(_, value)| decoded(value)?.body)
                .flat_map(|body| body.orders)
                .collect();
            drop(cluster);
            self.payments.read(&orders);
            self.payments.positions.insert(partition, next);
        }
        let mut cluster = self.broker.lock();
        let now = cluster.now;
        let outcomes = self.payments.step(&mut cluster.faults, &mut self.workload, now);
        drop(cluster);
        for (order, intent) in outcomes {
            let partition = usize::from(order.partition(u16::try_from(PARTITIONS).unwrap_or(1)).0);
            let at = self.broker.append(partition, framed(&intent));
            let acknowledged = Acknowledged { partition, offset: at, intent: intent.intent_id };
            self.acknowledged.push(acknowledged);
        }
    }

    /// An API node shows what is committed; what it showed must stay true.
    fn read_committed(&mut self) {
        let partition = self.below(PARTITIONS);
        let from = self.read_to[partition];
        let cluster = self.broker.lock();
        let log = &cluster.partitions[partition];
        let (records, next) = if is_on(Defect::PublishBeforeCommit) {
            (log.uncommitted(from), log.end())
        } else {
            log.committed(from, 200)
        };
        let shown = records.into_iter().map(|(at, value)| (offset(at), value.to_vec()));
        self.shown[partition].extend(shown);
        drop(cluster);
        self.read_to[partition] = next;
    }

    fn cluster_moves(&mut self) {
        let partition = self.below(PARTITIONS);
        match self.below(4) {
            0 => self.broker.lock().partitions[partition].write_markers(),
            1 => drop(self.broker.lock().partitions[partition].deliver_delayed()),
            2 => {
                // Another leader with another clock, within what NTP allows.
                let skew = self.below(1_000);
                self.broker.lock().leader_skew = Millis(offset(skew) - 500);
            }
            _ => self.machines_sync(),
        }
        if self.strikes(Fault::Poison) {
            let mut value = vec![0, 0, 0, 0, 1, 0xff];
            value[self.below(6)] ^= 0x5a;
            self.broker.append(partition, value);
            self.poison += 1;
        }
        if self.strikes(Fault::RegistryAway) {
            // A record of an unknown schema has to wait for the registry, and every record after it.
            self.broker.lock().registry_is_away = true;
            self.broker.append(partition, vec![0, 0, 0, 3, 0xe7, 1, 2]);
            self.poison += 1;
        } else if self.below(3) == 0 {
            self.broker.lock().registry_is_away = false;
        }
    }

    fn machines_sync(&mut self) {
        self.disks.values().for_each(Disk::sync);
    }

    fn machines_fail(&mut self) {
        let (partition, process) = (self.below(PARTITIONS), self.below(PROCESSES));
        if self.strikes(Fault::PowerLost) {
            self.owners[partition].retain(|owner| owner.process != process);
            if let Some(disk) = self.disks.get(&(process, partition)) {
                let kept = self.below(disk.unsynced() + 1);
                disk.lose_power(kept);
            }
            self.say(|| format!("process {process} loses power, partition {partition}"));
        }
        if self.strikes(Fault::StoreDeleted) {
            self.owners[partition].retain(|owner| owner.process != process);
            if let Some(disk) = self.disks.get(&(process, partition)) {
                disk.delete();
            }
            self.say(|| format!("process {process} loses its store of partition {partition}"));
        }
        if self.strikes(Fault::Paused) {
            let until = self.broker.lock().now.after(Millis(60_000));
            if let Some(owner) = self.owners[partition].first_mut() {
                owner.paused_until = until;
            }
            self.take_over_elsewhere(partition, process);
        }
        if self.strikes(Fault::TwoOwners) {
            self.take_over_elsewhere(partition, process);
        }
        if self.strikes(Fault::ClockJump) {
            let jump = self.below(1_200_000);
            self.skews[process] = Millis(offset(jump) - 600_000);
            self.say(|| format!("the clock of process {process} jumps"));
        } else if self.below(3) == 0 {
            self.skews[process] = Millis(0);
        }
    }

    /// A store has one user, so the successor is another process.
    fn take_over_elsewhere(&mut self, partition: usize, process: usize) {
        if self.owners[partition].iter().all(|owner| owner.process != process) {
            self.take_over(partition, process);
        }
    }

    /// Faults stop; everything that was begun is brought to its end.
    fn come_to_rest(&mut self) {
        let mut cluster = self.broker.lock();
        cluster.faults.are_on = false;
        cluster.registry_is_away = false;
        cluster.leader_skew = Millis(0);
        drop(cluster);
        self.skews = [Millis(0); PROCESSES];
        for partition in 0..PARTITIONS {
            self.owners[partition].clear();
            self.take_over(partition, partition);
        }
        for round in 0..400 {
            for partition in 0..PARTITIONS {
                for _ in 0..6 {
                    if !self.owners[partition].is_empty() {
                        self.step_task(partition, 0);
                    }
                }
            }
            self.step_payments();
            for partition in 0..PARTITIONS {
                self.broker.lock().partitions[partition].write_markers();
            }
            if let Some((drop, intent)) = self.retries.pop() {
                self.append(drop, intent);
            }
            self.broker.advance(Millis(3_000));
            if !self.findings.is_empty()
                || (round > 300 && self.payments.is_idle() && self.retries.is_empty())
            {
                break;
            }
        }
    }

    fn judge(mut self) -> Outcome {
        let mut findings = std::mem::take(&mut self.findings);
        let mut decisions = 0;
        let mut folds = Vec::new();
        for partition in 0..PARTITIONS {
            let cluster = self.broker.lock();
            let log = &cluster.partitions[partition];
            let judged = verdict::judge(log, partition, &self.acknowledged, &self.shown[partition]);
            drop(cluster);
            decisions += judged.decisions;
            findings.extend(judged.findings);
            if let Some(disk) = self.disks.get(&(partition, partition)) {
                compare_store(&disk.content(), &judged.fold, &mut findings);
            }
            self.poison = self.poison.saturating_sub(judged.undecodable);
            folds.push(judged.fold);
        }
        if self.poison > 0 && findings.is_empty() {
            findings.push(format!("{} poisonous records have no decision", self.poison));
        }
        let mut all = auditor::Fold::default();
        for fold in folds {
            all.drops.extend(fold.drops);
            all.orders.extend(fold.orders);
            all.archived_orders.extend(fold.archived_orders);
        }
        if findings.is_empty() {
            self.payments.compare(&all, &mut findings);
        }
        if findings.is_empty() && self.strikes_at_the_end() {
            self.truncated_log_refuses(&mut findings);
        }
        let faults = self.broker.lock().faults.counts;
        Outcome { findings, faults, decisions, trace: self.trace }
    }

    fn strikes_at_the_end(&mut self) -> bool {
        let mut cluster = self.broker.lock();
        cluster.faults.are_on = true;
        cluster.faults.strikes(Fault::LogTruncated)
    }

    /// 15: a log that lost its end is refused, never reset.
    fn truncated_log_refuses(&mut self, findings: &mut Vec<String>) {
        self.owners[0].clear();
        let mut cluster = self.broker.lock();
        cluster.faults.are_on = false;
        cluster.is_truncated = true;
        cluster.partitions[0].truncate();
        drop(cluster);
        self.take_over(0, 0);
        let now = self.broker.lock().now;
        let stepped = self.owners[0].last_mut().map(|owner| owner.task.step(now));
        match stepped {
            Some(Err(Exit::Refused(Refused::StoreAhead { .. }))) => {}
            other => findings.push(format!("a truncated log was not refused: {other:?}")),
        }
    }
}

fn compare_store(store: &MemoryStore, fold: &auditor::Fold, findings: &mut Vec<String>) {
    let expected = state_hash_of_rows(verdict::rows_of(fold));
    let found = state_hash(store);
    if store.position().ok().flatten().is_some() && expected != found {
        findings.push("a store is not the fold of its log".into());
    }
}

fn partition_of(drop: DropId) -> usize {
    usize::from(drop.partition(u16::try_from(PARTITIONS).unwrap_or(1)).0)
}

fn framed(intent: &OrderIntent) -> Vec<u8> {
    let mut value = Vec::new();
    framing::start(&mut value, 1);
    avro::ORDER_INTENT.encode(intent, &mut value);
    value
}

pub(crate) fn decoded(value: &[u8]) -> Option<Decision<OrderBody>> {
    let (_, datum) = framing::split(value).ok()?;
    avro::ORDER_DECISION.decode(datum).ok()
}
