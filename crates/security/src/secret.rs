//! Secrets, randomness, and the comparison that takes as long for a near miss as for a far one.

use std::fmt;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::hmac;
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use thiserror::Error;

/// What `Debug` does not show.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The secret itself: for the wire and for arithmetic, never for a message.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[hidden]")
    }
}

#[derive(Debug, Clone, Error)]
#[error("the system gives no random bytes")]
pub struct SecretError;

/// From the kernel: the library that encrypts has a generator of its own, which measures the processor for 30 ms
/// before its first byte.
///
/// # Errors
/// [`SecretError`] where the system's randomness cannot be used.
pub fn random_bytes<const N: usize>() -> Result<[u8; N], SecretError> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|_| SecretError)?;
    Ok(bytes)
}

/// 192 random bits as letters, digits, `-` and `_`.
///
/// # Errors
/// As [`random_bytes`].
pub fn random_text() -> Result<String, SecretError> {
    Ok(BASE64_URL_SAFE_NO_PAD.encode(random_bytes::<24>()?))
}

/// HMAC-SHA-256: what nobody can find again who does not have the key.
pub fn seal(key: &[u8], bytes: &[u8]) -> Vec<u8> {
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), bytes).as_ref().to_vec()
}

/// Compares in constant time for equal lengths.
pub fn same(one: &[u8], other: &[u8]) -> bool {
    verify_slices_are_equal(one, other).is_ok()
}
