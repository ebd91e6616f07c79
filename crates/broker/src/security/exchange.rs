//! One SASL exchange, from the broker's side: messages in, messages out, and who it was in the end.
//!
//! Invariant: a client is told that it failed, and never why; the same work is done for a user that does not exist.

use std::time::Duration;

use headwater_model::Principal;
use headwater_security::scram::{ClientFirst, ScramError, ScramServer};
use headwater_security::{Mechanism, ScramCredential, ScramMechanism, Secret, SecretError, random_text};
use thiserror::Error;

use super::Authority;
use super::oauth::TokenError;

/// Why an exchange failed: for the log.
#[derive(Debug, Error)]
pub enum Refused {
    #[error(transparent)]
    Scram(#[from] ScramError),
    #[error("the message is not PLAIN")]
    Plain,
    #[error("the user or the password is wrong")]
    Password,
    #[error("the message is not OAUTHBEARER")]
    OauthBearer,
    #[error("the token is not accepted: {0}")]
    Token(#[from] TokenError),
    #[error("the token is not of the user that the client asks to be")]
    Subject,
    #[error(transparent)]
    Random(#[from] SecretError),
    #[error("a message after the end of the exchange")]
    Ended,
    #[error("another user or mechanism than before, which only a new connection may have")]
    Changed,
}

/// Who a client has proved to be.
#[derive(Debug)]
pub struct Proved {
    pub principal: Principal,
    /// What it proved it with is valid for so much longer.
    pub valid_for: Option<Duration>,
}

pub struct Step {
    pub message: Vec<u8>,
    pub proved: Option<Proved>,
}

impl Step {
    fn more(message: Vec<u8>) -> Self {
        Self { message, proved: None }
    }

    fn end(message: Vec<u8>, user: String, valid_for: Option<Duration>) -> Self {
        Self { message, proved: Some(Proved { principal: Principal::user(user), valid_for }) }
    }
}

enum Stage {
    Begin,
    Challenged {
        server: Box<ScramServer>,
        user: String,
    },
    /// RFC 7628: the client acknowledges the refusal, and then is refused.
    BadToken(TokenError),
    Over,
}

pub struct Exchange {
    mechanism: Mechanism,
    stage: Stage,
}

impl Exchange {
    pub fn new(mechanism: Mechanism) -> Self {
        Self { mechanism, stage: Stage::Begin }
    }

    pub fn mechanism(&self) -> Mechanism {
        self.mechanism
    }

    pub async fn step(&mut self, message: &[u8], authority: &Authority) -> Result<Step, Refused> {
        match (std::mem::replace(&mut self.stage, Stage::Over), self.mechanism) {
            (Stage::Begin, Mechanism::Plain) => plain(message, authority).await,
            (Stage::Begin, Mechanism::Scram(mechanism)) => self.challenge(mechanism, message, authority),
            (Stage::Begin, Mechanism::OauthBearer) => self.token(message, authority).await,
            (Stage::Challenged { server, user }, _) => Ok(Step::end(server.finish(message)?, user, None)),
            (Stage::BadToken(error), _) => Err(error.into()),
            (Stage::Over, _) => Err(Refused::Ended),
        }
    }

    fn challenge(
        &mut self,
        mechanism: ScramMechanism,
        message: &[u8],
        authority: &Authority,
    ) -> Result<Step, Refused> {
        let first = ClientFirst::parse(message)?;
        let credential = authority.credential(&first.user, mechanism);
        let (server, challenge) = ScramServer::challenge(mechanism, &first, credential, &random_text()?);
        self.stage = Stage::Challenged { server: Box::new(server), user: first.user };
        Ok(Step::more(challenge))
    }

    async fn token(&mut self, message: &[u8], authority: &Authority) -> Result<Step, Refused> {
        let (user, token) = bearer(message).ok_or(Refused::OauthBearer)?;
        match authority.tokens.check(token).await {
            Ok(valid) if !(user.is_empty() || user == valid.subject) => Err(Refused::Subject),
            Ok(valid) => Ok(Step::end(Vec::new(), valid.subject, Some(valid.valid_for))),
            Err(error) => {
                self.stage = Stage::BadToken(error);
                Ok(Step::more(br#"{"status":"invalid_token"}"#.to_vec()))
            }
        }
    }
}

/// RFC 4616: `[authzid] NUL authcid NUL passwd`.
async fn plain(message: &[u8], authority: &Authority) -> Result<Step, Refused> {
    let text = std::str::from_utf8(message).map_err(|_| Refused::Plain)?;
    let mut parts = text.split('\0');
    let (Some(authorization), Some(user), Some(password), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(Refused::Plain);
    };
    if user.is_empty() || password.is_empty() || !(authorization.is_empty() || authorization == user) {
        return Err(Refused::Plain);
    }
    let (user, password) = (user.to_owned(), Secret::new(password));
    let (mechanism, credential) = authority.any_credential(&user);
    let right = authority.derivations.is_password(mechanism, credential, password).await;
    if right { Ok(Step::end(Vec::new(), user, None)) } else { Err(Refused::Password) }
}

/// RFC 7628: `n,a=USER, ^A auth=Bearer TOKEN ^A … ^A ^A`, of which `a=USER` may be missing. User, if any, and token.
fn bearer(message: &[u8]) -> Option<(&str, &str)> {
    let mut parts = std::str::from_utf8(message).ok()?.split('\x01');
    let header = parts.next()?.strip_prefix("n,")?.strip_suffix(',')?;
    let user = if header.is_empty() { header } else { header.strip_prefix("a=")? };
    let authorization = parts.find_map(|part| part.strip_prefix("auth="))?;
    let (scheme, token) = authorization.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then_some((user, token.trim()))
}

impl Authority {
    fn known(&self, user: &str, mechanism: ScramMechanism) -> Option<ScramCredential> {
        self.internal
            .find(user, mechanism)
            .or_else(|| self.users.find(user, mechanism))
            .or_else(|| self.credentials.find(user, mechanism))
    }

    /// What a user has to know; for one that does not exist, what nobody knows.
    fn credential(&self, user: &str, mechanism: ScramMechanism) -> ScramCredential {
        let pretended = ScramCredential::pretended(mechanism, user, &self.secret);
        self.known(user, mechanism).unwrap_or(pretended)
    }

    /// For PLAIN, which fits a credential of either mechanism.
    pub fn any_credential(&self, user: &str) -> (ScramMechanism, ScramCredential) {
        let known = |mechanism| Some((mechanism, self.known(user, mechanism)?));
        let found = ScramMechanism::ALL.into_iter().find_map(known);
        found.unwrap_or_else(|| {
            (ScramMechanism::Sha256, ScramCredential::pretended(ScramMechanism::Sha256, user, &self.secret))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_found_in_its_message() {
        assert_eq!(bearer(b"n,,\x01auth=Bearer a.b.c\x01\x01"), Some(("", "a.b.c")));
        assert_eq!(bearer(b"n,a=me,\x01host=x\x01auth=bearer a.b.c\x01\x01"), Some(("me", "a.b.c")));
        for wrong in [
            "",
            "n,,",
            "n,,\x01auth=Basic x\x01\x01",
            "p=x,,\x01auth=Bearer a\x01\x01",
            "n,me,\x01auth=Bearer a\x01\x01",
        ] {
            assert_eq!(bearer(wrong.as_bytes()), None, "{wrong:?}");
        }
    }
}
