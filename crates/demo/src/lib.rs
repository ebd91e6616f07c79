//! The main job on real data: a legacy system becomes event-driven, and an oracle checks the answers.
//!
//! Owns the legacy system ([`legacy`]), the data it lives by ([`data`]), the oracle ([`oracle`]), and the order in
//! which everything is started and judged ([`run`]). The work itself is done by others: sources and sink by
//! `crates/connect`, the answers by the service in `examples/flights`.

pub mod data;
pub mod legacy;
pub mod oracle;

mod background;
mod cluster;
mod directory;
mod figures;
mod killer;
mod living;
mod options;
mod process;
mod report;
mod run;
mod service;
mod settle;
mod show;
mod sources;

pub use living::Living;
pub use options::Options;
pub use report::Report;
pub use run::{Interrupted, live};
pub use service::serve;
pub use show::{Lines, Show};
