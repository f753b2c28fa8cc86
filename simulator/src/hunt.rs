//! Many runs on several threads, and the shortest form of one that fails.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use model::Processor;
use reservations::command::Command;
use reservations::rows::StateRow;
use schemas::order::OrderBody;

use crate::faults::{Counts, Fault};
use crate::run::{Outcome, Plan, STEPS, run};

/// What many runs came to.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// Runs made.
    pub seeds: u64,
    /// Faults injected, by kind.
    pub faults: Counts,
    /// Decisions in all logs.
    pub decisions: u64,
    /// The first seed that failed.
    pub failed: Option<u64>,
}

/// Whole runs of a seed.
#[must_use]
pub fn plan(seed: u64) -> Plan {
    Plan { seed, steps: STEPS, without: Vec::new() }
}

/// Runs `count` seeds from `first` on, on every core, until one fails. `prepare` runs once on each thread.
pub fn hunt<P>(first: u64, count: u64, prepare: impl Fn() + Sync) -> Tally
where
    P: Processor<Command = Command, Row = StateRow, Body = OrderBody>,
{
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let next = AtomicU64::new(0);
    let stop = AtomicBool::new(false);
    let tally = Mutex::new(Tally::default());
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                prepare();
                let mut own = Tally::default();
                while !stop.load(Ordering::Relaxed) {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= count {
                        break;
                    }
                    let seed = first.wrapping_add(number);
                    let outcome = run::<P>(&plan(seed));
                    own.add(&outcome);
                    if !outcome.findings.is_empty() {
                        own.failed = Some(seed);
                        stop.store(true, Ordering::Relaxed);
                    }
                }
                merge(&tally, &own);
            });
        }
    });
    tally.into_inner().unwrap_or_default()
}

impl Tally {
    fn add(&mut self, outcome: &Outcome) {
        self.seeds += 1;
        self.decisions += outcome.decisions as u64;
        self.faults.iter_mut().zip(outcome.faults).for_each(|(total, count)| *total += count);
    }
}

fn merge(tally: &Mutex<Tally>, own: &Tally) {
    let Ok(mut tally) = tally.lock() else { return };
    tally.seeds += own.seeds;
    tally.decisions += own.decisions;
    tally.faults.iter_mut().zip(own.faults).for_each(|(total, count)| *total += count);
    tally.failed = match (tally.failed, own.failed) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    };
}

/// The fewest kinds of faults and the fewest steps that still fail.
#[must_use]
pub fn shortest<P>(seed: u64) -> (Plan, Outcome)
where
    P: Processor<Command = Command, Row = StateRow, Body = OrderBody>,
{
    let mut best = plan(seed);
    let mut outcome = run::<P>(&best);
    for fault in Fault::ALL {
        let mut without = best.without.clone();
        without.push(fault);
        let candidate = Plan { without, ..best.clone() };
        let tried = run::<P>(&candidate);
        if !tried.findings.is_empty() {
            (best, outcome) = (candidate, tried);
        }
    }
    let mut step = best.steps / 2;
    while step > 0 {
        let candidate = Plan { steps: best.steps.saturating_sub(step), ..best.clone() };
        let tried = run::<P>(&candidate);
        if tried.findings.is_empty() {
            step /= 2;
        } else {
            (best, outcome) = (candidate, tried);
        }
    }
    (best, outcome)
}
