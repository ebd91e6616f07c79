//! OAUTHBEARER (KIP-768): tokens signed by an issuer whose keys come from a file or a URL.
//!
//! Invariant: only signatures of asymmetric keys count, and only by a key of the set that the token names.

mod keys;

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::{Arc, Weak};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use headwater_security::PemError;
use jsonwebtoken::{Algorithm, Validation, decode, decode_header};
use serde::Deserialize;
use serde_json::Value;
use thiserror::Error;

use super::config::SecurityConfig;
use super::told;
use keys::Keys;

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
/// `sasl.oauthbearer.clock.skew.seconds` without its key.
const SKEW_SECONDS: u64 = 30;

/// Of what is told of a token.
const LONGEST_REASON: usize = 200;

/// When keys are fetched again that could not be had.
const RETRY: Duration = Duration::from_secs(30);

/// Kafka's keys (KIP-768).
mod of {
    pub const REFRESH: &str = "sasl.oauthbearer.jwks.endpoint.refresh.ms";
    pub const BACKOFF: &str = "sasl.oauthbearer.jwks.endpoint.retry.backoff.ms";
    pub const LONGEST_BACKOFF: &str = "sasl.oauthbearer.jwks.endpoint.retry.backoff.max.ms";
    pub const CONNECT_TIMEOUT: &str = "sasl.login.connect.timeout.ms";
    pub const READ_TIMEOUT: &str = "sasl.login.read.timeout.ms";
    pub const SKEW: &str = "sasl.oauthbearer.clock.skew.seconds";
}

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
    #[error(
        "sasl.oauthbearer.jwks.endpoint.url={0} is not file:///PATH, https:// or, on this machine, http://"
    )]
    Location(String),
    #[error(
        "OAUTHBEARER needs to know for whom a token must be: set sasl.oauthbearer.expected.audience, sasl.oauthbearer.expected.issuer, or both"
    )]
    Unbounded,
    #[error("{key}={value} is not legal: use a whole number of milliseconds")]
    Millis { key: &'static str, value: String },
    #[error("sasl.oauthbearer.clock.skew.seconds={0} is not legal: use a whole number")]
    Seconds(String),
    #[error("{0}; look at sasl.oauthbearer.jwks.endpoint.url")]
    Keys(TokenError),
    #[error("{} cannot be read: {source}", .path.display())]
    File { path: PathBuf, source: std::io::Error },
    #[error(transparent)]
    Trust(PemError),
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
struct Issuer {
    issuer: Option<String>,
    audiences: Vec<String>,
    claim: String,
    skew: u64,
    keys: Arc<Keys>,
}

/// Who signs tokens; nobody when it is not configured.
#[derive(Debug, Default)]
pub struct Tokens(Option<Issuer>);

#[derive(Deserialize)]
struct Claims {
    /// In seconds, which need not be whole ones (RFC 7519, "NumericDate").
    exp: f64,
    #[serde(flatten)]
    others: serde_json::Map<String, Value>,
}

impl Tokens {
    pub fn load(config: &SecurityConfig) -> Result<Self, OauthError> {
        let Some(location) = config.text("sasl.oauthbearer.jwks.endpoint.url") else {
            return Ok(Self::default());
        };
        let text = |key: &str| config.text(&format!("sasl.oauthbearer.{key}")).map(str::to_owned);
        let audiences = text("expected.audience").unwrap_or_default();
        let issuer = Issuer {
            issuer: text("expected.issuer"),
            audiences: audiences
                .split(',')
                .map(|one| one.trim().to_owned())
                .filter(|one| !one.is_empty())
                .collect(),
            claim: text("sub.claim.name").unwrap_or_else(|| "sub".to_owned()),
            skew: skew(config)?,
            keys: Arc::new(Keys::load(config, location)?),
        };
        if issuer.issuer.is_none() && issuer.audiences.is_empty() {
            return Err(OauthError::Unbounded);
        }
        Ok(Self(Some(issuer)))
    }

    pub fn are_known(&self) -> bool {
        self.0.is_some()
    }

    /// Fetches the keys, and from time to time again for as long as anybody has them. A file that cannot be read is an
    /// error; a URL is tried again, as its users are not the only ones.
    pub async fn follow(&self) -> Result<(), OauthError> {
        let Some(issuer) = &self.0 else { return Ok(()) };
        let keys = &issuer.keys;
        if keys.is_file() {
            keys.renew().await.map_err(OauthError::Keys)?;
        }
        tokio::spawn(renew(Arc::downgrade(keys)));
        Ok(())
    }

    pub async fn check(&self, token: &str) -> Result<Valid, TokenError> {
        self.0.as_ref().ok_or(TokenError::Off)?.check(token).await
    }
}

fn skew(config: &SecurityConfig) -> Result<u64, OauthError> {
    let Some(text) = config.text(of::SKEW) else { return Ok(SKEW_SECONDS) };
    text.parse().map_err(|_| OauthError::Seconds(text.to_owned()))
}

async fn renew(keys: Weak<Keys>) {
    while let Some(keys) = keys.upgrade() {
        let pause = match keys.renew().await {
            Ok(()) => keys.refresh,
            Err(error) => {
                tracing::error!(%error, "no new keys for tokens; those before stay in use, without any no token is accepted");
                keys.refresh.min(RETRY)
            }
        };
        drop(keys);
        tokio::time::sleep(pause).await;
    }
}

/// What is wrong may quote the token, which a stranger has written.
fn invalid(error: jsonwebtoken::errors::Error) -> TokenError {
    TokenError::Invalid(told(&error.to_string(), LONGEST_REASON))
}

impl Issuer {
    async fn check(&self, token: &str) -> Result<Valid, TokenError> {
        let header = decode_header(token).map_err(invalid)?;
        if !ALGORITHMS.contains(&header.alg) {
            return Err(TokenError::Invalid("it is signed by an algorithm that does not count".to_owned()));
        }
        let key = self.keys.find(header.kid.as_deref()).await?;
        let mut validation = Validation::new(header.alg);
        validation.leeway = self.skew;
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
        // Before 1970 is refused above, so what does not fit is far ahead.
        let until = Duration::try_from_secs_f64(claims.exp).unwrap_or(Duration::MAX);
        Ok(Valid { subject, valid_for: until.saturating_sub(now) })
    }
}

#[cfg(test)]
mod tests {
    use base64::Engine;
    use base64::prelude::BASE64_URL_SAFE_NO_PAD;

    use super::*;

    #[tokio::test]
    async fn what_is_told_of_a_token_is_short_and_of_one_line() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("keys.json");
        std::fs::write(&file, r#"{"keys":[]}"#).unwrap();
        let mut config = SecurityConfig::default();
        config.put("sasl.oauthbearer.jwks.endpoint.url", format!("file://{}", file.display()));
        config.put("sasl.oauthbearer.expected.audience", "kafka".to_owned());
        let tokens = Tokens::load(&config).unwrap();
        // The reason quotes what stands there for an algorithm.
        let algorithm = format!("\\u001b[2J\\nforged line {}", "x".repeat(16 << 10));
        let header = BASE64_URL_SAFE_NO_PAD.encode(format!(r#"{{"alg":"{algorithm}"}}"#));
        let told = tokens.check(&format!("{header}.e30.c2ln")).await.unwrap_err().to_string();
        assert!(told.contains("forged line"), "the case is of use only if it is quoted: {told}");
        assert!(told.chars().count() <= LONGEST_REASON, "{} characters", told.chars().count());
        assert!(!told.chars().any(char::is_control), "{told:?}");
    }
}
