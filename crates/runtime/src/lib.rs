//! Runs a topology of `headwater-streams` against a Kafka cluster.
//!
//! Owns what the pure core refuses: group membership, fetching, transactions, state on disk, restoring, queries over HTTP.
//! Invariant: outputs, changelogs and input positions are committed together or not at all, and a store on disk never
//! holds more than its changelog. Whatever fails in between, tasks are dropped and made again from what is committed.
//!
//! A [`StreamsApp`] has one or more processing threads. Each is a member of the consumer group named like the application
//! and has a transactional producer; all network I/O runs on the tokio runtime that [`StreamsApp::start`] was called in, so
//! that processing never starves it.
//!
//! Absent: cooperative rebalancing by the classic protocol (there a rebalance stops all
//! tasks; under the streams protocol only those that move stop).

// An error here ends an attempt or the application, so its size costs nothing.
#![allow(clippy::result_large_err)]

mod access;
mod app;
mod assignor;
mod avro;
mod balance;
mod board;
mod catalog;
mod claims;
mod cleanup;
mod config;
mod error;
pub mod external;
mod fault;
mod globals;
mod http;
mod membership;
mod metrics;
pub mod migrate;
mod quarantine;
mod queries;
mod serve;
mod skew;
mod snapshot;
mod state;
mod thread;
mod topics;

pub use access::{HttpAccess, HttpAccessError};
pub use app::{StreamsApp, existing_topics};
pub use avro::{AvroSerde, AvroSerdes};
pub use board::{Phase, StandbyStatus, TaskStatus};
pub use catalog::TOPIC as CATALOG_TOPIC;
pub use config::{AppConfig, ConfigError, GroupProtocol, Guarantee, StateStore};
pub use error::AppError;
#[doc(hidden)]
pub use fault::{FaultHook, FaultPoint};
pub use headwater_registry::{RegistryClient, RegistryError};
pub use metrics::MetricsSnapshot;
pub use queries::{
    HostTasks, KeyQueryMetadata, Place, Position, PositionError, Queries, QueryResultInfo, Role, Row,
    Staleness, StateQueryError, StateQueryResult, StoreQueries,
};
pub use skew::ClockSkew;
pub use snapshot::SnapshotConfig;
pub use state::StateError;
