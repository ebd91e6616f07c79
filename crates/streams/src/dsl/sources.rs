//! Streams of several topics: listed, or chosen by a rule.
//!
//! Each topic is a source of its own under one name, and all of them are one stream: partition n of every topic goes to the same
//! task. How many there are changes no other name, so a service keeps its state when topics come and go.

use std::sync::Arc;

use crate::error::TopologyError;
use crate::graph::MakeNode;
use crate::node::{Payload, Rec, node};
use crate::task::input::TypedSource;

use super::builder::StreamsBuilder;
use super::kstream::KStream;
use super::options::Consumed;

/// Kafka's own topics, which no pattern subscribes to; others may be called alike (Debezium's heartbeats are).
const KAFKAS_OWN: [&str; 3] = ["__consumer_offsets", "__share_group_state", "__transaction_state"];

impl StreamsBuilder {
    /// The topics that exist, from which [`StreamsBuilder::stream_matching`] chooses; of a running cluster
    /// `headwater_runtime::existing_topics` lists them.
    pub fn existing_topics(&mut self, topics: impl IntoIterator<Item = String>) -> &mut Self {
        self.graph.borrow_mut().existing_topics = topics.into_iter().collect();
        self
    }

    /// Reads several topics as one stream.
    pub fn stream_of_topics<K: Payload, V: Payload>(
        &self,
        topics: &[&str],
        consumed: Consumed<K, V>,
    ) -> KStream<K, V> {
        let Consumed { key, value, name, extractor, handler, reset } = consumed;
        let mut graph = self.graph.borrow_mut();
        let name = graph.name(name.as_deref(), "KSTREAM-SOURCE");
        if topics.is_empty() {
            graph.errors.push(TopologyError::NoTopic { node: name.clone() });
        }
        let (key_serde, value_serde) = (Some(key.clone()), Some(value.clone()));
        let mut sources = Vec::new();
        for topic in topics {
            let (key, value, extractor) = (key.clone(), value.clone(), extractor.clone());
            let make =
                move || Box::new(TypedSource::new(key.clone(), value.clone(), extractor.clone())) as Box<_>;
            let source = format!("{name}-{topic}");
            let source = graph.source(source, topic, Arc::new(make), handler.clone());
            graph.nodes[source].reset = reset;
            sources.push(source);
        }
        let pass: MakeNode = Arc::new(|| node(|record: Rec<K, V>, cx| cx.forward(record)));
        let node = graph.operator(name, "merge", &sources, pass);
        drop(graph);
        KStream {
            graph: self.graph.clone(),
            node,
            sources: sources.into_iter().collect(),
            key_serde,
            value_serde,
            needs_repartition: false,
        }
    }

    /// Reads all topics whose names `matches` holds for, of those that exist when the topology is built; one that is created
    /// later is read from the next start on. Kafka's own topics and those of this application are left out.
    ///
    /// ```
    /// # use headwater_streams::serdes::{i64, string};
    /// # use headwater_streams::{Consumed, Grouped, Materialized, Produced, StreamsBuilder, TopologyTestDriver};
    /// let mut builder = StreamsBuilder::new("app");
    /// builder.existing_topics(["orders.eu", "orders.us", "bills"].map(str::to_owned));
    /// builder
    ///     .stream_matching(|topic| topic.starts_with("orders."), Consumed::with(string(), i64()))
    ///     .group_by_key(Grouped::new())
    ///     .count(Materialized::named("orders"))
    ///     .to("counts", Produced::with(string(), i64()));
    /// let mut driver = TopologyTestDriver::new(builder.build()?)?;
    /// for topic in ["orders.us", "orders.eu"] {
    ///     driver.pipe(topic, (&string(), &i64()), (&"ann".to_owned(), &1), 0)?;
    /// }
    /// assert_eq!(driver.read("counts", (&string(), &i64())).last().unwrap().1, Some(2));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn stream_matching<K: Payload, V: Payload>(
        &self,
        matches: impl Fn(&str) -> bool,
        consumed: Consumed<K, V>,
    ) -> KStream<K, V> {
        let graph = self.graph.borrow();
        let own = format!("{}-", graph.application_id);
        let internal = |topic: &str| {
            let ours = topic.ends_with("-changelog") || topic.ends_with("-repartition");
            KAFKAS_OWN.contains(&topic) || (topic.starts_with(&own) && ours)
        };
        let chosen: Vec<String> =
            graph.existing_topics.iter().filter(|t| !internal(t) && matches(t)).cloned().collect();
        drop(graph);
        let chosen: Vec<&str> = chosen.iter().map(String::as_str).collect();
        self.stream_of_topics(&chosen, consumed)
    }
}
