//! A store that keeps the versions of each key: what its value was, and from when (KIP-889).
//!
//! `version_keys.rs` says how they are laid out. A version holds until the next one of its key; versions that held before the
//! history begins are removed, and deletions with them. Compaction keeps a key's last record and not its latest version, so a
//! commit that logs an earlier version logs the latest one again after it.

use std::any::Any;
use std::collections::{BTreeMap, HashSet};
use std::ops::Bound;
use std::sync::Arc;

use headwater_model::{Bytes, Record, TimestampMs};

use super::keys::{INDEX, META};
use super::rows::Limits;
use super::typed::{AnyStore, Batch, CACHE_BYTES, FlushedAt};
use super::version_keys::{
    index_key, split_version, split_version_key, stored_version, version_key, version_range,
};
use super::{StoreBackend, StoreError};
use crate::error::TaskError;
use crate::node::Payload;
use crate::serdes::{SerdeError, SerdeRef};
use crate::task::Output;

/// What a version takes beside its key and its value in memory, in bytes.
const OVERHEAD: usize = 128;
/// The history is shortened when it has moved on by a tenth of itself, and by a second at least.
const STEPS: i64 = 10;
const SMALLEST_STEP: i64 = 1_000;
/// What one commit reads of the backend to shorten the history: a transaction is open meanwhile, and a store that was just
/// restored may have all of its changelog to go through. The rest is for the commits after it.
const MOST_SHORTENED: usize = 10_000;

/// What is known of a store before its backend is.
pub(crate) struct VersionedParts<V> {
    pub name: Arc<str>,
    pub serde: SerdeRef<V>,
    pub changelog: Option<Arc<str>>,
    pub history_ms: i64,
    /// Decoded versions kept between commits.
    pub cache_entries: usize,
}

impl<V> Clone for VersionedParts<V> {
    fn clone(&self) -> Self {
        Self {
            name: self.name.clone(),
            serde: self.serde.clone(),
            changelog: self.changelog.clone(),
            ..*self
        }
    }
}

/// A key's value from a time on; `None` if it was deleted then.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Version<V> {
    pub from: TimestampMs,
    pub value: Option<V>,
}

/// What became of a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Written {
    /// It is the key's latest version.
    Latest,
    /// It holds until a later one that was there.
    Older,
    /// It is older than the history: not written.
    Expired,
}

struct Slot<V> {
    /// `None` where the version is removed.
    version: Option<Version<V>>,
    dirty: bool,
    /// Once it is encoded.
    bytes: usize,
}

/// The overlay of one store in one task.
pub(crate) struct VersionedStore<V> {
    parts: VersionedParts<V>,
    backend: Box<dyn StoreBackend>,
    entries: BTreeMap<Bytes, Slot<V>>,
    /// Of all entries that are encoded.
    bytes: usize,
    limits: Limits,
    pending: Batch,
    /// Where the history begins.
    horizon: TimestampMs,
    /// Up to which horizon versions have been removed.
    shortened: TimestampMs,
    /// The entry of the index that the last commit came to, where it did not come to the end.
    shortened_to: Option<Bytes>,
    writes: u64,
}

impl<V: Payload> VersionedStore<V> {
    pub fn new(parts: VersionedParts<V>, backend: Box<dyn StoreBackend>) -> Self {
        let limits = Limits { rows: parts.cache_entries, bytes: CACHE_BYTES };
        let (entries, pending) = (BTreeMap::new(), Vec::new());
        Self {
            parts,
            backend,
            entries,
            bytes: 0,
            limits,
            pending,
            horizon: i64::MIN,
            shortened: 0,
            shortened_to: None,
            writes: 0,
        }
    }

    fn failed(&self, source: StoreError) -> TaskError {
        TaskError::Store { store: self.parts.name.to_string(), source }
    }

    fn decode(&self, stored: &Bytes) -> Result<Version<V>, TaskError> {
        let wrong = |source| TaskError::StoredValue { store: self.parts.name.to_string(), source };
        let (from, value) =
            split_version(stored).ok_or_else(|| wrong(SerdeError::new("shorter than a version")))?;
        let value = value.map(|value| self.parts.serde.deserialize(&self.parts.name, &value));
        Ok(Version { from, value: value.transpose().map_err(wrong)? })
    }

    /// The first version between two store keys, both included: the latest one, as time is inverted.
    fn first(&self, low: &[u8], high: &[u8]) -> Result<Option<Version<V>>, TaskError> {
        let fresh = self
            .entries
            .range::<[u8], _>((Bound::Included(low), Bound::Included(high)))
            .find_map(|(key, slot)| Some((key, slot.version.as_ref()?)));
        let mut from = Bound::Included(Bytes::copy_from_slice(low));
        loop {
            let bounds = (from.as_ref().map(|key| &key[..]), Bound::Included(high));
            let kept = self.backend.first(bounds.0, bounds.1).map_err(|e| self.failed(e))?;
            return match (fresh, kept) {
                (Some((key, version)), Some((other, _))) if *key <= other => Ok(Some(version.clone())),
                (_, Some((key, _))) if self.entries.contains_key(&key) => {
                    from = Bound::Excluded(key);
                    continue;
                }
                (_, Some((_, stored))) => self.decode(&stored).map(Some),
                (Some((_, version)), None) => Ok(Some(version.clone())),
                (None, None) => Ok(None),
            };
        }
    }

    /// The latest version of a key.
    pub fn latest(&self, key: &[u8]) -> Result<Option<Version<V>>, TaskError> {
        let (low, high) = version_range(key, 0, i64::MAX);
        self.first(&low, &high)
    }

    /// The version of a key that holds at `time`. Before the history began there is none, unless it is the latest.
    pub fn as_of(&self, key: &[u8], time: TimestampMs) -> Result<Option<Version<V>>, TaskError> {
        if time < self.horizon {
            return Ok(self.latest(key)?.filter(|version| version.from <= time));
        }
        if time < 0 {
            return Ok(None);
        }
        let (low, high) = version_range(key, 0, time);
        self.first(&low, &high)
    }

    /// The history begins this long before `watermark`.
    pub fn observe(&mut self, watermark: TimestampMs) {
        self.horizon = self.horizon.max(watermark.saturating_sub(self.parts.history_ms));
    }

    /// Writes a version, or (`None`) a deletion. `stream_time` decides whether it is too late.
    pub fn put(
        &mut self,
        key: &[u8],
        value: Option<V>,
        from: TimestampMs,
        stream_time: TimestampMs,
    ) -> Result<Written, TaskError> {
        if from < stream_time.saturating_sub(self.parts.history_ms) {
            return Ok(Written::Expired);
        }
        let (low, high) = version_range(key, from.saturating_add(1), i64::MAX);
        let later = self.first(&low, &high)?.is_some();
        self.writes += 1;
        self.insert(version_key(key, from), Some(Version { from, value }), true);
        Ok(if later { Written::Older } else { Written::Latest })
    }

    fn insert(&mut self, store_key: Bytes, version: Option<Version<V>>, dirty: bool) {
        let bytes = if dirty { 0 } else { store_key.len() + OVERHEAD };
        self.bytes += bytes;
        let before = self.entries.insert(store_key, Slot { version, dirty, bytes });
        self.bytes -= before.map_or(0, |before| before.bytes);
    }

    /// Lets go of versions that the backend has, if there are too many of them.
    fn evict(&mut self) {
        if self.entries.len() <= self.limits.rows && self.bytes <= self.limits.bytes {
            return;
        }
        self.entries.retain(|_, slot| slot.dirty);
        self.bytes = self.entries.values().map(|slot| slot.bytes).sum();
    }

    fn encode(&self, version: &Version<V>) -> Result<Option<Bytes>, TaskError> {
        let store = &self.parts.name;
        let encoded = version.value.as_ref().map(|value| self.parts.serde.serialize(store, value));
        encoded.transpose().map_err(|source| TaskError::Serialize {
            node: store.to_string(),
            what: "value",
            target: store.to_string(),
            source,
        })
    }

    /// Logs the versions of one key, earliest first, and its latest one last.
    fn log(
        &self,
        key: &Bytes,
        mut versions: Vec<(TimestampMs, Option<Bytes>)>,
        partition: i32,
        out: &mut Vec<Output>,
    ) -> Result<(), TaskError> {
        let Some(topic) = &self.parts.changelog else { return Ok(()) };
        let logged = versions.last().map(|(from, _)| *from);
        if let Some(latest) = self.latest(key)?
            && logged.is_some_and(|logged| logged < latest.from)
        {
            versions.push((latest.from, self.encode(&latest)?));
        }
        out.extend(versions.into_iter().map(|(timestamp, value)| Output {
            topic: topic.clone(),
            partition: Some(partition),
            timestamp,
            key: Some(key.clone()),
            value,
            headers: Vec::new(),
        }));
        Ok(())
    }

    /// The store keys between two, both included, and whether each is a deletion; what this commit writes is among them.
    fn listed(&self, low: &[u8], high: &[u8]) -> Result<BTreeMap<Bytes, bool>, TaskError> {
        let bounds = (Bound::Included(low), Bound::Included(high));
        let kept = self.backend.range(bounds.0, bounds.1).map_err(|e| self.failed(e))?;
        let deletion = |stored: &Bytes| split_version(stored).is_some_and(|(_, value)| value.is_none());
        let mut listed: BTreeMap<Bytes, bool> =
            kept.into_iter().map(|(key, stored)| (key, deletion(&stored))).collect();
        for (key, slot) in self.entries.range::<[u8], _>(bounds) {
            match &slot.version {
                Some(version) => listed.insert(key.clone(), version.value.is_none()),
                None => listed.remove(key),
            };
        }
        Ok(listed)
    }

    /// What was written is encoded now.
    fn count(&mut self, batch: &BTreeMap<Bytes, Option<Bytes>>) {
        for (key, slot) in self.entries.iter_mut().filter(|(_, slot)| slot.dirty) {
            slot.dirty = false;
            slot.bytes = key.len() + batch.get(key).and_then(Option::as_ref).map_or(0, Bytes::len) + OVERHEAD;
            self.bytes += slot.bytes;
        }
    }

    /// Removes what held only before the history begins, or some of it.
    fn shorten(&mut self, batch: &mut BTreeMap<Bytes, Option<Bytes>>) -> Result<(), TaskError> {
        let step = (self.parts.history_ms / STEPS).max(SMALLEST_STEP);
        if self.shortened_to.is_none() && self.horizon < self.shortened.saturating_add(step) {
            return Ok(());
        }
        let (mut left, mut done) = (MOST_SHORTENED, HashSet::new());
        // No version is written before the horizon, so nothing is missed behind an entry that was come to.
        let (due, mut complete) = self.due(left)?;
        for index in due {
            let (key, entry) = (index.slice(16..), index.clone());
            batch.entry(index).or_insert(None);
            left = left.saturating_sub(1);
            // All that is due of a key goes with its first entry.
            if done.insert(key.clone()) {
                left = left.saturating_sub(self.shorten_key(&key, batch)?);
            }
            self.shortened_to = Some(entry);
            if left == 0 {
                complete = false;
                break;
            }
        }
        let came_to = self.shortened_to.as_ref().and_then(|entry| entry[8..].first_chunk::<8>());
        match came_to.map(|time| i64::from_be_bytes(*time)) {
            Some(time) if !complete => self.shortened = time,
            _ => (self.shortened, self.shortened_to) = (self.horizon, None),
        }
        Ok(())
    }

    /// The entries of the index before the horizon, from where the last commit came to; whether these are all.
    fn due(&self, most: usize) -> Result<(Vec<Bytes>, bool), TaskError> {
        let end = [&INDEX[..], &self.horizon.saturating_add(1).to_be_bytes()].concat();
        let from = self.shortened_to.as_deref().map_or(Bound::Included(&INDEX[..]), Bound::Excluded);
        let mut due = Vec::new();
        let mut complete = true;
        let scanned = self.backend.scan(from, Bound::Excluded(&end[..]), &mut |entry, _| {
            complete = due.len() < most;
            if complete {
                due.push(entry);
            }
            complete
        });
        scanned.map_err(|e| self.failed(e))?;
        Ok((due, complete))
    }

    /// Removes the versions of a key that held only before the history begins; returns how many there were to look at.
    fn shorten_key(
        &mut self,
        key: &Bytes,
        batch: &mut BTreeMap<Bytes, Option<Bytes>>,
    ) -> Result<usize, TaskError> {
        let (low, high) = version_range(key, 0, self.horizon);
        let listed = self.listed(&low, &high)?;
        let count = listed.len();
        for (place, (version, deletion)) in listed.into_iter().enumerate() {
            // The first one still holds when the history begins; a deletion need not be remembered.
            if place > 0 || deletion {
                self.insert(version.clone(), None, false);
                batch.insert(version, None);
            }
        }
        Ok(count)
    }
}

impl<V: Payload> AnyStore for VersionedStore<V> {
    fn as_any(&mut self) -> &mut dyn Any {
        self
    }

    fn flush(&mut self, at: FlushedAt, out: &mut Vec<Output>) -> Result<(), TaskError> {
        // An empty batch means that the last one has reached the backend, so clean versions may go.
        if self.pending.is_empty() {
            self.evict();
        }
        let mut batch = BTreeMap::new();
        let mut changed: BTreeMap<Bytes, Vec<(TimestampMs, Option<Bytes>)>> = BTreeMap::new();
        // Backwards, so that the versions of a key come earliest first.
        for (store_key, slot) in self.entries.iter().rev().filter(|(_, slot)| slot.dirty) {
            let Some(version) = &slot.version else { continue };
            let Some((key, from)) = split_version_key(store_key) else { continue };
            let value = self.encode(version)?;
            batch.insert(store_key.clone(), Some(stored_version(from, value.as_ref())));
            batch.insert(index_key(&key, from), Some(Bytes::new()));
            changed.entry(key).or_default().push((from, value));
        }
        for (key, versions) in changed {
            self.log(&key, versions, at.partition, out)?;
        }
        self.count(&batch);
        self.shorten(&mut batch)?;
        if !batch.is_empty() && self.horizon > 0 {
            let horizon = Bytes::copy_from_slice(&self.horizon.to_be_bytes());
            batch.insert(Bytes::from_static(&META), Some(horizon));
        }
        self.pending.extend(batch);
        Ok(())
    }

    fn take_pending(&mut self) -> Batch {
        std::mem::take(&mut self.pending)
    }

    fn pending(&self) -> (usize, usize) {
        let length = |value: &Option<Bytes>| value.as_ref().map_or(0, Bytes::len);
        let bytes = self.pending.iter().map(|(key, value)| key.len() + length(value) + OVERHEAD).sum();
        (self.pending.len(), bytes)
    }

    fn limit(&mut self, bytes: usize) {
        self.limits.bytes = bytes;
    }

    fn writes(&self) -> u64 {
        self.writes
    }

    fn restore_batch(&self, records: &[Record]) -> Result<Batch, TaskError> {
        let mut batch = Vec::with_capacity(records.len() * 2);
        for record in records {
            let Some(key) = &record.key else { continue };
            let stored = stored_version(record.timestamp, record.value.as_ref());
            batch.push((version_key(key, record.timestamp), Some(stored)));
            batch.push((index_key(key, record.timestamp), Some(Bytes::new())));
        }
        Ok(batch)
    }

    fn apply(&mut self, batch: Batch) -> Result<(), TaskError> {
        for (key, _) in &batch {
            self.bytes -= self.entries.remove(key).map_or(0, |slot| slot.bytes);
        }
        self.backend.apply(batch).map_err(|e| self.failed(e))
    }
}

#[cfg(test)]
mod tests;
