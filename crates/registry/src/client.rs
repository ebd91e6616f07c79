//! The registry as its users call it: over HTTP, with what never changes kept in memory.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use headwater_client::{HttpSecurity, Proof, Security, without_password};
use headwater_schema::{AvroSchema, CompatibilityLevel};
use reqwest::{Method, StatusCode, Url};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::RegistryError;

const CONTENT_TYPE: &str = "application/vnd.schemaregistry.v1+json";
const REQUEST_TIMEOUT: Duration = Duration::from_secs(40);
/// A node may be restarting while its services register their schemas.
const REGISTER_PATIENCE: Duration = Duration::from_secs(60);
const READ_PATIENCE: Duration = Duration::from_secs(10);
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
/// Schemas are few; a cache that reaches this is being fed with something else, and starts over.
const MAX_CACHED: usize = 10_000;
const MAX_ANSWER: usize = 16 << 20;

/// A version of a subject.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct RegisteredSchema {
    pub subject: String,
    pub id: u32,
    pub version: i32,
    pub schema: String,
}

/// A client of any Confluent-compatible registry; clones share its connections and its cache.
#[derive(Clone)]
pub struct RegistryClient {
    inner: Arc<Inner>,
}

struct Inner {
    base: String,
    /// The base as errors tell it.
    shown: String,
    http: reqwest::Client,
    security: HttpSecurity,
    schemas: Mutex<HashMap<u32, AvroSchema>>,
    ids: Mutex<HashMap<(String, String), u32>>,
}

#[derive(Deserialize)]
struct Id {
    id: u32,
}

#[derive(Deserialize)]
struct Text {
    schema: String,
    #[serde(rename = "schemaType")]
    schema_type: Option<String>,
}

#[derive(Deserialize)]
struct Verdict {
    is_compatible: bool,
    #[serde(default)]
    messages: Vec<String>,
}

#[derive(Deserialize)]
struct Refused {
    error_code: i32,
    message: String,
}

impl RegistryClient {
    /// `base` is the registry's address, as `http://127.0.0.1:8081`. Nothing is asked of it yet.
    pub fn new(base: impl Into<String>) -> Self {
        Self::over(base.into(), reqwest::Client::new(), HttpSecurity::default())
    }

    /// With TLS and an identity; without keys for the registry, those of the brokers.
    ///
    /// # Errors
    /// TLS that cannot be set up.
    pub fn secured(base: impl Into<String>, security: &Security) -> Result<Self, RegistryError> {
        let (base, security) = (base.into(), security.http().clone());
        match security.client() {
            Ok(http) => Ok(Self::over(base, http, security)),
            Err(error) => {
                Err(RegistryError::Unreachable { url: without_password(&base), reason: root_cause(&error) })
            }
        }
    }

    fn over(base: String, http: reqwest::Client, security: HttpSecurity) -> Self {
        let shown = without_password(&base);
        let (schemas, ids) = (Mutex::default(), Mutex::default());
        Self { inner: Arc::new(Inner { base, shown, http, security, schemas, ids }) }
    }

    pub async fn subjects(&self) -> Result<Vec<String>, RegistryError> {
        self.call(&Ask::get(&["subjects"])).await
    }

    pub async fn latest(&self, subject: &str) -> Result<RegisteredSchema, RegistryError> {
        self.call(&Ask::get(&["subjects", subject, "versions", "latest"])).await
    }

    /// Asked once, then kept: an id never means another schema.
    pub async fn schema_by_id(&self, id: u32) -> Result<AvroSchema, RegistryError> {
        if let Some(schema) = self.inner.schemas.lock().unwrap_or_else(PoisonError::into_inner).get(&id) {
            return Ok(schema.clone());
        }
        let number = id.to_string();
        let found: Text = self.call_patiently(READ_PATIENCE, &Ask::get(&["schemas", "ids", &number])).await?;
        if let Some(other) = found.schema_type.filter(|name| name != "AVRO") {
            let reason = format!("schema {id} is {other}, not AVRO");
            return Err(RegistryError::Malformed { url: self.inner.shown.clone(), reason });
        }
        let schema = AvroSchema::parse(&found.schema)?;
        remember(&self.inner.schemas, id, schema.clone());
        Ok(schema)
    }

    /// The schema's id under this subject; registering it again is free. While no connection can be
    /// made, it tries for a minute.
    pub async fn register(&self, subject: &str, schema: &str) -> Result<u32, RegistryError> {
        let key = (subject.to_owned(), schema.to_owned());
        if let Some(id) = self.inner.ids.lock().unwrap_or_else(PoisonError::into_inner).get(&key) {
            return Ok(*id);
        }
        let path = ["subjects", subject, "versions"];
        let ask = Ask::with(Method::POST, &path, json!({ "schema": schema }));
        let found: Id = self.call_patiently(REGISTER_PATIENCE, &ask).await?;
        remember(&self.inner.ids, key, found.id);
        Ok(found.id)
    }

    /// What stands against registering the schema; empty when it would be accepted.
    pub async fn check(&self, subject: &str, schema: &str) -> Result<Vec<String>, RegistryError> {
        let path = ["compatibility", "subjects", subject, "versions"];
        let ask = Ask {
            query: Some("verbose=true"),
            ..Ask::with(Method::POST, &path, json!({ "schema": schema }))
        };
        let verdict: Verdict = self.call(&ask).await?;
        match (verdict.is_compatible, verdict.messages.is_empty()) {
            (true, _) => Ok(Vec::new()),
            (false, false) => Ok(verdict.messages),
            (false, true) => Ok(vec!["the registry gives no reason".to_owned()]),
        }
    }

    pub async fn set_compatibility(
        &self,
        subject: &str,
        level: CompatibilityLevel,
    ) -> Result<(), RegistryError> {
        let path = ["config", subject];
        let ask = Ask::with(Method::PUT, &path, json!({ "compatibility": level.name() }));
        let _: Value = self.call(&ask).await?;
        Ok(())
    }

    /// Like `call`, but goes on while the registry cannot be reached or is not ready.
    async fn call_patiently<T: DeserializeOwned>(
        &self,
        patience: Duration,
        ask: &Ask<'_>,
    ) -> Result<T, RegistryError> {
        let begun = Instant::now();
        let mut pause = FIRST_PAUSE;
        loop {
            match self.call(ask).await {
                Err(error) if error.is_retriable() && begun.elapsed() + pause < patience => {
                    tracing::warn!(%error, path = ask.path.join("/"), "the schema registry does not answer; trying again");
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
                answer => return answer,
            }
        }
    }

    async fn call<T: DeserializeOwned>(&self, ask: &Ask<'_>) -> Result<T, RegistryError> {
        let url = self.url(ask)?;
        let mut request = self.inner.http.request(ask.method.clone(), url.clone());
        request = request.timeout(REQUEST_TIMEOUT).header("Accept", CONTENT_TYPE);
        if let Some(body) = &ask.body {
            request = request.header("Content-Type", CONTENT_TYPE).body(body.to_string());
        }
        let proof = self.inner.security.proof(&url).await;
        let proof = proof.map_err(|source| RegistryError::Token { url: self.inner.shown.clone(), source })?;
        request = match &proof {
            Some(Proof::Basic { user, password }) => request.basic_auth(user, Some(password.reveal())),
            Some(Proof::Bearer(token)) => request.bearer_auth(token.reveal()),
            None => request,
        };
        let response = request.send().await.map_err(|error| self.unreachable(&error))?;
        let status = response.status();
        let malformed =
            |reason: String| RegistryError::Malformed { url: without_password(url.as_str()), reason };
        let bytes =
            self.read(response).await?.ok_or_else(|| malformed(format!("more than {MAX_ANSWER} bytes")))?;
        if status.is_success() {
            return serde_json::from_slice(&bytes).map_err(|error| malformed(error.to_string()));
        }
        match serde_json::from_slice::<Refused>(&bytes) {
            _ if status == StatusCode::UNAUTHORIZED => {
                Err(RegistryError::Unauthenticated { url: self.inner.shown.clone() })
            }
            Ok(Refused { error_code, message }) => {
                Err(RegistryError::Refused { status: status.as_u16(), error_code, message })
            }
            Err(_) if status.is_server_error() => Err(RegistryError::Unreachable {
                url: self.inner.shown.clone(),
                reason: format!("it answers with {status}"),
            }),
            Err(_) => Err(malformed(format!("it answers with {status}"))),
        }
    }

    /// The body, unless it is too large.
    async fn read(&self, mut response: reqwest::Response) -> Result<Option<Vec<u8>>, RegistryError> {
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| self.unreachable(&error))? {
            if body.len() + chunk.len() > MAX_ANSWER {
                return Ok(None);
            }
            body.extend_from_slice(&chunk);
        }
        Ok(Some(body))
    }

    fn unreachable(&self, error: &reqwest::Error) -> RegistryError {
        RegistryError::Unreachable { url: self.inner.shown.clone(), reason: root_cause(error) }
    }

    fn url(&self, ask: &Ask<'_>) -> Result<Url, RegistryError> {
        let base = &self.inner.base;
        let wrong = |reason: String| RegistryError::Address { url: self.inner.shown.clone(), reason };
        let mut url = Url::parse(base).map_err(|error| wrong(error.to_string()))?;
        url.path_segments_mut()
            .map_err(|()| wrong("it has no host".to_owned()))?
            .pop_if_empty()
            .extend(ask.path);
        url.set_query(ask.query);
        Ok(url)
    }
}

/// One request; the segments of its path are escaped on the way.
struct Ask<'a> {
    method: Method,
    path: &'a [&'a str],
    query: Option<&'static str>,
    body: Option<Value>,
}

impl<'a> Ask<'a> {
    fn get(path: &'a [&'a str]) -> Self {
        Self { method: Method::GET, path, query: None, body: None }
    }

    fn with(method: Method, path: &'a [&'a str], body: Value) -> Self {
        Self { method, path, query: None, body: Some(body) }
    }
}

fn remember<K: std::hash::Hash + Eq, V>(cache: &Mutex<HashMap<K, V>>, key: K, value: V) {
    let mut cache = cache.lock().unwrap_or_else(PoisonError::into_inner);
    if cache.len() >= MAX_CACHED {
        cache.clear();
    }
    cache.insert(key, value);
}

/// "Connection refused" says more than "error sending request".
fn root_cause(error: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subjects_are_escaped() {
        let client = RegistryClient::new("http://host:1/base/");
        let ask = Ask { query: Some("verbose=true"), ..Ask::get(&["subjects", "a/b?c d", "versions"]) };
        let url = client.url(&ask).unwrap();
        assert_eq!(url.as_str(), "http://host:1/base/subjects/a%2Fb%3Fc%20d/versions?verbose=true");
    }

    #[tokio::test]
    async fn a_password_in_the_address_is_not_told() {
        for base in ["http://bob:hush@127.0.0.1:1", "bob:hush@there", "http://bob:hu/hush@there"] {
            let error = RegistryClient::new(base).subjects().await.unwrap_err();
            assert!(!format!("{error} {error:?}").contains("hush"), "{error:?}");
        }
    }

    #[test]
    fn an_address_that_is_none_is_told() {
        assert!(matches!(
            RegistryClient::new("localhost").url(&Ask::get(&["subjects"])),
            Err(RegistryError::Address { .. })
        ));
    }
}
