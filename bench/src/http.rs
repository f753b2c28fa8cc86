//! A node over HTTP, as its users meet it: one real process on real Kafka, with its views, and the load in another.

mod site;
mod takeover;

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Result, ensure};
use platform::clock::monotonic;
use serde::{Deserialize, Serialize};
use tokio::runtime::Runtime;
use uuid::Uuid;

use crate::machine::cpu_seconds;
use crate::ours::resident_kibibytes;

use site::{Node, Role, Site};
pub(crate) use takeover::Takeovers;

/// How long a node may take to be ready, and to come to rest.
const READY_MAX: Duration = Duration::from_mins(2);
/// Buyers of a burst, and units for a tenth of them.
const BURST_BUYERS: u32 = 10_000;
/// Measured bursts of either kind, each on a drop of its own. One of either comes before: broker and node have not met so
/// much at once yet, and compile and allocate for it.
const BURSTS: u32 = 5;
/// Units of the drop that warms up the broker, and how long that takes: until then a core is its compilers'.
const WARM_UP_UNITS: u32 = 1_000;
const WARM_UP_SECONDS: &str = "60";
/// A steady rate takes other paths through the broker than a full load, and they are compiled anew.
const STEADY_WARM_UP_SECONDS: u32 = 30;
/// Connections that stream a drop while memory is weighed.
const STREAMS: u32 = 2_000;

/// Measures a node over HTTP.
#[derive(clap::Args)]
pub(crate) struct Http {
    /// The program.
    #[arg(long)]
    program: PathBuf,
    /// Only the latency at a steady rate.
    #[arg(long)]
    latency_only: bool,
    /// Orders per second of the steady rate.
    #[arg(long, default_value_t = 150)]
    rate: u32,
    /// Measured seconds of the steady rate; thirty of warm-up come before.
    #[arg(long, default_value_t = 60)]
    seconds: u32,
    /// The broker's process, whose CPU time counts with ours.
    #[arg(long, env = "STACK_KAFKA_PID")]
    broker_pid: u32,
    /// Where the figures go, as JSON.
    #[arg(long)]
    out: Option<PathBuf>,
}

/// What was measured; absent where it was not asked for.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Figures {
    /// See [`crate::machine`]; watched before the node starts.
    pub(crate) slow_windows_percent: f64,
    pub(crate) p50_ms: f64,
    pub(crate) p99_ms: f64,
    pub(crate) whole: Option<Whole>,
}

/// Several bursts of the same kind.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Bursts {
    pub(crate) seconds: Vec<f64>,
    pub(crate) p99_ms: Vec<f64>,
}

/// Orders that are answered with their decision, by connections that order again at once.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Results {
    pub(crate) per_second: f64,
    /// Of the node and the broker.
    pub(crate) cpu_seconds_per_1000: f64,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Whole {
    /// Of buyers who wait on the drop's page.
    pub(crate) burst: Bursts,
    /// Of buyers whose tokens are new to the node.
    pub(crate) burst_of_strangers: Bursts,
    pub(crate) intents_per_second: f64,
    pub(crate) intents_per_second_new_tokens: f64,
    pub(crate) results: Results,
    pub(crate) results_new_tokens: Results,
    pub(crate) reads_per_second: f64,
    pub(crate) reads_p99_ms: f64,
    pub(crate) kibibytes_per_stream: f64,
    pub(crate) takeovers: Takeovers,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Timed {
    latency_ms: Quantiles,
    seconds: f64,
    accepted: u32,
    rejected_by_reason: BTreeMap<String, u32>,
}

#[derive(Deserialize)]
struct Quantiles {
    p50: f64,
    p99: f64,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Sustained {
    requests: f64,
    per_second: f64,
    latency_ms: Quantiles,
}

impl Http {
    #[allow(clippy::print_stdout, reason = "it is what the program is for")]
    pub(crate) fn run(&self, runtime: &Runtime) -> Result<()> {
        let slow_windows_percent = crate::machine::slow_windows_percent();
        let folder = tempfile::tempdir()?;
        let site = Site::new(&self.program, folder.path())?;
        rlimit::increase_nofile_limit(u64::from(4 * STREAMS))?;
        let mut node = site.start(runtime, Role::All, "first")?;
        // Before anything else: later, memory that was freed would be taken first.
        let weighed = (!self.latency_only).then(|| kibibytes_per_stream(runtime, &site, &node));
        let weighed = weighed.transpose()?;
        let warming = site.schedule(runtime, &node, WARM_UP_UNITS)?;
        site.load::<Sustained>(&node, warming, &sustained("results", "256", WARM_UP_SECONDS))?;
        let Quantiles { p50, p99 } = self.steady(runtime, &site, &node)?;
        let whole = weighed.map(|kibibytes| self.whole(runtime, &site, &mut node, kibibytes));
        let whole = whole.transpose()?;
        let figures = Figures { slow_windows_percent, p50_ms: p50, p99_ms: p99, whole };
        let text = serde_json::to_string_pretty(&figures)?;
        println!("{text}");
        if let Some(path) = &self.out {
            std::fs::write(path, text + "\n")?;
        }
        Ok(())
    }

    fn steady(&self, runtime: &Runtime, site: &Site<'_>, node: &Node) -> Result<Quantiles> {
        let drop = site.schedule(runtime, node, 1_000_000)?;
        let seconds = STEADY_WARM_UP_SECONDS + self.seconds;
        let [rate, seconds, warm_up] =
            [self.rate, seconds, STEADY_WARM_UP_SECONDS].map(|number| number.to_string());
        let timed: Timed = site.load(
            node,
            drop,
            &["--rate", &rate, "--seconds", &seconds, "--warm-up-seconds", &warm_up],
        )?;
        let refused = &timed.rejected_by_reason;
        ensure!(refused.is_empty(), "refused at the steady rate: {refused:?}");
        Ok(timed.latency_ms)
    }

    /// On a node and a broker that the steady rate has warmed up.
    fn whole(
        &self,
        runtime: &Runtime,
        site: &Site<'_>,
        node: &mut Node,
        kibibytes_per_stream: f64,
    ) -> Result<Whole> {
        let (mut burst, mut burst_of_strangers) = (Bursts::default(), Bursts::default());
        for number in 0..=BURSTS {
            let waiting = one_burst(runtime, site, node, &[])?;
            let strangers = one_burst(runtime, site, node, &["--strangers"])?;
            if number > 0 {
                burst.add(&waiting);
                burst_of_strangers.add(&strangers);
            }
        }
        let drop = site.schedule(runtime, node, 1_000)?;
        let results = self.results(site, node, drop, &[])?;
        // Enough for 10,000 a second. Idle threads' CPU time counts while more of them are minted.
        let results_new_tokens = self.results(site, node, drop, &["--tokens", "200"])?;
        let reads: Sustained = site.load(node, drop, &sustained("reads", "64", "5"))?;
        let takeovers = takeover::measure(runtime, site, node)?;
        let api = site.start(runtime, Role::IngestApi, "api")?;
        let intents: Sustained = site.load(&api, drop, &sustained("intents", "256", "10"))?;
        let many_tokens = [&sustained("intents", "256", "10")[..], &["--tokens", "800"]].concat();
        let new_tokens: Sustained = site.load(&api, drop, &many_tokens)?;
        Ok(Whole {
            burst,
            burst_of_strangers,
            intents_per_second: intents.per_second,
            intents_per_second_new_tokens: new_tokens.per_second,
            results,
            results_new_tokens,
            reads_per_second: reads.per_second,
            reads_p99_ms: reads.latency_ms.p99,
            kibibytes_per_stream,
            takeovers,
        })
    }

    fn results(&self, site: &Site<'_>, node: &Node, drop: Uuid, more: &[&str]) -> Result<Results> {
        let watched = [self.broker_pid, node.process.id()];
        until_quiet(&watched)?;
        let before = cpu_seconds(&watched)?;
        let load = [&sustained("results", "512", "10")[..], more].concat();
        let results: Sustained = site.load(node, drop, &load)?;
        until_quiet(&watched)?;
        let used = cpu_seconds(&watched)? - before;
        Ok(Results {
            per_second: results.per_second,
            cpu_seconds_per_1000: used / results.requests * 1_000.0,
        })
    }
}

impl Bursts {
    fn add(&mut self, burst: &Timed) {
        self.seconds.push(burst.seconds);
        self.p99_ms.push(burst.latency_ms.p99);
    }
}

fn one_burst(runtime: &Runtime, site: &Site<'_>, node: &Node, more: &[&str]) -> Result<Timed> {
    let drop = site.schedule(runtime, node, BURST_BUYERS / 10)?;
    let buyers = BURST_BUYERS.to_string();
    let burst: Timed = site.load(node, drop, &[&["--burst", &buyers], more].concat())?;
    let is_right = burst.accepted == BURST_BUYERS / 10
        && burst.rejected_by_reason.keys().all(|reason| reason == "sold_out");
    ensure!(is_right, "granted {}, refused {:?}", burst.accepted, burst.rejected_by_reason);
    Ok(burst)
}

fn sustained<'a>(ask: &'a str, connections: &'a str, seconds: &'a str) -> [&'a str; 6] {
    ["--connections", connections, "--ask", ask, "--seconds", seconds]
}

/// Waits until the views have caught up too: until the processes use little more than when idle.
fn until_quiet(pids: &[u32]) -> Result<()> {
    const LOOK: Duration = Duration::from_millis(500);
    let started = monotonic();
    let mut last = cpu_seconds(pids)?;
    loop {
        std::thread::sleep(LOOK);
        let now = cpu_seconds(pids)?;
        if now - last < LOOK.as_secs_f64() / 2.0 {
            return Ok(());
        }
        ensure!(started.elapsed() < READY_MAX, "the node does not come to rest");
        last = now;
    }
}

/// What each of many connections that stream a drop adds to the node's memory.
fn kibibytes_per_stream(runtime: &Runtime, site: &Site<'_>, node: &Node) -> Result<f64> {
    let drop = site.schedule(runtime, node, 1)?;
    let address = node.url.trim_start_matches("http://");
    let before = resident_kibibytes(node.process.id())?;
    let mut streams = Vec::new();
    for _ in 0..STREAMS {
        let mut stream = TcpStream::connect(address)?;
        write!(stream, "GET /drops/{drop}/events HTTP/1.1\r\nHost: {address}\r\n\r\n")?;
        let mut first = [0; 256];
        ensure!(stream.read(&mut first)? > 0, "a stream was closed");
        ensure!(first.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&first));
        streams.push(stream);
    }
    let grown = resident_kibibytes(node.process.id())?.saturating_sub(before);
    Ok(f64::from(grown) / f64::from(STREAMS))
}
