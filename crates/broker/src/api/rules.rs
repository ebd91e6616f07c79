//! What the records of a topic must be like, by its cleanup policy and its kind of stream.
//!
//! Only topics with such a rule have their batches opened.

use bytes::Bytes;
use headwater_coordinator::{StreamKind, TopicSettings};
use headwater_wire::filter::OpenBatch;
use headwater_wire::{BatchError, BatchHeader};

/// A record that breaks a rule: its place in the batch, and the rule.
pub type Broken = (i32, &'static str);

/// At most so many are named.
const NAMED: usize = 10;

fn broken(settings: &TopicSettings, has_key: bool, has_value: bool) -> Option<&'static str> {
    match settings.kind {
        StreamKind::Unkeyed if has_key => Some("an unkeyed stream has no keys: send it without one"),
        StreamKind::Keyed if !has_key => Some("a keyed stream needs a key in every record"),
        StreamKind::Keyed if !has_value => {
            Some("a keyed stream holds facts, so a value cannot be null: only entity streams delete")
        }
        StreamKind::Entity if !has_key => {
            Some("an entity stream needs a key in every record: it names the entity")
        }
        _ if settings.compact && !has_key => Some("a compacted topic needs a key in every record"),
        _ => None,
    }
}

/// The records of a batch that break a rule of their topic.
///
/// # Errors
/// When the batch cannot be opened.
pub fn check(
    settings: &TopicSettings,
    header: &BatchHeader,
    bytes: &Bytes,
) -> Result<Vec<Broken>, BatchError> {
    if settings.kind == StreamKind::Unspecified && !settings.compact {
        return Ok(Vec::new());
    }
    let open = OpenBatch::decompress(*header, bytes)?;
    let (mut all, mut index) = (Vec::new(), 0);
    open.visit(|record| {
        if let Some(rule) = broken(settings, record.key.is_some(), record.has_value)
            && all.len() < NAMED
        {
            all.push((index, rule));
        }
        index += 1;
    })?;
    Ok(all)
}
