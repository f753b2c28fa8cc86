//! Every side in turn, round after round, on one machine.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use schemas::topics::ORDER_INTENTS;
use serde::Deserialize;
use tokio::runtime::Runtime;

use crate::bare_loop;
use crate::http::{Figures, Results, Takeovers};
use crate::ours::{self, FIRST, OurLog, Ready, Restored};
use crate::postgres_peer;
use crate::redis_peer::{self, Sync};
use crate::report::{Bar, Colours, Line, Report, Samples, per_second};
use crate::workload::HotDrop;
use crate::{machine, views};

/// How long Redis runs: every call is the same work for it, so a part of the drop is as good as all of it.
const REDIS_LENGTH: Duration = Duration::from_secs(5);
/// Restores of all that was decided.
const RESTORES: u32 = 3;
/// The whole workload of a side that decides some thousand orders in a second, with its shares of winners and repeats.
const SLOW_SIDE_INTENTS: u32 = 20_000;
/// Idle partitions whose memory is weighed.
const IDLE_PARTITIONS: u16 = 8;

/// What to run, and where the servers are.
#[derive(clap::Args)]
pub(crate) struct Suite {
    #[arg(long, default_value_t = 5)]
    rounds: u32,
    #[arg(long, default_value_t = 1_000_000)]
    intents: u32,
    #[arg(long, env = "LIVEDROPS_KAFKA__BROKERS")]
    brokers: String,
    #[arg(long, env = "LIVEDROPS_POSTGRES__URL")]
    postgres: String,
    #[arg(long, env = "LIVEDROPS_CLICKHOUSE__URL")]
    clickhouse: String,
    #[arg(long, env = "BENCH_REDIS_URL")]
    redis: String,
    #[arg(long, env = "BENCH_STREAMS_CLASSPATH")]
    streams_classpath: String,
    /// Source of the Kafka Streams peer.
    #[arg(long, default_value = "bench/peers/HotDropStreams.java")]
    streams_source: PathBuf,
    /// What `bench http` wrote.
    #[arg(long)]
    http: Option<PathBuf>,
    /// Estimates of `make bench-core` for a hot drop.
    #[arg(long)]
    core: Option<PathBuf>,
    /// Where results go.
    #[arg(long, default_value = "bench/results")]
    out: PathBuf,
}

/// Decisions per second of every side.
#[derive(Default)]
struct Rates {
    kafka: Samples,
    kafka_bare: Samples,
    kafka_all_win: Samples,
    embedded: Samples,
    streams: Samples,
    redis_always: Samples,
    redis_every_second: Samples,
    postgres: Samples,
    /// See [`machine::links_per_second`].
    machine: Samples,
}

impl Suite {
    pub(crate) fn run(&self, runtime: &Runtime) -> Result<()> {
        // Now: somebody may commit while it runs.
        let commit = output("git", &["describe", "--always", "--dirty", "--exclude", "*"])?;
        let folder = tempfile::tempdir()?;
        // First: later, memory that was freed would be taken before any is asked for.
        let idle_folder = folder.path().join("idle");
        let idle = ours::kibibytes_per_idle_partition(&idle_folder, IDLE_PARTITIONS)?;
        let kafka = runtime.block_on(OurLog::kafka(&self.brokers, 1))?;
        let log = ours::embedded_log(&folder.path().join("log"), 1)?;
        let embedded = OurLog::Embedded(log.clone());
        let run_round = |round, rates: &mut Rates| {
            self.round(runtime, round, folder.path(), &kafka, &embedded, rates)
        };
        // Not counted: a broker that has just started still compiles what it does often, and every side pays for it.
        run_round(0, &mut Rates::default())?;
        let mut rates = Rates::default();
        for round in 1..=self.rounds {
            run_round(round, &mut rates)?;
        }
        let (mut restored, mut restored_per_core) = (Samples::default(), Samples::default());
        for time in 1..=RESTORES {
            let folder = folder.path().join(format!("restored-{time}"));
            let Restored { decisions, took, cpu } = ours::restore(&embedded, &folder)?;
            restored_per_core.0.push(per_second(decisions, cpu));
            progress(time, "restored", &mut restored, per_second(decisions, took));
            std::fs::remove_dir_all(folder)?;
        }
        let mut lines = self.core_lines()?;
        lines.extend(rates.lines());
        lines.extend(self.http_lines()?);
        let (decisions, took) = views::postgres(runtime, &log, &self.postgres)?;
        let into_postgres = Samples::one(per_second(decisions, took));
        let bar = Some(Bar::AtLeast(30_000.0));
        lines.push(Line::new("Postgres view", "decisions/s", bar, into_postgres));
        let (decisions, took) = views::clickhouse(runtime, &log, &self.clickhouse)?;
        let into_clickhouse = Samples::one(per_second(decisions, took));
        let bar = Some(Bar::AtLeast(150_000.0));
        lines.push(Line::new("ClickHouse view", "decisions/s", bar, into_clickhouse));
        lines.push(Line::new(
            "restore: fold into RocksDB, per core",
            "per CPU s",
            Some(Bar::AtLeast(700_000.0)),
            restored_per_core,
        ));
        lines.push(Line::new("the same: one partition", "decisions/s", None, restored));
        lines.push(Line::new(
            "memory of an idle partition",
            "MiB",
            Some(Bar::AtMost(32.0)),
            Samples::one(f64::from(idle) / 1_024.0),
        ));
        let report = Report {
            commit,
            cores: std::thread::available_parallelism()?.get(),
            rounds: self.rounds,
            intents: self.intents,
            versions: self.versions(runtime)?,
            lines,
        };
        self.publish(&report)
    }

    fn round(
        &self,
        runtime: &Runtime,
        round: u32,
        folder: &Path,
        kafka: &OurLog,
        embedded: &OurLog,
        rates: &mut Rates,
    ) -> Result<()> {
        let links = machine::links_per_second();
        progress(round, "the machine: links of a chain", &mut rates.machine, links);

        let drop = HotDrop { intents: self.intents, stock: self.intents / 100, round };
        ours::fill_drop(kafka, (ORDER_INTENTS, FIRST), drop)?;
        let decided = Ready::new(kafka, FIRST, &folder.join("kafka-store"))?.decide(drop)?;
        progress(round, "ours on Kafka", &mut rates.kafka, decided.per_second());

        let streams = self.streams(drop)?;
        progress(round, "Kafka Streams", &mut rates.streams, streams);

        let bare = bare_loop::run(kafka, FIRST, drop)?;
        progress(round, "a bare loop on Kafka", &mut rates.kafka_bare, bare);

        let all_win = HotDrop { intents: self.intents / 2, stock: self.intents, round };
        ours::fill_drop(kafka, (ORDER_INTENTS, FIRST), all_win)?;
        let decided = Ready::new(kafka, FIRST, &folder.join("kafka-store"))?.decide(all_win)?;
        progress(round, "ours on Kafka, all win", &mut rates.kafka_all_win, decided.per_second());

        ours::fill_drop(embedded, (ORDER_INTENTS, FIRST), drop)?;
        let decided = Ready::new(embedded, FIRST, &folder.join("embedded-store"))?.decide(drop)?;
        progress(round, "ours, embedded", &mut rates.embedded, decided.per_second());

        for (sync, name, samples) in [
            (Sync::Always, "Redis, synced always", &mut rates.redis_always),
            (Sync::EverySecond, "Redis, synced every second", &mut rates.redis_every_second),
        ] {
            let (done, took) = redis_peer::run(&self.redis, sync, drop, REDIS_LENGTH)?;
            progress(round, name, samples, per_second(done, took));
        }
        let few = self.intents.min(SLOW_SIDE_INTENTS);
        let small = HotDrop { intents: few, stock: few / 100, round };
        let ran = runtime.block_on(postgres_peer::run(&self.postgres, small))?;
        progress(round, "Postgres row lock", &mut rates.postgres, per_second(ran.0, ran.1));
        Ok(())
    }

    fn streams(&self, drop: HotDrop) -> Result<f64> {
        #[derive(Deserialize)]
        struct Printed {
            intents: f64,
            seconds: f64,
        }
        let mut java = Command::new("java");
        java.args([
            "-Xmx2g",
            "-XX:+UseParallelGC",
            "-Dorg.slf4j.simpleLogger.defaultLogLevel=error",
            "-cp",
        ])
        .arg(&self.streams_classpath)
        .arg(&self.streams_source)
        .arg(&self.brokers)
        .args([drop.intents, drop.stock, drop.round].map(|number| number.to_string()));
        let output = java.output().context("java does not start")?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let printed: Printed = serde_json::from_slice(&output.stdout)?;
        Ok(printed.intents / printed.seconds)
    }

    /// `decide` + `apply` from criterion's estimates, in nanoseconds per 10,000 orders.
    fn core_lines(&self) -> Result<Vec<Line>> {
        #[derive(Deserialize)]
        struct Estimates {
            median: Estimate,
        }
        #[derive(Deserialize)]
        struct Estimate {
            point_estimate: f64,
        }
        let Some(path) = &self.core else { return Ok(Vec::new()) };
        let estimates: Estimates = read(path)?;
        let rate = 10_000.0 * 1e9 / estimates.median.point_estimate;
        let bar = Some(Bar::AtLeast(2e6));
        Ok(vec![Line::new(
            "pure decide + apply, one thread",
            "decisions/s",
            bar,
            Samples::one(rate),
        )])
    }

    fn http_lines(&self) -> Result<Vec<Line>> {
        let Some(path) = &self.http else { return Ok(Vec::new()) };
        let Figures { slow_windows_percent, p50_ms, p99_ms, whole } = read(path)?;
        let at_most = |what: &str, unit, bar, values: Vec<f64>| {
            Line::new(what, unit, Some(Bar::AtMost(bar)), Samples(values))
        };
        let at_least = |what: &str, bar, value| {
            Line::new(what, "per s", Some(Bar::AtLeast(bar)), Samples::one(value))
        };
        let slow = Samples::one(slow_windows_percent);
        let mut lines = vec![
            Line::new("the machine: 20 ms below half its speed", "%", None, slow),
            at_most("150 orders/s over HTTP on Kafka, p50", "ms", 8.0, vec![p50_ms]),
            at_most("150 orders/s over HTTP on Kafka, p99", "ms", 25.0, vec![p99_ms]),
        ];
        let Some(whole) = whole else { return Ok(lines) };
        let cpu = |results: &Results| vec![results.cpu_seconds_per_1000];
        let rate = |results: &Results| Samples::one(results.per_second);
        lines.extend([
            at_most("10,000 waiting buyers at once, HTTP on Kafka", "s", 1.5, whole.burst.seconds),
            at_most("10,000 waiting buyers at once, p99", "ms", 1_000.0, whole.burst.p99_ms),
            at_most(
                "10,000 strangers at once: every JWT new",
                "s",
                1.5,
                whole.burst_of_strangers.seconds,
            ),
            at_most(
                "10,000 strangers at once, p99",
                "ms",
                1_000.0,
                whole.burst_of_strangers.p99_ms,
            ),
            at_least("ingest: known JWT, key, durable ack", 20_000.0, whole.intents_per_second),
            at_least("ingest: every JWT a new one", 20_000.0, whole.intents_per_second_new_tokens),
            Line::new("orders to results, known JWT", "per s", None, rate(&whole.results)),
            Line::new(
                "orders to results, every JWT new",
                "per s",
                None,
                rate(&whole.results_new_tokens),
            ),
            at_most("CPU of 1,000 orders to results, known JWT", "s", 0.15, cpu(&whole.results)),
            at_most(
                "CPU of 1,000 orders to results, JWT new",
                "s",
                0.15,
                cpu(&whole.results_new_tokens),
            ),
            at_least("reads by id", 10_000.0, whole.reads_per_second),
            at_most("reads by id, p99", "ms", 20.0, vec![whole.reads_p99_ms]),
            at_most("memory of a live stream", "KiB", 20.0, vec![whole.kibibytes_per_stream]),
        ]);
        lines.extend(takeover_lines(&whole.takeovers));
        Ok(lines)
    }

    fn versions(&self, runtime: &Runtime) -> Result<Vec<String>> {
        let postgres = runtime.block_on(postgres_peer::version(&self.postgres))?;
        let redis = redis_peer::version(&self.redis)?;
        Ok(vec!["Kafka 4.3.1".into(), format!("Postgres {postgres}"), format!("Redis {redis}")])
    }

    #[allow(clippy::print_stdout, reason = "it is what the program is for")]
    fn publish(&self, report: &Report) -> Result<()> {
        println!("{}", report.text(Colours::Terminal));
        std::fs::create_dir_all(&self.out)?;
        std::fs::write(
            self.out.join("results.json"),
            serde_json::to_string_pretty(report)? + "\n",
        )?;
        std::fs::write(self.out.join("results.svg"), report.picture())?;
        std::fs::write(self.out.join("results.txt"), report.text(Colours::None))?;
        Ok(())
    }
}

impl Rates {
    fn lines(&self) -> Vec<Line> {
        let bar = Some(Bar::AtLeast(400_000.0));
        let line =
            |what: &str, bar, ours: &Samples| Line::new(what, "decisions/s", bar, ours.clone());
        let on_kafka = |bar| line("hot drop on Kafka, exactly once, 1 % win", bar, &self.kafka);
        let embedded = |bar| line("hot drop, embedded log, fsync per commit", bar, &self.embedded);
        vec![
            Line::new(
                "the machine: BLAKE3 of 330 bytes, one core",
                "per s",
                None,
                self.machine.clone(),
            ),
            on_kafka(bar).beside("Kafka Streams", &self.streams, Some(2.5)),
            on_kafka(None).beside("Postgres row lock", &self.postgres, None),
            on_kafka(None).beside("bare loop, the limit", &self.kafka_bare, None),
            line("half as many orders, everybody wins", None, &self.kafka_all_win),
            embedded(bar).beside("Redis, fsync always", &self.redis_always, Some(2.0)),
            embedded(None).beside("Redis, fsync each s", &self.redis_every_second, None),
        ]
    }
}

fn takeover_lines(takeovers: &Takeovers) -> [Line; 4] {
    let line =
        |what: &str, seconds| Line::new(what, "s", Some(Bar::AtMost(3.0)), Samples::one(seconds));
    let decisions = Samples::one(takeovers.largest_decisions);
    [
        line("takeover of the largest partition", takeovers.largest_seconds),
        Line::new("its decisions, which are folded first", "", None, decisions),
        line("takeover of the other partitions", takeovers.others_seconds),
        line("takeover by a standby", takeovers.standby_seconds),
    ]
}

fn read<T: for<'de> Deserialize<'de>>(path: &Path) -> Result<T> {
    let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
    Ok(serde_json::from_str(&text)?)
}

fn output(program: &str, arguments: &[&str]) -> Result<String> {
    let output = Command::new(program).args(arguments).output()?;
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

#[allow(clippy::print_stderr, reason = "a run takes minutes")]
fn progress(round: u32, side: &str, samples: &mut Samples, rate: f64) {
    eprintln!("round {round}: {side:<28} {rate:>10.0}/s");
    samples.0.push(rate);
}
