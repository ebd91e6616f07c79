//! The overview as one client may see it: streams it may describe, groups likewise, services by what is left of them.

use headwater_model::Caller;
use headwater_model::acl::{CLUSTER_NAME, Operation, ResourceType};
use serde::Deserialize;

use crate::graph::{Graph, Kind, Node};
use crate::observer::{Overview, ServiceRow, StreamRow, thousands};

/// Rows in the page's table of streams: they are sent every second, however many streams there are.
const MOST_STREAMS: usize = 100;

/// What the page's table of streams is asked to show.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Table {
    /// Internal streams, too.
    internal: bool,
    /// A part of the name, in upper or lower case.
    find: String,
    /// The stream whose events are shown.
    stream: Option<String>,
}

impl Table {
    /// The row of the chosen stream, whether the table has room for it or not.
    pub fn chosen(&self, streams: &[StreamRow]) -> Option<StreamRow> {
        let name = self.stream.as_deref()?;
        streams.iter().find(|row| row.name == name).cloned()
    }

    /// Leaves the rows that are asked for; the busiest, where there is no room for all. Returns how many more there are.
    pub fn cut(&self, streams: &mut Vec<StreamRow>) -> usize {
        let find = self.find.to_ascii_lowercase();
        let is_found = |name: &str| find.is_empty() || name.to_ascii_lowercase().contains(&find);
        streams.retain(|row| (self.internal || !row.internal) && is_found(&row.name));
        let more = streams.len().saturating_sub(MOST_STREAMS);
        if more > 0 {
            streams.sort_by(|a, b| {
                let rate = b.records_per_second.total_cmp(&a.records_per_second);
                rate.then_with(|| b.records.cmp(&a.records))
            });
            streams.truncate(MOST_STREAMS);
            streams.sort_by(StreamRow::order);
        }
        more
    }
}

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

#[cfg(test)]
mod tests {
    use super::*;

    fn row(name: String, records: i64, records_per_second: f64) -> StreamRow {
        let internal = name.starts_with('_');
        StreamRow { name, partitions: 1, records, records_per_second, internal }
    }

    fn many() -> Vec<StreamRow> {
        let mut rows: Vec<StreamRow> = (0..150).map(|at| row(format!("stream-{at:03}"), at, 0.0)).collect();
        rows.push(row("_internal".to_owned(), 1_000_000, 9.0));
        rows
    }

    #[test]
    fn the_busiest_streams_are_shown_by_name_and_the_others_are_counted() {
        let mut rows = many();
        rows[3].records_per_second = 0.5;
        assert_eq!(Table::default().cut(&mut rows), 50);
        let names: Vec<&str> = rows.iter().map(|row| row.name.as_str()).collect();
        assert_eq!(
            (names.len(), names[0], names[1], names[99]),
            (100, "stream-003", "stream-051", "stream-149")
        );
        let mut rows = many();
        assert_eq!(Table { internal: true, ..Table::default() }.cut(&mut rows), 51);
        assert_eq!(rows.last().map(|row| row.name.as_str()), Some("_internal"));
    }

    #[test]
    fn what_the_table_has_no_room_for_is_found_by_name() {
        let table =
            Table { find: "M-00".to_owned(), stream: Some("stream-000".to_owned()), ..Table::default() };
        let mut rows = many();
        assert_eq!(table.chosen(&rows).map(|row| row.name).as_deref(), Some("stream-000"));
        assert_eq!((table.cut(&mut rows), rows.len()), (0, 10));
        assert!(table.chosen(&[]).is_none());
    }
}
