//! Windows and sessions: of one key by jumps from segment to segment, of all by reading the segments in question.

use std::ops::Bound;

use headwater_model::{Bytes, TimestampMs};
use serde_json::Value;

use super::page::{First, Page, place};
use super::{QueryError, QueryableStore};
use crate::store::keys::{INDEX, Layout, Timed};
use crate::store::{StoreBackend, StoreKind};

/// Which entries are asked for.
struct Asked {
    key: Option<Bytes>,
    from: TimestampMs,
    to: TimestampMs,
}

impl Asked {
    fn has(&self, kind: StoreKind, entry: &Timed) -> bool {
        let starts_by = if kind == StoreKind::Session { entry.second } else { entry.time };
        let in_time = entry.time >= self.from && starts_by <= self.to;
        in_time && self.key.as_ref().is_none_or(|key| *key == entry.key)
    }
}

/// The first entry that could not be read.
type Unread = Option<Bytes>;

impl QueryableStore {
    pub(super) fn timed(
        &self,
        backend: &dyn StoreBackend,
        key: Option<&str>,
        (from, to): (TimestampMs, TimestampMs),
        limit: usize,
        after: Option<&[u8]>,
    ) -> Result<Page, QueryError> {
        if let Some(after) = after {
            self.key_of(after)?;
        }
        let key = key.map(|key| self.key_bytes(key)).transpose()?;
        let asked = Asked { key, from: from.max(0), to };
        let mut found = First::new(limit, after);
        let mut unread: Unread = None;
        let mut visit = |store_key: Bytes, stored: Bytes| match self.layout.parse(&store_key) {
            Some(entry) => {
                if asked.has(self.layout.kind, &entry) {
                    found.offer(place(&entry.key, &[entry.time, entry.second]), (entry, stored));
                }
                true
            }
            None => {
                unread = Some(store_key);
                false
            }
        };
        match &asked.key {
            Some(key) => self.segments_of(backend, key, &asked, &mut visit)?,
            None => self.all_segments(backend, &asked, &mut visit)?,
        }
        if unread.is_some() {
            return Err(self.wrong("not a key of a windowed store"));
        }
        let (rows, more) = found.take();
        let rows = rows.map(|(place, (entry, stored))| Ok((place, self.timed_row(&entry, &stored)?)));
        Ok(Page { rows: rows.collect::<Result<_, QueryError>>()?, more })
    }

    /// The last segment that can have such an entry; a session is in that of its end, which may be far behind its start.
    fn last_segment(&self, asked: &Asked) -> Option<i64> {
        (self.layout.kind == StoreKind::Window).then(|| self.layout.segment(asked.to))
    }

    fn all_segments(
        &self,
        backend: &dyn StoreBackend,
        asked: &Asked,
        visit: &mut dyn FnMut(Bytes, Bytes) -> bool,
    ) -> Result<(), QueryError> {
        let low = Layout::segment_start(self.layout.segment(asked.from));
        let last = self.last_segment(asked).and_then(|last| last.checked_add(1));
        let high = last.map_or(INDEX, Layout::segment_start);
        backend.scan(Bound::Included(&low), Bound::Excluded(&high), visit).map_err(|e| self.failed(e))
    }

    fn segments_of(
        &self,
        backend: &dyn StoreBackend,
        key: &[u8],
        asked: &Asked,
        visit: &mut dyn FnMut(Bytes, Bytes) -> bool,
    ) -> Result<(), QueryError> {
        let last = self.last_segment(asked).unwrap_or(i64::MAX);
        let mut segment = self.layout.segment(asked.from);
        while segment <= last {
            let low = Layout::segment_start(segment);
            let next = backend.first(Bound::Included(&low), Bound::Excluded(&INDEX));
            let Some((found, _)) = next.map_err(|e| self.failed(e))? else { break };
            let Some(there) = found.first_chunk::<8>().map(|bytes| i64::from_be_bytes(*bytes)) else {
                return Err(self.wrong("not a key of a windowed store"));
            };
            if there > last {
                break;
            }
            let until = if self.layout.kind == StoreKind::Session { i64::MAX } else { asked.to };
            let (low, high) = self.layout.key_range(there, key, asked.from, until);
            let read = backend.scan(Bound::Included(&low), Bound::Included(&high), visit);
            read.map_err(|e| self.failed(e))?;
            let Some(behind) = there.checked_add(1) else { break };
            segment = behind;
        }
        Ok(())
    }

    fn timed_row(&self, entry: &Timed, stored: &Bytes) -> Result<Value, QueryError> {
        let mut row = self.row(&entry.key, stored)?;
        let (start, end) = match self.layout.kind {
            StoreKind::Session => (entry.second, entry.time),
            _ => (entry.time, entry.time.saturating_add(self.window_size_ms.unwrap_or(0))),
        };
        row["start"] = start.into();
        row["end"] = end.into();
        Ok(row)
    }
}
