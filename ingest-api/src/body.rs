//! Bodies and headers, strictly: unknown members, fractions, wrong types and wrong media types are named.

use axum::body::Body;
use axum::extract::{FromRequest, Request};
use axum::http::{HeaderMap, StatusCode, header};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde::de::DeserializeOwned;

use crate::app::AppState;
use crate::problem::{Problem, Retry};

/// Largest body.
const BODY_BYTES_MAX: usize = 64 * 1_024;
/// Longest idempotency key.
const KEY_CHARACTERS_MAX: usize = 128;
/// Longest wait a client may ask for.
pub(crate) const WAIT_MS_MAX: i64 = 30_000;

/// What is wrong with a text of so many characters at the most. Control characters are refused: nobody can see them, and
/// Postgres keeps no NUL, so one that got into the log would stop its view.
pub(crate) fn text_fault(text: &str, characters_max: usize) -> Option<String> {
    let is_well =
        (1..=characters_max).contains(&text.chars().count()) && !text.chars().any(char::is_control);
    let fault =
        || format!("must be 1 to {characters_max} characters, none of them a control character");
    (!is_well).then(fault)
}

/// A JSON body read strictly.
pub(crate) struct StrictJson<T>(pub(crate) T);

impl<T: DeserializeOwned> FromRequest<AppState> for StrictJson<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, _state: &AppState) -> Result<Self, Problem> {
        check_media_type(request.headers())?;
        let bytes = read(request.into_body()).await?;
        let mut json = serde_json::Deserializer::from_slice(&bytes);
        let value = serde_path_to_error::deserialize(&mut json).map_err(|error| {
            let path = error.path().to_string();
            named_field(&path, &error.into_inner())
        })?;
        json.end().map_err(|error| Problem::field("body", error.to_string()))?;
        Ok(Self(value))
    }
}

/// serde names missing, unknown and repeated members in its message only.
fn named_field(path: &str, error: &serde_json::Error) -> Problem {
    let message = error.to_string();
    let member = message.split('`').nth(1).filter(|_| message.contains(" field `"));
    let field = match (path, member) {
        ("." | "", None) => "body".to_owned(),
        ("." | "", Some(member)) => member.to_owned(),
        (path, Some(member)) if !path.ends_with(member) => format!("{path}.{member}"),
        (path, _) => path.to_owned(),
    };
    Problem::field(field, message)
}

fn check_media_type(headers: &HeaderMap) -> Result<(), Problem> {
    let given =
        headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or("");
    let mut parts = given.split(';').map(|part| part.trim().to_ascii_lowercase());
    let is_json = parts.next().as_deref() == Some("application/json");
    let is_utf8 = parts.all(|parameter| {
        parameter
            .strip_prefix("charset=")
            .is_none_or(|charset| charset.trim_matches('"') == "utf-8")
    });
    if is_json && is_utf8 {
        return Ok(());
    }
    let detail = format!("Content-Type must be application/json in utf-8, not `{given}`");
    Err(Problem::new(
        StatusCode::UNSUPPORTED_MEDIA_TYPE,
        "unsupported_media_type",
        Retry::Never,
        detail,
    ))
}

async fn read(body: Body) -> Result<axum::body::Bytes, Problem> {
    let limited = Limited::new(body, BODY_BYTES_MAX).collect().await;
    match limited {
        Ok(collected) => Ok(collected.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => Err(Problem::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            "too_large",
            Retry::Never,
            format!("bodies are at most {BODY_BYTES_MAX} bytes"),
        )),
        Err(error) => Err(Problem::field("body", error.to_string())),
    }
}

/// The Idempotency-Key: 1 to 128 visible ASCII characters, quoted or not.
pub(crate) fn idempotency_key(headers: &HeaderMap) -> Result<String, Problem> {
    let field = "Idempotency-Key";
    let Some(value) = headers.get("idempotency-key") else {
        return Err(Problem::field(field, "the header is required"));
    };
    let text = value.to_str().unwrap_or("");
    let quoted = text.strip_prefix('"').and_then(|text| text.strip_suffix('"'));
    let key = quoted.unwrap_or(text);
    let is_visible = key.bytes().all(|byte| byte.is_ascii_graphic());
    if key.is_empty() || key.len() > KEY_CHARACTERS_MAX || !is_visible {
        return Err(Problem::field(field, "must be 1 to 128 visible ASCII characters"));
    }
    Ok(key.to_owned())
}

/// Milliseconds of `Prefer: wait=<seconds>`; `None` where the client does not want to wait.
pub(crate) fn preferred_wait_ms(headers: &HeaderMap) -> Result<Option<i64>, Problem> {
    let preferences = headers.get_all("prefer").iter().filter_map(|value| value.to_str().ok());
    for preference in preferences.flat_map(|line| line.split(',')) {
        let Some((name, value)) = preference.split_once('=') else { continue };
        if name.trim().eq_ignore_ascii_case("wait") {
            let seconds: i64 = value
                .trim()
                .trim_matches('"')
                .parse()
                .ok()
                .filter(|seconds| *seconds >= 0)
                .ok_or_else(|| {
                    Problem::field("Prefer", "wait must be a whole number of seconds")
                })?;
            return Ok(Some(seconds.saturating_mul(1_000).min(WAIT_MS_MAX)));
        }
    }
    Ok(None)
}
