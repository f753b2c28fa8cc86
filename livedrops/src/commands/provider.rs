//! `livedrops provider`: a payment provider of our own.

use std::net::SocketAddr;
use std::time::Duration;

use payments::simulated::{Rates, Webhooks, router};
use tokio::net::TcpListener;

use super::{block_on, print};
use crate::failure::Failure;

/// How long after a lapsed hold a late event comes.
const PAST_THE_HOLD: Duration = Duration::from_secs(1);
/// Holds of a drop whose creator does not say.
const HOLD_DEFAULT: Duration = Duration::from_mins(10);

/// Rates are percentages.
#[derive(clap::Args)]
pub(crate) struct Provider {
    /// Where it listens.
    #[arg(long, default_value = "127.0.0.1:8090")]
    listen: SocketAddr,
    /// Where events go: `http://host:port/webhooks/simulated`.
    #[arg(long, requires = "webhook_secret")]
    webhook_url: Option<String>,
    /// Signs events.
    #[arg(long, env = "LIVEDROPS_PAYMENTS__WEBHOOK_SECRET")]
    webhook_secret: Option<String>,
    #[command(flatten)]
    rates: RateFlags,
}

/// How often what goes wrong.
#[derive(clap::Args, Clone)]
pub(crate) struct RateFlags {
    /// Authorisations declined.
    #[arg(long, default_value_t = 5.0)]
    declines: f64,
    /// Calls carried out but not answered.
    #[arg(long, default_value_t = 2.0)]
    timeouts: f64,
    /// Events delivered twice.
    #[arg(long, default_value_t = 2.0)]
    duplicates: f64,
    /// Events delivered late.
    #[arg(long, default_value_t = 2.0)]
    late: f64,
    /// How late, in milliseconds; a little longer than a hold unless given.
    #[arg(long)]
    late_by_ms: Option<u64>,
    /// Authorisations told by an event.
    #[arg(long, default_value_t = 10.0)]
    pending: f64,
    /// Authorisations that need a step of the buyer.
    #[arg(long, default_value_t = 2.0)]
    actions: f64,
    /// Of all of it.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

impl RateFlags {
    /// With events that come after a hold of this length has lapsed.
    pub(crate) fn rates(&self, hold: Duration) -> Rates {
        Rates {
            declines: self.declines,
            timeouts: self.timeouts,
            duplicates: self.duplicates,
            late: self.late,
            late_by: self.late_by_ms.map_or(hold + PAST_THE_HOLD, Duration::from_millis),
            pending: self.pending,
            actions: self.actions,
            seed: self.seed,
        }
    }
}

impl Provider {
    pub(crate) fn run(self) -> Result<(), Failure> {
        let secret = self.webhook_secret;
        let webhooks = self.webhook_url.zip(secret).map(|(url, secret)| Webhooks { url, secret });
        let rates = self.rates.rates(HOLD_DEFAULT);
        block_on(async move {
            let listener = TcpListener::bind(self.listen).await.map_err(Failure::unreachable)?;
            let address = listener.local_addr().map_err(Failure::unreachable)?;
            print(&format!("listening on http://{address}"));
            let stopped = async { drop(tokio::signal::ctrl_c().await) };
            let serving = axum::serve(listener, router(rates, webhooks));
            serving.with_graceful_shutdown(stopped).await.map_err(Failure::unreachable)
        })
    }
}
