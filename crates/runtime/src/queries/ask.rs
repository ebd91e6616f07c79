//! What one instance asks another, and what that one says: a question about some tasks, and a part of the answer for each.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::str::FromStr;
use std::time::Duration;

use headwater_model::Bytes;
use headwater_streams::Query;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::position::Position;
use super::serving::Staleness;

/// The part of a global table, which every instance has all of.
pub(crate) const GLOBAL: &str = "global";

/// Where a page ends, as hexadecimal digits: what comes next is asked for by it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Place(pub(crate) Bytes);

impl From<Place> for String {
    fn from(Place(bytes): Place) -> Self {
        bytes.iter().fold(Self::with_capacity(2 * bytes.len()), |mut text, byte| {
            // Writing to a string cannot fail.
            let _ = write!(text, "{byte:02x}");
            text
        })
    }
}

impl FromStr for Place {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let digits: Option<Vec<u8>> =
            text.chars().map(|digit| digit.to_digit(16).map(|digit| digit as u8)).collect();
        let (pairs, rest) = digits.as_deref().unwrap_or_default().as_chunks::<2>();
        if pairs.is_empty() || !rest.is_empty() {
            return Err(format!("{text:?} is no place to go on from: use `next` of the page before"));
        }
        Ok(Self(pairs.iter().map(|[high, low]| (high << 4) | low).collect()))
    }
}

impl TryFrom<String> for Place {
    type Error = String;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

/// A question.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Ask {
    pub store: String,
    pub query: Query,
    /// Of these tasks, printed `0_1`; by default of those that may have such rows.
    #[serde(default)]
    pub tasks: Option<Vec<String>>,
    #[serde(default)]
    pub after: Option<Place>,
    #[serde(default)]
    pub staleness: Staleness,
    /// What the answer must have seen.
    #[serde(default)]
    pub position: Position,
    /// How long may be waited for that, and for a task that nobody runs.
    #[serde(default)]
    pub timeout_ms: u64,
}

impl Ask {
    pub fn timeout(&self) -> Duration {
        Duration::from_millis(self.timeout_ms)
    }

    /// The most rows of an answer.
    pub fn limit(&self) -> usize {
        match &self.query {
            Query::Range(query) => query.limit,
            Query::WindowRange(query) => query.limit,
            Query::Session(query) => query.limit,
            Query::MultiVersionedKey(query) => query.limit,
            Query::Key(_) | Query::VersionedKey(_) => usize::MAX,
        }
    }

    /// The key, if it is about one.
    pub fn key(&self) -> Option<&str> {
        match &self.query {
            Query::Range(_) => None,
            Query::Key(query) => Some(&query.key),
            Query::VersionedKey(query) => Some(&query.key),
            Query::MultiVersionedKey(query) => Some(&query.key),
            Query::WindowRange(query) => query.key.as_deref(),
            Query::Session(query) => query.key.as_deref(),
        }
    }
}

/// As what an instance answers for a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// It runs it.
    Active,
    /// It keeps a copy.
    Standby,
    /// It reads all of a global table.
    Global,
}

/// Who has answered for one partition of a store, and how far that state is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueryResultInfo {
    /// `host:port`, if the instance has one.
    pub host: Option<String>,
    pub role: Role,
    /// Changelog records that a copy lacked.
    pub lag: Option<u64>,
    /// Milliseconds since a copy had all that was committed.
    pub staleness_ms: Option<u64>,
    /// The state has seen at least that much of its inputs. A copy knows no more than what it was asked for.
    pub position: Position,
}

/// What became of the question in one task.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Part {
    Rows {
        rows: Vec<(Place, Value)>,
        more: bool,
        info: QueryResultInfo,
    },
    /// Nobody who was asked has it, or has it well enough.
    Unavailable {
        detail: String,
    },
    /// It is there, and has not seen what was asked for within the time.
    NotYet {
        detail: String,
        seen: Position,
    },
    /// The question is wrong.
    Refused {
        detail: String,
    },
    Failed {
        detail: String,
    },
}

/// By task.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Told {
    pub parts: BTreeMap<String, Part>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_printed_and_read_back() {
        let place = Place(Bytes::from_static(b"\x00\xffk"));
        assert_eq!(String::from(place.clone()), "00ff6b");
        assert_eq!("00ff6b".parse(), Ok(place));
        for wrong in ["", "0", "0g", "é", "zz", "+1"] {
            assert!(wrong.parse::<Place>().unwrap_err().contains("next"), "{wrong}");
        }
    }
}
