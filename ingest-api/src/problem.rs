//! Every error a client sees: RFC 9457 problem documents with a stable code and a word on retries.

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde_json::{Map, Value, json};

/// Whether the client may try again.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Retry {
    /// As you like: nothing was written.
    Safe,
    /// The outcome is unknown: only with the same Idempotency-Key.
    SameKey,
    /// A new attempt needs a new key.
    NewKey,
    /// The same request will never succeed.
    Never,
}

/// A field of the request and what is wrong with it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct FieldError {
    /// JSON path, parameter or header name.
    pub field: String,
    /// For a person.
    pub message: String,
}

/// A problem document.
#[derive(Clone, PartialEq, Debug)]
pub struct Problem {
    /// HTTP status.
    pub status: StatusCode,
    /// Stable code.
    pub code: &'static str,
    /// What the client may do.
    pub retry: Retry,
    /// For a person.
    pub detail: String,
    /// Fields at fault.
    pub errors: Vec<FieldError>,
    /// Further members.
    pub members: Map<String, Value>,
    /// Seconds, for 429 and 503.
    pub retry_after_seconds: Option<u32>,
}

impl Problem {
    /// A problem without further members.
    pub fn new(
        status: StatusCode,
        code: &'static str,
        retry: Retry,
        detail: impl Into<String>,
    ) -> Self {
        Self {
            status,
            code,
            retry,
            detail: detail.into(),
            errors: Vec::new(),
            members: Map::new(),
            retry_after_seconds: None,
        }
    }

    /// 400 that names one field.
    pub fn field(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self::fields(vec![FieldError { field: field.into(), message: message.into() }])
    }

    /// 400 that names every field at fault.
    #[must_use]
    pub fn fields(errors: Vec<FieldError>) -> Self {
        let detail = "the request is malformed; nothing was written and the key is unspent";
        Self { errors, ..Self::new(StatusCode::BAD_REQUEST, "malformed", Retry::Never, detail) }
    }

    /// 404.
    pub fn not_found(code: &'static str, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, code, Retry::Never, detail)
    }

    /// 503: nothing was written.
    pub fn unavailable(code: &'static str, detail: impl Into<String>) -> Self {
        let problem = Self::new(StatusCode::SERVICE_UNAVAILABLE, code, Retry::Safe, detail);
        Self { retry_after_seconds: Some(1), ..problem }
    }

    /// Adds a member.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.members.insert(name.to_owned(), value.into());
        self
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut document = self.members;
        document.insert("type".into(), json!(format!("urn:livedrops:problem:{}", self.code)));
        document.insert("title".into(), json!(self.code.replace('_', " ")));
        document.insert("status".into(), json!(self.status.as_u16()));
        document.insert("code".into(), json!(self.code));
        document.insert("retry".into(), json!(self.retry));
        document.insert("detail".into(), json!(self.detail));
        if !self.errors.is_empty() {
            document.insert("errors".into(), json!(self.errors));
        }
        let mut response = (self.status, Json(Value::Object(document))).into_response();
        let headers = response.headers_mut();
        let problem_json = HeaderValue::from_static("application/problem+json");
        headers.insert(header::CONTENT_TYPE, problem_json);
        if let Some(seconds) = self.retry_after_seconds {
            headers.insert(header::RETRY_AFTER, seconds.into());
        }
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}
