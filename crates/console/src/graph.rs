//! The topology as a picture: services and streams in layers, drawn as SVG on the server.
//!
//! A stream stands right of the service that writes it and left of the services that read it. Layers
//! come from longest paths, the order within a layer from the neighbours' mean position.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

const NODE_WIDTH: f64 = 184.0;
const NODE_HEIGHT: f64 = 44.0;
const GAP_X: f64 = 72.0;
const GAP_Y: f64 = 16.0;
const MARGIN: f64 = 8.0;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    Service,
    Stream,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Node {
    pub kind: Kind,
    pub name: String,
}

#[derive(Debug, Default)]
pub struct Graph {
    edges: BTreeSet<(Node, Node)>,
    nodes: BTreeSet<Node>,
}

impl Graph {
    pub fn service(&mut self, name: &str, reads: &[String], writes: &[String]) {
        let service = Node { kind: Kind::Service, name: name.to_owned() };
        self.nodes.insert(service.clone());
        for topic in reads {
            let stream = Node { kind: Kind::Stream, name: topic.clone() };
            self.nodes.insert(stream.clone());
            self.edges.insert((stream, service.clone()));
        }
        for topic in writes {
            let stream = Node { kind: Kind::Stream, name: topic.clone() };
            self.nodes.insert(stream.clone());
            self.edges.insert((service.clone(), stream));
        }
    }

    /// Longest path from a source; an edge back (a service that reads what it writes) does not count.
    fn layers(&self) -> Vec<Vec<&Node>> {
        let mut depth: BTreeMap<&Node, usize> = self.nodes.iter().map(|node| (node, 0)).collect();
        for _ in 0..self.nodes.len() {
            let mut moved = false;
            for (from, to) in &self.edges {
                if self.edges.contains(&(to.clone(), from.clone())) && from.kind == Kind::Stream {
                    continue;
                }
                let wanted = depth[from] + 1;
                if depth[to] < wanted && wanted < self.nodes.len() {
                    depth.insert(to, wanted);
                    moved = true;
                }
            }
            if !moved {
                break;
            }
        }
        let mut layers: Vec<Vec<&Node>> = Vec::new();
        for (node, layer) in depth {
            if layers.len() <= layer {
                layers.resize(layer + 1, Vec::new());
            }
            layers[layer].push(node);
        }
        layers.retain(|layer| !layer.is_empty());
        self.untangle(&mut layers);
        layers
    }

    fn untangle(&self, layers: &mut [Vec<&Node>]) {
        let mean = |node: &Node, other: &[&Node]| -> f64 {
            let places: Vec<usize> = other
                .iter()
                .enumerate()
                .filter(|(_, o)| {
                    self.edges.contains(&((**o).clone(), node.clone()))
                        || self.edges.contains(&(node.clone(), (**o).clone()))
                })
                .map(|(place, _)| place)
                .collect();
            if places.is_empty() {
                f64::MAX
            } else {
                places.iter().sum::<usize>() as f64 / places.len() as f64
            }
        };
        for _ in 0..4 {
            for at in 1..layers.len() {
                let (left, right) = layers.split_at_mut(at);
                let before = &left[at - 1];
                right[0].sort_by(|a, b| mean(a, before).total_cmp(&mean(b, before)));
            }
            for at in (1..layers.len()).rev() {
                let (left, right) = layers.split_at_mut(at);
                let after = &right[0];
                left[at - 1].sort_by(|a, b| mean(a, after).total_cmp(&mean(b, after)));
            }
        }
    }

    /// The picture; `label` gives the second line of a node, `rate` a stream's records a second: the more
    /// flows, the thicker its edges.
    pub fn svg(&self, label: impl Fn(&Node) -> String, rate: impl Fn(&Node) -> f64) -> String {
        if self.nodes.is_empty() {
            return String::new();
        }
        let layers = self.layers();
        let tallest = layers.iter().map(Vec::len).max().unwrap_or(1);
        let height = 2.0 * MARGIN + tallest as f64 * (NODE_HEIGHT + GAP_Y) - GAP_Y;
        let width = 2.0 * MARGIN + layers.len() as f64 * (NODE_WIDTH + GAP_X) - GAP_X;
        let mut place = BTreeMap::new();
        for (column, layer) in layers.iter().enumerate() {
            let used = layer.len() as f64 * (NODE_HEIGHT + GAP_Y) - GAP_Y;
            for (row, node) in layer.iter().enumerate() {
                let x = MARGIN + column as f64 * (NODE_WIDTH + GAP_X);
                let y = (height - used) / 2.0 + row as f64 * (NODE_HEIGHT + GAP_Y);
                place.insert(*node, (x, y));
            }
        }
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width:.0} {height:.0}\" role=\"img\" aria-label=\"Services and streams: {}\" class=\"topology\">",
            escape(&self.sentence())
        );
        for (from, to) in &self.edges {
            let ((x1, y1), (x2, y2)) = (place[from], place[to]);
            let (x1, y1, y2) = (x1 + NODE_WIDTH, y1 + NODE_HEIGHT / 2.0, y2 + NODE_HEIGHT / 2.0);
            let bend = ((x2 - x1) / 2.0).max(24.0);
            let _ = write!(
                svg,
                "<path class=\"edge\" stroke-width=\"{:.1}\" d=\"M{x1:.1} {y1:.1}C{:.1} {y1:.1} {:.1} {y2:.1} {x2:.1} {y2:.1}\"/>",
                thickness(rate(if from.kind == Kind::Stream { from } else { to })),
                x1 + bend,
                x2 - bend
            );
        }
        for (node, (x, y)) in &place {
            let (class, radius) = match node.kind {
                Kind::Service => ("service", 4),
                Kind::Stream => ("stream", 22),
            };
            let (name, full) = (escape(&shorten(&node.name)), escape(&node.name));
            let _ = write!(
                svg,
                "<g class=\"{class}\"><title>{full}</title><rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{NODE_WIDTH}\" height=\"{NODE_HEIGHT}\" rx=\"{radius}\"/>\
                 <text x=\"{:.1}\" y=\"{:.1}\">{name}</text><text class=\"count\" data-count=\"{class}/{full}\" x=\"{:.1}\" y=\"{:.1}\">{}</text></g>",
                x + NODE_WIDTH / 2.0,
                y + 19.0,
                x + NODE_WIDTH / 2.0,
                y + 35.0,
                escape(&label(node))
            );
        }
        svg.push_str("</svg>");
        svg
    }

    /// The same as words, for whoever cannot see the picture.
    fn sentence(&self) -> String {
        let edges: Vec<String> =
            self.edges.iter().map(|(from, to)| format!("{} to {}", from.name, to.name)).collect();
        edges.join(", ")
    }
}

/// One point wider for every tenfold rate.
fn thickness(records_per_second: f64) -> f64 {
    1.2 + records_per_second.max(1.0).log10()
}

fn shorten(name: &str) -> String {
    const LIMIT: usize = 24;
    let letters = name.chars().count();
    if letters <= LIMIT {
        return name.to_owned();
    }
    name.chars().take(LIMIT - 1).chain(['…']).collect()
}

fn escape(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            // XML knows them in no form: with one of them the browser would show no picture at all.
            '\0'..='\u{8}' | '\u{b}' | '\u{c}' | '\u{e}'..='\u{1f}' | '\u{fffe}' | '\u{ffff}' => {
                safe.push(char::REPLACEMENT_CHARACTER);
            }
            other => safe.push(other),
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owned(names: &[&str]) -> Vec<String> {
        names.iter().map(|&name| name.to_owned()).collect()
    }

    #[test]
    fn streams_stand_between_their_writer_and_their_readers() {
        let mut graph = Graph::default();
        graph.service("source", &[], &owned(&["flights", "weather"]));
        graph.service("enrich", &owned(&["flights", "weather"]), &owned(&["enriched"]));
        graph.service("sink", &owned(&["enriched"]), &[]);
        let names: Vec<Vec<&str>> = graph
            .layers()
            .iter()
            .map(|layer| layer.iter().map(|node| node.name.as_str()).collect())
            .collect();
        assert_eq!(
            names,
            [vec!["source"], vec!["flights", "weather"], vec!["enrich"], vec!["enriched"], vec!["sink"]]
        );
    }

    #[test]
    fn a_service_that_reads_its_own_stream_does_not_run_away() {
        let mut graph = Graph::default();
        graph.service("loop", &owned(&["a"]), &owned(&["a"]));
        assert_eq!(graph.layers().len(), 2);
    }

    #[test]
    fn names_are_text_and_never_markup() {
        let mut graph = Graph::default();
        graph.service("<script>alert(1)</script>", &[], &owned(&["a\"b"]));
        let svg = graph.svg(|_| "<b>".into(), |_| 0.0);
        assert!(!svg.contains("<script") && !svg.contains("<b>") && !svg.contains("a\"b"), "{svg}");
    }

    #[test]
    fn a_name_cannot_make_the_picture_unreadable() {
        let mut graph = Graph::default();
        graph.service("bil\u{1}ling\u{ffff}", &[], &owned(&["tab\tstays"]));
        let svg = graph.svg(|_| String::new(), |_| 0.0);
        assert!(svg.contains("bil\u{fffd}ling\u{fffd}") && svg.contains("tab\tstays"), "{svg}");
    }
}
