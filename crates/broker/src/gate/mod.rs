//! The way in to what this process serves by HTTP: the identities of the Kafka listeners, and their rules.
//!
//! Owns TLS, authentication and authorization of the HTTP address, which is a listener by the name HTTP. Refuses to
//! know paths: which right one needs is said by whoever serves it.
//!
//! Invariant: where clients must say who they are, nobody is taken for anybody without a proof in this very request.

mod visitor;

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use headwater_model::acl::ResourceType;
use headwater_model::{Caller, Principal};
pub use headwater_security::server::Unauthenticated;
use headwater_security::server::{Authorization, Checked, Derivations, Strangers};
use headwater_security::{Mechanism, SecurityProtocol, Stream};
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::advertised::Advertised;
use crate::audit::{AUTHENTICATE, Audit, Entry, Subject};
use crate::authorizer::Authorizer;
use crate::broker::Shared;
use crate::catalog::Catalog;
use crate::rules::Rules;
use crate::security::{
    Authority, Credentials, Listener, ListenerConfig, SecurityError, Stranger, configured,
};
use crate::{Config, StartError, clock, security};

use visitor::{Nobody, Visitor};

/// The name of the HTTP address among the listeners: `listener.name.http.KEY` is for it alone.
const NAME: &str = "HTTP";
const PROTOCOL: &str = "headwater.http.security.protocol";
/// Derivations of passwords at once.
const AT_ONCE: usize = 2;

/// What the HTTP server of this process asks about its clients.
pub struct Gate {
    authority: Arc<Authority>,
    listener: Arc<Listener>,
    authorizer: Authorizer,
    /// Which streams are closed; there is none where the broker is another process.
    catalog: Option<Arc<Catalog>>,
    audit: Arc<Audit>,
    checked: Checked,
    /// Apart from those of the other listeners, as each request may bring a password that is none.
    derivations: Derivations,
    connections: Arc<Semaphore>,
    /// Apart from those of the other listeners: who comes here and says nothing keeps nobody from the broker.
    strangers: Arc<Strangers>,
    /// Only this machine can reach it.
    local: bool,
}

/// Who a request is from.
pub struct Known {
    pub principal: Arc<Principal>,
    /// So long an answer goes on at most that has no end of its own: then the proof must come again.
    pub valid_for: Option<Duration>,
}

/// The places that a connection takes.
pub struct Places {
    _connection: OwnedSemaphorePermit,
    /// Given back when the client has said who it is; its connection ends when another gets the place before.
    pub stranger: Option<Stranger>,
}

/// How the HTTP address is protected: as its key says, else as the first listener is.
///
/// # Errors
/// An address that strangers can use, unless `headwater.insecure` allows it.
pub fn guarded(config: &Config, address: SocketAddr) -> Result<ListenerConfig, SecurityError> {
    let security = &config.security;
    let protocol = match security.text(PROTOCOL) {
        Some(name) => {
            SecurityProtocol::parse(name).ok_or_else(|| SecurityError::HttpProtocol(name.to_owned()))?
        }
        None => configured(config)?.first().map_or_else(SecurityProtocol::default, |first| first.protocol),
    };
    let listener = ListenerConfig {
        name: NAME.to_owned(),
        protocol,
        host: address.ip().to_string(),
        port: address.port(),
        advertised: None,
    };
    match listener.refuse_open(security) {
        Ok(()) => Ok(listener),
        Err(security::ListenerError::Open { address, lacks, .. }) => {
            Err(SecurityError::OpenHttp { address, lacks })
        }
        Err(other) => Err(other.into()),
    }
}

/// Those who have not said who they are leave half of the connections to those who are known.
fn most_strangers(config: &security::SecurityConfig) -> usize {
    config.max_unauthenticated.min(config.max_http_connections.div_ceil(2))
}

impl Gate {
    pub(crate) fn of(shared: &Shared, address: SocketAddr) -> Result<Self, StartError> {
        let authority = Arc::clone(&shared.authority);
        let (authorizer, audit) = (shared.authorizer.clone(), Arc::clone(&shared.audit));
        Self::new(&shared.config, address, authority, authorizer, Some(Arc::clone(&shared.catalog)), audit)
    }

    /// For a process that has no broker of its own: it knows the users of the file, tokens and certificates, and of
    /// rules only `super.users`.
    ///
    /// # Errors
    /// As [`guarded`], and for certificates and users that cannot be read.
    pub async fn alone(config: &Config, address: SocketAddr) -> Result<Self, StartError> {
        let authority = Arc::new(Authority::new(&config.security, Arc::new(Credentials::default()))?);
        authority.tokens.follow().await.map_err(SecurityError::from)?;
        let authorizer = Authorizer::new(config.authorizer.clone(), Arc::new(Rules::default()));
        let (audit, _nobody) = Audit::new(false);
        Self::new(config, address, authority, authorizer, None, Arc::new(audit))
    }

    fn new(
        config: &Config,
        address: SocketAddr,
        authority: Arc<Authority>,
        authorizer: Authorizer,
        catalog: Option<Arc<Catalog>>,
        audit: Arc<Audit>,
    ) -> Result<Self, StartError> {
        let guarded = guarded(config, address)?;
        let listener = Arc::new(Listener::new(&guarded, Advertised::new(None, address)?, &authority)?);
        let watched = vec![Arc::downgrade(&listener)];
        let every = config.security.reload_interval;
        tokio::spawn(security::watch(Arc::downgrade(&authority), watched, every));
        Ok(Self {
            checked: Checked::new().map_err(SecurityError::from)?,
            derivations: Derivations::new(AT_ONCE),
            connections: Arc::new(Semaphore::new(config.security.max_http_connections)),
            strangers: Arc::new(Strangers::new(most_strangers(&config.security))),
            local: address.ip().is_loopback(),
            authority,
            listener,
            authorizer,
            catalog,
            audit,
        })
    }

    /// Whether clients come as anonymous, and without any handshake.
    pub fn is_open(&self) -> bool {
        self.listener.is_open()
    }

    /// Only this machine can reach the address.
    pub fn is_local(&self) -> bool {
        self.local
    }

    pub fn is_tls(&self) -> bool {
        self.listener.protocol.is_tls()
    }

    /// What a client may take for a handshake, or for the head of a request.
    pub fn patience(&self) -> Duration {
        self.authority.config.authentication_timeout
    }

    /// How many connections there may be at once.
    pub fn most_connections(&self) -> usize {
        self.authority.config.max_http_connections
    }

    /// A place for a connection, unless there are too many of them, or of those of strangers.
    pub fn admit(&self) -> Option<Places> {
        let connection = Arc::clone(&self.connections).try_acquire_owned().ok()?;
        if self.is_open() {
            return Some(Places { _connection: connection, stranger: None });
        }
        let stranger = self.strangers.admit()?;
        Some(Places { _connection: connection, stranger: Some(stranger) })
    }

    /// Does the TLS handshake if there is one, and tells whom the client's certificate names.
    pub async fn secure(&self, stream: TcpStream) -> io::Result<(Stream, Principal)> {
        self.listener.secure(stream).await
    }

    /// The values of `WWW-Authenticate`.
    pub fn challenges(&self) -> Vec<&'static str> {
        let mechanisms = &self.listener.mechanisms;
        let basic = self.takes_passwords().then_some(r#"Basic realm="headwater", charset="UTF-8""#);
        let bearer = mechanisms.contains(&Mechanism::OauthBearer).then_some(r#"Bearer realm="headwater""#);
        basic.into_iter().chain(bearer).collect()
    }

    /// A password goes over TLS, or stays on this machine, or is allowed in the clear.
    fn takes_passwords(&self) -> bool {
        let known = |one: &Mechanism| matches!(one, Mechanism::Plain | Mechanism::Scram(_));
        let guarded = self.is_tls() || self.local || self.authority.config.plain_insecure;
        guarded && self.listener.mechanisms.iter().any(known)
    }

    /// Who a request is from: on a SASL address whom `Authorization` proves, elsewhere whom the certificate names.
    ///
    /// # Errors
    /// Why nobody is proved; it is answered late, and told to the audit stream.
    pub async fn authenticate(
        &self,
        header: Option<&[u8]>,
        certified: &Arc<Principal>,
    ) -> Result<Known, Unauthenticated> {
        if !self.listener.protocol.is_sasl() {
            return Ok(Known { principal: Arc::clone(certified), valid_for: None });
        }
        // As on a Kafka listener: a session is no longer than its token, nor than the setting says (KIP-368).
        let limit = self.authority.config.max_reauth;
        let header = header.ok_or(Unauthenticated::Missing)?;
        let (user, valid_for) = match Authorization::parse(header)? {
            Authorization::Basic { user, password } if self.takes_passwords() => {
                let credential = self.authority.any_credential(&user);
                if !self.checked.check((user.as_str(), password), credential, &self.derivations).await {
                    return Err(Unauthenticated::Password(user));
                }
                (user, limit)
            }
            Authorization::Bearer(token) if self.listener.mechanisms.contains(&Mechanism::OauthBearer) => {
                let valid = self.authority.tokens.check(&token).await;
                let valid = valid.map_err(|error| Unauthenticated::Token(error.to_string()))?;
                (valid.subject, Some(limit.map_or(valid.valid_for, |limit| limit.min(valid.valid_for))))
            }
            _ => return Err(Unauthenticated::Scheme),
        };
        Ok(Known { principal: Arc::new(Principal::user(user)), valid_for })
    }

    /// Tells of a failed attempt and lets its client wait for the answer.
    pub async fn failed(&self, host: IpAddr, client_id: String, api: &'static str, why: &Unauthenticated) {
        if matches!(why, Unauthenticated::Missing) {
            // A browser asks once without; whoever does not try to be somebody is no attempt.
            return;
        }
        tracing::warn!(%host, api, reason = %why, "authentication by HTTP failed");
        let subject = Subject {
            principal: Arc::default(),
            host: host.to_canonical(),
            client_id,
            api,
            operation: AUTHENTICATE,
            resource: ResourceType::User,
            name: why.user(),
        };
        self.audit.tell(Entry {
            time: clock::wall(),
            subject,
            allowed: false,
            detail: Some(why.to_string()),
        });
        tokio::time::sleep(self.authority.config.failed_authentication_delay).await;
    }

    /// One that is let in without a proof where others need one.
    pub fn nobody() -> Caller {
        Caller::new(Arc::new(Nobody))
    }

    /// The client as those see it who answer it.
    pub fn caller(
        self: &Arc<Self>,
        principal: Arc<Principal>,
        host: IpAddr,
        client_id: String,
        api: &'static str,
    ) -> Caller {
        Caller::new(Arc::new(Visitor { gate: Arc::clone(self), principal, host, client_id, api }))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use headwater_security::Secret;

    use super::*;

    #[tokio::test]
    async fn passwords_by_http_keep_nobody_waiting_at_the_other_listeners() {
        const ATTEMPTS: usize = 40;
        let mut config = Config::default();
        config.security.put(PROTOCOL, "SASL_PLAINTEXT".to_owned());
        let gate = Arc::new(Gate::alone(&config, "127.0.0.1:0".parse().unwrap()).await.unwrap());
        let (begun, done) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let attempt = |_| {
            let (gate, begun, done) = (Arc::clone(&gate), Arc::clone(&begun), Arc::clone(&done));
            tokio::spawn(async move {
                begun.fetch_add(1, Ordering::Relaxed);
                // The password of `alice` is not `wrong`.
                let tried = gate.authenticate(Some(b"Basic YWxpY2U6d3Jvbmc="), &Arc::default()).await;
                assert!(matches!(tried, Err(Unauthenticated::Password(_))));
                done.fetch_add(1, Ordering::Relaxed);
            })
        };
        let mut attempts: Vec<_> = (0..ATTEMPTS).map(attempt).collect();
        while begun.load(Ordering::Relaxed) < ATTEMPTS {
            tokio::task::yield_now().await;
        }
        // As PLAIN has it.
        let (mechanism, credential) = gate.authority.any_credential("bob");
        let derivations = &gate.authority.derivations;
        assert!(!derivations.is_password(mechanism, credential, Secret::new("wrong")).await);
        let before = done.load(Ordering::Relaxed);
        assert!(before < ATTEMPTS / 2, "{before} attempts went before");
        attempts.swap_remove(0).await.unwrap();
    }
}
