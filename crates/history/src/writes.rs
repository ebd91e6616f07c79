//! What became of each value: aborted reads, two values at one offset, duplicates, lost and unseen writes,
//! intermediate reads.

use std::collections::{BTreeMap, BTreeSet};

use crate::known::Known;
use crate::{Anomaly, Key, Kind, Offset, Operation, Outcome, Step, Value};

pub fn check(operations: &[Operation], known: &Known) -> Vec<Anomaly> {
    let mut found = Vec::new();
    places(operations, known, &mut found);
    reads(operations, known, &mut found);
    missing(operations, known, &mut found);
    found
}

/// An offset has one value, a value one offset.
fn places(operations: &[Operation], known: &Known, found: &mut Vec<Anomaly>) {
    for (key, of_key) in &known.keys {
        let mut offsets: BTreeMap<Value, BTreeSet<Offset>> = BTreeMap::new();
        for (offset, values) in &of_key.at {
            if values.len() > 1 {
                let names: Vec<String> =
                    values.iter().map(|value| known.describe(operations, *value)).collect();
                let what = format!("{key} at offset {offset}: {}", names.join(" and "));
                found.push(Anomaly::new(Kind::TwoValuesAtOneOffset, what));
            }
            for value in values {
                offsets.entry(*value).or_default().insert(*offset);
            }
        }
        for (value, offsets) in offsets.iter().filter(|(_, offsets)| offsets.len() > 1) {
            let what = format!("{} is in {key} at {offsets:?}", known.describe(operations, *value));
            found.push(Anomaly::new(Kind::Duplicate, what));
        }
    }
}

/// What committed readers must not be given: aborted values, values of other keys or of nobody, and values whose
/// commit nobody had asked for by then.
fn reads(operations: &[Operation], known: &Known, found: &mut Vec<Anomaly>) {
    for reader in operations {
        let committed = reader.steps.iter().filter_map(|step| match step {
            Step::Poll { key, records, uncommitted: false, .. } => Some((key, records)),
            _ => None,
        });
        for (key, records) in committed {
            for (offset, value) in records {
                if let Some(kind) = wrong_read(operations, known, reader, key, *value) {
                    let what = known.describe(operations, *value);
                    let what = format!("{} was given {what} of {key} at offset {offset}", reader.name());
                    found.push(Anomaly::new(kind, what));
                }
            }
        }
    }
}

fn wrong_read(
    operations: &[Operation],
    known: &Known,
    reader: &Operation,
    key: &Key,
    value: Value,
) -> Option<Kind> {
    let Some(writer) = known.writers.get(&value) else { return Some(Kind::AbortedRead) };
    let operation = &operations[writer.operation];
    if operation.outcome == Outcome::Fail || writer.key != key {
        return Some(Kind::AbortedRead);
    }
    // A transaction may read its own keys; it is not given what it wrote before it has ended either.
    let early = operation.ending.is_some_and(|ending| reader.ended.is_some_and(|ended| ended < ending));
    early.then_some(Kind::IntermediateRead)
}

/// Every acknowledged value is among the last reads.
fn missing(operations: &[Operation], known: &Known, found: &mut Vec<Anomaly>) {
    let acknowledged = operations.iter().filter(|operation| operation.outcome == Outcome::Ok);
    for operation in acknowledged {
        for (key, value, offset) in operation.sends() {
            let Some(of_key) = known.keys.get(key) else { continue };
            let is_read = known.polled.contains(&(key, value));
            let passed = offset.zip(of_key.read_to).is_some_and(|(offset, read_to)| offset < read_to);
            let is_there = match of_key.has_last {
                true => of_key.read_last.contains(&value),
                // Nobody read everything: only what others came past is known to be missing.
                false => is_read || !passed,
            };
            if is_there {
                continue;
            }
            let kind = if is_read || passed { Kind::LostWrite } else { Kind::Unseen };
            let place = offset.map_or_else(String::new, |offset| format!(" at offset {offset}"));
            let what = format!("{} was acknowledged{place} of {key}", known.describe(operations, value));
            found.push(Anomaly::new(kind, what));
        }
    }
    gone(operations, known, found);
}

/// Nobody knows whether these were written, but a committed reader was given them once: they must stay.
fn gone(operations: &[Operation], known: &Known, found: &mut Vec<Anomaly>) {
    for (key, of_key) in known.keys.iter().filter(|(_, of_key)| of_key.has_last) {
        for (offset, value) in &of_key.committed {
            let unknown = known
                .writers
                .get(value)
                .is_some_and(|writer| operations[writer.operation].outcome == Outcome::Info);
            if unknown && !of_key.read_last.contains(value) {
                let what = known.describe(operations, *value);
                let what = format!("{what} was read from {key} at offset {offset}, and is gone");
                found.push(Anomaly::new(Kind::LostWrite, what));
            }
        }
    }
}
