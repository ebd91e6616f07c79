//! Passwords that were right a moment ago: HTTP sends one with every request, and deriving SCRAM's keys each time
//! would cost more than most answers.
//!
//! Invariant: what is remembered is a keyed hash of user and password and the key it gave; it counts only as long as
//! the user's credential is the one it was checked against.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Semaphore;

use crate::{ScramCredential, ScramMechanism, Secret, SecretError, random_bytes, same, seal};

const MOST: usize = 1024;

/// Derivations of passwords, so many at once: strangers must not keep all processors busy.
pub struct Derivations(Arc<Semaphore>);

impl Derivations {
    pub fn new(at_once: usize) -> Self {
        Self(Arc::new(Semaphore::new(at_once)))
    }

    /// Derives the password, which takes a thread some milliseconds, when it is its turn.
    pub async fn is_password(
        &self,
        mechanism: ScramMechanism,
        credential: ScramCredential,
        password: Secret,
    ) -> bool {
        let Ok(turn) = Arc::clone(&self.0).acquire_owned().await else { return false };
        // The turn ends with the work, also when the one who asked has hung up.
        let derive = move || {
            let _turn = turn;
            credential.is_of(mechanism, password.reveal())
        };
        tokio::task::spawn_blocking(derive).await.unwrap_or(false)
    }
}

/// What is remembered of passwords.
pub struct Checked {
    secret: [u8; 32],
    right: Mutex<HashMap<Vec<u8>, Vec<u8>>>,
}

impl Checked {
    /// # Errors
    /// Where the system gives no random bytes.
    pub fn new() -> Result<Self, SecretError> {
        Ok(Self { secret: random_bytes()?, right: Mutex::default() })
    }

    /// Whether a password is that of a user's credential.
    pub async fn check(
        &self,
        (user, password): (&str, Secret),
        (mechanism, credential): (ScramMechanism, ScramCredential),
        derivations: &Derivations,
    ) -> bool {
        let sealed = seal(&self.secret, format!("{user}\0{}", password.reveal()).as_bytes());
        let stored = credential.stored_key.clone();
        if self.known(&sealed).is_some_and(|known| same(&known, &stored)) {
            return true;
        }
        if !derivations.is_password(mechanism, credential, password).await {
            return false;
        }
        let mut right = self.right.lock().unwrap_or_else(PoisonError::into_inner);
        if right.len() >= MOST {
            right.clear();
        }
        right.insert(sealed, stored);
        true
    }

    fn known(&self, sealed: &[u8]) -> Option<Vec<u8>> {
        self.right.lock().unwrap_or_else(PoisonError::into_inner).get(sealed).cloned()
    }
}
