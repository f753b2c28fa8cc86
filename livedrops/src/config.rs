//! The program's settings with their types. `livedrops.toml`, then `LIVEDROPS_…`, then flags.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use platform::config::{ConfigError, Settings};
use schemas::topics::DEFAULT_PARTITIONS;

use crate::failure::Failure;

/// Every setting there is.
const KNOWN: [&str; 21] = [
    "auth.public_keys",
    "auth.signing_key",
    "clickhouse.database",
    "clickhouse.url",
    "data_dir",
    "kafka.brokers",
    "kafka.registry_url",
    "kafka.replication",
    "kafka.session_timeout_ms",
    "kafka.standby",
    "listen.internal",
    "listen.public",
    "log.kind",
    "log.partitions",
    "payments.provider",
    "payments.provider_url",
    "payments.return_url",
    "payments.secret_key",
    "payments.webhook_secret",
    "postgres.url",
    "log.format",
];

/// Which log the processes stand on.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
pub(crate) enum LogKind {
    /// In this process's data folder.
    Embedded,
    /// Kafka brokers.
    Kafka,
}

impl std::str::FromStr for LogKind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "embedded" => Ok(Self::Embedded),
            "kafka" => Ok(Self::Kafka),
            _ => Err("must be `embedded` or `kafka`".into()),
        }
    }
}

/// Who moves the money.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum ProviderKind {
    /// A provider of our own: `livedrops provider`.
    Simulated,
    /// Stripe.
    Stripe,
}

impl std::str::FromStr for ProviderKind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "simulated" => Ok(Self::Simulated),
            "stripe" => Ok(Self::Stripe),
            _ => Err("must be `simulated` or `stripe`".into()),
        }
    }
}

/// See the module.
#[derive(Clone, Debug)]
pub(crate) struct Config(pub(crate) Settings);

impl Config {
    pub(crate) fn load(file: &Path) -> Result<Self, Failure> {
        Ok(Self(Settings::load(file, std::env::vars(), &KNOWN)?))
    }

    pub(crate) fn log_kind(&self) -> Result<LogKind, ConfigError> {
        self.0.parsed("log.kind", LogKind::Embedded)
    }

    pub(crate) fn partitions(&self) -> Result<u16, ConfigError> {
        let partitions = self.0.parsed("log.partitions", DEFAULT_PARTITIONS)?;
        if partitions == 0 {
            return Err(ConfigError::new("log.partitions", "must be 1 or more"));
        }
        Ok(partitions)
    }

    pub(crate) fn data_dir(&self) -> PathBuf {
        self.0.get("data_dir").unwrap_or("data").into()
    }

    pub(crate) fn required(&self, name: &str) -> Result<String, ConfigError> {
        let value = self.0.get(name).map(str::to_owned);
        value.ok_or_else(|| ConfigError::new(name, "is required"))
    }

    pub(crate) fn public_address(&self) -> Result<SocketAddr, ConfigError> {
        self.0.parsed("listen.public", SocketAddr::from(([127, 0, 0, 1], 8080)))
    }

    /// `None` where it is turned off.
    pub(crate) fn internal_address(&self) -> Result<Option<SocketAddr>, ConfigError> {
        if self.0.get("listen.internal") == Some("none") {
            return Ok(None);
        }
        self.0.parsed("listen.internal", SocketAddr::from(([127, 0, 0, 1], 8081))).map(Some)
    }

    /// The public keys' PEM texts.
    pub(crate) fn public_keys(&self) -> Result<Vec<String>, ConfigError> {
        let field = "auth.public_keys";
        let paths = self.required(field)?;
        let read = |path: &str| {
            std::fs::read_to_string(path.trim())
                .map_err(|error| ConfigError::new(field, format!("{path}: {error}")))
        };
        paths.split(',').map(read).collect()
    }

    /// The signing key's PEM text.
    pub(crate) fn signing_key(&self) -> Result<String, ConfigError> {
        let path = self.required("auth.signing_key")?;
        std::fs::read_to_string(&path)
            .map_err(|error| ConfigError::new("auth.signing_key", format!("{path}: {error}")))
    }
}
