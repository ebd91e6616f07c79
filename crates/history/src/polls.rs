//! What one reader was given in a row: gaps and inversions, within a poll and from one to the next.

use std::collections::HashMap;
use std::ops::Bound;

use crate::known::{Known, OfKey};
use crate::{Anomaly, Key, Kind, Offset, Operation, Step, Value};

pub fn check(operations: &[Operation], known: &Known) -> Vec<Anomaly> {
    let mut found = Vec::new();
    let mut positions: HashMap<(&str, &Key), Offset> = HashMap::new();
    for operation in operations {
        for step in &operation.steps {
            match step {
                Step::Assign {} => positions.retain(|(process, _), _| *process != operation.process),
                Step::Poll { key, records, .. } => {
                    let before = positions.get(&(operation.process.as_str(), key)).copied();
                    let of_key = &known.keys[key];
                    follow(operation, key, before, records, of_key, &mut found);
                    if let Some((last, _)) = records.last() {
                        positions.insert((&operation.process, key), *last);
                    }
                }
                Step::Send { .. } | Step::Position { .. } | Step::Found { .. } => {}
            }
        }
    }
    found
}

fn follow(
    reader: &Operation,
    key: &Key,
    mut before: Option<Offset>,
    records: &[(Offset, Value)],
    of_key: &OfKey,
    found: &mut Vec<Anomaly>,
) {
    for (offset, value) in records {
        if let Some(before) = before {
            if *offset <= before {
                let what =
                    format!("{} of {key}: offset {offset} (value {value}) after {before}", reader.name());
                found.push(Anomaly::new(Kind::InversionInPoll, what));
            } else if let Some((missed, value)) = skipped(of_key, before, *offset) {
                let what = format!(
                    "{} of {key}: offset {offset} after {before}, without value {value} at {missed}",
                    reader.name()
                );
                found.push(Anomaly::new(Kind::GapInPoll, what));
            }
        }
        before = Some(*offset);
    }
}

/// The first committed value between two offsets.
pub fn skipped(of_key: &OfKey, after: Offset, before: Offset) -> Option<(Offset, Value)> {
    if before <= after {
        return None;
    }
    let between = of_key.committed.range((Bound::Excluded(after), Bound::Excluded(before)));
    between.map(|(offset, value)| (*offset, *value)).next()
}
