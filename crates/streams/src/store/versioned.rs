//! A store that keeps the versions of each key: what its value was, and from when (KIP-889).
//!
//! ```text
//! store:      escaped key | 00 00 | not(valid from) u64        → valid from i64 | 00           a deletion
//!                                                              → valid from i64 | 01 | value
//!             FF × 8 | valid from u64 | key                    → nothing: the key changed then
//!             FF × 16                                          → where the history begins i64
//! changelog:  key → value, at the time from which it holds     (as Kafka Streams writes it)
//! ```
//!
//! The time is inverted, so the latest version of a key comes first. A version holds until the next one of its key; versions
//! that held before the history begins are removed, and deletions with them. Compaction keeps a key's last record and not its
//! latest version, so a commit that logs an earlier version logs the latest one again after it.

use std::any::Any;
use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use headwater_model::{Bytes, Record, TimestampMs};

use super::keys::{self, INDEX};
use super::typed::{AnyStore, Batch};
use super::{StoreBackend, StoreError};
use crate::error::TaskError;
use crate::node::Payload;
use crate::serdes::{SerdeError, SerdeRef};
use crate::task::Output;

/// The history is shortened when it has moved on by a tenth of itself, and by a second at least.
const STEPS: i64 = 10;
const SMALLEST_STEP: i64 = 1_000;

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
}

/// The overlay of one store in one task.
pub(crate) struct VersionedStore<V> {
    parts: VersionedParts<V>,
    backend: Box<dyn StoreBackend>,
    entries: BTreeMap<Bytes, Slot<V>>,
    pending: Batch,
    /// Where the history begins.
    horizon: TimestampMs,
    /// Up to which horizon versions have been removed.
    shortened: TimestampMs,
}

fn prefix(key: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(key.len() + 10);
    keys::push_escaped(&mut out, key);
    out
}

/// The store key of a version.
pub(crate) fn version_key(key: &[u8], from: TimestampMs) -> Bytes {
    let mut out = prefix(key);
    out.extend_from_slice(&(!from.max(0)).to_be_bytes());
    Bytes::from(out)
}

/// Bounds, both included, of the versions of `key` that begin in `from..=to`.
pub(crate) fn version_range(key: &[u8], from: TimestampMs, to: TimestampMs) -> (Bytes, Bytes) {
    (version_key(key, to), version_key(key, from))
}

/// Reads a store key; `None` if it is none.
pub(crate) fn split_version_key(store_key: &[u8]) -> Option<(Bytes, TimestampMs)> {
    let (key, rest) = keys::read_escaped(store_key)?;
    let from = !i64::from_be_bytes(rest.try_into().ok()?);
    Some((Bytes::from(key), from))
}

/// Splits a stored version into its time and value.
pub(crate) fn split_version(stored: &Bytes) -> Option<(TimestampMs, Option<Bytes>)> {
    let (from, rest) = stored.split_first_chunk::<8>()?;
    let value = match rest.first()? {
        0 => None,
        _ => Some(stored.slice(9..)),
    };
    Some((i64::from_be_bytes(*from), value))
}

fn stored_version(from: TimestampMs, value: Option<&Bytes>) -> Bytes {
    let mut out = from.to_be_bytes().to_vec();
    out.push(u8::from(value.is_some()));
    out.extend_from_slice(value.map(|value| &value[..]).unwrap_or_default());
    Bytes::from(out)
}

/// Under which a store keeps where its history begins, for queries.
const HORIZON: [u8; 16] = [0xff; 16];

/// Where the history of a store begins, as of its last commit; `None` if that wrote nothing.
pub(crate) fn kept_horizon(backend: &dyn StoreBackend) -> Result<Option<TimestampMs>, StoreError> {
    let kept = backend.get(&HORIZON)?;
    Ok(kept.and_then(|kept| Some(i64::from_be_bytes(*kept.first_chunk::<8>()?))))
}

fn index_key(key: &[u8], from: TimestampMs) -> Bytes {
    Bytes::from([&INDEX[..], &from.max(0).to_be_bytes(), key].concat())
}

impl<V: Payload> VersionedStore<V> {
    pub fn new(parts: VersionedParts<V>, backend: Box<dyn StoreBackend>) -> Self {
        let (entries, pending) = (BTreeMap::new(), Vec::new());
        Self { parts, backend, entries, pending, horizon: i64::MIN, shortened: 0 }
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
        let version = Some(Version { from, value });
        self.entries.insert(version_key(key, from), Slot { version, dirty: true });
        Ok(if later { Written::Older } else { Written::Latest })
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

    /// Removes what held only before the history begins.
    fn shorten(&mut self, batch: &mut BTreeMap<Bytes, Option<Bytes>>) -> Result<(), TaskError> {
        let step = (self.parts.history_ms / STEPS).max(SMALLEST_STEP);
        if self.horizon < self.shortened.saturating_add(step) {
            return Ok(());
        }
        self.shortened = self.horizon;
        let end = [&INDEX[..], &self.horizon.saturating_add(1).to_be_bytes()].concat();
        let bounds = (Bound::Included(&INDEX[..]), Bound::Excluded(&end[..]));
        for (index, _) in self.backend.range(bounds.0, bounds.1).map_err(|e| self.failed(e))? {
            let key = index.slice(16..);
            batch.entry(index).or_insert(None);
            let (low, high) = version_range(&key, 0, self.horizon);
            for (place, (version, deletion)) in self.listed(&low, &high)?.into_iter().enumerate() {
                // The first one still holds when the history begins; a deletion need not be remembered.
                if place > 0 || deletion {
                    self.entries.insert(version.clone(), Slot { version: None, dirty: false });
                    batch.insert(version, None);
                }
            }
        }
        Ok(())
    }
}

impl<V: Payload> AnyStore for VersionedStore<V> {
    fn as_any(&mut self) -> &mut dyn Any {
        self
    }

    fn flush(&mut self, partition: i32, out: &mut Vec<Output>) -> Result<(), TaskError> {
        // An empty batch means that the last one has reached the backend, so clean versions may go.
        if self.pending.is_empty() && self.entries.len() > self.parts.cache_entries {
            self.entries.retain(|_, slot| slot.dirty);
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
            self.log(&key, versions, partition, out)?;
        }
        self.entries.values_mut().for_each(|slot| slot.dirty = false);
        self.shorten(&mut batch)?;
        if !batch.is_empty() && self.horizon > 0 {
            let horizon = Bytes::copy_from_slice(&self.horizon.to_be_bytes());
            batch.insert(Bytes::from_static(&HORIZON), Some(horizon));
        }
        self.pending.extend(batch);
        Ok(())
    }

    fn take_pending(&mut self) -> Batch {
        std::mem::take(&mut self.pending)
    }

    fn restore_batch(&self, records: &[Record]) -> Batch {
        let mut batch = Vec::with_capacity(records.len() * 2);
        for record in records {
            let Some(key) = &record.key else { continue };
            let stored = stored_version(record.timestamp, record.value.as_ref());
            batch.push((version_key(key, record.timestamp), Some(stored)));
            batch.push((index_key(key, record.timestamp), Some(Bytes::new())));
        }
        batch
    }

    fn apply(&mut self, batch: Batch) -> Result<(), TaskError> {
        for (key, _) in &batch {
            self.entries.remove(key);
        }
        self.backend.apply(batch).map_err(|e| self.failed(e))
    }
}
