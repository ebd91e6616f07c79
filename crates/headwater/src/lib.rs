//! What the author of an event-driven service needs: build a topology, run it, test it without a broker.
//!
//! ```no_run
//! use std::time::Duration;
//!
//! use headwater::streams::serdes::{i64, string};
//! use headwater::streams::{
//!     Consumed, Grouped, Materialized, Produced, StreamsBuilder, TimeWindows, Topology, TopologyError, time_windowed,
//! };
//! use headwater::{AppConfig, Manifest, StreamsApp};
//!
//! /// Flights by number → delay in minutes; counted by airport and hour.
//! fn topology(application_id: &str) -> Result<Topology, TopologyError> {
//!     let hour = Duration::from_secs(3600);
//!     let builder = StreamsBuilder::new(application_id);
//!     builder
//!         .stream("departures", Consumed::with(string(), i64()))
//!         .group_by(|flight, _| flight[..3].to_owned(), Grouped::with(string(), i64()).named("by-origin"))
//!         .windowed_by(TimeWindows::of(hour).grace(Duration::from_secs(60)))
//!         .count(Materialized::named("departures-by-hour").json())
//!         .to("departures.hourly", Produced::with(time_windowed(string(), hour), i64()));
//!     builder.build()
//! }
//!
//! #[tokio::main]
//! async fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     let manifest = Manifest::load("headwater.toml")?;
//!     let config = AppConfig::from_manifest(&manifest)?;
//!     let app = StreamsApp::start(topology(&config.application_id)?, config).await?;
//!     app.run_until_signal().await?;
//!     Ok(())
//! }
//! ```
//!
//! The manifest beside the code says who the service is, what it reads and what it writes:
//!
//! ```toml
//! [service]
//! name = "departures"          # the consumer group, and the prefix of internal topics
//! team = "operations"
//!
//! [inputs.departures]
//! topic = "departures"
//!
//! [outputs.hourly]
//! topic = "departures.hourly"
//!
//! [internal]
//! repartitions = ["by-origin"]
//! stores = ["departures-by-hour"]
//!
//! [runtime]
//! http = "127.0.0.1:7070"      # GET /stores/departures-by-hour/key/JFK
//! ```
//!
//! The same topology runs in a test without a broker: see [`streams::TopologyTestDriver`].

/// The Kafka client that everything here is built on.
pub use headwater_client as client;
/// Avro schemas: parsing, compatibility, encoding.
pub use headwater_schema as schema;
/// Stream processing: builder, operators, serdes, stores, the test driver.
pub use headwater_streams as streams;

pub use headwater_control::{Manifest, ManifestError};
pub use headwater_runtime::{
    AppConfig, AppError, AvroSerde, AvroSerdes, ClockSkew, ConfigError, FaultHook, FaultPoint, GroupProtocol,
    Guarantee, HostTasks, HttpAccess, HttpAccessError, KeyQueryMetadata, MetricsSnapshot, Phase, Place,
    Position, PositionError, Queries, QueryResultInfo, RegistryClient, RegistryError, Role, Row,
    SnapshotConfig, Staleness, StateQueryError, StateQueryResult, StateStore, StoreQueries, StreamsApp,
    TaskStatus, existing_topics, external, migrate,
};

/// The guide's snippets are tests.
#[cfg(doctest)]
#[doc = include_str!("../../../docs/streams.md")]
struct StreamsGuide;

#[cfg(doctest)]
#[doc = include_str!("../../../docs/streams-queries.md")]
struct QueriesGuide;

#[cfg(doctest)]
#[doc = include_str!("../../../docs/streams-failures.md")]
struct FailuresGuide;

#[cfg(doctest)]
#[doc = include_str!("../../../docs/external-stores.md")]
struct ExternalGuide;
