//! The examples of *Building Event-Driven Microservices* that concern streams, each a topology one can read, run and break.
//!
//! Every module has the same parts: `topology.rs` is the example; `input.rs` draws what happens from a seed; `answer.rs` is what
//! must come out, computed without streams; `mod.rs` runs the one on a cluster and compares.

pub mod advertising;
pub mod bank;
pub mod sessions;
pub mod stock;
