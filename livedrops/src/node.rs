//! One process of the pipeline: log, owners, window, views and HTTP, started and stopped together.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use clickhouse_views::ClickhouseViews;
use ingest_api::{Archive, Intake, Settings, Verifier, Window};
use log_kafka::election::Election;
use metrics_exporter_prometheus::PrometheusHandle;
use postgres_views::PostgresViews;
use runtime::{PartitionStatus, SchemaBook, TailStart};
use schemas::partition::Partition;
use schemas::topics::{FOLLOW_DECISIONS, FOLLOW_INTENTS, ORDER_DECISIONS, ORDER_INTENTS};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::archive::{PostgresArchive, StoreArchive};
use crate::config::Config;
use crate::failure::Failure;
use crate::log_handle::LogHandle;
use crate::owners::{Owners, ProcessorName};
use crate::payments;
use crate::serving;
use crate::tails;
use crate::views::{self, ViewContext};

/// Decisions a fresh API node reads back before it answers from its window.
const WINDOW_DECISIONS: i64 = 50_000;
/// Intents that may wait for the log at once; beyond it ingest sheds load.
const IN_FLIGHT_MAX: usize = 20_000;
/// How often ended owners are looked after at most, and how soon the supervisor stops.
const SUPERVISOR_INTERVAL_MIN: Duration = Duration::from_secs(1);
const SUPERVISOR_POLL: Duration = Duration::from_millis(100);
/// Longest drain of open requests.
const DRAIN: Duration = Duration::from_secs(5);

/// What a process does.
#[derive(Clone, Debug, Default)]
#[allow(clippy::struct_excessive_bools, reason = "each is a role that is on or off")]
pub(crate) struct Roles {
    pub(crate) api: bool,
    pub(crate) processors: Vec<ProcessorName>,
    pub(crate) postgres: bool,
    pub(crate) clickhouse: bool,
    /// Talks to the payment provider, where one is configured.
    pub(crate) payments: bool,
    /// Makes missing topics and registers schemas.
    pub(crate) prepares: bool,
}

/// A running process.
pub(crate) struct Node {
    pub(crate) address: Option<SocketAddr>,
    pub(crate) log: LogHandle,
    pub(crate) schemas: Arc<SchemaBook>,
    pub(crate) owners: Arc<Owners>,
    pub(crate) postgres: Option<Arc<PostgresViews>>,
    pub(crate) clickhouse: Option<Arc<ClickhouseViews>>,
    stop: Arc<AtomicBool>,
    draining: CancellationToken,
    /// The payments processor's endpoint.
    webhooks: axum::Router,
    threads: Vec<JoinHandle<()>>,
    servers: Vec<tokio::task::JoinHandle<()>>,
    /// What asks the provider. It does not end by itself.
    payments: Option<tokio::task::JoinHandle<()>>,
}

impl Node {
    /// Starts every role. A failure leaves nothing running.
    pub(crate) async fn start(
        config: &Config,
        roles: &Roles,
        metrics: PrometheusHandle,
    ) -> Result<Self, Failure> {
        let log = LogHandle::open(config, roles.prepares).await?;
        let registry = log.registry();
        let schemas = tokio::task::spawn_blocking(move || SchemaBook::open(registry))
            .await
            .map_err(Failure::unreachable)??;
        let schemas = Arc::new(schemas);
        let stands_by = config.0.parsed("kafka.standby", false)?;
        let owners = Owners::new(log.clone(), schemas.clone(), config.data_dir(), stands_by);
        let mut node = Self {
            address: None,
            log,
            schemas,
            owners,
            postgres: None,
            clickhouse: None,
            stop: Arc::new(AtomicBool::new(false)),
            draining: CancellationToken::new(),
            webhooks: axum::Router::new(),
            threads: Vec::new(),
            servers: Vec::new(),
            payments: None,
        };
        match node.start_roles(config, roles, metrics).await {
            Ok(()) => Ok(node),
            Err(failure) => {
                node.shut_down().await;
                Err(failure)
            }
        }
    }

    async fn start_roles(
        &mut self,
        config: &Config,
        roles: &Roles,
        metrics: PrometheusHandle,
    ) -> Result<(), Failure> {
        // First: partitions recover while the views connect.
        self.start_owners(config, roles).await?;
        self.threads.push(self.supervise()?);
        // Not for owners: they sell while every view is away.
        if let Some(url) = config.0.get("postgres.url").filter(|_| roles.api || roles.postgres) {
            let views = PostgresViews::connect(url).await.map_err(Failure::unreachable)?;
            self.postgres = Some(Arc::new(views));
        }
        if let Some(url) = config.0.get("clickhouse.url").filter(|_| roles.clickhouse) {
            let database = config.0.get("clickhouse.database").unwrap_or("livedrops");
            let views =
                ClickhouseViews::connect(url, database).await.map_err(Failure::unreachable)?;
            self.clickhouse = Some(Arc::new(views));
        }
        self.start_views(roles)?;
        if roles.payments && config.0.get("payments.provider_url").is_some() {
            let context = self.view_context();
            let started = payments::start(config, context)?;
            self.threads.push(started.tail);
            self.payments = Some(started.worker);
            self.webhooks = started.webhooks;
        }
        if roles.api {
            let window = self.start_window()?;
            self.serve(config, window, metrics).await?;
        } else {
            self.serve_health(config, metrics).await?;
        }
        Ok(())
    }

    async fn start_owners(&mut self, config: &Config, roles: &Roles) -> Result<(), Failure> {
        for name in roles.processors.iter().copied() {
            match &self.log {
                LogHandle::Embedded(_) => {
                    let partitions = (0..self.log.partitions()).map(Partition);
                    partitions.for_each(|partition| self.owners.start(name, partition));
                }
                LogHandle::Kafka { log, .. } => {
                    let partitions = (0..self.log.partitions()).map(Partition);
                    partitions.for_each(|partition| self.owners.stand_by(name, partition));
                    let instance = instance_id(&config.data_dir())?;
                    let settings = log.settings().clone();
                    let joining = move || Election::join(&settings, name.topology(), &instance);
                    let election = tokio::task::spawn_blocking(joining)
                        .await
                        .map_err(Failure::unreachable)?
                        .map_err(Failure::unreachable)?;
                    self.threads.push(self.elect(name, election)?);
                }
            }
        }
        Ok(())
    }

    /// Looks after owners that ended by themselves.
    fn supervise(&self) -> Result<JoinHandle<()>, Failure> {
        let (stop, owners) = (self.stop.clone(), self.owners.clone());
        let interval = self.log.session_timeout().max(SUPERVISOR_INTERVAL_MIN);
        let run = move || {
            let mut ended = BTreeSet::new();
            let mut looked = platform::clock::monotonic();
            while !stop.load(Ordering::Relaxed) {
                std::thread::sleep(SUPERVISOR_POLL);
                if looked.elapsed() >= interval {
                    owners.restart_ended(&mut ended);
                    looked = platform::clock::monotonic();
                }
            }
        };
        let thread = std::thread::Builder::new().name("supervisor".into());
        thread.spawn(run).map_err(|error| Failure::unreachable(format!("no thread: {error}")))
    }

    fn elect(&self, name: ProcessorName, election: Election) -> Result<JoinHandle<()>, Failure> {
        let (stop, gaining, losing) = (self.stop.clone(), self.owners.clone(), self.owners.clone());
        let run = move || {
            election.run(
                &stop,
                |partition| gaining.start(name, partition),
                |partition| losing.stop(name, partition),
            );
        };
        let thread = std::thread::Builder::new().name(format!("elect-{name:?}"));
        thread.spawn(run).map_err(|error| Failure::unreachable(format!("no thread: {error}")))
    }

    fn start_views(&mut self, roles: &Roles) -> Result<(), Failure> {
        let context = self.view_context();
        if let Some(views) = self.postgres.clone().filter(|_| roles.postgres) {
            self.threads.push(views::postgres_orders(context.clone(), views.clone())?);
            self.threads.push(views::postgres_follows(context.clone(), views)?);
        }
        if let Some(views) = self.clickhouse.clone().filter(|_| roles.clickhouse) {
            self.threads.push(views::clickhouse_orders(context, views)?);
        }
        Ok(())
    }

    fn view_context(&self) -> ViewContext {
        ViewContext {
            log: self.log.clone(),
            schemas: self.schemas.clone(),
            stop: self.stop.clone(),
            handle: tokio::runtime::Handle::current(),
        }
    }

    fn start_window(&mut self) -> Result<Arc<Window>, Failure> {
        let window = Arc::new(Window::new(self.log.partitions()));
        let share = WINDOW_DECISIONS / i64::from(self.log.partitions());
        let orders = self.log.tail(ORDER_DECISIONS, |_| TailStart::BeforeEnd(share))?;
        let apply = tails::into_window_orders(window.clone(), self.schemas.clone());
        self.threads.push(tails::spawn("window-orders", orders, self.stop.clone(), apply)?);
        let follows = self.log.tail(FOLLOW_DECISIONS, |_| TailStart::BeforeEnd(share))?;
        let apply = tails::into_window_follows(window.clone(), self.schemas.clone());
        self.threads.push(tails::spawn("window-follows", follows, self.stop.clone(), apply)?);
        Ok(window)
    }

    async fn serve(
        &mut self,
        config: &Config,
        window: Arc<Window>,
        metrics: PrometheusHandle,
    ) -> Result<(), Failure> {
        let keys = config.public_keys()?;
        let verifier =
            Verifier::new(&keys).map_err(|error| Failure::usage("auth.public_keys", error))?;
        let ids = (
            self.schemas.write_id(ORDER_INTENTS.subject),
            self.schemas.write_id(FOLLOW_INTENTS.subject),
        );
        let partitions = self.log.partitions();
        let archive: Arc<dyn Archive> = match &self.postgres {
            Some(views) => Arc::new(PostgresArchive(views.clone())),
            None => Arc::new(StoreArchive { owners: self.owners.clone(), partitions }),
        };
        let router = ingest_api::router(Settings {
            verifier,
            intake: Intake::new(self.log.appender(), partitions, ids, IN_FLIGHT_MAX),
            window,
            archive,
            partitions: self.partitions(),
            render_metrics: Arc::new(move || {
                metrics.run_upkeep();
                metrics.render()
            }),
        });
        let router = router.merge(self.webhooks.clone());
        let address = config.public_address()?;
        self.address = Some(self.listen(address, "listen.public", router.clone()).await?);
        if let Some(address) = config.internal_address()? {
            self.listen(address, "listen.internal", router).await?;
        }
        Ok(())
    }

    /// A role without the API still tells how it is doing.
    async fn serve_health(
        &mut self,
        config: &Config,
        metrics: PrometheusHandle,
    ) -> Result<(), Failure> {
        let Some(address) = config.internal_address()? else { return Ok(()) };
        let partitions = self.partitions();
        let router = ingest_api::app::health_router(
            partitions,
            Arc::new(move || {
                metrics.run_upkeep();
                metrics.render()
            }),
        );
        let router = router.merge(self.webhooks.clone());
        self.listen(address, "listen.internal", router).await?;
        Ok(())
    }

    fn partitions(&self) -> Arc<dyn Fn() -> Vec<PartitionStatus> + Send + Sync> {
        let owners = self.owners.clone();
        Arc::new(move || owners.statuses())
    }

    async fn listen(
        &mut self,
        address: SocketAddr,
        field: &str,
        router: axum::Router,
    ) -> Result<SocketAddr, Failure> {
        let taken = |error| Failure::unreachable(format!("{field} {address}: {error}"));
        let listener = TcpListener::bind(address).await.map_err(taken)?;
        let bound = listener.local_addr().map_err(taken)?;
        self.servers.push(tokio::spawn(serving::serve(listener, router, self.draining.clone())));
        Ok(bound)
    }

    /// Drains requests, then stops owners after their last commit, then everything else.
    pub(crate) async fn shut_down(mut self) {
        self.draining.cancel();
        let until = tokio::time::Instant::now() + DRAIN; // for all of them
        for server in self.servers.drain(..) {
            let stopping = server.abort_handle();
            if tokio::time::timeout_at(until, server).await.is_err() {
                stopping.abort(); // streams do not end by themselves
            }
        }
        self.stop.store(true, Ordering::Relaxed);
        // Not before: a webhook that is still answered is written by it. What it has asked is asked again by the next one.
        if let Some(payments) = self.payments.take() {
            payments.abort();
        }
        let (owners, threads) = (self.owners.clone(), std::mem::take(&mut self.threads));
        let stopping = tokio::task::spawn_blocking(move || {
            threads.into_iter().for_each(|thread| drop(thread.join()));
            owners.stop_all();
        });
        drop(stopping.await);
    }
}

/// The same after a restart, another for another data folder.
fn instance_id(data_dir: &Path) -> Result<String, Failure> {
    let file = data_dir.join("instance-id");
    let unusable =
        |error: std::io::Error| Failure::usage("data_dir", format!("{}: {error}", file.display()));
    if let Ok(id) = std::fs::read_to_string(&file) {
        return Ok(id.trim().to_owned());
    }
    let id = platform::clock::random_uuid().to_string();
    std::fs::create_dir_all(data_dir).map_err(unusable)?;
    std::fs::write(&file, &id).map_err(unusable)?;
    Ok(id)
}
