//! Which call is next: so many at once, those of a key one after the other where order is asked for, failed ones again later.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

use headwater_model::{Bytes, TimestampMs};

struct Item {
    /// By which it keeps its order; `None`: it is alone.
    key: Option<Bytes>,
    attempts: u32,
    running: bool,
    /// Not before this time.
    due: TimestampMs,
}

/// Calls by sequence.
pub(crate) struct Schedule {
    max_in_flight: usize,
    running: usize,
    items: BTreeMap<u64, Item>,
    /// What may start, by time and sequence: of each key the first only.
    ready: BTreeSet<(TimestampMs, u64)>,
    queues: HashMap<Bytes, VecDeque<u64>>,
}

impl Schedule {
    pub fn new(max_in_flight: usize) -> Self {
        Self {
            max_in_flight: max_in_flight.max(1),
            running: 0,
            items: BTreeMap::new(),
            ready: BTreeSet::new(),
            queues: HashMap::new(),
        }
    }

    pub fn len(&self) -> usize {
        self.items.len()
    }

    pub fn add(&mut self, sequence: u64, key: Option<Bytes>) {
        let first = match &key {
            None => true,
            Some(key) => {
                let queue = self.queues.entry(key.clone()).or_default();
                queue.push_back(sequence);
                queue.len() == 1
            }
        };
        if first {
            self.ready.insert((TimestampMs::MIN, sequence));
        }
        self.items.insert(sequence, Item { key, attempts: 0, running: false, due: TimestampMs::MIN });
    }

    /// A call to be made now, and which attempt it is.
    pub fn start(&mut self, now: TimestampMs) -> Option<(u64, u32)> {
        let (due, sequence) = *self.ready.first()?;
        if due > now || self.running >= self.max_in_flight {
            return None;
        }
        self.ready.pop_first();
        let item = self.items.get_mut(&sequence)?;
        (item.running, item.attempts) = (true, item.attempts + 1);
        self.running += 1;
        Some((sequence, item.attempts))
    }

    /// When the next call is due that only waits for its time.
    pub fn next_due(&self) -> Option<TimestampMs> {
        let (due, _) = self.ready.first()?;
        (self.running < self.max_in_flight).then_some(*due)
    }

    /// Whether it is this attempt that runs.
    pub fn runs(&self, sequence: u64, attempt: u32) -> bool {
        self.items.get(&sequence).is_some_and(|item| item.running && item.attempts == attempt)
    }

    /// It is over; the next one of its key may start.
    pub fn end(&mut self, sequence: u64) {
        let Some(item) = self.items.remove(&sequence) else { return };
        self.running -= usize::from(item.running);
        self.ready.remove(&(item.due, sequence));
        let Some(key) = item.key else { return };
        let Some(queue) = self.queues.get_mut(&key) else { return };
        queue.pop_front();
        match queue.front() {
            Some(next) => {
                self.ready.insert((TimestampMs::MIN, *next));
            }
            None => {
                self.queues.remove(&key);
            }
        }
    }

    /// It failed, and is to be made again at `due`; those of its key wait behind it.
    pub fn again(&mut self, sequence: u64, due: TimestampMs) {
        let Some(item) = self.items.get_mut(&sequence) else { return };
        self.running -= usize::from(item.running);
        (item.running, item.due) = (false, due);
        self.ready.insert((due, sequence));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: &'static str) -> Option<Bytes> {
        Some(Bytes::from_static(name.as_bytes()))
    }

    #[test]
    fn a_key_is_called_one_after_the_other_and_no_more_run_than_may() {
        let mut schedule = Schedule::new(2);
        for (sequence, name) in [(0, "a"), (1, "a"), (2, "b"), (3, "c")] {
            schedule.add(sequence, key(name));
        }
        assert_eq!((schedule.start(0), schedule.start(0)), (Some((0, 1)), Some((2, 1))));
        assert_eq!((schedule.start(0), schedule.next_due()), (None, None));
        schedule.end(2);
        assert_eq!(schedule.start(0), Some((3, 1)));
        schedule.again(0, 50);
        assert!(!schedule.runs(0, 1));
        assert_eq!((schedule.start(49), schedule.next_due()), (None, Some(50)));
        assert_eq!(schedule.start(50), Some((0, 2)));
        schedule.end(0);
        schedule.end(3);
        assert_eq!((schedule.start(50), schedule.len()), (Some((1, 1)), 1));
        schedule.end(1);
        assert!(schedule.queues.is_empty() && schedule.ready.is_empty() && schedule.running == 0);
    }

    #[test]
    fn without_keys_all_start_at_once() {
        let mut schedule = Schedule::new(3);
        (0..4).for_each(|sequence| schedule.add(sequence, None));
        let started: Vec<_> =
            std::iter::from_fn(|| schedule.start(0)).map(|(sequence, _)| sequence).collect();
        assert_eq!(started, [0, 1, 2]);
    }
}
