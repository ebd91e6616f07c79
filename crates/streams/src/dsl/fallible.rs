//! Operators whose functions may fail. What becomes of the record then is the application's rule:
//! `StreamsBuilder::processing_handler`.

use std::fmt::Display;
use std::sync::Arc;

use crate::error::TaskError;
use crate::graph::MakeNode;
use crate::node::{Cx, Payload, Rec, node};

use super::kstream::KStream;

/// The failure of the node at hand.
fn failed(error: impl Display, cx: &Cx<'_>) -> TaskError {
    TaskError::Processor { node: cx.name().to_string(), message: error.to_string() }
}

impl<K: Payload, V: Payload> KStream<K, V> {
    /// Appends a node that runs `run` for each record.
    fn trying<F>(&self, prefix: &str, kind: &'static str, run: F) -> usize
    where
        F: Fn(Rec<K, V>, &mut Cx<'_>) -> Result<(), TaskError> + Send + Sync + 'static,
    {
        let run = Arc::new(run);
        let make: MakeNode = Arc::new(move || {
            let run = run.clone();
            node(move |record: Rec<K, V>, cx| run(record, cx))
        });
        let mut graph = self.graph.borrow_mut();
        let name = graph.generate(prefix);
        graph.operator(name, kind, &[self.node], make)
    }

    /// New values under the same keys, where the function does not fail.
    ///
    /// ```
    /// # use headwater_streams::serdes::{i64, string};
    /// # use headwater_streams::{Consumed, ProcessingHandler, Produced, StreamsBuilder, TopologyTestDriver};
    /// let mut builder = StreamsBuilder::new("readings");
    /// builder.processing_handler(ProcessingHandler::DeadLetter("unreadable".to_owned()));
    /// builder
    ///     .stream("readings", Consumed::with(string(), string()))
    ///     .try_map_values(|text: String| text.parse::<i64>())
    ///     .to("numbers", Produced::with(string(), i64()));
    /// let mut driver = TopologyTestDriver::new(builder.build()?)?;
    /// for text in ["1", "one", "2"] {
    ///     driver.pipe("readings", (&string(), &string()), (&"k".to_owned(), &text.to_owned()), 0)?;
    /// }
    /// assert_eq!(driver.read("numbers", (&string(), &i64())).len(), 2);
    /// let letter = &driver.read_output("unreadable")[0];
    /// assert_eq!(letter.value.as_deref(), Some(&b"one"[..]));
    /// assert!(letter.headers.iter().any(|header| header.key == "__streams.errors.message"));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn try_map_values<V2: Payload, E: Display>(
        &self,
        map: impl Fn(V) -> Result<V2, E> + Send + Sync + 'static,
    ) -> KStream<K, V2> {
        let node = self.trying("KSTREAM-MAPVALUES", "map values", move |record, cx| {
            let Rec { key, value, timestamp } = record;
            let value = map(value).map_err(|error| failed(error, cx))?;
            cx.forward(Rec { key, value, timestamp })
        });
        self.with_values(node)
    }

    /// New keys and values, where the function does not fail. What is grouped or joined after it is repartitioned.
    pub fn try_map<K2: Payload, V2: Payload, E: Display>(
        &self,
        map: impl Fn(K, V) -> Result<(K2, V2), E> + Send + Sync + 'static,
    ) -> KStream<K2, V2> {
        let node = self.trying("KSTREAM-MAP", "map", move |record, cx| {
            let timestamp = record.timestamp;
            let (key, value) = map(record.key, record.value).map_err(|error| failed(error, cx))?;
            cx.forward(Rec { key, value, timestamp })
        });
        self.with_keys(node, None)
    }

    /// Any number of records for each, where the function does not fail.
    pub fn try_flat_map<K2: Payload, V2: Payload, I: IntoIterator<Item = (K2, V2)>, E: Display>(
        &self,
        map: impl Fn(K, V) -> Result<I, E> + Send + Sync + 'static,
    ) -> KStream<K2, V2> {
        let node = self.trying("KSTREAM-FLATMAP", "flat map", move |record, cx| {
            let timestamp = record.timestamp;
            let mapped = map(record.key, record.value).map_err(|error| failed(error, cx))?;
            mapped.into_iter().try_for_each(|(key, value)| cx.forward(Rec { key, value, timestamp }))
        });
        self.with_keys(node, None)
    }

    /// Any number of values for each, under the same key, where the function does not fail.
    pub fn try_flat_map_values<V2: Payload, I: IntoIterator<Item = V2>, E: Display>(
        &self,
        map: impl Fn(V) -> Result<I, E> + Send + Sync + 'static,
    ) -> KStream<K, V2> {
        let node = self.trying("KSTREAM-FLATMAPVALUES", "flat map values", move |record, cx| {
            let Rec { key, value, timestamp } = record;
            let mapped = map(value).map_err(|error| failed(error, cx))?;
            mapped.into_iter().try_for_each(|value| cx.forward(Rec { key: key.clone(), value, timestamp }))
        });
        self.with_values(node)
    }

    /// Only records for which `keep` holds, and does not fail.
    pub fn try_filter<E: Display>(
        &self,
        keep: impl Fn(&K, &V) -> Result<bool, E> + Send + Sync + 'static,
    ) -> Self {
        let node = self.trying("KSTREAM-FILTER", "filter", move |record, cx| {
            match keep(&record.key, &record.value).map_err(|error| failed(error, cx))? {
                true => cx.forward(record),
                false => Ok(()),
            }
        });
        Self { node, ..self.clone() }
    }

    /// Ends the stream in a side effect that may fail; it may run again for the same record after a crash.
    pub fn try_for_each<E: Display>(&self, run: impl Fn(K, V) -> Result<(), E> + Send + Sync + 'static) {
        self.trying("KSTREAM-FOREACH", "for each", move |record, cx| {
            run(record.key, record.value).map_err(|error| failed(error, cx))
        });
    }
}
