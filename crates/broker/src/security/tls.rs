//! TLS of one listener: its certificate, the authorities of its clients, and both anew when their files change.
//!
//! Invariant: a change that cannot be used leaves what is in use as it is.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use headwater_security::rustls::ServerConfig;
use headwater_security::rustls::server::WebPkiClientVerifier;
use headwater_security::{Identity, PemError, Secret, TlsAcceptor, provider, rustls, trust};
use thiserror::Error;

use super::config::SecurityConfig;
use super::watched::Watched;

#[derive(Debug, Error)]
pub enum TlsError {
    #[error(
        "listener {listener} speaks TLS and has no certificate: name a PEM file with its key and chain by ssl.keystore.location"
    )]
    NoIdentity { listener: String },
    #[error("{key}={value} is not legal: use {legal}")]
    Illegal { key: &'static str, value: String, legal: &'static str },
    #[error(
        "ssl.client.auth={0} needs the authorities that sign the clients' certificates: name a PEM file by ssl.truststore.location"
    )]
    NoAuthorities(String),
    #[error("{key}={} cannot be read: {source}; name a file that is there and that the broker may read", .path.display())]
    File { key: &'static str, path: PathBuf, source: io::Error },
    #[error(transparent)]
    Pem(#[from] PemError),
    #[error("the certificate and the key of listener {listener} cannot be used: {reason}")]
    Unusable { listener: String, reason: String },
}

/// Whether clients show a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ClientAuth {
    None,
    Requested,
    Required,
}

pub struct Tls {
    listener: String,
    current: RwLock<Arc<ServerConfig>>,
    watched: Mutex<Watched>,
}

impl Tls {
    pub fn load(listener: &str, config: &SecurityConfig) -> Result<Self, TlsError> {
        let (loaded, watched) = load(listener, config)?;
        Ok(Self {
            listener: listener.to_owned(),
            current: RwLock::new(Arc::new(loaded)),
            watched: Mutex::new(watched),
        })
    }

    pub fn acceptor(&self) -> TlsAcceptor {
        TlsAcceptor::from(Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner)))
    }

    /// Takes changed files into use; connections that are open stay as they are.
    pub fn reload(&self, config: &SecurityConfig) {
        let mut watched = self.watched.lock().unwrap_or_else(PoisonError::into_inner);
        if !watched.has_changed() {
            return;
        }
        match load(&self.listener, config) {
            Ok((loaded, now)) => {
                *self.current.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(loaded);
                *watched = now;
                tracing::info!(listener = self.listener, "certificates were read again");
            }
            Err(error) => {
                watched.accept();
                tracing::error!(listener = self.listener, %error, "changed certificates cannot be used; those before stay in use");
            }
        }
    }
}

/// A value that is given inline, or by a file.
fn read(
    watched: &mut Watched,
    inline: (&'static str, Option<&str>),
    location: (&'static str, Option<&str>),
) -> Result<Option<(String, Vec<u8>)>, TlsError> {
    if let (key, Some(text)) = inline {
        // A properties file has no lines within a value.
        return Ok(Some((key.to_owned(), text.replace("\\n", "\n").into_bytes())));
    }
    let (key, Some(path)) = (location.0, location.1.map(Path::new)) else { return Ok(None) };
    let bytes = watched.read(path).map_err(|source| TlsError::File { key, path: path.to_owned(), source })?;
    Ok(Some((path.display().to_string(), bytes)))
}

/// What stores may be.
const STORES: &str = "PEM or PKCS12 (`keytool -importkeystore -srckeystore FILE.jks -destkeystore FILE.p12 -deststoretype PKCS12` converts a JKS keystore)";

fn known_form(key: &'static str, value: Option<&str>) -> Result<(), TlsError> {
    match value {
        None | Some("PEM" | "PKCS12") => Ok(()),
        Some(other) => Err(TlsError::Illegal { key, value: other.to_owned(), legal: STORES }),
    }
}

fn load(listener: &str, config: &SecurityConfig) -> Result<(ServerConfig, Watched), TlsError> {
    let of = |key| config.of_listener(listener, key);
    known_form("ssl.keystore.type", of("ssl.keystore.type"))?;
    known_form("ssl.truststore.type", of("ssl.truststore.type"))?;
    let mut watched = Watched::default();
    let location = ("ssl.keystore.location", of("ssl.keystore.location"));
    let inline = |key: &'static str| (key, of(key));
    let chain = read(&mut watched, inline("ssl.keystore.certificate.chain"), location)?;
    let key = read(&mut watched, inline("ssl.keystore.key"), location)?;
    let (Some(chain), Some(key)) = (chain, key) else {
        return Err(TlsError::NoIdentity { listener: listener.to_owned() });
    };
    let password = |key| of(key).map(Secret::new);
    let own = password("ssl.keystore.password").or_else(|| password("ssl.key.password"));
    let identity = Identity::read((&chain.0, &chain.1), (&key.0, &key.1), own.as_ref())?;
    let unusable = |reason: String| TlsError::Unusable { listener: listener.to_owned(), reason };
    let builder = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(|error| unusable(error.to_string()))?;
    let builder = match client_auth(of("ssl.client.auth"))? {
        ClientAuth::None => builder.with_no_client_auth(),
        wanted => {
            let inline = inline("ssl.truststore.certificates");
            let authorities =
                read(&mut watched, inline, ("ssl.truststore.location", of("ssl.truststore.location")))?;
            let (what, bytes) =
                authorities.ok_or_else(|| TlsError::NoAuthorities(format!("{wanted:?}").to_lowercase()))?;
            let verifier = WebPkiClientVerifier::builder_with_provider(
                trust(&what, &bytes, password("ssl.truststore.password").as_ref())?,
                provider(),
            );
            let verifier =
                if wanted == ClientAuth::Requested { verifier.allow_unauthenticated() } else { verifier };
            builder.with_client_cert_verifier(verifier.build().map_err(|error| unusable(error.to_string()))?)
        }
    };
    let loaded = builder.with_single_cert(identity.chain, identity.key);
    Ok((loaded.map_err(|error: rustls::Error| unusable(error.to_string()))?, watched))
}

fn client_auth(value: Option<&str>) -> Result<ClientAuth, TlsError> {
    match value.unwrap_or("none") {
        "none" => Ok(ClientAuth::None),
        "requested" => Ok(ClientAuth::Requested),
        "required" => Ok(ClientAuth::Required),
        other => Err(TlsError::Illegal {
            key: "ssl.client.auth",
            value: other.to_owned(),
            legal: "none, requested or required",
        }),
    }
}
