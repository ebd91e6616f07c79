//! The overview as one client may see it: streams it may describe, groups likewise, services by what is left of them.

use headwater_model::Caller;
use headwater_model::acl::{CLUSTER_NAME, Operation, ResourceType};

use crate::graph::{Graph, Kind, Node};
use crate::observer::{Overview, ServiceRow, thousands};

pub fn sees_stream(caller: &Caller, topic: &str) -> bool {
    caller.sees(Operation::Describe, ResourceType::Topic, topic)
}

/// The store of a service is what its changelog holds.
pub fn may_query(caller: &Caller, group_id: &str, store: &str) -> bool {
    caller.may(Operation::Read, ResourceType::Topic, &format!("{group_id}-{store}-changelog"))
}

/// What is left of the overview.
pub fn of(seen: &Overview, caller: &Caller) -> Overview {
    let mut view = seen.clone();
    let sees = |topic: &str| sees_stream(caller, topic);
    view.streams.retain(|row| sees(&row.name));
    view.groups.retain(|row| {
        let cluster = caller.sees(Operation::Describe, ResourceType::Cluster, CLUSTER_NAME);
        cluster || caller.sees(Operation::Describe, ResourceType::Group, &row.group)
    });
    for row in &mut view.services {
        row.reads.retain(|topic| sees(topic));
        row.writes.retain(|topic| sees(topic));
    }
    view.services.retain(|row| {
        let touched = !row.reads.is_empty() || !row.writes.is_empty();
        touched || caller.sees(Operation::Describe, ResourceType::Group, &row.name)
    });
    let kept = view.streams.len() == seen.streams.len() && view.services == seen.services;
    if !kept {
        // A sum over streams tells of those that are not seen.
        view.throughput.clear();
        view.graph_svg = picture(&view);
    }
    view
}

/// Services and streams, drawn.
pub fn picture(overview: &Overview) -> String {
    let mut graph = Graph::default();
    for service in &overview.services {
        graph.service(&service.name, &service.reads, &service.writes);
    }
    let stream = |name: &str| overview.streams.iter().find(|stream| stream.name == name);
    let service = |name: &str| overview.services.iter().find(|service| service.name == name);
    let team = |service: &ServiceRow| service.team.clone();
    let label = |node: &Node| match node.kind {
        Kind::Service => service(&node.name).map(team).unwrap_or_default(),
        Kind::Stream => stream(&node.name).map_or_else(|| "not there yet".into(), |s| thousands(s.records)),
    };
    let rate = |node: &Node| stream(&node.name).map_or(0.0, |stream| stream.records_per_second);
    graph.svg(label, rate)
}
