//! One partition as a share group sees it: what has become of each record.
//!
//! Owns the offsets from the share-partition start offset (below it all is finished) to the end (from it on nothing was
//! ever delivered) as ranges of one state each. Acquisitions are here, too, but only in memory: to the durable state an
//! acquired record is one that is available and was delivered once less.
//!
//! Invariant: the ranges cover `start..end` without holes or overlaps; the first is not finished, the last is not as if
//! never delivered, and neighbours differ.

use std::collections::BTreeMap;
use std::sync::Arc;

use headwater_model::{Offset, TimestampMs};

use super::records::{ShareRange, ShareState};
use super::request::ShareNext;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Standing {
    Available,
    Acquired { member: Arc<str>, deadline: TimestampMs },
    Acknowledged,
    Archived,
}

impl From<ShareState> for Standing {
    fn from(state: ShareState) -> Self {
        match state {
            ShareState::Available => Self::Available,
            ShareState::Acknowledged => Self::Acknowledged,
            ShareState::Archived => Self::Archived,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Span {
    pub last: Offset,
    pub standing: Standing,
    pub delivery_count: i16,
}

impl Span {
    fn is_finished(&self) -> bool {
        matches!(self.standing, Standing::Acknowledged | Standing::Archived)
    }

    fn is_fresh(&self) -> bool {
        self.standing == Standing::Available && self.delivery_count == 0
    }

    fn same_as(&self, other: &Self) -> bool {
        self.standing == other.standing && self.delivery_count == other.delivery_count
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SharePartition {
    start: Offset,
    end: Offset,
    spans: BTreeMap<Offset, Span>,
    /// No lock ends before this time.
    pub(super) next_deadline: Option<TimestampMs>,
}

impl SharePartition {
    pub fn new(start: Offset) -> Self {
        Self { start, end: start, spans: BTreeMap::new(), next_deadline: None }
    }

    pub fn restored(start: Offset, ranges: &[ShareRange]) -> Self {
        let mut partition = Self::new(start);
        partition.apply(ranges);
        partition
    }

    pub fn start(&self) -> Offset {
        self.start
    }

    pub fn end(&self) -> Offset {
        self.end
    }

    pub fn spans(&self) -> impl Iterator<Item = (Offset, &Span)> {
        self.spans.iter().map(|(first, span)| (*first, span))
    }

    /// The parts of spans that lie in `first..=last`.
    pub fn within(&self, first: Offset, last: Offset) -> Vec<(Offset, Span)> {
        let before = self.spans.range(..=first).next_back().map_or(first, |(at, _)| *at);
        let touching = self.spans.range(before..=last.max(before)).filter(|(_, span)| span.last >= first);
        let clipped = touching.filter(|(at, _)| **at <= last).map(|(at, span)| {
            let span = Span { last: span.last.min(last), ..span.clone() };
            ((*at).max(first), span)
        });
        clipped.collect()
    }

    /// What must be written to have this state again.
    pub fn ranges(&self) -> Vec<ShareRange> {
        let durable = |(first, span): (Offset, &Span)| {
            let (state, delivery_count) = match span.standing {
                Standing::Available => (ShareState::Available, span.delivery_count),
                Standing::Acquired { .. } => (ShareState::Available, span.delivery_count - 1),
                Standing::Acknowledged => (ShareState::Acknowledged, span.delivery_count),
                Standing::Archived => (ShareState::Archived, span.delivery_count),
            };
            ShareRange { first, last: span.last, state, delivery_count }
        };
        let mut ranges: Vec<ShareRange> = Vec::new();
        for range in self.spans().map(durable) {
            match ranges.last_mut() {
                _ if range.state == ShareState::Available && range.delivery_count == 0 => {}
                Some(before)
                    if before.last + 1 == range.first
                        && (before.state, before.delivery_count) == (range.state, range.delivery_count) =>
                {
                    before.last = range.last;
                }
                _ => ranges.push(range),
            }
        }
        ranges
    }

    /// Where the next records may be; `most` may be in flight.
    pub fn next(&self, most: i64) -> ShareNext {
        let available = self.spans().find(|(_, span)| span.standing == Standing::Available);
        match available {
            Some((first, _)) => ShareNext::At(first),
            None if self.end - self.start < most => ShareNext::At(self.end),
            None => ShareNext::Full,
        }
    }

    /// How many offsets from the start on are finished.
    pub fn finished(&self) -> i64 {
        let finished = self.spans().filter(|(_, span)| span.is_finished());
        finished.map(|(first, span)| span.last - first + 1).sum()
    }

    /// Takes the new states of records over; those below the start are finished already.
    pub fn apply(&mut self, changes: &[ShareRange]) {
        for change in changes {
            let span = Span {
                last: change.last,
                standing: change.state.into(),
                delivery_count: change.delivery_count,
            };
            self.set(change.first, span);
        }
        self.settle();
    }

    /// The log begins here: what was below it is gone.
    pub fn begin_at(&mut self, log_start: Offset) {
        if log_start <= self.start {
            return;
        }
        self.split(log_start);
        self.spans = self.spans.split_off(&log_start);
        self.start = log_start;
        self.end = self.end.max(log_start);
        self.settle();
    }

    /// Replaces what is in the span's place; [`Self::settle`] must follow.
    pub fn set(&mut self, first: Offset, span: Span) {
        let first = first.max(self.start);
        if span.last < first {
            return;
        }
        if first > self.end {
            let fresh = Span { last: first - 1, standing: Standing::Available, delivery_count: 0 };
            self.spans.insert(self.end, fresh);
        }
        self.split(first);
        self.split(span.last + 1);
        self.end = self.end.max(span.last + 1);
        while let Some((at, _)) = self.spans.range(first..=span.last).next() {
            let at = *at;
            self.spans.remove(&at);
        }
        self.spans.insert(first, span);
    }

    /// Lets a span begin at `at` if one goes over it.
    fn split(&mut self, at: Offset) {
        let Some((_, span)) = self.spans.range_mut(..at).next_back() else { return };
        if span.last >= at {
            let rest = span.clone();
            span.last = at - 1;
            self.spans.insert(at, rest);
        }
    }

    /// Moves start and end, and joins neighbours that do not differ.
    pub fn settle(&mut self) {
        while let Some(first) = self.spans.first_entry().filter(|first| first.get().is_finished()) {
            self.start = first.remove().last + 1;
        }
        while let Some(last) = self.spans.last_entry().filter(|last| last.get().is_fresh()) {
            self.end = *last.key();
            last.remove();
        }
        self.end = self.end.max(self.start);
        let mut joined: Vec<(Offset, Span)> = Vec::with_capacity(self.spans.len());
        for (first, span) in std::mem::take(&mut self.spans) {
            match joined.last_mut() {
                Some((_, before)) if before.same_as(&span) => before.last = span.last,
                _ => joined.push((first, span)),
            }
        }
        self.spans = joined.into_iter().collect();
        #[cfg(debug_assertions)]
        self.check();
    }

    #[cfg(debug_assertions)]
    fn check(&self) {
        let mut at = self.start;
        for (first, span) in &self.spans {
            assert!(*first == at && span.last >= at, "a hole or an overlap at {at}: {self:?}");
            at = span.last + 1;
        }
        assert_eq!(at, self.end, "{self:?}");
        let last = self.spans.last_key_value();
        assert!(last.is_none_or(|(_, span)| !span.is_fresh()), "{self:?}");
        assert!(self.spans.first_key_value().is_none_or(|(_, span)| !span.is_finished()), "{self:?}");
    }
}
