//! SASL from the client's side, on a connection that is open and on which nothing else is asked yet.

use std::time::Duration;

use headwater_security::{Mechanism, Secret, random_text, scram::ScramClient};
use headwater_wire::ErrorCode;
use headwater_wire::messages::{
    SaslAuthenticateRequestData, SaslAuthenticateResponseData, SaslHandshakeRequestData,
};
use tokio::time::Instant;

use crate::ClientError;
use crate::connection::Connection;
use crate::security::Sasl;

/// So much of a session's lifetime is used: the rest is for what is on its way.
const USED: f64 = 0.85;

/// Says who the client is; returns when it should no longer begin something on this connection.
pub async fn authenticate(
    connection: &Connection,
    sasl: &Sasl,
    timeout: Duration,
) -> Result<Option<Instant>, ClientError> {
    let asking = Asking { connection, mechanism: sasl.mechanism(), timeout };
    asking.handshake().await?;
    let began = Instant::now();
    let last = match sasl {
        Sasl::Password { mechanism: Mechanism::Scram(mechanism), user, password } => {
            let nonce = random_text().map_err(|error| asking.failed(error.to_string()))?;
            let client = ScramClient::new(*mechanism, user, password.clone(), nonce);
            let challenge = asking.token(client.first()).await?;
            let proof = client.prove(&challenge.auth_bytes);
            let (proved, proof) = proof.map_err(|error| asking.failed(error.to_string()))?;
            let last = asking.token(proof).await?;
            proved.verify(&last.auth_bytes).map_err(|error| asking.failed(error.to_string()))?;
            last
        }
        Sasl::Password { user, password, .. } => asking.token(plain(user, password)).await?,
        Sasl::TokenFile(_) | Sasl::TokenEndpoint(_) => {
            let token = sasl.token().await.map_err(|error| asking.failed(error.to_string()))?;
            let token = token.as_ref().map(Secret::reveal).unwrap_or_default();
            let answer = asking.token(bearer(token)).await?;
            if !answer.auth_bytes.is_empty() {
                // RFC 7628: what came is why not, and the acknowledgement is answered by the refusal.
                asking.token(vec![1]).await?;
            }
            answer
        }
    };
    let lifetime = Duration::from_millis(u64::try_from(last.session_lifetime_ms).unwrap_or(0));
    Ok((!lifetime.is_zero()).then(|| began + lifetime.mul_f64(USED)))
}

fn plain(user: &str, password: &Secret) -> Vec<u8> {
    format!("\0{user}\0{}", password.reveal()).into_bytes()
}

fn bearer(token: &str) -> Vec<u8> {
    format!("n,,\x01auth=Bearer {token}\x01\x01").into_bytes()
}

struct Asking<'a> {
    connection: &'a Connection,
    mechanism: Mechanism,
    timeout: Duration,
}

impl Asking<'_> {
    fn failed(&self, reason: String) -> ClientError {
        ClientError::Authentication {
            address: self.connection.address().to_owned(),
            mechanism: self.mechanism.name(),
            reason,
        }
    }

    async fn handshake(&self) -> Result<(), ClientError> {
        let request =
            SaslHandshakeRequestData::default().with_mechanism(self.mechanism.name().to_owned().into());
        let answer = self.connection.call(&request, self.timeout).await?;
        let offered: Vec<_> = answer.mechanisms.iter().map(ToString::to_string).collect();
        match ErrorCode::from(answer.error_code) {
            ErrorCode::None => Ok(()),
            ErrorCode::UnsupportedSaslMechanism => {
                Err(self.failed(format!("the broker offers {}", offered.join(", "))))
            }
            ErrorCode::IllegalSaslState => {
                Err(self
                    .failed("this listener has no SASL: use security.protocol SSL or PLAINTEXT".to_owned()))
            }
            other => Err(self.failed(format!("the broker refused with {other:?}"))),
        }
    }

    async fn token(&self, token: Vec<u8>) -> Result<SaslAuthenticateResponseData, ClientError> {
        let request = SaslAuthenticateRequestData::default().with_auth_bytes(token.into());
        let answer = self.connection.call(&request, self.timeout).await?;
        match answer.error_code {
            0 => Ok(answer),
            code => {
                let message = answer.error_message.as_ref().map(ToString::to_string);
                Err(self.failed(message.unwrap_or_else(|| format!("code {code}"))))
            }
        }
    }
}
