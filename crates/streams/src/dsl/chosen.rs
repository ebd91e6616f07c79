//! Sinks of which each record chooses its topic (Kafka Streams' `TopicNameExtractor`).

use std::sync::Arc;

use crate::error::TopologyError;
use crate::graph::{MakeNode, SINK};
use crate::node::{Payload, Rec, node};

use super::kstream::KStream;
use super::options::Produced;
use super::parts::Writer;

impl<K: Payload, V: Payload> KStream<K, V> {
    /// Writes each record to the topic that `choose` names, where Kafka's default partitioner puts its key. These topics have to
    /// exist: the application creates only those that it knows before.
    ///
    /// ```
    /// # use headwater_streams::serdes::string;
    /// # use headwater_streams::{Consumed, Produced, StreamsBuilder, TopologyTestDriver};
    /// let builder = StreamsBuilder::new("app");
    /// builder
    ///     .stream("orders", Consumed::with(string(), string()))
    ///     .to_chosen(|_, country| format!("orders.{country}"), Produced::with(string(), string()));
    /// let mut driver = TopologyTestDriver::new(builder.build()?)?;
    /// for country in ["eu", "us", "eu"] {
    ///     driver.pipe("orders", (&string(), &string()), (&"ann".to_owned(), &country.to_owned()), 0)?;
    /// }
    /// assert_eq!((driver.read_output("orders.eu").len(), driver.read_output("orders.us").len()), (2, 1));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn to_chosen(
        &self,
        choose: impl Fn(&K, &V) -> String + Send + Sync + 'static,
        produced: Produced<K, V>,
    ) {
        let Produced { key, value, name, partitioner } = produced;
        let mut graph = self.graph.borrow_mut();
        let name = graph.name(name.as_deref(), "KSTREAM-SINK");
        if partitioner.is_some() {
            let reason = "how many partitions a topic has is not known before it is chosen: leave Produced::partitioner out";
            let (node, reason) = (name.clone(), reason.to_owned());
            graph.errors.push(TopologyError::InvalidWindow { node, reason });
        }
        let (choose, writer) = (Arc::new(choose), Arc::new(Writer { key, value, partitioner: None }));
        let make: MakeNode = Arc::new(move || {
            let (choose, writer) = (choose.clone(), writer.clone());
            node(move |record: Rec<K, V>, cx| {
                let topic: Arc<str> = Arc::from(choose(&record.key, &record.value));
                writer.write(&topic, &record, false, cx)
            })
        });
        graph.operator(name, SINK, &[self.node], make);
    }
}
