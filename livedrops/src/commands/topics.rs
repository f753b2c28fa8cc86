//! Topics on the broker, from the table in code.

use super::all::LogFlags;
use super::{block_on, print};
use crate::config::Config;
use crate::failure::Failure;
use crate::log_handle::kafka_settings;

#[derive(clap::Args)]
pub(crate) struct Topics {
    #[command(subcommand)]
    what: What,
    #[command(flatten)]
    log: LogFlags,
}

#[derive(clap::Subcommand)]
enum What {
    /// Show what is missing.
    Plan,
    /// Make what is missing.
    Apply,
}

impl Topics {
    pub(crate) fn run(self, mut config: Config) -> Result<(), Failure> {
        self.log.apply(&mut config);
        config.0.set("log.kind", Some("kafka"));
        let settings = kafka_settings(&config)?;
        let partitions = config.partitions()?;
        if matches!(self.what, What::Apply) {
            let replication = config.0.parsed("kafka.replication", 1)?;
            let made = block_on(async {
                let applying = log_kafka::admin::apply_topics(&settings, partitions, replication);
                applying.await.map_err(Failure::unreachable)
            })?;
            made.iter().for_each(|topic| print(&format!("{topic}  made, {partitions} partitions")));
        }
        let found = log_kafka::admin::found_partitions(&settings).map_err(Failure::unreachable)?;
        for (topic, count) in found {
            let state = match count {
                0 => format!("missing, would have {partitions} partitions"),
                count if count == usize::from(partitions) => format!("{count} partitions"),
                count => {
                    format!("{count} partitions, {partitions} are configured: the count is fixed")
                }
            };
            print(&format!("{}  {state}", topic.name));
        }
        Ok(())
    }
}
