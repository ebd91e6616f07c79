//! How a client protects its connections and says who it is, by Kafka's own keys.
//!
//! Keys of librdkafka are read, too, where Kafka's name for a thing is clumsy. A key of TLS or SASL that is not known
//! is an error, since a typing mistake must not make a connection less safe; other keys are somebody else's.

mod endpoint;
mod http;
mod indirect;
mod login;
mod settings;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use headwater_security::rustls::ClientConfig;
use headwater_security::{JaasError, Mechanism, PemError, Secret, TlsConnector};
use thiserror::Error;

pub use http::{HttpSecurity, Proof, without_password};
pub(crate) use login::Sasl;
use settings::Settings;

const KEYS: &[&str] = &[
    "basic.auth.credentials.source",
    "basic.auth.user.info",
    "bearer.auth.credentials.source",
    "bearer.auth.token",
    "sasl.jaas.config",
    "sasl.login.connect.timeout.ms",
    "sasl.login.read.timeout.ms",
    "sasl.login.retry.backoff.max.ms",
    "sasl.login.retry.backoff.ms",
    "sasl.mechanism",
    "sasl.oauthbearer.client.credentials.client.id",
    "sasl.oauthbearer.client.credentials.client.secret",
    "sasl.oauthbearer.client.id",
    "sasl.oauthbearer.client.secret",
    "sasl.oauthbearer.scope",
    "sasl.oauthbearer.token.endpoint.url",
    "sasl.password",
    "sasl.username",
    "security.protocol",
    "ssl.ca",
    "ssl.ca.location",
    "ssl.certificate.location",
    "ssl.endpoint.identification.algorithm",
    "ssl.key.location",
    "ssl.key.password",
    "ssl.keystore.certificate.chain",
    "ssl.keystore.key",
    "ssl.keystore.location",
    "ssl.keystore.password",
    "ssl.keystore.type",
    "ssl.truststore.certificates",
    "ssl.truststore.location",
    "ssl.truststore.password",
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
    #[error(
        "unknown key '{0}'; the keys of TLS and SASL are {keys}, and for the registry alone schema.registry.KEY",
        keys = KEYS.join(", ")
    )]
    Unknown(String),
    #[error("{key}={value} is not legal: use {legal}")]
    Illegal { key: &'static str, value: String, legal: &'static str },
    #[error("{key} names the environment variable {name}, which is not set")]
    Variable { key: String, name: String },
    #[error("sasl.jaas.config: {0}")]
    Jaas(#[from] JaasError),
    #[error("{0} needs a user and a password: set sasl.username and sasl.password, or sasl.jaas.config")]
    NoUser(&'static str),
    #[error("the registry needs a user and a password: set basic.auth.user.info=USER:PASSWORD")]
    UserInfo,
    #[error(
        "OAUTHBEARER needs a token: set sasl.oauthbearer.token.endpoint.url=https://ISSUER/PATH, or file:///PATH of a file that holds one"
    )]
    NoToken,
    #[error(
        "the token endpoint needs to know its client: set sasl.oauthbearer.client.credentials.client.id and .client.secret, or clientId and clientSecret in sasl.jaas.config"
    )]
    NoClient,
    #[error(transparent)]
    Pem(#[from] PemError),
    #[error("no authority of this machine is trusted: name a PEM file by ssl.truststore.location")]
    NoAuthorities,
    #[error("the client's certificate and key cannot be used: {0}")]
    Unusable(String),
}

/// Why there is no token.
#[derive(Debug, Error)]
pub enum TokenError {
    #[error("the token in {} cannot be read: {source}", .path.display())]
    File { path: PathBuf, source: std::io::Error },
    #[error("no token from {url}: {reason}")]
    Endpoint { url: String, reason: String },
}

/// TLS and SASL of a client; clones share what is behind it. The default is neither.
#[derive(Debug, Clone, Default)]
pub struct Security {
    tls: Option<Arc<ClientConfig>>,
    sasl: Option<Arc<Sasl>>,
    http: Arc<HttpSecurity>,
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
        let settings = Settings::parse(text)?;
        let protocol = settings.protocol()?;
        let sasl = protocol.is_sasl().then(|| Sasl::read(&settings)).transpose()?.map(Arc::new);
        Ok(Self {
            tls: protocol.is_tls().then(|| settings.tls()).transpose()?.map(Arc::new),
            http: Arc::new(HttpSecurity::read(&settings, sasl.as_ref())?),
            sasl,
        })
    }

    /// SCRAM-SHA-256 without TLS: for parts of one process.
    pub fn scram(user: impl Into<String>, password: Secret) -> Self {
        let mechanism = Mechanism::Scram(headwater_security::ScramMechanism::Sha256);
        let sasl = Sasl::Password { mechanism, user: user.into(), password };
        Self { tls: None, sasl: Some(Arc::new(sasl)), http: Arc::default() }
    }

    /// How the registry and other HTTP servers beside the brokers are reached.
    pub fn http(&self) -> &HttpSecurity {
        &self.http
    }

    /// Whether the client says who it is: by SASL, or by a certificate.
    pub fn is_somebody(&self) -> bool {
        self.sasl.is_some() || self.tls.as_ref().is_some_and(|tls| tls.client_auth_cert_resolver.has_certs())
    }

    pub(crate) fn connector(&self) -> Option<TlsConnector> {
        self.tls.clone().map(TlsConnector::from)
    }

    pub(crate) fn sasl(&self) -> Option<&Sasl> {
        self.sasl.as_deref()
    }
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
        assert!(refused("schema.registry.sasl.password=a").contains("unknown key"));
        assert!(refused("security.protocol=SSL\nssl.truststore.location=/nowhere").contains("/nowhere"));
        assert!(refused("security.protocol=SASL_PLAINTEXT\nsasl.mechanism=GSSAPI").contains("OAUTHBEARER"));
        assert!(refused("security.protocol=SASL_PLAINTEXT").contains("sasl.username"));
        assert!(
            refused("security.protocol=SSL\nssl.truststore.type=JKS").contains("keytool -importkeystore")
        );
        let oauth = "security.protocol=SASL_PLAINTEXT\nsasl.mechanism=OAUTHBEARER\n";
        assert!(refused(oauth).contains("sasl.oauthbearer.token.endpoint.url"));
        let clear = format!("{oauth}sasl.oauthbearer.token.endpoint.url=http://issuer.example/token");
        assert!(refused(&clear).contains("https://"), "a secret in the clear");
        assert!(refused(&clear.replace("http:", "https:")).contains("client.id"));
    }

    #[tokio::test]
    async fn the_registry_is_told_who_the_client_is_and_the_brokers_login_goes_nowhere_in_the_clear() {
        let proof = async |text: &str, url: &str| {
            let security = Security::parse(text).unwrap();
            match security.http().proof(&url.parse().unwrap()).await.unwrap() {
                Some(Proof::Basic { user, password }) => format!("{user}/{}", password.reveal()),
                Some(Proof::Bearer(token)) => token.reveal().to_owned(),
                None => String::new(),
            }
        };
        let login = "security.protocol=SASL_PLAINTEXT\nsasl.username=alice\nsasl.password=a\n";
        assert_eq!(proof(login, "https://registry").await, "alice/a");
        assert_eq!(proof(login, "http://127.0.0.1:8081").await, "alice/a");
        assert_eq!(proof(login, "http://registry").await, "");
        let own = format!("{login}basic.auth.user.info=other:b:c\n");
        assert_eq!(proof(&own, "http://registry").await, "other/b:c");
        let confluent = "schema.registry.url=https://r\nbasic.auth.credentials.source=USER_INFO\n\
                         schema.registry.basic.auth.user.info=sr:pw\n";
        assert_eq!(proof(confluent, "https://r").await, "sr/pw");
        assert_eq!(Security::parse(confluent).unwrap().http().registry_url(), Some("https://r"));
        assert_eq!(proof("bearer.auth.token=t", "https://r").await, "t");
        assert!(Security::parse("basic.auth.credentials.source=URL").is_err());
    }
}
