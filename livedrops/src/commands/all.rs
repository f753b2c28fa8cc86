//! The long-running roles.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use platform::telemetry::{self, LogFormat};
use tokio::signal::unix::{SignalKind, signal};

use super::{block_on, print, raise_open_files};
use crate::config::{Config, LogKind};
use crate::failure::Failure;
use crate::node::{Node, Roles};
use crate::owners::ProcessorName;

/// How often a process looks whether it has anything left to do.
const CHECK: Duration = Duration::from_millis(200);

/// Every role in one process.
#[derive(clap::Args)]
pub(crate) struct All {
    /// Public address.
    #[arg(long)]
    listen: Option<SocketAddr>,
    #[command(flatten)]
    log: LogFlags,
    /// Postgres views.
    #[arg(long)]
    postgres: Option<String>,
    /// `ClickHouse` tables.
    #[arg(long)]
    clickhouse: Option<String>,
}

/// Flags of every role that stands on a log.
#[derive(clap::Args, Clone)]
pub(crate) struct LogFlags {
    /// Which log.
    #[arg(long)]
    log: Option<LogKind>,
    /// Where logs, stores and the instance id live.
    #[arg(long)]
    data_dir: Option<PathBuf>,
}

impl LogFlags {
    pub(crate) fn apply(&self, config: &mut Config) {
        let kind = self.log.map(|kind| match kind {
            LogKind::Embedded => "embedded",
            LogKind::Kafka => "kafka",
        });
        config.0.set("log.kind", kind);
        config.0.set("data_dir", self.data_dir.as_ref().map(|path| path.display().to_string()));
    }

    /// A single role cannot share an embedded log with another process.
    fn apply_single_role(&self, config: &mut Config) -> Result<(), Failure> {
        self.apply(config);
        if config.log_kind()? == LogKind::Embedded {
            let what = "a single role needs `--log kafka`: the embedded log is of one process";
            return Err(Failure::usage("log.kind", what));
        }
        Ok(())
    }
}

impl All {
    pub(crate) fn run(self, mut config: Config) -> Result<(), Failure> {
        self.log.apply(&mut config);
        config.0.set("listen.public", self.listen.map(|address| address.to_string()));
        config.0.set("postgres.url", self.postgres);
        config.0.set("clickhouse.url", self.clickhouse);
        let roles = Roles {
            api: true,
            processors: vec![ProcessorName::Reservations, ProcessorName::Followers],
            postgres: true,
            clickhouse: true,
            payments: true,
            prepares: true,
        };
        serve(&config, &roles)
    }
}

/// The HTTP interface alone.
#[derive(clap::Args)]
pub(crate) struct IngestApi {
    /// Public address.
    #[arg(long)]
    listen: Option<SocketAddr>,
    #[command(flatten)]
    log: LogFlags,
}

impl IngestApi {
    pub(crate) fn run(self, mut config: Config) -> Result<(), Failure> {
        self.log.apply_single_role(&mut config)?;
        config.0.set("listen.public", self.listen.map(|address| address.to_string()));
        serve(&config, &Roles { api: true, ..Roles::default() })
    }
}

/// What `processor` runs.
#[derive(Clone, Copy, clap::ValueEnum)]
enum Name {
    Reservations,
    Followers,
    PostgresViews,
    ClickhouseViews,
    Payments,
}

/// One processor alone.
#[derive(clap::Args)]
pub(crate) struct ProcessorRole {
    name: Name,
    #[command(flatten)]
    log: LogFlags,
}

impl ProcessorRole {
    pub(crate) fn run(self, mut config: Config) -> Result<(), Failure> {
        self.log.apply_single_role(&mut config)?;
        let (mut roles, needed) = (
            Roles::default(),
            match self.name {
                Name::PostgresViews => Some("postgres.url"),
                Name::ClickhouseViews => Some("clickhouse.url"),
                Name::Payments => Some("payments.provider_url"),
                Name::Reservations | Name::Followers => None,
            },
        );
        needed.map(|field| config.required(field)).transpose()?;
        match self.name {
            Name::Reservations => roles.processors = vec![ProcessorName::Reservations],
            Name::Followers => roles.processors = vec![ProcessorName::Followers],
            Name::PostgresViews => roles.postgres = true,
            Name::ClickhouseViews => roles.clickhouse = true,
            Name::Payments => roles.payments = true,
        }
        serve(&config, &roles)
    }
}

/// Runs until SIGTERM or SIGINT, or until every owned partition has refused.
fn serve(config: &Config, roles: &Roles) -> Result<(), Failure> {
    let format = match config.0.get("log.format") {
        None | Some("text") => LogFormat::Text,
        Some("json") => LogFormat::Json,
        Some(_) => return Err(Failure::usage("log.format", "must be `text` or `json`")),
    };
    telemetry::init_logs(format, "info");
    raise_open_files();
    let metrics = telemetry::init_metrics();
    block_on(async {
        let mut terminate = signal(SignalKind::terminate()).map_err(Failure::unreachable)?;
        let mut interrupt = signal(SignalKind::interrupt()).map_err(Failure::unreachable)?;
        let node = Node::start(config, roles, metrics).await?;
        if let Some(address) = node.address {
            print(&format!("listening on http://{address}"));
        }
        let owners = node.owners.clone();
        let refused = async {
            while !owners.have_all_refused() {
                tokio::time::sleep(CHECK).await;
            }
        };
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
            () = refused => {}
        }
        let reasons: Vec<String> = node
            .owners
            .statuses()
            .iter()
            .filter_map(|status| match status.snapshot().state {
                runtime::PartitionState::Refused(why) => {
                    Some(format!("{} partition {}: {why}", status.processor, status.partition))
                }
                _ => None,
            })
            .collect();
        let has_refused = node.owners.has_refused();
        node.shut_down().await;
        if has_refused { Err(Failure::Refused(reasons.join("; "))) } else { Ok(()) }
    })
}
