//! What keeps records longer than the topic's settings say.

use std::collections::BTreeMap;

use super::facts::{Facts, Known};
use crate::observe::finding::{Finding, Place, Severity, duration};

/// Clocks of producers may be ahead by so much; Kafka's own default for `message.timestamp.after.max.ms`.
const FUTURE_MS: i64 = 3_600_000;

pub fn look(facts: &Facts, findings: &mut Vec<Finding>) {
    let mut unlimited: BTreeMap<&str, ()> = BTreeMap::new();
    for known in &facts.partitions {
        let settings = &known.topic.settings;
        if !settings.delete {
            continue;
        }
        if settings.retention_ms < 0 && settings.retention_bytes < 0 {
            if !known.topic.is_internal() && known.bytes() > 0 {
                unlimited.insert(known.topic.name(), ());
            }
        } else if settings.retention_ms >= 0 {
            findings.extend(future(facts, known));
            findings.extend(held_by_transaction(facts, known));
        }
    }
    for topic in unlimited.keys() {
        findings.push(
            Finding::new(Severity::Note, "retention_off", format!("{topic} keeps everything"))
                .at(Place { topic: Some((*topic).to_owned()), ..Place::default() })
                .why("retention.ms and retention.bytes are -1, so nothing of it is ever deleted")
                .next(format!("headwater topic describe {topic}; if that is not meant, headwater topic alter {topic} --config retention.ms=604800000 (a week)")),
        );
    }
}

/// Records from the future are not old, and hold what follows them.
fn future(facts: &Facts, known: &Known) -> Option<Finding> {
    let late = known.usage.extents.iter().find(|extent| extent.max_timestamp > facts.now + FUTURE_MS)?;
    let ahead = duration(late.max_timestamp - facts.now);
    let what = format!("{} has records that are dated {ahead} in the future", known.name());
    Some(
        Finding::new(Severity::Warning, "future_timestamps", what)
            .at(Place {
                path: Some(late.file.name()),
                first_offset: Some(late.first),
                last_offset: Some(late.last),
                ..Place::partition(known.topic.name(), known.index())
            })
            .why("retention.ms deletes from the front, so they and all that follows stay until then")
            .next(format!(
                "set the producer's clock right; set retention.bytes of {}, or message.timestamp.type=LogAppendTime",
                known.topic.name()
            )),
    )
}

/// Old records that an open transaction keeps.
fn held_by_transaction(facts: &Facts, known: &Known) -> Option<Finding> {
    let first = known.usage.extents.first()?;
    let overdue = facts.now - first.max_timestamp - known.topic.settings.retention_ms;
    let grace = i64::try_from(facts.shared.config.cleaner.retention_check.as_millis()).unwrap_or(i64::MAX);
    let held = first.max_timestamp >= 0
        && first.last >= known.usage.offsets.last_stable
        && !known.usage.open.is_empty()
        && overdue > grace.saturating_mul(2);
    held.then(|| {
        let what =
            format!("an open transaction keeps records of {} {} too long", known.name(), duration(overdue));
        Finding::new(Severity::Warning, "retention_held", what)
            .at(Place {
                first_offset: Some(first.first),
                ..Place::partition(known.topic.name(), known.index())
            })
            .why("retention stops at the last stable offset")
            .next("end the transaction; its own finding has the command")
    })
}
