//! What a join of two streams keeps: the records of each side, and those of either that wait for a match.

use std::ops::Bound;

use headwater_model::{Bytes, TimestampMs};

use crate::error::TaskError;
use crate::node::Payload;
use crate::serdes::{Serde, SerdeError, SerdeRef};
use crate::store::typed::TypedStore;

/// A value of either side, waiting for a match; `L` is always the left stream's.
#[derive(Debug, Clone)]
pub(super) enum Either<L, R> {
    Left(L),
    Right(R),
}

/// A value with the stream time it carried.
#[derive(Debug, Clone)]
pub(super) struct Seen<V> {
    pub stream_time: TimestampMs,
    pub value: V,
}

/// `stream time i64 | value`.
pub(super) struct SeenSerde<V>(pub SerdeRef<V>);

impl<V> Serde<Seen<V>> for SeenSerde<V> {
    fn serialize(&self, topic: &str, seen: &Seen<V>) -> Result<Bytes, SerdeError> {
        let value = self.0.serialize(topic, &seen.value)?;
        Ok(Bytes::from([&seen.stream_time.to_be_bytes()[..], &value[..]].concat()))
    }

    fn deserialize(&self, topic: &str, bytes: &Bytes) -> Result<Seen<V>, SerdeError> {
        let (time, _) =
            bytes.split_first_chunk::<8>().ok_or_else(|| SerdeError::new("shorter than its stream time"))?;
        let value = self.0.deserialize(topic, &bytes.slice(8..))?;
        Ok(Seen { stream_time: i64::from_be_bytes(*time), value })
    }
}

pub(super) struct EitherSerde<L, R>(pub SerdeRef<L>, pub SerdeRef<R>);

impl<L, R> Serde<Either<L, R>> for EitherSerde<L, R> {
    fn serialize(&self, topic: &str, value: &Either<L, R>) -> Result<Bytes, SerdeError> {
        let (side, bytes) = match value {
            Either::Left(value) => (0, self.0.serialize(topic, value)?),
            Either::Right(value) => (1, self.1.serialize(topic, value)?),
        };
        Ok(Bytes::from([&[side], &bytes[..]].concat()))
    }

    fn deserialize(&self, topic: &str, bytes: &Bytes) -> Result<Either<L, R>, SerdeError> {
        match bytes.first() {
            Some(0) => self.0.deserialize(topic, &bytes.slice(1..)).map(Either::Left),
            Some(1) => self.1.deserialize(topic, &bytes.slice(1..)).map(Either::Right),
            _ => Err(SerdeError::new("a value of neither side")),
        }
    }
}

/// `timestamp i64 | side u8 | key | sequence u32 | key length u32`: what waits comes out in the order of Kafka Streams, by
/// time, the right side (2) before the left one (3), and by key.
pub(super) fn waiting_prefix(timestamp: TimestampMs, side: u8, key: &[u8]) -> Vec<u8> {
    [&timestamp.max(0).to_be_bytes()[..], &[3 - side], key].concat()
}

/// The key within a waiting entry's key.
pub(super) fn waiting_key(entry: &Bytes) -> Option<Bytes> {
    let length = u32::from_be_bytes(*entry.last_chunk::<4>()?) as usize;
    (17 + length == entry.len()).then(|| entry.slice(9..9 + length))
}

/// The first number that is free, where those that are taken follow each other from 0: found by doubling and halving, as so many records
/// of one key may have one time.
pub(super) fn first_free(mut is_taken: impl FnMut(i64) -> Result<bool, TaskError>) -> Result<i64, TaskError> {
    if !is_taken(0)? {
        return Ok(0);
    }
    let (mut taken, mut free) = (0, 1);
    while is_taken(free)? {
        (taken, free) = (free, 2 * free);
    }
    while free - taken > 1 {
        let middle = taken + (free - taken) / 2;
        if is_taken(middle)? {
            taken = middle;
        } else {
            free = middle;
        }
    }
    Ok(free)
}

/// The entries of one time, side and key.
pub(super) fn waiting_entries<V: Payload>(
    store: &mut TypedStore<V>,
    prefix: &[u8],
) -> Result<Vec<Bytes>, TaskError> {
    let end = [prefix, &[0xff; 8]].concat();
    let found = store.range(Bound::Included(prefix), Bound::Included(&end))?;
    let keys = found.into_iter().map(|(entry, ..)| entry);
    Ok(keys.filter(|entry| waiting_key(entry).is_some_and(|key| key[..] == prefix[9..])).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_number_is_found_without_a_look_at_all_of_them() {
        for count in (0..70).chain([999, 1_000, 100_000]) {
            let mut looks = 0;
            let found = first_free(|number| {
                looks += 1;
                Ok(number < count)
            });
            assert_eq!(found.unwrap(), count);
            assert!(looks <= 36, "{looks} for {count}");
        }
    }

    #[test]
    fn what_waits_is_ordered_by_time_right_side_first_and_key() {
        let entry = |time, side, key: &str| {
            let prefix = waiting_prefix(time, side, key.as_bytes());
            Bytes::from([&prefix[..], &[0; 4], &(key.len() as u32).to_be_bytes()].concat())
        };
        let ordered =
            [entry(5, 1, "b"), entry(5, 0, "a"), entry(5, 0, "aa"), entry(5, 0, "b"), entry(6, 1, "a")];
        assert!(ordered.is_sorted());
        assert_eq!(waiting_key(&ordered[2]).as_deref(), Some(&b"aa"[..]));
        assert_eq!(waiting_key(&Bytes::from_static(b"short")), None);
    }
}
