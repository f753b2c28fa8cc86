//! The one place that knows which log it is.

use std::sync::Arc;
use std::time::Duration;

use log_kafka::KafkaLog;
use model::Topology;
use platform::registry::HttpRegistry;
use runtime::{IntentAppender, Log, SchemaRegistry, Tail, TailStart};
use schemas::avro::RELEASED;
use schemas::partition::Partition;
use schemas::topics::Topic;
use schemas::units::Millis;
use store_rocksdb::{EmbeddedLog, OpenError};

use crate::config::{Config, LogKind};
use crate::failure::Failure;

/// Either log, opened.
#[derive(Clone)]
pub(crate) enum LogHandle {
    Embedded(EmbeddedLog),
    Kafka { log: Arc<KafkaLog>, registry: Arc<HttpRegistry> },
}

pub(crate) fn wall_clock() -> Millis {
    Millis(platform::clock::now_ms())
}

impl LogHandle {
    /// Opens the configured log. With `prepare`, makes what is missing: the embedded log, or topics and schemas.
    pub(crate) async fn open(config: &Config, prepare: bool) -> Result<Self, Failure> {
        match config.log_kind()? {
            LogKind::Embedded => Self::open_embedded(config, prepare),
            LogKind::Kafka => Self::open_kafka(config, prepare).await,
        }
    }

    fn open_embedded(config: &Config, prepare: bool) -> Result<Self, Failure> {
        let folder = config.data_dir().join("log");
        if !prepare && !folder.is_dir() {
            let what = format!("{}: there is no log in this folder", folder.display());
            return Err(Failure::usage("data_dir", what));
        }
        let id = platform::clock::random_uuid().to_string();
        let log =
            EmbeddedLog::open(&folder, config.partitions()?, &id, wall_clock).map_err(|error| {
                let field = match &error {
                    OpenError::Unusable(_) => "data_dir",
                    OpenError::PartitionCount { .. } => "log.partitions",
                };
                Failure::usage(field, format!("{}: {error}", folder.display()))
            })?;
        for schema in RELEASED {
            log.register_schema(schema.subject, schema.text)?;
        }
        Ok(Self::Embedded(log))
    }

    async fn open_kafka(config: &Config, prepare: bool) -> Result<Self, Failure> {
        let registry = open_registry(config)?;
        let settings = kafka_settings(config)?;
        if prepare {
            register_schemas(&registry).await?;
            let replication = config.0.parsed("kafka.replication", 1)?;
            log_kafka::admin::apply_topics(&settings, config.partitions()?, replication)
                .await
                .map_err(Failure::unreachable)?;
        }
        let opening = tokio::task::spawn_blocking(move || KafkaLog::open(settings));
        let log = opening.await.map_err(Failure::unreachable)?.map_err(Failure::unreachable)?;
        Ok(Self::Kafka { log: Arc::new(log), registry: Arc::new(registry) })
    }

    pub(crate) fn partitions(&self) -> u16 {
        match self {
            Self::Embedded(log) => log.partitions(),
            Self::Kafka { log, .. } => log.partitions(),
        }
    }

    pub(crate) fn appender(&self) -> Arc<dyn IntentAppender> {
        match self {
            Self::Embedded(log) => Arc::new(log.clone()),
            Self::Kafka { log, .. } => log.appender(),
        }
    }

    /// How long partitions stay with a process that is gone, or no longer theirs.
    pub(crate) fn session_timeout(&self) -> Duration {
        match self {
            Self::Embedded(_) => Duration::ZERO,
            Self::Kafka { log, .. } => {
                Duration::from_millis(u64::from(log.settings().session_timeout_ms))
            }
        }
    }

    pub(crate) fn registry(&self) -> Arc<dyn SchemaRegistry> {
        match self {
            Self::Embedded(log) => Arc::new(log.clone()),
            Self::Kafka { registry, .. } => registry.clone(),
        }
    }

    pub(crate) fn own(&self, topology: Topology, partition: Partition) -> Box<dyn Log> {
        match self {
            Self::Embedded(log) => Box::new(log.own(topology, partition)),
            Self::Kafka { log, .. } => Box::new(log.own(topology, partition)),
        }
    }

    /// A tail of every partition of `topic` that shows records at once.
    pub(crate) fn tail(
        &self,
        topic: Topic,
        start: impl Fn(Partition) -> TailStart,
    ) -> Result<Box<dyn Tail>, Failure> {
        self.gathering_tail(topic, start, Duration::ZERO)
    }

    /// A tail whose records may come as late as `gather`.
    pub(crate) fn gathering_tail(
        &self,
        topic: Topic,
        start: impl Fn(Partition) -> TailStart,
        gather: Duration,
    ) -> Result<Box<dyn Tail>, Failure> {
        Ok(match self {
            Self::Embedded(log) => Box::new(log.tail(topic, start)),
            Self::Kafka { log, .. } => {
                Box::new(log.tail(topic, start, gather).map_err(Failure::unreachable)?)
            }
        })
    }
}

pub(crate) fn open_registry(config: &Config) -> Result<HttpRegistry, Failure> {
    let url = config.required("kafka.registry_url")?;
    Ok(HttpRegistry::new(&url, tokio::runtime::Handle::current())?)
}

pub(crate) fn kafka_settings(config: &Config) -> Result<log_kafka::KafkaSettings, Failure> {
    Ok(log_kafka::KafkaSettings {
        brokers: config.required("kafka.brokers")?,
        session_timeout_ms: config.0.parsed("kafka.session_timeout_ms", 1_500)?,
        clock: wall_clock,
    })
}

pub(crate) async fn register_schemas(registry: &HttpRegistry) -> Result<(), Failure> {
    use platform::registry::RegisterError;
    registry.require_full_compatibility().await?;
    for schema in RELEASED {
        let registered = registry.register(schema.subject, schema.text).await;
        registered.map_err(|error| match error {
            RegisterError::Registry(error) => Failure::from(error),
            RegisterError::Incompatible { .. } => Failure::check(error),
        })?;
    }
    Ok(())
}
