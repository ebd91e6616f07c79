//! An issuer of tokens on this machine: its keys at `/keys`, and at `/token` a token for who knows the secret.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
use rcgen::KeyPair;
use serde_json::{Value, json};

pub struct Issuer {
    pub url: String,
}

impl Issuer {
    /// It serves until the process ends.
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let key = KeyPair::generate().expect("a key");
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                // A client that has gone asks no more.
                let _ = answer(stream.expect("a connection"), &key);
            }
        });
        Self { url }
    }
}

fn answer(mut stream: TcpStream, key: &KeyPair) -> std::io::Result<()> {
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    let head = head(&mut stream)?;
    let (status, body) = match head.split_whitespace().nth(1) {
        Some("/keys") => ("200 OK", keys(key)),
        Some("/token") if is_known(&head) => {
            ("200 OK", json!({ "access_token": token(key), "token_type": "Bearer", "expires_in": 600 }))
        }
        Some("/token") => ("401 Unauthorized", json!({ "error": "invalid_client" })),
        _ => ("404 Not Found", json!({})),
    };
    let body = body.to_string();
    let length = body.len();
    write!(
        stream,
        "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    )
}

fn head(stream: &mut TcpStream) -> std::io::Result<String> {
    let mut bytes = Vec::new();
    while !bytes.windows(4).any(|end| end == b"\r\n\r\n") {
        let mut part = [0; 1024];
        let count = stream.read(&mut part)?;
        if count == 0 {
            break;
        }
        bytes.extend_from_slice(&part[..count]);
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// RFC 6749 encodes both parts as a form, which Java's client does not.
fn is_known(head: &str) -> bool {
    let proofs = ["billing:se cret", "billing:se+cret"].map(|proof| BASE64_STANDARD.encode(proof));
    proofs.iter().any(|proof| head.contains(&format!("Basic {proof}")))
}

fn keys(key: &KeyPair) -> Value {
    let point = key.public_key_raw();
    let text = |bytes: &[u8]| BASE64_URL_SAFE_NO_PAD.encode(bytes);
    let (x, y) = (text(&point[1..33]), text(&point[33..65]));
    json!({ "keys": [{ "kty": "EC", "crv": "P-256", "kid": "k1", "alg": "ES256", "use": "sig", "x": x, "y": y }] })
}

fn token(key: &KeyPair) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs();
    let header = jsonwebtoken::Header {
        kid: Some("k1".to_owned()),
        ..jsonwebtoken::Header::new(jsonwebtoken::Algorithm::ES256)
    };
    let claims = json!({ "sub": "billing", "aud": "kafka", "iat": now, "exp": now + 600 });
    let key = jsonwebtoken::EncodingKey::from_ec_der(&key.serialize_der());
    jsonwebtoken::encode(&header, &claims, &key).expect("a token")
}
