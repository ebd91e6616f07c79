//! The settings of who may ask over HTTP: one properties file, with Kafka's keys of a listener and few of our own.
//!
//! Every key that is not known is an error, as a typing mistake must not open a door; so is what contradicts itself.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use headwater_security::server::{ClientAuth, MappingError, TlsError, UsersError, client_auth};
use headwater_security::{Secret, SecretError, lines};

use super::allowed::Allowed;

pub(super) const READERS: &str = "headwater.http.readers";
pub(super) const COMMANDS: &str = "headwater.http.commands";
pub(super) const METRICS: &str = "headwater.http.metrics";
pub(super) const INSTANCES: &str = "headwater.http.instances";
pub(super) const USERS: &str = "headwater.sasl.users.file";
pub(super) const RULES: &str = "ssl.principal.mapping.rules";
const CLIENT_AUTH: &str = "ssl.client.auth";
const INSECURE: &str = "headwater.insecure";
const TIMEOUT: &str = "headwater.authentication.timeout.ms";
const DELAY: &str = "connection.failed.authentication.delay.ms";
const STRANGERS: &str = "headwater.max.unauthenticated.connections";
const CONNECTIONS: &str = "headwater.http.max.connections";
const RELOAD: &str = "headwater.security.reload.interval.ms";

const KEYS: [&str; 24] = [
    DELAY,
    TIMEOUT,
    COMMANDS,
    INSTANCES,
    CONNECTIONS,
    METRICS,
    READERS,
    INSECURE,
    STRANGERS,
    USERS,
    RELOAD,
    CLIENT_AUTH,
    "ssl.key.password",
    "ssl.keystore.certificate.chain",
    "ssl.keystore.key",
    "ssl.keystore.location",
    "ssl.keystore.password",
    "ssl.keystore.type",
    RULES,
    "ssl.truststore.certificates",
    "ssl.truststore.location",
    "ssl.truststore.password",
    "ssl.truststore.type",
    "ssl.endpoint.identification.algorithm",
];

/// Who may ask an instance over HTTP, and how they say who they are. The default asks nobody.
#[derive(Debug, Clone, Default)]
pub struct HttpAccess {
    /// The file, for errors.
    origin: Option<PathBuf>,
    texts: BTreeMap<String, Secret>,
}

/// Why the settings of the HTTP address cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum HttpAccessError {
    #[error("{} cannot be read: {source}; name a properties file by [runtime] http_config or HEADWATER_HTTP_CONFIG", .path.display())]
    File { path: PathBuf, source: std::io::Error },
    #[error("{origin}: line {line} is not KEY=VALUE")]
    Line { origin: String, line: usize },
    #[error("{origin}: unknown key '{key}'; the keys are {}", KEYS.join(", "))]
    Unknown { origin: String, key: String },
    #[error("{origin}: {key}={value} is not legal: use {legal}")]
    Illegal { origin: String, key: &'static str, value: String, legal: &'static str },
    #[error("{origin}: {key} {reason}")]
    Contradiction { origin: String, key: &'static str, reason: &'static str },
    #[error("{origin}: {source}")]
    Tls { origin: String, source: TlsError },
    #[error("{origin}: {source}")]
    Mapping { origin: String, source: MappingError },
    #[error("{origin}: {source}")]
    Users { origin: String, source: UsersError },
    #[error("{origin}: the certificate and the authorities cannot be used to ask other instances: {reason}")]
    Client { origin: String, reason: String },
    #[error(
        "the HTTP address {address} can be reached from other machines and {lacks}: name a properties file by [runtime] http_config or HEADWATER_HTTP_CONFIG with ssl.keystore.location, ssl.truststore.location and ssl.client.auth=required (docs/security.md), listen on 127.0.0.1, or say headwater.insecure=true there if everybody on that network may read every store"
    )]
    Open { address: SocketAddr, lacks: &'static str },
    #[error(transparent)]
    Random(#[from] SecretError),
}

impl HttpAccess {
    /// Reads a properties file.
    ///
    /// # Errors
    /// A file that cannot be read, unknown keys, values that are not legal, and keys that contradict each other.
    pub fn load(path: &Path) -> Result<Self, HttpAccessError> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| HttpAccessError::File { path: path.to_owned(), source })?;
        Self { origin: Some(path.to_owned()), ..Self::default() }.with(&text)
    }

    /// Reads `KEY=VALUE` lines.
    ///
    /// # Errors
    /// As [`HttpAccess::load`].
    pub fn parse(text: &str) -> Result<Self, HttpAccessError> {
        Self::default().with(text)
    }

    /// Nobody is asked who they are, wherever the address can be reached from: `headwater.insecure=true`.
    pub fn insecure() -> Self {
        let texts = BTreeMap::from([(INSECURE.to_owned(), Secret::new("true"))]);
        Self { origin: None, texts }
    }

    fn with(mut self, text: &str) -> Result<Self, HttpAccessError> {
        let origin = self.origin();
        let settings = lines(text)
            .map_err(|error| HttpAccessError::Line { origin: origin.clone(), line: error.line })?;
        for (_, key, value) in settings {
            if !KEYS.contains(&key.as_str()) {
                return Err(HttpAccessError::Unknown { origin, key });
            }
            self.texts.insert(key, Secret::new(value));
        }
        self.check()?;
        Ok(self)
    }

    pub(super) fn origin(&self) -> String {
        let shown = |path: &PathBuf| path.display().to_string();
        self.origin.as_ref().map_or_else(|| "the settings of HTTP access".to_owned(), shown)
    }

    pub(super) fn of(&self, key: &str) -> Option<&str> {
        debug_assert!(KEYS.contains(&key) || key.starts_with("ssl."), "{key}");
        self.texts.get(key).map(Secret::reveal)
    }

    pub(super) fn has_tls(&self) -> bool {
        self.of("ssl.keystore.location").is_some() || self.of("ssl.keystore.key").is_some()
    }

    pub(super) fn client_auth(&self) -> Result<ClientAuth, HttpAccessError> {
        let told = |source| HttpAccessError::Tls { origin: self.origin(), source };
        client_auth(self.of(CLIENT_AUTH)).map_err(told)
    }

    /// Whether there is a way to say who one is.
    pub(super) fn knows_clients(&self) -> bool {
        let certified = self.client_auth().is_ok_and(|wanted| wanted != ClientAuth::None);
        self.of(USERS).is_some() || (self.has_tls() && certified)
    }

    pub(super) fn list(&self, key: &'static str) -> Result<Option<Allowed>, HttpAccessError> {
        let Some(text) = self.of(key) else { return Ok(None) };
        let legal = "principals with semicolons between: User:alice;User:CN=console,O=Example, or User:* for everybody";
        Allowed::parse(text).map(Some).ok_or_else(|| self.illegal(key, text, legal))
    }

    fn illegal(&self, key: &'static str, value: &str, legal: &'static str) -> HttpAccessError {
        HttpAccessError::Illegal { origin: self.origin(), key, value: value.to_owned(), legal }
    }

    fn number(&self, key: &'static str, otherwise: u32) -> Result<u32, HttpAccessError> {
        let Some(text) = self.of(key) else { return Ok(otherwise) };
        let number = text.parse().ok().filter(|number| *number > 0);
        number.ok_or_else(|| self.illegal(key, text, "a whole number from 1 on"))
    }

    fn millis(&self, key: &'static str, otherwise: u32) -> Result<Duration, HttpAccessError> {
        Ok(Duration::from_millis(self.number(key, otherwise)?.into()))
    }

    /// What a client may take for a handshake, or for the head of a request.
    pub(super) fn patience(&self) -> Result<Duration, HttpAccessError> {
        self.millis(TIMEOUT, 10_000)
    }

    /// How long a client whose proof is wrong waits for the answer.
    pub(super) fn delay(&self) -> Result<Duration, HttpAccessError> {
        self.millis(DELAY, 100)
    }

    /// How often files of certificates and users are looked at for changes.
    pub(super) fn reload(&self) -> Result<Duration, HttpAccessError> {
        self.millis(RELOAD, 5000)
    }

    pub(super) fn most_strangers(&self) -> Result<usize, HttpAccessError> {
        Ok(self.number(STRANGERS, 512)? as usize)
    }

    pub(super) fn most_connections(&self) -> Result<usize, HttpAccessError> {
        Ok(self.number(CONNECTIONS, 512)? as usize)
    }

    fn is_insecure(&self) -> Result<bool, HttpAccessError> {
        match self.of(INSECURE) {
            None | Some("false") => Ok(false),
            Some("true") => Ok(true),
            Some(other) => Err(self.illegal(INSECURE, other, "true or false")),
        }
    }

    /// Whether any name will do in the certificate of another instance.
    pub(super) fn takes_any_name(&self) -> Result<bool, HttpAccessError> {
        let key = "ssl.endpoint.identification.algorithm";
        match self.of(key) {
            None | Some("https") => Ok(false),
            Some("" | "none") => Ok(true),
            Some(other) => Err(self.illegal(key, other, "https, or nothing for any name")),
        }
    }

    fn check(&self) -> Result<(), HttpAccessError> {
        let wanted = self.client_auth()?;
        self.is_insecure()?;
        self.takes_any_name()?;
        let numbers = [TIMEOUT, DELAY, RELOAD, STRANGERS, CONNECTIONS];
        numbers.into_iter().try_for_each(|key| self.number(key, 1).map(drop))?;
        let against =
            |key, reason| Err(HttpAccessError::Contradiction { origin: self.origin(), key, reason });
        if !self.has_tls()
            && let Some(key) = KEYS.iter().find(|key| key.starts_with("ssl.") && self.of(key).is_some())
        {
            let reason = "is of TLS, and there is none without a certificate: name a PEM file or a PKCS12 keystore with key and chain by ssl.keystore.location";
            return against(key, reason);
        }
        for key in [READERS, COMMANDS, METRICS, INSTANCES] {
            let listed = self.list(key)?.is_some();
            if listed && !self.knows_clients() {
                let reason = "names principals, and nobody can say who they are: set ssl.client.auth=required (or requested), or headwater.sasl.users.file";
                return against(key, reason);
            }
        }
        if self.of(INSTANCES).is_some() && wanted == ClientAuth::None {
            let reason = "is of certificates, and no client is asked for one: set ssl.client.auth=required (or requested)";
            return against(INSTANCES, reason);
        }
        Ok(())
    }

    /// Refuses what would open every store to strangers by accident.
    pub(crate) fn check_for(&self, address: SocketAddr, commands: bool) -> Result<(), HttpAccessError> {
        let against =
            |key, reason| Err(HttpAccessError::Contradiction { origin: self.origin(), key, reason });
        if commands && self.knows_clients() && self.of(COMMANDS).is_none() {
            return against(
                COMMANDS,
                "is not set, and http_commands lets everybody command: name who may, or leave http_commands out",
            );
        }
        if address.ip().is_loopback() || self.is_insecure()? {
            return Ok(());
        }
        let lacks = match (self.has_tls(), self.knows_clients()) {
            (true, true) => return self.check_strangers(),
            (true, false) => "does not ask who its clients are",
            (false, true) => "has no TLS",
            (false, false) => "has neither TLS nor authentication",
        };
        Err(HttpAccessError::Open { address, lacks })
    }

    /// Beyond this machine nobody reads stores who need not say who they are.
    fn check_strangers(&self) -> Result<(), HttpAccessError> {
        if self.client_auth()? == ClientAuth::Required {
            return Ok(());
        }
        for key in [READERS, COMMANDS] {
            if self.list(key)?.is_some_and(|list| list.includes_strangers()) {
                let reason = "lets in who does not say who they are: name principals, set ssl.client.auth=required, or say headwater.insecure=true";
                return Err(HttpAccessError::Contradiction { origin: self.origin(), key, reason });
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TLS: &str = "ssl.keystore.location=/server.pem\nssl.truststore.location=/ca.pem\n";

    fn refused(text: &str) -> String {
        HttpAccess::parse(text).unwrap_err().to_string()
    }

    #[test]
    fn what_is_unknown_or_contradicts_itself_is_an_error_that_names_the_key() {
        assert!(refused("headwater.http.reader=User:a").contains("unknown key 'headwater.http.reader'"));
        assert!(refused("ssl.client.auth=must").contains("none, requested or required"));
        assert!(refused("ssl.client.auth=required").contains("ssl.client.auth is of TLS"));
        assert!(refused("headwater.http.readers=User:a").contains("nobody can say who they are"));
        assert!(refused(&format!("{TLS}headwater.http.metrics=User:*")).contains("headwater.http.metrics"));
        let users = format!("{TLS}headwater.sasl.users.file=/users\n");
        assert!(refused(&format!("{users}headwater.http.readers=alice")).contains("User:alice;"));
        assert!(refused(&format!("{users}headwater.http.instances=User:a")).contains("is of certificates"));
        assert!(refused("headwater.insecure=yes").contains("true or false"));
        assert!(refused("headwater.authentication.timeout.ms=0").contains("from 1 on"));
        let secret = refused("headwater.insecure=true\nhunter2");
        assert!(secret.contains("line 2") && !secret.contains("hunter2"), "{secret}");
        let hidden = HttpAccess::parse(&format!("{TLS}ssl.keystore.password=hunter2")).unwrap();
        assert!(!format!("{hidden:?}").contains("hunter2"));
    }

    #[test]
    fn an_error_names_the_file() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "headwater.http.reader=User:a\n").unwrap();
        let told = HttpAccess::load(file.path()).unwrap_err().to_string();
        assert!(told.starts_with(&file.path().display().to_string()), "{told}");
        assert!(HttpAccess::load(Path::new("/nowhere")).unwrap_err().to_string().contains("/nowhere"));
    }

    #[test]
    fn an_address_that_strangers_can_use_is_refused() {
        let [here, there] = ["127.0.0.1:7071", "0.0.0.0:7071"].map(|address| address.parse().unwrap());
        let at = |text: &str, address| {
            HttpAccess::parse(text).unwrap().check_for(address, false).err().map(|error| error.to_string())
        };
        let required = format!("{TLS}ssl.client.auth=required\n");
        let users = "headwater.sasl.users.file=/users\n";
        for text in ["", TLS, users] {
            assert_eq!(at(text, here), None);
            assert!(at(text, there).unwrap().contains("headwater.insecure=true"));
            assert_eq!(at(&format!("{text}headwater.insecure=true"), there), None);
        }
        assert!(at("", there).unwrap().contains("neither TLS nor authentication"));
        assert!(at(TLS, there).unwrap().contains("does not ask who"));
        assert!(at(users, there).unwrap().contains("has no TLS"));
        let both = format!("{TLS}{users}");
        for fine in [&required, &both, &required.replace("required", "requested")] {
            assert_eq!(at(fine, there), None);
        }
        assert_eq!(at(&format!("{required}headwater.http.readers=User:*"), there), None);
        let open = format!("{both}headwater.http.readers=User:*");
        assert!(at(&open, there).unwrap().contains("headwater.http.readers lets in"));
        assert_eq!(at(&open, here), None);
        assert_eq!(at(&format!("{both}headwater.http.metrics=User:*"), there), None);
    }

    #[test]
    fn commands_of_everybody_contradict_identities() {
        let here = "127.0.0.1:7071".parse().unwrap();
        let required = format!("{TLS}ssl.client.auth=required\n");
        let told = HttpAccess::parse(&required).unwrap().check_for(here, true).unwrap_err().to_string();
        assert!(told.contains("headwater.http.commands") && told.contains("http_commands"), "{told}");
        let listed = format!("{required}headwater.http.commands=User:root");
        HttpAccess::parse(&listed).unwrap().check_for(here, true).unwrap();
        HttpAccess::default().check_for(here, true).unwrap();
    }
}
