//! The seven levels of compatibility that a subject can be held to.

use std::fmt;
use std::str::FromStr;

use crate::rules::{Incompatibility, compare};
use crate::{AvroSchema, SchemaError};

/// Who must be able to read whose data. Levels without `Transitive` look at the latest version only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum CompatibilityLevel {
    /// The new schema reads what was written with the old.
    #[default]
    Backward,
    BackwardTransitive,
    /// The old schema reads what will be written with the new.
    Forward,
    ForwardTransitive,
    /// Both.
    Full,
    FullTransitive,
    None,
}

const NAMES: [(CompatibilityLevel, &str); 7] = [
    (CompatibilityLevel::Backward, "BACKWARD"),
    (CompatibilityLevel::BackwardTransitive, "BACKWARD_TRANSITIVE"),
    (CompatibilityLevel::Forward, "FORWARD"),
    (CompatibilityLevel::ForwardTransitive, "FORWARD_TRANSITIVE"),
    (CompatibilityLevel::Full, "FULL"),
    (CompatibilityLevel::FullTransitive, "FULL_TRANSITIVE"),
    (CompatibilityLevel::None, "NONE"),
];

impl CompatibilityLevel {
    /// Does every earlier version count, or only the latest?
    pub fn is_transitive(self) -> bool {
        matches!(self, Self::BackwardTransitive | Self::ForwardTransitive | Self::FullTransitive)
    }

    fn new_reads_old(self) -> bool {
        matches!(self, Self::Backward | Self::BackwardTransitive | Self::Full | Self::FullTransitive)
    }

    fn old_reads_new(self) -> bool {
        matches!(self, Self::Forward | Self::ForwardTransitive | Self::Full | Self::FullTransitive)
    }

    /// As Confluent spells it.
    pub fn name(self) -> &'static str {
        NAMES.iter().find(|(level, _)| *level == self).map_or("NONE", |(_, name)| name)
    }
}

impl fmt::Display for CompatibilityLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for CompatibilityLevel {
    type Err = SchemaError;

    fn from_str(text: &str) -> Result<Self, SchemaError> {
        let found = NAMES.iter().find(|(_, name)| name.eq_ignore_ascii_case(text));
        found.map(|(level, _)| *level).ok_or_else(|| SchemaError::UnknownLevel(text.to_owned()))
    }
}

/// What stands against `new` after the `existing` versions, oldest first; empty when it may follow them.
pub fn check(level: CompatibilityLevel, new: &AvroSchema, existing: &[AvroSchema]) -> Vec<Incompatibility> {
    let counted =
        if level.is_transitive() { existing } else { &existing[existing.len().saturating_sub(1)..] };
    let mut found = Vec::new();
    for old in counted.iter().rev() {
        if level.new_reads_old() {
            found.extend(compare(new, old, ("the new schema", "the old schema")));
        }
        if level.old_reads_new() {
            found.extend(compare(old, new, ("the old schema", "the new schema")));
        }
    }
    found
}
