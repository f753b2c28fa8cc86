//! Lets every order partition write what this build knows, once no older build is left to read it.

use std::time::Duration;

use runtime::{IntentToAppend, SchemaBook};
use schemas::avro;
use schemas::framing;
use schemas::order::{OrderIntent, OrderIntentKind};
use schemas::partition::Partition;
use schemas::topics::ORDER_INTENTS;
use schemas::units::Millis;

use super::all::LogFlags;
use super::{block_on, print};
use crate::config::Config;
use crate::failure::Failure;
use crate::log_handle::LogHandle;

/// Longest wait for the log.
const ACKNOWLEDGE_MAX: Duration = Duration::from_secs(10);

#[derive(clap::Args)]
pub(crate) struct Activate {
    /// Logic version; the newest this build knows unless given.
    version: Option<i32>,
    #[command(flatten)]
    log: LogFlags,
}

impl Activate {
    pub(crate) fn run(self, mut config: Config) -> Result<(), Failure> {
        self.log.apply(&mut config);
        let version = self.version.unwrap_or(reservations::decide::LOGIC_VERSION);
        if !(1..=reservations::decide::LOGIC_VERSION).contains(&version) {
            let what = format!("this build knows 1 to {}", reservations::decide::LOGIC_VERSION);
            return Err(Failure::usage("version", what));
        }
        block_on(async move {
            let log = LogHandle::open(&config, false).await?;
            let registry = log.registry();
            let opening = tokio::task::spawn_blocking(move || SchemaBook::open(registry));
            let book = opening.await.map_err(Failure::check)??;
            for number in 0..log.partitions() {
                let partition = Partition(number);
                let kind = OrderIntentKind::Activate;
                let id = platform::clock::random_uuid().into();
                let now = Millis(platform::clock::now_ms());
                let intent =
                    OrderIntent { activate: Some(version), ..OrderIntent::bare(id, kind, now) };
                let mut value = Vec::new();
                framing::start(&mut value, book.write_id(ORDER_INTENTS.subject));
                avro::ORDER_INTENT.encode(&intent, &mut value);
                let topic = ORDER_INTENTS;
                let record =
                    IntentToAppend { topic, partition, key: None, value, traceparent: None };
                let appended = tokio::time::timeout(ACKNOWLEDGE_MAX, log.appender().append(record));
                let offset = appended.await.map_err(Failure::unreachable)?;
                let offset = offset.map_err(Failure::unreachable)?.map_err(Failure::unreachable)?;
                print(&format!(
                    "partition {partition}  activate {version} is intent {offset}; its owner decides it"
                ));
            }
            Ok(())
        })
    }
}
