//! The issuer's keys, from a file or a URL: fetched at the start, from time to time, and when a token names one that
//! is not there.
//!
//! Invariant: keys that were good stay in use until others have come; no client waits for a fetch unless it has a
//! token by a key that is not there.

use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use headwater_security::trusted;
use jsonwebtoken::DecodingKey;
use jsonwebtoken::jwk::JwkSet;
use tokio::sync::Mutex;

use super::super::config::SecurityConfig;
use super::{OauthError, TokenError, of};

/// Not more often than this, whatever tokens name.
const PATIENCE: Duration = Duration::from_secs(10);
const LONGEST: usize = 1 << 20;

#[derive(Debug)]
enum Source {
    File(PathBuf),
    Url(String, reqwest::Client),
}

#[derive(Debug)]
pub struct Keys {
    source: Source,
    location: String,
    pub refresh: Duration,
    backoff: Duration,
    patience: Duration,
    set: RwLock<Option<Arc<JwkSet>>>,
    /// When they were asked for because of a token; whoever holds it asks.
    asked: Mutex<Option<Instant>>,
}

fn millis(config: &SecurityConfig, key: &'static str, otherwise: u64) -> Result<Duration, OauthError> {
    let Some(text) = config.text(key) else { return Ok(Duration::from_millis(otherwise)) };
    let millis = text.parse().map_err(|_| OauthError::Millis { key, value: text.to_owned() })?;
    Ok(Duration::from_millis(millis))
}

impl Keys {
    pub fn load(config: &SecurityConfig, location: &str) -> Result<Self, OauthError> {
        let wrong = || OauthError::Location(location.to_owned());
        let url = url::Url::parse(location).map_err(|_| wrong())?;
        let source = match url.scheme() {
            "file" => Source::File(url.to_file_path().map_err(|()| wrong())?),
            "https" => Source::Url(location.to_owned(), client(config)?),
            // Whoever is between could put keys of their own into the answer.
            "http" if is_this_machine(&url) => Source::Url(location.to_owned(), client(config)?),
            _ => return Err(wrong()),
        };
        Ok(Self {
            source,
            location: location.to_owned(),
            refresh: millis(config, of::REFRESH, 3_600_000)?,
            backoff: millis(config, of::BACKOFF, 100)?,
            patience: millis(config, of::LONGEST_BACKOFF, 10_000)?,
            set: RwLock::default(),
            asked: Mutex::default(),
        })
    }

    pub fn is_file(&self) -> bool {
        matches!(self.source, Source::File(_))
    }

    fn known(&self, id: Option<&str>) -> Option<DecodingKey> {
        named(self.set.read().unwrap_or_else(PoisonError::into_inner).as_deref()?, id)
    }

    /// The key that a token names; without a name, the only one there is.
    pub async fn find(&self, id: Option<&str>) -> Result<DecodingKey, TokenError> {
        if let Some(found) = self.known(id) {
            return Ok(found);
        }
        let mut asked = self.asked.lock().await;
        // Another client may have asked meanwhile.
        if let Some(found) = self.known(id) {
            return Ok(found);
        }
        if asked.is_some_and(|asked| asked.elapsed() < PATIENCE) {
            return Err(TokenError::UnknownKey);
        }
        *asked = Some(Instant::now());
        self.fetch().await?;
        self.known(id).ok_or(TokenError::UnknownKey)
    }

    /// Fetches the keys, trying again for a while; those before stay if it fails.
    pub async fn renew(&self) -> Result<(), TokenError> {
        let begun = Instant::now();
        let mut pause = self.backoff;
        loop {
            match self.fetch().await {
                Err(_) if begun.elapsed() + pause < self.patience => {
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(self.patience);
                }
                ended => return ended,
            }
        }
    }

    async fn fetch(&self) -> Result<(), TokenError> {
        let failed = |reason: String| TokenError::Keys { location: self.location.clone(), reason };
        let bytes = match &self.source {
            Source::File(path) => tokio::fs::read(path).await.map_err(|error| failed(error.to_string()))?,
            Source::Url(url, client) => get(client, url).await.map_err(failed)?,
        };
        if bytes.len() > LONGEST {
            return Err(failed(format!("{} bytes are too many", bytes.len())));
        }
        let set: JwkSet = serde_json::from_slice(&bytes)
            .map_err(|error| failed(format!("it is no JSON Web Key Set: {error}")))?;
        *self.set.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(set));
        Ok(())
    }
}

fn is_this_machine(url: &url::Url) -> bool {
    match url.host() {
        Some(url::Host::Domain(name)) => name == "localhost",
        Some(url::Host::Ipv4(address)) => address.is_loopback(),
        Some(url::Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

/// Trusts what this machine trusts and, for the issuers of a company, the broker's own truststore.
fn client(config: &SecurityConfig) -> Result<reqwest::Client, OauthError> {
    let mut builder = reqwest::Client::builder()
        .connect_timeout(millis(config, of::CONNECT_TIMEOUT, 5_000)?)
        .timeout(millis(config, of::READ_TIMEOUT, 5_000)?)
        .redirect(reqwest::redirect::Policy::none())
        // Who an issuer is, the settings say: a variable of the environment puts nobody in between.
        .no_proxy();
    if let Some((what, bytes)) = truststore(config)? {
        let password = config.text("ssl.truststore.password").map(headwater_security::Secret::new);
        let extra = trusted(&what, &bytes, password.as_ref()).map_err(OauthError::Trust)?;
        let each: Result<Vec<_>, _> = extra.iter().map(|one| reqwest::Certificate::from_der(one)).collect();
        builder = builder.tls_certs_merge(each.map_err(OauthError::Client)?);
    }
    builder.build().map_err(OauthError::Client)
}

fn truststore(config: &SecurityConfig) -> Result<Option<(String, Vec<u8>)>, OauthError> {
    if let Some(text) = config.text("ssl.truststore.certificates") {
        return Ok(Some(("ssl.truststore.certificates".to_owned(), text.replace("\\n", "\n").into_bytes())));
    }
    let Some(file) = config.text("ssl.truststore.location") else { return Ok(None) };
    let bytes =
        std::fs::read(file).map_err(|source| OauthError::File { path: PathBuf::from(file), source })?;
    Ok(Some((file.to_owned(), bytes)))
}

async fn get(client: &reqwest::Client, url: &str) -> Result<Vec<u8>, String> {
    let why = |error: reqwest::Error| deepest(&error);
    let mut response = client.get(url).send().await.map_err(why)?.error_for_status().map_err(why)?;
    if response.status().is_redirection() {
        return Err(format!("it answers {}, and redirects are not followed", response.status()));
    }
    let mut bytes = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(why)? {
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

/// "Connection refused" says more than "error sending request".
fn deepest(error: &dyn std::error::Error) -> String {
    error.source().map_or_else(|| error.to_string(), deepest)
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    /// Runs itself again with the variables that other programs take for a proxy.
    #[tokio::test]
    async fn no_variable_of_the_environment_puts_a_proxy_before_the_keys() {
        const URL: &str = "HEADWATER_TEST_KEYS_URL";
        if let Ok(url) = std::env::var(URL) {
            let keys = Keys::load(&SecurityConfig::default(), &url).unwrap();
            return keys.fetch().await.unwrap();
        }
        let socket = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/keys", socket.local_addr().unwrap());
        let name =
            "security::oauth::keys::tests::no_variable_of_the_environment_puts_a_proxy_before_the_keys";
        let mut child = tokio::process::Command::new(std::env::current_exe().unwrap());
        child.args(["--exact", name]).env(URL, &url).kill_on_drop(true);
        for variable in ["http_proxy", "https_proxy", "all_proxy", "HTTPS_PROXY", "ALL_PROXY"] {
            // Nobody listens there.
            child.env(variable, "http://127.0.0.1:1");
        }
        child.env_remove("no_proxy").env_remove("NO_PROXY").env_remove("REQUEST_METHOD");
        let serving = async {
            let (mut stream, _) = socket.accept().await.unwrap();
            let mut request = [0; 1024];
            let _ = stream.read(&mut request).await.unwrap();
            let body = r#"{"keys":[]}"#;
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
            stream.write_all(format!("{head}{body}").as_bytes()).await.unwrap();
            std::future::pending::<()>().await;
        };
        let ended = tokio::select! {
            ended = child.output() => ended.unwrap(),
            () = serving => unreachable!("it goes on for ever"),
        };
        assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stdout));
    }

    #[test]
    fn keys_come_in_the_clear_from_this_machine_only() {
        let is = |text: &str| is_this_machine(&url::Url::parse(text).unwrap());
        for near in
            ["http://localhost:1/keys", "http://LOCALHOST/", "http://127.0.0.1/", "http://[::1]:8/keys"]
        {
            assert!(is(near), "{near}");
        }
        for far in
            ["http://issuer.example/", "http://localhost.evil.example/", "http://10.0.0.1/", "http://[::2]/"]
        {
            assert!(!is(far), "{far}");
        }
    }
}
