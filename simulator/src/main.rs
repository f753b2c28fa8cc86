//! `simulator run`, `simulator replay SEED`, `simulator bugs`.

#![allow(clippy::print_stdout, reason = "a command")]

use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use reservations::Reservations;
use simulator::faults::Fault;
use simulator::hunt::{hunt, shortest};

/// Runs the production task against everything that may go wrong.
#[derive(Parser)]
enum Arguments {
    /// Runs many seeds; exit code 1 if one fails.
    Run {
        /// First seed.
        #[arg(long, default_value_t = 1)]
        first: u64,
        /// How many.
        #[arg(long, default_value_t = 5_000)]
        seeds: u64,
    },
    /// Runs one seed and tells what happened.
    Replay {
        /// The seed.
        seed: u64,
    },
    /// Finds every deliberate defect; needs the feature `defects`.
    #[cfg(feature = "defects")]
    Bugs {
        /// Most seeds per defect.
        #[arg(long, default_value_t = 1_000)]
        seeds: u64,
    },
}

fn main() -> ExitCode {
    // Decisions that panic are caught, logged as poison, and found by the verdict.
    std::panic::set_hook(Box::new(|_| {}));
    match Arguments::parse() {
        Arguments::Run { first, seeds } => run(first, seeds),
        Arguments::Replay { seed } => replay(seed),
        #[cfg(feature = "defects")]
        Arguments::Bugs { seeds } => bugs(seeds),
    }
}

fn run(first: u64, seeds: u64) -> ExitCode {
    let (tally, took) = timed(|| hunt::<Reservations>(first, seeds, || ()));
    println!(
        "{} seeds from {first} on, {} decisions, {:.0} seeds/s",
        tally.seeds,
        tally.decisions,
        f64_of(tally.seeds) / took.as_secs_f64()
    );
    for (fault, count) in Fault::ALL.iter().zip(tally.faults) {
        println!("  {count:>9}  {fault:?}");
    }
    if let Some(seed) = tally.failed {
        replay(seed)
    } else {
        println!("all clean");
        ExitCode::SUCCESS
    }
}

fn replay(seed: u64) -> ExitCode {
    let (plan, outcome) = shortest::<Reservations>(seed);
    if outcome.findings.is_empty() {
        println!("seed {seed}: clean, {} decisions", outcome.decisions);
        return ExitCode::SUCCESS;
    }
    let needed: Vec<_> = Fault::ALL.iter().filter(|fault| !plan.without.contains(fault)).collect();
    println!("seed {seed} FAILS in build {}", build());
    println!("shortest: {} steps, faults {needed:?}", plan.steps);
    outcome.trace.iter().for_each(|line| println!("  {line}"));
    outcome.findings.iter().take(20).for_each(|finding| println!("  FOUND {finding}"));
    println!("again: cargo run -p simulator -- replay {seed}");
    ExitCode::FAILURE
}

/// The commit, where the source is a checkout.
fn build() -> String {
    let output = std::process::Command::new("git").args(["rev-parse", "--short", "HEAD"]).output();
    let commit = output.ok().filter(|output| output.status.success());
    commit.map_or_else(
        || env!("CARGO_PKG_VERSION").to_owned(),
        |output| String::from_utf8_lossy(&output.stdout).trim().to_owned(),
    )
}

#[cfg(feature = "defects")]
fn bugs(seeds: u64) -> ExitCode {
    use runtime::defect::{Defect, turn_on};
    use simulator::defects::Defective;
    let mut missed = 0;
    println!("{:<30} {:>6}  first finding", "defect", "seeds");
    for defect in Defect::ALL {
        let tally = hunt::<Defective>(1, seeds, || turn_on(Some(defect)));
        turn_on(Some(defect));
        if let Some(seed) = tally.failed {
            let outcome = simulator::run::run::<Defective>(&simulator::hunt::plan(seed));
            let finding: String =
                outcome.findings.first().map_or("", |found| found).chars().take(90).collect();
            println!("{:<30} {seed:>6}  {finding}", format!("{defect:?}"));
        } else {
            missed += 1;
            println!("{:<30} {:>6}  NOT FOUND", format!("{defect:?}"), tally.seeds);
        }
        turn_on(None);
    }
    println!("{} of {} found", Defect::ALL.len() - missed, Defect::ALL.len());
    if missed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

#[allow(clippy::disallowed_methods, reason = "a rate for people; no run depends on it")]
fn timed<T>(work: impl FnOnce() -> T) -> (T, Duration) {
    let started = std::time::Instant::now();
    let result = work();
    (result, started.elapsed())
}

#[allow(clippy::cast_precision_loss, reason = "a rate for people")]
fn f64_of(count: u64) -> f64 {
    count as f64
}
