//! The second drop of a demo: paid, with holds that lapse, a waitlist, and a provider that declines, times out and
//! tells late or twice. It ends with every unit sold or available, and the provider's ledger equal to the log.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use auditor::Fold;
use payments::simulated::ChargeEntry;
use schemas::ids::DropId;
use schemas::order::OrderStatus;
use serde::Serialize;
use serde_json::{Value, json};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use uuid::Uuid;

use crate::commands::keys::Minter;
use crate::commands::load::buyer;
use crate::failure::Failure;
use crate::proof::Proof;

/// Connections at once: each costs this process a socket on both sides.
const CONNECTIONS_MAX: usize = 2_000;
/// How long a buyer holds one; with more buyers than connections they take turns.
const WAIT_MS: u64 = 2_000;
/// One in so many never pays; one in so many lets an offer lapse.
const IDLE_BUYERS: u32 = 10;
/// Buyers of the encore are other people.
const FIRST_BUYER: u32 = 1_000_000;

/// What is sold, to how many, and how long a hold lasts.
#[allow(clippy::struct_field_names, reason = "the names of the flags")]
#[derive(clap::Args, Clone)]
pub(crate) struct EncoreFlags {
    /// Buyers of the paid drop; 0 for none.
    #[arg(long, default_value_t = 300)]
    pub(crate) encore_buyers: u32,
    /// Its units.
    #[arg(long, default_value_t = 100)]
    pub(crate) encore_stock: i64,
    /// Seconds of a hold and of an offer; the drop lasts three of them.
    #[arg(long, default_value_t = 2)]
    pub(crate) encore_hold_seconds: i64,
}

/// What became of it.
#[derive(Clone, PartialEq, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct EncoreReport {
    units: i64,
    buyers: u32,
    seconds: f64,
    available: i64,
    reserved: i64,
    sold: i64,
    orders_by_status: BTreeMap<&'static str, u64>,
    offered: u64,
    late_or_failed_attempts: u64,
    charges: usize,
    kept: i64,
    currency: &'static str,
    pub(crate) findings: Vec<String>,
    pub(crate) verified: bool,
}

impl EncoreReport {
    pub(crate) fn lines(&self) -> Vec<String> {
        let count =
            |status: OrderStatus| self.orders_by_status.get(status.as_str()).copied().unwrap_or(0);
        vec![
            format!(
                "  encore   {} units · {} buyers, paid, with a waitlist · {:.1} s",
                self.units, self.buyers, self.seconds
            ),
            format!(
                "  settled  {} paid · {} expired · {} payment failed · {} offered to who waited · {} turned away",
                count(OrderStatus::Paid),
                count(OrderStatus::Expired),
                count(OrderStatus::PaymentFailed),
                self.offered,
                count(OrderStatus::Rejected),
            ),
            format!(
                "  money    {} charges, {}.{:02} {} kept {} log · {} units sold, {} available, {} held",
                self.charges,
                self.kept / 100,
                self.kept % 100,
                self.currency,
                if self.findings.is_empty() { "=" } else { "≠" },
                self.sold,
                self.available,
                self.reserved
            ),
        ]
    }
}

/// The drop while it runs.
pub(crate) struct Encore {
    pub(crate) flags: EncoreFlags,
    pub(crate) url: String,
    pub(crate) provider_url: String,
    pub(crate) minter: Arc<Minter>,
    http: reqwest::Client,
}

impl Encore {
    pub(crate) fn new(
        flags: EncoreFlags,
        url: String,
        provider_url: String,
        minter: Minter,
    ) -> Self {
        let http = reqwest::Client::new();
        Self { flags, url, provider_url, minter: Arc::new(minter), http }
    }

    /// Runs the drop until every buyer's order is settled. Returns the drop and how long it took.
    pub(crate) async fn run(&self) -> Result<(Uuid, f64), Failure> {
        let drop = self.schedule().await?;
        let started = platform::clock::monotonic();
        let sending = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        let mut buyers = JoinSet::new();
        for number in 0..self.flags.encore_buyers {
            let user = buyer(FIRST_BUYER + number);
            let token = self.minter.mint(user, "", Duration::from_hours(1))?;
            let buyer = Buyer {
                http: self.http.clone(),
                url: self.url.clone(),
                token,
                number,
                patience: Duration::from_secs(
                    (self.flags.encore_hold_seconds * 8 + 60).cast_unsigned(),
                ),
            };
            buyers.spawn(buyer.buy(drop, sending.clone()));
        }
        let mut unsettled = 0;
        while let Some(settled) = buyers.join_next().await {
            unsettled += u32::from(!settled.map_err(Failure::check)?);
        }
        if unsettled > 0 {
            return Err(Failure::check(format!("{unsettled} orders of the encore did not settle")));
        }
        Ok((drop, started.elapsed().as_secs_f64()))
    }

    async fn schedule(&self) -> Result<Uuid, Failure> {
        let hold = self.flags.encore_hold_seconds;
        let now = platform::clock::now_ms();
        let instant = |ms| ingest_api::views::rfc3339(schemas::units::Millis(ms));
        let body = json!({
            "productId": platform::clock::random_uuid(), "title": "Night Run 02", "waitlist": true,
            "startsAt": instant(now), "endsAt": instant(now + hold * 3_000 + 2_000),
            "stock": self.flags.encore_stock, "price": {"amount": 1_999, "currency": "EUR"},
            "holdSeconds": hold, "offerSeconds": hold, "limitPerUser": 2,
        });
        super::schedule_drop(&self.minter, &self.url, "encore", &body).await
    }

    /// The provider's ledger.
    pub(crate) async fn ledger(&self) -> Result<Vec<ChargeEntry>, Failure> {
        let response = self.http.get(format!("{}/ledger", self.provider_url)).send().await;
        response.map_err(Failure::unreachable)?.json().await.map_err(Failure::check)
    }

    /// The drop as the log has it, beside the provider's ledger.
    pub(crate) fn report(
        &self,
        drop: Uuid,
        seconds: f64,
        proof: &Proof,
        ledger: &[ChargeEntry],
    ) -> EncoreReport {
        let drop = DropId::from(drop);
        let charges: Vec<_> = ledger.iter().filter_map(ChargeEntry::charge).collect();
        let (mut findings, kept) = auditor::ledger::compare(&proof.folds.values(), &charges);
        let fold = proof.folds.values().find(|fold| fold.drops.contains_key(&drop));
        let empty = Fold::default();
        let fold = fold.unwrap_or(&empty);
        let orders: Vec<_> = fold.orders.values().filter(|order| order.drop_id == drop).collect();
        let mut orders_by_status = BTreeMap::new();
        for order in &orders {
            *orders_by_status.entry(order.status.as_str()).or_insert(0) += 1;
        }
        let stocks = || fold.stocks.values().filter(|stock| stock.drop_id == drop);
        let sum = |of: fn(&schemas::order::StockRow) -> i64| stocks().map(of).sum::<i64>();
        let (available, reserved, sold) =
            (sum(|s| s.available.0), sum(|s| s.reserved.0), sum(|s| s.sold.0));
        let paid: i64 = orders
            .iter()
            .filter(|order| order.status == OrderStatus::Paid)
            .map(|order| order.units().0)
            .sum();
        if reserved != 0 || sold != paid || available + sold != self.flags.encore_stock {
            findings.push(format!(
                "{available} available, {reserved} held, {sold} sold, {paid} paid of {}",
                self.flags.encore_stock
            ));
        }
        let is_failed = |state: schemas::order::PaymentState| {
            use schemas::order::PaymentState::{Captured, Pending};
            !matches!(state, Captured | Pending)
        };
        let attempts = orders.iter().flat_map(|order| &order.payments);
        let offered = orders
            .iter()
            .filter(|order| order.from_waitlist && order.status != OrderStatus::Rejected)
            .count() as u64;
        EncoreReport {
            units: self.flags.encore_stock,
            buyers: self.flags.encore_buyers,
            seconds,
            available,
            reserved,
            sold,
            orders_by_status,
            offered,
            late_or_failed_attempts: attempts.filter(|p| is_failed(p.state)).count() as u64,
            charges: charges.iter().filter(|charge| charge.state.authorised).count(),
            kept: kept.0,
            currency: "EUR",
            verified: findings.is_empty() && orders.len() == self.flags.encore_buyers as usize,
            findings,
        }
    }
}

/// Somebody who wants one unit.
struct Buyer {
    http: reqwest::Client,
    url: String,
    token: String,
    number: u32,
    patience: Duration,
}

impl Buyer {
    /// Orders, then does what the order's status asks for until it is settled. False where it never was.
    async fn buy(self, drop: Uuid, sending: Arc<Semaphore>) -> bool {
        let started = platform::clock::monotonic();
        let Some(mut order) = self.place(drop, &sending).await else { return true };
        let mut tried = 0;
        while started.elapsed() < self.patience {
            let status = order["status"].as_str().unwrap_or_default().to_owned();
            let id = order["id"].as_str().unwrap_or_default().to_owned();
            let declined = order["payment"]["state"] == "DECLINED";
            let acts = !self.number.is_multiple_of(IDLE_BUYERS);
            match status.as_str() {
                "PAID" | "PAYMENT_FAILED" | "CANCELLED" | "REJECTED" | "REFUNDED" => return true,
                "EXPIRED" if order["payment"]["operation"].is_null() => return true,
                "OFFERED" | "RESERVED"
                    if acts && tried < 3 && (status == "OFFERED" || declined) =>
                {
                    tried += 1;
                    let body = json!({"paymentMethodId": format!("pm_{tried}")});
                    let path = format!("/orders/{id}/payments");
                    let permit = sending.acquire().await;
                    let (_, answer) = self.post(&path, &body).await;
                    std::mem::drop(permit);
                    if answer["order"].is_object() {
                        order = answer["order"].clone();
                        continue;
                    }
                }
                _ => {}
            }
            let version = order["version"].as_i64().unwrap_or(0);
            let path = format!("/orders/{id}?waitMs={WAIT_MS}&afterVersion={version}");
            let permit = sending.acquire().await;
            let request = self.http.get(format!("{}{path}", self.url)).bearer_auth(&self.token);
            match request.send().await {
                Ok(response) if response.status() == 200 => {
                    order = response.json().await.unwrap_or(order);
                }
                _ => tokio::time::sleep(Duration::from_millis(200)).await,
            }
            std::mem::drop(permit);
        }
        false
    }

    /// The order, once it is decided; `None` where it was refused.
    async fn place(&self, drop: Uuid, sending: &Semaphore) -> Option<Value> {
        let mut body = json!({"qty": 1, "ifSoldOut": "waitlist", "paymentMethodId": "pm_0"});
        if self.number.is_multiple_of(IDLE_BUYERS) {
            body.as_object_mut()?.remove("paymentMethodId");
        }
        loop {
            let permit = sending.acquire().await.ok()?;
            let (status, answer) = self.post(&format!("/drops/{drop}/orders"), &body).await;
            std::mem::drop(permit);
            match status {
                200..=202 => return Some(answer["order"].clone()),
                409 => return None,
                _ => tokio::time::sleep(Duration::from_millis(200)).await,
            }
        }
    }

    async fn post(&self, path: &str, body: &Value) -> (u16, Value) {
        let request = self
            .http
            .post(format!("{}{path}", self.url))
            .bearer_auth(&self.token)
            .header("idempotency-key", "encore")
            .header("prefer", "wait=20")
            .json(body);
        match request.send().await {
            Ok(response) => {
                (response.status().as_u16(), response.json().await.unwrap_or(Value::Null))
            }
            Err(_) => (0, Value::Null),
        }
    }
}
