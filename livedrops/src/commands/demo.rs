//! `livedrops demo`: one live drop through the whole pipeline over real HTTP, then a verified report.

mod encore;
mod report;

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use payments::client::SimulatedProvider;
use payments::provider::Provider as _;
use payments::simulated::{Rates, Webhooks};
use platform::telemetry::{self, LogFormat};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::process::Command;
use uuid::Uuid;

use super::all::LogFlags;
use super::keys::{self, Minter};
use super::load::LoadReport;
use super::provider::RateFlags;
use super::{block_on, print, raise_open_files};
use crate::config::{Config, LogKind};
use crate::failure::Failure;
use crate::log_handle::LogHandle;
use crate::node::{Node, Roles};
use crate::owners::ProcessorName;
use crate::proof::{Proof, prove};
use encore::{Encore, EncoreFlags, EncoreReport};
use report::DemoReport;

/// How long partitions may take to start.
const READY_MAX: Duration = Duration::from_mins(1);
/// How long views may take to reach the end of the log.
const VIEW_PATIENCE: Duration = Duration::from_mins(1);
/// How long money may be under way after the last late event.
const MONEY_PATIENCE: Duration = Duration::from_secs(30);
/// Time for buyers to connect and load the drop's page before it opens: a base, and so much per buyer.
const LEAD_MS: i64 = 1_500;
const LEAD_MS_PER_1000_BUYERS: i64 = 400;

#[derive(clap::Args)]
pub(crate) struct Demo {
    /// Buyers, who all order one unit at the opening instant.
    #[arg(long, default_value_t = 10_000)]
    buyers: usize,
    /// Units on sale.
    #[arg(long, default_value_t = 1_000)]
    stock: i64,
    #[command(flatten)]
    encore: EncoreFlags,
    #[command(flatten)]
    rates: RateFlags,
    #[command(flatten)]
    log: LogFlags,
    /// Where the JSON report goes.
    #[arg(long, default_value = "demo-report.json")]
    report: PathBuf,
}

impl Demo {
    pub(crate) fn run(self, mut config: Config) -> Result<(), Failure> {
        self.log.apply(&mut config);
        let scratch = tempfile::tempdir().map_err(Failure::unreachable)?;
        // A demo never touches the data of something that runs in earnest.
        if config.0.get("data_dir").is_none() {
            config.0.set("data_dir", Some(scratch.path().join("data").display().to_string()));
        }
        // Only here: elsewhere no secret has a default.
        let (signing, public) = keys::write(&scratch.path().join("keys"))?;
        config.0.set("auth.public_keys", Some(public.display().to_string()));
        config.0.set("auth.signing_key", Some(signing.display().to_string()));
        config.0.set("listen.internal", Some("none"));
        raise_open_files();
        telemetry::init_logs(LogFormat::Text, "error");
        let metrics = telemetry::init_metrics();
        block_on(async {
            let provider_url = self.start_provider(&mut config).await?;
            let roles = Roles {
                api: true,
                processors: vec![ProcessorName::Reservations, ProcessorName::Followers],
                postgres: true,
                clickhouse: true,
                payments: true,
                prepares: true,
            };
            progress("starting log, processors, views and API");
            let node = Node::start(&config, &roles, metrics).await?;
            let outcome = self.drop_and_prove(&config, &node, &provider_url, scratch.path()).await;
            node.shut_down().await;
            let report = outcome?;
            self.publish(&report)
        })
    }

    fn publish(&self, report: &DemoReport) -> Result<(), Failure> {
        report.lines().iter().for_each(|line| print(line));
        let json = serde_json::to_vec_pretty(report).map_err(Failure::check)?;
        std::fs::write(&self.report, json).map_err(|error| {
            Failure::usage("report", format!("{}: {error}", self.report.display()))
        })?;
        if report.verified {
            return Ok(());
        }
        Err(Failure::check(format!("not verified, see {}", self.report.display())))
    }

    async fn drop_and_prove(
        &self,
        config: &Config,
        node: &Node,
        provider_url: &str,
        scratch: &Path,
    ) -> Result<DemoReport, Failure> {
        let address = node.address.ok_or_else(|| Failure::check("the demo serves no HTTP"))?;
        let url = format!("http://{address}");
        wait_until_ready(&url).await?;
        let thousands = i64::try_from(self.buyers / 1_000).unwrap_or(0);
        let starts_at = platform::clock::now_ms() + LEAD_MS + LEAD_MS_PER_1000_BUYERS * thousands;
        let drop = self.schedule(config, &url, starts_at).await?;
        progress("buyers connect and wait for the opening");
        let load = self.buyers(config, &url, drop, starts_at, scratch).await?;
        let minter = Minter::new(&config.signing_key()?)?;
        let encore = Encore::new(self.encore.clone(), url, provider_url.to_owned(), minter);
        let (proof, encore) = self.encore_and_proof(node, &encore).await?;
        let postgres = match &node.postgres {
            Some(views) => Some(proof.compare_postgres(views, VIEW_PATIENCE).await?),
            None => None,
        };
        let clickhouse = match &node.clickhouse {
            Some(views) => Some(proof.compare_clickhouse(views, VIEW_PATIENCE).await?),
            None => None,
        };
        let kind = match &node.log {
            LogHandle::Embedded(_) => LogKind::Embedded,
            LogHandle::Kafka { .. } => LogKind::Kafka,
        };
        Ok(DemoReport::new(
            self.buyers,
            self.stock,
            kind,
            drop.into(),
            load,
            encore,
            &proof,
            postgres,
            clickhouse,
        ))
    }

    fn rates(&self) -> Rates {
        let hold = self.encore.encore_hold_seconds.max(0).cast_unsigned();
        self.rates.rates(Duration::from_secs(hold))
    }

    /// A provider on a free port, told where events go once the node listens.
    async fn start_provider(&self, config: &mut Config) -> Result<String, Failure> {
        let secret = platform::clock::random_uuid().to_string();
        // The node needs a port that the provider knows before it is bound.
        let reserved = TcpListener::bind("127.0.0.1:0").await.map_err(Failure::unreachable)?;
        let node = reserved.local_addr().map_err(Failure::unreachable)?;
        drop(reserved);
        config.0.set("listen.public", Some(node.to_string()));
        let url = format!("http://{node}/webhooks/{}", SimulatedProvider::NAME);
        let webhooks = Some(Webhooks { url, secret: secret.clone() });
        let listener = TcpListener::bind("127.0.0.1:0").await.map_err(Failure::unreachable)?;
        let provider = listener.local_addr().map_err(Failure::unreachable)?;
        let router = payments::simulated::router(self.rates(), webhooks);
        tokio::spawn(async move { drop(axum::serve(listener, router).await) });
        let provider_url = format!("http://{provider}");
        config.0.set("payments.provider_url", Some(provider_url.clone()));
        config.0.set("payments.webhook_secret", Some(secret));
        Ok(provider_url)
    }

    /// Runs the encore, then proves the whole log, again until no money is under way any more.
    async fn encore_and_proof(
        &self,
        node: &Node,
        encore: &Encore,
    ) -> Result<(Proof, Option<EncoreReport>), Failure> {
        let prove_all = || async {
            let (log, schemas) = (node.log.clone(), node.schemas.clone());
            let proving = tokio::task::spawn_blocking(move || prove(&log, &schemas, None));
            proving.await.map_err(Failure::check)?
        };
        if self.encore.encore_buyers == 0 {
            progress("reading the log back and comparing");
            return Ok((prove_all().await?, None));
        }
        progress("the encore: paid, with a waitlist, and a provider that has bad moments");
        let (drop, seconds) = encore.run().await?;
        progress("reading the log back and comparing");
        let patience = self.rates().late_by + MONEY_PATIENCE;
        let started = platform::clock::monotonic();
        loop {
            let proof = prove_all().await?;
            let ledger = encore.ledger().await?;
            let report = encore.report(drop, seconds, &proof, &ledger);
            if report.verified || started.elapsed() > patience {
                return Ok((proof, Some(report)));
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }

    async fn schedule(&self, config: &Config, url: &str, starts_at: i64) -> Result<Uuid, Failure> {
        let minter = Minter::new(&config.signing_key()?)?;
        let instant = |ms| ingest_api::views::rfc3339(schemas::units::Millis(ms));
        let body = json!({
            "productId": platform::clock::random_uuid(), "title": "Night Run 01",
            "startsAt": instant(starts_at), "endsAt": instant(starts_at + 3_600_000),
            "timeZone": "Europe/Berlin", "stock": self.stock,
            "price": {"amount": 0, "currency": "EUR"},
        });
        schedule_drop(&minter, url, "demo", &body).await
    }

    /// The buyers are another process: what they measure crosses real sockets.
    async fn buyers(
        &self,
        config: &Config,
        url: &str,
        drop: Uuid,
        starts_at: i64,
        scratch: &Path,
    ) -> Result<LoadReport, Failure> {
        let file = scratch.join("load-report.json");
        let program = std::env::current_exe().map_err(Failure::unreachable)?;
        let output = Command::new(program)
            .args(["load", "--url", url, "--drop", &drop.to_string()])
            .args(["--burst", &self.buyers.to_string(), "--at-ms", &starts_at.to_string()])
            .arg("--report")
            .arg(&file)
            .env("LIVEDROPS_AUTH__SIGNING_KEY", config.required("auth.signing_key")?)
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .output()
            .await
            .map_err(Failure::unreachable)?;
        let report = std::fs::read(&file).map_err(|_| {
            Failure::check(format!(
                "the buyers failed: {}",
                String::from_utf8_lossy(&output.stderr)
            ))
        })?;
        serde_json::from_slice(&report).map_err(Failure::check)
    }
}

/// Schedules a drop of a new creator.
async fn schedule_drop(
    minter: &Minter,
    url: &str,
    key: &str,
    body: &Value,
) -> Result<Uuid, Failure> {
    let creator = platform::clock::random_uuid();
    let scope = format!("creator:{creator}:write");
    let response = reqwest::Client::new()
        .post(format!("{url}/creators/{creator}/drops"))
        .bearer_auth(minter.mint(creator, &scope, Duration::from_mins(10))?)
        .header("idempotency-key", key)
        .header("prefer", "wait=20")
        .json(body)
        .send()
        .await
        .map_err(Failure::unreachable)?;
    let status = response.status();
    let answer: Value = response.json().await.map_err(Failure::check)?;
    let id = answer["drop"]["id"].as_str().and_then(|id| id.parse().ok());
    id.filter(|_| status == 201)
        .ok_or_else(|| Failure::check(format!("the drop was not scheduled: {status} {answer}")))
}

async fn wait_until_ready(url: &str) -> Result<(), Failure> {
    let started = platform::clock::monotonic();
    loop {
        let response = reqwest::get(format!("{url}/readyz")).await.map_err(Failure::unreachable)?;
        if response.status() == 200 {
            let body: Value = response.json().await.map_err(Failure::check)?;
            // A Kafka group hands partitions out one after another.
            if body["partitions"].as_array().is_some_and(|partitions| !partitions.is_empty()) {
                return Ok(());
            }
        } else if started.elapsed() > READY_MAX {
            let body = response.text().await.unwrap_or_default();
            return Err(Failure::unreachable(format!("not ready after a minute: {body}")));
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// A word on what is going on, for people only.
#[allow(clippy::print_stderr, reason = "progress is for the terminal")]
fn progress(what: &str) {
    use std::io::IsTerminal as _;
    if std::io::stderr().is_terminal() {
        eprintln!("  … {what}");
    }
}

/// The proof's part of a report.
pub(crate) fn first_findings(proof: &Proof) -> Vec<String> {
    let findings = proof.findings.iter().take(10);
    findings.map(|(partition, finding)| format!("partition {partition}: {finding}")).collect()
}
