//! A token endpoint (RFC 6749, the grant `client_credentials`), by the keys of KIP-768.
//!
//! A token is used until most of its time has passed, then fetched anew; while that fails, it is used to its end.

use std::time::{Duration, Instant};

use headwater_security::Secret;
use reqwest::{StatusCode, Url};
use serde::Deserialize;
use tokio::sync::Mutex;

use super::http::is_this_machine;
use super::settings::Settings;
use super::{SecurityError, TokenError};

/// `sasl.login.refresh.window.factor`: so much of its time a token is used before another is fetched.
const USED: f64 = 0.8;
/// Of a token whose end is not told.
const ASSUMED: Duration = Duration::from_secs(300);
/// A token is used no longer than this, whatever its endpoint says.
const LONGEST_USE: Duration = Duration::from_secs(365 * 86_400);
const LONGEST: usize = 1 << 20;

#[derive(Debug)]
pub struct Endpoint {
    url: Url,
    id: String,
    secret: Secret,
    scope: Option<String>,
    http: reqwest::Client,
    /// `sasl.login.retry.backoff.ms` and `.max.ms`: the first pause, and how long is tried in all.
    backoff: Duration,
    patience: Duration,
    held: Mutex<Option<Held>>,
}

#[derive(Debug)]
struct Held {
    token: Secret,
    renew: Instant,
    ends: Instant,
}

#[derive(Deserialize)]
struct Answer {
    access_token: String,
    /// Seconds: a number, and with some endpoints a string.
    expires_in: Option<serde_json::Value>,
}

/// Whether the same may work a moment later.
struct Failed {
    reason: String,
    passing: bool,
}

impl Endpoint {
    /// `option` is of the login module in `sasl.jaas.config`.
    pub fn read<'a>(
        url: &str,
        settings: &'a Settings,
        option: &dyn Fn(&str) -> Option<&'a str>,
    ) -> Result<Self, SecurityError> {
        let illegal = |legal| SecurityError::Illegal {
            key: "sasl.oauthbearer.token.endpoint.url",
            value: url.to_owned(),
            legal,
        };
        let parsed = Url::parse(url).map_err(|_| illegal("https://HOST/PATH or file:///PATH"))?;
        if !(parsed.scheme() == "https" || (parsed.scheme() == "http" && is_this_machine(&parsed))) {
            return Err(illegal(
                "https://, as a secret and a token cross the network (http:// on this machine)",
            ));
        }
        let of = |keys: &[&str], old: &str| {
            keys.iter().find_map(|key| settings.get(key)).or_else(|| option(old)).map(str::to_owned)
        };
        let id = ["sasl.oauthbearer.client.credentials.client.id", "sasl.oauthbearer.client.id"];
        let secret = ["sasl.oauthbearer.client.credentials.client.secret", "sasl.oauthbearer.client.secret"];
        let id = of(&id, "clientId").ok_or(SecurityError::NoClient)?;
        let secret = of(&secret, "clientSecret").ok_or(SecurityError::NoClient)?;
        let http = reqwest::Client::builder()
            .tls_backend_preconfigured(settings.tls()?)
            .connect_timeout(settings.millis("sasl.login.connect.timeout.ms", 10_000)?)
            .timeout(settings.millis("sasl.login.read.timeout.ms", 10_000)?)
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .map_err(|error| SecurityError::Unusable(error.to_string()))?;
        Ok(Self {
            url: parsed,
            id,
            secret: Secret::new(secret),
            scope: of(&["sasl.oauthbearer.scope"], "scope"),
            http,
            backoff: settings.millis("sasl.login.retry.backoff.ms", 100)?,
            patience: settings.millis("sasl.login.retry.backoff.max.ms", 10_000)?,
            held: Mutex::new(None),
        })
    }

    pub async fn token(&self) -> Result<Secret, TokenError> {
        let mut held = self.held.lock().await;
        let now = Instant::now();
        if let Some(held) = held.as_ref().filter(|held| now < held.renew) {
            return Ok(held.token.clone());
        }
        let good = held.as_ref().filter(|held| now < held.ends).map(|held| held.token.clone());
        match (self.fetch(good.is_none()).await, good) {
            (Ok(fetched), _) => Ok(held.insert(fetched).token.clone()),
            (Err(error), Some(old)) => {
                tracing::warn!(%error, "the token before is used to its end");
                if let Some(held) = held.as_mut() {
                    // From now on, after the attempt, however long it took.
                    let again = Instant::now().checked_add(self.patience);
                    held.renew = again.map_or(held.ends, |again| again.min(held.ends));
                }
                Ok(old)
            }
            (Err(error), None) => Err(error),
        }
    }

    /// Tries again for a while if there is nothing else to use.
    async fn fetch(&self, patiently: bool) -> Result<Held, TokenError> {
        let begun = Instant::now();
        let mut pause = self.backoff;
        loop {
            match self.ask().await {
                Ok(held) => return Ok(held),
                Err(Failed { passing: true, .. }) if patiently && begun.elapsed() + pause < self.patience => {
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(self.patience);
                }
                Err(Failed { reason, .. }) => {
                    return Err(TokenError::Endpoint { url: self.url.to_string(), reason });
                }
            }
        }
    }

    async fn ask(&self) -> Result<Held, Failed> {
        let asked = Instant::now();
        let lost = |error: reqwest::Error| Failed { reason: deepest(&error), passing: true };
        let wrong = |reason: String| Failed { reason, passing: false };
        let mut form = vec![("grant_type", "client_credentials")];
        form.extend(self.scope.as_deref().map(|scope| ("scope", scope)));
        let encoded = |text: &str| form_urlencoded(&[("", text)]).split_off(1);
        let request = self
            .http
            .post(self.url.clone())
            .basic_auth(encoded(&self.id), Some(encoded(self.secret.reveal())))
            .header("Content-Type", "application/x-www-form-urlencoded")
            .header("Accept", "application/json")
            .body(form_urlencoded(&form));
        let mut response = request.send().await.map_err(lost)?;
        let status = response.status();
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(lost)? {
            body.extend_from_slice(&chunk);
            if body.len() > LONGEST {
                return Err(wrong(format!("it answers with more than {LONGEST} bytes")));
            }
        }
        if !status.is_success() {
            let passing = status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS;
            return Err(Failed { reason: format!("it answers {status}{}", why(&body)), passing });
        }
        let answer: Answer = serde_json::from_slice(&body)
            .map_err(|_| wrong("it does not answer with an access_token in JSON".to_owned()))?;
        let lasts =
            answer.expires_in.as_ref().and_then(seconds).map_or(ASSUMED, |told| told.min(LONGEST_USE));
        let token = Secret::new(answer.access_token);
        Ok(Held { token, renew: asked + lasts.mul_f64(USED), ends: asked + lasts })
    }
}

fn seconds(value: &serde_json::Value) -> Option<Duration> {
    let whole = match value.as_str() {
        Some(text) => text.trim().parse::<u64>().ok()?,
        None => value.as_u64().or_else(|| value.as_f64().filter(|one| *one >= 0.0).map(|one| one as u64))?,
    };
    Some(Duration::from_secs(whole))
}

/// RFC 6749, 5.2: `error` is one of a few words.
fn why(body: &[u8]) -> String {
    let text = serde_json::from_slice::<serde_json::Value>(body).ok();
    let error = text.as_ref().and_then(|body| body["error"].as_str()).unwrap_or_default();
    let words = error.chars().all(|c| c.is_ascii_lowercase() || c == '_') && error.len() < 64;
    if words && !error.is_empty() { format!(": {error}") } else { String::new() }
}

fn form_urlencoded(pairs: &[(&str, &str)]) -> String {
    // The only encoder at hand is that of URLs' queries, which is the same.
    let mut url = Url::parse("http://form/").expect("a URL");
    url.query_pairs_mut().extend_pairs(pairs);
    url.query().unwrap_or_default().to_owned()
}

/// "Connection refused" says more than "error sending request".
fn deepest(error: &dyn std::error::Error) -> String {
    error.source().map_or_else(|| error.to_string(), deepest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_goes_in_the_clear_to_this_machine_only() {
        let read = |url: &str| {
            let text = "sasl.oauthbearer.client.credentials.client.id=a\nsasl.oauthbearer.client.credentials.client.secret=b\n";
            Endpoint::read(url, &Settings::parse(text).unwrap(), &|_| None).map(drop)
        };
        for near in
            ["http://localhost:1/token", "http://127.0.0.1/token", "http://[::1]:8/token", "http://[::1]/"]
        {
            read(near).unwrap();
        }
        for far in [
            "http://[::2]/token",
            "http://[2001:db8::1]/",
            "http://10.0.0.1/",
            "http://localhost.evil.example/",
        ] {
            assert!(read(far).unwrap_err().to_string().contains("https://"), "{far}");
        }
    }

    #[test]
    fn forms_are_encoded_and_errors_of_the_endpoint_are_words() {
        assert_eq!(form_urlencoded(&[("a", "b c&d"), ("e", "ü")]), "a=b+c%26d&e=%C3%BC");
        assert_eq!(form_urlencoded(&[("", "a:b")]), "=a%3Ab");
        assert_eq!(why(br#"{"error":"invalid_client"}"#), ": invalid_client");
        assert_eq!(why(br#"{"error":"<b>x</b>"}"#), "");
    }

    #[test]
    fn a_life_is_a_number_or_a_string_and_what_is_neither_is_not_told() {
        let told = |text: &str| seconds(&serde_json::from_str(text).unwrap()).map(|told| told.as_secs());
        assert_eq!((told("60"), told("60.0"), told("\"60\"")), (Some(60), Some(60), Some(60)));
        assert_eq!(told("18446744073709551615"), Some(u64::MAX), "it is cut where it is used");
        for other in ["-1", "\"soon\"", "\"\"", "true", "null", "[60]"] {
            assert_eq!(told(other), None, "{other}");
        }
    }
}
