//! Passwords that were right a moment ago: HTTP sends one with every request, and deriving SCRAM's keys each time
//! would cost more than most answers.
//!
//! Invariant: what is remembered is a keyed hash of user and password and the key it gave; it counts only as long as
//! the user's credential is the one it was checked against.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use headwater_security::{Secret, SecretError, random_bytes, same, seal};

use super::authorization::Unauthenticated;
use crate::security::Authority;

const MOST: usize = 1024;
pub struct Checked {
    secret: [u8; 32],
    right: Mutex<HashMap<Vec<u8>, Vec<u8>>>,
}

impl Checked {
    pub fn new() -> Result<Self, SecretError> {
        Ok(Self { secret: random_bytes()?, right: Mutex::default() })
    }

    pub async fn check(
        &self,
        authority: &Authority,
        user: &str,
        password: Secret,
    ) -> Result<(), Unauthenticated> {
        let (mechanism, credential) = authority.any_credential(user);
        let sealed = seal(&self.secret, format!("{user}\0{}", password.reveal()).as_bytes());
        let stored = credential.stored_key.clone();
        if self.known(&sealed).is_some_and(|known| same(&known, &stored)) {
            return Ok(());
        }
        let wrong = || Unauthenticated::Password(user.to_owned());
        if !authority.is_password(mechanism, credential, password).await {
            return Err(wrong());
        }
        let mut right = self.right.lock().unwrap_or_else(PoisonError::into_inner);
        if right.len() >= MOST {
            right.clear();
        }
        right.insert(sealed, stored);
        Ok(())
    }

    fn known(&self, sealed: &[u8]) -> Option<Vec<u8>> {
        self.right.lock().unwrap_or_else(PoisonError::into_inner).get(sealed).cloned()
    }
}
