//! One run: a seed, a mix of faults, processes that own partitions, and a verdict.

mod ending;
mod events;

use std::collections::BTreeMap;
use std::sync::Arc;

use model::Processor;
use reservations::command::Command;
use reservations::rows::StateRow;
use runtime::{
    Batching, Exit, PartitionStatus, PartitionTask, RegistryError, SchemaBook, SchemaRegistry,
    TaskSettings, Wake,
};
use schemas::avro;
use schemas::decision::Decision;
use schemas::framing;
use schemas::ids::{DropId, IntentId};
use schemas::order::{OrderBody, OrderIntent};
use schemas::partition::Partition;
use schemas::units::Millis;

use crate::broker::{Broker, SimulatedLog, offset};
use crate::disk::Disk;
use crate::faults::{Counts, Fault, Faults};
use crate::payments::Payments;
use crate::verdict::Acknowledged;
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
    /// By process and partition.
    standbys: BTreeMap<(usize, usize), Task<P>>,
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
            standbys: BTreeMap::new(),
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

    /// A process starts as owner of a partition, on whatever its disk holds; it may have stood by until then.
    fn take_over(&mut self, partition: usize, process: usize) {
        let looks = self.below(4);
        let Some(task) = self.stand_by(partition, process, looks) else { return };
        let (paused_until, wake_at) = (Millis(0), Millis(0));
        self.owners[partition].push(Owner { process, task, paused_until, wake_at });
        self.say(|| format!("process {process} takes partition {partition}"));
    }

    /// A process follows a partition for so many looks at the log. `None` where that ended the task.
    fn stand_by(&mut self, partition: usize, process: usize, looks: usize) -> Option<Task<P>> {
        let following = self.standbys.remove(&(process, partition));
        let mut task = following.or_else(|| self.open(partition, process))?;
        for _ in 0..looks {
            let now = self.broker.lock().now.after(self.skews[process]);
            if let Err(exit) = task.stand_by(now) {
                self.exited(partition, process, &exit);
                return None;
            }
        }
        self.say(|| format!("process {process} has stood by, partition {partition}: {looks}"));
        Some(task)
    }

    fn open(&mut self, partition: usize, process: usize) -> Option<Task<P>> {
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
        let opened = PartitionTask::new(log, disk.opened(), settings);
        opened
            .map_err(|error| self.findings.push(format!("a store cannot be opened: {error}")))
            .ok()
    }

    fn step(&mut self) {
        match self.below(100) {
            0..45 => self.step_owner(),
            45..70 => self.somebody_acts(),
            70..78 => self.step_payments(),
            78..86 => self.read_committed(),
            86..88 => self.somebody_stands_by(),
            88..92 => {
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

    /// Of a partition that the process does not own: two tasks on one disk are what a store's lock prevents.
    fn somebody_stands_by(&mut self) {
        let (partition, process) = (self.below(PARTITIONS), self.below(PROCESSES));
        if self.owners[partition].iter().all(|owner| owner.process != process) {
            let looks = 1 + self.below(3);
            if let Some(task) = self.stand_by(partition, process, looks) {
                self.standbys.insert((process, partition), task);
            }
        }
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
