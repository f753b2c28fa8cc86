//! Speeds, ours beside what people use today, in one run.

mod bare_loop;
mod growth;
mod http;
mod machine;
mod ours;
mod postgres_peer;
mod redis_peer;
mod report;
mod scale;
mod suite;
mod views;
mod workload;

use clap::{Parser, Subcommand};

use ours::{FIRST, OurLog, Ready};
use schemas::topics::ORDER_INTENTS;
use workload::HotDrop;

/// The program's allocator.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

#[derive(Parser)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Every side, round after round; prints the table and writes JSON and a picture.
    Run(Box<suite::Suite>),
    /// A node over HTTP: latency, bursts, sustained rates, CPU time, memory of a stream, takeover.
    Http(Box<http::Http>),
    /// Hot drops on 1, 2 and 4 partitions, in one process and in as many; beside a model fitted to the first.
    Scale(scale::Scale),
    /// Owns partitions for `scale`: recovers, waits for a line on standard input, decides.
    #[command(hide = true)]
    Own(scale::Own),
    /// What grows with the orders and the drops of a partition: a thousand to ten million.
    Growth(growth::Growth),
    /// One hot drop on one of our logs, for a profiler.
    HotDrop {
        /// Kafka's brokers; without them the embedded log.
        #[arg(long, env = "LIVEDROPS_KAFKA__BROKERS")]
        brokers: Option<String>,
        #[arg(long, default_value_t = 1_000_000)]
        intents: u32,
        #[arg(long, default_value_t = 10_000)]
        stock: u32,
        #[arg(long, default_value_t = 1)]
        rounds: u32,
        /// Then fold all decisions into a new store.
        #[arg(long)]
        restore: bool,
        /// And into this Postgres, new to it. With the embedded log only.
        #[arg(long, conflicts_with = "brokers")]
        postgres: Option<String>,
        /// And into this `ClickHouse`, new to it. With the embedded log only.
        #[arg(long, conflicts_with = "brokers")]
        clickhouse: Option<String>,
    },
}

#[allow(clippy::print_stdout, reason = "it is what the program is for")]
fn main() -> anyhow::Result<()> {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    match Arguments::parse().command {
        Command::Run(suite) => suite.run(&runtime),
        Command::Http(http) => http.run(&runtime),
        Command::Scale(scale) => scale.run(&runtime),
        Command::Own(own) => own.run(&runtime),
        Command::Growth(growth) => growth.run(),
        Command::HotDrop { brokers, intents, stock, rounds, restore, postgres, clickhouse } => {
            let folder = tempfile::tempdir()?;
            let log = match brokers {
                Some(brokers) => runtime.block_on(OurLog::kafka(&brokers, 1))?,
                None => OurLog::Embedded(ours::embedded_log(&folder.path().join("log"), 1)?),
            };
            for round in 1..=rounds {
                let drop = HotDrop { intents, stock, round };
                let filling = platform::clock::monotonic();
                ours::fill_drop(&log, (ORDER_INTENTS, FIRST), drop)?;
                let filled = filling.elapsed();
                let store = folder.path().join("store");
                let decided = Ready::new(&log, FIRST, &store)?.decide(drop)?;
                println!(
                    "{:.0}/s ({} decisions, {} transactions, {:.2?}; filled in {filled:.2?})",
                    decided.per_second(),
                    decided.decisions,
                    decided.transactions,
                    decided.took
                );
            }
            if restore {
                let ours::Restored { decisions, took, cpu } =
                    ours::restore(&log, &folder.path().join("restored"))?;
                let (per_second, per_core) =
                    (report::per_second(decisions, took), report::per_second(decisions, cpu));
                println!("{per_second:.0}/s restored, {per_core:.0} per second of CPU time");
            }
            if let (OurLog::Embedded(log), Some(url)) = (&log, postgres) {
                let (decisions, took) = views::postgres(&runtime, log, &url)?;
                println!("{:.0}/s into Postgres", report::per_second(decisions, took));
            }
            if let (OurLog::Embedded(log), Some(url)) = (&log, clickhouse) {
                let (decisions, took) = views::clickhouse(&runtime, log, &url)?;
                println!("{:.0}/s into ClickHouse", report::per_second(decisions, took));
            }
            Ok(())
        }
    }
}
