//! What grows with the orders and the drops that a partition has seen: one embedded log, grown tenfold again and again.

use std::path::Path;

use anyhow::Result;
use schemas::topics::ORDER_INTENTS;

use crate::ours::{self, FIRST, OurLog, Ready};
use crate::report::per_second;
use crate::workload::HotDrop;

/// Intents whose rate is taken at each size.
const PROBE: u32 = 100_000;

/// See the module.
#[derive(clap::Args)]
pub(crate) struct Growth {
    /// Largest number of orders.
    #[arg(long, default_value_t = 10_000_000)]
    orders_max: u32,
    /// Largest number of drops that wait for their opening.
    #[arg(long, default_value_t = 100_000)]
    drops_max: u32,
}

impl Growth {
    #[allow(clippy::print_stdout, reason = "it is what the program is for")]
    pub(crate) fn run(&self) -> Result<()> {
        println!(
            "orders so far   decisions/s at that size   clean restart   restore, decisions/s   log and store, bytes per order"
        );
        let folder = tempfile::tempdir()?;
        let log = OurLog::Embedded(ours::embedded_log(&folder.path().join("log"), 1)?);
        let store = folder.path().join("store");
        let (mut orders, mut round) = (0_u32, 0);
        let mut size = 1_000;
        while size <= self.orders_max {
            if size > orders {
                round += 1;
                decide(&log, &store, size - orders, round)?;
                orders = size;
            }
            let started = platform::clock::monotonic();
            drop(Ready::new(&log, FIRST, &store)?);
            let restarted = started.elapsed();
            let restored = folder.path().join("restored");
            let ours::Restored { decisions, took, .. } = ours::restore(&log, &restored)?;
            let bytes = folder_bytes(&folder.path().join("log"))? + folder_bytes(&store)?;
            std::fs::remove_dir_all(&restored)?;
            round += 1;
            let probed = decide(&log, &store, PROBE, round)?;
            println!(
                "{orders:>13} {:>26.0} {:>7.0} ms {:>22.0} {:>32.0}",
                probed,
                restarted.as_secs_f64() * 1e3,
                per_second(decisions, took),
                bytes / f64::from(orders)
            );
            orders += PROBE;
            size *= 10;
        }
        self.drops()
    }

    /// Drops that wait for their opening, each with its timer.
    #[allow(clippy::print_stdout, reason = "it is what the program is for")]
    fn drops(&self) -> Result<()> {
        println!("drops waiting   decisions/s at that size   clean restart");
        let folder = tempfile::tempdir()?;
        let log = OurLog::Embedded(ours::embedded_log(&folder.path().join("log"), 1)?);
        let store = folder.path().join("store");
        let (mut drops, mut size, mut round) = (0, 1_000, 0);
        while size <= self.drops_max {
            ours::fill_upcoming(&log, FIRST, drops..size)?;
            drops = size;
            round += 1;
            decide(&log, &store, 1_000, round)?; // with it, the drops themselves
            round += 1;
            let probed = decide(&log, &store, PROBE, round)?;
            let started = platform::clock::monotonic();
            drop(Ready::new(&log, FIRST, &store)?);
            let restarted = started.elapsed().as_secs_f64() * 1e3;
            println!("{drops:>13} {probed:>26.0} {restarted:>7.0} ms");
            size *= 10;
        }
        Ok(())
    }
}

/// Decides so many intents of a new drop; per second.
fn decide(log: &OurLog, store: &Path, intents: u32, round: u32) -> Result<f64> {
    let hot = HotDrop { intents, stock: (intents / 100).max(1), round };
    ours::fill_drop(log, (ORDER_INTENTS, FIRST), hot)?;
    Ok(Ready::new(log, FIRST, store)?.decide(hot)?.per_second())
}

/// Bytes of every file below a folder.
fn folder_bytes(folder: &Path) -> Result<f64> {
    let mut bytes = 0.0;
    for entry in std::fs::read_dir(folder)? {
        let (path, kind) = entry.and_then(|entry| Ok((entry.path(), entry.metadata()?)))?;
        #[allow(clippy::cast_precision_loss, reason = "files are far below 2^52 bytes")]
        let size = kind.len() as f64;
        bytes += if kind.is_dir() { folder_bytes(&path)? } else { size };
    }
    Ok(bytes)
}
