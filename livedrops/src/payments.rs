//! The payments processor in this process: a tail of the decisions, the worker, and its webhook endpoint.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::Duration;

use payments::client::SimulatedProvider;
use payments::provider::{NoAnswer, Provider};
use payments::stripe::{Stripe, StripeAccount};
use payments::webhook;
use payments::worker::{Heard, OutcomeLog, Worker};
use runtime::TailStart;
use schemas::decision::Decision;
use schemas::order::OrderBody;
use schemas::topics::{ORDER_DECISIONS, ORDER_INTENTS};
use tokio::sync::mpsc::Sender;

use crate::config::{Config, ProviderKind};
use crate::failure::Failure;
use crate::tails::{read_decision, read_to_end};
use crate::views::ViewContext;

const POLL_MAX: Duration = Duration::from_millis(100);
const RECORDS_MAX: usize = 4_096;

pub(crate) struct Started {
    pub(crate) tail: JoinHandle<()>,
    pub(crate) worker: tokio::task::JoinHandle<()>,
    pub(crate) webhooks: axum::Router,
}

/// Starts it, with the provider of the settings.
pub(crate) fn start(config: &Config, context: ViewContext) -> Result<Started, Failure> {
    let url = config.required("payments.provider_url")?;
    let unusable = |error: NoAnswer| Failure::usage("payments.provider_url", error);
    match config.0.parsed("payments.provider", ProviderKind::Simulated)? {
        ProviderKind::Simulated => {
            start_with(config, context, SimulatedProvider::new(&url).map_err(unusable)?)
        }
        ProviderKind::Stripe => {
            let secret_key = config.required("payments.secret_key")?;
            let return_url = config.0.get("payments.return_url").map(str::to_owned);
            let stripe = Stripe::new(StripeAccount { url, secret_key, return_url });
            start_with(config, context, stripe.map_err(unusable)?)
        }
    }
}

/// Everything it knows it reads from the decisions.
fn start_with<P: Provider>(
    config: &Config,
    context: ViewContext,
    provider: P,
) -> Result<Started, Failure> {
    let secret = config.required("payments.webhook_secret")?;
    let schema_id = context.schemas.write_id(ORDER_INTENTS.subject);
    let log = OutcomeLog::new(context.log.appender(), context.log.partitions(), schema_id);
    let (worker, tell) = Worker::new(provider, log);
    let webhooks = webhook::router::<P>(secret, tell.clone());
    let tail = context.spawn("payments", move |context| follow(context, &tell))?;
    Ok(Started { tail, worker: tokio::spawn(worker.run()), webhooks })
}

/// Reads what is asked now, and only then says so: an operation that later decisions settle must not be asked
/// again, least of all after the provider has forgotten its key. Then follows the decisions.
fn follow(context: &ViewContext, tell: &Sender<Heard>) -> Result<(), String> {
    let decoded = |value: &[u8]| -> Result<Decision<OrderBody>, String> {
        read_decision(&context.schemas, ORDER_DECISIONS, value)
    };
    let (mut asked, mut next, mut unreadable) = (BTreeMap::new(), BTreeMap::new(), None);
    let beginning = |_| TailStart::Beginning;
    let read = read_to_end(&context.log, ORDER_DECISIONS, beginning, |record| {
        next.insert(record.partition, record.offset + 1);
        match decoded(&record.value) {
            Err(error) => {
                unreadable = Some(error);
                return ControlFlow::Break(());
            }
            Ok(decision) => {
                for order in decision.body.into_iter().flat_map(|body| body.orders) {
                    if order.operation.is_some() {
                        asked.insert(order.order_id, Arc::unwrap_or_clone(order));
                    } else {
                        asked.remove(&order.order_id);
                    }
                }
            }
        }
        ControlFlow::Continue(())
    });
    read.map_err(|failure| failure.to_string())?;
    unreadable.map_or(Ok(()), Err)?;
    let gone = |_| "the worker has stopped".to_owned();
    tell.blocking_send(Heard::Restart(asked.into_values().collect())).map_err(gone)?;
    let start =
        |partition| next.get(&partition).map_or(TailStart::Beginning, |at| TailStart::Offset(*at));
    let tail = context.log.tail(ORDER_DECISIONS, start);
    let mut tail = tail.map_err(|failure| failure.to_string())?;
    while !context.stop.load(Ordering::Relaxed) {
        let records = tail.poll(POLL_MAX, RECORDS_MAX).map_err(|error| error.to_string())?;
        let mut rows = Vec::new();
        for record in records {
            let orders = decoded(&record.value)?.body.into_iter().flat_map(|body| body.orders);
            rows.extend(orders.map(Arc::unwrap_or_clone));
        }
        if !rows.is_empty() {
            tell.blocking_send(Heard::Rows(rows)).map_err(gone)?;
        }
    }
    Ok(())
}
