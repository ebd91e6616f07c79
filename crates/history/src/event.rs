//! One line of a history.

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// A partition, as `TOPIC/NUMBER`.
pub type Key = String;
pub type Process = String;
pub type Offset = i64;
pub type Value = u64;

/// Something a process noted. An operation begins with `invoke`, noted before anything of it is sent, and has at
/// most one end; a transaction notes `ending` just before it asks for its commit or abort.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Event {
    pub process: Process,
    /// Counts the operations of a process.
    pub op: u64,
    /// Nanoseconds on a clock that all processes share.
    pub time: i64,
    pub kind: EventKind,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub steps: Vec<Step>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EventKind {
    Invoke,
    Ending,
    /// Acknowledged: all sends took effect.
    Ok,
    /// Nothing of it took effect, or ever will.
    Fail,
    /// Nobody knows.
    Info,
}

/// What an operation did, in order. At `invoke` sends have no offsets and polls are not there yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
pub enum Step {
    Send {
        key: Key,
        value: Value,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        offset: Option<Offset>,
    },
    /// One poll's records of one key.
    Poll {
        key: Key,
        records: Vec<(Offset, Value)>,
        /// The reader may see what is not committed.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        uncommitted: bool,
        /// One of the reads of everything, when all work is over.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        last: bool,
    },
    /// A transaction commits a group's position; only one process does so for a group.
    Position { group: String, key: Key, offset: Offset },
    /// A group's position, when all work is over.
    Found { group: String, key: Key, offset: Option<Offset> },
    /// The process has chosen its positions anew: what it polls next need not follow what it polled before.
    Assign {},
}

#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Malformed {
    #[error("line {line} of the history is not an event: {reason}")]
    Line { line: usize, reason: String },
    #[error("operation {op} of process {process}: {reason}")]
    Operation { process: Process, op: u64, reason: &'static str },
    #[error("value {value} was sent twice, by {first} and by {second}: values must be unique")]
    Repeated { value: Value, first: String, second: String },
}

/// Reads JSON lines. A last line without its end is what a killed client leaves, and is left out.
pub fn parse(text: &str) -> Result<Vec<Event>, Malformed> {
    let mut events = Vec::new();
    for (number, line) in text.split_inclusive('\n').enumerate() {
        let whole = line.ends_with('\n');
        let line = line.trim();
        if line.is_empty() {
            continue;
        }
        match serde_json::from_str(line) {
            Ok(event) => events.push(event),
            Err(_) if !whole => {}
            Err(error) => {
                return Err(Malformed::Line { line: number + 1, reason: error.to_string() });
            }
        }
    }
    Ok(events)
}
