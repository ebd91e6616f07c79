//! What an application counted: committed work only, so that a replay after a failure is not counted twice.

use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use headwater_streams::TaskMetrics;
use serde::Serialize;

macro_rules! counters {
    ($(#[doc = $doc:literal] $name:ident),* $(,)?) => {
        /// Counters of one application, shared by its threads.
        #[derive(Debug, Default)]
        pub struct Metrics { $(pub(crate) $name: AtomicU64),* }

        /// The counters at one moment.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
        pub struct MetricsSnapshot { $(#[doc = $doc] pub $name: u64),* }

        impl Metrics {
            pub fn snapshot(&self) -> MetricsSnapshot {
                MetricsSnapshot { $($name: self.$name.load(Ordering::Relaxed)),* }
            }
        }

        impl MetricsSnapshot {
            /// Prometheus' text format.
            pub fn prometheus(&self, application_id: &str) -> String {
                let mut text = String::new();
                for (name, value, help) in [$((stringify!($name), self.$name, $doc)),*] {
                    // Writing to a string cannot fail.
                    let _ = writeln!(text, "# HELP headwater_streams_{name} {help}\n# TYPE headwater_streams_{name} counter");
                    let _ = writeln!(text, "headwater_streams_{name}{{application_id=\"{application_id}\"}} {value}");
                }
                text
            }
        }
    };
}

counters! {
    #[doc = "Records taken from input topics."]
    records_in,
    #[doc = "Records written to sinks, repartition topics and dead-letter topics."]
    records_out,
    #[doc = "Records whose window had closed."]
    dropped_late,
    #[doc = "Records skipped for a null key."]
    skipped_null_key,
    #[doc = "Records skipped for a null value."]
    skipped_null_value,
    #[doc = "Records skipped for a negative timestamp."]
    skipped_invalid_timestamp,
    #[doc = "Updates of tables that were older than the rows they replaced."]
    out_of_order_table_updates,
    #[doc = "Records that did not decode."]
    deserialization_errors,
    #[doc = "Records of global tables left out: without a key, or that did not decode."]
    global_skipped,
    #[doc = "Records left out as duplicates."]
    dropped_duplicates,
    #[doc = "Records left out because a function or a processor failed on them."]
    processing_errors,
    #[doc = "Records left out because they could not be written."]
    production_errors,
    #[doc = "Records held in quarantine."]
    quarantined,
    #[doc = "Records released from quarantine."]
    released,
    #[doc = "Calls of services that were made, retries included."]
    calls,
    #[doc = "Changelog records applied to stores."]
    restored,
    #[doc = "Changelog records applied to the stores of standby tasks and warm-ups."]
    standby_records,
    #[doc = "Entries of stores restored from snapshots."]
    restored_from_snapshots,
    #[doc = "Snapshots of stores taken."]
    snapshots,
    #[doc = "Snapshots of stores that could not be taken, or not be used."]
    snapshot_failures,
    #[doc = "Stores thrown away because their position did not fit their changelog."]
    wiped_stores,
    #[doc = "Stores removed because their task had moved away."]
    removed_stores,
    #[doc = "Transactions or commits done."]
    commits,
    #[doc = "Transactions or commits given up and repeated."]
    aborts,
    #[doc = "Assignments received."]
    rebalances,
    #[doc = "Microseconds spent processing."]
    process_micros,
    #[doc = "Microseconds spent committing."]
    commit_micros,
}

impl Metrics {
    pub(crate) fn add(counter: &AtomicU64, count: u64) {
        counter.fetch_add(count, Ordering::Relaxed);
    }

    pub(crate) fn took(counter: &AtomicU64, time: Duration) {
        Self::add(counter, u64::try_from(time.as_micros()).unwrap_or(u64::MAX));
    }

    /// Adds what a task did between two of its snapshots.
    pub(crate) fn advance(&self, before: &TaskMetrics, after: &TaskMetrics) {
        for (counter, before, after) in [
            (&self.records_in, before.records_in, after.records_in),
            (&self.records_out, before.records_out, after.records_out),
            (&self.dropped_late, before.dropped_late, after.dropped_late),
            (&self.skipped_null_key, before.skipped_null_key, after.skipped_null_key),
            (&self.skipped_null_value, before.skipped_null_value, after.skipped_null_value),
            (
                &self.skipped_invalid_timestamp,
                before.skipped_invalid_timestamp,
                after.skipped_invalid_timestamp,
            ),
            (
                &self.out_of_order_table_updates,
                before.out_of_order_table_updates,
                after.out_of_order_table_updates,
            ),
            (&self.deserialization_errors, before.deserialization_errors, after.deserialization_errors),
            (&self.dropped_duplicates, before.dropped_duplicates, after.dropped_duplicates),
            (&self.processing_errors, before.processing_errors, after.processing_errors),
            (&self.production_errors, before.production_errors, after.production_errors),
            (&self.quarantined, before.quarantined, after.quarantined),
            (&self.released, before.released, after.released),
            (&self.calls, before.calls, after.calls),
        ] {
            Self::add(counter, after.saturating_sub(before));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_task_counted_between_two_looks_is_added() {
        let metrics = Metrics::default();
        let before = TaskMetrics { records_in: 3, out_of_order_table_updates: 1, ..TaskMetrics::default() };
        let after = TaskMetrics { records_in: 7, out_of_order_table_updates: 2, ..before };
        metrics.advance(&before, &after);
        let told = metrics.snapshot();
        assert_eq!((told.records_in, told.out_of_order_table_updates, told.records_out), (4, 1, 0));
    }
}
