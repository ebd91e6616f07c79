//! One thing that an operator should know.

use headwater_model::{Offset, TimestampMs};
use serde::{Deserialize, Serialize};

/// The worst first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Clients are refused.
    Failure,
    /// Somebody should look.
    Warning,
    /// Works as configured; good to know.
    Note,
}

impl std::fmt::Display for Severity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Failure => "failure",
            Self::Warning => "warning",
            Self::Note => "note",
        })
    }
}

/// Where it is; what does not apply is left out.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Place {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub topic: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub partitions: Vec<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first_offset: Option<Offset>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_offset: Option<Offset>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub producer_id: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub transactional_id: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    pub severity: Severity,
    /// A stable name for scripts.
    pub kind: String,
    pub what: String,
    #[serde(rename = "where")]
    pub place: Place,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub since_ms: Option<TimestampMs>,
    pub why: String,
    #[serde(rename = "try")]
    pub next: String,
}

impl Finding {
    pub fn new(severity: Severity, kind: &str, what: impl Into<String>) -> Self {
        Self {
            severity,
            kind: kind.to_owned(),
            what: what.into(),
            place: Place::default(),
            since_ms: None,
            why: String::new(),
            next: String::new(),
        }
    }

    pub fn at(mut self, place: Place) -> Self {
        self.place = place;
        self
    }

    pub fn since(mut self, at: TimestampMs) -> Self {
        self.since_ms = Some(at);
        self
    }

    pub fn why(mut self, why: impl Into<String>) -> Self {
        self.why = why.into();
        self
    }

    pub fn next(mut self, next: impl Into<String>) -> Self {
        self.next = next.into();
        self
    }
}

impl Place {
    pub fn partition(topic: &str, partition: i32) -> Self {
        Self { topic: Some(topic.to_owned()), partitions: vec![partition], ..Self::default() }
    }

    pub fn path(path: impl std::fmt::Display) -> Self {
        Self { path: Some(path.to_string()), ..Self::default() }
    }
}

/// Milliseconds as people say them.
pub fn duration(ms: i64) -> String {
    match ms {
        i64::MIN..1_000 => format!("{ms} ms"),
        1_000..120_000 => format!("{:.1} s", ms as f64 / 1e3),
        120_000..7_200_000 => format!("{} min", ms / 60_000),
        7_200_000..172_800_000 => format!("{} h", ms / 3_600_000),
        _ => format!("{} days", ms / 86_400_000),
    }
}

pub fn bytes(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    if unit == 0 { format!("{bytes} B") } else { format!("{value:.1} {}", UNITS[unit]) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_short_and_carry_their_unit() {
        assert_eq!(duration(12_300), "12.3 s");
        assert_eq!(duration(999), "999 ms");
        assert_eq!(duration(3 * 3_600_000), "3 h");
        assert_eq!(bytes(512), "512 B");
        assert_eq!(bytes(3 << 30), "3.0 GiB");
    }
}
