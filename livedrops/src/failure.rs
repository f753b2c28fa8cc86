//! Why a command failed, as its exit code.

use std::process::ExitCode;

use platform::config::ConfigError;
use runtime::RegistryError;

/// The variant is the exit code.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// 1: a check failed.
    #[error("{0}")]
    CheckFailed(String),
    /// 2: bad usage or configuration.
    #[error("configuration: {0}")]
    Usage(String),
    /// 3: a dependency is unreachable.
    #[error("unreachable: {0}")]
    Unreachable(String),
    /// 4: state and log disagree.
    #[error("refused: {0}")]
    Refused(String),
}

impl Failure {
    pub(crate) fn usage(field: &str, what: impl std::fmt::Display) -> Self {
        Self::Usage(format!("{field}: {what}"))
    }

    pub(crate) fn unreachable(what: impl std::fmt::Display) -> Self {
        Self::Unreachable(what.to_string())
    }

    pub(crate) fn check(what: impl std::fmt::Display) -> Self {
        Self::CheckFailed(what.to_string())
    }

    pub(crate) fn exit_code(&self) -> ExitCode {
        ExitCode::from(match self {
            Self::CheckFailed(_) => 1,
            Self::Usage(_) => 2,
            Self::Unreachable(_) => 3,
            Self::Refused(_) => 4,
        })
    }

    #[allow(clippy::print_stderr, reason = "a command line tool says why it failed")]
    pub(crate) fn print(&self) {
        eprintln!("livedrops: {self}");
    }
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        Self::Usage(error.to_string())
    }
}

impl From<RegistryError> for Failure {
    fn from(error: RegistryError) -> Self {
        match error {
            RegistryError::Unreachable(_) => Self::Unreachable(error.to_string()),
            RegistryError::NotRegistered(_) => Self::Usage(error.to_string()),
        }
    }
}
