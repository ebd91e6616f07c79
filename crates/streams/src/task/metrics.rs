//! What a task counts.

use serde::{Deserialize, Serialize};

/// What a task counted since it was created.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskMetrics {
    pub records_in: u64,
    /// Records for sinks, repartition topics and dead letters; changelogs are not counted.
    pub records_out: u64,
    /// Records whose window had closed.
    pub dropped_late: u64,
    pub skipped_null_key: u64,
    pub skipped_null_value: u64,
    pub skipped_invalid_timestamp: u64,
    pub deserialization_errors: u64,
    /// Table updates older than the value they replaced (they are applied: offset order rules).
    pub out_of_order_table_updates: u64,
    /// Records whose id had been seen.
    pub dropped_duplicates: u64,
    /// Records that a function or a processor failed on, and that were left out.
    pub processing_errors: u64,
    /// Records that could not be written, and were left out.
    #[serde(default)]
    pub production_errors: u64,
    /// Records that were held in quarantine.
    #[serde(default)]
    pub quarantined: u64,
    /// Records that were released from it.
    #[serde(default)]
    pub released: u64,
    /// Calls of services that were made, retries included.
    #[serde(default)]
    pub calls: u64,
}
