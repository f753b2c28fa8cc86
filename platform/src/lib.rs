//! The edge to the operating system: clock, configuration, logs, metrics, the registry client. No domain noun.

pub mod clock;
pub mod config;
pub mod registry;
pub mod telemetry;
