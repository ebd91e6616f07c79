//! What has expired from a store of windows or sessions: deletes that wait for the next commit, and what of the backend is not
//! to be read until they have reached it.

use headwater_model::Bytes;

use super::keys::Layout;
use super::typed::Batch;

#[derive(Default)]
pub(super) struct Expiry {
    /// Segments before this one have expired.
    live_from: i64,
    /// The lowest segment that was written to after it had expired: records of a lane that nobody waits for come so late.
    late: Option<i64>,
    deletes: Batch,
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

    /// Bounds, the second excluded, of the store keys that expire when `segment` becomes the first that is alive; `None` if
    /// none do. What expired before is not looked at again: a backend has to step over what it has deleted.
    pub fn advance(&mut self, segment: i64) -> Option<([u8; 8], [u8; 8])> {
        if segment <= self.live_from {
            return None;
        }
        let from = self.late.take().unwrap_or(self.live_from);
        let bounds = (Layout::segment_start(from), Layout::segment_start(segment));
        self.live_from = segment;
        (self.hidden, self.leaving) = (Some(bounds.1), None);
        Some(bounds)
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
        if self.deletes.is_empty() && self.leaving.is_none() {
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
