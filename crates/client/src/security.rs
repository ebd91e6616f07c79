//! How a client protects its connections and says who it is, by Kafka's own keys.
//!
//! Keys of librdkafka are read, too, where Kafka's name for a thing is clumsy. A key of TLS or SASL that is not known
//! is an error, since a typing mistake must not make a connection less safe; other keys are somebody else's.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use headwater_security::rustls::{ClientConfig, RootCertStore};
use headwater_security::{
    Identity, JaasError, Login, Mechanism, PemError, Secret, SecurityProtocol, TlsConnector, lines, provider,
    trust,
};
use thiserror::Error;

use crate::verifier::AnyName;

const KEYS: &[&str] = &[
    "sasl.jaas.config",
    "sasl.mechanism",
    "sasl.oauthbearer.token.endpoint.url",
    "sasl.password",
    "sasl.username",
    "security.protocol",
    "ssl.ca",
    "ssl.ca.location",
    "ssl.certificate.location",
    "ssl.endpoint.identification.algorithm",
    "ssl.key.location",
    "ssl.keystore.certificate.chain",
    "ssl.keystore.key",
    "ssl.keystore.location",
    "ssl.keystore.type",
    "ssl.truststore.certificates",
    "ssl.truststore.location",
    "ssl.truststore.type",
];

/// Why a client's settings cannot be used.
#[derive(Debug, Error)]
pub enum SecurityError {
    #[error("{} cannot be read: {source}; name a properties file by --command-config or HEADWATER_COMMAND_CONFIG", .path.display())]
    File { path: PathBuf, source: std::io::Error },
    #[error("{}: {source}", .path.display())]
    In { path: PathBuf, source: Box<SecurityError> },
    #[error("line {0} is not KEY=VALUE")]
    Line(usize),
    #[error("unknown key '{0}'; the keys of TLS and SASL are {keys}", keys = KEYS.join(", "))]
    Unknown(String),
    #[error("{key}={value} is not legal: use {legal}")]
    Illegal { key: &'static str, value: String, legal: &'static str },
    #[error("sasl.jaas.config: {0}")]
    Jaas(#[from] JaasError),
    #[error("{0} needs a user and a password: set sasl.username and sasl.password, or sasl.jaas.config")]
    NoUser(&'static str),
    #[error(
        "OAUTHBEARER needs a token: set sasl.oauthbearer.token.endpoint.url=file:///PATH of a file that holds it"
    )]
    NoToken,
    #[error(transparent)]
    Pem(#[from] PemError),
    #[error("no authority of this machine is trusted: name a PEM file by ssl.truststore.location")]
    NoAuthorities,
    #[error("the client's certificate and key cannot be used: {0}")]
    Unusable(String),
}

/// TLS and SASL of a client; clones share what is behind it. The default is neither.
#[derive(Debug, Clone, Default)]
pub struct Security {
    tls: Option<Arc<ClientConfig>>,
    sasl: Option<Arc<Sasl>>,
}

/// As whom a client comes.
#[derive(Debug)]
pub(crate) enum Sasl {
    Password {
        mechanism: Mechanism,
        user: String,
        password: Secret,
    },
    /// Read each time, since tokens are renewed.
    TokenFile(PathBuf),
}

impl Sasl {
    pub fn mechanism(&self) -> Mechanism {
        match self {
            Self::Password { mechanism, .. } => *mechanism,
            Self::TokenFile(_) => Mechanism::OauthBearer,
        }
    }
}

impl Security {
    /// Reads a properties file, as Kafka's tools take it by `--command-config`.
    pub fn load(path: &Path) -> Result<Self, SecurityError> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| SecurityError::File { path: path.to_owned(), source })?;
        Self::parse(&text)
            .map_err(|source| SecurityError::In { path: path.to_owned(), source: Box::new(source) })
    }

    /// Reads `KEY=VALUE` lines.
    pub fn parse(text: &str) -> Result<Self, SecurityError> {
        let mut settings = Settings::default();
        for (_, key, value) in lines(text).map_err(|error| SecurityError::Line(error.line))? {
            let ours = ["ssl.", "sasl.", "security."].iter().any(|prefix| key.starts_with(prefix));
            if ours && !KEYS.contains(&key.as_str()) {
                return Err(SecurityError::Unknown(key));
            }
            settings.0.push((key, Secret::new(value)));
        }
        let protocol = settings.protocol()?;
        Ok(Self {
            tls: protocol.is_tls().then(|| settings.tls()).transpose()?.map(Arc::new),
            sasl: protocol.is_sasl().then(|| settings.sasl()).transpose()?.map(Arc::new),
        })
    }

    /// SCRAM-SHA-256 without TLS: for parts of one process.
    pub fn scram(user: impl Into<String>, password: Secret) -> Self {
        let mechanism = Mechanism::Scram(headwater_security::ScramMechanism::Sha256);
        let sasl = Sasl::Password { mechanism, user: user.into(), password };
        Self { tls: None, sasl: Some(Arc::new(sasl)) }
    }

    pub(crate) fn connector(&self) -> Option<TlsConnector> {
        self.tls.clone().map(TlsConnector::from)
    }

    pub(crate) fn sasl(&self) -> Option<&Sasl> {
        self.sasl.as_deref()
    }
}

/// In the order of the file; the last of a key counts.
#[derive(Default)]
struct Settings(Vec<(String, Secret)>);

impl Settings {
    fn get(&self, key: &str) -> Option<&str> {
        debug_assert!(KEYS.contains(&key), "{key}");
        self.0.iter().rev().find(|(known, _)| known == key).map(|(_, value)| value.reveal())
    }

    fn protocol(&self) -> Result<SecurityProtocol, SecurityError> {
        let Some(name) = self.get("security.protocol") else { return Ok(SecurityProtocol::default()) };
        SecurityProtocol::parse(name).ok_or(SecurityError::Illegal {
            key: "security.protocol",
            value: name.to_owned(),
            legal: "PLAINTEXT, SSL, SASL_PLAINTEXT or SASL_SSL",
        })
    }

    /// A text that is given inline, or by a file under one of several names.
    fn pem(&self, inline: &str, locations: &[&str]) -> Result<Option<(String, Vec<u8>)>, SecurityError> {
        if let Some(text) = self.get(inline) {
            return Ok(Some((inline.to_owned(), text.as_bytes().to_vec())));
        }
        let Some(path) = locations.iter().find_map(|key| self.get(key)) else { return Ok(None) };
        let bytes = std::fs::read(path)
            .map_err(|source| SecurityError::File { path: PathBuf::from(path), source })?;
        Ok(Some((path.to_owned(), bytes)))
    }

    fn tls(&self) -> Result<ClientConfig, SecurityError> {
        for key in ["ssl.keystore.type", "ssl.truststore.type"] {
            if let Some(other) = self.get(key).filter(|kind| *kind != "PEM") {
                let legal = "PEM (openssl pkcs12 -in FILE -nodes -out FILE.pem converts a keystore)";
                return Err(SecurityError::Illegal { key, value: other.to_owned(), legal });
            }
        }
        let trusted = self
            .pem("ssl.truststore.certificates", &["ssl.truststore.location", "ssl.ca.location", "ssl.ca"])?;
        let roots = match trusted {
            Some((what, bytes)) => trust(&what, &bytes)?,
            None => system_roots()?,
        };
        let builder = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .map_err(|error| SecurityError::Unusable(error.to_string()))?;
        let builder = match self.get("ssl.endpoint.identification.algorithm").unwrap_or("https") {
            "https" => builder.with_root_certificates(roots),
            "" | "none" => {
                let verifier = AnyName::new(roots).map_err(SecurityError::Unusable)?;
                builder.dangerous().with_custom_certificate_verifier(verifier)
            }
            other => {
                let key = "ssl.endpoint.identification.algorithm";
                let (value, legal) = (other.to_owned(), "https, or nothing for any name");
                return Err(SecurityError::Illegal { key, value, legal });
            }
        };
        let chain = ["ssl.keystore.location", "ssl.certificate.location"];
        let chain = self.pem("ssl.keystore.certificate.chain", &chain)?;
        let key = self.pem("ssl.keystore.key", &["ssl.key.location", "ssl.keystore.location"])?;
        let (Some(chain), Some(key)) = (chain, key) else { return Ok(builder.with_no_client_auth()) };
        let identity = Identity::read((&chain.0, &chain.1), (&key.0, &key.1))?;
        let unusable = |error: headwater_security::rustls::Error| SecurityError::Unusable(error.to_string());
        builder.with_client_auth_cert(identity.chain, identity.key).map_err(unusable)
    }

    fn sasl(&self) -> Result<Sasl, SecurityError> {
        let login = self.get("sasl.jaas.config").map(Login::parse).transpose()?;
        let name = self.get("sasl.mechanism").unwrap_or("SCRAM-SHA-256");
        let mechanism = Mechanism::parse(name).ok_or(SecurityError::Illegal {
            key: "sasl.mechanism",
            value: name.to_owned(),
            legal: "PLAIN, SCRAM-SHA-256, SCRAM-SHA-512 or OAUTHBEARER",
        })?;
        if mechanism == Mechanism::OauthBearer {
            let url = self.get("sasl.oauthbearer.token.endpoint.url").ok_or(SecurityError::NoToken)?;
            let path = url.strip_prefix("file://").ok_or(SecurityError::NoToken)?;
            return Ok(Sasl::TokenFile(PathBuf::from(path)));
        }
        let option = |key: &str| login.as_ref().and_then(|login| login.option(key)).map(Secret::reveal);
        let user = self.get("sasl.username").or_else(|| option("username"));
        let password = self.get("sasl.password").or_else(|| option("password"));
        match (user, password) {
            (Some(user), Some(password)) => {
                Ok(Sasl::Password { mechanism, user: user.to_owned(), password: Secret::new(password) })
            }
            _ => Err(SecurityError::NoUser(mechanism.name())),
        }
    }
}

fn system_roots() -> Result<Arc<RootCertStore>, SecurityError> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if roots.is_empty() { Err(SecurityError::NoAuthorities) } else { Ok(Arc::new(roots)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_of_kafkas_tools_is_read_and_its_password_not_shown() {
        let text = "bootstrap.servers=a:1\nsecurity.protocol=SASL_PLAINTEXT\nsasl.mechanism=SCRAM-SHA-512\n\
            sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required \\\n\
            username=\"alice\" password=\"hunter2\";\n";
        let security = Security::parse(text).unwrap();
        assert_eq!(security.sasl().unwrap().mechanism().name(), "SCRAM-SHA-512");
        assert!(!format!("{security:?}").contains("hunter2"));
    }

    #[test]
    fn what_would_make_a_connection_less_safe_is_an_error() {
        let refused = |text: &str| Security::parse(text).unwrap_err().to_string();
        assert!(refused("security.protocol=TLS").contains("SASL_SSL"));
        assert!(refused("security.protokol=SSL").contains("unknown key 'security.protokol'"));
        assert!(refused("security.protocol=SASL_SSL\nssl.truststore.location=/nowhere").contains("/nowhere"));
        assert!(refused("security.protocol=SASL_PLAINTEXT\nsasl.mechanism=GSSAPI").contains("OAUTHBEARER"));
        assert!(refused("security.protocol=SASL_PLAINTEXT").contains("sasl.username"));
        assert!(refused("security.protocol=SSL\nssl.truststore.type=JKS").contains("openssl pkcs12"));
    }
}
