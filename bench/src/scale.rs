//! Beyond one writer: a hot drop on each of 1, 2 and 4 partitions, owned by one process or by as many.
//!
//! Owners are processes of this program, so that CPU time is counted per run and nothing is shared but the broker.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use anyhow::{Context as _, Result, ensure};
use schemas::partition::Partition;
use schemas::topics::ORDER_INTENTS;
use serde::{Deserialize, Serialize};
use tokio::runtime::Runtime;

use crate::machine::cpu_seconds;
use crate::ours::{self, OurLog, Ready};
use crate::workload::HotDrop;

/// Partitions in use, and the processes that own them.
const LAYOUTS: [(u16, u16); 5] = [(1, 1), (2, 1), (2, 2), (4, 1), (4, 4)];
const PARTITIONS_MAX: u16 = 4;

/// See the module.
#[derive(clap::Args)]
pub(crate) struct Scale {
    #[arg(long, env = "LIVEDROPS_KAFKA__BROKERS")]
    brokers: String,
    /// The broker's process, whose CPU time counts with ours.
    #[arg(long, env = "STACK_KAFKA_PID")]
    broker_pid: u32,
    /// Intents of each run, shared by its partitions.
    #[arg(long, default_value_t = 800_000)]
    intents: u32,
    #[arg(long, default_value_t = 3)]
    rounds: u32,
}

/// One run of a layout.
#[derive(Clone, Copy, Debug)]
struct Ran {
    per_second: f64,
    /// Microseconds of CPU time per decision, owners and broker.
    owners_microseconds: f64,
    broker_microseconds: f64,
}

#[derive(Serialize, Deserialize)]
struct Owned {
    decisions: u32,
    seconds: f64,
}

fn drop_of(partition: u16, round: u32, intents: u32) -> HotDrop {
    // Another stock is another drop: one per partition and round.
    HotDrop { intents, stock: intents / 100 + u32::from(partition), round }
}

impl Scale {
    #[allow(clippy::print_stdout, reason = "it is what the program is for")]
    pub(crate) fn run(&self, runtime: &Runtime) -> Result<()> {
        let log = runtime.block_on(OurLog::kafka(&self.brokers, PARTITIONS_MAX))?;
        let cores = f64::from(u32::try_from(std::thread::available_parallelism()?.get())?);
        let folder = tempfile::tempdir()?;
        let mut ran = vec![Vec::new(); LAYOUTS.len()];
        let mut round = 0;
        for _ in 0..self.rounds {
            for (layout, runs) in LAYOUTS.iter().zip(&mut ran) {
                round += 1;
                runs.push(self.layout(&log, folder.path(), *layout, round)?);
            }
        }
        println!(
            "partitions processes  decisions/s  model   CPU µs per decision: owners, broker   ({cores} cores, medians of {})",
            self.rounds
        );
        let first = median(&ran[0]);
        let cpu_bound = cores * 1e6 / (first.owners_microseconds + first.broker_microseconds);
        for ((partitions, processes), runs) in LAYOUTS.iter().zip(&ran) {
            let Ran { per_second, owners_microseconds, broker_microseconds } = median(runs);
            let model = (first.per_second * f64::from(*partitions)).min(cpu_bound);
            println!(
                "{partitions:>10} {processes:>9} {per_second:>12.0} {model:>6.0}   {owners_microseconds:>26.1} \
                 {broker_microseconds:>8.1}"
            );
        }
        Ok(())
    }

    fn layout(
        &self,
        log: &OurLog,
        stores: &Path,
        (partitions, processes): (u16, u16),
        round: u32,
    ) -> Result<Ran> {
        let intents = self.intents / u32::from(partitions);
        for partition in 0..partitions {
            ours::fill_drop(
                log,
                (ORDER_INTENTS, Partition(partition)),
                drop_of(partition, round, intents),
            )?;
        }
        let share = partitions / processes;
        let owners = (0..processes).map(|process| {
            let owned = process * share..(process + 1) * share;
            OwnerProcess::start(&self.brokers, stores, owned, round, intents)
        });
        let mut owners = owners.collect::<Result<Vec<_>>>()?;
        let pids: Vec<u32> = owners.iter().map(|owner| owner.process.id()).collect();
        let (owners_before, broker_before) =
            (cpu_seconds(&pids)?, cpu_seconds(&[self.broker_pid])?);
        for owner in &mut owners {
            writeln!(owner.input, "go")?;
        }
        let owned = owners.iter_mut().map(OwnerProcess::owned).collect::<Result<Vec<_>>>()?;
        let owners_used = cpu_seconds(&pids)? - owners_before;
        let broker_used = cpu_seconds(&[self.broker_pid])? - broker_before;
        let decisions: f64 = owned.iter().map(|owned| f64::from(owned.decisions)).sum();
        let seconds = owned.iter().map(|owned| owned.seconds).fold(0.0, f64::max);
        for mut owner in owners {
            drop(owner.input);
            ensure!(owner.process.wait()?.success(), "an owner failed");
        }
        Ok(Ran {
            per_second: decisions / seconds,
            owners_microseconds: owners_used * 1e6 / decisions,
            broker_microseconds: broker_used * 1e6 / decisions,
        })
    }
}

fn median(runs: &[Ran]) -> Ran {
    let mut sorted = runs.to_vec();
    sorted.sort_by(|one, other| one.per_second.total_cmp(&other.per_second));
    sorted[sorted.len() / 2]
}

struct OwnerProcess {
    process: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl OwnerProcess {
    /// Returns when its partitions are recovered.
    fn start(
        brokers: &str,
        stores: &Path,
        owned: std::ops::Range<u16>,
        round: u32,
        intents: u32,
    ) -> Result<Self> {
        let mut process = Command::new(std::env::current_exe()?)
            .args(["own", "--brokers", brokers, "--first", &owned.start.to_string()])
            .args(["--partitions", &owned.len().to_string(), "--round", &round.to_string()])
            .args(["--intents", &intents.to_string(), "--stores"])
            .arg(stores)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let input = process.stdin.take().context("no input")?;
        let output = BufReader::new(process.stdout.take().context("no output")?);
        let mut owner = Self { process, input, output };
        ensure!(owner.line()? == "ready", "an owner did not get ready");
        Ok(owner)
    }

    fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        self.output.read_line(&mut line)?;
        Ok(line.trim().to_owned())
    }

    fn owned(&mut self) -> Result<Owned> {
        Ok(serde_json::from_str(&self.line()?)?)
    }
}

/// Owns some partitions of `scale`.
#[derive(clap::Args)]
pub(crate) struct Own {
    #[arg(long)]
    brokers: String,
    #[arg(long)]
    first: u16,
    #[arg(long)]
    partitions: u16,
    #[arg(long)]
    round: u32,
    #[arg(long)]
    intents: u32,
    /// Where the stores of every partition are: they go from owner to owner, so that recovery is short.
    #[arg(long)]
    stores: PathBuf,
}

impl Own {
    #[allow(clippy::print_stdout, reason = "its parent reads it")]
    pub(crate) fn run(&self, runtime: &Runtime) -> Result<()> {
        let log = runtime.block_on(OurLog::kafka(&self.brokers, PARTITIONS_MAX))?;
        let owned = self.first..self.first + self.partitions;
        let ready = owned.map(|partition| {
            let store = self.stores.join(partition.to_string());
            Ok((partition, Ready::new(&log, Partition(partition), &store)?))
        });
        let ready = ready.collect::<Result<Vec<_>>>()?;
        println!("ready");
        let mut line = String::new();
        ensure!(std::io::stdin().read_line(&mut line)? > 0, "nobody wants the decisions any more");
        let started = platform::clock::monotonic();
        let deciding = ready.into_iter().map(|(partition, ready)| {
            let drop = drop_of(partition, self.round, self.intents);
            std::thread::spawn(move || ready.decide(drop))
        });
        let mut decisions = 0;
        for thread in deciding.collect::<Vec<_>>() {
            let decided = thread.join().map_err(|_| anyhow::anyhow!("an owner panicked"))??;
            decisions += decided.decisions;
        }
        // Until every row is in a file: the CPU time is counted so far too.
        let seconds = started.elapsed().as_secs_f64();
        println!("{}", serde_json::to_string(&Owned { decisions, seconds })?);
        // The parent reads how much CPU time was used before this process ends.
        std::io::stdin().read_line(&mut line)?;
        Ok(())
    }
}
