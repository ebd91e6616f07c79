//! How the versions of each key are laid out in a store.
//!
//! ```text
//! store:      escaped key | 00 00 | not(valid from) u64        → valid from i64 | 00           a deletion
//!                                                              → valid from i64 | 01 | value
//!             FF × 8 | valid from u64 | key                    → nothing: the key changed then
//!             FF × 16                                          → where the history begins i64
//! changelog:  key → value, at the time from which it holds     (as Kafka Streams writes it)
//! ```
//!
//! A key that begins with `FF × 8` has another `FF` after those, as no index key has: its time is not negative.
//!
//! The time is inverted, so the latest version of a key comes first.

use headwater_model::{Bytes, TimestampMs};

use super::keys::{self, INDEX, META};
use super::{StoreBackend, StoreError};

fn prefix(key: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(key.len() + 19);
    if key.starts_with(&INDEX) {
        out.push(INDEX[0]);
    }
    keys::push_escaped(&mut out, key);
    out
}

/// The first key behind the index that a version may have; before it comes but what the store keeps for itself.
pub(crate) const BEHIND_INDEX: [u8; 9] = [0xff; 9];

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
    let own = match store_key.strip_prefix(&INDEX) {
        Some([0xff, ..]) => &store_key[1..],
        Some(_) => return None,
        None => store_key,
    };
    let (key, rest) = keys::read_escaped(own)?;
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

pub(super) fn stored_version(from: TimestampMs, value: Option<&Bytes>) -> Bytes {
    let mut out = from.to_be_bytes().to_vec();
    out.push(u8::from(value.is_some()));
    out.extend_from_slice(value.map(|value| &value[..]).unwrap_or_default());
    Bytes::from(out)
}

/// Where the history of a store begins, as of its last commit; `None` if that wrote nothing.
pub(crate) fn kept_horizon(backend: &dyn StoreBackend) -> Result<Option<TimestampMs>, StoreError> {
    let kept = backend.get(&META)?;
    Ok(kept.and_then(|kept| Some(i64::from_be_bytes(*kept.first_chunk::<8>()?))))
}

pub(super) fn index_key(key: &[u8], from: TimestampMs) -> Bytes {
    Bytes::from([&INDEX[..], &from.max(0).to_be_bytes(), key].concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_key_is_taken_for_one_of_the_index_and_all_keep_their_order() {
        let full = |count: usize, rest: &[u8]| [&vec![0xff; count][..], rest].concat();
        let keys = [
            b"k".to_vec(),
            full(7, b""),
            full(7, b"\x7f"),
            full(8, b""),
            full(8, b"\0"),
            full(8, &[0; 16]),
            full(9, b"k"),
            full(16, b""),
            full(17, b""),
        ];
        let mut previous = Bytes::new();
        for key in &keys {
            for time in [i64::MAX, 0] {
                let store_key = version_key(key, time);
                assert!(store_key > previous, "{key:?} {time}");
                assert_eq!(split_version_key(&store_key), Some((Bytes::from(key.clone()), time)));
                let own =
                    store_key[..] < INDEX[..] || (store_key[..] > BEHIND_INDEX[..] && store_key[..] != META);
                assert!(own, "{key:?} {time}");
                previous = store_key;
            }
            let index = index_key(key, 5);
            assert_eq!(split_version_key(&index), None);
            assert!(index[..] > INDEX[..] && index[..] < BEHIND_INDEX[..]);
        }
        assert_eq!(split_version_key(&META), None);
    }
}
