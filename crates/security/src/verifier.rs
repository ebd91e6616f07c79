//! Trust in the certificate of a server that is asked.

use std::fmt;
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};

use crate::pem::provider;

type Further = Box<dyn Fn(&CertificateDer<'_>) -> Result<(), Error> + Send + Sync>;

/// What any client checks, or that without the name, and whatever else somebody asks of a certificate.
pub struct ServerVerifier {
    known: Arc<WebPkiServerVerifier>,
    /// `ssl.endpoint.identification.algorithm` is nothing.
    any_name: bool,
    further: Option<Further>,
}

impl fmt::Debug for ServerVerifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerVerifier").field("any_name", &self.any_name).finish_non_exhaustive()
    }
}

impl ServerVerifier {
    /// # Errors
    /// Why these authorities cannot be used.
    pub fn new(roots: Arc<RootCertStore>, any_name: bool) -> Result<Self, String> {
        let known = WebPkiServerVerifier::builder_with_provider(roots, provider()).build();
        Ok(Self { known: known.map_err(|error| error.to_string())?, any_name, further: None })
    }

    /// Asks this, too, of a certificate that is trusted.
    #[must_use]
    pub fn and(
        self,
        further: impl Fn(&CertificateDer<'_>) -> Result<(), Error> + Send + Sync + 'static,
    ) -> Self {
        Self { further: Some(Box::new(further)), ..self }
    }
}

impl ServerCertVerifier for ServerVerifier {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        match self.known.verify_server_cert(certificate, intermediates, name, ocsp, now) {
            Err(Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) if self.any_name => {}
            other => {
                other?;
            }
        }
        if let Some(further) = &self.further {
            further(certificate)?;
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.known.verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.known.verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.known.supported_verify_schemes()
    }
}
