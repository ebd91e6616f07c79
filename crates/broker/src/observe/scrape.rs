//! Everything that metrics are made of, gathered once a scrape.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use headwater_log::{FileUse, PartitionSummary};
use headwater_model::TimestampMs;

use super::space::Space;
use crate::broker::Shared;
use crate::catalog::Topic;

/// A topic's partitions by index.
pub struct TopicSummary {
    pub topic: Arc<Topic>,
    pub partitions: Vec<(i32, PartitionSummary)>,
}

impl TopicSummary {
    pub fn bytes(&self) -> u64 {
        self.partitions.iter().map(|(_, partition)| partition.bytes).sum()
    }

    pub fn offsets(&self) -> i64 {
        let span =
            |partition: &PartitionSummary| partition.offsets.high_watermark - partition.offsets.log_start;
        self.partitions.iter().map(|(_, partition)| span(partition)).sum()
    }
}

pub struct Scrape {
    pub shared: Arc<Shared>,
    pub topics: Vec<TopicSummary>,
    /// Topics that are left out, smallest first, so that a scrape stays bounded.
    pub topics_left_out: usize,
    pub partitions: usize,
    pub open_transactions: usize,
    pub oldest_transaction: Option<TimestampMs>,
    pub damaged: usize,
    pub files: Vec<FileUse>,
    pub space: Option<Space>,
    pub max_dirty_ratio: f64,
}

impl Scrape {
    pub fn of(shared: &Arc<Shared>, oldest: Option<TimestampMs>) -> Self {
        let mut summaries: HashMap<_, _> =
            shared.reader.summaries().into_iter().map(|summary| (summary.id, summary)).collect();
        let open: BTreeSet<i64> =
            summaries.values().flat_map(|summary| summary.open.iter().copied()).collect();
        let damaged = summaries.values().map(|summary| summary.damaged).sum();
        let mut topics: Vec<TopicSummary> = shared
            .catalog
            .all()
            .into_iter()
            .map(|topic| {
                let ids = (0..topic.record.partitions).filter_map(|index| topic.partition(index));
                let partitions = ids.filter_map(|id| Some((id.partition, summaries.remove(&id)?))).collect();
                TopicSummary { topic, partitions }
            })
            .collect();
        let partitions = topics.iter().map(|topic| topic.partitions.len()).sum();
        let max_dirty_ratio = topics.iter().map(dirty_ratio).fold(0.0, f64::max);
        let limit = shared.config.metrics_partitions;
        let topics_left_out = topics.len().saturating_sub(limit);
        if topics_left_out > 0 {
            topics.sort_by_cached_key(|topic| std::cmp::Reverse(topic.bytes()));
            topics.truncate(limit);
        }
        Self {
            topics,
            topics_left_out,
            partitions,
            open_transactions: open.len(),
            oldest_transaction: oldest.filter(|_| !open.is_empty()),
            damaged,
            files: shared.reader.files().unwrap_or_default(),
            space: Space::of(&shared.config.data_dir),
            max_dirty_ratio,
            shared: Arc::clone(shared),
        }
    }

    /// Whether single partitions are in the metrics.
    pub fn is_detailed(&self) -> bool {
        self.partitions <= self.shared.config.metrics_partitions
    }
}

fn dirty_ratio(topic: &TopicSummary) -> f64 {
    if !topic.topic.settings.compact {
        return 0.0;
    }
    let ratio = |partition: &PartitionSummary| {
        let dirty = partition.bytes.saturating_sub(partition.clean_bytes);
        if dirty == 0 { 0.0 } else { dirty as f64 / partition.bytes as f64 }
    };
    topic.partitions.iter().map(|(_, partition)| ratio(partition)).fold(0.0, f64::max)
}
