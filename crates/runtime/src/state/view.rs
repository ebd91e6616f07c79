//! A store as it is at one moment, for queries: however many reads a question takes, they see one state.

use std::ops::Bound;

use fjall::{Guard, Keyspace, Readable, Snapshot};
use headwater_model::Bytes;
use headwater_streams::{StoreBackend, StoreError};

use super::EachRow;
use super::disk::{Damage, is_empty};

/// A store on disk, as of when this was made.
pub struct DiskView {
    pub(super) snapshot: Snapshot,
    pub(super) keyspace: Keyspace,
    pub(super) name: String,
    pub(super) damage: Damage,
}

impl DiskView {
    fn entry(&self, guard: Guard) -> Result<(Bytes, Bytes), StoreError> {
        let (key, value) = guard.into_inner().map_err(self.damage.failed("scan", &self.name))?;
        Ok((Bytes::copy_from_slice(&key), Bytes::copy_from_slice(&value)))
    }

    /// Calls `with` for each entry, in the order of their keys.
    pub(super) fn each(&self, with: &mut EachRow<'_>) -> Result<(), StoreError> {
        self.snapshot.iter(&self.keyspace).try_for_each(|guard| {
            let (key, value) = guard.into_inner().map_err(self.damage.failed("read", &self.name))?;
            with(&key, &value)
        })
    }
}

impl StoreBackend for DiskView {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        let found = self.snapshot.get(&self.keyspace, key).map_err(self.damage.failed("read", &self.name))?;
        Ok(found.map(|value| Bytes::copy_from_slice(&value)))
    }

    fn scan(
        &self,
        from: Bound<&[u8]>,
        to: Bound<&[u8]>,
        visit: &mut dyn FnMut(Bytes, Bytes) -> bool,
    ) -> Result<(), StoreError> {
        if is_empty(from, to) {
            return Ok(());
        }
        for guard in self.snapshot.range::<&[u8], _>(&self.keyspace, (from, to)) {
            let (key, value) = self.entry(guard)?;
            if !visit(key, value) {
                break;
            }
        }
        Ok(())
    }

    fn apply(&mut self, _batch: Vec<(Bytes, Option<Bytes>)>) -> Result<(), StoreError> {
        Err(StoreError::new(format!("write store {}: this is a view of it, for reading", self.name)))
    }
}
