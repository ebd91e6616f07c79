//! The client's side of an exchange.

use std::num::NonZeroU32;

use super::message::{decode, encode, escape, take, text, xor};
use super::{LEAST_ITERATIONS, MOST_BELIEVED, ScramCredential, ScramError, ScramMechanism};
use crate::Secret;

/// No channel binding, no other identity.
const HEADER: &str = "n,,";

#[derive(Debug)]
pub struct ScramClient {
    mechanism: ScramMechanism,
    password: Secret,
    nonce: String,
    bare: String,
}

/// An exchange that waits for the server's proof.
#[derive(Debug)]
pub struct Proved {
    verifier: Vec<u8>,
}

impl ScramClient {
    /// `nonce` must never have been used.
    pub fn new(mechanism: ScramMechanism, user: &str, password: Secret, nonce: String) -> Self {
        let bare = format!("n={},r={nonce}", escape(user));
        Self { mechanism, password, nonce, bare }
    }

    pub fn first(&self) -> Vec<u8> {
        format!("{HEADER}{}", self.bare).into_bytes()
    }

    /// Answers the server's challenge with the proof.
    ///
    /// # Errors
    /// [`ScramError`] when the challenge is not for this exchange, or asks for too little or too much work.
    pub fn prove(self, challenge: &[u8]) -> Result<(Proved, Vec<u8>), ScramError> {
        let challenge = text(challenge, "server-first")?;
        if let Some(reason) = challenge.strip_prefix("e=") {
            return Err(ScramError::Refused(reason.to_owned()));
        }
        let (nonce, rest) = take(challenge, "r")?;
        let (salt, rest) = take(rest, "s")?;
        let (iterations, _extensions) = take(rest, "i")?;
        if nonce.len() <= self.nonce.len() || !nonce.starts_with(&self.nonce) {
            return Err(ScramError::Nonce);
        }
        let salt = decode(salt, "s")?;
        let iterations: u32 = iterations.parse().map_err(|_| ScramError::Malformed("i"))?;
        let believed = (LEAST_ITERATIONS..=MOST_BELIEVED).contains(&iterations);
        let work =
            NonZeroU32::new(iterations).filter(|_| believed).ok_or(ScramError::Iterations(iterations))?;
        let salted = self.mechanism.salted_password(self.password.reveal(), &salt, work);
        let keys = ScramCredential::of_salted(self.mechanism, &salted, &salt, iterations);
        let unproved = format!("c={},r={nonce}", encode(HEADER.as_bytes()));
        let signed = format!("{},{challenge},{unproved}", self.bare);
        let signature = self.mechanism.sign(&keys.stored_key, signed.as_bytes());
        let proof = xor(&self.mechanism.sign(&salted, b"Client Key"), &signature);
        let verifier = self.mechanism.sign(&keys.server_key, signed.as_bytes());
        Ok((Proved { verifier }, format!("{unproved},p={}", encode(&proof)).into_bytes()))
    }
}

impl Proved {
    /// Checks that the server knows the password's keys, too.
    ///
    /// # Errors
    /// [`ScramError::Server`] when it does not, [`ScramError::Refused`] when it does not believe us.
    pub fn verify(self, last: &[u8]) -> Result<(), ScramError> {
        let last = text(last, "server-final")?;
        if let Some(reason) = last.strip_prefix("e=") {
            return Err(ScramError::Refused(reason.to_owned()));
        }
        let verifier = decode(take(last, "v")?.0, "v")?;
        if crate::same(&verifier, &self.verifier) { Ok(()) } else { Err(ScramError::Server) }
    }
}
