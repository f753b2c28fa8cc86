//! The Stripe adapter: one payment intent per attempt, captured by hand (docs.stripe.com/payments/payment-intents,
//! "Place a hold on a payment method"). Amounts are in the currency's minor unit on both sides.
//!
//! A payment intent is a state machine of its own, so an operation that Stripe refuses is not simply a failure: what
//! became of it is read from the intent ([`object`], pure).

mod object;

use std::time::Duration;

use reqwest::StatusCode;
use schemas::order::{PaymentOutcome, ProviderOperationKind as Kind, ProviderResult};
use serde::de::DeserializeOwned;

use crate::operations::{Call, How};
use crate::provider::{NoAnswer, Provider, ProviderEvent};
pub use object::{Event, Found, Intent, Refund, Standing};
use object::{Matches, Refused};

/// A call that takes longer has an unknown outcome. Banks take their time.
const CALL_MAX: Duration = Duration::from_secs(20);
/// The interface this adapter was written for; accounts may have another default.
const API_VERSION: &str = "2024-06-20";

/// Where and as whom Stripe is called.
#[derive(Clone)]
pub struct StripeAccount {
    /// `https://api.stripe.com`, or a mock's address.
    pub url: String,
    /// Secret key, `sk_…`.
    pub secret_key: String,
    /// Where a buyer comes back to after a step at the bank. Without it such a step can only be taken with Stripe's
    /// own client library.
    pub return_url: Option<String>,
}

impl std::fmt::Debug for StripeAccount {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("StripeAccount").field("url", &self.url).finish_non_exhaustive()
    }
}

/// Calls Stripe.
#[derive(Clone, Debug)]
pub struct Stripe {
    http: reqwest::Client,
    account: StripeAccount,
}

/// What Stripe says to a call that it understood.
enum Reply<T> {
    Done(T),
    /// It will say so again, however often it is asked.
    Refused(Refused),
}

type Form = Vec<(&'static str, String)>;

impl Stripe {
    /// A client of this account.
    ///
    /// # Errors
    /// Where no HTTP client can be made.
    pub fn new(mut account: StripeAccount) -> Result<Self, NoAnswer> {
        account.url.truncate(account.url.trim_end_matches('/').len());
        let http = reqwest::Client::builder().timeout(CALL_MAX).build()?;
        Ok(Self { http, account })
    }

    async fn get<T: DeserializeOwned>(&self, path: &str, query: &Form) -> Result<T, NoAnswer> {
        let request = self.http.get(format!("{}/v1/{path}", self.account.url)).query(query);
        match self.send(request).await? {
            Reply::Done(object) => Ok(object),
            Reply::Refused(refused) => Err(NoAnswer(refused.to_string())),
        }
    }

    async fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        key: &str,
        form: &Form,
    ) -> Result<Reply<T>, NoAnswer> {
        let request = self.http.post(format!("{}/v1/{path}", self.account.url));
        self.send(request.header("idempotency-key", key).form(form)).await
    }

    async fn send<T: DeserializeOwned>(
        &self,
        request: reqwest::RequestBuilder,
    ) -> Result<Reply<T>, NoAnswer> {
        let request = request.bearer_auth(&self.account.secret_key);
        let response = request.header("stripe-version", API_VERSION).send().await?;
        let status = response.status();
        if status.is_success() {
            return Ok(Reply::Done(response.json().await?));
        }
        let will_change = status.is_server_error()
            || matches!(status, StatusCode::CONFLICT | StatusCode::TOO_MANY_REQUESTS);
        let is_ours = matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN);
        if is_ours {
            tracing::error!(%status, "Stripe refuses our key: no payment moves until it is replaced");
        }
        let refused: Refused = response.json().await.unwrap_or_default();
        if will_change || is_ours || refused.is_ours() {
            return Err(NoAnswer(format!("{status}: {refused}")));
        }
        Ok(Reply::Refused(refused))
    }

    /// The intent of a call's attempt, with its charge. By its name where the log has it; else by what we wrote on
    /// it, which Stripe finds within a minute of its making.
    async fn find(&self, call: &Call) -> Result<Option<Intent>, NoAnswer> {
        if let Some(reference) = &call.reference {
            let expand = vec![("expand[]", "latest_charge".to_owned())];
            return self.get(&format!("payment_intents/{reference}"), &expand).await.map(Some);
        }
        let (order, attempt) = (call.order_id, call.attempt);
        let text = format!("metadata['order_id']:'{order}' AND metadata['attempt']:'{attempt}'");
        let query = vec![("query", text), ("expand[]", "data.latest_charge".to_owned())];
        let found: Matches = self.get("payment_intents/search", &query).await?;
        Ok(found.data.into_iter().find(|intent| intent.is_of(call)))
    }

    async fn authorise(&self, call: &Call) -> Result<Option<PaymentOutcome>, NoAnswer> {
        let Some(method) = call.method.clone() else {
            return Ok(Some(call.failed("no payment method was given")));
        };
        let mut form = vec![
            ("amount", call.amount.0.to_string()),
            ("currency", call.currency.to_lowercase().into()),
            ("payment_method", method),
            ("payment_method_types[]", "card".to_owned()),
            ("capture_method", "manual".to_owned()),
            ("confirm", "true".to_owned()),
            ("metadata[order_id]", call.order_id.to_string()),
            ("metadata[attempt]", call.attempt.to_string()),
        ];
        form.extend(self.account.return_url.clone().map(|url| ("return_url", url)));
        match self.post::<Intent>("payment_intents", &call.key(), &form).await? {
            Reply::Done(intent) => Ok(intent.outcome(call)),
            Reply::Refused(refused) => Ok(Some(refused.outcome(call))),
        }
    }

    /// Captures, voids or refunds what was authorised.
    async fn settle(
        &self,
        call: &Call,
        reference: &str,
    ) -> Result<Option<PaymentOutcome>, NoAnswer> {
        let intent = |what: &str| format!("payment_intents/{reference}/{what}");
        let key = call.key();
        let reply = match call.kind {
            Kind::Capture => self.post(&intent("capture"), &key, &Form::new()).await?,
            Kind::Void | Kind::Authorise => {
                self.post(&intent("cancel"), &key, &Form::new()).await?
            }
            // All of it, whatever was taken.
            Kind::Refund => {
                let form = vec![
                    ("payment_intent", reference.to_owned()),
                    ("metadata[order_id]", call.order_id.to_string()),
                    ("metadata[attempt]", call.attempt.to_string()),
                ];
                match self.post::<Refund>("refunds", &key, &form).await? {
                    Reply::Done(refund) => return Ok(refund.outcome(call)),
                    Reply::Refused(refused) => Reply::Refused(refused),
                }
            }
        };
        let refused = match reply {
            Reply::Done(intent) => return Ok(Intent::outcome(&intent, call)),
            Reply::Refused(refused) => refused,
        };
        // Refused because it is done already, or because it can no longer be done.
        let standing = self.find(call).await?.map(|intent| intent.found(call));
        match standing {
            Some(Found::Outcome(outcome)) => Ok(outcome),
            Some(Found::NotDone) | None => Ok(Some(refused.outcome(call))),
        }
    }

    async fn execute(&self, call: &Call) -> Result<Option<PaymentOutcome>, NoAnswer> {
        if call.kind == Kind::Authorise {
            return self.authorise(call).await;
        }
        let reference = match call.reference.clone() {
            Some(reference) => Some(reference),
            None => self.find(call).await?.map(|intent| intent.id),
        };
        let unknown = || NoAnswer(format!("no payment intent is known for {}", call.key()));
        self.settle(call, &reference.ok_or_else(unknown)?).await
    }
}

impl Provider for Stripe {
    const NAME: &'static str = "stripe";
    const SIGNATURE_HEADER: &'static str = "stripe-signature";

    async fn ask(&self, call: &Call, how: How) -> Result<Option<PaymentOutcome>, NoAnswer> {
        if how == How::Execute {
            return self.execute(call).await;
        }
        let Some(intent) = self.find(call).await? else {
            let authorises = call.kind == Kind::Authorise;
            return if authorises {
                Ok(Some(call.failed("unknown to the provider")))
            } else {
                self.execute(call).await
            };
        };
        match intent.found(call) {
            Found::Outcome(Some(outcome)) if outcome.result != ProviderResult::NeedsAction => {
                Ok(Some(outcome))
            }
            Found::Outcome(_) if how == How::GiveUp => self.settle(call, &intent.id).await,
            Found::Outcome(outcome) => Ok(outcome),
            Found::NotDone => self.settle(call, &intent.id).await,
        }
    }

    fn read_event(body: &[u8]) -> Result<ProviderEvent, serde_json::Error> {
        let event: Event = serde_json::from_slice(body)?;
        let outcome = event.outcome()?;
        Ok(ProviderEvent { id: event.id, outcome })
    }
}
