//! Signed events from the provider: `t=<seconds>,v1=<hex HMAC-SHA-256 of "t.body">`.
//!
//! The scheme is Stripe's ("Verify webhook signatures manually", docs.stripe.com/webhooks): the signed timestamp
//! makes an old event worthless to whoever recorded it.

use std::collections::{BTreeSet, VecDeque};
use std::fmt::Write as _;
use std::sync::{Arc, Mutex, PoisonError};

use aws_lc_rs::hmac;
use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use tokio::sync::{mpsc, oneshot};

use crate::provider::Provider;
use crate::worker::Heard;

/// Older and newer events are refused.
const TOLERANCE_SECONDS: i64 = 300;
/// Event ids remembered: more than arrive within the tolerance.
const EVENTS_MAX: usize = 200_000;

/// Why an event is not taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Refused {
    /// No signature, or not of this form.
    #[error("the signature header is missing or malformed")]
    Malformed,
    /// Signed by somebody else, or altered.
    #[error("the signature does not match")]
    Forged,
    /// Recorded and sent again, or a clock is wrong.
    #[error("the event was signed more than {TOLERANCE_SECONDS} s from now")]
    Stale,
}

/// Signs a body.
#[must_use]
pub fn sign(secret: &str, body: &[u8], now_seconds: i64) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
    let tag = hmac::sign(&key, &signed_bytes(now_seconds, body));
    let mut signature = format!("t={now_seconds},v1=");
    for byte in tag.as_ref() {
        write!(signature, "{byte:02x}").expect("writing to a string cannot fail");
    }
    signature
}

fn signed_bytes(seconds: i64, body: &[u8]) -> Vec<u8> {
    [seconds.to_string().as_bytes(), b".", body].concat()
}

/// Checks a signature, in constant time.
///
/// # Errors
/// [`Refused`].
pub fn verify(
    secret: &str,
    signature: Option<&str>,
    body: &[u8],
    now_seconds: i64,
) -> Result<(), Refused> {
    let fields = signature.ok_or(Refused::Malformed)?.split(',').filter_map(|f| f.split_once('='));
    let (mut at, mut tag) = (None, None);
    for (name, value) in fields {
        match name {
            "t" => at = value.parse::<i64>().ok(),
            "v1" => tag = bytes_of_hex(value),
            _ => {}
        }
    }
    let (at, tag) = at.zip(tag).ok_or(Refused::Malformed)?;
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
    hmac::verify(&key, &signed_bytes(at, body), &tag).map_err(|_| Refused::Forged)?;
    if now_seconds.abs_diff(at) > TOLERANCE_SECONDS.unsigned_abs() {
        return Err(Refused::Stale);
    }
    Ok(())
}

fn bytes_of_hex(text: &str) -> Option<Vec<u8>> {
    let digits = text.as_bytes().chunks_exact(2);
    let pairs = digits.map(|pair| std::str::from_utf8(pair).ok());
    pairs.map(|pair| u8::from_str_radix(pair?, 16).ok()).collect()
}

/// Event ids seen within the tolerance: a repeated delivery has no effect.
#[derive(Debug, Default)]
pub struct SeenEvents {
    ids: BTreeSet<String>,
    ages: VecDeque<String>,
}

impl SeenEvents {
    /// Whether the id was noted before.
    #[must_use]
    pub fn has(&self, id: &str) -> bool {
        self.ids.contains(id)
    }

    /// Notes an id whose event had its effect.
    pub fn note(&mut self, id: &str) {
        if !self.ids.insert(id.to_owned()) {
            return;
        }
        self.ages.push_back(id.to_owned());
        if self.ages.len() > EVENTS_MAX
            && let Some(oldest) = self.ages.pop_front()
        {
            self.ids.remove(&oldest);
        }
    }
}

/// Events carry little.
const BODY_BYTES_MAX: usize = 64 * 1_024;

struct Endpoint {
    secret: String,
    seen: Mutex<SeenEvents>,
    tell: mpsc::Sender<Heard>,
}

/// `POST /webhooks/{provider}`: events go to the worker, never straight to the log.
pub fn router<P: Provider>(secret: String, tell: mpsc::Sender<Heard>) -> Router {
    let endpoint = Arc::new(Endpoint { secret, seen: Mutex::default(), tell });
    Router::new()
        .route(&format!("/webhooks/{}", P::NAME), post(receive::<P>))
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .with_state(endpoint)
}

async fn receive<P: Provider>(
    State(endpoint): State<Arc<Endpoint>>,
    headers: HeaderMap,
    body: Bytes,
) -> (StatusCode, String) {
    let signature = headers.get(P::SIGNATURE_HEADER).and_then(|value| value.to_str().ok());
    let now_seconds = platform::clock::now_ms() / 1_000;
    if let Err(refused) = verify(&endpoint.secret, signature, &body, now_seconds) {
        tracing::warn!(%refused, "a webhook was refused");
        return (StatusCode::BAD_REQUEST, refused.to_string());
    }
    let event = match P::read_event(&body) {
        Ok(event) => event,
        Err(error) => return (StatusCode::BAD_REQUEST, error.to_string()),
    };
    let seen = || endpoint.seen.lock().unwrap_or_else(PoisonError::into_inner);
    if seen().has(&event.id) {
        return (StatusCode::OK, "taken before".into());
    }
    let Some(outcome) = event.outcome else {
        // Nothing to log: there is no reason to send it again.
        return (StatusCode::OK, "nothing we asked for".into());
    };
    // 200 only once the outcome is in the log: until then the provider must send it again.
    let (taken, answer) = oneshot::channel();
    let told = endpoint.tell.send(Heard::Event(outcome, taken)).await;
    if told.is_ok() && matches!(answer.await, Ok(true)) {
        seen().note(&event.id);
        return (StatusCode::OK, "taken".into());
    }
    (StatusCode::SERVICE_UNAVAILABLE, "the outcome could not be logged; send it again".into())
}
