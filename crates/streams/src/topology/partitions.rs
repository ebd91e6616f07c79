//! Sub-topologies, and how many partitions internal topics have.
//!
//! A repartition topic has as many partitions as the widest source of the sub-topology that writes it, unless it is
//! joined with a topic whose count is fixed, or has a count of its own. Repartition topics that are joined with each other
//! form a unit and get the largest count of any member.

use std::collections::{BTreeMap, BTreeSet};

use crate::error::TopologyError;
use crate::graph::{Graph, Role};

struct UnionFind(Vec<usize>);

impl UnionFind {
    fn new(len: usize) -> Self {
        Self((0..len).collect())
    }

    fn root(&mut self, mut at: usize) -> usize {
        while self.0[at] != at {
            self.0[at] = self.0[self.0[at]];
            at = self.0[at];
        }
        at
    }

    fn join(&mut self, a: usize, b: usize) {
        let (a, b) = (self.root(a), self.root(b));
        self.0[a.max(b)] = a.min(b);
    }
}

/// Node indexes per sub-topology, ordered by their first node.
pub(super) fn connected_parts(graph: &Graph) -> Vec<Vec<usize>> {
    let nodes = graph.nodes.len();
    let mut parts = UnionFind::new(nodes + graph.stores.len());
    for (index, node) in graph.nodes.iter().enumerate() {
        for &child in node.children.iter().chain(&node.late) {
            parts.join(index, child);
        }
        for &store in &node.stores {
            parts.join(index, nodes + store);
        }
    }
    let mut grouped: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for node in 0..nodes {
        grouped.entry(parts.root(node)).or_default().push(node);
    }
    grouped.into_values().collect()
}

fn source_topic(graph: &Graph, node: usize) -> Option<&str> {
    match &graph.nodes[node].role {
        Role::Source { topic, .. } => Some(topic),
        _ => None,
    }
}

/// The partition counts of all topics that any node reads.
pub(super) fn topic_counts(
    graph: &Graph,
    subtopologies: &[Vec<usize>],
    existing: &dyn Fn(&str) -> Option<i32>,
) -> Result<BTreeMap<String, i32>, TopologyError> {
    let mut counts = fixed_counts(graph, existing)?;
    spread_fixed_counts(graph, &mut counts)?;
    let units = units(graph, &counts);
    loop {
        let mut unresolved = None;
        let mut progress = false;
        for unit in &units {
            if unit.iter().all(|topic| counts.contains_key(*topic)) {
                continue;
            }
            let by_writer = unit.iter().filter(|topic| !follows_partner(graph, topic));
            let writers = by_writer.flat_map(|topic| upstream_topics(graph, subtopologies, topic));
            let outside: BTreeSet<&str> = writers.filter(|topic| !unit.contains(topic)).collect();
            let known: Vec<i32> = outside.iter().filter_map(|topic| counts.get(*topic).copied()).collect();
            match known.iter().max() {
                Some(count) if known.len() == outside.len() => {
                    counts.extend(unit.iter().map(|topic| ((*topic).to_owned(), *count)));
                    progress = true;
                }
                _ => unresolved = unit.iter().next(),
            }
        }
        match unresolved {
            None => return Ok(counts),
            Some(topic) if !progress => {
                return Err(TopologyError::UnknownPartitions { topic: (*topic).to_owned() });
            }
            Some(_) => {}
        }
    }
}

/// Counts of topics that exist, and of repartition topics that were given one.
fn fixed_counts(
    graph: &Graph,
    existing: &dyn Fn(&str) -> Option<i32>,
) -> Result<BTreeMap<String, i32>, TopologyError> {
    let mut counts = BTreeMap::new();
    let unknown = |topic: &str, node: &str| TopologyError::UnknownTopic {
        topic: topic.to_owned(),
        node: node.to_owned(),
    };
    for (index, node) in graph.nodes.iter().enumerate() {
        let Some(topic) = source_topic(graph, index) else { continue };
        let count = match graph.repartitions.iter().find(|repartition| &*repartition.topic == topic) {
            Some(repartition) => repartition.partitions,
            None => Some(existing(topic).ok_or_else(|| unknown(topic, &node.name))?),
        };
        if let Some(count) = count {
            counts.insert(topic.to_owned(), count);
        }
    }
    for global in &graph.globals {
        existing(&global.topic).ok_or_else(|| unknown(&global.topic, &global.name))?;
    }
    Ok(counts)
}

/// Gives repartition topics the count of the fixed topic they are joined with, and checks that fixed counts agree.
fn spread_fixed_counts(graph: &Graph, counts: &mut BTreeMap<String, i32>) -> Result<(), TopologyError> {
    let mut settled = false;
    while !settled {
        settled = true;
        for group in &graph.copartitions {
            let topics: Vec<&str> =
                group.sources.iter().filter_map(|&node| source_topic(graph, node)).collect();
            let mut fixed = topics.iter().filter_map(|topic| Some((*topic, *counts.get(*topic)?)));
            let Some((first, first_partitions)) = fixed.next() else { continue };
            if let Some((second, second_partitions)) = fixed.find(|(_, count)| *count != first_partitions) {
                return Err(TopologyError::NotCopartitioned {
                    node: group.node.to_string(),
                    first: first.to_owned(),
                    first_partitions,
                    second: second.to_owned(),
                    second_partitions,
                });
            }
            for topic in topics {
                if counts.insert(topic.to_owned(), first_partitions).is_none() {
                    settled = false;
                }
            }
        }
    }
    Ok(())
}

/// Repartition topics without a count, those joined with each other together.
fn units<'a>(graph: &'a Graph, counts: &BTreeMap<String, i32>) -> Vec<BTreeSet<&'a str>> {
    let open: Vec<&str> =
        graph.repartitions.iter().map(|r| &*r.topic).filter(|topic| !counts.contains_key(*topic)).collect();
    let mut parts = UnionFind::new(open.len());
    for group in &graph.copartitions {
        let members = group.sources.iter().filter_map(|&node| source_topic(graph, node));
        let members: Vec<usize> = members.filter_map(|topic| open.iter().position(|o| *o == topic)).collect();
        for pair in members.windows(2) {
            parts.join(pair[0], pair[1]);
        }
    }
    let mut grouped: BTreeMap<usize, BTreeSet<&str>> = BTreeMap::new();
    for (index, topic) in open.iter().enumerate() {
        grouped.entry(parts.root(index)).or_default().insert(topic);
    }
    grouped.into_values().collect()
}

fn follows_partner(graph: &Graph, topic: &str) -> bool {
    graph.repartitions.iter().any(|spec| &*spec.topic == topic && spec.follows_partner)
}

/// The topics read by the sub-topologies that write `topic`.
fn upstream_topics<'a>(graph: &'a Graph, subtopologies: &[Vec<usize>], topic: &str) -> Vec<&'a str> {
    let writes =
        |&node: &usize| matches!(&graph.nodes[node].role, Role::Sink { topic: t, .. } if **t == *topic);
    let writers = subtopologies.iter().filter(|part| part.iter().any(writes));
    writers.flat_map(|part| part.iter().filter_map(|&node| source_topic(graph, node))).collect()
}
