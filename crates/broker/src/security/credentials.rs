//! The SCRAM credentials that the broker keeps, as connections see them: those whose commit is on disk.

use std::collections::BTreeMap;
use std::sync::{PoisonError, RwLock};

use headwater_coordinator::ScramRecord;
use headwater_security::{ScramCredential, ScramMechanism};

/// A change, made when its commit is on disk.
#[derive(Debug)]
pub enum CredentialChange {
    Put(ScramRecord),
    Remove { user: String, mechanism: i8 },
}

#[derive(Debug, Default)]
pub struct Credentials {
    known: RwLock<BTreeMap<(String, ScramMechanism), ScramCredential>>,
}

impl Credentials {
    pub fn find(&self, user: &str, mechanism: ScramMechanism) -> Option<ScramCredential> {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        known.get(&(user.to_owned(), mechanism)).cloned()
    }

    pub fn is_empty(&self) -> bool {
        self.known.read().unwrap_or_else(PoisonError::into_inner).is_empty()
    }

    pub fn put(&self, user: &str, mechanism: ScramMechanism, credential: ScramCredential) {
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        known.insert((user.to_owned(), mechanism), credential);
    }

    /// Users with the mechanism and iterations of each of their credentials.
    pub fn described(&self) -> BTreeMap<String, Vec<(ScramMechanism, u32)>> {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        let mut described: BTreeMap<String, Vec<_>> = BTreeMap::new();
        for ((user, mechanism), credential) in known.iter() {
            described.entry(user.clone()).or_default().push((*mechanism, credential.iterations));
        }
        described
    }

    pub fn apply(&self, changes: impl IntoIterator<Item = CredentialChange>) {
        let mut changes = changes.into_iter().peekable();
        if changes.peek().is_none() {
            return;
        }
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        for change in changes {
            match change {
                CredentialChange::Put(record) => {
                    let Some(mechanism) = ScramMechanism::from_code(record.mechanism) else { continue };
                    let credential = ScramCredential {
                        salt: record.salt,
                        iterations: record.iterations,
                        stored_key: record.stored_key,
                        server_key: record.server_key,
                    };
                    known.insert((record.user, mechanism), credential);
                }
                CredentialChange::Remove { user, mechanism } => {
                    if let Some(mechanism) = ScramMechanism::from_code(mechanism) {
                        known.remove(&(user, mechanism));
                    }
                }
            }
        }
    }
}
