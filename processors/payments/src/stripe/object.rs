//! Stripe's objects, and what they tell of an operation. Pure.

use std::collections::BTreeMap;
use std::fmt;

use schemas::order::{PaymentOutcome, ProviderOperationKind as Kind, ProviderResult};
use schemas::units::{Currency, MinorUnits};
use serde::Deserialize;

use crate::operations::Call;

/// Keys under which an intent and a refund carry what they are for.
const ORDER_ID: &str = "order_id";
const ATTEMPT: &str = "attempt";

/// Where a payment intent stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    /// Declined, or never had a method.
    RequiresPaymentMethod,
    /// Not yet asked of the bank.
    RequiresConfirmation,
    /// The buyer has a step to take.
    RequiresAction,
    /// The bank is thinking.
    Processing,
    /// The money is reserved.
    RequiresCapture,
    /// Called off.
    Canceled,
    /// The money is taken.
    Succeeded,
}

/// A payment intent, as far as we read it.
#[derive(Clone, Debug, Deserialize)]
pub struct Intent {
    /// `pi_…`
    pub id: String,
    /// Where it stands.
    pub status: Standing,
    /// Minor units.
    pub amount: MinorUnits,
    /// ISO 4217 in lower case.
    pub currency: Currency,
    /// What we wrote on it.
    #[serde(default)]
    pub metadata: BTreeMap<String, String>,
    /// The buyer's step.
    pub next_action: Option<NextAction>,
    /// Why the last try failed.
    pub last_payment_error: Option<Problem>,
    /// The charge, or its name where it was not asked for.
    pub latest_charge: Option<LatestCharge>,
}

/// A step of the buyer.
#[derive(Clone, Debug, Deserialize)]
pub struct NextAction {
    redirect_to_url: Option<Redirect>,
}

#[derive(Clone, Debug, Deserialize)]
struct Redirect {
    url: Option<String>,
}

/// The charge of an intent.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
pub enum LatestCharge {
    /// As asked for.
    Whole {
        /// Whether all of it went back.
        refunded: bool,
    },
    /// Its name.
    Id(String),
}

/// Why something failed.
#[derive(Clone, Default, Debug, Deserialize)]
pub struct Problem {
    #[serde(rename = "type")]
    kind: Option<String>,
    code: Option<String>,
    decline_code: Option<String>,
    message: Option<String>,
    payment_intent: Option<Box<Intent>>,
}

impl fmt::Display for Problem {
    /// The most telling word there is: `insufficient_funds` rather than `card_declined`.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words = [&self.decline_code, &self.code, &self.message, &self.kind];
        let word = words.into_iter().flatten().next().map_or("refused", String::as_str);
        formatter.write_str(word)
    }
}

/// The body of an answer that is an error.
#[derive(Clone, Default, Debug, Deserialize)]
pub(super) struct Refused {
    #[serde(default)]
    error: Problem,
}

impl fmt::Display for Refused {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(formatter)
    }
}

impl Refused {
    /// One key, two requests: nothing is known of the payment.
    pub(super) fn is_ours(&self) -> bool {
        self.error.kind.as_deref() == Some("idempotency_error")
    }

    pub(super) fn outcome(&self, call: &Call) -> PaymentOutcome {
        let reference = self.error.payment_intent.as_ref().map(|intent| intent.id.clone());
        let failed = call.failed(&self.error.to_string());
        PaymentOutcome { reference: reference.or(failed.reference), ..failed }
    }
}

/// Answer to a search.
#[derive(Debug, Deserialize)]
pub(super) struct Matches {
    pub(super) data: Vec<Intent>,
}

/// What an intent tells of an operation.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Found {
    /// How it ended, or nothing while the bank is thinking.
    Outcome(Option<PaymentOutcome>),
    /// It was never asked for, or had no effect.
    NotDone,
}

impl Intent {
    pub(super) fn is_of(&self, call: &Call) -> bool {
        self.metadata.get(ORDER_ID) == Some(&call.order_id.to_string())
            && self.metadata.get(ATTEMPT) == Some(&call.attempt.to_string())
    }

    /// What it tells of an operation that was just asked for.
    #[must_use]
    pub fn outcome(&self, call: &Call) -> Option<PaymentOutcome> {
        match self.found(call) {
            Found::Outcome(outcome) => outcome,
            Found::NotDone => None,
        }
    }

    /// What it tells of an operation, whenever that was asked for.
    #[must_use]
    pub fn found(&self, call: &Call) -> Found {
        use ProviderResult::{Failed, NeedsAction, Succeeded};
        use Standing as S;
        let is_refunded =
            matches!(self.latest_charge, Some(LatestCharge::Whole { refunded: true }));
        let result = match (call.kind, self.status) {
            (_, S::Processing) | (Kind::Authorise, S::RequiresConfirmation) => {
                return Found::Outcome(None);
            }
            (Kind::Authorise, S::RequiresCapture | S::Succeeded)
            | (Kind::Capture, S::Succeeded)
            | (Kind::Void, S::Canceled) => Succeeded,
            (Kind::Authorise, S::RequiresAction) => NeedsAction,
            (Kind::Authorise | Kind::Capture, S::RequiresPaymentMethod | S::Canceled)
            | (Kind::Void, S::Succeeded) => Failed,
            (Kind::Refund, S::Succeeded) if is_refunded => Succeeded,
            _ => return Found::NotDone,
        };
        let detail = match result {
            Succeeded => None,
            NeedsAction => Some(self.step()),
            Failed => Some(self.problem()),
        };
        Found::Outcome(Some(PaymentOutcome {
            captured: call.kind == Kind::Authorise && self.status == S::Succeeded,
            amount: self.amount,
            currency: self.currency.to_uppercase(),
            detail,
            reference: Some(self.id.clone()),
            ..call.outcome(result)
        }))
    }

    /// Where the buyer has to go; the intent's name where only Stripe's own client library can take the step.
    fn step(&self) -> String {
        let redirect = self.next_action.as_ref().and_then(|next| next.redirect_to_url.as_ref());
        redirect.and_then(|to| to.url.clone()).unwrap_or_else(|| self.id.clone())
    }

    fn problem(&self) -> String {
        let error = self.last_payment_error.as_ref().map(ToString::to_string);
        error.unwrap_or_else(|| format!("{:?}", self.status).to_lowercase())
    }

    /// The call that an event of this intent answers; `None` where the intent is not ours.
    fn call(&self, kind: Kind) -> Option<Call> {
        let reference = Some(self.id.clone());
        call_of(&self.metadata, kind, self.amount, &self.currency, reference)
    }
}

fn call_of(
    metadata: &BTreeMap<String, String>,
    kind: Kind,
    amount: MinorUnits,
    currency: &str,
    reference: Option<String>,
) -> Option<Call> {
    Some(Call {
        order_id: metadata.get(ORDER_ID)?.parse().ok()?,
        attempt: metadata.get(ATTEMPT)?.parse().ok()?,
        kind,
        amount,
        currency: currency.to_uppercase().into(),
        method: None,
        reference,
    })
}

/// A refund, as far as we read it.
#[derive(Clone, Debug, Deserialize)]
pub struct Refund {
    /// `pending`, `succeeded`, `failed`, `canceled` or `requires_action`.
    pub status: Option<String>,
    /// Why it failed.
    pub failure_reason: Option<String>,
    /// Minor units.
    pub amount: MinorUnits,
    /// ISO 4217 in lower case.
    pub currency: Currency,
    /// `pi_…`
    pub payment_intent: Option<String>,
    /// What we wrote on it.
    #[serde(default)]
    pub metadata: BTreeMap<String, String>,
}

impl Refund {
    /// How it ended; `None` while the money is on its way.
    #[must_use]
    pub fn outcome(&self, call: &Call) -> Option<PaymentOutcome> {
        let known = PaymentOutcome {
            amount: self.amount,
            currency: self.currency.to_uppercase(),
            detail: self.failure_reason.clone(),
            ..call.outcome(ProviderResult::Succeeded)
        };
        match self.status.as_deref() {
            Some("succeeded") => Some(known),
            Some("failed" | "canceled") => {
                Some(PaymentOutcome { result: ProviderResult::Failed, ..known })
            }
            _ => None,
        }
    }
}

/// An event, as far as we read it.
#[derive(Clone, Debug, Deserialize)]
pub struct Event {
    /// `evt_…`, the same at every delivery.
    pub id: String,
    /// What happened.
    #[serde(rename = "type")]
    pub kind: String,
    data: EventData,
}

#[derive(Clone, Debug, Deserialize)]
struct EventData {
    object: serde_json::Value,
}

impl Event {
    /// What the log has to know of it; `None` where it is of another kind, or of a payment that is not ours.
    ///
    /// # Errors
    /// Where its object is not of the kind that its name promises.
    pub fn outcome(&self) -> Result<Option<PaymentOutcome>, serde_json::Error> {
        let object = &self.data.object;
        let kind = match self.kind.as_str() {
            "payment_intent.amount_capturable_updated"
            | "payment_intent.payment_failed"
            | "payment_intent.requires_action" => Kind::Authorise,
            // An event may be old: whether this intent was to be captured by hand, the log knows.
            "payment_intent.succeeded" => Kind::Capture,
            "payment_intent.canceled" => Kind::Void,
            "refund.updated" | "refund.failed" | "refund.created" => {
                let refund = Refund::deserialize(object)?;
                let (amount, reference) = (refund.amount, refund.payment_intent.clone());
                let (metadata, currency) = (&refund.metadata, &refund.currency);
                let call = call_of(metadata, Kind::Refund, amount, currency, reference);
                return Ok(call.and_then(|call| refund.outcome(&call)));
            }
            _ => return Ok(None),
        };
        let intent = Intent::deserialize(object)?;
        Ok(intent.call(kind).and_then(|call| intent.outcome(&call)))
    }
}
