//! The door of the HTTP address: a place for each connection, TLS, who a request is from, and what they may.

use std::io;
use std::sync::{Arc, Weak};
use std::time::Duration;

use headwater_model::Principal;
use headwater_security::server::{
    Authorization, Checked, ClientAuth, Derivations, Mapping, ServerTls, Stranger, Strangers,
    Unauthenticated, Users, Watched, identity, may_be_a_clients,
};
use headwater_security::{ScramCredential, ScramMechanism, Stream, random_bytes};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::allowed::Allowed;
use super::settings::{COMMANDS, HttpAccess, HttpAccessError, INSTANCES, METRICS, READERS, RULES, USERS};

/// The name of the HTTP address, where errors and the log name a listener.
pub(super) const LISTENER: &str = "HTTP";
/// Derivations of passwords at once.
const AT_ONCE: usize = 2;
/// What is read of a request that came without TLS.
const LARGEST_HEAD: u64 = 16 << 10;
/// The first byte of a TLS handshake.
const HANDSHAKE: u8 = 0x16;
/// What a request asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Need {
    /// What the stores hold, and the topology.
    Read,
    /// To change something.
    Command,
    /// How the instance does.
    Metrics,
}

/// Those who may, where it is asked who they are.
struct Lists {
    readers: Allowed,
    commands: Allowed,
    metrics: Allowed,
    /// As whom the instances of the application come.
    instances: Allowed,
}

pub(crate) struct Door {
    access: HttpAccess,
    tls: Option<ServerTls>,
    mapping: Mapping,
    passwords: Option<Passwords>,
    /// None where nobody is asked who they are.
    lists: Option<Lists>,
    strangers: Arc<Strangers>,
    connections: Arc<Semaphore>,
    patience: Duration,
    delay: Duration,
    every: Duration,
}

/// The users of the file.
struct Passwords {
    users: Users,
    checked: Checked,
    derivations: Derivations,
    /// From which the credentials of users that do not exist are made up.
    secret: [u8; 32],
}

/// The places that a connection takes.
pub(crate) struct Places {
    _connection: OwnedSemaphorePermit,
    /// Given back when the client has said who it is.
    pub stranger: Option<Stranger>,
}

impl Door {
    pub fn new(access: &HttpAccess) -> Result<Self, HttpAccessError> {
        let origin = || access.origin();
        let mapping = Mapping::parse(access.of(RULES).unwrap_or_default())
            .map_err(|source| HttpAccessError::Mapping { origin: origin(), source })?;
        let tls = access.has_tls().then(|| ServerTls::load(LISTENER, &|key| access.of(key)));
        let tls = tls.transpose().map_err(|source| HttpAccessError::Tls { origin: origin(), source })?;
        let lists = access.knows_clients().then(|| Lists::read(access, &mapping)).transpose()?;
        let passwords = access.of(USERS).map(|file| Passwords::load(access, file)).transpose()?;
        Ok(Self {
            tls,
            mapping,
            passwords,
            lists,
            // Half of the connections are left to those who are known.
            strangers: Arc::new(Strangers::new(
                access.most_strangers()?.min(access.most_connections()?.div_ceil(2)),
            )),
            connections: Arc::new(Semaphore::new(access.most_connections()?)),
            patience: access.patience()?,
            delay: access.delay()?,
            every: access.reload()?,
            access: access.clone(),
        })
    }

    /// Whether nobody is asked who they are.
    pub fn is_open(&self) -> bool {
        self.lists.is_none()
    }

    pub fn is_tls(&self) -> bool {
        self.tls.is_some()
    }

    pub fn patience(&self) -> Duration {
        self.patience
    }

    /// A place for a connection, unless there are too many of them, or of those of strangers.
    pub fn admit(&self) -> Option<Places> {
        let connection = Arc::clone(&self.connections).try_acquire_owned().ok()?;
        if self.is_open() && self.tls.is_none() {
            return Some(Places { _connection: connection, stranger: None });
        }
        let stranger = self.strangers.admit()?;
        Some(Places { _connection: connection, stranger: Some(stranger) })
    }

    /// Does the TLS handshake if there is one, and tells whom the client's certificate names.
    pub async fn secure(&self, mut stream: TcpStream) -> io::Result<(Stream, Principal)> {
        let Some(tls) = &self.tls else { return Ok((Stream::Plain(stream), Principal::anonymous())) };
        let mut first = [0];
        if stream.peek(&mut first).await? == 1 && first[0] != HANDSHAKE {
            if first[0].is_ascii_uppercase() {
                explain(&mut stream).await?;
            }
            return Err(io::Error::new(io::ErrorKind::InvalidData, "what came is no TLS"));
        }
        let stream = tls.acceptor().accept(stream).await?;
        let certificate = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
        let name = certificate.and_then(|certificate| self.mapping.named(certificate));
        Ok((Stream::tls(stream), name.map(Principal::user).unwrap_or_default()))
    }

    /// Who a request is from: whom `Authorization` proves, else whom the certificate names, else anonymous.
    pub async fn authenticate(
        &self,
        header: Option<&[u8]>,
        certified: &Arc<Principal>,
    ) -> Result<Arc<Principal>, Unauthenticated> {
        let (Some(header), Some(passwords)) = (header, &self.passwords) else {
            return Ok(Arc::clone(certified));
        };
        let Authorization::Basic { user, password } = Authorization::parse(header)? else {
            return Err(Unauthenticated::Scheme);
        };
        let proof = (user.as_str(), password);
        let right = passwords.checked.check(proof, passwords.credential(&user), &passwords.derivations).await;
        if right { Ok(Arc::new(Principal::user(user))) } else { Err(Unauthenticated::Password(user)) }
    }

    /// Lets a client whose proof is wrong wait for the answer.
    pub async fn delay(&self) {
        tokio::time::sleep(self.delay).await;
    }

    /// The value of `WWW-Authenticate`, if there is a way to say in a request who one is.
    pub fn challenge(&self) -> Option<&'static str> {
        self.passwords.as_ref().map(|_| r#"Basic realm="headwater", charset="UTF-8""#)
    }

    /// `None` where nobody is asked who they are: then the configuration says what everybody may.
    pub fn may(&self, principal: &Principal, need: Need) -> Option<bool> {
        let lists = self.lists.as_ref()?;
        Some(match need {
            Need::Read => lists.readers.includes(principal) || lists.instances.includes(principal),
            Need::Command => lists.commands.includes(principal),
            Need::Metrics => lists.metrics.includes(principal),
        })
    }

    fn reload(&self) -> bool {
        if let Some(passwords) = &self.passwords {
            passwords.users.reload();
        }
        self.tls.as_ref().is_some_and(|tls| tls.reload(&|key| self.access.of(key)))
    }

    /// Looks at the files of certificates and users from time to time, until the door is gone; tells of new certificates.
    pub async fn watch(door: Weak<Self>, changed: impl Fn(&HttpAccess) + Clone + Send + 'static) {
        loop {
            let Some(every) = door.upgrade().map(|door| door.every) else { return };
            tokio::time::sleep(every).await;
            let Some(door) = door.upgrade() else { return };
            let changed = changed.clone();
            let looked = tokio::task::spawn_blocking(move || {
                if door.reload() {
                    changed(&door.access);
                }
            });
            if looked.await.is_err() {
                return;
            }
        }
    }
}

/// To who speaks HTTP where TLS is spoken. What they have sent is taken: a connection that ends with bytes unread takes the
/// answer back.
async fn explain(stream: &mut TcpStream) -> io::Result<()> {
    let body = json!({
        "type": "about:blank", "title": "not by HTTP", "status": 400, "detail": "this address speaks TLS: ask by https://",
    });
    let (body, head) =
        (body.to_string(), "HTTP/1.1 400 Bad Request\r\nContent-Type: application/problem+json");
    let answer = format!("{head}\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    stream.write_all(answer.as_bytes()).await?;
    stream.shutdown().await?;
    tokio::io::copy(&mut stream.take(LARGEST_HEAD), &mut tokio::io::sink()).await.map(drop)
}

/// As whom the instances of the application come, where certificates are asked for: whom the settings name, else whoever
/// this one is.
pub(super) fn instances(access: &HttpAccess, mapping: &Mapping) -> Result<Option<Allowed>, HttpAccessError> {
    Ok(match access.list(INSTANCES)? {
        Some(named) => Some(named),
        None if access.client_auth()? == ClientAuth::None => None,
        None => Some(Allowed::of(own(access, mapping)?)),
    })
}

impl Lists {
    fn read(access: &HttpAccess, mapping: &Mapping) -> Result<Self, HttpAccessError> {
        let list = |key| Ok::<_, HttpAccessError>(access.list(key)?.unwrap_or_default());
        Ok(Self {
            readers: list(READERS)?,
            commands: list(COMMANDS)?,
            metrics: list(METRICS)?,
            instances: instances(access, mapping)?.unwrap_or_default(),
        })
    }
}

/// As whom this instance comes to others.
fn own(access: &HttpAccess, mapping: &Mapping) -> Result<Principal, HttpAccessError> {
    let identity = identity(LISTENER, &|key| access.of(key), &mut Watched::default())
        .map_err(|source| HttpAccessError::Tls { origin: access.origin(), source })?;
    let certificate = identity.chain.first();
    if certificate.is_none_or(|certificate| !may_be_a_clients(certificate)) {
        tracing::warn!(
            "this instance's certificate is for servers only, so other instances refuse it: have it made for clients, too (clientAuth in its extended key usage)"
        );
    }
    let name = certificate.and_then(|certificate| mapping.named(certificate));
    name.map(Principal::user).ok_or_else(|| HttpAccessError::Contradiction {
        origin: access.origin(),
        key: RULES,
        reason: "makes nobody of this instance's own certificate, so other instances would refuse it: add DEFAULT, or name them in headwater.http.instances",
    })
}

impl Passwords {
    fn load(access: &HttpAccess, file: &str) -> Result<Self, HttpAccessError> {
        let told = |source| HttpAccessError::Users { origin: access.origin(), source };
        Ok(Self {
            users: Users::load(Some(file)).map_err(told)?,
            checked: Checked::new()?,
            derivations: Derivations::new(AT_ONCE),
            secret: random_bytes()?,
        })
    }

    /// What a user has to know; for one that does not exist, what nobody knows.
    fn credential(&self, user: &str) -> (ScramMechanism, ScramCredential) {
        let mechanism = ScramMechanism::Sha256;
        let known = self.users.find(user, mechanism);
        let pretended = || ScramCredential::pretended(mechanism, user, &self.secret);
        (mechanism, known.unwrap_or_else(pretended))
    }
}
