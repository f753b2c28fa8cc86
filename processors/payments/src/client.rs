//! Calls the simulated provider ([`crate::simulated`]) over HTTP.

use std::time::Duration;

use schemas::order::{PaymentOutcome, ProviderOperationKind, ProviderResult};
use schemas::units::{Currency, MinorUnits};
use serde::{Deserialize, Serialize};

use crate::operations::{Call, How};
use crate::provider::{NoAnswer, Provider, ProviderEvent};

/// A call that takes longer has an unknown outcome.
const CALL_MAX: Duration = Duration::from_secs(3);

/// What is asked, as the provider reads it.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OperationRequest {
    /// The order.
    pub order_id: String,
    /// The attempt.
    pub attempt: i32,
    /// What.
    pub operation: ProviderOperationKind,
    /// Minor units.
    pub amount: MinorUnits,
    /// ISO 4217.
    pub currency: Currency,
    /// Opaque reference.
    pub method: Option<String>,
}

/// Where an operation stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    /// Done.
    Succeeded,
    /// Turned down.
    Failed,
    /// An event will tell.
    Pending,
    /// The buyer has a step to take; an event will tell.
    RequiresAction,
}

/// What the provider says of an operation, in an answer or in an event.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OperationAnswer {
    /// The order.
    pub order_id: String,
    /// The attempt.
    pub attempt: i32,
    /// What was asked.
    pub operation: ProviderOperationKind,
    /// Where it stands.
    pub status: Standing,
    /// Whether the money was taken with the authorisation.
    pub captured: bool,
    /// Minor units.
    pub amount: MinorUnits,
    /// ISO 4217.
    pub currency: Currency,
    /// Why it failed, or where the buyer has to go.
    pub detail: Option<String>,
}

/// An event as the provider sends it.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Event {
    /// The same at every delivery.
    pub id: String,
    /// What happened.
    pub operation: OperationAnswer,
}

impl OperationAnswer {
    /// The outcome for the log; `None` while there is none, or where the order id is nobody's.
    fn outcome(self) -> Option<PaymentOutcome> {
        let result = match self.status {
            Standing::Succeeded => ProviderResult::Succeeded,
            Standing::Failed => ProviderResult::Failed,
            Standing::RequiresAction => ProviderResult::NeedsAction,
            Standing::Pending => return None,
        };
        Some(PaymentOutcome {
            order_id: self.order_id.parse().ok()?,
            attempt: self.attempt,
            operation: self.operation,
            result,
            captured: self.captured,
            amount: self.amount,
            currency: self.currency,
            detail: self.detail,
            reference: None,
        })
    }
}

/// Calls the simulated provider.
#[derive(Clone, Debug)]
pub struct SimulatedProvider {
    http: reqwest::Client,
    url: String,
}

impl SimulatedProvider {
    /// A client of the provider at `url`.
    ///
    /// # Errors
    /// Where no HTTP client can be made.
    pub fn new(url: &str) -> Result<Self, NoAnswer> {
        let http = reqwest::Client::builder().timeout(CALL_MAX).build()?;
        Ok(Self { http, url: url.trim_end_matches('/').to_owned() })
    }
}

impl Provider for SimulatedProvider {
    const NAME: &'static str = "simulated";
    const SIGNATURE_HEADER: &'static str = "provider-signature";

    /// Its buyer always takes the step: giving up finds out what became of it.
    async fn ask(&self, call: &Call, how: How) -> Result<Option<PaymentOutcome>, NoAnswer> {
        if how != How::Execute {
            let request = self.http.get(format!("{}/operations/{}", self.url, call.key()));
            let response = request.send().await?;
            if response.status() != reqwest::StatusCode::NOT_FOUND {
                return read(response).await;
            }
            if call.kind == ProviderOperationKind::Authorise {
                return Ok(Some(call.failed("unknown to the provider")));
            }
        }
        let body = OperationRequest {
            order_id: call.order_id.to_string(),
            attempt: call.attempt,
            operation: call.kind,
            amount: call.amount,
            currency: call.currency.clone(),
            method: call.method.clone(),
        };
        let post = self.http.post(format!("{}/operations", self.url));
        read(post.header("idempotency-key", call.key()).json(&body).send().await?).await
    }

    fn read_event(body: &[u8]) -> Result<ProviderEvent, serde_json::Error> {
        let event: Event = serde_json::from_slice(body)?;
        Ok(ProviderEvent { id: event.id, outcome: event.operation.outcome() })
    }
}

async fn read(response: reqwest::Response) -> Result<Option<PaymentOutcome>, NoAnswer> {
    let answer: OperationAnswer = response.error_for_status()?.json().await?;
    Ok(answer.outcome())
}
