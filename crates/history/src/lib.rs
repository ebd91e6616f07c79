//! A checker of histories: what clients asked of a broker and were told, judged without looking at the broker.
//!
//! The first twelve of its anomalies are those of Jepsen's work on Kafka-like queues (see [`Kind`]). A history is a list of
//! [`Event`]s, one JSON line each, which any client in any language can write; `docs/reliability.md` has the format.
//! Values are unique within a run, so a value names the one send that wrote it.

#![forbid(unsafe_code)]

mod anomaly;
mod cycles;
mod event;
mod known;
mod operation;
mod polls;
mod positions;
mod sends;
mod writes;

pub use anomaly::{Anomaly, Kind};
pub use event::{Event, EventKind, Key, Malformed, Offset, Process, Step, Value, parse};
pub use operation::{Operation, Outcome, operations};

use known::Known;

/// What a history says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Verdict {
    pub anomalies: Vec<Anomaly>,
    pub counted: Counted,
}

/// How much there was to judge: a history of nothing has no anomalies.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counted {
    pub operations: usize,
    /// Values whose writing was acknowledged.
    pub acknowledged: usize,
    /// Values that nobody knows the end of.
    pub unknown: usize,
    pub aborted: usize,
    pub polled: usize,
    /// Gaps within sends and cycles of writes on keys that several processes write: Kafka lets transactions
    /// interleave, so these are no anomalies.
    pub interleaved: usize,
}

/// Judges a history; the order of events of one process must be that of the list, others may be mixed.
pub fn check(events: &[Event]) -> Result<Verdict, Malformed> {
    let operations = operations(events)?;
    let known = Known::of(&operations);
    let mut verdict = Verdict { anomalies: Vec::new(), counted: known.counted(&operations) };
    verdict.anomalies.extend(writes::check(&operations, &known));
    verdict.anomalies.extend(polls::check(&operations, &known));
    verdict.anomalies.extend(sends::check(&operations, &known, &mut verdict.counted.interleaved));
    verdict.anomalies.extend(cycles::check(&operations, &known, &mut verdict.counted.interleaved));
    verdict.anomalies.extend(positions::check(&operations));
    Ok(verdict)
}
