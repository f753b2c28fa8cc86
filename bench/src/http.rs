//! A node over HTTP, as its users meet it: one real process on real Kafka, with its views, and the load in another.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use platform::clock::monotonic;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::runtime::Runtime;
use uuid::Uuid;

use crate::ours::resident_kibibytes;

const READY_MAX: Duration = Duration::from_mins(2);
/// Clock ticks per second of `/proc/*/stat` on Linux.
const TICKS_PER_SECOND: f64 = 100.0;
/// Buyers of a burst, and units for a tenth of them.
const BURST_BUYERS: u32 = 10_000;
/// Bursts, each on a drop of its own.
const BURSTS: u32 = 3;
/// Units of the drop that warms up the broker, and how long that takes: until then a core is its compilers'.
const WARM_UP_UNITS: u32 = 1_000;
const WARM_UP_SECONDS: &str = "60";
/// A steady rate takes other paths through the broker than a full load, and they are compiled anew.
const STEADY_WARM_UP_SECONDS: u32 = 30;
/// Connections that stream a drop while memory is weighed.
const STREAMS: u32 = 2_000;
/// Drops of which each has to be decided by the node that is left: enough to be on every partition's owner.
const TAKEOVER_DROPS: u32 = 16;

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

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Whole {
    pub(crate) burst_seconds: Vec<f64>,
    pub(crate) burst_p99_ms: Vec<f64>,
    pub(crate) intents_per_second: f64,
    pub(crate) intents_per_second_new_tokens: f64,
    pub(crate) results_per_second: f64,
    pub(crate) cpu_seconds_per_1000: f64,
    pub(crate) reads_per_second: f64,
    pub(crate) reads_p99_ms: f64,
    pub(crate) kibibytes_per_stream: f64,
    pub(crate) takeover_seconds: f64,
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
        let mut bursts = Vec::new();
        for _ in 0..BURSTS {
            let drop = site.schedule(runtime, node, BURST_BUYERS / 10)?;
            let burst: Timed = site.load(node, drop, &["--burst", &BURST_BUYERS.to_string()])?;
            let is_right = burst.accepted == BURST_BUYERS / 10
                && burst.rejected_by_reason.keys().all(|reason| reason == "sold_out");
            ensure!(is_right, "granted {}, refused {:?}", burst.accepted, burst.rejected_by_reason);
            bursts.push(burst);
        }
        let watched = [self.broker_pid, node.process.id()];
        let drop = site.schedule(runtime, node, 1_000)?;
        until_quiet(&watched)?;
        let before = cpu_seconds(&watched)?;
        // Enough for 10,000 a second. Idle threads' CPU time counts while more of them are minted.
        let many_tokens = [&sustained("results", "512", "10")[..], &["--tokens", "200"]].concat();
        let results: Sustained = site.load(node, drop, &many_tokens)?;
        until_quiet(&watched)?;
        let used = cpu_seconds(&watched)? - before;
        let reads: Sustained = site.load(node, drop, &sustained("reads", "64", "5"))?;
        let takeover_seconds = takeover(runtime, site, node)?;
        let api = site.start(runtime, Role::IngestApi, "api")?;
        let intents: Sustained = site.load(&api, drop, &sustained("intents", "256", "10"))?;
        let many_tokens = [&sustained("intents", "256", "10")[..], &["--tokens", "800"]].concat();
        let new_tokens: Sustained = site.load(&api, drop, &many_tokens)?;
        Ok(Whole {
            burst_seconds: bursts.iter().map(|burst| burst.seconds).collect(),
            burst_p99_ms: bursts.iter().map(|burst| burst.latency_ms.p99).collect(),
            intents_per_second: intents.per_second,
            intents_per_second_new_tokens: new_tokens.per_second,
            results_per_second: results.per_second,
            cpu_seconds_per_1000: used / results.requests * 1_000.0,
            reads_per_second: reads.per_second,
            reads_p99_ms: reads.latency_ms.p99,
            kibibytes_per_stream,
            takeover_seconds,
        })
    }
}

fn sustained<'a>(ask: &'a str, connections: &'a str, seconds: &'a str) -> [&'a str; 6] {
    ["--connections", connections, "--ask", ask, "--seconds", seconds]
}

/// What a node does.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Role {
    /// Everything: API, processors, views, payments.
    All,
    /// HTTP and the append to the log, nothing else.
    IngestApi,
}

/// Keys, folders and the program, shared by its nodes.
struct Site<'a> {
    program: &'a Path,
    folder: &'a Path,
}

/// A process that serves HTTP; it is killed when it is dropped.
struct Node {
    process: Child,
    url: String,
}

impl Drop for Node {
    fn drop(&mut self) {
        // It may have been killed already.
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

impl<'a> Site<'a> {
    fn new(program: &'a Path, folder: &'a Path) -> Result<Self> {
        let site = Self { program, folder };
        let made = site.command(&["keys", "--out"]).arg(folder.join("keys")).output()?;
        ensure!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        Ok(site)
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(self.program);
        command
            .args(arguments)
            .env("LIVEDROPS_AUTH__PUBLIC_KEYS", self.folder.join("keys/public-key.pem"))
            .env("LIVEDROPS_AUTH__SIGNING_KEY", self.folder.join("keys/signing-key.pem"))
            .env("LIVEDROPS_LISTEN__INTERNAL", "none")
            .env("RUST_LOG", "error");
        command
    }

    /// A node that listens and owns every partition it can get.
    fn start(&self, runtime: &Runtime, role: Role, name: &str) -> Result<Node> {
        let command = if role == Role::All { "all" } else { "ingest-api" };
        let mut process = self
            .command(&[command, "--log", "kafka", "--listen", "127.0.0.1:0", "--data-dir"])
            .arg(self.folder.join(name))
            .stdout(Stdio::piped())
            .spawn()?;
        let printed = BufReader::new(process.stdout.take().context("a node without output")?);
        let mut node = Node { process, url: String::new() };
        for line in printed.lines() {
            if let Some((_, address)) = line?.split_once("http://") {
                node.url = format!("http://{address}");
                break;
            }
        }
        ensure!(!node.url.is_empty(), "the node ended before it listened");
        let started = monotonic();
        while !runtime.block_on(is_ready(&node.url, role)) {
            ensure!(started.elapsed() < READY_MAX, "the node is not ready after {READY_MAX:?}");
            std::thread::sleep(Duration::from_millis(100));
        }
        Ok(node)
    }

    fn token(&self, user: Uuid, scope: &str) -> Result<String> {
        let user = user.to_string();
        let minted = self.command(&["token", "--user", &user, "--scope", scope]).output()?;
        ensure!(minted.status.success(), "{}", String::from_utf8_lossy(&minted.stderr));
        Ok(String::from_utf8(minted.stdout)?.trim().to_owned())
    }

    /// A drop that is on sale, of a new creator.
    fn schedule(&self, runtime: &Runtime, node: &Node, stock: u32) -> Result<Uuid> {
        let creator = platform::clock::random_uuid();
        let token = self.token(creator, &format!("creator:{creator}:write"))?;
        let body = json!({
            "productId": creator, "title": "Bench", "startsAt": "2020-01-01T00:00:00Z",
            "endsAt": "2999-01-01T00:00:00Z", "stock": stock, "price": {"amount": 0, "currency": "EUR"},
        });
        let url = format!("{}/creators/{creator}/drops", node.url);
        let answer = runtime.block_on(post(&url, &token, &body))?;
        let id = answer["drop"]["id"].as_str().and_then(|id| id.parse().ok());
        id.with_context(|| format!("not scheduled: {answer}"))
    }

    /// Runs the load in a process of its own and reads its report.
    fn load<T: for<'de> Deserialize<'de>>(
        &self,
        node: &Node,
        drop: Uuid,
        arguments: &[&str],
    ) -> Result<T> {
        let report = self.folder.join("load.json");
        let ran = self
            .command(&["load", "--url", &node.url, "--drop", &drop.to_string()])
            .args(arguments)
            .arg("--report")
            .arg(&report)
            .output()?;
        ensure!(ran.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&ran.stderr));
        Ok(serde_json::from_slice(&std::fs::read(report)?)?)
    }
}

async fn is_ready(url: &str, role: Role) -> bool {
    let Ok(response) = reqwest::get(format!("{url}/readyz")).await else { return false };
    let is_ok = response.status() == 200;
    let body: Value = response.json().await.unwrap_or_default();
    let owns_some = body["partitions"].as_array().is_some_and(|owned| !owned.is_empty());
    is_ok && (owns_some || role == Role::IngestApi)
}

async fn post(url: &str, token: &str, body: &Value) -> Result<Value> {
    let response = reqwest::Client::new()
        .post(url)
        .bearer_auth(token)
        .header("idempotency-key", "bench")
        .header("prefer", "wait=20")
        .json(body)
        .send()
        .await?;
    Ok(response.json().await?)
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

/// Kills a node; seconds until another one has decided an order of every drop, whoever owned it.
fn takeover(runtime: &Runtime, site: &Site<'_>, node: &mut Node) -> Result<f64> {
    let other = site.start(runtime, Role::All, "second")?;
    let drops = (0..TAKEOVER_DROPS).map(|_| site.schedule(runtime, &other, 10));
    let drops = drops.collect::<Result<Vec<_>>>()?;
    let token = site.token(platform::clock::random_uuid(), "")?;
    node.process.kill()?;
    let killed = monotonic();
    runtime.block_on(async {
        let mut orders = tokio::task::JoinSet::new();
        for drop in drops {
            let (url, token) = (format!("{}/drops/{drop}/orders", other.url), token.clone());
            orders.spawn(async move { post(&url, &token, &json!({"qty": 1})).await });
        }
        while let Some(answer) = orders.join_next().await {
            let answer = answer??;
            ensure!(answer["order"]["status"] == "CONFIRMED", "not decided: {answer}");
        }
        Ok(())
    })?;
    Ok(killed.elapsed().as_secs_f64())
}
