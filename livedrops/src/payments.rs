//! The payments processor in this process: a tail of the decisions, the worker, and its webhook endpoint.

use std::thread::JoinHandle;

use payments::client::ProviderClient;
use payments::webhook;
use payments::worker::{Heard, OutcomeLog, Worker};
use runtime::TailStart;
use schemas::order::OrderBody;
use schemas::topics::{ORDER_DECISIONS, ORDER_INTENTS};

use crate::config::Config;
use crate::failure::Failure;
use crate::tails;
use crate::views::ViewContext;

/// The provider's name in the webhook's path.
pub(crate) const PROVIDER: &str = "simulated";

pub(crate) struct Started {
    pub(crate) tail: JoinHandle<()>,
    pub(crate) worker: tokio::task::JoinHandle<()>,
    pub(crate) webhooks: axum::Router,
}

/// Starts it. Everything it knows it reads from the decisions, from their beginning.
pub(crate) fn start(config: &Config, context: ViewContext) -> Result<Started, Failure> {
    let url = config.required("payments.provider_url")?;
    let secret = config.required("payments.webhook_secret")?;
    let client = ProviderClient::new(&url)
        .map_err(|error| Failure::usage("payments.provider_url", error))?;
    let schema_id = context.schemas.write_id(ORDER_INTENTS.subject);
    let log = OutcomeLog::new(context.log.appender(), context.log.partitions(), schema_id);
    let (worker, tell) = Worker::new(client, log);
    let webhooks = webhook::router(PROVIDER, secret, tell.clone());
    let tail = context.log.tail(ORDER_DECISIONS, |_| TailStart::Beginning)?;
    let stop = context.stop.clone();
    let apply = move |records| match context.place::<OrderBody>(ORDER_DECISIONS, records) {
        Err(error) => tracing::error!(error, "unreadable decision"),
        Ok(placed) => {
            let bodies = placed.into_iter().filter_map(|placed| placed.decision.body);
            let rows: Vec<_> = bodies.flat_map(|body| body.orders).collect();
            if !rows.is_empty() && tell.blocking_send(Heard::Rows(rows)).is_err() {
                tracing::debug!("the payments processor has stopped");
            }
        }
    };
    let tail = tails::spawn("payments", tail, stop, apply)?;
    Ok(Started { tail, worker: tokio::spawn(worker.run()), webhooks })
}
