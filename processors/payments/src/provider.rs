//! What the worker needs of a payment provider.

use std::future::Future;

use schemas::order::PaymentOutcome;

use crate::operations::{Call, How};

/// A provider over HTTP, with signed webhooks.
pub trait Provider: Clone + Send + Sync + 'static {
    /// In the webhook's path.
    const NAME: &'static str;
    /// Header of a webhook's signature.
    const SIGNATURE_HEADER: &'static str;

    /// Asks for an operation, or what became of it. `None` while there is no outcome: an event will tell.
    ///
    /// What the provider has never heard of did not happen: an authorisation has failed then, anything else is asked
    /// for again.
    ///
    /// # Errors
    /// [`NoAnswer`]: the outcome is unknown.
    fn ask(
        &self,
        call: &Call,
        how: How,
    ) -> impl Future<Output = Result<Option<PaymentOutcome>, NoAnswer>> + Send;

    /// Reads an event whose signature was checked.
    ///
    /// # Errors
    /// Where the body is no event of this provider.
    fn read_event(body: &[u8]) -> Result<ProviderEvent, serde_json::Error>;
}

/// Something happened at the provider.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ProviderEvent {
    /// The same at every delivery.
    pub id: String,
    /// What the log has to know of it; `None` where it is nothing that we asked for.
    pub outcome: Option<PaymentOutcome>,
}

/// Why there is no answer: the outcome is unknown, whatever the reason.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the provider gave no answer: {0}")]
pub struct NoAnswer(pub String);

impl From<reqwest::Error> for NoAnswer {
    fn from(error: reqwest::Error) -> Self {
        Self(error.to_string())
    }
}
