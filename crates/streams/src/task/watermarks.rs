//! Telling repartition topics what time it is: `StreamsBuilder::watermark_interval`.
//!
//! Time travels with records, so a partition that gets no records of a lane does not hear of its time. A task that was asked to
//! says its lanes' times to every partition of the repartition topics it writes to, in records that have neither key nor value
//! but the header `__headwater.watermark`, laid out as `__headwater.time`, with `01` behind it while the lane is idle. They come behind all records that the task has written
//! for that time, and are nobody's input but the clocks'.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use headwater_model::{Record, TimestampMs};

use super::{Output, Task};
use crate::error::TaskError;
use crate::lanes::{self, Lane, Stamp};
use crate::node::RecordContext;

/// What a task has told, and when it tells more.
pub(crate) struct Teller {
    pub interval: i64,
    pub sinks: Vec<Told>,
    next: TimestampMs,
}

/// One repartition topic of a task.
pub(crate) struct Told {
    pub topic: Arc<str>,
    pub partitions: i32,
    /// By place, the inputs whose records reach it.
    pub inputs: Vec<usize>,
    times: HashMap<Lane, TimestampMs>,
    /// Lanes that were said to be idle, and not to have ended that.
    idle: HashSet<Lane>,
}

impl Told {
    pub fn new(topic: Arc<str>, partitions: i32, inputs: Vec<usize>) -> Self {
        Self { topic, partitions, inputs, times: HashMap::new(), idle: HashSet::new() }
    }

    /// How far an idle lane is taken to be is news, too: what is let go for it carries that time, and is not to end that it is idle.
    fn knows(&self, stamp: &Stamp, idle: bool) -> bool {
        let lane = stamp.lane();
        let is_told = self.times.get(&lane).is_some_and(|told| *told >= stamp.time);
        is_told && self.idle.contains(&lane) == idle
    }

    fn note(&mut self, stamp: &Stamp, idle: bool) {
        self.times.insert(stamp.lane(), stamp.time);
        match idle {
            true => self.idle.insert(stamp.lane()),
            false => self.idle.remove(&stamp.lane()),
        };
    }
}

impl Teller {
    pub fn new(interval: i64, sinks: Vec<Told>) -> Self {
        Self { interval, sinks, next: TimestampMs::MIN }
    }
}

pub(crate) fn is_watermark(record: &Record) -> bool {
    record.key.is_none()
        && record.value.is_none()
        && record.headers.iter().any(|header| header.key == lanes::WATERMARK_HEADER)
}

impl Task {
    /// Says the time where it has not been said, if it is due; returns how many records that took.
    pub(super) fn tell_time(&mut self, now: TimestampMs) -> usize {
        let Self { teller: Some(teller), inputs, core, .. } = self else { return 0 };
        if now < teller.next {
            return 0;
        }
        teller.next = now.saturating_add(teller.interval);
        let before = core.out.len();
        for sink in &mut teller.sinks {
            let stamps: Vec<_> = sink.inputs.iter().flat_map(|place| inputs[*place].stamps()).collect();
            for (stamp, idle) in stamps {
                if sink.knows(&stamp, idle) {
                    continue;
                }
                sink.note(&stamp, idle);
                core.out.extend((0..sink.partitions).map(|partition| Output {
                    topic: sink.topic.clone(),
                    partition: Some(partition),
                    // One that never had a record has no time.
                    timestamp: stamp.time.max(0),
                    key: None,
                    value: None,
                    headers: vec![stamp.watermark(idle)],
                }));
            }
        }
        core.out.len() - before
    }

    /// When it is due to say the time, if there is anything to say.
    pub(super) fn next_telling(&self) -> Option<TimestampMs> {
        let teller = self.teller.as_ref()?;
        let untold = teller.sinks.iter().any(|sink| {
            let mut stamps = sink.inputs.iter().flat_map(|place| self.inputs[*place].stamps());
            stamps.any(|(stamp, idle)| !sink.knows(&stamp, idle))
        });
        untold.then_some(teller.next)
    }

    /// Another task has said the time.
    pub(super) fn hear_time(&mut self, index: usize, mut record: Record) -> Result<(), TaskError> {
        let input = &mut self.inputs[index];
        let before = (input.watermark(), input.is_idle());
        let Some((stamp, idle)) = Stamp::take_watermark(&mut record.headers) else { return Ok(()) };
        if let Some(lanes) = &mut input.lanes {
            lanes.advance(stamp);
            if idle {
                lanes.rest(stamp);
            }
        }
        if (input.watermark(), input.is_idle()) == before {
            return Ok(());
        }
        self.core.context = RecordContext {
            topic: input.topic.clone(),
            partition: input.at.partition,
            offset: record.offset,
            timestamp: record.timestamp,
            raw: (None, None),
            headers: record.headers,
            stamp,
            reprocessing: false,
        };
        self.advance_watermarks()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_idle_lane_that_is_taken_to_be_further_is_told_of_again() {
        let mut told = Told::new(Arc::from("t"), 1, Vec::new());
        let stamp = |time: TimestampMs| Stamp { topic: 7, partition: 0, time };
        assert!(!told.knows(&stamp(-1), true), "never heard of");
        told.note(&stamp(-1), true);
        assert!(told.knows(&stamp(-1), true) && !told.knows(&stamp(5), true));
        told.note(&stamp(5), true);
        assert!(told.knows(&stamp(5), true) && !told.knows(&stamp(5), false));
        told.note(&stamp(5), false);
        assert!(told.knows(&stamp(5), false) && !told.knows(&stamp(5), true));
    }
}
