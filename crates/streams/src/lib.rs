//! Stream processing with Kafka Streams' semantics, as a pure, deterministic core.
//!
//! A [`StreamsBuilder`] makes a [`Topology`]; a topology makes [`Task`]s, one per partition of each of its sub-topologies; a
//! shell (`headwater-runtime`, or the [`TopologyTestDriver`]) feeds them records and commits what they write. This crate
//! owns operators, windows, joins, stores and their formats. It has no clock, no I/O, no threads and no randomness: the
//! same input in the same order gives the same bytes.
//!
//! Names are Kafka Streams': [`KStream`], [`KTable`], [`GlobalKTable`], [`Materialized`], changelog, repartition topic,
//! grace, stream time, punctuation. `cargo xtask differential` holds it against Apache Kafka Streams on random topologies
//! (docs/streams-differential.md). What differs:
//!
//! - Nulls are typed. A stream of `V` has no null values; sources skip and count them. Read with
//!   [`serdes::nullable`] to get `Option<V>`. [`KTable::to_stream`] gives `Option<V>`, as rows can be deleted.
//! - Table changes always carry the old value, and a filtered table never tells of rows that it has left out before.
//! - What waited for its window to close has no headers, and a new row's initial aggregate is never its old value.
//! - Two records of a stream join are joined if each came before the other's window had closed, and only then.
//! - A row of an inner foreign-key join without a partner is told by a tombstone, also when there was no result before.
//! - Every table update is forwarded; there is no record cache that drops some. Changelogs are compacted within a commit.
//! - Stream time travels with records (see `lanes`): whether a record is late is decided by the time of the source
//!   partition it came from, also behind a repartition topic, and what is final by the lowest time of all partitions that
//!   feed an operator. So results do not depend on how fast tasks are, and a replay has the result of the first run. Two
//!   things follow: a source partition without records holds back what is final, and a late record extends an open
//!   session only where a single partition feeds the operator.
//! - These clocks survive restarts: they are committed with the offsets.
//!
//! Absent: topics that join a running application by a pattern; suppression by a time limit; a fixed time for what a suppression,
//! a window that closes or a stream join releases (it carries the time of the record that released it). `docs/streams.md` goes
//! through Kafka Streams concept by concept.
//!
//! ```
//! use std::time::Duration;
//!
//! use headwater_streams::serdes::{i64, string};
//! use headwater_streams::{
//!     Consumed, Grouped, KeyQuery, Materialized, Produced, Query, StreamsBuilder, TimeWindows, TopologyTestDriver,
//!     time_windowed,
//! };
//!
//! let hour = Duration::from_secs(3600);
//! let builder = StreamsBuilder::new("airport");
//! let departures = builder.stream("departures", Consumed::with(string(), i64())); // flight → delay in minutes
//! departures
//!     .group_by(|flight, _| flight[..3].to_owned(), Grouped::with(string(), i64()).named("by-origin"))
//!     .windowed_by(TimeWindows::of(hour).grace(Duration::from_secs(60)))
//!     .count(Materialized::named("departures-by-hour").json())
//!     .to("hourly", Produced::with(time_windowed(string(), hour), i64()));
//! let topology = builder.build()?;
//!
//! let mut driver = TopologyTestDriver::new(topology)?;
//! for (flight, delay, minute) in [("JFK-1", 3, 5), ("JFK-2", 0, 59), ("EWR-7", 9, 60), ("JFK-3", 1, 62)] {
//!     driver.pipe("departures", (&string(), &i64()), (&flight.to_owned(), &delay), minute * 60_000)?;
//! }
//! // JFK-3 came in the second hour; a record for the first one would now be late, dropped and counted.
//! driver.pipe("departures", (&string(), &i64()), (&"JFK-4".to_owned(), &2), 58 * 60_000)?;
//! assert_eq!(driver.metrics().dropped_late, 1);
//!
//! let rows = driver.query("departures-by-hour", &Query::Key(KeyQuery { key: "JFK".to_owned() })).unwrap()?;
//! let counts: Vec<_> = rows.iter().map(|row| row["value"].as_i64().unwrap()).collect();
//! assert_eq!(counts, [2, 1]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

pub mod assignment;
mod calls;
mod deserialization;
mod determinism;
mod driver;
mod dsl;
mod error;
mod failure;
mod global;
mod graph;
mod lanes;
mod letters;
mod node;
mod processor;
mod production;
mod quarantine;
mod query;
mod reprocessing;
pub mod serdes;
mod store;
mod task;
mod topology;
mod windows;

pub use calls::{Call, CallFuture, CallId, CallOutcome};
pub use deserialization::{DeserializationChoice, DeserializationFailure};
pub use determinism::Nondeterminism;
pub use driver::TopologyTestDriver;
pub use dsl::builder::StreamsBuilder;
pub use dsl::called::Called;
pub use dsl::cogroup::{
    CogroupedKStream, SessionWindowedCogroupedKStream, SlidingWindowedCogroupedKStream,
    TimeWindowedCogroupedKStream,
};
pub use dsl::global::GlobalKTable;
pub use dsl::grouped::KGroupedStream;
pub use dsl::kstream::{KStream, Predicate};
pub use dsl::ktable::KTable;
pub use dsl::options::{
    Consumed, Deduplicated, Grouped, Joined, Materialized, Produced, Repartitioned, StreamJoined, TableJoined,
};
pub use dsl::sliding::SlidingWindowedKStream;
pub use dsl::table_group::KGroupedTable;
pub use dsl::windowed::{SessionWindowedKStream, TimeWindowedKStream};
pub use error::{TaskError, TopologyError};
pub use failure::{ProcessingFailure, ProcessingHandler, ProcessingResponse};
pub use global::GlobalStores;
pub use graph::{DeserializationHandler, OffsetReset};
/// The words of the model that appear in this crate's functions.
pub use headwater_model::{Bytes, Header, Record, TimestampMs, TopicPartition};
pub use letters::{DeadLetter, LetterError, REDRIVES_HEADER};
pub use node::{Change, Payload};
pub use processor::sessions::SessionStateStore;
pub use processor::tables::TableReader;
pub use processor::values::{FixedKeyProcessor, FixedKeyProcessorContext};
pub use processor::versions::{VersionedRecord, VersionedStateStore};
pub use processor::windows::WindowStateStore;
pub use processor::{Processor, ProcessorContext, ProcessorError, PunctuationType, ScheduleId, StateStore};
pub use production::{
    ProductionFailure, ProductionHandler, ProductionProblem, ProductionResponse, RefusedOutput,
};
pub use quarantine::{HeldKey, Quarantine, WhenFull};
pub use query::{
    KeyQuery, MultiVersionedKeyQuery, Page, Query, QueryError, QueryableStore, RangeQuery, SessionQuery,
    VersionedKeyQuery, WindowRangeQuery,
};
pub use reprocessing::reprocess_until;
pub use serdes::{
    BytesSerde, F32Serde, F64Serde, I16Serde, I32Serde, I64Serde, JsonSerde, NullableSerde, Serde,
    SerdeError, SerdeRef, SharedSerde, StringSerde,
};
pub use store::external::{ColumnType, ExternalTable};
pub use store::{MemoryStore, StoreBackend, StoreError, StoreKind};
pub use task::{HandedOver, Output, StoreInfo, Task, TaskId, TaskMetrics, rename_clocks};
pub use topology::{
    Again, ChangeSafety, Copied, Fate, GlobalDescription, GlobalStore, InternalTopic, InternalTopicKind,
    Migration, MigrationRefused, NodeDescription, Renames, RepartitionDescription, StoreDescription,
    StoreStep, SubtopologyDescription, SubtopologyTopics, Topology, TopologyChange, TopologyDescription,
    TopologyDiff, partitions_needed,
};
pub use windows::{
    JoinWindows, SessionWindowedSerde, SessionWindows, SlidingWindows, TimeWindowedSerde, TimeWindows,
    Windowed, session_windowed, time_windowed,
};
