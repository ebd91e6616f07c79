//! The server's side of an exchange.

use super::message::{decode, encode, take, text, unescape, xor};
use super::{ScramCredential, ScramError, ScramMechanism};

/// The longest nonce that a client may send.
const LONGEST_NONCE: usize = 256;

/// What a client begins with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientFirst {
    pub user: String,
    nonce: String,
    header: String,
    bare: String,
}

impl ClientFirst {
    /// # Errors
    /// [`ScramError`] for what is not a first message, or asks for what Kafka does not have.
    pub fn parse(bytes: &[u8]) -> Result<Self, ScramError> {
        let message = text(bytes, "client-first")?;
        let (binding, rest) = message.split_once(',').ok_or(ScramError::Malformed("client-first"))?;
        match binding {
            "n" | "y" => {}
            other if other.starts_with("p=") => return Err(ScramError::ChannelBinding),
            _ => return Err(ScramError::Malformed("client-first")),
        }
        let (authorization, bare) = rest.split_once(',').ok_or(ScramError::Malformed("client-first"))?;
        let header = message[..message.len() - bare.len()].to_owned();
        // An attribute m= would have to be understood, and none is.
        let (name, rest) = take(bare, "n")?;
        let (nonce, _extensions) = take(rest, "r")?;
        let user = unescape(name)?;
        if !authorization.is_empty() && unescape(take(authorization, "a")?.0)? != user {
            return Err(ScramError::Authorization);
        }
        let printable = nonce.bytes().all(|byte| (0x21..=0x7e).contains(&byte));
        if user.is_empty() || nonce.is_empty() || nonce.len() > LONGEST_NONCE || !printable {
            return Err(ScramError::Malformed("client-first"));
        }
        Ok(Self { user, nonce: nonce.to_owned(), header, bare: bare.to_owned() })
    }
}

/// An exchange that waits for the client's proof; it is consumed by it, so no nonce serves twice.
#[derive(Debug)]
pub struct ScramServer {
    mechanism: ScramMechanism,
    credential: ScramCredential,
    nonce: String,
    channel: String,
    /// The two messages so far, as both sides sign them.
    signed: String,
}

impl ScramServer {
    /// The exchange and the message that challenges the client; `nonce` must never have been used.
    pub fn challenge(
        mechanism: ScramMechanism,
        first: &ClientFirst,
        credential: ScramCredential,
        nonce: &str,
    ) -> (Self, Vec<u8>) {
        let nonce = format!("{}{nonce}", first.nonce);
        let message = format!("r={nonce},s={},i={}", encode(&credential.salt), credential.iterations);
        let signed = format!("{},{message}", first.bare);
        let channel = encode(first.header.as_bytes());
        (Self { mechanism, credential, nonce, channel, signed }, message.into_bytes())
    }

    /// The last message, which proves to the client that the server knows the password's keys.
    ///
    /// # Errors
    /// [`ScramError`]; the client is told nothing of which.
    pub fn finish(self, bytes: &[u8]) -> Result<Vec<u8>, ScramError> {
        let message = text(bytes, "client-final")?;
        let (unproved, proof) = message.rsplit_once(",p=").ok_or(ScramError::Malformed("client-final"))?;
        let (channel, rest) = take(unproved, "c")?;
        let (nonce, _extensions) = take(rest, "r")?;
        if channel != self.channel {
            return Err(ScramError::ChannelBinding);
        }
        // librdkafka before 2.6.1 writes its own part twice; what must be there is ours, at the end, as Kafka checks.
        if !nonce.ends_with(&self.nonce) {
            return Err(ScramError::Nonce);
        }
        let proof = decode(proof, "p")?;
        let signed = format!("{},{unproved}", self.signed);
        let signature = self.mechanism.sign(&self.credential.stored_key, signed.as_bytes());
        let client_key = xor(&proof, &signature);
        let stored_key = self.mechanism.hash(&client_key);
        if proof.len() != self.mechanism.length() || !crate::same(&stored_key, &self.credential.stored_key) {
            return Err(ScramError::Proof);
        }
        let verifier = self.mechanism.sign(&self.credential.server_key, signed.as_bytes());
        Ok(format!("v={}", encode(&verifier)).into_bytes())
    }
}
