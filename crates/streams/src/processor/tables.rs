//! What processors read of tables: rows that other operators keep, and those of global tables.

use std::sync::Arc;

use headwater_model::TimestampMs;

use super::ProcessorContext;
use crate::dsl::global::GlobalKTable;
use crate::dsl::ktable::KTable;
use crate::dsl::parts::Getter;
use crate::error::TaskError;
use crate::node::Payload;

/// Reads a table from a processor, from [`KTable::reader`].
pub struct TableReader<K, V> {
    getter: Getter<K, V>,
    stores: Vec<Arc<str>>,
}

impl<K, V> Clone for TableReader<K, V> {
    fn clone(&self) -> Self {
        Self { getter: self.getter.clone(), stores: self.stores.clone() }
    }
}

impl<K, V> TableReader<K, V> {
    /// What the processor has to be connected to: the stores that the table is read from.
    pub fn stores(&self) -> Vec<&str> {
        self.stores.iter().map(|store| &**store).collect()
    }
}

impl<K: Payload, V: Payload> KTable<K, V> {
    /// For processors that read this table's rows, as Kafka Streams' do from its store: give `stores()` to `KStream::process`, and the
    /// reader to the processor. The table and the stream have to be partitioned alike, as for a join.
    ///
    /// ```
    /// # use headwater_streams::serdes::string;
    /// # use headwater_streams::{
    /// #     Consumed, Materialized, Processor, ProcessorContext, ProcessorError, Produced, StreamsBuilder, TableReader,
    /// #     TopologyTestDriver,
    /// # };
    /// struct Greet(TableReader<String, String>);
    ///
    /// impl Processor<String, String, String, String> for Greet {
    ///     fn process(
    ///         &mut self,
    ///         key: String,
    ///         text: String,
    ///         cx: &mut ProcessorContext<'_, '_, String, String>,
    ///     ) -> Result<(), ProcessorError> {
    ///         let name = cx.row(&self.0, &key)?.map_or("whoever".to_owned(), |(name, _)| name);
    ///         cx.forward(key, format!("{text}, {name}"))?;
    ///         Ok(())
    ///     }
    /// }
    ///
    /// let builder = StreamsBuilder::new("app");
    /// let names = builder.table("names", Consumed::with(string(), string()), Materialized::new()).reader();
    /// let reader = names.clone();
    /// builder
    ///     .stream("in", Consumed::with(string(), string()))
    ///     .process(move || Greet(reader.clone()), &names.stores())
    ///     .to("out", Produced::with(string(), string()));
    /// let mut driver = TopologyTestDriver::new(builder.build()?)?;
    /// for (topic, text) in [("in", "Hello"), ("names", "Ann"), ("in", "Hello")] {
    ///     driver.pipe(topic, (&string(), &string()), (&"k".to_owned(), &text.to_owned()), 0)?;
    /// }
    /// let said = driver.read("out", (&string(), &string()));
    /// assert_eq!(said[0].1.as_deref(), Some("Hello, whoever"));
    /// assert_eq!(said[1].1.as_deref(), Some("Hello, Ann"));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn reader(&self) -> TableReader<K, V> {
        let table = self.settled();
        let graph = table.graph.borrow();
        let stores = table.stores.iter().map(|&store| graph.stores[store].name.clone()).collect();
        TableReader { getter: table.getter.clone(), stores }
    }
}

impl<KOut: Payload, VOut: Payload> ProcessorContext<'_, '_, KOut, VOut> {
    /// A table's present row of this key, and its time.
    pub fn row<K, V>(
        &mut self,
        table: &TableReader<K, V>,
        key: &K,
    ) -> Result<Option<(V, TimestampMs)>, TaskError> {
        let row = (table.getter)(self.cx, key)?;
        Ok(row.map(|(timestamp, value)| (value, timestamp)))
    }

    /// A global table's present row of this key. Name its store where the processor is connected to its stores: then `describe`
    /// tells that results depend on it.
    pub fn global_row<K: Payload, V: Payload + Sync>(
        &self,
        table: &GlobalKTable<K, V>,
        key: &K,
    ) -> Result<Option<Arc<V>>, TaskError> {
        let key = self.cx.encode(&table.key_serde, "key", "a global table", key)?;
        Ok(key.and_then(|key| self.cx.core.globals.typed::<K, V>(table.index).get(&key)))
    }
}
