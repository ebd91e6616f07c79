//! Queries of stores that keep versions (KIP-960, KIP-968).

use std::ops::Bound;

use headwater_model::{Bytes, TimestampMs};
use serde_json::{Value, json};

use super::{QueryError, QueryableStore, RangeQuery};
use crate::store::keys::{INDEX, META};
use crate::store::version_keys::{
    BEHIND_INDEX, kept_horizon, split_version, split_version_key, version_range,
};
use crate::store::{StoreBackend, StoreKind};

/// The value of one key: the latest, or the one that held at a time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VersionedKeyQuery {
    pub key: String,
    /// `None` asks for the latest. Before the store's history there is nothing, unless the latest held already.
    pub as_of: Option<TimestampMs>,
}

/// All values of one key that held at any time in `from..=to`, the latest first. Deletions end a value and are no values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MultiVersionedKeyQuery {
    pub key: String,
    pub from: TimestampMs,
    pub to: TimestampMs,
    pub limit: usize,
}

/// A version as it is stored.
struct Stored {
    from: TimestampMs,
    value: Option<Bytes>,
}

impl QueryableStore {
    fn stored(&self, (_, stored): &(Bytes, Bytes)) -> Result<Stored, QueryError> {
        let (from, value) = split_version(stored).ok_or_else(|| self.wrong("shorter than a version"))?;
        Ok(Stored { from, value })
    }

    /// `{key, value, timestamp, valid_to}`; `valid_to` is null as long as the version holds.
    fn version(
        &self,
        key: &Bytes,
        (from, value): (TimestampMs, &Bytes),
        valid_to: Option<TimestampMs>,
    ) -> Result<Value, QueryError> {
        let value = (self.json.value)(value).map_err(|reason| self.wrong(reason))?;
        let key = (self.json.key)(key).map_err(|reason| self.wrong(reason))?;
        Ok(json!({ "key": key, "value": value, "timestamp": from, "valid_to": valid_to }))
    }

    pub(super) fn as_of(
        &self,
        backend: &dyn StoreBackend,
        query: &VersionedKeyQuery,
    ) -> Result<Vec<Value>, QueryError> {
        let (from, to) = (query.as_of.unwrap_or(i64::MAX), query.as_of.unwrap_or(i64::MAX));
        self.versions(backend, &MultiVersionedKeyQuery { key: query.key.clone(), from, to, limit: 1 })
    }

    pub(super) fn versions(
        &self,
        backend: &dyn StoreBackend,
        query: &MultiVersionedKeyQuery,
    ) -> Result<Vec<Value>, QueryError> {
        self.expect(StoreKind::Versioned, "versions")?;
        if query.to < 0 || query.from > query.to {
            return Ok(Vec::new());
        }
        let key = self.key_bytes(&query.key)?;
        let horizon = kept_horizon(backend).map_err(|e| self.failed(e))?.unwrap_or(0);
        let since = query.from.max(horizon);
        // Also the first version after the range: it says until when the last one in it held.
        let (low, high) = version_range(&key, 0, i64::MAX);
        let found =
            backend.range(Bound::Included(&low), Bound::Included(&high)).map_err(|e| self.failed(e))?;
        let mut valid_to: Option<TimestampMs> = None;
        let mut rows = Vec::new();
        for entry in &found {
            let Stored { from, value } = self.stored(entry)?;
            // What ended before the history began is not told even where it is still there.
            let in_reach = from <= query.to && (valid_to.is_none() || query.to >= horizon);
            if let Some(value) = value.filter(|_| in_reach) {
                rows.push(self.version(&key, (from, &value), valid_to)?);
            }
            if from <= since || rows.len() >= query.limit {
                break;
            }
            valid_to = Some(from);
        }
        Ok(rows)
    }

    /// The latest version of each key in the range.
    pub(super) fn latest_in_range(
        &self,
        backend: &dyn StoreBackend,
        query: &RangeQuery,
    ) -> Result<Vec<Value>, QueryError> {
        let bytes = |text: &Option<String>| text.as_ref().map(|text| self.key_bytes(text)).transpose();
        let first = bytes(&query.from)?.map(|key| version_range(&key, 0, i64::MAX).0);
        let last = bytes(&query.to)?.map(|key| version_range(&key, 0, i64::MAX).1);
        // On either side of what the store keeps for itself.
        let high = last.as_ref().map_or(Bound::Unbounded, |key| Bound::Included(&key[..]));
        let low = first.as_ref().map_or(Bound::Unbounded, |key| Bound::Included(&key[..]));
        let before_index = match &last {
            Some(last) if last[..] < INDEX[..] => high,
            _ => Bound::Excluded(&INDEX[..]),
        };
        let behind_index = match &first {
            Some(first) if first[..] > BEHIND_INDEX[..] => low,
            _ => Bound::Included(&BEHIND_INDEX[..]),
        };
        let mut entries = backend.range(low, before_index).map_err(|e| self.failed(e))?;
        entries.extend(backend.range(behind_index, high).map_err(|e| self.failed(e))?);
        entries.retain(|(key, _)| key[..] != META);
        let mut rows = Vec::new();
        let mut before = None;
        for entry in entries {
            let (key, _) = split_version_key(&entry.0).ok_or_else(|| self.wrong("not a key of a version"))?;
            if before.as_ref() == Some(&key) {
                continue;
            }
            let Stored { from, value } = self.stored(&entry)?;
            if let Some(value) = value {
                rows.push(self.version(&key, (from, &value), None)?);
            }
            if rows.len() >= query.limit {
                break;
            }
            before = Some(key);
        }
        Ok(rows)
    }
}
