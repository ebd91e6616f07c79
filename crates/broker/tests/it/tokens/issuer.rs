//! An issuer on this machine: keys that can be changed, tokens for who knows the secret, and failures on demand.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
use headwater_security::rustls::ServerConfig;
use headwater_security::{Identity, Stream, TlsAcceptor, provider};
use rcgen::KeyPair;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::AbortHandle;

/// What signs tokens.
pub struct Key {
    id: &'static str,
    pair: Arc<KeyPair>,
}

impl Key {
    pub fn new(id: &'static str) -> Self {
        Self { id, pair: Arc::new(KeyPair::generate().expect("a key")) }
    }

    fn public(&self) -> Value {
        let point = self.pair.public_key_raw();
        let text = |bytes: &[u8]| BASE64_URL_SAFE_NO_PAD.encode(bytes);
        let (x, y) = (text(&point[1..33]), text(&point[33..65]));
        json!({ "kty": "EC", "crv": "P-256", "kid": self.id, "alg": "ES256", "x": x, "y": y })
    }

    pub fn token(&self, seconds: u64) -> String {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs();
        let header = jsonwebtoken::Header {
            kid: Some(self.id.to_owned()),
            ..jsonwebtoken::Header::new(jsonwebtoken::Algorithm::ES256)
        };
        let claims = json!({ "sub": "billing", "aud": "kafka", "exp": now + seconds });
        let key = jsonwebtoken::EncodingKey::from_ec_der(&self.pair.serialize_der());
        jsonwebtoken::encode(&header, &claims, &key).expect("a token")
    }
}

struct State {
    keys: Mutex<String>,
    signing: Key,
    failing: AtomicBool,
    hiccups: AtomicU64,
    lasting: AtomicU64,
    tokens: AtomicU64,
}

pub struct Issuer {
    pub url: String,
    state: Arc<State>,
    task: AbortHandle,
}

fn set(keys: &[&Key]) -> String {
    json!({ "keys": keys.iter().map(|key| key.public()).collect::<Vec<_>>() }).to_string()
}

impl Issuer {
    /// By https with a certificate, else by http; the first key signs its tokens.
    pub async fn start(certificate: Option<&Path>, keys: &[&Key]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let scheme = if certificate.is_some() { "https" } else { "http" };
        let url = format!("{scheme}://{}", listener.local_addr().expect("an address"));
        let state = Arc::new(State {
            keys: Mutex::new(set(keys)),
            signing: Key { id: keys[0].id, pair: Arc::clone(&keys[0].pair) },
            failing: AtomicBool::new(false),
            hiccups: AtomicU64::new(0),
            lasting: AtomicU64::new(600),
            tokens: AtomicU64::new(0),
        });
        let acceptor = certificate.map(acceptor);
        let task = tokio::spawn(accept(listener, acceptor, Arc::clone(&state))).abort_handle();
        Self { url, state, task }
    }

    pub fn serve(&self, keys: &[&Key]) {
        *self.state.keys.lock().expect("a lock") = set(keys);
    }

    /// Whether everything is answered by 503.
    pub fn fail(&self, failing: bool) {
        self.state.failing.store(failing, Ordering::SeqCst);
    }

    /// The next few are answered by 503.
    pub fn hiccup(&self, count: u64) {
        self.state.hiccups.store(count, Ordering::SeqCst);
    }

    /// For how many seconds tokens are good.
    pub fn lasting(&self, seconds: u64) {
        self.state.lasting.store(seconds, Ordering::SeqCst);
    }

    /// How many tokens were given.
    pub fn tokens(&self) -> u64 {
        self.state.tokens.load(Ordering::SeqCst)
    }

    pub fn stop(&self) {
        self.task.abort();
    }
}

fn acceptor(certificate: &Path) -> TlsAcceptor {
    let pem = std::fs::read(certificate).expect("a file");
    let identity = Identity::read(("issuer", &pem), ("issuer", &pem), None).expect("an identity");
    let config = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(identity.chain, identity.key)
        .expect("a certificate");
    TlsAcceptor::from(Arc::new(config))
}

async fn accept(listener: TcpListener, acceptor: Option<TlsAcceptor>, state: Arc<State>) {
    loop {
        let (stream, _) = listener.accept().await.expect("a connection");
        let (acceptor, state) = (acceptor.clone(), Arc::clone(&state));
        tokio::spawn(async move {
            // A client that does not trust the certificate goes.
            let _ = answer(stream, acceptor, &state).await;
        });
    }
}

async fn answer(stream: TcpStream, acceptor: Option<TlsAcceptor>, state: &State) -> std::io::Result<()> {
    let stream = match acceptor {
        Some(acceptor) => Stream::tls(acceptor.accept(stream).await?),
        None => Stream::Plain(stream),
    };
    let (mut reading, mut writing) = stream.into_split();
    let mut bytes = Vec::new();
    while !bytes.windows(4).any(|end| end == b"\r\n\r\n") {
        if reading.read_buf(&mut bytes).await? == 0 {
            return Ok(());
        }
    }
    let (status, body) = respond(&String::from_utf8_lossy(&bytes), state);
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    writing.write_all(head.as_bytes()).await?;
    writing.write_all(body.as_bytes()).await?;
    writing.shutdown().await
}

fn respond(head: &str, state: &State) -> (&'static str, String) {
    let hiccup = |count: u64| count.checked_sub(1);
    let hiccups = head.starts_with("POST /token")
        && head.contains(&proof())
        && state.hiccups.fetch_update(Ordering::SeqCst, Ordering::SeqCst, hiccup).is_ok();
    if hiccups || state.failing.load(Ordering::SeqCst) {
        return ("503 Service Unavailable", "{}".to_owned());
    }
    match head.split_whitespace().nth(1) {
        Some("/keys") => ("200 OK", state.keys.lock().expect("a lock").clone()),
        Some("/token") if head.contains(&proof()) => {
            state.tokens.fetch_add(1, Ordering::SeqCst);
            let seconds = state.lasting.load(Ordering::SeqCst);
            let body = json!({ "access_token": state.signing.token(seconds), "expires_in": seconds });
            ("200 OK", body.to_string())
        }
        Some("/token") => ("401 Unauthorized", json!({ "error": "invalid_client" }).to_string()),
        _ => ("404 Not Found", "{}".to_owned()),
    }
}

/// RFC 6749: both parts are encoded as a form is.
fn proof() -> String {
    format!("Basic {}", BASE64_STANDARD.encode("billing:se+cret"))
}
