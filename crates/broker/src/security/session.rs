//! Where a connection to a SASL listener stands: which mechanism was agreed on, who the client is, until when.

use std::sync::Arc;
use std::time::Duration;

use headwater_model::Principal;
use headwater_security::{Mechanism, ScramMechanism};
use headwater_wire::ErrorCode;
use tokio::time::Instant;

use super::exchange::{Exchange, Proved, Refused};
use super::{Authority, INTERNAL, INTERNAL_USER, Listener};

/// What clients are told, whatever was wrong.
pub const FAILED: &str = "authentication failed: the user, the password or the token is not accepted";

/// A session is no longer than this, whatever a token or a setting says.
const LONGEST: Duration = Duration::from_secs(365 * 86_400);

/// Who proves itself again and again does so no faster, as Kafka has it: a proof takes a processor some milliseconds.
const BETWEEN_PROOFS: Duration = Duration::from_secs(1);

pub struct Session {
    authority: Arc<Authority>,
    listener: Arc<Listener>,
    exchange: Option<Exchange>,
    /// SaslHandshake v0: tokens come as they are, without a request around them.
    raw: bool,
    proved: Option<(Mechanism, Arc<Principal>)>,
    /// When the client last began to prove it again.
    again: Option<Instant>,
    expires: Option<Instant>,
}

/// What an answer to a token says.
pub struct Authenticated {
    pub message: Vec<u8>,
    /// How long the client may go on before it must authenticate again; zero for ever.
    pub lifetime: Duration,
}

/// A token that is not accepted; the connection ends after the answer.
#[derive(Debug)]
pub struct Denied {
    pub code: ErrorCode,
    pub message: String,
}

impl Denied {
    fn state(message: &str) -> Self {
        Self { code: ErrorCode::IllegalSaslState, message: message.to_owned() }
    }
}

impl Session {
    pub fn new(authority: Arc<Authority>, listener: Arc<Listener>) -> Self {
        Self { authority, listener, exchange: None, raw: false, proved: None, again: None, expires: None }
    }

    /// Who the client is, once it has proved it and the exchange is over.
    pub fn principal(&self) -> Option<&Arc<Principal>> {
        self.proved.as_ref().filter(|_| self.exchange.is_none()).map(|(_, principal)| principal)
    }

    /// A mechanism was agreed on, and the client has proved nothing yet.
    pub fn is_agreed(&self) -> bool {
        self.exchange.is_some() && self.proved.is_none()
    }

    pub fn is_raw(&self) -> bool {
        self.raw && self.exchange.is_some()
    }

    /// KIP-368: what was proved is too old.
    pub fn has_expired(&self) -> bool {
        self.expires.is_some_and(|expires| expires <= Instant::now())
    }

    pub fn mechanisms(&self) -> &[Mechanism] {
        &self.listener.mechanisms
    }

    /// Agrees on a mechanism; an error ends the connection.
    pub fn agree(&mut self, mechanism: &str, raw: bool) -> Result<(), Denied> {
        if self.exchange.is_some() {
            return Err(Denied::state("SaslHandshake within an exchange"));
        }
        if self.proved.is_some() && !self.may_prove_again() {
            return Err(Denied::state("SaslHandshake of a session without an end, or a second one at once"));
        }
        let wanted = Mechanism::parse(mechanism).filter(|wanted| self.mechanisms().contains(wanted));
        let wanted = wanted.ok_or(Denied {
            code: ErrorCode::UnsupportedSaslMechanism,
            message: format!("the mechanism {mechanism} is not enabled here"),
        })?;
        self.again = self.proved.is_some().then(Instant::now);
        self.raw = raw;
        self.exchange = Some(Exchange::new(wanted));
        Ok(())
    }

    /// Whether it would be of use: where the session ends otherwise, and now and then.
    fn may_prove_again(&self) -> bool {
        self.expires.is_some() && self.again.is_none_or(|again| again.elapsed() >= BETWEEN_PROOFS)
    }

    pub async fn authenticate(&mut self, token: &[u8]) -> Result<Authenticated, Denied> {
        let Some(exchange) = &mut self.exchange else {
            return Err(Denied::state("SaslAuthenticate without SaslHandshake"));
        };
        let mechanism = exchange.mechanism();
        let step = exchange.step(token, &self.authority).await;
        let outcome = step.and_then(|step| {
            let lifetime = step.proved.map(|proved| self.accept(mechanism, proved)).transpose()?;
            Ok(Authenticated { message: step.message, lifetime: lifetime.unwrap_or_default() })
        });
        match outcome {
            Ok(authenticated) => Ok(authenticated),
            Err(refused) => {
                tracing::warn!(
                    listener = self.listener.name,
                    mechanism = mechanism.name(),
                    reason = %refused,
                    "authentication failed"
                );
                tokio::time::sleep(self.authority.config.failed_authentication_delay).await;
                Err(Denied { code: ErrorCode::SaslAuthenticationFailed, message: FAILED.to_owned() })
            }
        }
    }

    /// The node's own password is the only one of its user on the listener that is for it.
    fn known_as(&self, mechanism: Mechanism, principal: Principal) -> Principal {
        let is_node = self.listener.name == INTERNAL
            && mechanism == Mechanism::Scram(ScramMechanism::Sha256)
            && principal.name == INTERNAL_USER;
        if is_node { super::node() } else { principal }
    }

    fn accept(&mut self, mechanism: Mechanism, proved: Proved) -> Result<Duration, Refused> {
        let proved = Proved { principal: self.known_as(mechanism, proved.principal), ..proved };
        let principal = match &self.proved {
            None => Arc::new(proved.principal),
            Some((before, known)) if *before == mechanism && **known == proved.principal => Arc::clone(known),
            Some(_) => return Err(Refused::Changed),
        };
        let limit = [self.authority.config.max_reauth, proved.valid_for].into_iter().flatten().min();
        let limit = limit.map(|limit| limit.min(LONGEST));
        self.exchange = None;
        self.proved = Some((mechanism, principal));
        self.expires = limit.map(|limit| Instant::now() + limit);
        Ok(limit.unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use headwater_security::SecurityProtocol;

    use super::super::{ListenerConfig, SecurityConfig};
    use super::*;
    use crate::advertised::Advertised;

    fn session(config: &SecurityConfig) -> Session {
        let authority = Arc::new(Authority::new(config, Arc::default()).unwrap());
        let of = ListenerConfig {
            name: "CLIENTS".to_owned(),
            protocol: SecurityProtocol::SaslPlaintext,
            host: "127.0.0.1".to_owned(),
            port: 0,
            advertised: None,
        };
        let advertised = Advertised::new(None, "127.0.0.1:1".parse().unwrap()).unwrap();
        let listener = Arc::new(Listener::new(&of, advertised, &authority).unwrap());
        Session::new(authority, listener)
    }

    fn accepted(config: &SecurityConfig, valid_for: Option<Duration>) -> Duration {
        let mut session = session(config);
        let proved = Proved { principal: Principal::user("billing"), valid_for };
        let limit = session.accept(Mechanism::OauthBearer, proved).unwrap();
        assert_eq!(session.expires.is_some(), !limit.is_zero());
        assert!(!session.has_expired());
        limit
    }

    #[test]
    fn a_session_ends_with_what_is_shortest_and_after_a_year_whatever_a_token_says() {
        let mut config = SecurityConfig::default();
        let hour = Duration::from_secs(3600);
        assert_eq!(accepted(&config, None), Duration::ZERO, "a password has no end");
        assert_eq!(accepted(&config, Some(hour)), hour);
        // As long as a token with exp=2^64-1: no instant is so late.
        for endless in [Duration::MAX, Duration::from_secs(u64::MAX), LONGEST + hour] {
            assert_eq!(accepted(&config, Some(endless)), LONGEST);
        }
        config.max_reauth = Some(2 * hour);
        assert_eq!(accepted(&config, Some(hour)), hour);
        assert_eq!(accepted(&config, Some(Duration::MAX)), 2 * hour);
        assert_eq!(accepted(&config, None), 2 * hour);
        config.max_reauth = Some(Duration::MAX);
        assert_eq!(accepted(&config, None), LONGEST);
    }
}
