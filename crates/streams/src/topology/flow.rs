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
    /// Per clock how far the records that come to its operators may be behind the time of their source: what operators above hold
    /// back, also across topics of ours. No watermark may be ahead of them.
    pub clock_behind: Vec<i64>,
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
        let (clock_sources, clock_behind) = (Vec::new(), vec![0; graph.clocks.len()]);
        let mut flow = Self { parents, clock_sources, clock_behind, timed: Vec::new() };
        flow.clock_sources =
            (0..graph.clocks.len()).map(|clock| flow.sources_of_clock(graph, clock)).collect();
        for (node, behind) in flow.behind(graph).into_iter().enumerate() {
            if let Some(clock) = graph.nodes[node].clock {
                flow.clock_behind[clock] = flow.clock_behind[clock].max(behind);
            }
        }
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

    /// Per node how far the records that come to it may be behind the time of their source.
    fn behind(&self, graph: &Graph) -> Vec<i64> {
        let mut behind = vec![0_i64; graph.nodes.len()];
        if graph.nodes.iter().all(|node| node.holds_back == 0) {
            return behind;
        }
        // Most nodes stand behind their parents in the graph, so that one round tells nearly all.
        let mut settled = false;
        while !settled {
            settled = true;
            for node in 0..behind.len() {
                let let_go = |parent: usize| behind[parent].saturating_add(graph.nodes[parent].holds_back);
                let above = self.parents[node].iter().map(|&parent| let_go(parent)).max();
                let written = match &graph.nodes[node].role {
                    Role::Source { topic, .. } if graph.is_internal(topic) => {
                        writers(graph, topic).map(|sink| behind[sink]).max()
                    }
                    _ => None,
                };
                if let Some(most) = above.max(written).filter(|most| *most > behind[node]) {
                    behind[node] = most;
                    settled = false;
                }
            }
        }
        behind
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
