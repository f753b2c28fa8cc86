//! Which tokens count, alone and among others that come at the same time.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Waker};

use futures_util::future::join_all;
use ingest_api::Verifier;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use schemas::ids::UserId;
use serde_json::{Value, json};

use super::keys::{ED25519, ED25519_PUBLIC};

const P256: &str = "-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgLg9otkMVqTtIEEPi
woZArrMbyHbrhFLQO5bSCJXP3/OhRANCAARveJImazLE2p7W4aiozQYiUDDih1UA
3+LbRPfY6g3UZLj55/1SIJEPpyH7na9vrNjOtxORX7i5dQGN5Miu/Jxi
-----END PRIVATE KEY-----";
const P256_PUBLIC: &str = "-----BEGIN PUBLIC KEY-----
MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEb3iSJmsyxNqe1uGoqM0GIlAw4odV
AN/i20T32OoN1GS4+ef9UiCRD6ch+52vb6zYzrcTkV+4uXUBjeTIrvycYg==
-----END PUBLIC KEY-----";

const USER: UserId = UserId([7; 16]);

fn verifier() -> Verifier {
    Verifier::new(&[ED25519_PUBLIC.to_owned(), P256_PUBLIC.to_owned()]).unwrap()
}

fn claims(expires_in_seconds: i64) -> Value {
    let now = platform::clock::now_ms() / 1_000;
    json!({"sub": USER.to_string(), "iat": now, "exp": now + expires_in_seconds})
}

fn minted(algorithm: Algorithm, kid: Option<&str>, claims: &Value) -> String {
    let key = match algorithm {
        // The well-known attack: the public key taken for a shared secret.
        Algorithm::HS256 => EncodingKey::from_secret(ED25519_PUBLIC.as_bytes()),
        Algorithm::ES256 => EncodingKey::from_ec_pem(P256.as_bytes()).unwrap(),
        _ => EncodingKey::from_ed_pem(ED25519.as_bytes()).unwrap(),
    };
    let header = Header { kid: kid.map(str::to_owned), ..Header::new(algorithm) };
    jsonwebtoken::encode(&header, claims, &key).unwrap()
}

fn good(algorithm: Algorithm) -> String {
    minted(algorithm, None, &claims(60))
}

fn without(claim: &str) -> String {
    let mut claims = claims(60);
    claims.as_object_mut().unwrap().remove(claim);
    minted(Algorithm::EdDSA, None, &claims)
}

/// The signature of one token under what another one says.
fn forged(from: &str, signature_of: &str) -> String {
    let (message, _) = from.rsplit_once('.').unwrap();
    let (_, signature) = signature_of.rsplit_once('.').unwrap();
    format!("{message}.{signature}")
}

/// The first byte of the signature's second half is another one.
fn tampered(token: &str) -> String {
    let at = token.len() - 40;
    let other = if token.as_bytes()[at] == b'A' { "B" } else { "A" };
    format!("{}{other}{}", &token[..at], &token[at + 1..])
}

#[tokio::test]
async fn a_token_counts_by_its_signature_and_its_claims() {
    use Algorithm::{ES256, EdDSA, HS256};
    let other_user = json!({"sub": UserId([8; 16]).to_string(), "iat": 0, "exp": 9e9});
    let ed_id = ingest_api::auth::key_id(ED25519_PUBLIC).unwrap();
    let p256_id = ingest_api::auth::key_id(P256_PUBLIC).unwrap();
    let wrong = Some("signature is wrong");
    let rows = [
        ("Ed25519", good(EdDSA), None),
        ("P-256", good(ES256), None),
        ("Ed25519 with kid", minted(EdDSA, Some(&ed_id), &claims(60)), None),
        ("P-256 with kid", minted(ES256, Some(&p256_id), &claims(60)), None),
        ("unknown kid", minted(EdDSA, Some("another"), &claims(60)), Some("`kid`")),
        ("kid of the other key", minted(EdDSA, Some(&p256_id), &claims(60)), Some("`alg`")),
        ("HMAC", good(HS256), Some("`alg`")),
        ("tampered", tampered(&good(EdDSA)), wrong),
        ("tampered, P-256", tampered(&good(ES256)), wrong),
        ("other claims", forged(&minted(EdDSA, None, &other_user), &good(EdDSA)), wrong),
        ("the other key's signature", forged(&good(EdDSA), &good(ES256)), wrong),
        ("short signature", good(EdDSA).split_at(200).0.to_owned(), wrong),
        ("no signature", forged(&good(EdDSA), "."), wrong),
        ("within the leeway", minted(EdDSA, None, &claims(-25)), None),
        ("expired", minted(EdDSA, None, &claims(-31)), Some("`exp` has passed")),
        ("expired, P-256", minted(ES256, None, &claims(-31)), Some("`exp` has passed")),
        ("no sub", without("sub"), Some("`sub`")),
        ("no exp", without("exp"), Some("`exp`")),
        ("no iat", without("iat"), Some("`iat`")),
        (
            "sub is no UUID",
            minted(EdDSA, None, &json!({"sub": "x", "iat": 0, "exp": 9e9})),
            Some("`sub`"),
        ),
        ("two parts", "a.b".to_owned(), Some("cannot be read")),
        ("no header", "a.b.c".to_owned(), Some("cannot be read")),
    ];
    let verifier = verifier();
    for (case, token, refused) in rows {
        // The second time it may be remembered.
        for _ in 0..2 {
            match (verifier.verify(&token).await, refused) {
                (Ok(caller), None) => assert_eq!(caller.user, USER, "{case}"),
                (Err(problem), Some(part)) => {
                    assert_eq!(problem.status, 401, "{case}");
                    assert!(problem.detail.contains(part), "{case}: {}", problem.detail);
                }
                (answer, _) => panic!("{case}: {answer:?}"),
            }
        }
    }
}

async fn refused_of_a_hundred(at_once: usize) -> Vec<usize> {
    let verifier = Arc::new(verifier());
    let tokens = (0..100).map(|number| {
        let token = good_for(i64::try_from(number).unwrap());
        (number, if number % 40 == 5 { tampered(&token) } else { token })
    });
    let mut refused = Vec::new();
    for some in tokens.collect::<Vec<_>>().chunks(at_once) {
        let asked = some.iter().cloned().map(|(number, token)| {
            let verifier = verifier.clone();
            tokio::spawn(async move { verifier.verify(&token).await.is_err().then_some(number) })
        });
        refused.extend(join_all(asked).await.into_iter().filter_map(Result::unwrap));
    }
    refused
}

#[tokio::test]
async fn a_wrong_token_is_refused_alone_among_those_that_came_with_it() {
    for at_once in [1, 2, 31, 32, 33, 100] {
        assert_eq!(refused_of_a_hundred(at_once).await, [5, 45, 85], "{at_once} at once");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_wrong_token_is_refused_alone_whichever_threads_ask() {
    for _ in 0..20 {
        assert_eq!(refused_of_a_hundred(100).await, [5, 45, 85]);
    }
}

#[tokio::test]
async fn whoever_asked_first_may_leave() {
    let verifier = verifier();
    let (first, second) = (good_for(1), good_for(2));
    {
        let mut first = pin!(verifier.verify(&first));
        assert!(first.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    }
    assert_eq!(verifier.verify(&second).await.unwrap().user, USER);
}

/// A token of its own for every number.
fn good_for(number: i64) -> String {
    minted(Algorithm::EdDSA, None, &claims(60 + number))
}
