//! What has to hold where stores are in a database: nothing else can be committed together with them.

use std::collections::BTreeSet;

use crate::error::TopologyError;
use crate::graph::{Changelog, Graph, Role, StoreSpec};

fn refuse(graph: &mut Graph, store: usize, reason: String) {
    let store = graph.stores[store].name.to_string();
    graph.errors.push(TopologyError::External { store, reason });
}

/// A task's positions are in one place: beside its external stores, or in the group beside its changelogs.
pub(super) fn check(graph: &mut Graph, subtopologies: &[Vec<usize>]) {
    let mut tables = BTreeSet::new();
    for store in 0..graph.stores.len() {
        let Changelog::External(table) = &graph.stores[store].changelog else { continue };
        let table = table.clone();
        if let Some(fault) = table.fault() {
            refuse(graph, store, fault);
        }
        if !tables.insert(table.name.clone()) {
            refuse(
                graph,
                store,
                format!("table {:?} is another store's, too: give each its own", table.name),
            );
        }
    }
    for nodes in subtopologies {
        let used: BTreeSet<usize> =
            nodes.iter().flat_map(|&node| graph.nodes[node].stores.iter().copied()).collect();
        let (outside, inside): (Vec<usize>, Vec<usize>) =
            used.into_iter().partition(|&store| is_external(&graph.stores[store]));
        if let (Some(&outside), Some(&inside)) = (outside.first(), inside.first()) {
            let other = &graph.stores[inside].name;
            let reason = format!(
                "its tasks have store {other:?}, too, which is not external: the two cannot be committed together, so a crash would count twice in one of them; make both external, or put a repartition() between them"
            );
            refuse(graph, outside, reason);
        }
    }
}

pub(super) fn is_external(store: &StoreSpec) -> bool {
    matches!(store.changelog, Changelog::External(_))
}

/// What tasks with these nodes write, if a crash may write it again: with external stores only they are effectively once.
pub(super) fn repeated(graph: &Graph, nodes: &[usize]) -> Vec<String> {
    let external =
        |&node: &usize| graph.nodes[node].stores.iter().any(|&store| is_external(&graph.stores[store]));
    if !nodes.iter().any(external) {
        return Vec::new();
    }
    let written = nodes.iter().filter_map(|&node| match &graph.nodes[node].role {
        Role::Sink { topic, .. } => Some(topic.to_string()),
        _ => None,
    });
    written.collect::<BTreeSet<_>>().into_iter().collect()
}
