//! Where things are in Redis.

use headwater_streams::{ExternalTable, TaskId};

/// Which table is which store: of all applications.
pub(super) const TABLES: &str = "headwater:tables";

/// The keys of one application.
#[derive(Debug, Clone)]
pub(super) struct Keys {
    prefix: String,
}

impl Keys {
    pub fn new(application_id: &str) -> Self {
        Self { prefix: format!("headwater:{application_id}") }
    }

    /// A hash of `topic/partition` and JSON.
    pub fn positions(&self) -> String {
        format!("{}:positions", self.prefix)
    }

    /// A hash of token, epoch and owner.
    pub fn task(&self, task: TaskId) -> String {
        format!("{}:task:{task}", self.prefix)
    }

    /// The set of the keys of tasks.
    pub fn tasks(&self) -> String {
        format!("{}:tasks", self.prefix)
    }

    /// The set of the keys of rows.
    pub fn rows(&self) -> String {
        format!("{}:rows", self.prefix)
    }
}

/// The hash of the values of a partition's rows.
pub(super) fn values(table: &ExternalTable, partition: i32) -> String {
    format!("{}:{partition}", table.name)
}

/// The hash of their timestamps.
pub(super) fn timestamps(table: &ExternalTable, partition: i32) -> String {
    format!("{}:{partition}:timestamps", table.name)
}
