//! Stores in memory: they outlive their tasks but not the process.

use std::collections::HashMap;
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use headwater_model::{Offset, TimestampMs};
use headwater_streams::{MemoryStore, StoreBackend, StoreError};

use super::{Rows, StoreWrite};
use crate::thread::wall_clock;

#[derive(Default)]
struct Held {
    entries: MemoryStore,
    position: Option<Offset>,
    written_at: Option<TimestampMs>,
}

/// Entries and positions by store name.
#[derive(Default)]
pub struct MemoryStores {
    stores: Mutex<HashMap<String, Held>>,
}

impl MemoryStores {
    /// A panic elsewhere leaves the map whole.
    fn stores(&self) -> MutexGuard<'_, HashMap<String, Held>> {
        self.stores.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn entries(&self, name: &str) -> MemoryStore {
        self.stores().entry(name.to_owned()).or_default().entries.clone()
    }

    pub(super) fn position(&self, name: &str) -> Option<Offset> {
        self.stores().get(name).and_then(|held| held.position)
    }

    pub(super) fn written_at(&self, name: &str) -> Option<TimestampMs> {
        self.stores().get(name).and_then(|held| held.written_at)
    }

    pub(super) fn names(&self) -> Vec<String> {
        self.stores().keys().cloned().collect()
    }

    /// Nobody has them open.
    pub(super) fn remove(&self, names: &[String]) {
        let mut stores = self.stores();
        names.iter().for_each(|name| drop(stores.remove(name)));
    }

    pub(super) fn positioned(&self) -> Vec<String> {
        self.stores()
            .iter()
            .filter(|(_, held)| held.position.is_some())
            .map(|(name, _)| name.clone())
            .collect()
    }

    pub(super) fn write(&self, writes: Vec<StoreWrite>) -> Result<(), StoreError> {
        let mut stores = self.stores();
        for write in writes {
            let held = stores.entry(write.id.name()).or_default();
            held.entries.apply(Arc::unwrap_or_clone(write.entries))?;
            if write.position.is_some() {
                (held.position, held.written_at) = (write.position, Some(wall_clock()));
            }
        }
        Ok(())
    }

    pub(super) fn capture(&self, name: &str) -> Result<Option<(Offset, Rows)>, StoreError> {
        let stores = self.stores();
        let Some(held) = stores.get(name) else { return Ok(None) };
        let Some(position) = held.position else { return Ok(None) };
        Ok(Some((position, held.entries.range(Bound::Unbounded, Bound::Unbounded)?)))
    }

    /// A task may have its entries open.
    pub(super) fn wipe(&self, name: &str) -> Result<(), StoreError> {
        let mut stores = self.stores();
        let Some(held) = stores.get_mut(name) else { return Ok(()) };
        (held.position, held.written_at) = (None, None);
        let entries = held.entries.range(Bound::Unbounded, Bound::Unbounded)?;
        held.entries.apply(entries.into_iter().map(|(key, _)| (key, None)).collect())
    }
}
