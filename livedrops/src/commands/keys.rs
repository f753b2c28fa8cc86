//! Keys and tokens for development and operation.

use std::path::{Path, PathBuf};
use std::time::Duration;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use ingest_api::auth::key_id;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde::Serialize;
use uuid::Uuid;

use super::print;
use crate::config::Config;
use crate::failure::Failure;

/// Writes `signing-key.pem` and `public-key.pem`.
#[derive(clap::Args)]
pub(crate) struct Keys {
    /// Folder; existing keys are never overwritten.
    #[arg(long)]
    out: PathBuf,
}

/// Mints a token.
#[derive(clap::Args)]
pub(crate) struct Token {
    /// The user id.
    #[arg(long)]
    user: Uuid,
    /// Scopes, space separated.
    #[arg(long, default_value = "")]
    scope: String,
    /// Life time: `90s`, `15m`, `1h`.
    #[arg(long, default_value = "1h", value_parser = parse_length)]
    ttl: Duration,
}

fn parse_length(text: &str) -> Result<Duration, String> {
    let unit = text.chars().last().ok_or("is empty")?;
    let (number, factor) = match unit {
        's' => (text.trim_end_matches('s'), 1),
        'm' => (text.trim_end_matches('m'), 60),
        'h' => (text.trim_end_matches('h'), 3_600),
        _ => return Err("must end in s, m or h".into()),
    };
    let number: u64 = number.parse().map_err(|_| "must be a whole number and a unit".to_owned())?;
    Ok(Duration::from_secs(number.saturating_mul(factor)))
}

/// DER of an Ed25519 `SubjectPublicKeyInfo` before the 32 key bytes (RFC 8410).
const SPKI_PREFIX: [u8; 12] =
    [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];

/// A new key pair: signing key and public key in PEM.
pub(crate) fn generate() -> Result<(String, String), Failure> {
    let failed = |_| Failure::check("no random numbers for a key");
    let document = Ed25519KeyPair::generate_pkcs8v1(&SystemRandom::new()).map_err(failed)?;
    let pair = Ed25519KeyPair::from_pkcs8(document.as_ref())
        .map_err(|error| Failure::check(format!("a fresh key is rejected: {error}")))?;
    let public = [&SPKI_PREFIX[..], pair.public_key().as_ref()].concat();
    let text = |label: &str, der: &[u8]| pem::encode(&pem::Pem::new(label, der));
    Ok((text("PRIVATE KEY", document.as_ref()), text("PUBLIC KEY", &public)))
}

/// Writes a key pair; returns the paths of the signing and the public key.
pub(crate) fn write(folder: &Path) -> Result<(PathBuf, PathBuf), Failure> {
    use std::io::Write as _;
    use std::os::unix::fs::OpenOptionsExt as _;
    let (signing, public) = generate()?;
    let unusable = |path: &Path, error: std::io::Error| {
        Failure::usage("out", format!("{}: {error}", path.display()))
    };
    std::fs::create_dir_all(folder).map_err(|error| unusable(folder, error))?;
    let paths = (folder.join("signing-key.pem"), folder.join("public-key.pem"));
    for (path, text, mode) in [(&paths.0, signing, 0o600), (&paths.1, public, 0o644)] {
        let mut options = std::fs::OpenOptions::new();
        let file = options.write(true).create_new(true).mode(mode).open(path);
        let mut file = file.map_err(|error| unusable(path, error))?;
        file.write_all(text.as_bytes()).map_err(|error| unusable(path, error))?;
    }
    Ok(paths)
}

#[derive(Serialize)]
struct Claims<'a> {
    sub: String,
    scope: &'a str,
    iat: i64,
    exp: i64,
}

/// Signs tokens.
pub(crate) struct Minter {
    key: EncodingKey,
    header: Header,
}

impl Minter {
    pub(crate) fn new(signing_key_pem: &str) -> Result<Self, Failure> {
        let bad = |error: &dyn std::fmt::Display| Failure::usage("auth.signing_key", error);
        let key =
            EncodingKey::from_ed_pem(signing_key_pem.as_bytes()).map_err(|error| bad(&error))?;
        let parsed = pem::parse(signing_key_pem).map_err(|error| bad(&error))?;
        let pair = Ed25519KeyPair::from_pkcs8(parsed.contents()).map_err(|error| bad(&error))?;
        let public = [&SPKI_PREFIX[..], pair.public_key().as_ref()].concat();
        let public = pem::encode(&pem::Pem::new("PUBLIC KEY", public));
        let mut header = Header::new(Algorithm::EdDSA);
        header.kid = Some(key_id(&public).map_err(|error| bad(&error))?);
        Ok(Self { key, header })
    }

    pub(crate) fn mint(&self, user: Uuid, scope: &str, ttl: Duration) -> Result<String, Failure> {
        let iat = platform::clock::now_ms() / 1_000;
        let exp = iat + i64::try_from(ttl.as_secs()).unwrap_or(i64::MAX / 2);
        let claims = Claims { sub: user.to_string(), scope, iat, exp };
        jsonwebtoken::encode(&self.header, &claims, &self.key).map_err(Failure::check)
    }
}

impl Keys {
    pub(crate) fn run(self) -> Result<(), Failure> {
        let (signing, public) = write(&self.out)?;
        print(&format!("{}\n{}", signing.display(), public.display()));
        Ok(())
    }
}

impl Token {
    pub(crate) fn run(self, config: &Config) -> Result<(), Failure> {
        let minter = Minter::new(&config.signing_key()?)?;
        print(&minter.mint(self.user, &self.scope, self.ttl)?);
        Ok(())
    }
}
