//! `headwater.sasl.users.file`: users with their passwords, one `USER=PASSWORD` a line.
//!
//! They may come with PLAIN and with SCRAM. It is how the first user gets in, who then makes others that the broker
//! keeps (AlterUserScramCredentials). Passwords do not stay in memory: what is kept is what SCRAM needs.

use std::collections::HashMap;
use std::io;
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError, RwLock};

use thiserror::Error;

use super::watched::Watched;
use crate::scram::{LEAST_ITERATIONS, SALT};
use crate::{ScramCredential, ScramMechanism, SecretError, random_bytes};

#[derive(Debug, Error)]
pub enum UsersError {
    #[error("headwater.sasl.users.file={} cannot be read: {source}", .file.display())]
    File { file: PathBuf, source: io::Error },
    #[error("{}:{line}: not USER=PASSWORD", .file.display())]
    Line { file: PathBuf, line: usize },
    #[error(transparent)]
    Random(#[from] SecretError),
}

type Known = HashMap<(String, ScramMechanism), ScramCredential>;

#[derive(Default)]
pub struct Users {
    file: Option<PathBuf>,
    known: RwLock<Known>,
    watched: Mutex<Watched>,
}

impl Users {
    /// # Errors
    /// A file that cannot be read, and a line of it that is no user.
    pub fn load(file: Option<&str>) -> Result<Self, UsersError> {
        let Some(file) = file.map(PathBuf::from) else { return Ok(Self::default()) };
        let (known, watched) = load(&file)?;
        Ok(Self { file: Some(file), known: RwLock::new(known), watched: Mutex::new(watched) })
    }

    pub fn find(&self, user: &str, mechanism: ScramMechanism) -> Option<ScramCredential> {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        known.get(&(user.to_owned(), mechanism)).cloned()
    }

    pub fn is_empty(&self) -> bool {
        self.known.read().unwrap_or_else(PoisonError::into_inner).is_empty()
    }

    /// Takes a changed file into use; one that cannot be used changes nothing.
    pub fn reload(&self) {
        let Some(file) = &self.file else { return };
        let mut watched = self.watched.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(changed) = watched.changed() else { return };
        match load(file) {
            Ok((known, now)) => {
                *self.known.write().unwrap_or_else(PoisonError::into_inner) = known;
                *watched = now;
                tracing::info!(file = %file.display(), "users were read again");
            }
            Err(error) => {
                *watched = changed;
                tracing::error!(%error, "changed users cannot be used; those before stay");
            }
        }
    }
}

fn load(file: &Path) -> Result<(Known, Watched), UsersError> {
    let unreadable = |source| UsersError::File { file: file.to_owned(), source };
    let mut watched = Watched::default();
    let text = String::from_utf8(watched.read(file).map_err(unreadable)?);
    let text = text.map_err(|_| unreadable(io::ErrorKind::InvalidData.into()))?;
    let mut known = Known::new();
    for (index, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let wrong = || UsersError::Line { file: file.to_owned(), line: index + 1 };
        let (user, password) = line.split_once('=').ok_or_else(wrong)?;
        let (user, password) = (user.trim(), password.trim());
        if user.is_empty() || password.is_empty() {
            return Err(wrong());
        }
        for mechanism in ScramMechanism::ALL {
            known.insert((user.to_owned(), mechanism), credential(mechanism, password)?);
        }
    }
    Ok((known, watched))
}

/// What is kept of a password.
///
/// # Errors
/// Where the system gives no random bytes.
pub fn credential(mechanism: ScramMechanism, password: &str) -> Result<ScramCredential, SecretError> {
    const ITERATIONS: NonZeroU32 = NonZeroU32::new(LEAST_ITERATIONS).unwrap();
    Ok(ScramCredential::derive(mechanism, password, &random_bytes::<SALT>()?, ITERATIONS))
}
