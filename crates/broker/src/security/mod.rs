//! Who may come in: listeners with TLS and SASL, and what they know of users.
//!
//! Owns the way from an accepted socket to a principal. Refuses decisions about what a principal may do.
//!
//! Invariant: nothing but ApiVersions and authentication is served on a SASL listener before the client has
//! proved who it is.

mod advice;
mod config;
mod credentials;
mod exchange;
mod listeners;
mod oauth;
mod session;

use std::sync::{Arc, Weak};
use std::time::Duration;

use headwater_model::Principal;
use headwater_security::server::{
    Derivations, Mapping, MappingError, ServerTls, TlsError, Users, UsersError, credential, subject,
};
pub use headwater_security::server::{Stranger, Strangers, told};
use headwater_security::{
    Mechanism, ScramMechanism, Secret, SecretError, SecurityProtocol, Stream, random_bytes, random_text,
};
use thiserror::Error;
use tokio::net::TcpStream;

pub use advice::of_start as advice;
pub use config::SecurityConfig;
pub use credentials::{CredentialChange, Credentials};
pub use listeners::{INTERNAL, ListenerConfig, ListenerError, configured};
pub use session::{Denied, FAILED, Session};

use crate::advertised::Advertised;
use oauth::{OauthError, Tokens};

/// By which the parts of the broker's own process come in.
pub const INTERNAL_USER: &str = "headwater-node";
/// The type of their principal, which no client can get.
const NODE: &str = "Node";

/// Derivations of passwords at once.
const AT_ONCE: usize = 4;

/// What is told of the subject of a certificate.
const LONGEST_SUBJECT: usize = 200;

/// Who the parts of the broker's own process are: they may do everything.
pub fn node() -> Principal {
    Principal { kind: NODE.to_owned(), name: INTERNAL_USER.to_owned() }
}

pub fn is_node(principal: &Principal) -> bool {
    principal.kind == NODE
}

#[derive(Debug, Error)]
pub enum SecurityError {
    #[error(transparent)]
    Listener(#[from] ListenerError),
    #[error(transparent)]
    Tls(#[from] TlsError),
    #[error(transparent)]
    Mapping(#[from] MappingError),
    #[error(transparent)]
    Users(#[from] UsersError),
    #[error(transparent)]
    Oauth(#[from] OauthError),
    #[error("sasl.enabled.mechanisms: {0} is not one of PLAIN, SCRAM-SHA-256, SCRAM-SHA-512, OAUTHBEARER")]
    Mechanism(String),
    #[error(
        "PLAIN on listener {0}, which has no TLS, would send passwords in the clear: use SASL_SSL or SCRAM, or set headwater.sasl.plain.insecure=true"
    )]
    PlainInTheClear(String),
    #[error(
        "headwater.http.security.protocol={0} is not legal: use PLAINTEXT, SSL, SASL_PLAINTEXT or SASL_SSL"
    )]
    HttpProtocol(String),
    #[error(
        "the HTTP address {address} can be reached from other machines and {lacks}: set headwater.http.security.protocol=SASL_SSL with ssl.keystore.location and users (or SSL with ssl.client.auth=required), serve it on 127.0.0.1 (--http 127.0.0.1:8081), or say --insecure if everybody on that network may read and change everything"
    )]
    OpenHttp { address: String, lacks: &'static str },
    #[error(transparent)]
    Random(#[from] SecretError),
}

/// The user that the broker's own process comes as; the password is known to nobody else.
#[derive(Debug, Clone)]
pub struct InternalUser {
    pub name: &'static str,
    pub password: Secret,
}

/// The parts of the process come by few connections, and prove at once who they are.
const INTERNAL_STRANGERS: usize = 64;

/// What all listeners know of users.
pub struct Authority {
    pub config: SecurityConfig,
    pub users: Users,
    pub credentials: Arc<Credentials>,
    pub tokens: Tokens,
    internal: Credentials,
    /// From which the credentials of users that do not exist are made up.
    secret: [u8; 32],
    pub derivations: Derivations,
    /// One place for each client that has not said who it is.
    pub strangers: Arc<Strangers>,
    /// Apart from them, at the listener for this process.
    pub internal_strangers: Arc<Strangers>,
}

impl Authority {
    pub fn new(config: &SecurityConfig, credentials: Arc<Credentials>) -> Result<Self, SecurityError> {
        Ok(Self {
            config: config.clone(),
            users: Users::load(config.text("headwater.sasl.users.file"))?,
            credentials,
            tokens: Tokens::load(config)?,
            internal: Credentials::default(),
            secret: random_bytes()?,
            derivations: Derivations::new(AT_ONCE),
            strangers: Arc::new(Strangers::new(config.max_unauthenticated)),
            internal_strangers: Arc::new(Strangers::new(INTERNAL_STRANGERS)),
        })
    }

    /// Makes the user that the process itself comes as.
    pub fn make_internal_user(&self) -> Result<InternalUser, SecurityError> {
        let password = random_text()?;
        let mechanism = ScramMechanism::Sha256;
        self.internal.put(INTERNAL_USER, mechanism, credential(mechanism, &password)?);
        Ok(InternalUser { name: INTERNAL_USER, password: Secret::new(password) })
    }
}

/// A listener as its connections see it.
pub struct Listener {
    pub name: String,
    pub protocol: SecurityProtocol,
    pub advertised: Advertised,
    /// Those it offers; none without SASL.
    pub mechanisms: Vec<Mechanism>,
    tls: Option<ServerTls>,
    mapping: Mapping,
}

impl Listener {
    pub fn new(
        config: &ListenerConfig,
        advertised: Advertised,
        authority: &Authority,
    ) -> Result<Self, SecurityError> {
        let security = &authority.config;
        let of = |key: &str| security.of_tls(&config.name, config.protocol, key);
        let tls = config.protocol.is_tls().then(|| ServerTls::load(&config.name, &of)).transpose()?;
        let rules = of("ssl.principal.mapping.rules");
        Ok(Self {
            name: config.name.clone(),
            protocol: config.protocol,
            advertised,
            mechanisms: mechanisms(config, authority)?,
            tls,
            mapping: Mapping::parse(rules.unwrap_or_default())?,
        })
    }

    /// Whether only this process can come in.
    pub fn is_internal(&self) -> bool {
        self.name == INTERNAL
    }

    /// Whether clients come as anonymous, and without any handshake.
    pub fn is_open(&self) -> bool {
        self.protocol == SecurityProtocol::Plaintext
    }

    /// Does the TLS handshake if there is one, and tells whom the client's certificate names.
    ///
    /// # Errors
    /// Those of the handshake, and [`std::io::ErrorKind::PermissionDenied`] for a certificate that no rule is about.
    pub async fn secure(&self, stream: TcpStream) -> std::io::Result<(Stream, Principal)> {
        let Some(tls) = &self.tls else { return Ok((Stream::Plain(stream), Principal::anonymous())) };
        let stream = tls.acceptor().accept(stream).await?;
        let certificate = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
        let principal = certificate.map(|certificate| self.named(certificate)).transpose()?;
        Ok((Stream::tls(stream), principal.unwrap_or_default()))
    }

    /// Whom a certificate names. As in Kafka, one that no rule is about lets nobody in, unless SASL says who a client is.
    fn named(&self, certificate: &[u8]) -> std::io::Result<Principal> {
        let subject = subject(certificate).unwrap_or_default();
        let name = self.mapping.name(&subject);
        if name.is_none() && !self.protocol.is_sasl() {
            let subject = told(&subject, LONGEST_SUBJECT);
            return Err(std::io::Error::new(
                std::io::ErrorKind::PermissionDenied,
                format!(
                    "no rule of ssl.principal.mapping.rules is about the client's certificate, '{subject}': add DEFAULT to let it in by its subject"
                ),
            ));
        }
        Ok(name.filter(|name| !name.is_empty()).map(Principal::user).unwrap_or_default())
    }
}

fn mechanisms(config: &ListenerConfig, authority: &Authority) -> Result<Vec<Mechanism>, SecurityError> {
    let scram = ScramMechanism::ALL.map(Mechanism::Scram);
    if !config.protocol.is_sasl() {
        return Ok(Vec::new());
    }
    if config.name == INTERNAL {
        return Ok(vec![Mechanism::Scram(ScramMechanism::Sha256)]);
    }
    let security = &authority.config;
    let clear = !config.protocol.is_tls() && !security.plain_insecure;
    let Some(named) = security.of_listener(&config.name, "sasl.enabled.mechanisms") else {
        let mut all = scram.to_vec();
        all.extend((!clear).then_some(Mechanism::Plain));
        all.extend(authority.tokens.are_known().then_some(Mechanism::OauthBearer));
        return Ok(all);
    };
    let mut enabled = Vec::new();
    for name in named.split(',').map(str::trim).filter(|name| !name.is_empty()) {
        enabled.push(Mechanism::parse(name).ok_or_else(|| SecurityError::Mechanism(name.to_owned()))?);
    }
    if clear && enabled.contains(&Mechanism::Plain) {
        return Err(SecurityError::PlainInTheClear(config.name.clone()));
    }
    Ok(enabled)
}

/// Looks at the files of certificates and users from time to time, until the broker is gone.
pub async fn watch(authority: Weak<Authority>, listeners: Vec<Weak<Listener>>, every: Duration) {
    loop {
        tokio::time::sleep(every).await;
        let Some(authority) = authority.upgrade() else { return };
        let listeners: Vec<_> = listeners.iter().filter_map(Weak::upgrade).collect();
        let looked = tokio::task::spawn_blocking(move || {
            authority.users.reload();
            for listener in &listeners {
                let of = |key: &str| authority.config.of_tls(&listener.name, listener.protocol, key);
                let _changed = listener.tls.as_ref().is_some_and(|tls| tls.reload(&of));
            }
        });
        if looked.await.is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests;
