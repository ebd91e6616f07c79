//! The store of each kind of task for what is held.

use std::sync::Arc;

use crate::dsl::options::Materialized;
use crate::dsl::parts::key_value_store;
use crate::error::TopologyError;
use crate::graph::{Changelog, DeserializationHandler, Graph, NodeSpec, Role};
use crate::quarantine::entry::{self, Entry};
use crate::quarantine::keeper::Keeper;
use crate::quarantine::{Quarantine, WhenFull};
use crate::serdes::{BytesSerde, SerdeRef};
use crate::task::StoreInfo;
use headwater_model::Bytes;

const PREFIX: &str = "quarantine-";

/// One for each sub-topology, named after the first topic it reads.
pub(super) fn add_stores(graph: &mut Graph, subtopologies: &[Vec<usize>]) {
    let is = |handler: &DeserializationHandler| *handler == DeserializationHandler::Quarantine;
    let source =
        |node: &NodeSpec| matches!(&node.role, Role::Source { handler: Some(handler), .. } if is(handler));
    if is(&graph.handler) || graph.nodes.iter().any(source) {
        graph.quarantine.get_or_insert_default();
    }
    if graph.quarantine.is_none() {
        return;
    }
    if let Some(store) = graph.stores.iter().find(|spec| matches!(spec.changelog, Changelog::SourceTopic(_)))
    {
        let reason = "it is restored from its source topic, which also has what the quarantine holds: call \
                      StreamsBuilder::quarantine() before table()";
        let node = store.name.to_string();
        graph.errors.push(TopologyError::InvalidWindow { node, reason: reason.to_owned() });
    }
    let own = format!("{}-", graph.application_id);
    for nodes in subtopologies {
        let source = nodes.iter().find_map(|&node| match &graph.nodes[node].role {
            Role::Source { topic, .. } => Some((node, topic.clone())),
            _ => None,
        });
        let Some((source, topic)) = source else { continue };
        let name = format!("{PREFIX}{}", topic.strip_prefix(&own).unwrap_or(&topic));
        let (key, value): (SerdeRef<Bytes>, SerdeRef<Entry>) = (Arc::new(BytesSerde), entry::serde());
        let store = key_value_store(graph, &name, &key, &value, None, &Materialized::new());
        graph.connect(source, &[store]);
    }
}

/// That of a task with these stores.
pub(super) fn keeper(graph: &Graph, stores: &[(usize, StoreInfo)]) -> Option<Box<Keeper>> {
    let options = graph.quarantine.clone()?;
    let (index, _) = stores.iter().rev().find(|(_, info)| info.name.starts_with(PREFIX))?;
    Some(Box::new(Keeper::new(*index, options)))
}

/// Where records go that there is no room for.
pub(super) fn overflow_topic(graph: &Graph) -> Option<String> {
    match &graph.quarantine {
        Some(Quarantine { when_full: WhenFull::DeadLetter(topic), .. }) => Some(topic.clone()),
        _ => None,
    }
}
