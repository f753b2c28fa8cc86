//! What processes use of the machine, how fast it is in this hour, and how steady: no answer on it is steadier.
//!
//! A virtual core may do less than a whole one for a moment without any scheduler inside the machine noticing. A loop
//! that only computes, alone on the machine, shows it.

use std::hint::black_box;
use std::time::Duration;

use anyhow::{Context as _, Result};
use platform::clock::monotonic;
use schemas::decision::{FIRST_LINK, next_link};

use crate::report::per_second;

/// As many bytes as a decision has.
const RECORD: [u8; 330] = [7; 330];
/// Links between two looks at the clock.
const LINKS: u32 = 1_000;
const LINKED: Duration = Duration::from_millis(500);

/// Clock ticks per second of `/proc/*/stat` on Linux.
const TICKS_PER_SECOND: f64 = 100.0;
const WATCHED: Duration = Duration::from_secs(5);
const WINDOW: Duration = Duration::from_millis(20);
/// Steps of a chunk, some 40 us.
const CHUNK_STEPS: u32 = 20_000;

/// How many decisions one core could put into a chain in a second, if it did nothing else: rates of different hours, and of
/// different machines, are read beside it.
pub(crate) fn links_per_second() -> f64 {
    let (started, mut link, mut links) = (monotonic(), FIRST_LINK, 0);
    while started.elapsed() < LINKED {
        for _ in 0..LINKS {
            link = next_link(link, black_box(&RECORD));
        }
        links += LINKS;
    }
    black_box(link);
    per_second(links, started.elapsed())
}

/// Per cent of windows of 20 ms in which one thread did less than half of what its fastest chunk promises.
pub(crate) fn slow_windows_percent() -> f64 {
    let (mut fastest, mut windows) = (Duration::MAX, Vec::new());
    let started = monotonic();
    while started.elapsed() < WATCHED {
        let (window, mut chunks) = (monotonic(), 0_u32);
        while window.elapsed() < WINDOW {
            let chunk = monotonic();
            compute();
            fastest = fastest.min(chunk.elapsed());
            chunks += 1;
        }
        windows.push((chunks, window.elapsed()));
    }
    let is_slow = |(chunks, took): &&(u32, Duration)| fastest * *chunks * 2 < *took;
    let slow = windows.iter().filter(is_slow).count();
    #[allow(clippy::cast_precision_loss, reason = "there are some hundred windows")]
    let share = slow as f64 / windows.len() as f64;
    100.0 * share
}

/// User and system time of the processes so far.
pub(crate) fn cpu_seconds(pids: &[u32]) -> Result<f64> {
    let mut ticks = 0.0;
    for pid in pids {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
        // The name in parentheses may hold anything; utime and stime are the 12th and 13th field after it.
        let (_, fields) = stat.rsplit_once(')').context("no name in stat")?;
        let used: Vec<f64> =
            fields.split_whitespace().skip(11).take(2).map(str::parse).collect::<Result<_, _>>()?;
        ticks += used.iter().sum::<f64>();
    }
    Ok(ticks / TICKS_PER_SECOND)
}

/// Xorshift, because every step needs the one before.
fn compute() {
    let mut state = black_box(88_172_645_463_325_252_u64);
    for _ in 0..CHUNK_STEPS {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
    }
    black_box(state);
}
