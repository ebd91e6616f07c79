//! Repartition topics keep only what is not yet processed: committed records are deleted from time to time.

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
    last: Instant,
}

impl Purge {
    pub fn new(topology: &Topology) -> Self {
        Self { external: topology.source_topics(), done_to: HashMap::new(), last: Instant::now() }
    }

    /// Notes committed positions of repartition topics, and deletes what lies before them when it is time.
    pub fn committed(&mut self, client: &Client, positions: &HashMap<TopicPartition, Committed>) {
        let internal = positions.iter().filter(|(at, _)| !self.external.contains(&at.topic));
        self.done_to.extend(internal.map(|(at, position)| (at.clone(), position.offset)));
        if self.done_to.is_empty() || self.last.elapsed() < INTERVAL {
            return;
        }
        self.last = Instant::now();
        let before: Vec<(TopicPartition, Offset)> = self.done_to.drain().collect();
        let client = client.clone();
        tokio::spawn(async move {
            if let Err(error) = client.delete_records(&before).await {
                tracing::warn!(%error, "delete processed records of repartition topics; trying again after {INTERVAL:?}");
            }
        });
    }
}
