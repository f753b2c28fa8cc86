//! Who is calling: a JWT signed with Ed25519 or P-256. Verification is pure CPU, no look-up, once per good
//! token.

mod seen_tokens;
mod signatures;

use std::convert::Infallible;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{StatusCode, header};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ed25519_zebra::VerificationKeyBytes;
use jsonwebtoken::{Algorithm, DecodingKey};
use schemas::ids::{CreatorId, Hash, UserId};
use schemas::units::Millis;
use serde::Deserialize;
use sha2::{Digest, Sha256};

use crate::app::AppState;
use crate::problem::{Problem, Retry};
use crate::views::now;
use seen_tokens::SeenTokens;
use signatures::Signatures;

/// Clocks of issuer and node may differ by this many seconds.
const LEEWAY_SECONDS: u32 = 30;

/// Public keys, and what was signed with them.
pub struct Verifier {
    keys: Vec<VerifyingKey>,
    seen: SeenTokens,
    signatures: Signatures,
}

struct VerifyingKey {
    id: String,
    key: PublicKey,
}

enum PublicKey {
    Ed25519(VerificationKeyBytes),
    P256(DecodingKey),
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

impl PublicKey {
    fn from_pem(pem: &str) -> Result<Self, BadKey> {
        let bad = |error: jsonwebtoken::errors::Error| BadKey(error.to_string());
        let Ok(key) = DecodingKey::from_ed_pem(pem.as_bytes()) else {
            return DecodingKey::from_ec_pem(pem.as_bytes()).map(Self::P256).map_err(bad);
        };
        let bytes = key.try_get_as_bytes().map_err(bad)?;
        let key =
            VerificationKeyBytes::try_from(bytes).map_err(|error| BadKey(error.to_string()))?;
        Ok(Self::Ed25519(key))
    }

    fn algorithm(&self) -> Algorithm {
        match self {
            Self::Ed25519(_) => Algorithm::EdDSA,
            Self::P256(_) => Algorithm::ES256,
        }
    }
}

impl Verifier {
    /// A verifier of tokens signed with any of these public keys.
    ///
    /// # Errors
    /// [`BadKey`] for the first that is none.
    pub fn new(public_key_pems: &[String]) -> Result<Self, BadKey> {
        let keys = public_key_pems
            .iter()
            .map(|pem| Ok(VerifyingKey { id: key_id(pem)?, key: PublicKey::from_pem(pem)? }))
            .collect::<Result<_, BadKey>>()?;
        Ok(Self { keys, seen: SeenTokens::default(), signatures: Signatures::default() })
    }

    /// Who the token stands for. Inside a tokio runtime.
    ///
    /// # Errors
    /// 401, with what is wrong.
    pub async fn verify(&self, token: &str) -> Result<Caller, Problem> {
        let hash = Hash::of(&[token.as_bytes()]);
        if let Some(caller) = self.seen.caller(hash, now()) {
            return Ok(caller);
        }
        let claims = self.verified_claims(token).await?;
        if claims.expires_at() <= now() {
            return Err(unauthorized("`exp` has passed"));
        }
        let caller = Caller::from_claims(&claims)?;
        self.seen.remember(hash, caller.clone(), claims.expires_at());
        Ok(caller)
    }

    /// What a token claims, read after its signature was found good.
    async fn verified_claims(&self, token: &str) -> Result<Claims, Problem> {
        let head = jsonwebtoken::decode_header(token).map_err(malformed)?;
        let (message, signature) = token.rsplit_once('.').unwrap_or_default();
        // A token without `kid` is tried against every key.
        let named = |key: &&VerifyingKey| head.kid.as_ref().is_none_or(|kid| *kid == key.id);
        let mut last = "no configured key has the token's `kid` and `alg`";
        for VerifyingKey { key, .. } in self.keys.iter().filter(named) {
            if key.algorithm() != head.alg {
                continue;
            }
            metrics::counter!("livedrops_token_signatures_total").increment(1);
            if self.is_signed(message, signature, key).await {
                return jsonwebtoken::dangerous::insecure_decode_claims(token).map_err(malformed);
            }
            last = "the token's signature is wrong";
        }
        Err(unauthorized(last))
    }

    async fn is_signed(&self, message: &str, signature: &str, key: &PublicKey) -> bool {
        match key {
            PublicKey::Ed25519(key) => self.signatures.is_valid(*key, message, signature).await,
            PublicKey::P256(key) => {
                jsonwebtoken::crypto::verify(signature, message.as_bytes(), key, Algorithm::ES256)
                    .unwrap_or(false)
            }
        }
    }
}

impl Claims {
    /// From when on the token is refused.
    #[allow(clippy::cast_possible_truncation, reason = "a float beyond the range becomes its end")]
    fn expires_at(&self) -> Millis {
        Millis(((self.exp + f64::from(LEEWAY_SECONDS)) * 1_000.0) as i64)
    }
}

#[allow(clippy::needless_pass_by_value, reason = "for `map_err`")]
fn malformed(error: jsonwebtoken::errors::Error) -> Problem {
    unauthorized(format!("the token cannot be read: {error}"))
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
        state.verifier.verify(token).await
    }
}

/// Of a call that needs no token: one that comes along is verified now, good or bad, so that the buyers who wait on a
/// drop's page have paid for their signatures before all of them order. This node remembers it; a buyer whose page came
/// from a cache or another node pays with the order.
pub(crate) struct TokenAhead;

impl FromRequestParts<AppState> for TokenAhead {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self, Infallible> {
        if let Some(token) = bearer_token(parts) {
            drop(state.verifier.verify(token).await);
        }
        Ok(Self)
    }
}

fn bearer_token(parts: &Parts) -> Option<&str> {
    let value = parts.headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    value.strip_prefix("Bearer ").map(str::trim)
}
