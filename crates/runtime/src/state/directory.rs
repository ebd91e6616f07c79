//! The directory `<state_dir>/<application-id>/`: its lock and the name of the instance that lives in it.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::Write;
use std::path::{Path, PathBuf};

use super::StateError;

/// A state directory, locked until dropped. The operating system releases the lock of a killed process.
#[derive(Debug)]
pub struct StateDir {
    path: PathBuf,
    instance: String,
    _lock: File,
}

impl StateDir {
    pub fn open(root: &Path, application_id: &str) -> Result<Self, StateError> {
        let path = root.join(application_id);
        let failed = |source| StateError::Io { path: path.clone(), source };
        std::fs::create_dir_all(&path).map_err(failed)?;
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(path.join("lock"))
            .map_err(failed)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(StateError::InUse { path }),
            Err(TryLockError::Error(source)) => return Err(failed(source)),
        }
        let instance = instance(&path).map_err(failed)?;
        Ok(Self { instance, _lock: lock, path })
    }

    /// Names the process that owns this directory, across its restarts.
    pub fn instance(&self) -> &str {
        &self.instance
    }

    /// Where a store that finds itself damaged leaves word for the next start.
    pub(super) fn damage(&self) -> PathBuf {
        self.path.join("damaged")
    }

    /// Puts the stores out of the way, for whoever wants to look at them: they are rebuilt from their changelogs.
    pub(super) fn set_stores_aside(&self) -> Result<(), StateError> {
        let (stores, aside) = (self.stores(), self.path.join("stores.damaged"));
        let failed = |source| StateError::Io { path: self.path.clone(), source };
        // Without stores a crash came between the two steps below: what was damaged is aside already.
        if stores.exists() {
            if aside.exists() {
                std::fs::remove_dir_all(&aside).map_err(failed)?;
            }
            std::fs::rename(&stores, &aside).map_err(failed)?;
        }
        match std::fs::remove_file(self.damage()) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(failed(error)),
            _ => Ok(()),
        }
    }

    pub(super) fn stores(&self) -> PathBuf {
        self.path.join("stores")
    }
}

/// Reads the instance's name, or writes a new one; a torn file counts as none.
fn instance(folder: &Path) -> std::io::Result<String> {
    let path = folder.join("instance");
    if let Ok(text) = std::fs::read_to_string(&path)
        && let Ok(known) = uuid::Uuid::parse_str(text.trim())
    {
        return Ok(known.to_string());
    }
    let fresh = uuid::Uuid::new_v4().to_string();
    let draft = folder.join("instance.new");
    let mut file = File::create(&draft)?;
    file.write_all(fresh.as_bytes())?;
    file.sync_all()?;
    std::fs::rename(&draft, &path)?;
    Ok(fresh)
}
