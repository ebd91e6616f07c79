//! Where every topology starts: sources, tables, global tables and stores.

use std::cell::RefCell;
use std::marker::PhantomData;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use crate::error::TopologyError;
use crate::failure::ProcessingHandler;
use crate::global::GlobalRows;
use crate::graph::{DeserializationHandler, GlobalSpec, Graph, OffsetReset};
use crate::node::Payload;
use crate::processor::StateStore;
use crate::processor::sessions::SessionStateStore;
use crate::processor::versions::VersionedStateStore;
use crate::processor::windows::WindowStateStore;
use crate::production::ProductionHandler;
use crate::quarantine::Quarantine;
use crate::query::QueryableStore;
use crate::serdes::{SerdeRef, nullable};
use crate::store::StoreKind;
use crate::store::keys::Layout;
use crate::task::input::{Extractor, TypedSource};
use crate::topology::Topology;
use crate::windows::duration_ms;

use super::global::GlobalKTable;
use super::kstream::KStream;
use super::ktable::{KTable, table_from_updates};
use super::options::{Consumed, Materialized};
use super::parts::{GraphRef, SourceLog, key_value_store, refuse_versions, require, timed_store};
use super::rows::add_versioned;

/// Builds one application's topology.
pub struct StreamsBuilder {
    pub(super) graph: GraphRef,
}

impl StreamsBuilder {
    /// The application id is the consumer group and the prefix of all internal topics.
    pub fn new(application_id: impl Into<String>) -> Self {
        Self { graph: Rc::new(RefCell::new(Graph::new(application_id.into()))) }
    }

    /// What happens to records that do not decode (default: the task fails).
    pub fn deserialization_handler(&mut self, handler: DeserializationHandler) -> &mut Self {
        if handler == DeserializationHandler::Quarantine {
            self.graph.borrow_mut().quarantine.get_or_insert_default();
        }
        self.graph.borrow_mut().handler = handler;
        self
    }

    /// What happens when a function of a `try_` operator, or a processor, fails on a record (default: the task fails).
    pub fn processing_handler(&mut self, handler: ProcessingHandler) -> &mut Self {
        if matches!(handler, ProcessingHandler::Quarantine) {
            self.graph.borrow_mut().quarantine.get_or_insert_default();
        }
        self.graph.borrow_mut().processing_handler = handler;
        self
    }

    /// What happens to a record that cannot be written (default: the task fails).
    ///
    /// ```
    /// # use headwater_streams::serdes::string;
    /// # use headwater_streams::{Consumed, Produced, ProductionHandler, StreamsBuilder, TopologyTestDriver};
    /// let mut builder = StreamsBuilder::new("letters");
    /// builder.production_handler(ProductionHandler::DeadLetter("unsent".to_owned()));
    /// builder
    ///     .stream("letters", Consumed::with(string(), string()))
    ///     .map_values(|text: String| text.repeat(1_000))
    ///     .to("copies", Produced::with(string(), string()));
    /// let mut driver = TopologyTestDriver::new(builder.build()?)?;
    /// driver.max_message_bytes("copies", 5_000); // as the topic is configured
    /// for text in ["abc", "a long one", "ab"] {
    ///     driver.pipe("letters", (&string(), &string()), (&"k".to_owned(), &text.to_owned()), 0)?;
    /// }
    /// assert_eq!(driver.read_output("copies").len(), 2);
    /// assert_eq!(driver.read_output("unsent")[0].value.as_deref(), Some(&b"a long one"[..]));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn production_handler(&mut self, handler: ProductionHandler) -> &mut Self {
        self.graph.borrow_mut().production_handler = handler;
        self
    }

    /// What fails is held with all that follows under its key, where [`ProcessingHandler::Quarantine`] or
    /// [`ProcessingResponse::Quarantine`](crate::ProcessingResponse::Quarantine) says so. Call it before tables are read: their
    /// source topics cannot be their changelogs then, as they also have what is held.
    ///
    /// ```
    /// # use headwater_streams::serdes::{i64, string};
    /// # use headwater_streams::{Consumed, ProcessingHandler, Produced, Quarantine, StreamsBuilder, TopologyTestDriver};
    /// let mut builder = StreamsBuilder::new("readings");
    /// builder.quarantine(Quarantine::new().max_keys(10)).processing_handler(ProcessingHandler::Quarantine);
    /// builder
    ///     .stream("readings", Consumed::with(string(), string()))
    ///     .try_map_values(|text: String| text.parse::<i64>())
    ///     .to("numbers", Produced::with(string(), i64()));
    /// let mut driver = TopologyTestDriver::new(builder.build()?)?;
    /// for (key, text) in [("a", "1"), ("a", "two"), ("a", "3"), ("b", "4")] {
    ///     driver.pipe("readings", (&string(), &string()), (&key.to_owned(), &text.to_owned()), 0)?;
    /// }
    /// let numbers: Vec<_> = driver.read("numbers", (&string(), &i64())).into_iter().map(|(_, n, _)| n).collect();
    /// assert_eq!(numbers, [Some(1), Some(4)]);
    /// assert_eq!(driver.quarantined()[0].records, 2); // "two" and "3" of a
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn quarantine(&mut self, quarantine: Quarantine) -> &mut Self {
        self.graph.borrow_mut().quarantine = Some(quarantine);
        self
    }

    /// A topic that [`ProcessingHandler::Choose`] sends records to: it is then created with the other outputs.
    pub fn dead_letter_topic(&mut self, topic: &str) -> &mut Self {
        self.graph.borrow_mut().dead_letter_topics.push(topic.to_owned());
        self
    }

    /// How long a task waits for an empty input whose end it has reached (default: not at all), so that records of
    /// several inputs are taken in the order of their timestamps (KIP-353, KIP-695).
    pub fn max_task_idle(&mut self, idle: Duration) -> &mut Self {
        self.graph.borrow_mut().max_task_idle_ms = duration_ms(idle);
        self
    }

    /// `build()` refuses stores with changelogs, and repartition topics, that have no names of their own: a generated one changes when an
    /// operator comes before it, and the state is lost (Kafka Streams' `ensure.explicit.internal.resource.naming`).
    pub fn explicit_names(&mut self) -> &mut Self {
        self.graph.borrow_mut().explicit_names = true;
        self
    }

    /// Tasks say what time it is to all partitions of the repartition topics they write to, at most so often (default: never, and
    /// a partition hears of a source partition's time by its records alone). Without it a window that is told when it
    /// closes, or a store that expires, waits for a record of each source partition in *each* partition behind a repartition
    /// topic. A source partition that gets no records holds them back in any case, unless
    /// [`StreamsBuilder::watermark_idleness`] says otherwise.
    pub fn watermark_interval(&mut self, interval: Duration) -> &mut Self {
        self.graph.borrow_mut().watermark_interval_ms = Some(duration_ms(interval).max(1));
        self
    }

    /// A source partition that has had no records for so long, by the instance's clock, is *idle* (Flink's `withIdleness`; default: none
    /// is): what is final, told when it closes or forgotten, does not wait for it until it has records again. Those are then as late
    /// as if they came from the partition that the others waited for: a window that was told takes none of them. While all
    /// partitions are idle, nothing moves on.
    ///
    /// What is late then depends on when records come, and not on their order alone. Behind repartition topics it is told as times are,
    /// with [`StreamsBuilder::watermark_interval`], or without that as often as this.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use headwater_streams::serdes::{i64, string};
    /// # use headwater_streams::{
    /// #     Consumed, Grouped, Materialized, Produced, StreamsBuilder, TimeWindows, TopologyTestDriver, time_windowed,
    /// # };
    /// let (ten, minute) = (Duration::from_millis(10), Duration::from_secs(60));
    /// let mut builder = StreamsBuilder::new("app");
    /// builder.watermark_idleness(minute);
    /// builder
    ///     .stream_of_topics(&["busy", "silent"], Consumed::with(string(), i64()))
    ///     .group_by_key(Grouped::new())
    ///     .windowed_by(TimeWindows::of(ten))
    ///     .emit_on_close()
    ///     .count(Materialized::named("counts"))
    ///     .to("out", Produced::with(time_windowed(string(), ten), i64()));
    /// let mut driver = TopologyTestDriver::new(builder.build()?)?;
    /// let key = "k".to_owned();
    /// driver.pipe("busy", (&string(), &i64()), (&key, &0), 1)?;
    /// driver.advance_time(minute / 2)?;
    /// driver.pipe("busy", (&string(), &i64()), (&key, &0), 20)?;
    /// assert!(driver.read_output("out").is_empty());
    /// driver.advance_time(minute / 2)?;
    /// assert_eq!(driver.read_output("out").len(), 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn watermark_idleness(&mut self, idleness: Duration) -> &mut Self {
        self.graph.borrow_mut().watermark_idleness_ms = Some(duration_ms(idleness).max(1));
        self
    }

    /// Reads a topic. Records with a null key or value are skipped and counted; a [`nullable`] serde lets them through.
    pub fn stream<K: Payload, V: Payload>(&self, topic: &str, consumed: Consumed<K, V>) -> KStream<K, V> {
        let mut graph = self.graph.borrow_mut();
        let name = graph.name(consumed.name.as_deref(), "KSTREAM-SOURCE");
        let Consumed { key, value, extractor, handler, reset, .. } = consumed;
        let (key_serde, value_serde) = (Some(key.clone()), Some(value.clone()));
        let make =
            move || Box::new(TypedSource::new(key.clone(), value.clone(), extractor.clone())) as Box<_>;
        let node = graph.source(name, topic, Arc::new(make), handler);
        graph.nodes[node].reset = reset;
        drop(graph);
        KStream {
            graph: self.graph.clone(),
            node,
            sources: [node].into(),
            key_serde,
            value_serde,
            needs_repartition: false,
        }
    }

    /// Reads a topic as a table: the last value of each key, null deletes. Without a timestamp extractor the topic itself
    /// is the store's changelog, so it should be compacted; [`Materialized::own_changelog`] is for one that is not.
    pub fn table<K: Payload, V: Payload>(
        &self,
        topic: &str,
        consumed: Consumed<K, V>,
        materialized: Materialized<K, V>,
    ) -> KTable<K, V> {
        let is_whole = consumed.extractor.is_none()
            && consumed.reset == OffsetReset::Earliest
            && self.graph.borrow().quarantine.is_none();
        let (key, value) = (consumed.key.clone(), consumed.value.clone());
        let extractor = consumed.extractor.map(|extract| -> Extractor<K, Option<V>> {
            Arc::new(move |key, value: &Option<V>, record| match value {
                Some(value) => extract(key, value, record),
                None => record.timestamp,
            })
        });
        let updates = self.stream(
            topic,
            Consumed {
                key: consumed.key,
                value: nullable(consumed.value),
                name: consumed.name,
                extractor,
                handler: consumed.handler,
                reset: consumed.reset,
            },
        );
        let is_log = is_whole && !materialized.own_changelog;
        let source = is_log.then_some(SourceLog { topic, key: &key, value: &value });
        let options = Materialized {
            key: Some(materialized.key.clone().unwrap_or_else(|| key.clone())),
            value: Some(materialized.value.clone().unwrap_or_else(|| value.clone())),
            ..materialized
        };
        table_from_updates(&updates, "KTABLE-SOURCE", source, options)
    }

    /// Reads all partitions of a topic into every instance, for joins by any key. A record that does not decode ends the
    /// application, or is skipped and counted: [`DeserializationHandler::Fail`] or `Continue`, and no other.
    pub fn global_table<K: Payload, V: Payload + Sync>(
        &self,
        topic: &str,
        consumed: Consumed<K, V>,
        materialized: Materialized<K, V>,
    ) -> GlobalKTable<K, V> {
        let mut graph = self.graph.borrow_mut();
        let name = graph.name(materialized.name.as_deref(), "GLOBAL-STORE");
        refuse_versions(&mut graph, &name, &materialized);
        let Consumed { key, value, handler, .. } = consumed;
        let queryable = materialized.json.as_ref().map(|json| QueryableStore {
            name: Arc::from(name.as_str()),
            layout: Layout::key_value(),
            window_size_ms: None,
            json: json(key.clone(), value.clone(), topic.to_owned()),
        });
        let queried = queryable.is_some();
        let (key_serde, owned_topic) = (key.clone(), topic.to_owned());
        let make = move || {
            Arc::new(GlobalRows::new(owned_topic.clone(), key.clone(), value.clone(), queried)) as Arc<_>
        };
        let (topic, make) = (topic.to_owned(), Arc::new(make));
        let index = graph.add_global(GlobalSpec { name, topic, handler, make, queryable });
        GlobalKTable { index, key_serde, value: PhantomData }
    }

    /// A key-value store for processors; connect it where it is used.
    pub fn add_store<K: Payload, V: Payload>(&self, materialized: Materialized<K, V>) -> StateStore<K, V> {
        let mut graph = self.graph.borrow_mut();
        let name = graph.name(materialized.name.as_deref(), "STATE-STORE");
        let key = require(&mut graph, materialized.key.clone(), &name, "key", "Materialized::key_serde");
        let value =
            require(&mut graph, materialized.value.clone(), &name, "value", "Materialized::value_serde");
        let index = key_value_store(&mut graph, &name, &key, &value, None, &materialized);
        StateStore { index, name: Arc::from(name), key, value: PhantomData }
    }

    /// A store for processors that keeps versions, with its serdes and [`Materialized::versioned`]; connect it where it is
    /// used.
    pub fn add_versioned_store<K: Payload, V: Payload>(
        &self,
        materialized: Materialized<K, V>,
    ) -> VersionedStateStore<K, V> {
        let mut graph = self.graph.borrow_mut();
        let name = graph.name(materialized.name.as_deref(), "STATE-STORE");
        let key = require(&mut graph, materialized.key.clone(), &name, "key", "Materialized::key_serde");
        let value =
            require(&mut graph, materialized.value.clone(), &name, "value", "Materialized::value_serde");
        let history_ms = materialized.history_ms.unwrap_or_else(|| {
            let reason = "how long are versions kept? say it with Materialized::versioned".to_owned();
            graph.errors.push(TopologyError::InvalidWindow { node: name.clone(), reason });
            0
        });
        let index = add_versioned(&mut graph, &name, (&key, &value), history_ms, &materialized);
        VersionedStateStore { index, name: Arc::from(name), key, value: PhantomData }
    }

    /// A store of windows for processors, with its serdes and [`Materialized::retention`]: a value for each key and start (Kafka
    /// Streams' `WindowStore`); connect it where it is used. `size` says to who asks the store when its windows end.
    pub fn add_window_store<K: Payload, V: Payload>(
        &self,
        size: Duration,
        materialized: Materialized<K, V>,
    ) -> WindowStateStore<K, V> {
        let size = duration_ms(size);
        let (name, index, key, retention_ms) =
            self.timed(StoreKind::Window, (size, Some(size)), &materialized);
        WindowStateStore { index, name, key, retention_ms, value: PhantomData }
    }

    /// A store of sessions for processors, with its serdes and [`Materialized::retention`]: a value for each key and session (Kafka
    /// Streams' `SessionStore`); connect it where it is used.
    pub fn add_session_store<K: Payload, V: Payload>(
        &self,
        materialized: Materialized<K, V>,
    ) -> SessionStateStore<K, V> {
        let (name, index, key, retention_ms) = self.timed(StoreKind::Session, (0, None), &materialized);
        SessionStateStore { index, name, key, retention_ms, value: PhantomData }
    }

    /// Adds a store of windows or sessions: its name, its place, the serde of its keys and how long it keeps them.
    fn timed<K: Payload, V: Payload>(
        &self,
        kind: StoreKind,
        sizes: (i64, Option<i64>),
        options: &Materialized<K, V>,
    ) -> (Arc<str>, usize, SerdeRef<K>, i64) {
        let mut graph = self.graph.borrow_mut();
        let name = graph.name(options.name.as_deref(), "STATE-STORE");
        let key = require(&mut graph, options.key.clone(), &name, "key", "Materialized::key_serde");
        let value = require(&mut graph, options.value.clone(), &name, "value", "Materialized::value_serde");
        if options.retention_ms.is_none() {
            let reason = "how long are windows kept? say it with Materialized::retention".to_owned();
            graph.errors.push(TopologyError::InvalidWindow { node: name.clone(), reason });
        }
        let (index, retention_ms) = timed_store(&mut graph, &name, (&key, &value), kind, sizes, options);
        (Arc::from(name), index, key, retention_ms)
    }

    /// Checks the graph and closes it.
    pub fn build(self) -> Result<Topology, TopologyError> {
        let application_id = self.graph.borrow().application_id.clone();
        Topology::new(self.graph.replace(Graph::new(application_id)))
    }
}
