//! Who is calling: a JWT signed with Ed25519 or P-256. Verification is pure CPU, no look-up, once per good
//! token.

mod seen_tokens;

use std::convert::Infallible;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{StatusCode, header};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use schemas::ids::{CreatorId, Hash, UserId};
use schemas::units::Millis;
use serde::Deserialize;
use sha2::{Digest, Sha256};

use crate::app::AppState;
use crate::problem::{Problem, Retry};
use crate::views::now;
use seen_tokens::SeenTokens;

/// Clocks of issuer and node may differ by this many seconds.
const LEEWAY_SECONDS: u32 = 30;

/// Public keys and the claims we insist on.
pub struct Verifier {
    keys: Vec<VerifyingKey>,
    seen: SeenTokens,
}

struct VerifyingKey {
    id: String,
    algorithm: Algorithm,
    key: DecodingKey,
}

impl std::fmt::Debug for Verifier {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let ids: Vec<_> = self.keys.iter().map(|key| key.id.as_str()).collect();
        formatter.debug_struct("Verifier").field("keys", &ids).finish_non_exhaustive()
    }
}

/// A key that cannot be used.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("not an Ed25519 or P-256 public key in PEM: {0}")]
pub struct BadKey(String);

#[derive(Deserialize)]
struct Claims {
    sub: String,
    #[serde(default)]
    scope: String,
    /// Seconds; a fraction is legal.
    exp: f64,
    #[serde(rename = "iat")]
    _issued_at: f64,
}

/// `kid` of a public key: base64url of the SHA-256 of its DER, first 16 characters.
///
/// # Errors
/// Where the text is no PEM.
pub fn key_id(public_key_pem: &str) -> Result<String, BadKey> {
    let parsed = pem::parse(public_key_pem).map_err(|error| BadKey(error.to_string()))?;
    let mut id = URL_SAFE_NO_PAD.encode(Sha256::digest(parsed.contents()));
    id.truncate(16);
    Ok(id)
}

impl Verifier {
    /// A verifier of tokens signed with any of these public keys.
    ///
    /// # Errors
    /// [`BadKey`] for the first that is none.
    pub fn new(public_key_pems: &[String]) -> Result<Self, BadKey> {
        let keys = public_key_pems.iter().map(|pem| {
            let ed = DecodingKey::from_ed_pem(pem.as_bytes()).map(|key| (Algorithm::EdDSA, key));
            let (algorithm, key) = ed
                .or_else(|_| {
                    DecodingKey::from_ec_pem(pem.as_bytes()).map(|key| (Algorithm::ES256, key))
                })
                .map_err(|error| BadKey(error.to_string()))?;
            Ok(VerifyingKey { id: key_id(pem)?, algorithm, key })
        });
        Ok(Self { keys: keys.collect::<Result<_, BadKey>>()?, seen: SeenTokens::default() })
    }

    /// Who the token stands for.
    ///
    /// # Errors
    /// 401, with what is wrong.
    pub fn verify(&self, token: &str) -> Result<Caller, Problem> {
        let hash = Hash::of(&[token.as_bytes()]);
        if let Some(caller) = self.seen.caller(hash, now()) {
            return Ok(caller);
        }
        let claims = self.verified_claims(token)?;
        let caller = Caller::from_claims(&claims)?;
        self.seen.remember(hash, caller.clone(), claims.expires_at());
        Ok(caller)
    }

    fn verified_claims(&self, token: &str) -> Result<Claims, Problem> {
        let head =
            jsonwebtoken::decode_header(token).map_err(|error| unauthorized(error.to_string()))?;
        // A token without `kid` is tried against every key.
        let named = |key: &&VerifyingKey| head.kid.as_ref().is_none_or(|kid| *kid == key.id);
        let mut last = unauthorized("no configured key has the token's kid");
        for key in self.keys.iter().filter(named).filter(|key| key.algorithm == head.alg) {
            let mut validation = Validation::new(key.algorithm);
            validation.leeway = u64::from(LEEWAY_SECONDS);
            validation.validate_aud = false;
            validation.set_required_spec_claims(&["sub", "exp"]);
            metrics::counter!("livedrops_token_signatures_total").increment(1);
            match jsonwebtoken::decode::<Claims>(token, &key.key, &validation) {
                Ok(token) => return Ok(token.claims),
                Err(error) => last = unauthorized(error.to_string()),
            }
        }
        Err(last)
    }
}

impl Claims {
    /// From when on the token is refused.
    #[allow(clippy::cast_possible_truncation, reason = "a float beyond the range becomes its end")]
    fn expires_at(&self) -> Millis {
        Millis(((self.exp + f64::from(LEEWAY_SECONDS)) * 1_000.0) as i64)
    }
}

fn unauthorized(detail: impl Into<String>) -> Problem {
    Problem::new(StatusCode::UNAUTHORIZED, "unauthorized", Retry::Never, detail)
}

/// An authenticated caller. The user id never comes from a path or a body.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Caller {
    /// The token's `sub`.
    pub user: UserId,
    /// Creators it may write for.
    pub creators: Vec<CreatorId>,
    /// Whether it is an operator.
    pub is_admin: bool,
}

impl Caller {
    fn from_claims(claims: &Claims) -> Result<Self, Problem> {
        let user = claims.sub.parse().map_err(|_| unauthorized("`sub` is not a UUID"))?;
        let creators = claims.scope.split(' ').filter_map(|scope| {
            scope.strip_prefix("creator:")?.strip_suffix(":write")?.parse().ok()
        });
        let is_admin = claims.scope.split(' ').any(|scope| scope == "admin");
        Ok(Self { user, creators: creators.collect(), is_admin })
    }

    /// 403 unless the caller may write for this creator.
    pub(crate) fn require_creator(&self, creator: CreatorId) -> Result<(), Problem> {
        if self.is_admin || self.creators.contains(&creator) {
            return Ok(());
        }
        let detail = format!("the token lacks the scope creator:{creator}:write");
        Err(Problem::new(StatusCode::FORBIDDEN, "forbidden", Retry::Never, detail))
    }
}

impl FromRequestParts<AppState> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self, Problem> {
        let token = bearer_token(parts)
            .ok_or_else(|| unauthorized("Authorization: Bearer <token> is missing"))?;
        state.verifier.verify(token)
    }
}

/// Of a call that needs no token: one that comes along is verified now, good or bad, so that the buyers who wait on a
/// drop's page have paid for their signatures before all of them order. This node remembers it; a buyer whose page came
/// from a cache or another node pays with the order.
pub(crate) struct TokenAhead;

impl FromRequestParts<AppState> for TokenAhead {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self, Infallible> {
        drop(bearer_token(parts).map(|token| state.verifier.verify(token)));
        Ok(Self)
    }
}

fn bearer_token(parts: &Parts) -> Option<&str> {
    let value = parts.headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    value.strip_prefix("Bearer ").map(str::trim)
}
