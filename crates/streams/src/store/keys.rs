//! How windowed entries are laid out in a store and in its changelog.
//!
//! ```text
//! key-value   store and changelog:  key
//! window      store:      segment u64 | escaped key | 00 00 | start i64 | sequence u32
//!             changelog:  key | start i64 | sequence u32                  (as Kafka Streams writes it)
//! session     store:      segment u64 | escaped key | 00 00 | end i64 | start i64
//!             changelog:  key | end i64 | start i64                       (as Kafka Streams writes it)
//! ```
//!
//! All integers are big endian; times are not negative, so their order is the byte order. A zero byte within the key
//! is escaped as `00 FF`, which keeps the order of keys and lets no key be a prefix of another. The segment is the
//! entry's time (window start, session end) divided by the segment interval: old windows expire a segment at a time, by
//! one range. Values are `timestamp i64 | value` in a store; a changelog carries the timestamp as the record's own.
//!
//! A store whose windows are emitted when they close also keeps an index by time, which is not logged but derived from
//! each entry: `FF × 8 | time i64 | second i64 | key`, without a value. A store of windows or sessions says how it is laid out
//! under `FF × 15 | FE`: `milliseconds per segment i64 | 01 with an index, 00 without`. A store of sessions keeps the length of the longest
//! it ever had, in milliseconds, under `FF × 16`.

use std::ops::Bound;

use headwater_model::{Bytes, TimestampMs};

use super::{StoreBackend, StoreError, StoreKind};

/// Whether the bounds exclude everything (`BTreeMap::range` panics on such).
pub(crate) fn is_empty_range(from: Bound<&[u8]>, to: Bound<&[u8]>) -> bool {
    match (from, to) {
        (Bound::Included(a), Bound::Included(b)) => a > b,
        (Bound::Included(a) | Bound::Excluded(a), Bound::Included(b) | Bound::Excluded(b)) => a >= b,
        _ => false,
    }
}

/// An entry of a window or session store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Timed {
    pub key: Bytes,
    /// Window start or session end.
    pub time: TimestampMs,
    /// Session start, or the sequence number among entries of one key and time.
    pub second: i64,
}

/// Where the entries of a window or session store go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Layout {
    pub kind: StoreKind,
    /// Milliseconds per segment; at least 1.
    pub segment_ms: i64,
    /// Entries are also found by time alone.
    pub indexed: bool,
}

/// How many segments are looked at to see whether a store fits that does not say it; few stores have more.
const SEGMENTS_TO_FIT: usize = 100;

/// What index keys begin with: no segment does.
pub(crate) const INDEX: [u8; 8] = [0xff; 8];

/// Under which a store keeps a number of its own: no entry's key and no index key is so.
pub(crate) const META: [u8; 16] = [0xff; 16];

/// Under which a store of windows or sessions says how it is laid out, behind all index keys.
pub(crate) const LAYOUT: [u8; 16] = {
    let mut key = META;
    key[15] = 0xfe;
    key
};

impl Layout {
    pub fn key_value() -> Self {
        Self { kind: StoreKind::KeyValue, segment_ms: 1, indexed: false }
    }

    pub fn versioned() -> Self {
        Self { kind: StoreKind::Versioned, ..Self::key_value() }
    }

    /// Segments as Kafka Streams sizes them: half the retention, a minute at least.
    pub fn timed(kind: StoreKind, retention_ms: i64) -> Self {
        Self { kind, segment_ms: (retention_ms / 2).max(60_000), indexed: false }
    }

    pub fn segment(&self, time: TimestampMs) -> i64 {
        time.max(0) / self.segment_ms
    }

    /// Whether its entries are of windows or sessions.
    pub fn is_timed(&self) -> bool {
        self.tail_len() > 0
    }

    /// When the window of a store key begins, or its session ends; `None` in other stores.
    pub fn time_of(&self, store_key: &[u8]) -> Option<TimestampMs> {
        let tail = store_key.get(store_key.len().checked_sub(self.tail_len())?..)?;
        tail.first_chunk().map(|time| i64::from_be_bytes(*time))
    }

    /// How long the session of a store key is, in milliseconds; `None` in other stores.
    pub fn session_length(&self, store_key: &[u8]) -> Option<i64> {
        if self.kind != StoreKind::Session {
            return None;
        }
        let (end, start) = self.read_tail(store_key.last_chunk::<16>()?)?;
        Some(end.saturating_sub(start))
    }

    fn tail_len(&self) -> usize {
        match self.kind {
            StoreKind::KeyValue | StoreKind::Versioned => 0,
            StoreKind::Window => 12,
            StoreKind::Session => 16,
        }
    }

    fn push_tail(&self, out: &mut Vec<u8>, time: TimestampMs, second: i64) {
        out.extend_from_slice(&time.max(0).to_be_bytes());
        match self.kind {
            StoreKind::Session => out.extend_from_slice(&second.max(0).to_be_bytes()),
            _ => out.extend_from_slice(&(second as u32).to_be_bytes()),
        }
    }

    fn read_tail(&self, tail: &[u8]) -> Option<(TimestampMs, i64)> {
        let (time, second) = tail.split_first_chunk::<8>()?;
        let second = match self.kind {
            StoreKind::Session => i64::from_be_bytes(second.try_into().ok()?),
            _ => i64::from(u32::from_be_bytes(second.try_into().ok()?)),
        };
        Some((i64::from_be_bytes(*time), second))
    }

    /// The store key of an entry of a window or session store.
    pub fn store_key(&self, key: &[u8], time: TimestampMs, second: i64) -> Bytes {
        let mut out = self.prefix(self.segment(time), key);
        self.push_tail(&mut out, time, second);
        Bytes::from(out)
    }

    /// What every entry of `key` in `segment` begins with.
    fn prefix(&self, segment: i64, key: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(8 + key.len() + 2 + self.tail_len());
        out.extend_from_slice(&segment.to_be_bytes());
        push_escaped(&mut out, key);
        out
    }

    /// Inclusive store-key bounds of `key` within one segment, for times `from..=to`.
    pub fn key_range(
        &self,
        segment: i64,
        key: &[u8],
        from: TimestampMs,
        to: TimestampMs,
    ) -> (Vec<u8>, Vec<u8>) {
        let mut low = self.prefix(segment, key);
        let mut high = low.clone();
        self.push_tail(&mut low, from, 0);
        high.extend_from_slice(&to.max(0).to_be_bytes());
        high.resize(high.len() + self.tail_len() - 8, 0xff);
        (low, high)
    }

    /// When a segment begins.
    pub fn start_of(&self, segment: i64) -> TimestampMs {
        segment.saturating_mul(self.segment_ms)
    }

    /// The first store key of a segment.
    pub fn segment_start(segment: i64) -> [u8; 8] {
        segment.max(0).to_be_bytes()
    }

    /// Reads a store key; `None` if it is not one.
    pub fn parse(&self, store_key: &[u8]) -> Option<Timed> {
        let (key, tail) = read_escaped(store_key.get(8..)?)?;
        let (time, second) = self.read_tail(tail)?;
        Some(Timed { key: Bytes::from(key), time, second })
    }

    /// The index key of a store key; `None` if this store keeps no index.
    pub fn index_key_of(&self, store_key: &[u8]) -> Option<Bytes> {
        if !self.indexed {
            return None;
        }
        let Timed { key, time, second } = self.parse(store_key)?;
        let parts = [&INDEX[..], &time.max(0).to_be_bytes(), &second.max(0).to_be_bytes(), &key[..]];
        Some(Bytes::from(parts.concat()))
    }

    /// The store key that an index key stands for.
    pub fn indexed_key(&self, index_key: &[u8]) -> Option<Bytes> {
        let (time, rest) = index_key.get(8..)?.split_first_chunk::<8>()?;
        let (second, key) = rest.split_first_chunk::<8>()?;
        Some(self.store_key(key, i64::from_be_bytes(*time), i64::from_be_bytes(*second)))
    }

    /// Bounds of the index keys whose time is in `from..=to`, the second one excluded.
    pub fn index_range(from: TimestampMs, to: TimestampMs) -> (Vec<u8>, Vec<u8>) {
        let at = |time: TimestampMs| [&INDEX[..], &time.max(0).to_be_bytes()].concat();
        (at(from), at(to.saturating_add(1)))
    }

    fn mark(&self) -> [u8; 9] {
        let mut mark = [u8::from(self.indexed); 9];
        mark[..8].copy_from_slice(&self.segment_ms.to_be_bytes());
        mark
    }

    /// The entry by which a backend says that it is laid out so; `None` for stores of other kinds.
    pub fn note(&self) -> Option<(Bytes, Option<Bytes>)> {
        let note = || (Bytes::from_static(&LAYOUT), Some(Bytes::copy_from_slice(&self.mark())));
        self.is_timed().then(note)
    }

    /// Whether the entries of a backend are laid out so. How long a segment is follows from the retention, and whether there is an
    /// index from when windows are told: another version of the program may have had it otherwise. In a store that was written before
    /// stores said it, the first entry of each segment is looked at, but not of all where there are very many: a retention that is
    /// a little longer than before moves few entries to another segment.
    pub fn fits(&self, backend: &dyn StoreBackend) -> Result<bool, StoreError> {
        if !self.is_timed() {
            return Ok(true);
        }
        if let Some(noted) = backend.get(&LAYOUT)? {
            let mark = self.mark();
            // One without an index leaves alone what it finds of it, and says that it does not keep it.
            return Ok(noted.starts_with(&mark[..8]) && (!self.indexed || noted[..] == mark));
        }
        let mut from = Self::segment_start(0);
        for _ in 0..SEGMENTS_TO_FIT {
            let first = backend.first(Bound::Included(&from), Bound::Excluded(&INDEX))?;
            let Some((key, _)) = first else { break };
            let segment = key.first_chunk::<8>().map(|segment| i64::from_be_bytes(*segment));
            let (Some(segment), Some(entry)) = (segment, self.parse(&key)) else { return Ok(false) };
            if segment != self.segment(entry.time) {
                return Ok(false);
            }
            if let Some(index) = self.index_key_of(&key)
                && backend.get(&index)?.is_none()
            {
                return Ok(false);
            }
            let Some(next) = segment.checked_add(1) else { break };
            from = Self::segment_start(next);
        }
        Ok(true)
    }

    /// The changelog key of a store key.
    pub fn changelog_key_of(self, store_key: Bytes) -> Option<Bytes> {
        if self.tail_len() == 0 {
            return Some(store_key);
        }
        let (mut out, tail) = read_escaped(store_key.get(8..)?)?;
        out.extend_from_slice(tail);
        Some(Bytes::from(out))
    }

    /// The store key of a changelog key; `None` if it is too short to be one.
    pub fn store_key_of(self, changelog_key: &Bytes) -> Option<Bytes> {
        if self.tail_len() == 0 {
            return Some(changelog_key.clone());
        }
        let at = changelog_key.len().checked_sub(self.tail_len())?;
        let (key, tail) = changelog_key.split_at(at);
        let (time, second) = self.read_tail(tail)?;
        Some(self.store_key(key, time, second))
    }
}

/// Appends a key such that the order of keys is kept and none is a prefix of another.
pub(crate) fn push_escaped(out: &mut Vec<u8>, key: &[u8]) {
    let mut rest = key;
    while let Some(zero) = rest.iter().position(|byte| *byte == 0) {
        out.extend_from_slice(&rest[..=zero]);
        out.push(0xff);
        rest = &rest[zero + 1..];
    }
    out.extend_from_slice(rest);
    out.extend_from_slice(&[0, 0]);
}

/// Reads what [`push_escaped`] wrote: the key, and what follows it.
pub(crate) fn read_escaped(mut rest: &[u8]) -> Option<(Vec<u8>, &[u8])> {
    // As much as the caller may put behind it.
    let mut key = Vec::with_capacity(rest.len().saturating_sub(2));
    loop {
        let zero = rest.iter().position(|byte| *byte == 0)?;
        let (piece, after) = rest.split_at(zero + 1);
        let (&mark, after) = after.split_first()?;
        rest = after;
        match mark {
            0 => {
                key.extend_from_slice(&piece[..zero]);
                return Some((key, rest));
            }
            0xff => key.extend_from_slice(piece),
            _ => return None,
        }
    }
}

/// `timestamp | value`, as a backend keeps it.
pub(crate) fn stored_value(timestamp: TimestampMs, value: &[u8]) -> Bytes {
    let mut out = Vec::with_capacity(8 + value.len());
    out.extend_from_slice(&timestamp.to_be_bytes());
    out.extend_from_slice(value);
    Bytes::from(out)
}

/// Splits a backend's value into timestamp and value.
pub(crate) fn split_value(stored: &[u8]) -> Option<(TimestampMs, &[u8])> {
    let (timestamp, value) = stored.split_first_chunk::<8>()?;
    Some((i64::from_be_bytes(*timestamp), value))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::MemoryStore;

    #[test]
    fn a_store_of_another_retention_or_without_its_index_does_not_fit() {
        let (short, long) =
            (Layout::timed(StoreKind::Window, 600_000), Layout::timed(StoreKind::Window, 1_200_000));
        let indexed = Layout { indexed: true, ..short };
        let mut store = MemoryStore::new();
        for layout in [short, long, indexed, Layout::key_value()] {
            assert!(layout.fits(&store).unwrap(), "empty");
        }
        let mut put = |layout: Layout, time| {
            let key = layout.store_key(b"k", time, 0);
            let index = layout.index_key_of(&key).map(|index| (index, Some(Bytes::new())));
            store.apply(index.into_iter().chain([(key, Some(Bytes::new()))]).collect()).unwrap();
            [short, long, indexed].map(|layout| layout.fits(&store).unwrap())
        };
        // The first segments of both are one.
        assert_eq!(put(short, 0), [true, true, false]);
        assert_eq!(put(short, 700_000), [true, false, false]);
        assert_eq!(put(indexed, 0), [true, false, false]);
        assert_eq!(put(indexed, 700_000), [true, false, true]);
    }

    #[test]
    fn a_store_says_how_it_is_laid_out_where_its_first_entries_do_not() {
        const DAY: i64 = 24 * 3600 * 1000;
        let [before, after] = [DAY, DAY + 2_000].map(|kept| Layout::timed(StoreKind::Window, kept));
        let indexed = Layout { indexed: true, ..before };
        let mut store = MemoryStore::new();
        let key = before.store_key(b"k", 1_370_000_000_000, 0);
        assert_eq!(key, after.store_key(b"k", 1_370_000_000_000, 0), "others lie in other segments");
        store.apply(vec![(key, Some(Bytes::new()))]).unwrap();
        let fit = |store: &MemoryStore| [before, after, indexed].map(|layout| layout.fits(store).unwrap());
        assert_eq!(fit(&store), [true, true, false], "of an earlier version");
        store.apply(before.note().into_iter().collect()).unwrap();
        assert_eq!(fit(&store), [true, false, false]);
        store.apply(indexed.note().into_iter().collect()).unwrap();
        assert_eq!(fit(&store), [true, false, true]);
        store.apply(before.note().into_iter().collect()).unwrap();
        assert_eq!(fit(&store), [true, false, false], "the index lacks what was written since");
        let (_, last) = Layout::index_range(0, i64::MAX);
        assert!(last[..] < LAYOUT[..] && LAYOUT < META);
        assert_eq!(Layout::key_value().note(), None);
    }

    #[test]
    fn keys_keep_their_order_and_no_key_is_a_prefix_of_another() {
        let layout = Layout::timed(StoreKind::Window, 0);
        let keys: [&[u8]; 7] = [b"", b"\0", b"\0\0", b"\0\x01", b"a", b"a\0", b"ab"];
        let mut previous = Bytes::new();
        for key in keys {
            for time in [0, 5, 59_999] {
                let store_key = layout.store_key(key, time, 0);
                assert!(store_key > previous, "{key:?} {time}");
                previous = store_key;
                let (low, high) = layout.key_range(0, key, 0, 59_999);
                for other in keys {
                    let inside =
                        (low.as_slice()..=high.as_slice()).contains(&&layout.store_key(other, time, 0)[..]);
                    assert_eq!(inside, key == other, "{key:?} {other:?}");
                }
            }
        }
    }

    #[test]
    fn changelog_keys_are_those_of_kafka_streams_and_read_back() {
        let window = Layout::timed(StoreKind::Window, 120_000);
        let store_key = window.store_key(b"k\0", 61_000, 7);
        let changelog = window.changelog_key_of(store_key.clone()).unwrap();
        assert_eq!(&changelog[..], [&b"k\0"[..], &61_000_i64.to_be_bytes(), &7_u32.to_be_bytes()].concat());
        assert_eq!(window.store_key_of(&changelog).unwrap(), store_key);

        let session = Layout::timed(StoreKind::Session, 120_000);
        let store_key = session.store_key(b"k", 90, 40);
        let changelog = session.changelog_key_of(store_key.clone()).unwrap();
        assert_eq!(&changelog[..], [&b"k"[..], &90_i64.to_be_bytes(), &40_i64.to_be_bytes()].concat());
        assert_eq!(session.store_key_of(&changelog).unwrap(), store_key);
        assert_eq!(session.store_key_of(&Bytes::from_static(b"short")), None);
    }
}
