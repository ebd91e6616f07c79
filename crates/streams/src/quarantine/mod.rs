//! Quarantine: a record that fails and all later ones of its key wait in a store, while the others flow.
//!
//! Owns what is held, in which order, and how much. Invariant: a record that is held has had no effect. Where one had written to a
//! store before it failed, the task gives up with [`crate::TaskError::SetAside`]; the shell opens it again from what is
//! committed and says so ([`crate::Task::set_aside`]), and the record is held when its turn comes, without being processed.

use headwater_model::{Bytes, Offset, TimestampMs};

pub(crate) mod entry;
pub(crate) mod keeper;

/// What happens to a record that the quarantine has no room for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum WhenFull {
    /// The task stops with an error that says so.
    #[default]
    Fail,
    /// It goes to this topic as a dead letter; the order of its key is lost from there on.
    DeadLetter(String),
}

/// How much a quarantine may hold, for each task (partition).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Quarantine {
    pub(crate) max_keys: usize,
    pub(crate) max_bytes: u64,
    pub(crate) when_full: WhenFull,
    pub(crate) version: Option<String>,
}

impl Default for Quarantine {
    fn default() -> Self {
        Self { max_keys: 1_000, max_bytes: 64 << 20, when_full: WhenFull::Fail, version: None }
    }
}

impl Quarantine {
    /// A thousand keys and 64 MiB in each task; beyond that the task fails.
    pub fn new() -> Self {
        Self::default()
    }

    /// How many keys may be held at once.
    pub fn max_keys(mut self, keys: usize) -> Self {
        self.max_keys = keys;
        self
    }

    /// How many bytes may be held: keys, values and headers, and 64 for each record.
    pub fn max_bytes(mut self, bytes: u64) -> Self {
        self.max_bytes = bytes;
        self
    }

    pub fn when_full(mut self, when_full: WhenFull) -> Self {
        self.when_full = when_full;
        self
    }

    /// What is deployed: a task that finds that another version was the last one releases everything before its first record.
    pub fn version(mut self, version: impl Into<String>) -> Self {
        self.version = Some(version.into());
        self
    }
}

/// A key that is held.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeldKey {
    /// `None`: records without a key, each of which waits alone.
    pub key: Option<Bytes>,
    pub records: u64,
    /// As [`Quarantine::max_bytes`] counts.
    pub bytes: u64,
    /// The operator that failed, and with what.
    pub node: String,
    pub message: String,
    /// The time of the record that failed.
    pub since: TimestampMs,
}

/// What a record failed with.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Failure {
    pub node: String,
    pub message: String,
}

/// A record that is to be held without being processed, as it failed after it had had effects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Condemned {
    pub topic: String,
    pub partition: i32,
    pub offset: Offset,
    pub failure: Failure,
}
