//! A Kafka client that does nothing on its own: one blocking connection, one request after the other.
//!
//! It never retries, refreshes or reconnects, so the harness knows exactly what was sent and what was
//! answered. It shares the codec with the product and nothing else.

mod admin;
mod connection;
mod fetch;
mod produce;
mod transaction;

pub use admin::NewTopic;
pub use connection::{Connection, Power};
pub use fetch::{Isolation, PartitionFetched};
pub use produce::Outgoing;
pub use transaction::Identity;

use headwater_wire::ErrorCode;
use thiserror::Error;

/// Why a request brought nothing.
#[derive(Debug, Clone, Error)]
pub enum Failure {
    /// No answer came: whether the request took effect is unknown.
    #[error("no answer: {0}")]
    Lost(String),
    #[error("{what} refused: {code:?} {message}")]
    Refused { what: &'static str, code: ErrorCode, message: String },
    #[error("not Kafka: {0}")]
    Malformed(String),
}

impl Failure {
    fn check(what: &'static str, code: i16, message: Option<&str>) -> Result<(), Self> {
        match code {
            0 => Ok(()),
            code => Err(Self::Refused {
                what,
                code: ErrorCode::from(code),
                message: message.unwrap_or_default().to_owned(),
            }),
        }
    }

    pub fn code(&self) -> Option<ErrorCode> {
        match self {
            Self::Refused { code, .. } => Some(*code),
            _ => None,
        }
    }

    pub fn is_lost(&self) -> bool {
        matches!(self, Self::Lost(_))
    }
}

/// One partition of a topic, by name.
pub type At = (String, i32);

fn by_topic<T>(entries: impl IntoIterator<Item = (String, T)>) -> Vec<(String, Vec<T>)> {
    let mut topics: Vec<(String, Vec<T>)> = Vec::new();
    for (name, entry) in entries {
        match topics.iter_mut().find(|(known, _)| *known == name) {
            Some((_, list)) => list.push(entry),
            None => topics.push((name, vec![entry])),
        }
    }
    topics
}
