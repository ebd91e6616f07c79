//! SCRAM credentials (KIP-554): who may log in with which mechanism, as keys made of a password and never the password.
//!
//! Owns storage only; whether a credential is acceptable, and whether a proof fits it, is judged where cryptography is.

use std::collections::BTreeMap;

use crate::context::Context;
use crate::error::Error;
use crate::records::{ScramRecord, StateRecord};
use crate::request::ScramChange;

#[derive(Debug, Default)]
pub(crate) struct Credentials {
    known: BTreeMap<(String, i8), ScramRecord>,
}

impl Credentials {
    pub fn put(&mut self, record: ScramRecord) {
        self.known.insert((record.user.clone(), record.mechanism), record);
    }

    pub fn remove(&mut self, user: &str, mechanism: i8) {
        self.known.remove(&(user.to_owned(), mechanism));
    }

    /// All changes of a user, or none of them.
    pub fn alter(&mut self, cx: &mut Context, changes: Vec<ScramChange>) -> Vec<(String, Option<Error>)> {
        let mut of_user: BTreeMap<String, Vec<ScramChange>> = BTreeMap::new();
        for change in changes {
            of_user.entry(change.user().to_owned()).or_default().push(change);
        }
        let alter = |(user, changes): (String, Vec<ScramChange>)| {
            let missing = |change: &ScramChange| match change {
                ScramChange::Delete { user, mechanism } => {
                    !self.known.contains_key(&(user.clone(), *mechanism))
                }
                ScramChange::Put(_) => false,
            };
            if changes.iter().any(missing) {
                return (user, Some(Error::ResourceNotFound));
            }
            changes.into_iter().for_each(|change| self.change(cx, change));
            (user, None)
        };
        of_user.into_iter().map(alter).collect()
    }

    fn change(&mut self, cx: &mut Context, change: ScramChange) {
        match change {
            ScramChange::Put(record) => {
                self.put(record.clone());
                cx.append(StateRecord::ScramCredential(record));
            }
            ScramChange::Delete { user, mechanism } => {
                self.remove(&user, mechanism);
                cx.append(StateRecord::ScramCredentialDeleted { user, mechanism });
            }
        }
    }

    pub fn iter(&self) -> impl Iterator<Item = &ScramRecord> {
        self.known.values()
    }
}
