//! The topology as data: JSON for the console, Kafka Streams' text for people.

use std::collections::BTreeSet;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::determinism::Nondeterminism;
use crate::graph::{Changelog, Graph, RepartitionSpec, Role, SINK, StoreSpec};
use crate::store::StoreKind;
use crate::store::external::ExternalTable;

use super::external;

/// All of a topology.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TopologyDescription {
    pub application_id: String,
    pub subtopologies: Vec<SubtopologyDescription>,
    pub globals: Vec<GlobalDescription>,
    #[serde(default)]
    pub repartitions: Vec<RepartitionDescription>,
    /// The names under which operators' clocks are committed with the positions.
    #[serde(default)]
    pub clocks: Vec<String>,
}

/// What one kind of task runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SubtopologyDescription {
    pub id: i32,
    pub nodes: Vec<NodeDescription>,
    /// Its stores; descriptions from before there were any here have none.
    #[serde(default)]
    pub stores: Vec<StoreDescription>,
    /// Topics to which a crash may write again what is in them, whatever the guarantee: the stores are in a database, and only
    /// they are effectively once.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub at_least_once: Vec<String>,
}

/// A store of a sub-topology.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoreDescription {
    pub name: String,
    pub kind: StoreKind,
    /// The topic that it is restored from; a source topic may be its own store's changelog.
    pub changelog: Option<String>,
    /// How long windows, sessions and versions are kept, in milliseconds.
    pub retention_ms: Option<i64>,
    /// The table of a database in which it is kept, with the positions of its tasks' inputs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub external: Option<ExternalTable>,
}

/// A topic through which records go to tasks by their new keys.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RepartitionDescription {
    pub topic: String,
    /// As the topology asks for; without, those of the topics that are read.
    pub partitions: Option<i32>,
}

/// One operator.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeDescription {
    pub name: String,
    /// `source`, `sink`, or what the operator does.
    pub kind: String,
    /// What a source reads or a sink writes.
    pub topics: Vec<String>,
    /// Stores it reads or writes, global ones included.
    pub stores: Vec<String>,
    pub successors: Vec<String>,
    /// Why the same input may have other results the next time.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub nondeterminism: Vec<Nondeterminism>,
}

/// A global table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GlobalDescription {
    pub store: String,
    pub topic: String,
}

pub(super) fn describe(graph: &Graph, subtopologies: &[Vec<usize>]) -> TopologyDescription {
    let node = |&index: &usize| {
        let spec = &graph.nodes[index];
        let topics = match &spec.role {
            Role::Source { topic, .. } | Role::Sink { topic, .. } => vec![topic.to_string()],
            Role::Operator(_) => Vec::new(),
        };
        let local = spec.stores.iter().map(|&store| graph.stores[store].name.to_string());
        let global = spec.globals.iter().map(|&store| graph.globals[store].name.clone());
        NodeDescription {
            name: spec.name.to_string(),
            kind: spec.kind.to_owned(),
            topics,
            stores: local.chain(global).collect(),
            successors: spec
                .children
                .iter()
                .chain(&spec.late)
                .map(|&child| graph.nodes[child].name.to_string())
                .collect(),
            nondeterminism: spec.nondeterminism(),
        }
    };
    let part = |(id, nodes): (usize, &Vec<usize>)| SubtopologyDescription {
        id: id as i32,
        nodes: nodes.iter().map(node).collect(),
        stores: stores(graph, nodes),
        at_least_once: external::repeated(graph, nodes),
    };
    let repartition = |spec: &RepartitionSpec| RepartitionDescription {
        topic: spec.topic.to_string(),
        partitions: spec.partitions,
    };
    let global = |spec: &crate::graph::GlobalSpec| GlobalDescription {
        store: spec.name.clone(),
        topic: spec.topic.clone(),
    };
    TopologyDescription {
        application_id: graph.application_id.clone(),
        subtopologies: subtopologies.iter().enumerate().map(part).collect(),
        globals: graph.globals.iter().map(global).collect(),
        repartitions: graph.repartitions.iter().map(repartition).collect(),
        clocks: graph.clocks.clone(),
    }
}

fn stores(graph: &Graph, nodes: &[usize]) -> Vec<StoreDescription> {
    let used: BTreeSet<usize> =
        nodes.iter().flat_map(|&node| graph.nodes[node].stores.iter().copied()).collect();
    let store = |spec: &StoreSpec| StoreDescription {
        name: spec.name.to_string(),
        kind: spec.kind,
        changelog: match &spec.changelog {
            Changelog::Topic(topic) | Changelog::SourceTopic(topic) => Some(topic.to_string()),
            Changelog::External(_) | Changelog::Off => None,
        },
        retention_ms: spec.retention_ms,
        external: match &spec.changelog {
            Changelog::External(table) => Some((**table).clone()),
            _ => None,
        },
    };
    used.into_iter().map(|index| store(&graph.stores[index])).collect()
}

impl fmt::Display for TopologyDescription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "Topologies:")?;
        for part in &self.subtopologies {
            writeln!(f, "   Sub-topology: {}", part.id)?;
            for node in &part.nodes {
                match node.kind.as_str() {
                    "source" => {
                        writeln!(f, "    Source: {} (topics: [{}])", node.name, node.topics.join(", "))?
                    }
                    SINK if node.topics.is_empty() => {
                        writeln!(f, "    Sink: {} (topic: as each record says)", node.name)?
                    }
                    SINK => writeln!(f, "    Sink: {} (topic: {})", node.name, node.topics.join(", "))?,
                    _ => writeln!(f, "    Processor: {} (stores: [{}])", node.name, node.stores.join(", "))?,
                }
                if node.kind != SINK {
                    let next = if node.successors.is_empty() {
                        "none".to_owned()
                    } else {
                        node.successors.join(", ")
                    };
                    writeln!(f, "      --> {next}")?;
                }
                let parents = part.nodes.iter().filter(|other| other.successors.contains(&node.name));
                let parents: Vec<&str> = parents.map(|parent| parent.name.as_str()).collect();
                if node.kind != "source" {
                    writeln!(
                        f,
                        "      <-- {}",
                        if parents.is_empty() { "none".to_owned() } else { parents.join(", ") }
                    )?;
                }
            }
        }
        for global in &self.globals {
            writeln!(f, "   Global store: {} (topic: {})", global.store, global.topic)?;
        }
        for part in &self.subtopologies {
            for (store, table) in
                part.stores.iter().filter_map(|store| Some((&store.name, store.external.as_ref()?)))
            {
                let table = &table.name;
                writeln!(
                    f,
                    "   External store: {store} (table: {table}; with the input positions, effectively once)"
                )?;
            }
            if !part.at_least_once.is_empty() {
                let topics = part.at_least_once.join(", ");
                writeln!(
                    f,
                    "   At least once: sub-topology {} writes to {topics}: a crash may write it again",
                    part.id
                )?;
            }
        }
        // Behind what Kafka Streams writes, and only where there is something to say.
        let nodes = self.subtopologies.iter().flat_map(|part| &part.nodes);
        for node in nodes.filter(|node| !node.nondeterminism.is_empty()) {
            let why: Vec<String> = node.nondeterminism.iter().map(ToString::to_string).collect();
            writeln!(f, "   Not deterministic: {} ({})", node.name, why.join("; "))?;
        }
        Ok(())
    }
}
