//! Java's keystores in the form that keytool makes since Java 9: PKCS#12 (RFC 7292).

use p12_keystore::{KeyStore, Pkcs12Archive, Pkcs12ImportPolicy};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};

use crate::Secret;
use crate::pem::{Certificates, Identity, PemError};

/// What a file is by its first bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    Pem,
    Pkcs12,
    /// Sun's own, which only Java reads.
    Jks,
}

impl Form {
    pub fn of(bytes: &[u8]) -> Self {
        // JKS and JCEKS have magic numbers; PKCS#12 is a DER sequence.
        match bytes {
            [0xfe, 0xed, 0xfe, 0xed, ..] | [0xce, 0xce, 0xce, 0xce, ..] => Self::Jks,
            [0x30, ..] => Self::Pkcs12,
            _ => Self::Pem,
        }
    }
}

fn opened<T>(
    what: &str,
    password: Option<&Secret>,
    open: impl FnOnce(&str) -> Result<T, p12_keystore::error::Error>,
) -> Result<T, PemError> {
    let password = password.ok_or_else(|| PemError::NoPassword(what.to_owned()))?;
    open(password.reveal())
        .map_err(|error| PemError::Keystore { what: what.to_owned(), reason: error.to_string() })
}

/// The only key of a keystore, with its chain.
pub fn identity(what: &str, bytes: &[u8], password: Option<&Secret>) -> Result<Identity, PemError> {
    let read = |password: &str| KeyStore::from_pkcs12(bytes, password, Pkcs12ImportPolicy::Strict);
    let store = opened(what, password, read)?;
    let (_, found) = store.private_key_chain().ok_or_else(|| PemError::NoKey(what.to_owned()))?;
    let certificate = |one: &p12_keystore::Certificate| CertificateDer::from(one.as_der().to_vec());
    Ok(Identity {
        chain: found.certs().iter().map(certificate).collect(),
        key: PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(found.key().as_der().to_vec())),
    })
}

/// All certificates of a truststore, whoever made it.
pub fn certificates(what: &str, bytes: &[u8], password: Option<&Secret>) -> Result<Certificates, PemError> {
    let archive = opened(what, password, |password| Pkcs12Archive::from_pkcs12(bytes, password))?;
    let all: Certificates =
        archive.certs.iter().map(|bag| CertificateDer::from(bag.cert.as_der().to_vec())).collect();
    if all.is_empty() { Err(PemError::NoCertificate(what.to_owned())) } else { Ok(all) }
}
