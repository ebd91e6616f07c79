//! What can be said about a source, a sink, a grouping, a join or a store: names, serdes and settings.

use std::sync::Arc;
use std::time::Duration;

use headwater_model::{Record, TimestampMs};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::graph::{DeserializationHandler, OffsetReset};
use crate::query::{MakeJson, make_json};
use crate::serdes::SerdeRef;
use crate::store::external::ExternalTable;
use crate::task::input::Extractor;
use crate::windows::duration_ms;

/// How a topic is read.
pub struct Consumed<K, V> {
    pub(crate) key: SerdeRef<K>,
    pub(crate) value: SerdeRef<V>,
    pub(crate) name: Option<String>,
    pub(crate) extractor: Option<Extractor<K, V>>,
    pub(crate) handler: Option<DeserializationHandler>,
    pub(crate) reset: OffsetReset,
}

impl<K, V> Consumed<K, V> {
    pub fn with(key: SerdeRef<K>, value: SerdeRef<V>) -> Self {
        Self { key, value, name: None, extractor: None, handler: None, reset: OffsetReset::Earliest }
    }

    /// Names the node.
    pub fn named(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Event time from the record itself; without, the record's timestamp. A negative time skips and counts the record.
    /// A table's tombstones keep their record's timestamp.
    pub fn timestamp_extractor(
        mut self,
        extract: impl Fn(&K, &V, &Record) -> TimestampMs + Send + Sync + 'static,
    ) -> Self {
        self.extractor = Some(Arc::new(extract));
        self
    }

    /// Where the first start of the application begins (default: with the topic's first record). It commits that position at once,
    /// and goes on from there; a committed position that the topic does not have any more goes on with its first record. A table that
    /// begins elsewhere has a changelog of its own; a global table has all of its topic in any case.
    pub fn offset_reset(mut self, reset: OffsetReset) -> Self {
        self.reset = reset;
        self
    }

    /// What to do with records that do not decode, instead of the builder's rule.
    pub fn deserialization_handler(mut self, handler: DeserializationHandler) -> Self {
        self.handler = Some(handler);
        self
    }
}

/// The partition of a record by its key, its value (none where that is null) and the number of partitions.
pub(crate) type Partitioner<K, V> = Arc<dyn Fn(&K, Option<&V>, i32) -> i32 + Send + Sync>;

/// How a topic is written.
pub struct Produced<K, V> {
    pub(crate) key: SerdeRef<K>,
    pub(crate) value: SerdeRef<V>,
    pub(crate) name: Option<String>,
    pub(crate) partitioner: Option<Partitioner<K, V>>,
}

impl<K, V> Produced<K, V> {
    pub fn with(key: SerdeRef<K>, value: SerdeRef<V>) -> Self {
        Self { key, value, name: None, partitioner: None }
    }

    /// Names the node.
    pub fn named(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Chooses the partition of each record (Kafka Streams' `StreamPartitioner`): by its key, its value (none where that is null) and
    /// the number of partitions that the topic had when the application started. Without, a record goes where Kafka's default
    /// partitioner puts its key. A partition that there is not is a failure of the sink.
    pub fn partitioner(
        mut self,
        choose: impl Fn(&K, Option<&V>, i32) -> i32 + Send + Sync + 'static,
    ) -> Self {
        self.partitioner = Some(Arc::new(choose));
        self
    }
}

macro_rules! named_serdes {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        pub struct $name<K, V> {
            pub(crate) name: Option<String>,
            pub(crate) key: Option<SerdeRef<K>>,
            pub(crate) value: Option<SerdeRef<V>>,
        }

        impl<K, V> Default for $name<K, V> {
            fn default() -> Self {
                Self { name: None, key: None, value: None }
            }
        }

        impl<K, V> $name<K, V> {
            /// With the serdes that the stream already has.
            pub fn new() -> Self {
                Self::default()
            }

            pub fn with(key: SerdeRef<K>, value: SerdeRef<V>) -> Self {
                Self { name: None, key: Some(key), value: Some(value) }
            }

            /// Names the node, and the repartition topic if one is needed.
            pub fn named(mut self, name: impl Into<String>) -> Self {
                self.name = Some(name.into());
                self
            }
        }
    };
}

named_serdes! {
    /// How a stream or table is grouped.
    Grouped
}

named_serdes! {
    /// How duplicates are left out of a stream: its serdes, in case it is repartitioned first.
    Deduplicated
}

/// How a stream is joined with a table: the stream's serdes, in case it is repartitioned or held back first.
pub struct Joined<K, V> {
    pub(crate) name: Option<String>,
    pub(crate) key: Option<SerdeRef<K>>,
    pub(crate) value: Option<SerdeRef<V>>,
    pub(crate) grace_ms: Option<i64>,
}

impl<K, V> Default for Joined<K, V> {
    fn default() -> Self {
        Self { name: None, key: None, value: None, grace_ms: None }
    }
}

impl<K, V> Joined<K, V> {
    /// With the serdes that the stream already has.
    pub fn new() -> Self {
        Self::default()
    }

    pub fn with(key: SerdeRef<K>, value: SerdeRef<V>) -> Self {
        Self { key: Some(key), value: Some(value), ..Self::default() }
    }

    /// Names the node, and the repartition topic if one is needed.
    pub fn named(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Holds each record back until the stream's time is `grace` past its own, so that updates of the table that come late
    /// are there (KIP-923). The table must be versioned, and keep its history for at least as long. A record that is itself
    /// later than that is joined at once.
    pub fn grace(mut self, grace: Duration) -> Self {
        self.grace_ms = Some(duration_ms(grace));
        self
    }
}

/// How two tables are joined by a foreign key. Serdes that the tables have need not be given.
pub struct TableJoined<K, V, KO, VO, R> {
    pub(crate) name: Option<String>,
    pub(crate) key: Option<SerdeRef<K>>,
    pub(crate) value: Option<SerdeRef<V>>,
    pub(crate) foreign_key: Option<SerdeRef<KO>>,
    pub(crate) other_value: Option<SerdeRef<VO>>,
    pub(crate) result: Option<SerdeRef<R>>,
}

impl<K, V, KO, VO, R> Default for TableJoined<K, V, KO, VO, R> {
    fn default() -> Self {
        Self { name: None, key: None, value: None, foreign_key: None, other_value: None, result: None }
    }
}

impl<K, V, KO, VO, R> TableJoined<K, V, KO, VO, R> {
    pub fn new() -> Self {
        Self::default()
    }

    /// Names the topics `<application-id>-<name>-subscription-registration-repartition` and `…-response-repartition`, and
    /// the store `<name>-subscription-store`.
    pub fn named(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    pub fn key_serde(mut self, serde: SerdeRef<K>) -> Self {
        self.key = Some(serde);
        self
    }

    /// Of this table's values: by their bytes the join tells whether an answer is out of date.
    pub fn value_serde(mut self, serde: SerdeRef<V>) -> Self {
        self.value = Some(serde);
        self
    }

    pub fn foreign_key_serde(mut self, serde: SerdeRef<KO>) -> Self {
        self.foreign_key = Some(serde);
        self
    }

    /// Of the other table's values, which travel to this table's tasks.
    pub fn other_value_serde(mut self, serde: SerdeRef<VO>) -> Self {
        self.other_value = Some(serde);
        self
    }

    /// Of the result, if it is grouped, joined or otherwise has to be kept.
    pub fn result_serde(mut self, serde: SerdeRef<R>) -> Self {
        self.result = Some(serde);
        self
    }
}

/// An explicit repartitioning.
pub struct Repartitioned<K, V> {
    pub(crate) name: Option<String>,
    pub(crate) key: Option<SerdeRef<K>>,
    pub(crate) value: Option<SerdeRef<V>>,
    pub(crate) partitions: Option<i32>,
}

impl<K, V> Repartitioned<K, V> {
    pub fn with(key: SerdeRef<K>, value: SerdeRef<V>) -> Self {
        Self { name: None, key: Some(key), value: Some(value), partitions: None }
    }

    /// Names the topic: `<application-id>-<name>-repartition`.
    pub fn named(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// The number of partitions, instead of the source's.
    pub fn partitions(mut self, partitions: i32) -> Self {
        self.partitions = Some(partitions);
        self
    }
}

/// How two streams are joined; both are kept in window stores.
pub struct StreamJoined<K, V1, V2> {
    pub(crate) name: Option<String>,
    pub(crate) key: SerdeRef<K>,
    pub(crate) value: SerdeRef<V1>,
    pub(crate) other: SerdeRef<V2>,
}

impl<K, V1, V2> StreamJoined<K, V1, V2> {
    pub fn with(key: SerdeRef<K>, value: SerdeRef<V1>, other: SerdeRef<V2>) -> Self {
        Self { name: None, key, value, other }
    }

    /// Names the join, its stores and its repartition topics.
    pub fn named(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }
}

/// Decoded entries a store keeps between commits, unless told otherwise.
const CACHE_ENTRIES: usize = usize::MAX;

/// How a store is kept. Keys are those before windowing.
pub struct Materialized<K, V> {
    pub(crate) name: Option<String>,
    pub(crate) key: Option<SerdeRef<K>>,
    pub(crate) value: Option<SerdeRef<V>>,
    pub(crate) json: Option<MakeJson<K, V>>,
    pub(crate) retention_ms: Option<i64>,
    /// How long versions are kept, if they are.
    pub(crate) history_ms: Option<i64>,
    /// Windows are also found by time alone.
    pub(crate) indexed: bool,
    pub(crate) logged: bool,
    /// Also where the topic that a table is read from could be its changelog.
    pub(crate) own_changelog: bool,
    pub(crate) configs: Vec<(String, String)>,
    pub(crate) cache_entries: usize,
    /// Kept in a database.
    pub(crate) external: Option<ExternalTable>,
}

impl<K, V> Default for Materialized<K, V> {
    fn default() -> Self {
        Self {
            name: None,
            key: None,
            value: None,
            json: None,
            retention_ms: None,
            history_ms: None,
            indexed: false,
            logged: true,
            own_changelog: false,
            configs: Vec::new(),
            cache_entries: CACHE_ENTRIES,
            external: None,
        }
    }
}

impl<K, V> Materialized<K, V> {
    /// A store with a generated name.
    pub fn new() -> Self {
        Self::default()
    }

    /// A store with this name; its changelog is `<application-id>-<name>-changelog`.
    pub fn named(name: impl Into<String>) -> Self {
        Self { name: Some(name.into()), ..Self::default() }
    }

    pub fn with(name: impl Into<String>, key: SerdeRef<K>, value: SerdeRef<V>) -> Self {
        Self::named(name).key_serde(key).value_serde(value)
    }

    pub fn key_serde(mut self, serde: SerdeRef<K>) -> Self {
        self.key = Some(serde);
        self
    }

    pub fn value_serde(mut self, serde: SerdeRef<V>) -> Self {
        self.value = Some(serde);
        self
    }

    /// Opens the store to queries that answer in JSON.
    pub fn json(mut self) -> Self
    where
        K: Serialize + DeserializeOwned + 'static,
        V: Serialize + 'static,
    {
        self.json = Some(make_json());
        self
    }

    /// How long windows are kept after they started (sessions: ended); at least their size and grace.
    pub fn retention(mut self, retention: Duration) -> Self {
        self.retention_ms = Some(duration_ms(retention));
        self
    }

    /// Keeps the versions of each row that held within `history_retention` of stream time, besides the latest one, which
    /// is kept for ever (KIP-889). A late update goes to its place in the history and does not replace a later one; one that
    /// is later than the history is dropped and counted. Joins with a stream see the row as of the stream record's time.
    /// For tables and for stores of processors.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use headwater_streams::serdes::{i64, string};
    /// # use headwater_streams::{Consumed, Materialized, Query, StreamsBuilder, TopologyTestDriver, VersionedKeyQuery};
    /// let builder = StreamsBuilder::new("app");
    /// let kept = Materialized::named("prices").json().versioned(Duration::from_secs(60));
    /// builder.table("prices", Consumed::with(string(), i64()), kept);
    /// let mut driver = TopologyTestDriver::new(builder.build()?)?;
    /// for (price, time) in [(3, 1_000), (5, 9_000), (4, 5_000)] {
    ///     driver.pipe("prices", (&string(), &i64()), (&"tea".to_owned(), &price), time)?;
    /// }
    /// for (as_of, price) in [(None, 5), (Some(8_999), 4), (Some(1_000), 3)] {
    ///     let query = Query::VersionedKey(VersionedKeyQuery { key: "tea".to_owned(), as_of });
    ///     assert_eq!(driver.query("prices", &query).unwrap()?[0]["value"], price);
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn versioned(mut self, history_retention: Duration) -> Self {
        self.history_ms = Some(duration_ms(history_retention));
        self
    }

    /// Keeps no changelog: the store is empty after a move to another machine.
    pub fn without_logging(mut self) -> Self {
        self.logged = false;
        self
    }

    /// Of a table that is read from a topic: keeps a changelog beside it, as Kafka Streams does without `topology.optimization`.
    /// Otherwise a restore has the rows that the topic still has, which a topic that is not compacted loses by its retention.
    pub fn own_changelog(mut self) -> Self {
        self.own_changelog = true;
        self
    }

    /// Keeps the store in a table of the database that the application runs with (`AppConfig::external`), committed together with
    /// the positions of the inputs: each record is in it once, whatever is killed, and a restart restores nothing. There is no
    /// changelog. What the tasks write to topics is written at least once. For key-value stores, which the database answers
    /// questions about; a task's stores are all external, or none.
    pub fn external(mut self, table: ExternalTable) -> Self {
        self.external = Some(table);
        self
    }

    /// A setting of the changelog topic.
    pub fn config(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.configs.push((name.into(), value.into()));
        self
    }

    /// How many entries may stay in memory between commits, beside the limit in bytes that all stores of a process
    /// share.
    pub fn cache_entries(mut self, entries: usize) -> Self {
        self.cache_entries = entries;
        self
    }
}
