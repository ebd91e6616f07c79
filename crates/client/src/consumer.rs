//! A consumer of assigned partitions, without a group.
//!
//! A background task (`consumer/fetcher.rs`) keeps buffers filled; `poll` only takes from them, so it
//! may be cancelled at any point. What `poll` has returned, and nothing else, moves the position.

mod batches;
mod fetcher;
mod lanes;
mod state;
mod validation;

use std::sync::Arc;
use std::time::Duration;

use headwater_model::{Offset, Record, TopicPartition};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::cluster::Lane;
use crate::{Client, ClientError};
use fetcher::Fetcher;
use state::Shared;

/// Whether records of transactions that are open or aborted are seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Isolation {
    Uncommitted,
    #[default]
    Committed,
}

impl Isolation {
    pub(crate) fn level(self) -> i8 {
        match self {
            Self::Uncommitted => 0,
            Self::Committed => 1,
        }
    }
}

/// Where to go on when there is no position, or none that the partition still holds.
///
/// Where the log was cut back and it is known where, both `Earliest` and `Latest` go on from there, as Kafka's do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum AutoOffsetReset {
    Earliest,
    Latest,
    /// Nowhere: it is an error.
    #[default]
    Fail,
}

#[derive(Debug, Clone)]
pub struct ConsumerConfig {
    pub isolation: Isolation,
    pub auto_offset_reset: AutoOffsetReset,
    /// Most bytes of one fetch.
    pub max_bytes: i32,
    /// Most bytes of one partition in one fetch, and what is buffered of it before the next.
    pub max_partition_bytes: i32,
    pub min_bytes: i32,
    pub max_wait: Duration,
}

impl Default for ConsumerConfig {
    fn default() -> Self {
        Self {
            isolation: Isolation::Committed,
            auto_offset_reset: AutoOffsetReset::Fail,
            max_bytes: 8 << 20,
            max_partition_bytes: 1 << 20,
            min_bytes: 1,
            max_wait: Duration::from_millis(500),
        }
    }
}

/// Where a partition is read next, and how it is known that what comes before is still what was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    pub offset: Offset,
    /// The leader epoch of the record before (KIP-320); without it truncation is not noticed.
    pub leader_epoch: Option<i32>,
}

impl From<Offset> for Position {
    fn from(offset: Offset) -> Self {
        Self { offset, leader_epoch: None }
    }
}

/// A run of one partition.
#[derive(Debug, Clone)]
pub struct Fetched {
    pub topic_partition: TopicPartition,
    /// Empty where only control or aborted batches were passed.
    pub records: Vec<Record>,
    /// The position after this.
    pub next_offset: Offset,
    /// The leader epoch of all of it, to be committed with `next_offset`.
    pub leader_epoch: Option<i32>,
    pub high_watermark: Offset,
    pub last_stable_offset: Offset,
}

pub struct Consumer {
    client: Client,
    shared: Arc<Shared>,
    lanes: [Lane; 2],
    /// Started by the first poll, which is known to run inside a runtime.
    fetcher: Option<JoinHandle<()>>,
}

impl Consumer {
    pub fn new(client: &Client, config: ConsumerConfig) -> Self {
        Self {
            client: client.clone(),
            shared: Arc::new(Shared::new(config)),
            lanes: [client.new_lane(), client.new_lane()],
            fetcher: None,
        }
    }

    /// Replaces the assignment; what was buffered is dropped.
    pub fn assign(&mut self, partitions: Vec<(TopicPartition, Offset)>) {
        self.shared.lock().assign(begins(partitions));
        self.shared.work.notify_one();
    }

    /// Adds to the assignment; a partition that is there already is moved to the offset.
    pub fn add(&mut self, partitions: Vec<(TopicPartition, Offset)>) {
        self.shared.lock().add(begins(partitions));
        self.shared.work.notify_one();
    }

    /// The same at positions that may know their leader epoch, such as committed ones: then truncation since they were
    /// committed is noticed.
    pub fn add_positions(&mut self, partitions: Vec<(TopicPartition, Position)>) {
        self.shared.lock().add(partitions);
        self.shared.work.notify_one();
    }

    pub fn remove(&mut self, partitions: &[TopicPartition]) {
        self.shared.lock().remove(partitions);
    }

    pub fn assignment(&self) -> Vec<TopicPartition> {
        self.shared.lock().assignment()
    }

    /// Moves the position of an assigned partition.
    pub fn seek(&mut self, at: &TopicPartition, offset: Offset) {
        self.seek_to(at, Position::from(offset));
    }

    /// The same to a position that may know its leader epoch.
    pub fn seek_to(&mut self, at: &TopicPartition, to: Position) {
        self.shared.lock().seek(at, to);
        self.shared.work.notify_one();
    }

    /// Partitions that have failed are fetched again from their positions, with patience anew. What does not heal fails again.
    pub fn try_again(&mut self) {
        self.shared.lock().try_again();
        self.shared.work.notify_one();
    }

    /// Nothing of these partitions is returned or fetched until they are resumed.
    pub fn pause(&mut self, partitions: &[TopicPartition]) {
        self.shared.lock().set_paused(partitions, true);
    }

    pub fn resume(&mut self, partitions: &[TopicPartition]) {
        self.shared.lock().set_paused(partitions, false);
        self.shared.work.notify_one();
        self.shared.ready.notify_one();
    }

    /// The offset `poll` returns next; `None` when the partition is not assigned.
    pub fn position(&self, at: &TopicPartition) -> Option<Offset> {
        self.shared.lock().position(at).map(|position| position.offset)
    }

    /// Returns what has been fetched, at latest after `timeout`; then possibly nothing.
    ///
    /// An error names a partition that has failed for a minute, whose offset is out of range, or whose log was cut back
    /// behind it; it comes back at each poll until the partition is removed, moved by `seek`, or tried again
    /// ([`Consumer::try_again`]).
    pub async fn poll(&mut self, timeout: Duration) -> Result<Vec<Fetched>, ClientError> {
        self.start();
        let deadline = Instant::now() + timeout;
        loop {
            let taken = self.shared.lock().take()?;
            if !taken.is_empty() {
                self.shared.work.notify_one();
                return Ok(taken);
            }
            if tokio::time::timeout_at(deadline, self.shared.ready.notified()).await.is_err() {
                return self.shared.lock().take();
            }
        }
    }

    fn start(&mut self) {
        if self.fetcher.as_ref().is_none_or(JoinHandle::is_finished) {
            let fetcher = Fetcher::new(self.client.clone(), Arc::clone(&self.shared), self.lanes);
            self.fetcher = Some(tokio::spawn(fetcher.run()));
        }
    }
}

fn begins(partitions: Vec<(TopicPartition, Offset)>) -> impl Iterator<Item = (TopicPartition, Position)> {
    partitions.into_iter().map(|(at, offset)| (at, Position::from(offset)))
}

impl Drop for Consumer {
    fn drop(&mut self) {
        if let Some(fetcher) = &self.fetcher {
            fetcher.abort();
        }
        self.lanes.iter().for_each(|lane| self.client.close_lane(*lane));
    }
}
