//! NEXMark's queries over an online auction, as topologies; what they answer is held against SQL over the same events.
//!
//! `events.rs` draws persons, auctions and bids; each query is a file in `queries/`, with its definition in SQL beside it in
//! `queries/sql/`; `reference.rs` runs the SQL on SQLite; `run.rs` runs a topology, in memory or on a cluster, and compares.

pub mod events;
pub mod queries;
pub mod reference;
pub mod run;

pub use queries::{QUERIES, Query};
