//! The thread that steps a partition in production.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use model::Processor;
use schemas::units::Millis;

use crate::log::Log;
use crate::partition_task::{Exit, PartitionTask, Wake};
use crate::store::Store;

/// Longest sleep between steps: how long a stop request may wait.
const WAIT_MAX: Duration = Duration::from_millis(200);

/// Steps `task` until it exits or `stop` is set. Blocks: give it its own OS thread.
pub fn run<P: Processor, L: Log, S: Store>(
    task: &mut PartitionTask<P, L, S>,
    stop: &Arc<AtomicBool>,
    now: impl Fn() -> Millis,
) -> Exit {
    while !stop.load(Ordering::Relaxed) {
        match task.step(now()) {
            Ok(Wake::Now) => {}
            Ok(Wake::OnIntents { until }) => {
                let left = until.map_or(WAIT_MAX, |until| length(until.since(now())));
                task.wait_for_intents(left.min(WAIT_MAX));
            }
            // What a stalled or recovering partition waits for does not announce itself.
            Ok(Wake::At(instant)) => std::thread::sleep(length(instant.since(now())).min(WAIT_MAX)),
            Err(exit) => return exit,
        }
    }
    task.settle(now()).err().unwrap_or(Exit::Stopped)
}

/// Lets `task` stand by until `is_over`. Whoever ends it unparks the thread.
///
/// # Errors
/// [`Exit`]: the task is over.
pub fn stand_by<P: Processor, L: Log, S: Store>(
    task: &mut PartitionTask<P, L, S>,
    is_over: impl Fn() -> bool,
    now: impl Fn() -> Millis,
) -> Result<(), Exit> {
    while !is_over() {
        let wake = task.stand_by(now())?;
        // A step may have waited for a thread of its own, and taken the unparking for that thread's.
        if let Wake::At(instant) = wake
            && !is_over()
        {
            std::thread::park_timeout(length(instant.since(now())));
        }
    }
    Ok(())
}

fn length(millis: Millis) -> Duration {
    Duration::from_millis(millis.0.max(0).cast_unsigned())
}
