//! Connectors between databases and topics: SQLite sources (outbox, incremental query, bulk) and the SQLite sink.
//!
//! Owns the generated outbox tables and triggers, the Avro schema derived from a table, the sources' positions
//! (topic `_headwater.connectors`) and the sink's offsets (table `_headwater_offsets`). Refuses to guess: a table
//! without a key, a column that is not there or a schema the registry refuses is an error that says what to do.
//! The invariant: a position and the records it stands for are written in one transaction, so that each change of
//! a table is in its topic exactly once, and a sink's table is the fold of its topic, whoever is killed when.

mod catalog;
mod error;
mod progress;
pub mod sqlite;

pub use error::{DatabaseError, SinkError, SourceError};
pub use progress::SourceHandle;
