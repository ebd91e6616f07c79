//! Certificates and keys in PEM, the only form that is read: Java's keystores are refused with the way out of them.

use std::sync::Arc;

use rustls::RootCertStore;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use thiserror::Error;

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
        "{0} is a Java keystore or PKCS#12 file, and PEM is what is read: convert it by `openssl pkcs12 -in FILE -nodes -out FILE.pem`, and set its type to PEM"
    )]
    Keystore(String),
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
    /// Reads both; `what` names the source of each in errors.
    ///
    /// # Errors
    /// [`PemError`] when either is missing or cannot be read.
    pub fn read(chain: (&str, &[u8]), key: (&str, &[u8])) -> Result<Self, PemError> {
        let (what, bytes) = key;
        let encrypted = b"ENCRYPTED PRIVATE KEY";
        if bytes.windows(encrypted.len()).any(|window| window == encrypted) {
            return Err(PemError::Encrypted(what.to_owned()));
        }
        let key = PrivateKeyDer::from_pem_slice(bytes).map_err(|error| match error {
            pem::Error::NoItemsFound => absent(what, bytes, PemError::NoKey),
            error => PemError::Malformed { what: what.to_owned(), reason: error.to_string() },
        })?;
        Ok(Self { chain: certificates(chain.0, chain.1)?, key })
    }
}

fn absent(what: &str, bytes: &[u8], otherwise: fn(String) -> PemError) -> PemError {
    // JKS has a magic number; PKCS#12 is a DER sequence.
    let is_keystore = bytes.starts_with(&[0xfe, 0xed, 0xfe, 0xed]) || bytes.first() == Some(&0x30);
    if is_keystore { PemError::Keystore(what.to_owned()) } else { otherwise(what.to_owned()) }
}

fn certificates(what: &str, bytes: &[u8]) -> Result<Certificates, PemError> {
    let all: Result<Certificates, pem::Error> = CertificateDer::pem_slice_iter(bytes).collect();
    let all =
        all.map_err(|error| PemError::Malformed { what: what.to_owned(), reason: error.to_string() })?;
    if all.is_empty() { Err(absent(what, bytes, PemError::NoCertificate)) } else { Ok(all) }
}

/// The authorities of a PEM file.
///
/// # Errors
/// [`PemError`] when there are none, or one that cannot be used.
pub fn trust(what: &str, bytes: &[u8]) -> Result<Arc<RootCertStore>, PemError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(what, bytes)? {
        roots.add(certificate).map_err(|reason| PemError::Untrustworthy { what: what.to_owned(), reason })?;
    }
    Ok(Arc::new(roots))
}
