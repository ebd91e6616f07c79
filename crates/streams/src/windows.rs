//! Windows over event time, and the serdes of windowed keys.
//!
//! Time windows are aligned to the epoch and exclude their end; sliding windows and sessions include it, as in Kafka Streams.

use std::sync::Arc;
use std::time::Duration;

use headwater_model::{Bytes, TimestampMs};
use serde::{Deserialize, Serialize};

use crate::serdes::{Serde, SerdeError, SerdeRef};

/// A key within a window; milliseconds since 1970.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Windowed<K> {
    pub key: K,
    pub start: TimestampMs,
    /// Exclusive for time windows, inclusive for sliding ones, the last record's time for sessions.
    pub end: TimestampMs,
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX / 4).min(i64::MAX / 4)
}

/// Tumbling windows, or hopping ones (which some books call sliding) when they advance by less than their size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimeWindows {
    pub(crate) size: i64,
    pub(crate) advance: i64,
    pub(crate) grace: i64,
}

impl TimeWindows {
    /// Tumbling windows without grace.
    pub fn of(size: Duration) -> Self {
        Self { size: millis(size), advance: millis(size), grace: 0 }
    }

    /// Hopping windows: one starts every `advance`.
    pub fn advance(self, advance: Duration) -> Self {
        Self { advance: millis(advance), ..self }
    }

    /// A window takes records until stream time reaches its end plus `grace`.
    pub fn grace(self, grace: Duration) -> Self {
        Self { grace: millis(grace), ..self }
    }

    pub(crate) fn problem(&self) -> Option<String> {
        if self.size < 1 {
            Some("the window size must be at least a millisecond".to_owned())
        } else if self.advance < 1 || self.advance > self.size {
            Some(format!("windows of {} ms must advance by 1 to {0} ms, not {}", self.size, self.advance))
        } else {
            None
        }
    }

    /// The starts of all windows that contain `timestamp`, ascending.
    pub(crate) fn starts(&self, timestamp: TimestampMs) -> impl Iterator<Item = TimestampMs> + use<> {
        let advance = self.advance;
        let first = timestamp.saturating_sub(self.size).saturating_add(advance).max(0) / advance * advance;
        std::iter::successors(Some(first), move |start| start.checked_add(advance))
            .take_while(move |start| *start <= timestamp)
    }
}

/// Windows of fixed size that are not aligned to anything: each ends at a record or begins right after one. Two records of
/// a key share a window if they are at most the time difference apart. Kafka Streams' sliding windows (KIP-450); a window that
/// advances by a fixed step, which some books call sliding, is a hopping one: [`TimeWindows::advance`].
///
/// Both bounds belong to the window. None begins before 1970: what is earlier than the time difference shares the window
/// that begins at 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SlidingWindows {
    pub(crate) difference: i64,
    pub(crate) grace: i64,
}

impl SlidingWindows {
    /// Windows of this size that take no late records.
    pub fn of_time_difference_with_no_grace(difference: Duration) -> Self {
        Self { difference: millis(difference), grace: 0 }
    }

    /// A window takes records until stream time is past its end and `grace`.
    pub fn of_time_difference_and_grace(difference: Duration, grace: Duration) -> Self {
        Self { difference: millis(difference), grace: millis(grace) }
    }

    pub(crate) fn problem(&self) -> Option<String> {
        (self.difference < 1).then(|| "the time difference must be at least a millisecond".to_owned())
    }
}

/// Windows that last as long as records of a key keep coming.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SessionWindows {
    pub(crate) gap: i64,
    pub(crate) grace: i64,
}

impl SessionWindows {
    /// A session ends when no record came for longer than `gap`.
    pub fn with_gap(gap: Duration) -> Self {
        Self { gap: millis(gap), grace: 0 }
    }

    /// A session takes records until stream time is past its end, the gap and `grace`.
    pub fn grace(self, grace: Duration) -> Self {
        Self { grace: millis(grace), ..self }
    }
}

/// How far apart two records may be to join.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct JoinWindows {
    pub(crate) before: i64,
    pub(crate) after: i64,
    pub(crate) grace: i64,
}

impl JoinWindows {
    /// At most `difference` in either direction, without grace.
    pub fn of(difference: Duration) -> Self {
        Self { before: millis(difference), after: millis(difference), grace: 0 }
    }

    /// The other record may be earlier by this much.
    pub fn before(self, difference: Duration) -> Self {
        Self { before: millis(difference), ..self }
    }

    /// The other record may be later by this much.
    pub fn after(self, difference: Duration) -> Self {
        Self { after: millis(difference), ..self }
    }

    /// How much longer to wait for late records.
    pub fn grace(self, grace: Duration) -> Self {
        Self { grace: millis(grace), ..self }
    }

    pub(crate) fn reversed(self) -> Self {
        Self { before: self.after, after: self.before, ..self }
    }
}

pub(crate) fn duration_ms(duration: Duration) -> i64 {
    millis(duration)
}

/// `key | start i64`, as Kafka's `TimeWindowedSerializer` writes it.
pub struct TimeWindowedSerde<K> {
    inner: SerdeRef<K>,
    size_ms: i64,
}

impl<K> Serde<Windowed<K>> for TimeWindowedSerde<K> {
    fn serialize(&self, topic: &str, value: &Windowed<K>) -> Result<Bytes, SerdeError> {
        let key = self.inner.serialize(topic, &value.key)?;
        Ok(Bytes::from([&key[..], &value.start.to_be_bytes()].concat()))
    }

    fn deserialize(&self, topic: &str, bytes: &Bytes) -> Result<Windowed<K>, SerdeError> {
        let (key, start) = split_time(bytes)?;
        let key = self.inner.deserialize(topic, &key)?;
        Ok(Windowed { key, start, end: start.saturating_add(self.size_ms) })
    }

    fn is_null(&self, value: &Windowed<K>) -> bool {
        self.inner.is_null(&value.key)
    }

    fn partition_key(&self, topic: &str, windowed: &Windowed<K>) -> Result<Option<Bytes>, SerdeError> {
        self.inner.serialize(topic, &windowed.key).map(Some)
    }
}

/// `key | end i64 | start i64`, as Kafka's `SessionWindowedSerializer` writes it.
pub struct SessionWindowedSerde<K> {
    inner: SerdeRef<K>,
}

impl<K> Serde<Windowed<K>> for SessionWindowedSerde<K> {
    fn serialize(&self, topic: &str, value: &Windowed<K>) -> Result<Bytes, SerdeError> {
        let key = self.inner.serialize(topic, &value.key)?;
        Ok(Bytes::from([&key[..], &value.end.to_be_bytes(), &value.start.to_be_bytes()].concat()))
    }

    fn deserialize(&self, topic: &str, bytes: &Bytes) -> Result<Windowed<K>, SerdeError> {
        let (rest, start) = split_time(bytes)?;
        let (key, end) = split_time(&rest)?;
        Ok(Windowed { key: self.inner.deserialize(topic, &key)?, start, end })
    }

    fn is_null(&self, value: &Windowed<K>) -> bool {
        self.inner.is_null(&value.key)
    }

    fn partition_key(&self, topic: &str, windowed: &Windowed<K>) -> Result<Option<Bytes>, SerdeError> {
        self.inner.serialize(topic, &windowed.key).map(Some)
    }
}

fn split_time(bytes: &Bytes) -> Result<(Bytes, TimestampMs), SerdeError> {
    let (rest, time) = bytes
        .split_last_chunk::<8>()
        .ok_or_else(|| SerdeError::new("a windowed key has at least 8 bytes"))?;
    Ok((bytes.slice(..rest.len()), i64::from_be_bytes(*time)))
}

/// Keys of time windows of this size.
pub fn time_windowed<K: 'static>(inner: SerdeRef<K>, size: Duration) -> SerdeRef<Windowed<K>> {
    Arc::new(TimeWindowedSerde { inner, size_ms: millis(size) })
}

/// Keys of sessions.
pub fn session_windowed<K: 'static>(inner: SerdeRef<K>) -> SerdeRef<Windowed<K>> {
    Arc::new(SessionWindowedSerde { inner })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hopping_windows_cover_a_time_and_none_starts_before_the_epoch() {
        let ms = Duration::from_millis;
        let windows = TimeWindows::of(ms(10)).advance(ms(5));
        assert_eq!(windows.starts(0).collect::<Vec<_>>(), [0]);
        assert_eq!(windows.starts(12).collect::<Vec<_>>(), [5, 10]);
        assert_eq!(TimeWindows::of(ms(10)).starts(19).collect::<Vec<_>>(), [10]);
        assert_eq!(TimeWindows::of(ms(10)).advance(ms(3)).starts(11).collect::<Vec<_>>(), [3, 6, 9]);
        assert!(TimeWindows::of(ms(10)).advance(ms(11)).problem().is_some());
        let last = i64::MAX / 5 * 5;
        assert_eq!(windows.starts(i64::MAX).collect::<Vec<_>>(), [last - 5, last], "the end of time");
    }

    #[test]
    fn windowed_keys_read_back() {
        let key = Windowed { key: "k".to_owned(), start: 5, end: 15 };
        for serde in [
            time_windowed(crate::serdes::string(), Duration::from_millis(10)),
            session_windowed(crate::serdes::string()),
        ] {
            let bytes = serde.serialize("t", &key).unwrap();
            assert_eq!(serde.deserialize("t", &bytes).unwrap(), key);
            assert!(serde.deserialize("t", &Bytes::from_static(b"short")).is_err());
        }
    }
}
