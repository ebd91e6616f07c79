//! Queries of stores that keep versions (KIP-960, KIP-968).

use std::ops::Bound;

use headwater_model::{Bytes, TimestampMs};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::page::{Page, high, low, place};
use super::{QueryError, QueryableStore};
use crate::store::keys::{INDEX, META};
use crate::store::version_keys::{
    BEHIND_INDEX, kept_horizon, split_version, split_version_key, version_range,
};
use crate::store::{StoreBackend, StoreKind};

/// The value of one key: the latest, or the one that held at a time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VersionedKeyQuery {
    pub key: String,
    /// `None` asks for the latest. Before the store's history there is nothing, unless the latest held already.
    pub as_of: Option<TimestampMs>,
}

/// All values of one key that held at any time in `from..=to`, the latest first. Deletions end a value and are no values.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
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
    ) -> Result<Page, QueryError> {
        let (from, to) = (query.as_of.unwrap_or(i64::MAX), query.as_of.unwrap_or(i64::MAX));
        let key = query.key.clone();
        let page = self.versions(backend, &MultiVersionedKeyQuery { key, from, to, limit: 1 }, None)?;
        Ok(Page { more: false, ..page })
    }

    pub(super) fn versions(
        &self,
        backend: &dyn StoreBackend,
        query: &MultiVersionedKeyQuery,
        after: Option<&[u8]>,
    ) -> Result<Page, QueryError> {
        self.expect(StoreKind::Versioned, "versions")?;
        if query.to < 0 || query.from > query.to {
            return Ok(Page::default());
        }
        let key = self.key_bytes(&query.key)?;
        let horizon = kept_horizon(backend).map_err(|e| self.failed(e))?.unwrap_or(0);
        let since = query.from.max(horizon);
        // Also the first version after the range: it says until when the last one in it held.
        let (low, high) = version_range(&key, 0, i64::MAX);
        let found =
            backend.range(Bound::Included(&low), Bound::Included(&high)).map_err(|e| self.failed(e))?;
        let mut valid_to: Option<TimestampMs> = None;
        let mut page = Page::default();
        for entry in &found {
            let Stored { from, value } = self.stored(entry)?;
            // What ended before the history began is not told even where it is still there.
            let in_reach = from <= query.to && (valid_to.is_none() || query.to >= horizon);
            let at = place(&key, &[!from]);
            let is_new = after.is_none_or(|after| at[..] > *after);
            if let Some(value) = value.filter(|_| in_reach && is_new) {
                if page.rows.len() >= query.limit {
                    page.more = true;
                    break;
                }
                page.rows.push((at, self.version(&key, (from, &value), valid_to)?));
            }
            if from <= since {
                break;
            }
            valid_to = Some(from);
        }
        Ok(page)
    }

    /// The latest version of each key in the range, in the order of keys.
    pub(super) fn latest_in_range(
        &self,
        backend: &dyn StoreBackend,
        (from, to): (Option<Bytes>, Option<Bytes>),
        limit: usize,
        after: Option<Bytes>,
    ) -> Result<Page, QueryError> {
        let first = from.map(|key| version_range(&key, 0, i64::MAX).0);
        let last = to.map(|key| version_range(&key, 0, i64::MAX).1);
        let after = after.map(|key| version_range(&key, 0, i64::MAX).1);
        let (low, high) = (low(first.as_ref(), after.as_ref()), high(last.as_ref()));
        let mut found = Latest { limit, before: None, rows: Vec::new(), unread: false };
        // On either side of what the store keeps for itself.
        let behind = match low {
            Bound::Included(low) | Bound::Excluded(low) => low > &BEHIND_INDEX[..],
            Bound::Unbounded => false,
        };
        let reaches = !matches!(&last, Some(last) if last[..] < INDEX[..]);
        if !behind {
            let until = if reaches { Bound::Excluded(&INDEX[..]) } else { high };
            let read = backend.scan(low, until, &mut |key, stored| found.see(&key, stored));
            read.map_err(|e| self.failed(e))?;
        }
        if reaches && !found.is_full() {
            let since = if behind { low } else { Bound::Included(&BEHIND_INDEX[..]) };
            let read = backend.scan(since, high, &mut |key, stored| found.see(&key, stored));
            read.map_err(|e| self.failed(e))?;
        }
        if found.unread {
            return Err(self.wrong("not a key of a version"));
        }
        let more = found.is_full();
        let rows = found
            .rows
            .iter()
            .take(limit)
            .map(|(key, from, value)| Ok((place(key, &[]), self.version(key, (*from, value), None)?)));
        Ok(Page { rows: rows.collect::<Result<_, QueryError>>()?, more })
    }
}

/// The first entry of each key, which is its latest version.
struct Latest {
    limit: usize,
    before: Option<Bytes>,
    rows: Vec<(Bytes, TimestampMs, Bytes)>,
    unread: bool,
}

impl Latest {
    fn is_full(&self) -> bool {
        self.rows.len() > self.limit
    }

    /// Whether to go on.
    fn see(&mut self, store_key: &[u8], stored: Bytes) -> bool {
        if store_key == META {
            return true;
        }
        let (Some((key, _)), Some((from, value))) = (split_version_key(store_key), split_version(&stored))
        else {
            self.unread = true;
            return false;
        };
        if self.before.as_ref() != Some(&key) {
            self.rows.extend(value.map(|value| (key.clone(), from, value)));
            self.before = Some(key);
        }
        !self.is_full()
    }
}
