//! The settings of a client as they are written, and the TLS they ask for.

use std::path::PathBuf;
use std::sync::Arc;

use headwater_security::rustls::{ClientConfig, RootCertStore};
use headwater_security::{Identity, Secret, SecurityProtocol, ServerVerifier, lines, provider, trust};

use super::indirect::resolved;
use super::{KEYS, SecurityError};

/// Keys for the registry alone stand behind this; without one, it is reached as the brokers are.
pub const REGISTRY: &str = "schema.registry.";
/// A key that begins so and is not known is a mistake.
const OURS: [&str; 6] = ["ssl.", "sasl.", "security.", REGISTRY, "basic.auth.", "bearer.auth."];

/// In the order of the file; the last of a key counts.
#[derive(Default)]
pub struct Settings(Vec<(String, Secret)>);

/// Whether a key is one of the table, by itself or for the registry alone.
fn is_known(key: &str) -> bool {
    KEYS.contains(&key)
        || key
            .strip_prefix(REGISTRY)
            .is_some_and(|own| own == "url" || (is_registrys(own) && KEYS.contains(&own)))
}

fn is_registrys(key: &str) -> bool {
    ["ssl.", "basic.auth.", "bearer.auth."].iter().any(|prefix| key.starts_with(prefix))
}

impl Settings {
    /// Reads `KEY=VALUE` lines.
    pub fn parse(text: &str) -> Result<Self, SecurityError> {
        let mut settings = Self::default();
        for (_, key, value) in lines(text).map_err(|error| SecurityError::Line(error.line))? {
            if OURS.iter().any(|prefix| key.starts_with(prefix)) && !is_known(&key) {
                return Err(SecurityError::Unknown(key));
            }
            let value = resolved(&key, &value)?;
            settings.0.push((key, Secret::new(value)));
        }
        Ok(settings)
    }

    pub fn get(&self, key: &str) -> Option<&str> {
        debug_assert!(is_known(key), "{key}");
        self.0.iter().rev().find(|(known, _)| known == key).map(|(_, value)| value.reveal())
    }

    /// The value for the registry alone, else for all.
    pub fn of_registry(&self, key: &str) -> Option<&str> {
        self.get(&format!("{REGISTRY}{key}")).or_else(|| self.get(key))
    }

    /// Whether anything is said of TLS with the registry.
    pub fn has_registry_tls(&self) -> bool {
        self.0.iter().any(|(key, _)| key.strip_prefix(REGISTRY).unwrap_or(key).starts_with("ssl."))
    }

    pub fn protocol(&self) -> Result<SecurityProtocol, SecurityError> {
        let Some(name) = self.get("security.protocol") else { return Ok(SecurityProtocol::default()) };
        SecurityProtocol::parse(name).ok_or(SecurityError::Illegal {
            key: "security.protocol",
            value: name.to_owned(),
            legal: "PLAINTEXT, SSL, SASL_PLAINTEXT or SASL_SSL",
        })
    }

    /// A time in milliseconds.
    pub fn millis(&self, key: &'static str, otherwise: u64) -> Result<std::time::Duration, SecurityError> {
        let Some(text) = self.get(key) else { return Ok(std::time::Duration::from_millis(otherwise)) };
        let legal = "a whole number of milliseconds";
        let millis =
            text.parse().map_err(|_| SecurityError::Illegal { key, value: text.to_owned(), legal })?;
        Ok(std::time::Duration::from_millis(millis))
    }

    /// TLS with the brokers.
    pub fn tls(&self) -> Result<ClientConfig, SecurityError> {
        tls(&|key| self.get(key))
    }

    /// TLS with the registry.
    pub fn registry_tls(&self) -> Result<ClientConfig, SecurityError> {
        tls(&|key| self.of_registry(key))
    }
}

type Of<'a> = &'a dyn Fn(&str) -> Option<&'a str>;

/// What a store holds: from the text of one key, or from the file of another.
struct Store {
    what: String,
    bytes: Vec<u8>,
}

/// A text that is given inline, or by a file under one of several names.
fn store(of: Of<'_>, inline: &str, locations: &[&str]) -> Result<Option<Store>, SecurityError> {
    if let Some(text) = of(inline) {
        return Ok(Some(Store { what: inline.to_owned(), bytes: text.as_bytes().to_vec() }));
    }
    let Some(path) = locations.iter().find_map(|key| of(key)) else { return Ok(None) };
    let bytes =
        std::fs::read(path).map_err(|source| SecurityError::File { path: PathBuf::from(path), source })?;
    Ok(Some(Store { what: path.to_owned(), bytes }))
}

fn roots(of: Of<'_>) -> Result<Arc<RootCertStore>, SecurityError> {
    let locations = ["ssl.truststore.location", "ssl.ca.location", "ssl.ca"];
    let Some(Store { what, bytes }) = store(of, "ssl.truststore.certificates", &locations)? else {
        return system_roots();
    };
    let password = of("ssl.truststore.password").map(Secret::new);
    Ok(trust(&what, &bytes, password.as_ref())?)
}

fn identity(of: Of<'_>) -> Result<Option<Identity>, SecurityError> {
    let chain = ["ssl.keystore.location", "ssl.certificate.location"];
    let chain = store(of, "ssl.keystore.certificate.chain", &chain)?;
    let key = store(of, "ssl.keystore.key", &["ssl.key.location", "ssl.keystore.location"])?;
    let (Some(chain), Some(key)) = (chain, key) else { return Ok(None) };
    let password = of("ssl.keystore.password").or_else(|| of("ssl.key.password")).map(Secret::new);
    let identity = Identity::read((&chain.what, &chain.bytes), (&key.what, &key.bytes), password.as_ref());
    Ok(Some(identity?))
}

fn tls(of: Of<'_>) -> Result<ClientConfig, SecurityError> {
    for key in ["ssl.keystore.type", "ssl.truststore.type"] {
        if let Some(other) = of(key).filter(|kind| !["PEM", "PKCS12"].contains(kind)) {
            let legal = "PEM or PKCS12 (keytool -importkeystore -srckeystore FILE.jks -destkeystore FILE.p12 -deststoretype PKCS12 converts a keystore)";
            return Err(SecurityError::Illegal { key, value: other.to_owned(), legal });
        }
    }
    let roots = roots(of)?;
    let builder = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(|error| SecurityError::Unusable(error.to_string()))?;
    let builder = match of("ssl.endpoint.identification.algorithm").unwrap_or("https") {
        "https" => builder.with_root_certificates(roots),
        "" | "none" => {
            let verifier = ServerVerifier::new(roots, true).map_err(SecurityError::Unusable)?;
            builder.dangerous().with_custom_certificate_verifier(Arc::new(verifier))
        }
        other => {
            let key = "ssl.endpoint.identification.algorithm";
            let (value, legal) = (other.to_owned(), "https, or nothing for any name");
            return Err(SecurityError::Illegal { key, value, legal });
        }
    };
    let Some(identity) = identity(of)? else { return Ok(builder.with_no_client_auth()) };
    let unusable = |error: headwater_security::rustls::Error| SecurityError::Unusable(error.to_string());
    builder.with_client_auth_cert(identity.chain, identity.key).map_err(unusable)
}

fn system_roots() -> Result<Arc<RootCertStore>, SecurityError> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if roots.is_empty() { Err(SecurityError::NoAuthorities) } else { Ok(Arc::new(roots)) }
}
