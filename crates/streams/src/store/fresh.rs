//! For which rows of windows or sessions a backend need not be asked: when a segment begins of which it has none, all of the
//! segment's rows are in memory, until one of them is let go of.

use std::ops::Bound;

use headwater_model::TimestampMs;

use super::keys::{INDEX, Layout};
use super::{StoreBackend, StoreError};

pub(super) struct Fresh {
    /// All rows of this time and later are in memory.
    from: TimestampMs,
    /// The last segment whose beginning was seen.
    seen: i64,
}

impl Default for Fresh {
    fn default() -> Self {
        Self { from: TimestampMs::MAX, seen: -1 }
    }
}

impl Fresh {
    /// Whether the backend has nothing of this key but what is in memory, too.
    pub fn is_here(
        &mut self,
        layout: Layout,
        store_key: &[u8],
        backend: &dyn StoreBackend,
    ) -> Result<bool, StoreError> {
        let Some(time) = layout.time_of(store_key) else { return Ok(false) };
        let segment = layout.segment(time);
        if time >= self.from || segment <= self.seen {
            return Ok(time >= self.from);
        }
        self.seen = segment;
        let start = Layout::segment_start(segment);
        let none = backend.first(Bound::Included(&start), Bound::Excluded(&INDEX))?.is_none();
        if none {
            self.from = layout.start_of(segment);
        }
        Ok(none)
    }

    /// A row is in the backend only, from here on.
    pub fn let_go(&mut self, layout: Layout, store_key: &[u8]) {
        if let Some(time) = layout.time_of(store_key).filter(|time| *time >= self.from) {
            self.from = time.saturating_add(1);
        }
    }
}
