//! Who really produces and consumes: one row for each topic, direction, principal, client id, and group or
//! transactional id.
//!
//! Owns what is kept and how much of it; refuses to watch anybody: sightings are gathered by whoever serves requests.
//!
//! Invariant: no more than [`MOST_ROWS`] rows, whatever clients call themselves. Client ids beyond
//! [`MOST_CLIENTS`] of one principal share one row, and what does not fit at all is counted.

use std::collections::{BTreeMap, BTreeSet};

use headwater_model::TimestampMs;
use serde::{Deserialize, Serialize};

use crate::context::Context;
use crate::records::StateRecord;
use crate::topics::Topics;

/// Of all topics together.
pub const MOST_ROWS: usize = 10_000;
/// Rows of one principal in one direction of one topic.
pub const MOST_CLIENTS: usize = 64;
/// Who was not seen for so long is forgotten.
pub const KEPT_MS: i64 = 30 * 24 * 3_600_000;
const BETWEEN_SWEEPS_MS: i64 = 3_600_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum UsageKind {
    Writer,
    Reader,
}

/// Who uses a topic, and how.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Usage {
    pub topic: String,
    pub kind: UsageKind,
    /// `TYPE:NAME`
    pub principal: String,
    /// `None` for all that came after [`MOST_CLIENTS`] others.
    pub client_id: Option<String>,
    /// The transactional id of a writer, the group of a reader.
    pub through: Option<String>,
}

/// One row: who, and when first and last.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UsageRecord {
    pub of: Usage,
    pub first_ms: TimestampMs,
    pub last_ms: TimestampMs,
}

/// What is known of one topic.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct DescribedUsage {
    /// By direction, principal, client id.
    pub rows: Vec<UsageRecord>,
    /// Sightings of all topics that found no row, since the broker has started.
    pub dropped: u64,
}

#[derive(Debug, Default)]
pub(crate) struct Usages {
    rows: BTreeMap<Usage, (TimestampMs, TimestampMs)>,
    dropped: u64,
    swept_ms: TimestampMs,
}

impl Usages {
    /// Replays a row.
    pub fn put(&mut self, record: UsageRecord) {
        self.rows.insert(record.of, (record.first_ms, record.last_ms));
    }

    pub fn remove(&mut self, of: &Usage) {
        self.rows.remove(of);
    }

    pub fn forget_topic(&mut self, topic: &str) {
        self.rows.retain(|of, _| of.topic != topic);
    }

    /// Returns how many sightings have found no room so far.
    pub fn record(&mut self, cx: &mut Context, topics: &Topics, seen: Vec<UsageRecord>) -> u64 {
        self.sweep(cx);
        // Several sightings may share a row, which is told once.
        let mut changed = BTreeSet::new();
        for sighting in seen.into_iter().filter(|sighting| topics.get(&sighting.of.topic).is_some()) {
            match self.place(sighting.of) {
                Some(of) => {
                    self.see(&of, sighting.first_ms, sighting.last_ms);
                    changed.insert(of);
                }
                None => self.dropped += 1,
            }
        }
        for of in changed {
            let (first_ms, last_ms) = self.rows[&of];
            cx.append(StateRecord::Usage(UsageRecord { of, first_ms, last_ms }));
        }
        self.dropped
    }

    /// The row of a sighting; `None` when there is no room for it.
    fn place(&self, of: Usage) -> Option<Usage> {
        if self.rows.contains_key(&of) {
            return Some(of);
        }
        let others = Usage { client_id: None, through: None, ..of.clone() };
        let alike = |row: &Usage| {
            (&row.topic, row.kind, &row.principal) == (&others.topic, others.kind, &others.principal)
        };
        let crowded = self.rows.range(others.clone()..).map(|(row, _)| row).take_while(|row| alike(row));
        let of = if crowded.count() >= MOST_CLIENTS { others } else { of };
        (self.rows.len() < MOST_ROWS || self.rows.contains_key(&of)).then_some(of)
    }

    fn see(&mut self, of: &Usage, first_ms: TimestampMs, last_ms: TimestampMs) {
        let (first, last) = self.rows.entry(of.clone()).or_insert((first_ms, last_ms));
        (*first, *last) = ((*first).min(first_ms), (*last).max(last_ms));
    }

    /// Forgets who was not seen for long, now and then.
    fn sweep(&mut self, cx: &mut Context) {
        if cx.now < self.swept_ms.saturating_add(BETWEEN_SWEEPS_MS) {
            return;
        }
        self.swept_ms = cx.now;
        let horizon = cx.now.saturating_sub(KEPT_MS);
        let gone = self.rows.iter().filter(|(_, (_, last))| *last < horizon).map(|(of, _)| of.clone());
        for of in gone.collect::<Vec<_>>() {
            self.rows.remove(&of);
            cx.append(StateRecord::UsageForgotten(of));
        }
    }

    pub fn describe(&self, topic: &str) -> DescribedUsage {
        let first = Usage {
            topic: topic.to_owned(),
            kind: UsageKind::Writer,
            principal: String::new(),
            client_id: None,
            through: None,
        };
        let rows = self.rows.range(first..).take_while(|(of, _)| of.topic == topic).map(row);
        DescribedUsage { rows: rows.collect(), dropped: self.dropped }
    }

    pub fn iter(&self) -> impl Iterator<Item = UsageRecord> {
        self.rows.iter().map(row)
    }
}

fn row((of, (first_ms, last_ms)): (&Usage, &(TimestampMs, TimestampMs))) -> UsageRecord {
    UsageRecord { of: of.clone(), first_ms: *first_ms, last_ms: *last_ms }
}
