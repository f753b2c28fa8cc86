//! The hot drop in Redis: one script that reserves, remembers the key and appends the outcome, pipelined.

use std::ops::Range;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result};

use crate::workload::HotDrop;

/// Calls sent before their answers are read. Redis syncs its file once per turn of its loop, so clients that send many at
/// once are its best case.
const PIPELINE: u32 = 1_000;
/// One's calls are run while the other reads its answers and writes the next ones.
const CLIENTS: usize = 2;

/// KEYS: stock, order, stream. ARGV: order, quantity.
const RESERVE: &str = "
local known = redis.call('GET', KEYS[2])
if known then return known end
local outcome = 'sold_out'
if tonumber(redis.call('GET', KEYS[1])) >= tonumber(ARGV[2]) then
  redis.call('DECRBY', KEYS[1], ARGV[2])
  outcome = 'reserved'
end
redis.call('SET', KEYS[2], outcome)
redis.call('XADD', KEYS[3], '*', 'order', ARGV[1], 'outcome', outcome)
return outcome";

/// How durable an answer is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Sync {
    /// Synced before it is given, as ours is.
    Always,
    /// Lost with up to a second of others when the machine dies.
    EverySecond,
}

impl Sync {
    fn word(self) -> &'static str {
        match self {
            Self::Always => "always",
            Self::EverySecond => "everysec",
        }
    }
}

/// Reserves for so long, or until the workload ends; decisions and how long they took.
pub(crate) fn run(
    url: &str,
    sync: Sync,
    drop: HotDrop,
    length: Duration,
) -> Result<(u32, Duration)> {
    let mut connection = redis::Client::open(url)?.get_connection()?;
    redis::cmd("FLUSHALL").exec(&mut connection)?;
    let set = ["SET", "appendfsync", sync.word()];
    redis::cmd("CONFIG").arg(&set).exec(&mut connection)?;
    redis::cmd("SET").arg("stock").arg(drop.stock).exec(&mut connection)?;
    let load = redis::cmd("SCRIPT").arg("LOAD").arg(RESERVE).query::<String>(&mut connection);
    let script = load.context("the script does not load")?;
    let clients = (0..CLIENTS).map(|_| redis::Client::open(url)?.get_connection());
    let clients = clients.collect::<Result<Vec<_>, _>>()?;
    let (next, started) = (AtomicU32::new(0), platform::clock::monotonic());
    let reserve = |mut connection| -> Result<u32> {
        let mut done = 0;
        while started.elapsed() < length {
            let first = next.fetch_add(PIPELINE, Ordering::Relaxed);
            if first >= drop.intents {
                break;
            }
            let last = drop.intents.min(first + PIPELINE);
            reserve_each(&mut connection, &script, drop, first..last)?;
            done += last - first;
        }
        Ok(done)
    };
    let done = std::thread::scope(|scope| {
        let running = clients.into_iter().map(|client| scope.spawn(|| reserve(client)));
        let running: Vec<_> = running.collect();
        let done =
            running.into_iter().map(|thread| thread.join().expect("a client does not panic"));
        done.sum::<Result<u32>>()
    })?;
    Ok((done, started.elapsed()))
}

fn reserve_each(
    connection: &mut redis::Connection,
    script: &str,
    drop: HotDrop,
    intents: Range<u32>,
) -> Result<()> {
    let mut calls = redis::pipe();
    for intent in intents {
        let order = drop.order_id(HotDrop::buyer(intent)).0;
        let key = [&b"order:"[..], &order].concat();
        let call = calls.cmd("EVALSHA").arg(script).arg(3);
        call.arg("stock").arg(key).arg("outcomes").arg(&order[..]).arg(1);
    }
    calls.query::<Vec<String>>(connection)?;
    Ok(())
}

/// What the server says it is.
pub(crate) fn version(url: &str) -> Result<String> {
    let mut connection = redis::Client::open(url)?.get_connection()?;
    let info: String = redis::cmd("INFO").arg("server").query(&mut connection)?;
    let line = info.lines().find_map(|line| line.strip_prefix("redis_version:"));
    Ok(line.unwrap_or("of unknown version").to_owned())
}
