//! Records that the broker does not take: known when their transaction can only be aborted.
//!
//! The tasks are opened again, and told which records those were: when the same ones come again, the topology's handler is asked
//! before anything is sent. So leaving one out, or writing a dead letter, is in one transaction with the rest.

use std::time::Instant;

use headwater_streams::RefusedOutput;

use super::Worker;
use super::trouble::Trouble;
use crate::metrics::Metrics;

/// So many refusals in a row, without a commit between, are no matter of single records.
const MOST: usize = 1_000;

impl Worker {
    /// Whether a handler wants to be asked about what this topic does not take.
    fn is_guarded(&self, topic: &str) -> bool {
        let own = topic.strip_prefix(self.shared.config.application_id.as_str());
        let is_changelog = own.is_some_and(|name| name.ends_with("-changelog"));
        self.shared.guarded.iter().any(|guarded| guarded == topic)
            || (self.shared.topology.guards_chosen_topics() && !is_changelog)
    }

    /// Drops the tasks and opens them again, knowing what was refused; `false` if this is no such trouble, if nobody wants to be
    /// asked, or if it was known and came all the same.
    pub(super) fn leaves_refused(&mut self, trouble: &Trouble) -> bool {
        let Trouble::Client { source, .. } = trouble else { return false };
        let Some((topic, code, message, records)) = source.refused_records() else { return false };
        if !self.is_guarded(topic) || self.refused.len() >= MOST {
            return false;
        }
        let before = self.refused.len();
        for record in records {
            let refused = RefusedOutput {
                topic: topic.to_owned(),
                timestamp: record.timestamp,
                key: record.key.clone(),
                value: record.value.clone(),
                error: format!("{code:?}"),
                message: message.to_owned(),
            };
            if !self.refused.contains(&refused) {
                self.refused.push(refused);
            }
        }
        if self.refused.len() == before {
            return false;
        }
        tracing::warn!(
            topic,
            ?code,
            message,
            records = records.len(),
            "refused by the broker: the handler decides"
        );
        self.drop_tasks();
        self.abandon_transaction();
        Metrics::add(&self.shared.metrics.aborts, 1);
        self.open_at = (!self.assigned.is_empty()).then(Instant::now);
        true
    }
}
