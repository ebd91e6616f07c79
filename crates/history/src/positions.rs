//! Positions that transactions commit for a group: the last one that took effect, never one of an aborted
//! transaction, and never an older one.

use std::collections::BTreeMap;

use crate::{Anomaly, Key, Kind, Offset, Operation, Outcome, Step};

type Group<'a> = (&'a str, &'a Key);

pub fn check(operations: &[Operation]) -> Vec<Anomaly> {
    let mut committed: BTreeMap<Group, Vec<(Outcome, Offset)>> = BTreeMap::new();
    let mut last: BTreeMap<Group, Option<Offset>> = BTreeMap::new();
    for operation in operations {
        for step in &operation.steps {
            match step {
                Step::Position { group, key, offset } => {
                    let of_group = committed.entry((group, key)).or_default();
                    of_group.push((operation.outcome, *offset));
                }
                Step::Found { group, key, offset } => drop(last.insert((group, key), *offset)),
                _ => {}
            }
        }
    }
    let found = last.into_iter().filter_map(|(group, found)| {
        let history = committed.get(&group).map_or(&[][..], Vec::as_slice);
        let allowed = allowed(history);
        let what = format!(
            "group {} of {}: the position is {found:?}, where only {allowed:?} can be",
            group.0, group.1
        );
        (!allowed.contains(&found)).then(|| Anomaly::new(Kind::WrongPosition, what))
    });
    found.collect()
}

/// What may be there after these, in their order: that of the last that took effect, or of one after it whose end is
/// unknown.
fn allowed(history: &[(Outcome, Offset)]) -> Vec<Option<Offset>> {
    let last = history.iter().rposition(|(outcome, _)| *outcome == Outcome::Ok);
    let known = last.map(|place| history[place].1);
    let unknown = history[last.map_or(0, |place| place + 1)..].iter();
    let unknown = unknown.filter(|(outcome, _)| *outcome == Outcome::Info).map(|(_, offset)| Some(*offset));
    std::iter::once(known).chain(unknown).collect()
}
