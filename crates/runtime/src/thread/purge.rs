//! Repartition topics keep only what is not yet processed: committed records are deleted from time to time.
//!
//! Not at once: a database that keeps stores with their positions may lose its last moments when it dies, and then needs what it had
//! processed in them again.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use headwater_client::{Client, Committed};
use headwater_model::{Offset, TopicPartition};
use headwater_streams::Topology;

/// As Kafka Streams' `repartition.purge.interval.ms`.
const INTERVAL: Duration = Duration::from_secs(30);

pub(super) struct Purge {
    /// Repartition topics are internal and start with the application's id.
    external: Vec<String>,
    done_to: HashMap<TopicPartition, Offset>,
    /// As of the last time.
    due: HashMap<TopicPartition, Offset>,
    last: Instant,
}

impl Purge {
    pub fn new(topology: &Topology) -> Self {
        Self {
            external: topology.source_topics(),
            done_to: HashMap::new(),
            due: HashMap::new(),
            last: Instant::now(),
        }
    }

    /// Notes committed positions of repartition topics, and deletes what lies before them when it is time.
    pub fn committed(&mut self, client: &Client, positions: &HashMap<TopicPartition, Committed>) {
        let internal = positions.iter().filter(|(at, _)| !self.external.contains(&at.topic));
        self.done_to.extend(internal.map(|(at, position)| (at.clone(), position.offset)));
        if self.last.elapsed() < INTERVAL {
            return;
        }
        self.last = Instant::now();
        let before: Vec<(TopicPartition, Offset)> = self.settle().into_iter().collect();
        if before.is_empty() {
            return;
        }
        let client = client.clone();
        tokio::spawn(async move {
            if let Err(error) = client.delete_records(&before).await {
                tracing::warn!(%error, "delete processed records of repartition topics; trying again after {INTERVAL:?}");
            }
        });
    }

    /// What was committed by the time before.
    fn settle(&mut self) -> HashMap<TopicPartition, Offset> {
        std::mem::replace(&mut self.due, std::mem::take(&mut self.done_to))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_committed_is_deleted_one_time_later() {
        let mut purge =
            Purge { external: vec![], done_to: HashMap::new(), due: HashMap::new(), last: Instant::now() };
        let at = |offset| HashMap::from([(TopicPartition::new("app-x-repartition", 0), offset)]);
        purge.done_to.extend(at(5));
        assert!(purge.settle().is_empty());
        purge.done_to.extend(at(9));
        assert_eq!(purge.settle(), at(5));
        assert_eq!(purge.settle(), at(9));
        assert!(purge.settle().is_empty());
    }
}
