//! A Confluent-compatible schema registry over HTTP: five calls, so no client library.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use reqwest::{Client, Method, StatusCode};
use runtime::{RegistryError, SchemaRegistry};
use serde_json::{Value, json};
use tokio::runtime::Handle;

/// Longest wait for one answer.
const TIMEOUT: Duration = Duration::from_secs(5);

/// What registering a schema came to.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum RegisterError {
    /// Nobody answers.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// The schema breaks a reader or writer of an earlier version.
    #[error("{subject}: the registry refuses the schema as incompatible: {why}")]
    Incompatible {
        /// The subject.
        subject: String,
        /// The registry's words.
        why: String,
    },
}

/// A client of one registry.
#[derive(Clone, Debug)]
pub struct HttpRegistry {
    url: String,
    client: Client,
    /// Drives requests made by partition threads, which are no tokio workers.
    handle: Handle,
    /// Ids never change, so each is asked for once: (subject, text, id).
    known: Arc<Mutex<Vec<(String, String, u32)>>>,
}

fn unreachable(error: impl std::fmt::Display) -> RegistryError {
    RegistryError::Unreachable(error.to_string())
}

impl HttpRegistry {
    /// A client that sends its requests on `handle`'s runtime.
    ///
    /// # Errors
    /// Where no HTTP client can be made.
    pub fn new(url: &str, handle: Handle) -> Result<Self, RegistryError> {
        let client = Client::builder().timeout(TIMEOUT).build().map_err(unreachable)?;
        Ok(Self {
            url: url.trim_end_matches('/').to_owned(),
            client,
            handle,
            known: Arc::default(),
        })
    }

    async fn call(
        &self,
        method: Method,
        path: &str,
        body: Option<Value>,
    ) -> Result<(StatusCode, Value), RegistryError> {
        let mut request = self.client.request(method, format!("{}{path}", self.url));
        if let Some(body) = body {
            request = request.json(&body);
        }
        let response = request.send().await.map_err(unreachable)?;
        let status = response.status();
        if status.is_server_error() {
            return Err(unreachable(format!("{} answers {status}", self.url)));
        }
        let body = response.bytes().await.map_err(unreachable)?;
        Ok((status, serde_json::from_slice(&body).unwrap_or(Value::Null)))
    }

    /// Makes the registry refuse every schema that some other version could not read, or be read by.
    ///
    /// # Errors
    /// Where the registry does not take the setting.
    pub async fn require_full_compatibility(&self) -> Result<(), RegistryError> {
        // Asked first: setting it is a write that every start would pay for.
        if self.is_fully_compatible().await? {
            return Ok(());
        }
        let level = json!({"compatibility": "FULL_TRANSITIVE"});
        let (status, body) = self.call(Method::PUT, "/config", Some(level)).await?;
        // Of several processes that start at once, Apicurio answers all but one with a conflict.
        if status.is_success() || self.is_fully_compatible().await? {
            return Ok(());
        }
        Err(unreachable(format!("setting FULL_TRANSITIVE: {status} {body}")))
    }

    async fn is_fully_compatible(&self) -> Result<bool, RegistryError> {
        let (_, body) = self.call(Method::GET, "/config", None).await?;
        Ok(body.get("compatibilityLevel").and_then(Value::as_str) == Some("FULL_TRANSITIVE"))
    }

    /// Registers a schema, or finds the id it has.
    ///
    /// # Errors
    /// [`RegisterError::Incompatible`] where an earlier version could no longer be read.
    pub async fn register(&self, subject: &str, text: &str) -> Result<u32, RegisterError> {
        if let Ok(id) = self.look_up(subject, text).await {
            return Ok(id);
        }
        let path = format!("/subjects/{subject}/versions");
        let (status, body) = self.call(Method::POST, &path, Some(schema_body(text))).await?;
        match body.get("id").and_then(Value::as_u64).and_then(|id| u32::try_from(id).ok()) {
            Some(id) if status.is_success() => Ok(id),
            _ if status == StatusCode::CONFLICT || status == StatusCode::UNPROCESSABLE_ENTITY => {
                Err(RegisterError::Incompatible {
                    subject: subject.to_owned(),
                    why: body.to_string(),
                })
            }
            _ => Err(unreachable(format!("registering {subject}: {status} {body}")).into()),
        }
    }

    async fn look_up(&self, subject: &str, text: &str) -> Result<u32, RegistryError> {
        let known = || self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((.., id)) = known().iter().find(|(of, has, _)| of == subject && has == text) {
            return Ok(*id);
        }
        let path = format!("/subjects/{subject}");
        let (status, body) = self.call(Method::POST, &path, Some(schema_body(text))).await?;
        let id = body.get("id").and_then(Value::as_u64).and_then(|id| u32::try_from(id).ok());
        let Some(id) = id.filter(|_| status.is_success()) else {
            return Err(RegistryError::NotRegistered(subject.to_owned()));
        };
        known().push((subject.to_owned(), text.to_owned(), id));
        Ok(id)
    }

    async fn fetch(&self, id: u32) -> Result<Option<String>, RegistryError> {
        let (status, body) = self.call(Method::GET, &format!("/schemas/ids/{id}"), None).await?;
        if status == StatusCode::NOT_FOUND {
            return Ok(None);
        }
        let text = body.get("schema").and_then(Value::as_str).map(str::to_owned);
        text.map(Some).ok_or_else(|| unreachable(format!("schema {id}: {status} {body}")))
    }
}

fn schema_body(text: &str) -> Value {
    json!({"schema": text, "schemaType": "AVRO"})
}

impl SchemaRegistry for HttpRegistry {
    fn id_of(&self, subject: &str, text: &str) -> Result<u32, RegistryError> {
        self.handle.block_on(self.look_up(subject, text))
    }

    fn text_of(&self, id: u32) -> Result<Option<String>, RegistryError> {
        self.handle.block_on(self.fetch(id))
    }
}
