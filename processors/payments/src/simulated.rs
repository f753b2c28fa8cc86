//! A payment provider of our own: a real HTTP server with its own ledger of money, which declines, times out, sends
//! events twice or late, and asks the buyer for a step, by rate and seed. What it does with a key depends on the
//! seed and the key alone, not on who came first.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use auditor::ledger::{Charge, ChargeState};
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::routing::{get, post};
use axum::{Json, Router};
use schemas::order::ProviderOperationKind as Kind;
use schemas::units::{Currency, MinorUnits};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::client::{Event, OperationAnswer, OperationRequest, SimulatedProvider, Standing};
use crate::provider::Provider as _;
use crate::webhook::sign;

/// Longer than any client waits.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Tries of one delivery.
const DELIVERIES_MAX: u32 = 20;

/// How often what goes wrong, in percent.
#[derive(Clone, Debug)]
pub struct Rates {
    /// Authorisations declined.
    pub declines: f64,
    /// First calls of a key that are carried out but not answered.
    pub timeouts: f64,
    /// Events delivered twice.
    pub duplicates: f64,
    /// Events delivered only after [`Rates::late_by`].
    pub late: f64,
    /// How late.
    pub late_by: Duration,
    /// Authorisations told by an event rather than in the answer.
    pub pending: f64,
    /// Authorisations that need a step of the buyer, who takes it.
    pub actions: f64,
    /// Of everything above.
    pub seed: u64,
}

/// Where events go.
#[derive(Clone, Debug)]
pub struct Webhooks {
    /// The payments processor's endpoint.
    pub url: String,
    /// Signs them.
    pub secret: String,
}

#[derive(Default)]
struct Books {
    charges: BTreeMap<(String, i32), ChargeEntry>,
    answers: BTreeMap<String, OperationAnswer>,
}

/// A charge as the ledger shows it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ChargeEntry {
    /// The order.
    pub order_id: String,
    /// The attempt.
    pub attempt: i32,
    /// Minor units.
    pub amount: MinorUnits,
    /// ISO 4217.
    pub currency: Currency,
    /// What has happened to it.
    #[serde(flatten)]
    pub state: ChargeState,
}

impl ChargeEntry {
    /// The charge as the audit compares it; `None` where the order id is nobody's.
    #[must_use]
    pub fn charge(&self) -> Option<Charge> {
        let order_id = self.order_id.parse().ok()?;
        Some(Charge { order_id, attempt: self.attempt, amount: self.amount, state: self.state })
    }
}

struct Provider {
    books: Mutex<Books>,
    rates: Rates,
    webhooks: Option<Webhooks>,
    http: reqwest::Client,
}

type Shared = Arc<Provider>;

/// The provider's HTTP interface.
pub fn router(rates: Rates, webhooks: Option<Webhooks>) -> Router {
    let http = reqwest::Client::new();
    let provider = Provider { books: Mutex::default(), rates, webhooks, http };
    Router::new()
        .route("/operations", post(operate))
        .route("/operations/{key}", get(look_up))
        .route("/ledger", get(ledger))
        .with_state(Arc::new(provider))
}

impl Provider {
    fn books(&self) -> MutexGuard<'_, Books> {
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether something happens to a key.
    fn happens(&self, percent: f64, what: &str, key: &str) -> bool {
        let seed = self.rates.seed.to_be_bytes();
        let digest = Sha256::new_with_prefix(seed).chain_update(what).chain_update(key).finalize();
        let drawn = digest.first_chunk::<4>().map_or(0, |bytes| u32::from_be_bytes(*bytes));
        f64::from(drawn) < f64::from(u32::MAX) * percent / 100.0
    }

    /// Carries an operation out, once per key. True where the key is new.
    fn carry_out(&self, key: &str, request: &OperationRequest) -> (OperationAnswer, bool) {
        let mut books = self.books();
        if let Some(answer) = books.answers.get(key) {
            return (answer.clone(), false);
        }
        let id = (request.order_id.clone(), request.attempt);
        let charge = books.charges.entry(id).or_insert_with(|| ChargeEntry {
            order_id: request.order_id.clone(),
            attempt: request.attempt,
            amount: request.amount,
            currency: request.currency.clone(),
            state: ChargeState::default(),
        });
        let kind = request.operation;
        let accepts =
            || kind != Kind::Authorise || !self.happens(self.rates.declines, "decline", key);
        let succeeded = charge.state.carry_out(kind, accepts);
        let answer = OperationAnswer {
            order_id: request.order_id.clone(),
            attempt: request.attempt,
            operation: request.operation,
            status: if succeeded { Standing::Succeeded } else { Standing::Failed },
            captured: false,
            amount: charge.amount,
            currency: charge.currency.clone(),
            detail: (!succeeded).then(|| "declined".to_owned()),
        };
        books.answers.insert(key.to_owned(), answer.clone());
        (answer, true)
    }

    /// Sends an event until it is taken; twice or late where the rates say so.
    fn announce(self: &Arc<Self>, key: &str, answer: OperationAnswer, delay: Duration) {
        let Some(webhooks) = self.webhooks.clone() else { return };
        let copies = if self.happens(self.rates.duplicates, "duplicate", key) { 2 } else { 1 };
        let late = self.happens(self.rates.late, "late", key);
        let delay = if late { self.rates.late_by } else { delay };
        let event = Event { id: format!("evt_{key}"), operation: answer };
        for copy in 0..copies {
            let (provider, webhooks, event) = (self.clone(), webhooks.clone(), event.clone());
            tokio::spawn(async move {
                tokio::time::sleep(delay + Duration::from_millis(300) * copy).await;
                provider.deliver(&webhooks, &event).await;
            });
        }
    }

    async fn deliver(&self, webhooks: &Webhooks, event: &Event) {
        let Ok(body) = serde_json::to_vec(event) else { return };
        for attempt in 0..DELIVERIES_MAX {
            let now_seconds = platform::clock::now_ms() / 1_000;
            let request = self
                .http
                .post(&webhooks.url)
                .header(
                    SimulatedProvider::SIGNATURE_HEADER,
                    sign(&webhooks.secret, &body, now_seconds),
                )
                .header("content-type", "application/json")
                .body(body.clone());
            if request.send().await.is_ok_and(|response| response.status().is_success()) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(200) * (attempt + 1)).await;
        }
    }
}

async fn operate(
    State(provider): State<Shared>,
    headers: HeaderMap,
    Json(request): Json<OperationRequest>,
) -> Result<Json<OperationAnswer>, StatusCode> {
    let key = headers.get("idempotency-key").and_then(|value| value.to_str().ok());
    let key = key.ok_or(StatusCode::BAD_REQUEST)?.to_owned();
    let (answer, is_new) = provider.carry_out(&key, &request);
    let authorises = request.operation == Kind::Authorise;
    let acts = authorises && provider.happens(provider.rates.actions, "action", &key);
    let by_event = authorises
        && (provider.happens(provider.rates.pending, "pending", &key)
            || provider.happens(provider.rates.late, "late", &key));
    let told_twice = provider.happens(provider.rates.duplicates, "duplicate", &key);
    if is_new && (acts || by_event || told_twice) {
        let thinking = Duration::from_millis(if acts { 1_000 } else { 150 });
        provider.announce(&key, answer.clone(), thinking);
    }
    if is_new && provider.happens(provider.rates.timeouts, "timeout", &key) {
        tokio::time::sleep(TIMEOUT).await;
        return Err(StatusCode::GATEWAY_TIMEOUT);
    }
    let status = match (acts, by_event) {
        (true, _) => Standing::RequiresAction,
        (false, true) => Standing::Pending,
        (false, false) => return Ok(Json(answer)),
    };
    let detail = acts.then(|| format!("https://provider.example/confirm/{key}"));
    Ok(Json(OperationAnswer { status, detail, ..answer }))
}

async fn look_up(
    State(provider): State<Shared>,
    Path(key): Path<String>,
) -> Result<Json<OperationAnswer>, StatusCode> {
    let answer = provider.books().answers.get(&key).cloned();
    answer.map(Json).ok_or(StatusCode::NOT_FOUND)
}

async fn ledger(State(provider): State<Shared>) -> Json<Vec<ChargeEntry>> {
    Json(provider.books().charges.values().cloned().collect())
}
