//! What an example stands on when it runs: topics of its own on a cluster, input that is fed to them, output that is awaited.
//!
//! The same [`Event`]s go to a cluster and to the test driver, and the same [`Row`]s come back from both, so an example says
//! once what it is fed and what it must answer.

mod event;
mod log;
mod options;
mod output;
mod stage;

pub use event::{Event, Row, ends, pipe, read};
pub use log::log;
pub use options::Options;
pub use output::Output;
pub use stage::Stage;

/// The name of an example's topic: every run has topics of its own.
pub fn topic(application_id: &str, name: &str) -> String {
    format!("{application_id}.{name}")
}
