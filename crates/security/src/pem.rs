//! Certificates and keys: PEM, and PKCS#12 by its password. Java's old keystores are refused with the way out of them.

use std::sync::Arc;

use rustls::RootCertStore;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use thiserror::Error;

use crate::Secret;
use crate::keystore::{self, Form};

pub type Certificates = Vec<CertificateDer<'static>>;

#[derive(Debug, Error)]
pub enum PemError {
    #[error("{0} holds no certificate in PEM")]
    NoCertificate(String),
    #[error("{0} holds no private key in PEM (PKCS#8, PKCS#1 or SEC1)")]
    NoKey(String),
    #[error(
        "{0} holds a private key with a password, which is not read: decrypt it by `openssl pkcs8 -in KEY -out PLAIN` and give the file to this user only"
    )]
    Encrypted(String),
    #[error(
        "{0} is a keystore in Java's old format JKS, which only Java reads: convert it by `keytool -importkeystore -srckeystore {0} -destkeystore {0}.p12 -deststoretype PKCS12`, and name the new file"
    )]
    Jks(String),
    #[error(
        "{0} is a PKCS#12 keystore and needs its password: set ssl.keystore.password, for a truststore ssl.truststore.password"
    )]
    NoPassword(String),
    #[error("{what} cannot be opened as a PKCS#12 keystore: {reason}; is its password right?")]
    Keystore { what: String, reason: String },
    #[error("{what} is not PEM: {reason}")]
    Malformed { what: String, reason: String },
    #[error("a certificate of {what} cannot be trusted: {reason}")]
    Untrustworthy { what: String, reason: rustls::Error },
}

/// The one provider of cryptography.
pub fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

/// Who one is: a chain, its own certificate first, and the key to it.
#[derive(Debug)]
pub struct Identity {
    pub chain: Certificates,
    pub key: PrivateKeyDer<'static>,
}

impl Identity {
    /// Reads both; `what` names the source of each in errors, and the password is that of a keystore.
    ///
    /// # Errors
    /// [`PemError`] when either is missing or cannot be read.
    pub fn read(
        chain: (&str, &[u8]),
        key: (&str, &[u8]),
        password: Option<&Secret>,
    ) -> Result<Self, PemError> {
        let (what, bytes) = key;
        match Form::of(bytes) {
            Form::Jks => return Err(PemError::Jks(what.to_owned())),
            Form::Pkcs12 => return keystore::identity(what, bytes, password),
            Form::Pem => {}
        }
        let encrypted = b"ENCRYPTED PRIVATE KEY";
        if bytes.windows(encrypted.len()).any(|window| window == encrypted) {
            return Err(PemError::Encrypted(what.to_owned()));
        }
        let key = PrivateKeyDer::from_pem_slice(bytes).map_err(|error| match error {
            pem::Error::NoItemsFound => PemError::NoKey(what.to_owned()),
            error => PemError::Malformed { what: what.to_owned(), reason: error.to_string() },
        })?;
        Ok(Self { chain: trusted(chain.0, chain.1, password)?, key })
    }
}

/// The certificates of a PEM file, or of a keystore by its password.
///
/// # Errors
/// [`PemError`] when there are none.
pub fn trusted(what: &str, bytes: &[u8], password: Option<&Secret>) -> Result<Certificates, PemError> {
    match Form::of(bytes) {
        Form::Jks => return Err(PemError::Jks(what.to_owned())),
        Form::Pkcs12 => return keystore::certificates(what, bytes, password),
        Form::Pem => {}
    }
    let all: Result<Certificates, pem::Error> = CertificateDer::pem_slice_iter(bytes).collect();
    let all =
        all.map_err(|error| PemError::Malformed { what: what.to_owned(), reason: error.to_string() })?;
    if all.is_empty() { Err(PemError::NoCertificate(what.to_owned())) } else { Ok(all) }
}

/// The authorities of a PEM file, or of a keystore by its password.
///
/// # Errors
/// [`PemError`] when there are none, or one that cannot be used.
pub fn trust(what: &str, bytes: &[u8], password: Option<&Secret>) -> Result<Arc<RootCertStore>, PemError> {
    let mut roots = RootCertStore::empty();
    for certificate in trusted(what, bytes, password)? {
        roots.add(certificate).map_err(|reason| PemError::Untrustworthy { what: what.to_owned(), reason })?;
    }
    Ok(Arc::new(roots))
}
