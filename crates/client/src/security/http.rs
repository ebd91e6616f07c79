//! How the HTTP servers beside the brokers are reached, the registry above all: by keys of Confluent's clients, and
//! without them as the brokers are.

use std::net::IpAddr;
use std::sync::Arc;

use headwater_security::Secret;
use reqwest::Url;

use super::login::Sasl;
use super::settings::Settings;
use super::{SecurityError, TokenError};

/// TLS and identity towards HTTP servers; clones share what is behind it.
#[derive(Debug, Clone, Default)]
pub struct HttpSecurity {
    tls: Option<Box<headwater_security::rustls::ClientConfig>>,
    who: Who,
    url: Option<String>,
}

#[derive(Debug, Clone, Default)]
enum Who {
    #[default]
    Nobody,
    User {
        name: String,
        password: Secret,
    },
    Token(Secret),
    /// As whom the client comes to the brokers.
    Login(Arc<Sasl>),
}

/// What `Authorization` holds.
#[derive(Debug, Clone)]
pub enum Proof {
    Basic { user: String, password: Secret },
    Bearer(Secret),
}

impl HttpSecurity {
    pub(super) fn read(settings: &Settings, sasl: Option<&Arc<Sasl>>) -> Result<Self, SecurityError> {
        let tls = settings.has_registry_tls().then(|| settings.registry_tls()).transpose()?;
        Ok(Self {
            tls: tls.map(Box::new),
            who: who(settings, sasl)?,
            url: settings.get("schema.registry.url").map(str::to_owned),
        })
    }

    /// `schema.registry.url`
    pub fn registry_url(&self) -> Option<&str> {
        self.url.as_deref()
    }

    /// A client of HTTP that trusts, and shows, what the settings say.
    ///
    /// # Errors
    /// What the library of HTTP says against it.
    pub fn client(&self) -> Result<reqwest::Client, reqwest::Error> {
        self.over(reqwest::Client::builder()).build()
    }

    /// Puts the TLS of the settings into what a client is made of.
    pub fn over(&self, builder: reqwest::ClientBuilder) -> reqwest::ClientBuilder {
        match &self.tls {
            Some(tls) => builder.tls_backend_preconfigured((**tls).clone()),
            None => builder,
        }
    }

    /// Whether anything is said of TLS.
    pub fn has_tls(&self) -> bool {
        self.tls.is_some()
    }

    /// What proves who the client is. The login of the brokers goes only where nobody can overhear it.
    ///
    /// # Errors
    /// [`TokenError`] when there is no token to be had.
    pub async fn proof(&self, url: &Url) -> Result<Option<Proof>, TokenError> {
        match &self.who {
            Who::Nobody => Ok(None),
            Who::User { name, password } => {
                Ok(Some(Proof::Basic { user: name.clone(), password: password.clone() }))
            }
            Who::Token(token) => Ok(Some(Proof::Bearer(token.clone()))),
            Who::Login(_) if !is_private(url) => Ok(None),
            Who::Login(sasl) => match &**sasl {
                Sasl::Password { user, password, .. } => {
                    Ok(Some(Proof::Basic { user: user.clone(), password: password.clone() }))
                }
                sasl => Ok(sasl.token().await?.map(Proof::Bearer)),
            },
        }
    }
}

fn is_private(url: &Url) -> bool {
    url.scheme() == "https" || is_this_machine(url)
}

/// Whether nothing that is sent there leaves this machine.
pub fn is_this_machine(url: &Url) -> bool {
    // An IPv6 address stands in brackets.
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// An address as it may be told to whoever reads an error: without the user and the password that may stand in it.
pub fn without_password(url: &str) -> String {
    let (scheme, rest) = url.split_at(url.find("://").map_or(0, |at| at + 3));
    // What is before the last @ of an address that is none may be a password that is not escaped.
    let end = rest.find('/').filter(|_| Url::parse(url).is_ok()).unwrap_or(rest.len());
    match rest[..end].rfind('@') {
        Some(at) => format!("{scheme}{}", &rest[at + 1..]),
        None => url.to_owned(),
    }
}

fn who(settings: &Settings, sasl: Option<&Arc<Sasl>>) -> Result<Who, SecurityError> {
    let illegal = |key, value: &str, legal| SecurityError::Illegal { key, value: value.to_owned(), legal };
    if let Some(token) = settings.of_registry("bearer.auth.token") {
        return Ok(Who::Token(Secret::new(token)));
    }
    if let Some(source) = settings.of_registry("bearer.auth.credentials.source")
        && source != "STATIC_TOKEN"
    {
        return Err(illegal(
            "bearer.auth.credentials.source",
            source,
            "STATIC_TOKEN, with bearer.auth.token",
        ));
    }
    let info = settings.of_registry("basic.auth.user.info");
    let source = settings.of_registry("basic.auth.credentials.source");
    match (source, info) {
        (None | Some("USER_INFO"), Some(info)) => {
            let (name, password) = info.split_once(':').ok_or(SecurityError::UserInfo)?;
            Ok(Who::User { name: name.to_owned(), password: Secret::new(password) })
        }
        (Some("USER_INFO"), None) => Err(SecurityError::UserInfo),
        (None | Some("SASL_INHERIT"), _) => Ok(sasl.map_or(Who::Nobody, |sasl| Who::Login(Arc::clone(sasl)))),
        (Some("NONE"), _) => Ok(Who::Nobody),
        (Some(other), _) => {
            Err(illegal("basic.auth.credentials.source", other, "USER_INFO, SASL_INHERIT or NONE"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_told_without_its_password() {
        for (url, told) in [
            ("http://u:secret@host:8081/a/b", "http://host:8081/a/b"),
            ("https://u@host", "https://host"),
            ("u:secret@host:8081", "host:8081"),
            ("http://u:sec/ret@host", "http://host"),
            ("http://u:s@c#r?et@host", "http://host"),
            ("http://host:1/subjects/a@b", "http://host:1/subjects/a@b"),
            ("http://[::1]:8081", "http://[::1]:8081"),
            ("localhost", "localhost"),
        ] {
            assert_eq!(without_password(url), told);
        }
    }
}
