//! The provider over HTTP.

use std::time::Duration;

use schemas::order::{PaymentOutcome, ProviderOperationKind, ProviderResult};
use schemas::units::MinorUnits;
use serde::{Deserialize, Serialize};

use crate::operations::{Call, How};

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
    pub currency: String,
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
    pub currency: String,
    /// Why it failed, or where the buyer has to go.
    pub detail: Option<String>,
}

/// An event that the provider sends.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ProviderEvent {
    /// The same at every delivery.
    pub id: String,
    /// What happened.
    pub operation: OperationAnswer,
}

impl OperationAnswer {
    /// The outcome for the log; `None` while there is none, or where the order id is nobody's.
    #[must_use]
    pub fn outcome(&self) -> Option<PaymentOutcome> {
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
            currency: self.currency.clone(),
            detail: self.detail.clone(),
        })
    }
}

/// Why there is no answer: the outcome is unknown, whatever the reason.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the provider gave no answer: {0}")]
pub struct NoAnswer(String);

/// Calls one provider.
#[derive(Clone, Debug)]
pub struct ProviderClient {
    http: reqwest::Client,
    url: String,
}

impl ProviderClient {
    /// A client of the provider at `url`.
    ///
    /// # Errors
    /// Where no HTTP client can be made.
    pub fn new(url: &str) -> Result<Self, NoAnswer> {
        let http = reqwest::Client::builder().timeout(CALL_MAX).build();
        let http = http.map_err(|error| NoAnswer(error.to_string()))?;
        Ok(Self { http, url: url.trim_end_matches('/').to_owned() })
    }

    /// Asks for an operation, or what became of it. What the provider has never heard of did not happen: an
    /// authorisation has failed then, anything else is asked for again.
    ///
    /// # Errors
    /// [`NoAnswer`]: the outcome is unknown.
    pub async fn ask(&self, call: &Call, how: How) -> Result<OperationAnswer, NoAnswer> {
        if how == How::LookUp {
            let request = self.http.get(format!("{}/operations/{}", self.url, call.key()));
            let response = request.send().await.map_err(|error| NoAnswer(error.to_string()))?;
            if response.status() != reqwest::StatusCode::NOT_FOUND {
                return read(response).await;
            }
            if call.kind == ProviderOperationKind::Authorise {
                return Ok(never_happened(call));
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
        let sent = post.header("idempotency-key", call.key()).json(&body).send().await;
        read(sent.map_err(|error| NoAnswer(error.to_string()))?).await
    }
}

async fn read(response: reqwest::Response) -> Result<OperationAnswer, NoAnswer> {
    let answer = async { response.error_for_status()?.json().await };
    answer.await.map_err(|error: reqwest::Error| NoAnswer(error.to_string()))
}

fn never_happened(call: &Call) -> OperationAnswer {
    OperationAnswer {
        order_id: call.order_id.to_string(),
        attempt: call.attempt,
        operation: call.kind,
        status: Standing::Failed,
        captured: false,
        amount: call.amount,
        currency: call.currency.clone(),
        detail: Some("unknown to the provider".into()),
    }
}
