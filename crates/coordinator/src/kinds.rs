//! What the records of a topic mean: `headwater.stream.kind`, and which configurations contradict it.
//!
//! Owns the kinds and their agreement with `cleanup.policy`; records are judged by who receives them.

use std::collections::BTreeMap;

use crate::error::{Error, Failure};

pub(crate) const KIND: &str = "headwater.stream.kind";
const POLICY: &str = "cleanup.policy";

/// What one record of the topic is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum StreamKind {
    /// Nobody said; every record is taken.
    #[default]
    Unspecified,
    /// A statement of fact that belongs to no key.
    Unkeyed,
    /// A fact about what its key names; older ones stay true.
    Keyed,
    /// The state of what its key names; the latest value is the one that holds, none is a tombstone.
    Entity,
}

impl StreamKind {
    /// The kind of this name, as the configuration spells it.
    pub fn parse(name: &str) -> Option<Self> {
        Some(match name {
            "unspecified" => Self::Unspecified,
            "unkeyed" => Self::Unkeyed,
            "keyed" => Self::Keyed,
            "entity" => Self::Entity,
            _ => return None,
        })
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::Unspecified => "unspecified",
            Self::Unkeyed => "unkeyed",
            Self::Keyed => "keyed",
            Self::Entity => "entity",
        }
    }
}

fn kind(configs: &BTreeMap<String, String>) -> StreamKind {
    configs.get(KIND).and_then(|name| StreamKind::parse(name)).unwrap_or_default()
}

/// An entity topic whose creator names no policy is compacted.
pub(crate) fn complete(configs: &mut BTreeMap<String, String>) {
    if kind(configs) == StreamKind::Entity {
        configs.entry(POLICY.to_owned()).or_insert_with(|| "compact".to_owned());
    }
}

/// Refuses configurations under which no record could be right, or state would be lost.
pub(crate) fn check(configs: &BTreeMap<String, String>) -> Result<(), Failure> {
    let policy = configs.get(POLICY).map_or("", String::as_str);
    let compact = policy.split(',').any(|item| item.trim() == "compact");
    let message = match kind(configs) {
        StreamKind::Entity if !compact => format!(
            "{KIND}=entity keeps the latest value of each key, which needs compaction: set {POLICY}=compact with it, or choose another kind"
        ),
        StreamKind::Unkeyed if compact => format!(
            "{KIND}=unkeyed has no keys to compact by: set {POLICY}=delete with it, or choose another kind"
        ),
        _ => return Ok(()),
    };
    Err(Failure::new(Error::InvalidConfig, message))
}
