//! The keys of Kafka by which a broker is told who may come, and how.
//!
//! Texts stay as they were written until the start, where each listener takes its own: a key after
//! `listener.name.NAME.` is meant for that listener alone.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use headwater_security::{Secret, SecurityProtocol};

/// What can be set for one listener.
pub const OF_A_LISTENER: &[&str] = &[
    "sasl.enabled.mechanisms",
    "ssl.client.auth",
    "ssl.key.password",
    "ssl.keystore.certificate.chain",
    "ssl.keystore.key",
    "ssl.keystore.location",
    "ssl.keystore.password",
    "ssl.keystore.type",
    "ssl.principal.mapping.rules",
    "ssl.truststore.certificates",
    "ssl.truststore.location",
    "ssl.truststore.password",
    "ssl.truststore.type",
];
const PREFIX: &str = "listener.name.";
/// Whether clients show certificates.
pub const CLIENT_AUTH: &str = "ssl.client.auth";

/// Listeners, TLS and SASL.
#[derive(Debug, Clone)]
pub struct SecurityConfig {
    texts: BTreeMap<String, Secret>,
    /// `headwater.insecure`: listeners beyond this machine may do without TLS and authentication.
    pub insecure: bool,
    /// `headwater.sasl.plain.insecure`: passwords may cross the network in the clear.
    pub plain_insecure: bool,
    /// How long a client may take to say who it is.
    pub authentication_timeout: Duration,
    /// How long a client whose authentication failed waits for the answer.
    pub failed_authentication_delay: Duration,
    /// After this a client must authenticate again; `None` for never.
    pub max_reauth: Option<Duration>,
    /// Connections of clients that have not yet said who they are.
    pub max_unauthenticated: usize,
    /// `headwater.http.max.connections`: connections of the HTTP address.
    pub max_http_connections: usize,
    /// How often files of certificates and users are looked at for changes.
    pub reload_interval: Duration,
}

impl Default for SecurityConfig {
    fn default() -> Self {
        Self {
            texts: BTreeMap::new(),
            insecure: false,
            plain_insecure: false,
            authentication_timeout: Duration::from_secs(10),
            failed_authentication_delay: Duration::from_millis(100),
            max_reauth: None,
            max_unauthenticated: 512,
            max_http_connections: 512,
            reload_interval: Duration::from_secs(5),
        }
    }
}

impl SecurityConfig {
    pub fn text(&self, key: &str) -> Option<&str> {
        self.texts.get(key).map(Secret::reveal)
    }

    /// The value for one listener alone.
    pub fn own(&self, listener: &str, key: &str) -> Option<&str> {
        self.text(&format!("{PREFIX}{}.{key}", listener.to_ascii_lowercase()))
    }

    /// The value for one listener, or for all.
    pub fn of_listener(&self, listener: &str, key: &str) -> Option<&str> {
        self.own(listener, key).or_else(|| self.text(key))
    }

    /// The value for the TLS of one listener. As in Kafka, what is said of the certificates of all clients is not said of
    /// those that come by SASL (KIP-684).
    pub fn of_tls(&self, listener: &str, protocol: SecurityProtocol, key: &str) -> Option<&str> {
        match key {
            CLIENT_AUTH if protocol.is_sasl() => self.own(listener, key),
            _ => self.of_listener(listener, key),
        }
    }

    /// Listeners that have values of their own, in small letters.
    pub fn named_listeners(&self) -> BTreeSet<&str> {
        self.texts.keys().filter_map(|key| Some(key.strip_prefix(PREFIX)?.split_once('.')?.0)).collect()
    }

    pub fn put(&mut self, key: &str, value: String) {
        self.texts.insert(key.to_owned(), Secret::new(value));
    }

    /// Sets `listener.name.NAME.KEY`; whether it is such a key.
    pub(crate) fn put_of_listener(&mut self, name: &str, value: &str) -> bool {
        let key = name.strip_prefix(PREFIX).and_then(|rest| rest.split_once('.'));
        let Some((listener, key)) = key.filter(|(_, key)| OF_A_LISTENER.contains(key)) else { return false };
        self.put(&format!("{PREFIX}{}.{key}", listener.to_ascii_lowercase()), value.to_owned());
        true
    }
}
