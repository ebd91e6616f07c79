//! What the records of a topic mean: `headwater.stream.kind`, and which configurations contradict it.
//!
//! Owns the kinds and their agreement with `cleanup.policy`; records are judged by who receives them.

use std::collections::BTreeMap;

use headwater_model::StreamKind;

use crate::error::{Error, Failure};

pub(crate) const KIND: &str = "headwater.stream.kind";
pub(crate) const POLICY: &str = "cleanup.policy";

fn kind(configs: &BTreeMap<String, String>) -> StreamKind {
    configs.get(KIND).and_then(|name| StreamKind::parse(name)).unwrap_or_default()
}

/// Whether records have no keys.
pub(crate) fn is_unkeyed(configs: &BTreeMap<String, String>) -> bool {
    kind(configs) == StreamKind::Unkeyed
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
