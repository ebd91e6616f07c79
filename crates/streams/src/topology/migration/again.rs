//! What has to be processed again so that a store is what it would be if it had been there from the beginning.
//!
//! A record that is processed again reaches every store of its sub-topology and, through topics, of those behind it; and what
//! a sub-topology reads of another one must be written again by that. So all that topics of the application join is emptied
//! and processed together, and nothing else is touched.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::topology::describe::{SubtopologyDescription, TopologyDescription};

/// What is processed again, together.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Again {
    pub subtopologies: Vec<i32>,
    /// Read from the beginning.
    pub sources: Vec<String>,
    /// Written again by the application itself: what is in these is left out.
    pub skipped: Vec<String>,
    /// Emptied.
    pub stores: Vec<String>,
    /// What is written a second time, unless `skip_reprocessed` comes before it.
    pub sinks: Vec<String>,
    /// Operators whose results may be others than before.
    pub nondeterministic: Vec<String>,
}

fn topics<'a>(part: &'a SubtopologyDescription, kind: &'a str) -> impl Iterator<Item = &'a str> {
    let nodes = part.nodes.iter().filter(move |node| node.kind == kind);
    nodes.flat_map(|node| node.topics.iter().map(String::as_str))
}

/// Everything that `first` (sub-topologies of `of`) is joined to by topics that it writes and reads.
pub(super) fn again(of: &TopologyDescription, first: BTreeSet<i32>) -> Option<Again> {
    if first.is_empty() {
        return None;
    }
    let mut writers: BTreeMap<&str, BTreeSet<i32>> = BTreeMap::new();
    let mut readers: BTreeMap<&str, BTreeSet<i32>> = BTreeMap::new();
    for part in &of.subtopologies {
        for topic in topics(part, "sink") {
            writers.entry(topic).or_default().insert(part.id);
        }
        for topic in topics(part, "source") {
            readers.entry(topic).or_default().insert(part.id);
        }
    }
    let between: Vec<BTreeSet<i32>> = writers
        .iter()
        .filter_map(|(topic, writers)| Some(writers.union(readers.get(topic)?).copied().collect()))
        .collect();
    let mut all = first;
    while let Some(joined) = between.iter().find(|ids| !ids.is_disjoint(&all) && !ids.is_subset(&all)) {
        all.extend(joined);
    }
    let mut again = Again { subtopologies: all.iter().copied().collect(), ..Again::default() };
    for part in of.subtopologies.iter().filter(|part| all.contains(&part.id)) {
        for topic in topics(part, "source") {
            let list = if writers.contains_key(topic) { &mut again.skipped } else { &mut again.sources };
            list.push(topic.to_owned());
        }
        again
            .sinks
            .extend(topics(part, "sink").filter(|topic| !readers.contains_key(topic)).map(str::to_owned));
        again.stores.extend(part.stores.iter().map(|store| store.name.clone()));
        let impure = part.nodes.iter().filter(|node| !node.nondeterminism.is_empty());
        again.nondeterministic.extend(impure.map(|node| node.name.clone()));
    }
    Some(again)
}
