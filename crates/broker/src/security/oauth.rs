//! OAUTHBEARER (KIP-768): tokens signed by an issuer whose keys come from a file or a URL.
//!
//! Invariant: only signatures of asymmetric keys count, and only by a key of the set that the token names.

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use jsonwebtoken::jwk::JwkSet;
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode, decode_header};
use serde::Deserialize;
use serde_json::Value;
use thiserror::Error;
use tokio::sync::Mutex;

use super::config::SecurityConfig;

const ALGORITHMS: &[Algorithm] = &[
    Algorithm::RS256,
    Algorithm::RS384,
    Algorithm::RS512,
    Algorithm::PS256,
    Algorithm::PS384,
    Algorithm::PS512,
    Algorithm::ES256,
    Algorithm::ES384,
    Algorithm::EdDSA,
];
/// Keys are fetched again when they are this old, or when a token names one that is not there.
const REFRESH: Duration = Duration::from_secs(3600);
/// And not more often than this, whatever tokens name.
const PATIENCE: Duration = Duration::from_secs(10);
const FETCH_TIMEOUT: Duration = Duration::from_secs(5);
const LONGEST: usize = 1 << 20;
const SKEW_SECONDS: u64 = 30;

#[derive(Debug, Clone, Error)]
pub enum TokenError {
    #[error("no keys are configured: set sasl.oauthbearer.jwks.endpoint.url")]
    Off,
    #[error("{0}")]
    Invalid(String),
    #[error("it names no key of the set")]
    UnknownKey,
    #[error("the keys at {location} cannot be had: {reason}")]
    Keys { location: String, reason: String },
    #[error("it has no claim {0} with a name")]
    NoSubject(String),
}

#[derive(Debug, Error)]
pub enum OauthError {
    #[error("sasl.oauthbearer.jwks.endpoint.url={0} is not file:///PATH, https:// or http://")]
    Location(String),
    #[error(
        "OAUTHBEARER needs to know for whom a token must be: set sasl.oauthbearer.expected.audience, sasl.oauthbearer.expected.issuer, or both"
    )]
    Unbounded,
    #[error("TLS for fetching keys cannot be set up: {0}")]
    Client(reqwest::Error),
}

/// A token that was accepted.
#[derive(Debug)]
pub struct Valid {
    pub subject: String,
    pub valid_for: Duration,
}

#[derive(Debug)]
enum Source {
    File(PathBuf),
    Url(String, reqwest::Client),
}

/// Keys, and when they were last asked for.
#[derive(Debug, Default)]
struct Keys {
    set: Option<Arc<JwkSet>>,
    asked: Option<Instant>,
}

#[derive(Debug)]
struct Issuer {
    source: Source,
    location: String,
    issuer: Option<String>,
    audiences: Vec<String>,
    claim: String,
    keys: Mutex<Keys>,
}

/// Who signs tokens; nobody when it is not configured.
#[derive(Debug, Default)]
pub struct Tokens(Option<Issuer>);

#[derive(Deserialize)]
struct Claims {
    exp: u64,
    #[serde(flatten)]
    others: serde_json::Map<String, Value>,
}

impl Tokens {
    pub fn load(config: &SecurityConfig) -> Result<Self, OauthError> {
        let Some(location) = config.text("sasl.oauthbearer.jwks.endpoint.url") else {
            return Ok(Self::default());
        };
        let wrong = || OauthError::Location(location.to_owned());
        let url = url::Url::parse(location).map_err(|_| wrong())?;
        let source = match url.scheme() {
            "file" => Source::File(url.to_file_path().map_err(|()| wrong())?),
            "http" | "https" => Source::Url(location.to_owned(), client()?),
            _ => return Err(wrong()),
        };
        let of = |key: &str| config.text(&format!("sasl.oauthbearer.{key}")).map(str::to_owned);
        let audiences = of("expected.audience").unwrap_or_default();
        let issuer = Issuer {
            source,
            location: location.to_owned(),
            issuer: of("expected.issuer"),
            audiences: audiences
                .split(',')
                .map(|one| one.trim().to_owned())
                .filter(|one| !one.is_empty())
                .collect(),
            claim: of("sub.claim.name").unwrap_or_else(|| "sub".to_owned()),
            keys: Mutex::default(),
        };
        if issuer.issuer.is_none() && issuer.audiences.is_empty() {
            return Err(OauthError::Unbounded);
        }
        Ok(Self(Some(issuer)))
    }

    pub fn are_known(&self) -> bool {
        self.0.is_some()
    }

    pub async fn check(&self, token: &str) -> Result<Valid, TokenError> {
        self.0.as_ref().ok_or(TokenError::Off)?.check(token).await
    }
}

fn client() -> Result<reqwest::Client, OauthError> {
    reqwest::Client::builder().timeout(FETCH_TIMEOUT).build().map_err(OauthError::Client)
}

fn invalid(error: jsonwebtoken::errors::Error) -> TokenError {
    TokenError::Invalid(error.to_string())
}

impl Issuer {
    async fn check(&self, token: &str) -> Result<Valid, TokenError> {
        let header = decode_header(token).map_err(invalid)?;
        if !ALGORITHMS.contains(&header.alg) {
            return Err(TokenError::Invalid("it is signed by an algorithm that does not count".to_owned()));
        }
        let key = self.key(header.kid.as_deref()).await?;
        let mut validation = Validation::new(header.alg);
        validation.leeway = SKEW_SECONDS;
        validation.validate_nbf = true;
        let mut required = HashSet::from(["exp"]);
        if let Some(issuer) = &self.issuer {
            validation.set_issuer(&[issuer]);
            required.insert("iss");
        }
        validation.validate_aud = !self.audiences.is_empty();
        if validation.validate_aud {
            validation.set_audience(&self.audiences);
            required.insert("aud");
        }
        validation.set_required_spec_claims(&required.into_iter().collect::<Vec<_>>());
        let claims = decode::<Claims>(token, &key, &validation).map_err(invalid)?.claims;
        let subject = claims.others.get(&self.claim).and_then(Value::as_str).filter(|name| !name.is_empty());
        let subject = subject.ok_or_else(|| TokenError::NoSubject(self.claim.clone()))?.to_owned();
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Ok(Valid { subject, valid_for: Duration::from_secs(claims.exp).saturating_sub(now) })
    }

    /// The key that a token names; without a name, the only one there is.
    async fn key(&self, id: Option<&str>) -> Result<DecodingKey, TokenError> {
        let mut keys = self.keys.lock().await;
        let waited = keys.asked.map_or(REFRESH, |asked| asked.elapsed());
        let found = keys.set.as_deref().and_then(|set| named(set, id));
        if waited < PATIENCE || (found.is_some() && waited < REFRESH) {
            return found.ok_or(TokenError::UnknownKey);
        }
        keys.asked = Some(Instant::now());
        match (self.fetch().await, found) {
            (Ok(set), _) => {
                let found = named(&set, id);
                keys.set = Some(Arc::new(set));
                found.ok_or(TokenError::UnknownKey)
            }
            (Err(error), Some(old)) => {
                tracing::warn!(%error, "the keys before stay in use");
                Ok(old)
            }
            (Err(error), None) => Err(error),
        }
    }

    async fn fetch(&self) -> Result<JwkSet, TokenError> {
        let failed = |reason: String| TokenError::Keys { location: self.location.clone(), reason };
        let bytes = match &self.source {
            Source::File(path) => tokio::fs::read(path).await.map_err(|error| failed(error.to_string()))?,
            Source::Url(url, client) => get(client, url).await.map_err(|error| failed(error.to_string()))?,
        };
        if bytes.len() > LONGEST {
            return Err(failed(format!("{} bytes are too many", bytes.len())));
        }
        serde_json::from_slice(&bytes).map_err(|error| failed(error.to_string()))
    }
}

async fn get(client: &reqwest::Client, url: &str) -> Result<Vec<u8>, reqwest::Error> {
    let mut response = client.get(url).send().await?.error_for_status()?;
    let mut bytes = Vec::new();
    while let Some(chunk) = response.chunk().await? {
        bytes.extend_from_slice(&chunk);
        if bytes.len() > LONGEST {
            break;
        }
    }
    Ok(bytes)
}

fn named(set: &JwkSet, id: Option<&str>) -> Option<DecodingKey> {
    let key = match (id, &set.keys[..]) {
        (Some(id), _) => set.find(id)?,
        (None, [only]) => only,
        (None, _) => return None,
    };
    DecodingKey::from_jwk(key).ok()
}
