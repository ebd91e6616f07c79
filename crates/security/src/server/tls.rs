//! TLS of one listener: its certificate, the authorities of its clients, and both anew when their files change.
//!
//! Invariant: a change that cannot be used leaves what is in use as it is.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use thiserror::Error;
use tokio_rustls::TlsAcceptor;

use super::watched::Watched;
use crate::{Identity, PemError, Secret, provider, trust};

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

/// The value of a key for one listener.
type Of<'a> = &'a dyn Fn(&str) -> Option<&'a str>;

/// Whether clients show a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientAuth {
    None,
    Requested,
    Required,
}

pub struct ServerTls {
    listener: String,
    current: RwLock<Arc<ServerConfig>>,
    watched: Mutex<Watched>,
}

impl ServerTls {
    /// By Kafka's keys, whose values `of` gives for the listener.
    ///
    /// # Errors
    /// What is missing, cannot be read or cannot be used.
    pub fn load(listener: &str, of: Of<'_>) -> Result<Self, TlsError> {
        let (loaded, watched) = load(listener, of)?;
        Ok(Self {
            listener: listener.to_owned(),
            current: RwLock::new(Arc::new(loaded)),
            watched: Mutex::new(watched),
        })
    }

    pub fn acceptor(&self) -> TlsAcceptor {
        TlsAcceptor::from(Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner)))
    }

    /// Takes changed files into use; connections that are open stay as they are. Whether there were any.
    pub fn reload(&self, of: Of<'_>) -> bool {
        let mut watched = self.watched.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(changed) = watched.changed() else { return false };
        match load(&self.listener, of) {
            Ok((loaded, now)) => {
                *self.current.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(loaded);
                *watched = now;
                tracing::info!(listener = self.listener, "certificates were read again");
                true
            }
            Err(error) => {
                *watched = changed;
                tracing::error!(listener = self.listener, %error, "changed certificates cannot be used; those before stay in use");
                false
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

/// Who the listener is: its chain and key.
///
/// # Errors
/// What is missing, cannot be read or cannot be used.
pub fn identity(listener: &str, of: Of<'_>, watched: &mut Watched) -> Result<Identity, TlsError> {
    known_form("ssl.keystore.type", of("ssl.keystore.type"))?;
    let location = ("ssl.keystore.location", of("ssl.keystore.location"));
    let inline = |key: &'static str| (key, of(key));
    let chain = read(watched, inline("ssl.keystore.certificate.chain"), location)?;
    let key = read(watched, inline("ssl.keystore.key"), location)?;
    let (Some(chain), Some(key)) = (chain, key) else {
        return Err(TlsError::NoIdentity { listener: listener.to_owned() });
    };
    let password = of("ssl.keystore.password").or_else(|| of("ssl.key.password")).map(Secret::new);
    Ok(Identity::read((&chain.0, &chain.1), (&key.0, &key.1), password.as_ref())?)
}

/// Whom the listener trusts; `None` if no truststore is named.
///
/// # Errors
/// What cannot be read or cannot be used.
pub fn authorities(of: Of<'_>, watched: &mut Watched) -> Result<Option<Arc<RootCertStore>>, TlsError> {
    let key = "ssl.truststore.certificates";
    let location = ("ssl.truststore.location", of("ssl.truststore.location"));
    let read = read(watched, (key, of(key)), location)?;
    let Some((what, bytes)) = read else { return Ok(None) };
    let password = of("ssl.truststore.password").map(Secret::new);
    Ok(Some(trust(&what, &bytes, password.as_ref())?))
}

fn load(listener: &str, of: Of<'_>) -> Result<(ServerConfig, Watched), TlsError> {
    known_form("ssl.truststore.type", of("ssl.truststore.type"))?;
    let mut watched = Watched::default();
    let identity = identity(listener, of, &mut watched)?;
    let unusable = |reason: String| TlsError::Unusable { listener: listener.to_owned(), reason };
    let builder = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(|error| unusable(error.to_string()))?;
    let builder = match client_auth(of("ssl.client.auth"))? {
        ClientAuth::None => builder.with_no_client_auth(),
        wanted => {
            let authorities = authorities(of, &mut watched)?;
            let authorities =
                authorities.ok_or_else(|| TlsError::NoAuthorities(format!("{wanted:?}").to_lowercase()))?;
            let verifier = WebPkiClientVerifier::builder_with_provider(authorities, provider());
            let verifier =
                if wanted == ClientAuth::Requested { verifier.allow_unauthenticated() } else { verifier };
            builder.with_client_cert_verifier(verifier.build().map_err(|error| unusable(error.to_string()))?)
        }
    };
    let loaded = builder.with_single_cert(identity.chain, identity.key);
    Ok((loaded.map_err(|error: rustls::Error| unusable(error.to_string()))?, watched))
}

/// `ssl.client.auth`
///
/// # Errors
/// What is none of Kafka's words.
pub fn client_auth(value: Option<&str>) -> Result<ClientAuth, TlsError> {
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
