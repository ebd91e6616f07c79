//! Which group or transaction must be looked at next, and when.
//!
//! A timer may fire early (a heartbeat moves a deadline without moving the timer): whoever is woken looks at its own
//! deadlines and is scheduled again.

use std::collections::{BTreeMap, BTreeSet};

use headwater_model::TimestampMs;

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Alarm {
    Group(String),
    ShareGroup(String),
    Transaction(String),
}

#[derive(Debug, Default)]
pub(crate) struct Timers {
    queue: BTreeSet<(TimestampMs, Alarm)>,
    set: BTreeMap<Alarm, TimestampMs>,
}

impl Timers {
    /// Replaces the alarm's time; `None` removes it.
    pub fn set(&mut self, alarm: Alarm, at: Option<TimestampMs>) {
        let before = match at {
            Some(at) => self.set.insert(alarm.clone(), at),
            None => self.set.remove(&alarm),
        };
        let key = |time| (time, alarm.clone());
        if let Some(before) = before {
            self.queue.remove(&key(before));
        }
        if let Some(at) = at {
            self.queue.insert(key(at));
        }
    }

    /// Makes the alarm go off at this time, unless it does so before.
    pub fn no_later(&mut self, alarm: &Alarm, at: TimestampMs) {
        if self.set.get(alarm).is_none_or(|set| *set > at) {
            self.set(alarm.clone(), Some(at));
        }
    }

    pub fn is_set(&self, alarm: &Alarm) -> bool {
        self.set.contains_key(alarm)
    }

    pub fn next(&self) -> Option<TimestampMs> {
        self.queue.first().map(|(at, _)| *at)
    }

    /// Takes one alarm that is due.
    pub fn pop(&mut self, now: TimestampMs) -> Option<Alarm> {
        if self.next()? > now {
            return None;
        }
        let (_, alarm) = self.queue.pop_first()?;
        self.set.remove(&alarm);
        Some(alarm)
    }
}
