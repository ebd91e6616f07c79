//! Which listeners there are: names, protocols, addresses, and what clients are told of each.
//!
//! Refuses what would open the broker to strangers by accident: a listener beyond this machine needs TLS and
//! authentication, unless `headwater.insecure` says otherwise.

use std::collections::BTreeMap;
use std::net::IpAddr;

use headwater_security::SecurityProtocol;
use thiserror::Error;

use super::config::SecurityConfig;
use crate::Config;

/// The listener that a broker adds for the parts of its own process.
pub const INTERNAL: &str = "HEADWATER_INTERNAL";

#[derive(Debug, Error)]
pub enum ListenerError {
    #[error("'{0}' is not a listener: use NAME://HOST:PORT, and commas between several")]
    Malformed(String),
    #[error("the listener {0} is there twice: give each its own name")]
    Twice(String),
    #[error("the listener {INTERNAL} is the broker's own: give this one another name")]
    Reserved,
    #[error(
        "the protocol of listener {0} is not known: name it PLAINTEXT, SSL, SASL_PLAINTEXT or SASL_SSL, or give it one by listener.security.protocol.map={0}:SASL_SSL"
    )]
    Protocol(String),
    #[error("advertised.listeners names {0}, which is not in listeners")]
    Advertised(String),
    #[error(
        "{name}://{address} can be reached from other machines and {lacks}: give it TLS and authentication (listeners=SASL_SSL://{address} with ssl.keystore.location and users, or SSL with ssl.client.auth=required), listen on 127.0.0.1, or say --insecure if everybody on that network may read and write everything"
    )]
    Open { name: String, address: String, lacks: &'static str },
}

/// One listener as it is configured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListenerConfig {
    pub name: String,
    pub protocol: SecurityProtocol,
    /// Empty for every interface.
    pub host: String,
    pub port: u16,
    /// `HOST:PORT` that its clients are told: its own where its host is a name; `None` for the address they came to.
    pub advertised: Option<String>,
}

impl ListenerConfig {
    pub fn address(&self) -> String {
        let host = if self.host.is_empty() { "0.0.0.0" } else { &self.host };
        if host.contains(':') { format!("[{host}]:{}", self.port) } else { format!("{host}:{}", self.port) }
    }

    /// Whether its host is a name and no address.
    fn is_named(&self) -> bool {
        !self.host.is_empty() && self.host.parse::<IpAddr>().is_err()
    }

    /// Whether only this machine can reach it.
    fn is_local(&self) -> bool {
        self.host == "localhost" || self.host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
    }

    /// Whether every client must say who it is: by SASL, or by a certificate.
    pub fn knows_clients(&self, config: &SecurityConfig) -> bool {
        let certified = config.of_listener(&self.name, "ssl.client.auth") == Some("required");
        self.protocol.is_sasl() || (self.protocol.is_tls() && certified)
    }

    /// # Errors
    /// [`ListenerError::Open`] for a listener that strangers can use.
    pub fn refuse_open(&self, config: &SecurityConfig) -> Result<(), ListenerError> {
        if self.is_local() || config.insecure {
            return Ok(());
        }
        let lacks = match self.protocol {
            SecurityProtocol::SaslSsl => return Ok(()),
            SecurityProtocol::Ssl if self.knows_clients(config) => return Ok(()),
            SecurityProtocol::Ssl => "does not ask who its clients are",
            SecurityProtocol::SaslPlaintext => "has no TLS",
            SecurityProtocol::Plaintext => "has neither TLS nor authentication",
        };
        Err(ListenerError::Open { name: self.name.clone(), address: self.address(), lacks })
    }
}

/// `listeners`, or the one that `--listen` names.
pub fn configured(config: &Config) -> Result<Vec<ListenerConfig>, ListenerError> {
    let security = &config.security;
    let mut listeners = match security.text("listeners") {
        None => vec![simple(config)],
        Some(text) => {
            let protocols = protocol_map(security.text("listener.security.protocol.map").unwrap_or(""))?;
            items(text).map(|item| listener(item, &protocols)).collect::<Result<_, _>>()?
        }
    };
    for (index, one) in listeners.iter().enumerate() {
        if listeners[..index].iter().any(|other| other.name == one.name) {
            return Err(ListenerError::Twice(one.name.clone()));
        }
        if one.name.eq_ignore_ascii_case(INTERNAL) {
            return Err(ListenerError::Reserved);
        }
        one.refuse_open(security)?;
    }
    for item in security.text("advertised.listeners").into_iter().flat_map(items) {
        let (name, address) = item.split_once("://").ok_or(ListenerError::Malformed(item.to_owned()))?;
        let listener = listeners.iter_mut().find(|listener| listener.name.eq_ignore_ascii_case(name));
        let listener = listener.ok_or(ListenerError::Advertised(name.to_owned()))?;
        listener.advertised = Some(address.to_owned());
    }
    for one in listeners.iter_mut().filter(|one| one.advertised.is_none() && one.is_named()) {
        // As from Kafka: who comes by TLS may trust the name and not the address behind it.
        one.advertised = Some(one.address());
    }
    Ok(listeners)
}

fn simple(config: &Config) -> ListenerConfig {
    ListenerConfig {
        name: SecurityProtocol::Plaintext.name().to_owned(),
        protocol: SecurityProtocol::Plaintext,
        host: config.listen.ip().to_string(),
        port: config.listen.port(),
        advertised: config.advertised.clone(),
    }
}

fn items(text: &str) -> impl Iterator<Item = &str> {
    text.split(',').map(str::trim).filter(|item| !item.is_empty())
}

fn protocol_map(text: &str) -> Result<BTreeMap<String, SecurityProtocol>, ListenerError> {
    items(text)
        .map(|item| {
            let (name, protocol) = item.split_once(':').ok_or(ListenerError::Malformed(item.to_owned()))?;
            let known = SecurityProtocol::parse(protocol).ok_or(ListenerError::Protocol(name.to_owned()))?;
            Ok((name.to_ascii_uppercase(), known))
        })
        .collect()
}

fn listener(
    text: &str,
    protocols: &BTreeMap<String, SecurityProtocol>,
) -> Result<ListenerConfig, ListenerError> {
    let malformed = || ListenerError::Malformed(text.to_owned());
    let (name, address) = text.split_once("://").ok_or_else(malformed)?;
    let (host, port) = address.rsplit_once(':').ok_or_else(malformed)?;
    let name = name.to_ascii_uppercase();
    let protocol = protocols.get(&name).copied().or_else(|| SecurityProtocol::parse(&name));
    let protocol = protocol.ok_or_else(|| ListenerError::Protocol(name.clone()))?;
    let port = port.parse().map_err(|_| malformed())?;
    Ok(ListenerConfig {
        name,
        protocol,
        host: host.trim_matches(['[', ']']).to_owned(),
        port,
        advertised: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(settings: &[&str]) -> Config {
        let mut config = Config::default();
        for setting in settings {
            config.set(setting).unwrap();
        }
        config
    }

    #[test]
    fn listeners_are_read_by_kafkas_keys() {
        let config = with(&[
            "listeners=PLAINTEXT://127.0.0.1:9092,CLIENTS://:9093, SASL_SSL://[::1]:9094",
            "listener.security.protocol.map=CLIENTS:SASL_SSL",
            "advertised.listeners=CLIENTS://kafka.example:443",
        ]);
        let listeners = configured(&config).unwrap();
        assert_eq!(listeners[1].name, "CLIENTS");
        assert_eq!(listeners[1].protocol, SecurityProtocol::SaslSsl);
        assert_eq!(listeners[1].address(), "0.0.0.0:9093");
        assert_eq!(listeners[1].advertised.as_deref(), Some("kafka.example:443"));
        assert_eq!(listeners[2].address(), "[::1]:9094");
    }

    #[test]
    fn clients_are_told_the_name_that_a_listener_has() {
        let told = |settings: &[&str]| -> Vec<Option<String>> {
            configured(&with(settings)).unwrap().into_iter().map(|listener| listener.advertised).collect()
        };
        let listeners = "listeners=SASL_SSL://kafka.example:9093,PLAINTEXT://localhost:9092,SSL://[::1]:9094";
        let named = [Some("kafka.example:9093".to_owned()), Some("localhost:9092".to_owned()), None];
        assert_eq!(told(&[listeners]), named);
        let other = "advertised.listeners=SASL_SSL://outside.example:443";
        assert_eq!(told(&[listeners, other])[0].as_deref(), Some("outside.example:443"));
        assert_eq!(told(&["listeners=SASL_SSL://:9093"])[0], None);
    }

    #[test]
    fn a_listener_that_strangers_can_use_is_refused() {
        let open = |settings: &[&str]| configured(&with(settings)).unwrap_err().to_string();
        assert!(open(&["listeners=PLAINTEXT://0.0.0.0:9092"]).contains("neither TLS nor authentication"));
        assert!(open(&["listeners=SSL://:9092"]).contains("does not ask who"));
        assert!(open(&["listeners=SSL://:9092", "ssl.client.auth=requested"]).contains("does not ask who"));
        assert!(open(&["listeners=SASL_PLAINTEXT://[::]:9092"]).contains("has no TLS"));
        assert!(open(&["listeners=PLAINTEXT://somewhere:9092"]).contains("--insecure"));
        for fine in [
            &["listeners=PLAINTEXT://127.0.0.1:9092,SASL_PLAINTEXT://localhost:0"][..],
            &["listeners=SASL_SSL://0.0.0.0:9092"],
            &["listeners=SSL://0.0.0.0:9092", "listener.name.ssl.ssl.client.auth=required"],
            &["listeners=PLAINTEXT://0.0.0.0:9092", "headwater.insecure=true"],
        ] {
            assert!(configured(&with(fine)).is_ok(), "{fine:?}");
        }
    }

    #[test]
    fn what_is_no_listener_is_refused() {
        for wrong in ["PLAINTEXT", "PLAINTEXT://host", "PLAINTEXT://host:x", "OTHER://127.0.0.1:1"] {
            assert!(configured(&with(&[&format!("listeners={wrong}")])).is_err(), "{wrong}");
        }
        assert!(configured(&with(&["listeners=SSL://127.0.0.1:1,SSL://127.0.0.1:2"])).is_err());
        let unknown = ["listeners=SSL://127.0.0.1:1", "advertised.listeners=OTHER://a:1"];
        assert!(configured(&with(&unknown)).is_err());
        let own = "listener.security.protocol.map=HEADWATER_INTERNAL:PLAINTEXT";
        let reserved = configured(&with(&["listeners=HEADWATER_INTERNAL://127.0.0.1:1", own]));
        assert!(matches!(reserved, Err(ListenerError::Reserved)), "{reserved:?}");
    }
}
