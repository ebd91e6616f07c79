//! Stream time that travels with records, so that no result depends on how fast tasks are.
//!
//! A *lane* is one partition of a topic that the application does not own. A record's stream time is that of its lane: the
//! highest timestamp read from that partition up to this record. Repartition topics carry it in the header
//! `__headwater.time` (`lane's topic u32 | lane's partition i32 | time i64`, big endian; the topic is its murmur2 hash), which
//! is taken off before a record is processed. Whether a record is late is decided by the time it carries. What may be
//! forgotten or is final goes by the *watermark* of an operator: the lowest time of all lanes that feed it, -1 while one of
//! them has not been heard of.

use std::collections::BTreeMap;
use std::fmt::Write;

use headwater_model::{Bytes, Header, TimestampMs, partition};

pub(crate) const TIME_HEADER: &str = "__headwater.time";
/// Of a record that only says the time: `task/watermarks.rs`.
pub(crate) const WATERMARK_HEADER: &str = "__headwater.watermark";

/// Committed metadata has at most 4,096 bytes; what is left is for the other clocks.
const TEXT_LIMIT: usize = 3_000;

/// How a topic is named within a lane.
pub(crate) fn topic_id(topic: &str) -> u32 {
    partition::murmur2(topic.as_bytes()).cast_unsigned()
}

/// Where a record's time was told, and what it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Stamp {
    pub topic: u32,
    pub partition: i32,
    pub time: TimestampMs,
}

impl Stamp {
    pub fn header(&self) -> Header {
        self.named(TIME_HEADER)
    }

    pub fn watermark(&self) -> Header {
        self.named(WATERMARK_HEADER)
    }

    fn named(&self, name: &str) -> Header {
        let mut value = Vec::with_capacity(16);
        value.extend_from_slice(&self.topic.to_be_bytes());
        value.extend_from_slice(&self.partition.to_be_bytes());
        value.extend_from_slice(&self.time.to_be_bytes());
        Header { key: name.to_owned(), value: Some(Bytes::from(value)) }
    }

    /// Takes the stamp off a record; `None` if there is none that can be read.
    pub fn take(headers: &mut Vec<Header>) -> Option<Self> {
        Self::take_named(headers, TIME_HEADER)
    }

    pub fn take_watermark(headers: &mut Vec<Header>) -> Option<Self> {
        Self::take_named(headers, WATERMARK_HEADER)
    }

    fn take_named(headers: &mut Vec<Header>, name: &str) -> Option<Self> {
        let at = headers.iter().rposition(|header| header.key == name)?;
        let value = headers.remove(at).value?;
        let (topic, rest) = value.split_first_chunk::<4>()?;
        let (partition, rest) = rest.split_first_chunk::<4>()?;
        let time = <[u8; 8]>::try_from(rest).ok()?;
        Some(Self {
            topic: u32::from_be_bytes(*topic),
            partition: i32::from_be_bytes(*partition),
            time: i64::from_be_bytes(time),
        })
    }
}

/// The clocks of all lanes that feed one repartition topic.
#[derive(Debug, Clone)]
pub(crate) struct LaneClocks {
    /// Per origin topic the time of each of its partitions; -1 before its first record.
    topics: BTreeMap<u32, Vec<TimestampMs>>,
    minimum: TimestampMs,
}

impl LaneClocks {
    /// Lanes by topic, with the number of partitions of each.
    pub fn new(counts: &BTreeMap<u32, i32>) -> Self {
        let clocks = |count: &i32| vec![-1; usize::try_from(*count).unwrap_or(0)];
        Self { topics: counts.iter().map(|(topic, count)| (*topic, clocks(count))).collect(), minimum: -1 }
    }

    pub fn len(&self) -> usize {
        self.topics.values().map(Vec::len).sum()
    }

    /// The time that no lane is behind.
    pub fn minimum(&self) -> TimestampMs {
        self.minimum
    }

    /// Each lane that has been heard of.
    pub fn stamps(&self) -> impl Iterator<Item = Stamp> + '_ {
        self.topics.iter().flat_map(|(topic, clocks)| {
            let known = clocks.iter().enumerate().filter(|(_, time)| **time >= 0);
            known.map(|(partition, time)| Stamp { topic: *topic, partition: partition as i32, time: *time })
        })
    }

    /// The time of a record's lane; `None` of one that is not known here.
    pub fn time(&self, stamp: Stamp) -> Option<TimestampMs> {
        self.topics.get(&stamp.topic)?.get(usize::try_from(stamp.partition).ok()?).copied()
    }

    /// Takes note of a record's time. A lane that this topology does not know (its partition was added while the
    /// application ran) holds nothing back.
    pub fn advance(&mut self, stamp: Stamp) {
        let place = usize::try_from(stamp.partition).ok();
        let clock = self.topics.get_mut(&stamp.topic).and_then(|clocks| clocks.get_mut(place?));
        if let Some(clock) = clock
            && stamp.time > *clock
        {
            let held_back = *clock <= self.minimum;
            *clock = stamp.time;
            if held_back {
                self.settle();
            }
        }
    }

    fn settle(&mut self) {
        let lowest = self.topics.values().flatten().min().copied().unwrap_or(-1);
        self.minimum = self.minimum.max(lowest);
    }

    /// `topic in hex:time,time,…` per topic, `/` between; `*:minimum` if that is too long.
    pub fn to_text(&self) -> String {
        let mut text = String::new();
        for (topic, clocks) in &self.topics {
            // Writing to a string cannot fail.
            let _ = write!(text, "{}{topic:x}:", if text.is_empty() { "" } else { "/" });
            for (place, time) in clocks.iter().enumerate() {
                let _ = write!(text, "{}{time}", if place == 0 { "" } else { "," });
            }
        }
        if text.len() > TEXT_LIMIT { format!("*:{}", self.minimum) } else { text }
    }

    /// Takes back what [`LaneClocks::to_text`] wrote; what does not fit is ignored.
    pub fn restore(&mut self, text: &str) {
        for part in text.split('/') {
            let Some((topic, times)) = part.split_once(':') else { continue };
            let mut times = times.split(',').map_while(|time| time.parse::<TimestampMs>().ok());
            if topic == "*" {
                let minimum = times.next().unwrap_or(-1);
                self.topics.values_mut().flatten().for_each(|clock| *clock = minimum.max(*clock));
                continue;
            }
            let clocks = u32::from_str_radix(topic, 16).ok().and_then(|topic| self.topics.get_mut(&topic));
            for (clock, time) in clocks.into_iter().flatten().zip(times) {
                *clock = time.max(*clock);
            }
        }
        self.settle();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stamp(topic: u32, partition: i32, time: TimestampMs) -> Stamp {
        Stamp { topic, partition, time }
    }

    #[test]
    fn a_stamp_is_taken_off_and_what_is_no_stamp_is_refused() {
        let mut headers = vec![Header { key: "a".to_owned(), value: None }, stamp(7, 3, 99).header()];
        assert_eq!(Stamp::take(&mut headers), Some(stamp(7, 3, 99)));
        assert_eq!((headers.len(), Stamp::take(&mut headers)), (1, None));
        let mut short =
            vec![Header { key: TIME_HEADER.to_owned(), value: Some(Bytes::from_static(b"short")) }];
        assert_eq!(Stamp::take(&mut short), None);
    }

    #[test]
    fn the_minimum_waits_for_every_lane_and_survives_as_text() {
        let mut clocks = LaneClocks::new(&BTreeMap::from([(1, 2), (2, 1)]));
        for (topic, partition, time) in [(1, 0, 50), (1, 1, 20), (9, 0, 1), (1, 7, 1)] {
            clocks.advance(stamp(topic, partition, time));
            assert_eq!(clocks.minimum(), -1);
        }
        clocks.advance(stamp(2, 0, 30));
        assert_eq!(clocks.minimum(), 20);
        let mut restored = LaneClocks::new(&BTreeMap::from([(1, 3), (2, 1)]));
        restored.restore(&clocks.to_text());
        assert_eq!(restored.minimum(), -1, "a partition was added");
        restored.advance(stamp(1, 2, 40));
        restored.advance(stamp(1, 1, 35));
        assert_eq!(restored.minimum(), 30);
    }

    #[test]
    fn many_lanes_are_kept_short_by_keeping_their_minimum() {
        let mut clocks = LaneClocks::new(&BTreeMap::from([(1, 64), (2, 64)]));
        for partition in 0..64 {
            clocks.advance(stamp(1, partition, 1_384_000_000_000));
            clocks.advance(stamp(2, partition, 1_384_000_000_001));
        }
        assert!(clocks.to_text().len() < 2_100);
        let mut many = LaneClocks::new(&BTreeMap::from([(1, 400)]));
        (0..400).for_each(|partition| {
            many.advance(stamp(1, partition, 1_384_000_000_000 + i64::from(partition)))
        });
        let mut restored = LaneClocks::new(&BTreeMap::from([(1, 400)]));
        restored.restore(&many.to_text());
        assert_eq!((restored.minimum(), many.to_text().len()), (1_384_000_000_000, 15));
        restored.restore("nonsense/1:x/zz:1/*:");
    }
}
