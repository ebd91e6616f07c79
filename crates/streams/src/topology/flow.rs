//! Who feeds whom, across topics of ours: which lanes reach an input, and which sources an operator's watermark follows.

use std::collections::{BTreeMap, BTreeSet};

use crate::error::TopologyError;
use crate::graph::{Graph, Role};
use crate::lanes::topic_id;

/// The graph's edges backwards, and what follows from them.
pub(super) struct Flow {
    parents: Vec<Vec<usize>>,
    /// Per clock the source nodes above its operators, within their sub-topology.
    pub clock_sources: Vec<BTreeSet<usize>>,
    /// Nodes whose records reach an operator with a clock, so that their time has to travel on.
    pub timed: Vec<bool>,
}

impl Flow {
    pub fn new(graph: &Graph) -> Self {
        let mut parents = vec![Vec::new(); graph.nodes.len()];
        for (index, node) in graph.nodes.iter().enumerate() {
            for &child in node.children.iter().chain(&node.late) {
                parents[child].push(index);
            }
        }
        let mut flow = Self { parents, clock_sources: Vec::new(), timed: Vec::new() };
        flow.clock_sources =
            (0..graph.clocks.len()).map(|clock| flow.sources_of_clock(graph, clock)).collect();
        flow.timed = flow.timed_nodes(graph);
        flow
    }

    /// The node, and all that leads to it within its sub-topology.
    pub fn above(&self, node: usize) -> BTreeSet<usize> {
        let mut seen = BTreeSet::from([node]);
        let mut open = vec![node];
        while let Some(node) = open.pop() {
            open.extend(self.parents[node].iter().copied().filter(|parent| seen.insert(*parent)));
        }
        seen
    }

    fn sources_of_clock(&self, graph: &Graph, clock: usize) -> BTreeSet<usize> {
        let operators = (0..graph.nodes.len()).filter(|&node| graph.nodes[node].clock == Some(clock));
        let above = operators.flat_map(|node| self.above(node));
        above.filter(|&node| matches!(graph.nodes[node].role, Role::Source { .. })).collect()
    }

    fn timed_nodes(&self, graph: &Graph) -> Vec<bool> {
        let mut timed = vec![false; graph.nodes.len()];
        let mut open: Vec<usize> =
            (0..graph.nodes.len()).filter(|&node| graph.nodes[node].clock.is_some()).collect();
        while let Some(node) = open.pop() {
            if std::mem::replace(&mut timed[node], true) {
                continue;
            }
            open.extend(&self.parents[node]);
            if let Role::Source { topic, .. } = &graph.nodes[node].role
                && graph.is_internal(topic)
            {
                open.extend(writers(graph, topic));
            }
        }
        timed
    }

    /// The lanes that reach a repartition topic: their topics, with the number of partitions of each.
    pub fn lanes(&self, graph: &Graph, counts: &BTreeMap<String, i32>, topic: &str) -> BTreeMap<u32, i32> {
        let mut lanes = BTreeMap::new();
        let mut seen = BTreeSet::new();
        let mut open = vec![topic.to_owned()];
        while let Some(topic) = open.pop() {
            if !seen.insert(topic.clone()) {
                continue;
            }
            if !graph.is_internal(&topic) {
                lanes.insert(topic_id(&topic), counts.get(&topic).copied().unwrap_or(0));
                continue;
            }
            for node in writers(graph, &topic).flat_map(|sink| self.above(sink)) {
                if let Role::Source { topic, .. } = &graph.nodes[node].role {
                    open.push(topic.to_string());
                }
            }
        }
        lanes
    }
}

/// Lanes tell topics apart by their hash.
pub(super) fn check_lanes(graph: &Graph) -> Result<(), TopologyError> {
    let mut seen = BTreeMap::new();
    for node in &graph.nodes {
        if let Role::Source { topic, .. } = &node.role
            && let Some(other) = seen.insert(topic_id(topic), topic.clone())
            && other != *topic
        {
            let reason =
                "its murmur2 hash equals that of another topic the application reads; rename one of them";
            return Err(TopologyError::InvalidName { given: topic.to_string(), reason });
        }
    }
    Ok(())
}

/// Clocks are committed under the hash of their name.
pub(super) fn check_clocks(graph: &Graph) -> Result<(), TopologyError> {
    let mut seen = BTreeMap::new();
    for name in &graph.clocks {
        if seen.insert(topic_id(name), name).is_some_and(|other| other != name) {
            let reason =
                "its murmur2 hash equals that of another windowed operator or its store; rename one of them";
            return Err(TopologyError::InvalidName { given: name.clone(), reason });
        }
    }
    Ok(())
}

fn writers<'a>(graph: &'a Graph, topic: &'a str) -> impl Iterator<Item = usize> + 'a {
    let writes =
        move |node: &usize| matches!(&graph.nodes[*node].role, Role::Sink { topic: t, .. } if **t == *topic);
    (0..graph.nodes.len()).filter(writes)
}
