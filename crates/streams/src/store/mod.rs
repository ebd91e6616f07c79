//! State stores: the [`StoreBackend`] trait that shells implement, an in-memory one, and the typed overlay above it.
//!
//! Invariant: a backend holds committed state only. Uncommitted writes stay in the overlay until `Task::committed`.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use headwater_model::Bytes;

mod expiry;
pub(crate) mod external;
mod fresh;
pub(crate) mod keys;
mod outbound;
mod overlay;
mod rows;
mod sessions;
pub(crate) mod typed;
pub(crate) mod version_keys;
pub(crate) mod versioned;

/// A failed read or write of a backend.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{message}")]
pub struct StoreError {
    pub message: String,
}

impl StoreError {
    pub fn new(message: impl Into<String>) -> Self {
        Self { message: message.into() }
    }
}

/// Ordered bytes to bytes, holding what was committed.
pub trait StoreBackend: Send {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StoreError>;

    /// All entries between the bounds, in key order.
    fn range(&self, from: Bound<&[u8]>, to: Bound<&[u8]>) -> Result<Vec<(Bytes, Bytes)>, StoreError> {
        let mut found = Vec::new();
        self.scan(from, to, &mut |key, value| {
            found.push((key, value));
            true
        })?;
        Ok(found)
    }

    /// The first entry between the bounds.
    fn first(&self, from: Bound<&[u8]>, to: Bound<&[u8]>) -> Result<Option<(Bytes, Bytes)>, StoreError> {
        let mut found = None;
        self.scan(from, to, &mut |key, value| {
            found = Some((key, value));
            false
        })?;
        Ok(found)
    }

    /// Hands the entries between the bounds to `visit`, in key order, until it returns false.
    fn scan(
        &self,
        from: Bound<&[u8]>,
        to: Bound<&[u8]>,
        visit: &mut dyn FnMut(Bytes, Bytes) -> bool,
    ) -> Result<(), StoreError>;

    /// Writes (`Some`) and deletes (`None`) atomically.
    fn apply(&mut self, batch: Vec<(Bytes, Option<Bytes>)>) -> Result<(), StoreError>;
}

/// A backend in memory. Clones share the entries, so one may be handed to a task and another kept for queries.
#[derive(Debug, Clone, Default)]
pub struct MemoryStore {
    entries: Arc<Mutex<BTreeMap<Bytes, Bytes>>>,
}

impl MemoryStore {
    pub fn new() -> Self {
        Self::default()
    }

    /// Number of entries.
    pub fn len(&self) -> usize {
        self.entries().len()
    }

    pub fn is_empty(&self) -> bool {
        self.entries().is_empty()
    }

    /// The map has no invariant that a panic elsewhere could have broken.
    fn entries(&self) -> MutexGuard<'_, BTreeMap<Bytes, Bytes>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl StoreBackend for MemoryStore {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        Ok(self.entries().get(key).cloned())
    }

    fn scan(
        &self,
        from: Bound<&[u8]>,
        to: Bound<&[u8]>,
        visit: &mut dyn FnMut(Bytes, Bytes) -> bool,
    ) -> Result<(), StoreError> {
        if keys::is_empty_range(from, to) {
            return Ok(());
        }
        for (key, value) in self.entries().range::<[u8], _>((from, to)) {
            if !visit(key.clone(), value.clone()) {
                break;
            }
        }
        Ok(())
    }

    fn apply(&mut self, batch: Vec<(Bytes, Option<Bytes>)>) -> Result<(), StoreError> {
        let mut entries = self.entries();
        for (key, value) in batch {
            match value {
                Some(value) => entries.insert(key, value),
                None => entries.remove(&key),
            };
        }
        Ok(())
    }
}

/// What a store holds, which decides how its changelog keys are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StoreKind {
    /// One value per key.
    KeyValue,
    /// One value per key and window start.
    Window,
    /// One value per key, session end and session start.
    Session,
    /// The values of each key, by the time from which they hold.
    Versioned,
}
