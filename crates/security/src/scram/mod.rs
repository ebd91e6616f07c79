//! SCRAM (RFC 5802, RFC 7677) as Kafka speaks it: no channel binding, passwords as UTF-8 without SASLprep.
//!
//! Pure: nonces and salts are arguments. Invariant: the server does the same work, and says the same, for a user
//! that does not exist as for a wrong password.

mod client;
mod message;
mod server;

use std::fmt;
use std::num::NonZeroU32;

use aws_lc_rs::{digest, hmac, pbkdf2};
use thiserror::Error;

pub use client::ScramClient;
pub use server::{ClientFirst, ScramServer};

/// Below this Kafka refuses a credential (`ScramMechanism`).
pub const LEAST_ITERATIONS: u32 = 4096;
/// Above this the broker refuses a credential, as Kafka does: its client would work too long.
pub const MOST_ITERATIONS: u32 = 16_384;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ScramMechanism {
    Sha256,
    Sha512,
}

impl ScramMechanism {
    pub const ALL: [Self; 2] = [Self::Sha256, Self::Sha512];

    pub fn name(self) -> &'static str {
        match self {
            Self::Sha256 => "SCRAM-SHA-256",
            Self::Sha512 => "SCRAM-SHA-512",
        }
    }

    /// KIP-554's number.
    pub fn code(self) -> i8 {
        match self {
            Self::Sha256 => 1,
            Self::Sha512 => 2,
        }
    }

    pub fn from_code(code: i8) -> Option<Self> {
        Self::ALL.into_iter().find(|mechanism| mechanism.code() == code)
    }

    /// Bytes of a digest.
    pub fn length(self) -> usize {
        match self {
            Self::Sha256 => digest::SHA256_OUTPUT_LEN,
            Self::Sha512 => digest::SHA512_OUTPUT_LEN,
        }
    }

    fn hash(self, bytes: &[u8]) -> Vec<u8> {
        let algorithm = match self {
            Self::Sha256 => &digest::SHA256,
            Self::Sha512 => &digest::SHA512,
        };
        digest::digest(algorithm, bytes).as_ref().to_vec()
    }

    fn sign(self, key: &[u8], bytes: &[u8]) -> Vec<u8> {
        let algorithm = match self {
            Self::Sha256 => hmac::HMAC_SHA256,
            Self::Sha512 => hmac::HMAC_SHA512,
        };
        hmac::sign(&hmac::Key::new(algorithm, key), bytes).as_ref().to_vec()
    }

    /// `Hi()` of the RFC.
    pub fn salted_password(self, password: &str, salt: &[u8], iterations: NonZeroU32) -> Vec<u8> {
        let algorithm = match self {
            Self::Sha256 => pbkdf2::PBKDF2_HMAC_SHA256,
            Self::Sha512 => pbkdf2::PBKDF2_HMAC_SHA512,
        };
        let mut salted = vec![0; self.length()];
        pbkdf2::derive(algorithm, iterations, salt, password.as_bytes(), &mut salted);
        salted
    }
}

/// What a server keeps of a password.
#[derive(Clone, PartialEq, Eq)]
pub struct ScramCredential {
    pub salt: Vec<u8>,
    pub iterations: u32,
    pub stored_key: Vec<u8>,
    pub server_key: Vec<u8>,
}

impl fmt::Debug for ScramCredential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ScramCredential").field("iterations", &self.iterations).finish_non_exhaustive()
    }
}

impl ScramCredential {
    pub fn derive(mechanism: ScramMechanism, password: &str, salt: &[u8], iterations: NonZeroU32) -> Self {
        let salted = mechanism.salted_password(password, salt, iterations);
        Self::of_salted(mechanism, &salted, salt, iterations.get())
    }

    pub fn of_salted(mechanism: ScramMechanism, salted: &[u8], salt: &[u8], iterations: u32) -> Self {
        let client_key = mechanism.sign(salted, b"Client Key");
        Self {
            salt: salt.to_vec(),
            iterations,
            stored_key: mechanism.hash(&client_key),
            server_key: mechanism.sign(salted, b"Server Key"),
        }
    }

    /// A credential that no password fits, always the same for one user and secret, so that asking twice tells nothing.
    pub fn pretended(mechanism: ScramMechanism, user: &str, secret: &[u8]) -> Self {
        let sign = |part: &[u8]| mechanism.sign(secret, &[part, user.as_bytes()].concat());
        let mut salt = sign(b"salt:");
        salt.truncate(SALT);
        Self {
            salt,
            iterations: LEAST_ITERATIONS,
            stored_key: sign(b"stored:"),
            server_key: sign(b"server:"),
        }
    }

    /// Whether this is the password, at the cost of deriving it again. A wrong one costs the same whatever the
    /// credential is: who asks learns from the time neither whether there is such a user nor how its password is kept.
    pub fn is_of(&self, mechanism: ScramMechanism, password: &str) -> bool {
        let right = NonZeroU32::new(self.iterations).is_some_and(|iterations| {
            let derived = Self::derive(mechanism, password, &self.salt, iterations);
            crate::same(&derived.stored_key, &self.stored_key)
        });
        if !right {
            for (mechanism, iterations) in left_over(mechanism, self.iterations) {
                std::hint::black_box(mechanism.salted_password(password, &self.salt, iterations));
            }
        }
        right
    }
}

/// What a derivation has left of the most work that there may be: of each mechanism as much as the costliest credential.
fn left_over(done: ScramMechanism, iterations: u32) -> impl Iterator<Item = (ScramMechanism, NonZeroU32)> {
    ScramMechanism::ALL.into_iter().filter_map(move |mechanism| {
        let done = if mechanism == done { iterations } else { 0 };
        Some((mechanism, NonZeroU32::new(MOST_ITERATIONS.saturating_sub(done))?))
    })
}

/// Bytes of a salt that we make.
pub const SALT: usize = 24;

/// Why an exchange ends; what a server knows of it is not told to the client.
#[derive(Debug, Clone, Error, PartialEq, Eq)]
pub enum ScramError {
    #[error("the message '{0}' of the exchange is not SCRAM")]
    Malformed(&'static str),
    #[error("channel binding is asked for, which Kafka does not have")]
    ChannelBinding,
    #[error("another identity is asked for than the one that is proved")]
    Authorization,
    #[error("the nonce is not the one of this exchange")]
    Nonce,
    #[error("the proof does not fit the credential")]
    Proof,
    #[error("the server does not know the password: it is not the one it claims to be")]
    Server,
    #[error("the server wants {0} iterations, where {LEAST_ITERATIONS} to {MOST_BELIEVED} are believed")]
    Iterations(u32),
    #[error("the server refused: {0}")]
    Refused(String),
}

/// The most work a client lets a server put on it.
pub const MOST_BELIEVED: u32 = 1 << 20;

#[cfg(test)]
mod tests;
