//! What instances are asked by: plain HTTP, or TLS by which both sides say who they are.
//!
//! Over TLS an instance shows the others the certificate that it has as a server. It takes an answer only from one whose
//! certificate is of an authority it trusts, for the name that was asked, and of a principal that is an instance.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use headwater_client::{HttpSecurity, Proof};
use headwater_model::Principal;
use headwater_security::rustls::pki_types::CertificateDer;
use headwater_security::rustls::{ClientConfig, Error};
use headwater_security::server::{Mapping, Watched, authorities, identity};
use headwater_security::{ServerVerifier, provider};
use reqwest::{ClientBuilder, RequestBuilder, Url};

use super::allowed::Allowed;
use super::door::{LISTENER, instances};
use super::settings::{HttpAccess, HttpAccessError, RULES};

/// An instance that does not take a connection within this time counts as away.
const CONNECT: Duration = Duration::from_secs(1);
/// Shorter than an instance keeps a connection by which nothing is asked.
const IDLE: Duration = Duration::from_secs(5);

/// Asks instances; at the address itself, and at nothing that it points to.
pub(crate) struct Asker {
    scheme: &'static str,
    client: RwLock<Result<reqwest::Client, String>>,
    /// What a program that is no instance proves itself by.
    proof: HttpSecurity,
}

fn plain() -> ClientBuilder {
    let builder = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).no_proxy();
    builder.connect_timeout(CONNECT).pool_idle_timeout(IDLE)
}

impl Asker {
    fn new(scheme: &'static str, client: Result<reqwest::Client, String>, proof: HttpSecurity) -> Self {
        Self { scheme, client: RwLock::new(client), proof }
    }

    /// As an instance asks.
    pub fn instance(access: &HttpAccess) -> Result<Self, HttpAccessError> {
        let scheme = if access.has_tls() { "https" } else { "http" };
        Ok(Self::new(scheme, made(access)?, HttpSecurity::default()))
    }

    /// As a program asks that is no instance.
    pub fn program(security: &HttpSecurity) -> Self {
        let client = security.over(plain()).build().map_err(|error| error.to_string());
        Self::new(if security.has_tls() { "https" } else { "http" }, client, security.clone())
    }

    /// Takes changed certificates into use.
    pub fn renew(&self, access: &HttpAccess) {
        match made(access) {
            Ok(client) => *self.client.write().unwrap_or_else(PoisonError::into_inner) = client,
            Err(error) => {
                tracing::error!(%error, "changed certificates cannot be used to ask other instances; those before stay in use");
            }
        }
    }

    /// A question to `host:port`, or to a URL of it.
    pub async fn post(&self, host: &str, path: &str) -> Result<RequestBuilder, String> {
        let (scheme, host) = host.split_once("://").unwrap_or((self.scheme, host));
        let url = Url::parse(&format!("{scheme}://{host}{path}")).ok();
        let url = url.filter(|url| is_address(url, host, path)).ok_or("that is no host:port")?;
        let client = self.client.read().unwrap_or_else(PoisonError::into_inner).clone()?;
        let request = client.post(url.clone());
        Ok(match self.proof.proof(&url).await.map_err(|error| error.to_string())? {
            Some(Proof::Basic { user, password }) => request.basic_auth(user, Some(password.reveal())),
            Some(Proof::Bearer(token)) => request.bearer_auth(token.reveal()),
            None => request,
        })
    }
}

/// What is part of a URL comes from others: it names a place, and nothing at it.
fn is_address(url: &Url, host: &str, path: &str) -> bool {
    let bare = url.path() == path && url.query().is_none() && url.fragment().is_none();
    let anonymous = url.username().is_empty() && url.password().is_none();
    matches!(url.scheme(), "http" | "https") && bare && anonymous && !host.contains('/')
}

/// A client of HTTP as the settings say; inside, why none of the others can be asked.
fn made(access: &HttpAccess) -> Result<Result<reqwest::Client, String>, HttpAccessError> {
    let unusable = |reason: String| HttpAccessError::Client { origin: access.origin(), reason };
    if !access.has_tls() {
        return plain().build().map(Ok).map_err(|error| unusable(error.to_string()));
    }
    let of = |key: &str| access.of(key);
    let told = |source| HttpAccessError::Tls { origin: access.origin(), source };
    let mut files = Watched::default();
    let own = identity(LISTENER, &of, &mut files).map_err(told)?;
    let Some(roots) = authorities(&of, &mut files).map_err(told)? else {
        let missing = "ssl.truststore.location is not set, so no other instance can be believed";
        return Ok(Err(format!("{}: {missing}", access.origin())));
    };
    let mapping = Mapping::parse(of(RULES).unwrap_or_default())
        .map_err(|source| HttpAccessError::Mapping { origin: access.origin(), source })?;
    let known = ServerVerifier::new(roots, access.takes_any_name()?).map_err(unusable)?;
    let verifier = match instances(access, &mapping)? {
        Some(allowed) => known.and(move |certificate| is_an_instance(certificate, &mapping, &allowed)),
        // Nobody is asked for a certificate.
        None => known,
    };
    let tls = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(|error| unusable(error.to_string()))?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_client_auth_cert(own.chain, own.key)
        .map_err(|error| unusable(error.to_string()))?;
    let client = plain().https_only(true).tls_backend_preconfigured(tls).build();
    client.map(Ok).map_err(|error| unusable(error.to_string()))
}

/// Whether a trusted certificate names one of them.
fn is_an_instance(
    certificate: &CertificateDer<'_>,
    mapping: &Mapping,
    allowed: &Allowed,
) -> Result<(), Error> {
    let principal = mapping.named(certificate).map(Principal::user).unwrap_or_default();
    if allowed.includes(&principal) {
        return Ok(());
    }
    Err(Error::General(format!(
        "its certificate is of {principal}, which is no instance of this application (headwater.http.instances)"
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_address_is_a_host_and_a_port() {
        let asker = Asker::instance(&HttpAccess::default()).unwrap();
        for address in ["127.0.0.1:7071", "service-3.internal:80", "[::1]:7071", "https://service:7071"] {
            assert!(asker.post(address, "/query").await.is_ok(), "{address}");
        }
        let others =
            ["", "a/b", "a:1/", "a:1?x", "a:1#x", "user@a:1", "a b:1", "ftp://a:1", "http://http://a"];
        for other in others {
            assert!(asker.post(other, "/query").await.is_err(), "{other}");
        }
    }
}
