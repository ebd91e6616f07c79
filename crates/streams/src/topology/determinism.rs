//! Operators whose results may differ from run to run, and what a new version changes about that.

use std::collections::BTreeMap;

use super::describe::TopologyDescription;
use super::diff::{ChangeSafety, TopologyChange, change, unnumbered};
use crate::determinism::Nondeterminism;

/// How many operators are so for this reason; generated names have other numbers in another version.
fn reasons(of: &TopologyDescription) -> BTreeMap<(String, Nondeterminism), usize> {
    let mut all = BTreeMap::new();
    for node in of.subtopologies.iter().flat_map(|part| &part.nodes) {
        let name = unnumbered(&node.name).map_or(node.name.clone(), |(kind, rest)| format!("{kind}…{rest}"));
        for why in &node.nondeterminism {
            *all.entry((name.clone(), why.clone())).or_default() += 1;
        }
    }
    all
}

pub(super) fn determinism(old: &TopologyDescription, new: &TopologyDescription) -> Vec<TopologyChange> {
    let (old, new) = (reasons(old), reasons(new));
    let count = |of: &BTreeMap<_, usize>, key: &(String, Nondeterminism)| of.get(key).copied().unwrap_or(0);
    let come = new.keys().filter(|key| count(&new, key) > count(&old, key)).map(|(name, why)| {
        change(
            ChangeSafety::Safe,
            format!("{name} is not deterministic: {why}"),
            "input that is processed again, and a store that is rebuilt, may have other results than before",
        )
    });
    // A new version that has not run yet cannot be known to leave the wall clock alone.
    let told = |key: &&(String, Nondeterminism)| key.1 != Nondeterminism::WallClock;
    let fewer = old.keys().filter(told).filter(|key| count(&new, key) < count(&old, key));
    let gone = fewer.map(|(name, why)| {
        change(
            ChangeSafety::Safe,
            format!("{name} had a reason not to be deterministic, and has none any more: {why}"),
            "nothing: the same input has the same results from now on",
        )
    });
    come.chain(gone).collect()
}
