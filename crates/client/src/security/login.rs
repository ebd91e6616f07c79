//! As whom a client comes: a password, or a token that is fetched when it is needed.

use std::path::PathBuf;

use headwater_security::{Login, Mechanism, Secret};

use super::endpoint::Endpoint;
use super::settings::Settings;
use super::{SecurityError, TokenError};

#[derive(Debug)]
pub enum Sasl {
    Password {
        mechanism: Mechanism,
        user: String,
        password: Secret,
    },
    /// Read each time, since tokens are renewed.
    TokenFile(PathBuf),
    TokenEndpoint(Box<Endpoint>),
}

impl Sasl {
    pub fn mechanism(&self) -> Mechanism {
        match self {
            Self::Password { mechanism, .. } => *mechanism,
            Self::TokenFile(_) | Self::TokenEndpoint(_) => Mechanism::OauthBearer,
        }
    }

    /// A token that is good for a while; `None` where passwords are used.
    pub async fn token(&self) -> Result<Option<Secret>, TokenError> {
        match self {
            Self::Password { .. } => Ok(None),
            Self::TokenFile(path) => {
                let text = tokio::fs::read_to_string(path).await;
                let text = text.map_err(|source| TokenError::File { path: path.clone(), source })?;
                Ok(Some(Secret::new(text.trim())))
            }
            Self::TokenEndpoint(endpoint) => endpoint.token().await.map(Some),
        }
    }

    pub fn read(settings: &Settings) -> Result<Self, SecurityError> {
        let login = settings.get("sasl.jaas.config").map(Login::parse).transpose()?;
        let name = settings.get("sasl.mechanism").unwrap_or("SCRAM-SHA-256");
        let mechanism = Mechanism::parse(name).ok_or(SecurityError::Illegal {
            key: "sasl.mechanism",
            value: name.to_owned(),
            legal: "PLAIN, SCRAM-SHA-256, SCRAM-SHA-512 or OAUTHBEARER",
        })?;
        let option = |key: &str| login.as_ref().and_then(|login| login.option(key)).map(Secret::reveal);
        if mechanism == Mechanism::OauthBearer {
            let url = settings.get("sasl.oauthbearer.token.endpoint.url").ok_or(SecurityError::NoToken)?;
            return match url.strip_prefix("file://") {
                Some(path) => Ok(Self::TokenFile(PathBuf::from(path))),
                None => Ok(Self::TokenEndpoint(Box::new(Endpoint::read(url, settings, &option)?))),
            };
        }
        let user = settings.get("sasl.username").or_else(|| option("username"));
        let password = settings.get("sasl.password").or_else(|| option("password"));
        match (user, password) {
            (Some(user), Some(password)) => {
                Ok(Self::Password { mechanism, user: user.to_owned(), password: Secret::new(password) })
            }
            _ => Err(SecurityError::NoUser(mechanism.name())),
        }
    }
}
