//! A store as operators see it: typed values above a byte backend.
//!
//! Reads and writes go to the overlay, and [`AnyStore::flush`] turns what changed since the last commit into changelog records
//! and a batch for the backend. So a key that changes a thousand times between two commits is decoded and encoded once, and
//! costs one changelog record.

use std::any::Any;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::Arc;

use bytes::Buf as _;
use headwater_model::{Bytes, Record, TimestampMs};

use super::expiry::Expiry;
use super::fresh::Fresh;
use super::keys::{self, INDEX, Layout, Timed};
use super::outbound::{Outbound, Sheet};
use super::overlay::{Known, Overlay, Written};
use super::rows::{Limits, Place};
use super::sessions::Longest;
use super::{StoreBackend, StoreError};
use crate::error::TaskError;
use crate::node::Payload;
use crate::serdes::{SerdeError, SerdeRef};
use crate::task::Output;

#[cfg(test)]
mod tests;

/// What is kept between commits unless the shell says otherwise: see [`crate::Task::limit_caches`].
pub(super) const CACHE_BYTES: usize = 16 << 20;
/// So many rows are looked for before they are written.
const FOUND_AT_ONCE: usize = 64;
/// The timestamp before a stored value, in bytes.
const TIMESTAMP: usize = 8;

/// Entries for a backend: `None` deletes.
pub(crate) type Batch = Vec<(Bytes, Option<Bytes>)>;

/// Turns a source topic's record into the entry its table would hold; `None` if it does not decode.
pub(crate) type Normalize = Arc<dyn Fn(&Record) -> Option<(Bytes, Option<Bytes>)> + Send + Sync>;

/// What changelog records have that rows do not.
#[derive(Debug, Clone, Copy)]
pub(crate) struct FlushedAt {
    pub partition: i32,
    /// The timestamp of deletions, 0 at least.
    pub stream_time: TimestampMs,
}

/// What a task does with any of its stores.
pub(crate) trait AnyStore: Send {
    fn as_any(&mut self) -> &mut dyn Any;
    /// Encodes what changed: changelog records into `out`, entries into the pending batch.
    fn flush(&mut self, at: FlushedAt, out: &mut Vec<Output>) -> Result<(), TaskError>;
    fn take_pending(&mut self) -> Batch;
    /// As `take_pending`, for who writes them while the store is used and then calls `settle`; `None` if this store is not for that.
    fn hand_over(&mut self) -> Option<Arc<Batch>> {
        None
    }
    /// The backend has what was handed over.
    fn settle(&mut self) {}
    /// Whether `hand_over` hands anything over.
    fn settles_later(&self) -> bool {
        false
    }
    /// What `take_pending` would take: entries, and about how many bytes.
    fn pending(&self) -> (usize, usize);
    /// How many bytes of rows may be kept between commits.
    fn limit(&mut self, _bytes: usize) {}
    fn restore_batch(&self, records: &[Record]) -> Result<Batch, TaskError>;
    fn apply(&mut self, batch: Batch) -> Result<(), TaskError>;
    /// Whether what the backend has is laid out as this store reads it.
    fn fits(&self) -> Result<bool, TaskError> {
        Ok(true)
    }
    /// How often it was written to.
    fn writes(&self) -> u64;
    /// Whether it knows what the key has without asking the backend.
    fn holds(&self, _key: &[u8]) -> bool {
        true
    }
}

/// What is known of a store before its backend is.
pub(crate) struct StoreParts<V> {
    pub name: Arc<str>,
    pub layout: Layout,
    pub serde: SerdeRef<V>,
    /// Where changes are logged; `None` if they are not, or if the source topic is the log.
    pub changelog: Option<Arc<str>>,
    /// Set when the source topic is the log.
    pub normalize: Option<Normalize>,
    /// Decoded entries kept between commits.
    pub cache_entries: usize,
}

impl<V> Clone for StoreParts<V> {
    fn clone(&self) -> Self {
        Self {
            name: self.name.clone(),
            layout: self.layout,
            serde: self.serde.clone(),
            changelog: self.changelog.clone(),
            normalize: self.normalize.clone(),
            cache_entries: self.cache_entries,
        }
    }
}

/// The overlay of one store in one task.
pub(crate) struct TypedStore<V> {
    parts: StoreParts<V>,
    backend: Box<dyn StoreBackend>,
    overlay: Overlay<V>,
    limits: Limits,
    /// What a row is encoded in.
    encoded: Vec<u8>,
    /// Keys of rows that the backend does not have as they are here, as far as somebody has asked for a range: of those
    /// that were written and of those that gather so many, and whether of those that are under way.
    ahead: BTreeSet<Bytes>,
    ahead_of: (usize, usize, bool),
    /// Index keys of what was written since the last flush, of what gathers, and of what is under way.
    fresh: BTreeSet<Bytes>,
    flushed: BTreeSet<Bytes>,
    leaving: BTreeSet<Bytes>,
    outbound: Outbound,
    expiry: Expiry,
    fresh_from: Fresh,
    longest: Longest,
    /// The backend was told how it is laid out.
    marked: bool,
    writes: u64,
}

impl<V> StoreParts<V> {
    fn failed(&self, source: StoreError) -> TaskError {
        TaskError::Store { store: self.name.to_string(), source }
    }

    fn decode(&self, stored: &[u8]) -> Result<(TimestampMs, V), TaskError> {
        let wrong = |source| TaskError::StoredValue { store: self.name.to_string(), source };
        let (timestamp, bytes) =
            keys::split_value(stored).ok_or_else(|| wrong(SerdeError::new("shorter than a timestamp")))?;
        let value = self.serde.read(&self.name, bytes).map_err(wrong)?;
        Ok((timestamp, value))
    }

    /// `timestamp | value`, in place of what `encoded` has.
    fn encode(&self, (timestamp, value): &(TimestampMs, V), encoded: &mut Vec<u8>) -> Result<(), TaskError> {
        encoded.clear();
        encoded.extend_from_slice(&timestamp.to_be_bytes());
        self.serde.write(&self.name, value, encoded).map_err(|source| TaskError::Serialize {
            node: self.name.to_string(),
            what: "value",
            target: self.name.to_string(),
            source,
        })
    }
}

impl<V: Payload> TypedStore<V> {
    pub fn new(parts: StoreParts<V>, backend: Box<dyn StoreBackend>) -> Self {
        let limits = Limits { rows: parts.cache_entries, bytes: CACHE_BYTES };
        Self {
            parts,
            backend,
            overlay: Overlay::default(),
            limits,
            encoded: Vec::new(),
            ahead: BTreeSet::new(),
            ahead_of: (0, 0, false),
            fresh: BTreeSet::new(),
            flushed: BTreeSet::new(),
            leaving: BTreeSet::new(),
            outbound: Outbound::default(),
            expiry: Expiry::default(),
            fresh_from: Fresh::default(),
            longest: Longest::default(),
            marked: false,
            writes: 0,
        }
    }

    pub fn layout(&self) -> Layout {
        self.parts.layout
    }

    /// The value of a store key with its timestamp.
    pub fn get(&mut self, key: &Bytes) -> Result<Option<(TimestampMs, V)>, TaskError> {
        let Self { parts, backend, overlay, expiry, fresh_from, .. } = self;
        match overlay.get(key) {
            Some(Known::Written(value)) => return Ok(value.cloned()),
            Some(Known::Kept(stored)) => return stored.map(|stored| parts.decode(stored)).transpose(),
            None => {}
        }
        if parts.layout.is_timed()
            && fresh_from.is_here(parts.layout, key, &**backend).map_err(|e| parts.failed(e))?
        {
            return Ok(None);
        }
        let stored = match expiry.hides(key) {
            true => None,
            false => backend.get(key).map_err(|e| parts.failed(e))?,
        };
        overlay.keep(key, stored.as_deref());
        stored.map(|stored| parts.decode(&stored)).transpose()
    }

    /// Writes or (`None`, or a value that stands for null) deletes.
    pub fn put(&mut self, key: Bytes, value: Option<(TimestampMs, V)>) {
        let Self { parts, overlay, fresh, expiry, longest, .. } = self;
        self.writes += 1;
        let value = value.filter(|(_, value)| !parts.serde.is_null(value));
        if let Some(key) = overlay.put(key, value) {
            fresh.extend(parts.layout.index_key_of(key));
            if parts.layout.is_timed() {
                expiry.wrote(key);
                longest.wrote(parts.layout, key);
            }
        }
    }

    /// The keys of entries whose time (window start, session end) is in `from..=to`, in the order of time, second and key;
    /// only of a store that keeps an index. Some may have been deleted.
    pub fn by_time(&self, from: TimestampMs, to: TimestampMs) -> Result<Vec<Bytes>, TaskError> {
        let (low, high) = Layout::index_range(from, to);
        let bounds = (Bound::Included(&low[..]), Bound::Excluded(&high[..]));
        if keys::is_empty_range(bounds.0, bounds.1) {
            return Ok(Vec::new());
        }
        let kept = self.backend.range(bounds.0, bounds.1).map_err(|e| self.parts.failed(e))?;
        let mut found: BTreeSet<Bytes> = kept.into_iter().map(|(key, _)| key).collect();
        let ahead = [&self.leaving, &self.flushed, &self.fresh];
        found.extend(ahead.into_iter().flat_map(|keys| keys.range::<[u8], _>(bounds)).cloned());
        Ok(found.iter().filter_map(|key| self.parts.layout.indexed_key(key)).collect())
    }

    /// All entries between the bounds in key order.
    pub fn range(
        &mut self,
        from: Bound<&[u8]>,
        to: Bound<&[u8]>,
    ) -> Result<Vec<(Bytes, TimestampMs, V)>, TaskError> {
        if keys::is_empty_range(from, to) {
            return Ok(Vec::new());
        }
        self.look_ahead();
        let mut merged: BTreeMap<Bytes, (TimestampMs, V)> = BTreeMap::new();
        for (key, stored) in self.backend.range(from, to).map_err(|e| self.parts.failed(e))? {
            if !self.ahead.contains(&key) && !self.expiry.hides(&key) {
                let value = self.parts.decode(&stored)?;
                merged.insert(key, value);
            }
        }
        for key in self.ahead.range::<[u8], _>((from, to)) {
            let value = match self.overlay.peek(key) {
                Some(Known::Written(value)) => value.cloned(),
                Some(Known::Kept(stored)) => stored.map(|stored| self.parts.decode(stored)).transpose()?,
                None => None,
            };
            merged.extend(value.map(|value| (key.clone(), value)));
        }
        Ok(merged.into_iter().map(|(key, (timestamp, value))| (key, timestamp, value)).collect())
    }

    /// Sorts in what was written since the last time.
    fn look_ahead(&mut self) {
        let (written, gathered, in_flight) = self.ahead_of;
        self.ahead.extend(self.overlay.written_from(written).cloned());
        let under_way = if in_flight { &[] } else { self.outbound.in_flight() };
        let entries = self.outbound.gathered(gathered).iter().chain(under_way);
        self.ahead.extend(entries.map(|(key, _)| key.clone()));
        self.ahead_of = (self.overlay.written(), self.outbound.size().0, true);
    }

    /// Entries of `key` in a window or session store whose time is in `from..=to`, oldest first.
    pub fn fetch(
        &mut self,
        key: &[u8],
        from: TimestampMs,
        to: TimestampMs,
    ) -> Result<Vec<(Bytes, TimestampMs, V)>, TaskError> {
        let layout = self.parts.layout;
        let mut found = Vec::new();
        let first = layout.segment(from).max(self.expiry.live_from());
        for segment in first..=layout.segment(to) {
            let (low, high) = layout.key_range(segment, key, from, to);
            found.extend(self.range(Bound::Included(&low), Bound::Included(&high))?);
        }
        Ok(found)
    }

    /// As [`TypedStore::fetch`], for bounds that may lie far apart: segments without entries are stepped over.
    pub fn fetch_far(
        &mut self,
        key: &[u8],
        from: TimestampMs,
        to: TimestampMs,
    ) -> Result<Vec<(Bytes, TimestampMs, V)>, TaskError> {
        let layout = self.parts.layout;
        let last = layout.segment(to);
        let mut found = Vec::new();
        let mut next = self.segment_from(layout.segment(from).max(self.expiry.live_from()))?;
        while let Some(segment) = next.filter(|segment| *segment <= last) {
            let (low, high) = layout.key_range(segment, key, from, to);
            found.extend(self.range(Bound::Included(&low), Bound::Included(&high))?);
            next = self.segment_from(segment.saturating_add(1))?;
        }
        Ok(found)
    }

    /// The first segment, from this one on, that anything was written to.
    fn segment_from(&mut self, segment: i64) -> Result<Option<i64>, TaskError> {
        self.look_ahead();
        let start = Layout::segment_start(segment);
        let (low, high) = (Bound::Included(&start[..]), Bound::Excluded(&INDEX[..]));
        let kept = self.backend.first(low, high).map_err(|e| self.parts.failed(e))?;
        let ahead = self.ahead.range::<[u8], _>((low, high)).next().cloned();
        let first = kept.map(|(key, _)| key).into_iter().chain(ahead).min();
        Ok(first.and_then(|key| Some(i64::from_be_bytes(*key.first_chunk::<8>()?))))
    }

    /// Sessions of `key` that end at `from` or later and start at `latest_start` or earlier, in the order of their end; none
    /// ends after `latest`. Those of a key lie apart, so the first one that starts later ends the search, and where there is
    /// none, the longest session of all does.
    pub fn sessions(
        &mut self,
        key: &[u8],
        (from, latest_start): (TimestampMs, TimestampMs),
        latest: TimestampMs,
    ) -> Result<Vec<(Bytes, Timed, V)>, TaskError> {
        let layout = self.parts.layout;
        let longest = self.longest.get(layout, &*self.backend).map_err(|e| self.parts.failed(e))?;
        let to = latest.max(latest_start).min(latest_start.saturating_add(longest));
        let mut found = Vec::new();
        for segment in layout.segment(from).max(self.expiry.live_from())..=layout.segment(to) {
            let (low, high) = layout.key_range(segment, key, from, to);
            for (store_key, _, value) in self.range(Bound::Included(&low), Bound::Included(&high))? {
                let Some(entry) = layout.parse(&store_key) else { continue };
                let is_last = entry.time > latest_start;
                if entry.second <= latest_start {
                    found.push((store_key, entry, value));
                }
                if is_last {
                    return Ok(found);
                }
            }
        }
        Ok(found)
    }

    /// Forgets segments that end before `oldest`. Nothing is logged: the changelog has a retention of its own.
    pub fn expire_before(&mut self, oldest: TimestampMs) -> Result<(), TaskError> {
        let Some(end) = self.expiry.advance(self.parts.layout.segment(oldest)) else { return Ok(()) };
        // What is encoded may reach the backend yet.
        let entries = self.outbound.in_flight().iter().chain(self.outbound.gathered(0));
        for (key, _) in entries.filter(|(key, value)| value.is_some() && key[..] < end[..]) {
            self.expiry.delete(self.parts.layout, key.clone());
        }
        if self.overlay.remove_before(&end) {
            self.ahead_of.0 = 0;
        }
        Ok(())
    }

    /// What gathered is about to be handed over.
    fn leave(&mut self) {
        (self.ahead_of.1, self.ahead_of.2) = (0, false);
        self.leaving.append(&mut self.flushed);
        self.expiry.leave(self.outbound.settled() + 1);
    }

    /// Encodes a row that was written: entries for the backend, and a changelog record.
    fn flush_row(
        &mut self,
        (row, found): (Written<V>, Option<Place>),
        at: FlushedAt,
    ) -> Result<Option<Output>, TaskError> {
        let Self { parts, overlay, outbound, encoded, .. } = self;
        let Written { key, value } = row;
        let stored = match &value {
            Some(value) => {
                parts.encode(value, encoded)?;
                Some(&encoded[..])
            }
            None => None,
        };
        let mut copy = None;
        overlay.encoded((&key, found), stored, |handed| {
            copy = outbound.row(&key, stored, parts.layout.index_key_of(&key), handed);
        });
        let Some(topic) = &parts.changelog else { return Ok(None) };
        if let Some(copy) = &mut copy {
            copy.advance(TIMESTAMP);
        }
        Ok(Some(Output {
            topic: topic.clone(),
            partition: Some(at.partition),
            timestamp: value.map_or(at.stream_time, |(timestamp, _)| timestamp),
            key: parts.layout.changelog_key_of(key),
            value: copy,
            headers: Vec::new(),
        }))
    }
}

impl<V: Payload> AnyStore for TypedStore<V> {
    fn as_any(&mut self) -> &mut dyn Any {
        self
    }

    fn flush(&mut self, at: FlushedAt, out: &mut Vec<Output>) -> Result<(), TaskError> {
        let (layout, fresh_from) = (self.parts.layout, &mut self.fresh_from);
        let gone = |key: &[u8]| {
            if layout.is_timed() {
                fresh_from.let_go(layout, key);
            }
        };
        self.overlay.evict(self.limits, self.outbound.settled(), gone);
        self.ahead_of.0 = 0;
        // First, as something may have been written again after it had expired.
        let deleted = self.expiry.delete_some(layout, &*self.backend, self.overlay.written());
        deleted.map_err(|e| self.parts.failed(e))?;
        self.outbound.extend(self.expiry.take_deletes());
        let mut written = self.overlay.take_written();
        if !written.is_empty() && !std::mem::replace(&mut self.marked, true) {
            self.outbound.extend(self.parts.layout.note());
        }
        let (mut rows, mut found) = (written.drain(..), Vec::with_capacity(FOUND_AT_ONCE));
        while !rows.as_slice().is_empty() {
            let taken = rows.as_slice();
            self.overlay.find(&taken[..taken.len().min(FOUND_AT_ONCE)], &mut found);
            for (found, row) in found.drain(..).zip(rows.by_ref()) {
                out.extend(self.flush_row((row, found), at)?);
            }
        }
        drop(rows);
        self.overlay.reuse(written);
        self.flushed.append(&mut self.fresh);
        let longest = self.longest.flush(self.parts.layout, &*self.backend);
        self.outbound.extend(longest.map_err(|e| self.parts.failed(e))?);
        Ok(())
    }

    fn take_pending(&mut self) -> Batch {
        self.leave();
        let batch = self.outbound.take();
        self.settle();
        batch
    }

    fn hand_over(&mut self) -> Option<Arc<Batch>> {
        self.leave();
        Some(self.outbound.hand_over())
    }

    fn settle(&mut self) {
        self.ahead.clear();
        self.ahead_of = (0, 0, false);
        self.leaving.clear();
        self.outbound.settle();
        self.expiry.settled(self.outbound.settled());
    }

    fn settles_later(&self) -> bool {
        true
    }

    fn pending(&self) -> (usize, usize) {
        self.outbound.size()
    }

    fn limit(&mut self, bytes: usize) {
        self.limits.bytes = bytes;
    }

    fn fits(&self) -> Result<bool, TaskError> {
        self.parts.layout.fits(&*self.backend).map_err(|e| self.parts.failed(e))
    }

    fn writes(&self) -> u64 {
        self.writes
    }

    fn holds(&self, key: &[u8]) -> bool {
        self.overlay.peek(key).is_some()
    }

    fn restore_batch(&self, records: &[Record]) -> Result<Batch, TaskError> {
        let mut sheet = Sheet::default();
        let entry = |record: &Record| match &self.parts.normalize {
            Some(normalize) => normalize(record),
            None => {
                let key = self.parts.layout.store_key_of(record.key.as_ref()?)?;
                let stored = |value: &Bytes| sheet.join(&record.timestamp.to_be_bytes(), value);
                Some((key, record.value.as_ref().map(stored)))
            }
        };
        let mut batch: Batch = records.iter().filter_map(entry).collect();
        if self.parts.layout.indexed {
            let index = |(key, value): &(Bytes, Option<Bytes>)| {
                let present = value.as_ref().map(|_| Bytes::new());
                self.parts.layout.index_key_of(key).map(|index| (index, present))
            };
            let indexed: Batch = batch.iter().filter_map(index).collect();
            batch.extend(indexed);
        }
        let longest = Longest::restored(self.parts.layout, &batch, &*self.backend);
        batch.extend(longest.map_err(|e| self.parts.failed(e))?);
        if !batch.is_empty() {
            batch.extend(self.parts.layout.note());
        }
        Ok(batch)
    }

    fn apply(&mut self, batch: Batch) -> Result<(), TaskError> {
        for (key, _) in &batch {
            self.overlay.remove(key);
        }
        self.fresh_from = Fresh::default();
        self.backend.apply(batch).map_err(|e| self.parts.failed(e))
    }
}
