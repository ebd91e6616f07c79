//! The sockets of a starting broker: each listener bound, with its TLS loaded and its address known.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use headwater_security::SecurityProtocol;
use tokio::net::{TcpListener, lookup_host};

use crate::advertised::Advertised;
use crate::security::{
    Authority, Credentials, INTERNAL, InternalUser, Listener, ListenerConfig, SecurityError, configured,
};
use crate::{Config, StartError};

/// Where clients reach a listener, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListenerAddress {
    pub name: String,
    pub protocol: SecurityProtocol,
    /// `HOST:PORT`, as clients are told.
    pub address: String,
}

pub struct Opened {
    pub sockets: Vec<(TcpListener, Arc<Listener>)>,
    /// What clients connect to, in the order of the configuration.
    pub addresses: Vec<ListenerAddress>,
    pub internal: Option<(String, InternalUser)>,
    pub authority: Arc<Authority>,
}

/// Binds all listeners, and one more for this process alone where it matters who somebody is.
pub async fn open(config: &Config, credentials: Arc<Credentials>) -> Result<Opened, StartError> {
    let wanted = configured(config).map_err(SecurityError::from)?;
    let authority = Arc::new(Authority::new(&config.security, credentials)?);
    authority.tokens.follow().await.map_err(SecurityError::from)?;
    let mut sockets = Vec::with_capacity(wanted.len() + 1);
    let mut addresses = Vec::with_capacity(wanted.len());
    for one in &wanted {
        let (socket, advertised) = bind(one).await?;
        let (name, protocol) = (one.name.clone(), one.protocol);
        tokio::spawn(look_up(one.clone()));
        addresses.push(ListenerAddress { name, protocol, address: advertised.bootstrap() });
        sockets.push((socket, Arc::new(Listener::new(one, advertised, &authority)?)));
    }
    let mut internal = None;
    let guarded = wanted.iter().any(|one| one.protocol != SecurityProtocol::Plaintext);
    // What clients are told need not lead here from this machine, or anywhere.
    let led_away = wanted.iter().any(|one| one.advertised.is_some());
    if guarded || led_away || config.authorizer.enabled {
        let own = internal_listener();
        let (socket, advertised) = bind(&own).await?;
        internal = Some((advertised.bootstrap(), authority.make_internal_user()?));
        sockets.push((socket, Arc::new(Listener::new(&own, advertised, &authority)?)));
    }
    Ok(Opened { sockets, addresses, internal, authority })
}

/// Any program of this machine can connect to it, and needs a password that only this process has.
fn internal_listener() -> ListenerConfig {
    ListenerConfig {
        name: INTERNAL.to_owned(),
        protocol: SecurityProtocol::SaslPlaintext,
        host: Ipv4Addr::LOCALHOST.to_string(),
        port: 0,
        advertised: None,
    }
}

async fn bind(config: &ListenerConfig) -> Result<(TcpListener, Advertised), StartError> {
    let address = address(config).await?;
    let socket = TcpListener::bind(address).await.map_err(|source| match source.kind() {
        std::io::ErrorKind::AddrInUse => StartError::AddressInUse { address },
        _ => StartError::Listen { address, source },
    })?;
    let bound = socket.local_addr().map_err(|source| StartError::Listen { address, source })?;
    Ok((socket, Advertised::new(config.advertised.as_deref(), bound)?))
}

async fn address(config: &ListenerConfig) -> Result<SocketAddr, StartError> {
    let unknown =
        |reason: String| StartError::Host { name: config.name.clone(), address: config.address(), reason };
    let mut found = lookup_host(config.address()).await.map_err(|error| unknown(error.to_string()))?;
    found.next().ok_or_else(|| unknown("it has no address".to_owned()))
}

/// Says when clients are told a host that is not known here: it may be known to them. Nobody waits for it.
async fn look_up(config: ListenerConfig) {
    let Some(advertised) = &config.advertised else { return };
    if let Err(error) = lookup_host(advertised).await {
        tracing::warn!(
            listener = config.name, %advertised, %error,
            "clients are told an address whose host is not known on this machine; if they do not know it, either, set advertised.listeners right"
        );
    }
}
