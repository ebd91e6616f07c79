//! The same node with what a guarded cluster has: TLS, every SASL mechanism, client certificates, and the authorizer.
//!
//! Beside the node's settings stand the files that a client needs, one `NAME.properties` for each way in. All come as
//! `tester`, who may do everything; others may do nothing. For tests: the keys of everything are in the directory.

use std::fs;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType, IsCa, KeyPair};
use serde_json::json;

/// Each way in, as its file is called.
pub const WAYS: [&str; 4] = ["scram", "plain", "certificate", "token"];
const USER: &str = "tester";
const PASSWORD: &str = "tester's own";
/// How long the token is good.
const TOKEN_LASTS: Duration = Duration::from_secs(24 * 3600);

/// What the storage tool is told beside the usual: the user comes by SCRAM before anybody could make it.
pub fn format_arguments() -> Vec<String> {
    ["SCRAM-SHA-256", "SCRAM-SHA-512"]
        .iter()
        .flat_map(|mechanism| {
            ["--add-scram".to_owned(), format!("{mechanism}=[name={USER},password={PASSWORD}]")]
        })
        .collect()
}

/// What the node's Java machine is told: where keys for tokens may come from.
pub fn jvm(dir: &Path) -> String {
    format!("-Dorg.apache.kafka.sasl.oauthbearer.allowed.urls={}", keys_url(dir))
}

fn keys_url(dir: &Path) -> String {
    format!("file://{}", dir.join("keys.json").display())
}

/// Writes certificates, keys and the clients' files; returns the settings that go before the common ones.
pub fn write(dir: &Path, port: u16, certified: u16) -> Result<String> {
    certificates(dir)?;
    token(dir)?;
    clients(dir, port, certified)?;
    let (path, keys) = (|name: &str| dir.join(name).display().to_string(), keys_url(dir));
    let sasl = "listener.name.sasl_ssl";
    let module = "org.apache.kafka.common.security";
    Ok(format!(
        "inter.broker.listener.name=INSIDE\n\
         sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-256,SCRAM-SHA-512,OAUTHBEARER\n\
         {sasl}.plain.sasl.jaas.config={module}.plain.PlainLoginModule required user_{USER}=\"{PASSWORD}\";\n\
         {sasl}.scram-sha-256.sasl.jaas.config={module}.scram.ScramLoginModule required;\n\
         {sasl}.scram-sha-512.sasl.jaas.config={module}.scram.ScramLoginModule required;\n\
         {sasl}.oauthbearer.sasl.jaas.config={module}.oauthbearer.OAuthBearerLoginModule required;\n\
         {sasl}.oauthbearer.sasl.server.callback.handler.class={module}.oauthbearer.OAuthBearerValidatorCallbackHandler\n\
         {sasl}.oauthbearer.sasl.oauthbearer.jwks.endpoint.url={keys}\n\
         {sasl}.oauthbearer.sasl.oauthbearer.expected.audience=kafka\n\
         sasl.oauthbearer.jwks.endpoint.url={keys}\n\
         sasl.oauthbearer.expected.audience=kafka\n\
         ssl.keystore.type=PEM\n\
         ssl.keystore.location={}\n\
         ssl.truststore.type=PEM\n\
         ssl.truststore.location={}\n\
         listener.name.ssl.ssl.client.auth=required\n\
         listener.name.ssl.ssl.principal.mapping.rules=RULE:^CN=(.*?),.*$/$1/,DEFAULT\n\
         authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer\n\
         super.users=User:ANONYMOUS;User:{USER}\n",
        path("server.pem"),
        path("ca.pem"),
    ))
}

fn named(name: &str) -> DistinguishedName {
    let mut named = DistinguishedName::new();
    named.push(DnType::OrganizationName, "Example");
    named.push(DnType::CommonName, name);
    named
}

/// An authority, and certificates of the node and of a client at 127.0.0.1.
pub fn certificates(dir: &Path) -> Result<()> {
    let mut params = CertificateParams::default();
    params.distinguished_name = named("company");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;
    fs::write(dir.join("ca.pem"), rcgen::Certificate::pem(issuer.as_ref()))?;
    for (file, name) in [("server.pem", "server"), ("client.pem", USER)] {
        let mut params = CertificateParams::new(vec!["127.0.0.1".to_owned()])?;
        params.distinguished_name = named(name);
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &*issuer)?;
        fs::write(dir.join(file), key.serialize_pem() + &certificate.pem())?;
    }
    Ok(())
}

/// A token of the user, and the set with the key that signed it.
fn token(dir: &Path) -> Result<()> {
    let key = KeyPair::generate()?;
    let point = key.public_key_raw();
    let text = |bytes: &[u8]| BASE64_URL_SAFE_NO_PAD.encode(bytes);
    let (x, y) = (text(&point[1..33]), text(&point[33..65]));
    let keys = json!({ "keys": [{ "kty": "EC", "crv": "P-256", "kid": "k1", "alg": "ES256", "use": "sig", "x": x, "y": y }] });
    fs::write(dir.join("keys.json"), keys.to_string())?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).context("a clock before 1970")?;
    let header = Header { kid: Some("k1".to_owned()), ..Header::new(Algorithm::ES256) };
    let claims =
        json!({ "sub": USER, "aud": "kafka", "iat": now.as_secs(), "exp": (now + TOKEN_LASTS).as_secs() });
    let signed = jsonwebtoken::encode(&header, &claims, &EncodingKey::from_ec_der(&key.serialize_der()))?;
    fs::write(dir.join("token"), signed)?;
    Ok(())
}

fn clients(dir: &Path, port: u16, certified: u16) -> Result<()> {
    let trust =
        format!("ssl.truststore.type=PEM\nssl.truststore.location={}\n", dir.join("ca.pem").display());
    let by_password = |mechanism: &str| {
        format!("sasl.mechanism={mechanism}\nsasl.username={USER}\nsasl.password={PASSWORD}\n")
    };
    for way in WAYS {
        let own = match way {
            "scram" => by_password("SCRAM-SHA-512"),
            "plain" => by_password("PLAIN"),
            "token" => format!(
                "sasl.mechanism=OAUTHBEARER\nsasl.oauthbearer.token.endpoint.url=file://{}\n",
                dir.join("token").display()
            ),
            _ => {
                format!("ssl.keystore.type=PEM\nssl.keystore.location={}\n", dir.join("client.pem").display())
            }
        };
        let (protocol, port) = if way == "certificate" { ("SSL", certified) } else { ("SASL_SSL", port) };
        let text = format!("bootstrap.servers=127.0.0.1:{port}\nsecurity.protocol={protocol}\n{trust}{own}");
        fs::write(dir.join(format!("{way}.properties")), text)?;
    }
    Ok(())
}
