//! A pair of keys, and tokens made with it.

use jsonwebtoken::{Algorithm, EncodingKey, Header};
use schemas::ids::UserId;

/// Signs.
pub(crate) const ED25519: &str = "-----BEGIN PRIVATE KEY-----
MC4CAQAwBQYDK2VwBCIEIJ1hsZ3v/VpguoRK9JLsLMREScVpezJpGXA7rAMcrn9g
-----END PRIVATE KEY-----";
/// What was signed with it.
pub(crate) const ED25519_PUBLIC: &str = "-----BEGIN PUBLIC KEY-----
MCowBQYDK2VwAyEA11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=
-----END PUBLIC KEY-----";

/// A token that counts for a minute; `scope` as in RFC 8693.
pub(crate) fn token(user: UserId, scope: &str) -> String {
    let now = platform::clock::now_ms() / 1_000;
    let claims = serde_json::json!({
        "sub": user.to_string(), "scope": scope, "iat": now, "exp": now + 60,
    });
    let key = EncodingKey::from_ed_pem(ED25519.as_bytes()).unwrap();
    jsonwebtoken::encode(&Header::new(Algorithm::EdDSA), &claims, &key).unwrap()
}
