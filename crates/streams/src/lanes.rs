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

/// A lane: its topic, and its partition there.
pub(crate) type Lane = (u32, i32);

/// Where a record's time was told, and what it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Stamp {
    pub topic: u32,
    pub partition: i32,
    pub time: TimestampMs,
}

impl Stamp {
    pub fn header(&self) -> Header {
        self.named(TIME_HEADER, &[])
    }

    /// What a record has that only says the time; one more byte, 01, says that the lane is idle.
    pub fn watermark(&self, idle: bool) -> Header {
        self.named(WATERMARK_HEADER, if idle { &[1] } else { &[] })
    }

    fn named(&self, name: &str, more: &[u8]) -> Header {
        let mut value = Vec::with_capacity(16 + more.len());
        value.extend_from_slice(&self.topic.to_be_bytes());
        value.extend_from_slice(&self.partition.to_be_bytes());
        value.extend_from_slice(&self.time.to_be_bytes());
        value.extend_from_slice(more);
        Header { key: name.to_owned(), value: Some(Bytes::from(value)) }
    }

    pub fn lane(&self) -> Lane {
        (self.topic, self.partition)
    }

    /// Takes the stamp off a record; `None` if there is none that can be read.
    pub fn take(headers: &mut Vec<Header>) -> Option<Self> {
        Self::take_named(headers, TIME_HEADER).filter(|(_, more)| more.is_empty()).map(|(stamp, _)| stamp)
    }

    /// The same of a record that only says the time, and whether the lane is idle.
    pub fn take_watermark(headers: &mut Vec<Header>) -> Option<(Self, bool)> {
        let (stamp, more) = Self::take_named(headers, WATERMARK_HEADER)?;
        match &more[..] {
            [] => Some((stamp, false)),
            [1] => Some((stamp, true)),
            _ => None,
        }
    }

    /// The stamp, and what is behind it.
    fn take_named(headers: &mut Vec<Header>, name: &str) -> Option<(Self, Bytes)> {
        let at = headers.iter().rposition(|header| header.key == name)?;
        let value = headers.remove(at).value?;
        let (topic, rest) = value.split_first_chunk::<4>()?;
        let (partition, rest) = rest.split_first_chunk::<4>()?;
        let (time, _) = rest.split_first_chunk::<8>()?;
        let stamp = Self {
            topic: u32::from_be_bytes(*topic),
            partition: i32::from_be_bytes(*partition),
            time: i64::from_be_bytes(*time),
        };
        Some((stamp, value.slice(16..)))
    }
}

/// The clocks of all lanes that feed one repartition topic.
#[derive(Debug, Clone)]
pub(crate) struct LaneClocks {
    /// Per origin topic the time of each of its partitions; -1 before its first record.
    topics: BTreeMap<u32, Vec<TimestampMs>>,
    minimum: TimestampMs,
    /// Lanes that are not waited for until they are heard of again, with their times when they were said to be so: their clocks go
    /// with the others'.
    idle: BTreeMap<Lane, TimestampMs>,
}

impl LaneClocks {
    /// Lanes by topic, with the number of partitions of each.
    pub fn new(counts: &BTreeMap<u32, i32>) -> Self {
        let clocks = |count: &i32| vec![-1; usize::try_from(*count).unwrap_or(0)];
        let topics = counts.iter().map(|(topic, count)| (*topic, clocks(count))).collect();
        Self { topics, minimum: -1, idle: BTreeMap::new() }
    }

    pub fn len(&self) -> usize {
        self.topics.values().map(Vec::len).sum()
    }

    /// The time that no lane is behind.
    pub fn minimum(&self) -> TimestampMs {
        self.minimum
    }

    /// Whether none of its lanes is waited for.
    pub fn is_idle(&self) -> bool {
        !self.idle.is_empty() && self.idle.len() == self.len()
    }

    /// Each lane that has been heard of, and whether it is idle.
    pub fn stamps(&self) -> impl Iterator<Item = (Stamp, bool)> + '_ {
        let all = self.topics.iter().flat_map(|(topic, clocks)| {
            let stamp = move |(partition, time): (usize, &TimestampMs)| Stamp {
                topic: *topic,
                partition: partition as i32,
                time: *time,
            };
            clocks.iter().enumerate().map(stamp)
        });
        let told = all.map(move |stamp| (stamp, self.idle.contains_key(&stamp.lane())));
        told.filter(|(stamp, idle)| stamp.time >= 0 || *idle)
    }

    /// The time of a record's lane; `None` of one that is not known here.
    pub fn time(&self, stamp: Stamp) -> Option<TimestampMs> {
        self.topics.get(&stamp.topic)?.get(usize::try_from(stamp.partition).ok()?).copied()
    }

    /// Takes note of a record's time. A lane that this topology does not know (its partition was added while the
    /// application ran) holds nothing back.
    pub fn advance(&mut self, stamp: Stamp) {
        let mut held_back = self.idle.remove(&stamp.lane()).is_some();
        let place = usize::try_from(stamp.partition).ok();
        let clock = self.topics.get_mut(&stamp.topic).and_then(|clocks| clocks.get_mut(place?));
        if let Some(clock) = clock
            && stamp.time > *clock
        {
            held_back |= *clock <= self.minimum;
            *clock = stamp.time;
        }
        if held_back {
            self.settle();
        }
    }

    /// The same of a record. What was held back above and is let go while its lane is idle does not say that this has ended.
    pub fn follow(&mut self, stamp: Stamp) {
        if self.idle.get(&stamp.lane()).is_none_or(|told| stamp.time > *told) {
            self.advance(stamp);
        }
    }

    /// The lane has nothing to say.
    pub fn rest(&mut self, stamp: Stamp) {
        if self.time(stamp).is_some() && self.idle.insert(stamp.lane(), stamp.time).is_none() {
            self.settle();
        }
    }

    /// No lane is behind this time.
    pub fn lift(&mut self, time: TimestampMs) {
        self.topics.values_mut().flatten().for_each(|clock| *clock = time.max(*clock));
        self.settle();
    }

    fn settle(&mut self) {
        if self.idle.is_empty() {
            let lowest = self.topics.values().flatten().min().copied().unwrap_or(-1);
            self.minimum = self.minimum.max(lowest);
            return;
        }
        let waited_for = self.stamps().filter(|(_, idle)| !idle).count();
        // A lane that was never heard of is waited for, too.
        let unheard = self.len() > waited_for + self.idle.len();
        let lowest = self.stamps().filter(|(_, idle)| !idle).map(|(stamp, _)| stamp.time).min();
        let Some(lowest) = lowest.filter(|_| !unheard) else { return };
        self.minimum = self.minimum.max(lowest);
        for (topic, partition) in self.idle.keys() {
            let place = usize::try_from(*partition).ok();
            let clock = self.topics.get_mut(topic).and_then(|clocks| clocks.get_mut(place?));
            if let Some(clock) = clock {
                *clock = self.minimum.max(*clock);
            }
        }
    }

    /// `topic in hex:time,time,…` per topic, `/` between; `*:minimum` if that is too long. What is idle of a topic comes behind that, as far
    /// as there is room: `!topic in hex:partition,partition,…`.
    pub fn to_text(&self) -> String {
        let mut text = String::new();
        for (topic, clocks) in &self.topics {
            // Writing to a string cannot fail.
            let _ = write!(text, "{}{topic:x}:", if text.is_empty() { "" } else { "/" });
            for (place, time) in clocks.iter().enumerate() {
                let _ = write!(text, "{}{time}", if place == 0 { "" } else { "," });
            }
        }
        let mut idle = String::new();
        for topic in self.topics.keys() {
            let of = self.idle.range((*topic, i32::MIN)..=(*topic, i32::MAX));
            let partitions: Vec<String> = of.map(|((_, partition), _)| partition.to_string()).collect();
            if !partitions.is_empty() {
                let _ = write!(idle, "/!{topic:x}:{}", partitions.join(","));
            }
        }
        if text.len() + idle.len() > TEXT_LIMIT {
            text = format!("*:{}", self.minimum);
        }
        if text.len() + idle.len() <= TEXT_LIMIT {
            text.push_str(&idle);
        }
        text
    }

    /// Takes back what [`LaneClocks::to_text`] wrote; what does not fit is ignored.
    pub fn restore(&mut self, text: &str) {
        for part in text.split('/') {
            let Some((topic, times)) = part.split_once(':') else { continue };
            if let Some(topic) = topic.strip_prefix('!') {
                let Ok(topic) = u32::from_str_radix(topic, 16) else { continue };
                let partitions = times.split(',').filter_map(|partition| partition.parse().ok());
                let stamps = partitions.map(|partition| Stamp { topic, partition, time: -1 });
                // When it was said is not kept: what comes is news if it is later than all that is known.
                let known: Vec<(Lane, TimestampMs)> =
                    stamps.filter_map(|stamp| Some((stamp.lane(), self.time(stamp)?))).collect();
                self.idle.extend(known);
                continue;
            }
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
    fn an_idle_lane_is_not_waited_for_until_it_is_heard_of_also_from_text() {
        let counts = BTreeMap::from([(1, 2), (2, 1)]);
        let mut clocks = LaneClocks::new(&counts);
        clocks.advance(stamp(1, 0, 50));
        clocks.rest(stamp(1, 1, -1));
        assert_eq!(clocks.minimum(), -1, "one was never heard of");
        clocks.advance(stamp(2, 0, 30));
        assert_eq!((clocks.minimum(), clocks.time(stamp(1, 1, 0))), (30, Some(30)));
        let mut restored = LaneClocks::new(&counts);
        restored.restore(&clocks.to_text());
        restored.advance(stamp(2, 0, 60));
        assert_eq!(restored.minimum(), 50);
        // It is not behind what has been final without it, and holds back what comes.
        restored.advance(stamp(1, 1, 40));
        restored.advance(stamp(1, 0, 90));
        assert_eq!((restored.minimum(), restored.time(stamp(1, 1, 0))), (50, Some(50)));
        for (topic, partition) in [(1, 0), (1, 1), (2, 0)] {
            assert!(!restored.is_idle());
            restored.rest(stamp(topic, partition, -1));
        }
        assert!(restored.is_idle());
        let idle = restored.stamps().filter(|(_, idle)| *idle).count();
        assert_eq!((idle, restored.minimum()), (3, 60), "the last one that was waited for had come so far");
    }

    #[test]
    fn what_was_held_back_does_not_end_that_its_lane_is_idle() {
        let mut clocks = LaneClocks::new(&BTreeMap::from([(1, 2)]));
        let after = |clocks: &mut LaneClocks, time: TimestampMs| {
            clocks.follow(stamp(1, 0, time));
            clocks.minimum()
        };
        clocks.follow(stamp(1, 1, 20));
        assert_eq!(after(&mut clocks, 50), 20);
        clocks.rest(stamp(1, 1, 20));
        assert_eq!(clocks.minimum(), 50);
        clocks.follow(stamp(1, 1, 20));
        assert_eq!(after(&mut clocks, 60), 60, "it is not waited for");
        let mut restored = LaneClocks::new(&BTreeMap::from([(1, 2)]));
        restored.restore(&clocks.to_text());
        restored.follow(stamp(1, 1, 20));
        assert_eq!(after(&mut restored, 70), 70);
        clocks.follow(stamp(1, 1, 30));
        assert_eq!(after(&mut clocks, 70), 60, "it has records again, though late ones");
    }

    #[test]
    fn a_watermark_says_whether_its_lane_is_idle_and_nothing_else() {
        for idle in [false, true] {
            let mut headers = vec![stamp(7, 3, 99).watermark(idle)];
            assert_eq!(Stamp::take_watermark(&mut headers), Some((stamp(7, 3, 99), idle)));
        }
        let longer = |name: &str| vec![stamp(7, 3, 99).named(name, &[2])];
        assert_eq!(Stamp::take_watermark(&mut longer(WATERMARK_HEADER)), None);
        assert_eq!(Stamp::take(&mut longer(TIME_HEADER)), None);
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
