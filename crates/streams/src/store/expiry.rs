//! What has expired from a store of windows or sessions: deletes that wait for the next commit, what of the backend is still to be
//! deleted, and what of it is not to be read until all that has reached it.
//!
//! A day's rows may expire at once, so the backend's are deleted some with each commit.

use std::ops::Bound;

use headwater_model::Bytes;

use super::keys::Layout;
use super::typed::Batch;
use super::{StoreBackend, StoreError};

/// So many rows of the backend are deleted with a commit, or twice as many as it writes.
const AT_ONCE: usize = if cfg!(test) { 3 } else { 10_000 };

fn bytes_of(bound: &Bound<Bytes>) -> &[u8] {
    match bound {
        Bound::Included(bytes) | Bound::Excluded(bytes) => bytes,
        Bound::Unbounded => &[],
    }
}

#[derive(Default)]
pub(super) struct Expiry {
    /// Segments before this one have expired.
    live_from: i64,
    /// The lowest segment that was written to after it had expired: records of a lane that nobody waits for come so late.
    late: Option<i64>,
    deletes: Batch,
    /// Where the backend's rows that are still to be deleted begin, and where they end.
    stale: Option<(Bound<Bytes>, [u8; 8])>,
    /// What of the backend is before this is as good as deleted.
    hidden: Option<[u8; 8]>,
    /// The handing over with which the last of these deletes leaves.
    leaving: Option<u32>,
}

impl Expiry {
    pub fn live_from(&self) -> i64 {
        self.live_from
    }

    /// Takes note of a write.
    pub fn wrote(&mut self, store_key: &[u8]) {
        let Some(segment) = store_key.first_chunk::<8>().map(|segment| i64::from_be_bytes(*segment)) else {
            return;
        };
        if segment < self.live_from {
            self.late = Some(self.late.map_or(segment, |late| late.min(segment)));
        }
    }

    /// `segment` becomes the first that is alive. Returns where the store keys end that expire; `None` if none do. What expired
    /// before is not looked at again: a backend has to step over what it has deleted.
    pub fn advance(&mut self, segment: i64) -> Option<[u8; 8]> {
        if segment <= self.live_from {
            return None;
        }
        let start = Layout::segment_start(self.late.take().unwrap_or(self.live_from));
        let from = Bound::Included(Bytes::copy_from_slice(&start));
        let end = Layout::segment_start(segment);
        let stale = self.stale.take().map(|(left, _)| left).filter(|left| bytes_of(left) <= &start[..]);
        self.stale = Some((stale.unwrap_or(from), end));
        self.live_from = segment;
        (self.hidden, self.leaving) = (Some(end), None);
        Some(end)
    }

    /// Deletes some of what has expired of the backend, more than the `written` rows of this commit; all of it where something
    /// expired was written again, as that is not to be deleted.
    pub fn delete_some(
        &mut self,
        layout: Layout,
        backend: &dyn StoreBackend,
        written: usize,
    ) -> Result<(), StoreError> {
        let Some((from, end)) = self.stale.take() else { return Ok(()) };
        let most = if self.late.is_some() { usize::MAX } else { AT_ONCE.max(2 * written) };
        let mut gone = Vec::new();
        let bounds = (from.as_ref().map(|from| &from[..]), Bound::Excluded(&end[..]));
        backend.scan(bounds.0, bounds.1, &mut |key, _| {
            gone.push(key);
            gone.len() < most
        })?;
        let last = gone.last().filter(|_| gone.len() == most);
        self.stale = last.map(|last| (Bound::Excluded(last.clone()), end));
        gone.into_iter().for_each(|key| self.delete(layout, key));
        Ok(())
    }

    /// An entry goes, and what leads to it.
    pub fn delete(&mut self, layout: Layout, key: Bytes) {
        self.deletes.extend(layout.index_key_of(&key).map(|index| (index, None)));
        self.deletes.push((key, None));
    }

    /// Whether the backend's entry is as good as deleted.
    pub fn hides(&self, store_key: &[u8]) -> bool {
        self.hidden.is_some_and(|end| store_key < &end[..])
    }

    /// What is to be deleted by this commit.
    pub fn take_deletes(&mut self) -> Batch {
        std::mem::take(&mut self.deletes)
    }

    /// The deletes that were taken are about to be handed over.
    pub fn leave(&mut self, over: u32) {
        if self.deletes.is_empty() && self.stale.is_none() && self.leaving.is_none() {
            self.leaving = Some(over);
        }
    }

    /// They have reached the backend.
    pub fn settled(&mut self, over: u32) {
        if self.leaving.is_some_and(|leaving| leaving <= over) {
            (self.hidden, self.leaving) = (None, None);
        }
    }
}
