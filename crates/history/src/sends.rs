//! Where one process's values lie: gaps and inversions, within an operation and from one to the next.

use std::collections::HashMap;

use crate::known::Known;
use crate::polls::skipped;
use crate::{Anomaly, Key, Kind, Offset, Operation, Outcome, Value};

/// `interleaved` counts gaps on keys that several processes write.
pub fn check(operations: &[Operation], known: &Known, interleaved: &mut usize) -> Vec<Anomaly> {
    let mut found = Vec::new();
    // The furthest acknowledged value of each process.
    let mut acknowledged: HashMap<(&str, &Key), (Offset, Value)> = HashMap::new();
    for operation in operations {
        let mut before: HashMap<&Key, (Offset, Value)> = HashMap::new();
        for (key, value, offset) in operation.sends() {
            let Some(offset) = offset else { continue };
            let earlier = acknowledged.get(&(operation.process.as_str(), key));
            if let Some(last) = before.get(key).or(earlier).filter(|last| last.0 >= offset) {
                let what = format!(
                    "{} of {key}: value {value} is at {offset}, value {} that was sent before it at {}",
                    operation.name(),
                    last.1,
                    last.0
                );
                found.push(Anomaly::new(Kind::InversionInSend, what));
            }
            if let Some((last, _)) = before.get(key)
                && let Some((between, other)) = skipped(&known.keys[key], *last, offset)
            {
                match known.keys[key].has_one_writer() {
                    true => {
                        let what = format!(
                            "{} of {key}: value {other} at {between} is between its values at {last} and {offset}",
                            operation.name()
                        );
                        found.push(Anomaly::new(Kind::GapInSend, what));
                    }
                    false => *interleaved += 1,
                }
            }
            before.insert(key, (offset, value));
        }
        if operation.outcome == Outcome::Ok {
            for (key, last) in before {
                let known = acknowledged.entry((&operation.process, key)).or_insert(last);
                *known = (*known).max(last);
            }
        }
    }
    found
}
