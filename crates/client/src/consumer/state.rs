//! What the caller and the fetcher share: assigned partitions, their positions and buffers.
//!
//! Invariant: a buffer holds consecutive runs from `position` to `fetch_from`. Whatever moves a
//! position gives the partition a new `epoch`, and answers to fetches of an older one are dropped.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use headwater_model::{Offset, TopicPartition};
use tokio::sync::Notify;
use tokio::time::Instant;

use super::batches::Run;
use super::{ConsumerConfig, Fetched};
use crate::ClientError;
use crate::cluster::PATIENCE;

/// A poll returns about this much, so that a caller's step stays short.
const POLL_BYTES: usize = 2 << 20;
const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

pub(super) struct Shared {
    pub(super) config: ConsumerConfig,
    state: Mutex<State>,
    /// The fetcher may find something to do.
    pub(super) work: Notify,
    /// The caller may find something to take.
    pub(super) ready: Notify,
}

impl Shared {
    pub(super) fn new(config: ConsumerConfig) -> Self {
        Self { config, state: Mutex::default(), work: Notify::new(), ready: Notify::new() }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Default)]
pub(super) struct State {
    partitions: HashMap<TopicPartition, Partition>,
    /// The assignment in the order it is served in; it rotates.
    order: VecDeque<TopicPartition>,
    next_epoch: u64,
}

struct Partition {
    position: Offset,
    fetch_from: Offset,
    epoch: u64,
    paused: bool,
    in_flight: bool,
    buffer: VecDeque<Run>,
    buffered: usize,
    trouble: Option<Trouble>,
    failure: Option<ClientError>,
}

/// Since when a partition fails, and when it is tried again.
struct Trouble {
    since: Instant,
    pause: Duration,
    retry_at: Instant,
}

/// A partition that may be fetched.
#[derive(Debug, Clone)]
pub(super) struct Wanted {
    pub(super) at: TopicPartition,
    pub(super) from: Offset,
    pub(super) epoch: u64,
}

/// What there is to fetch.
#[derive(Default)]
pub(super) struct Demand {
    pub(super) wanted: Vec<Wanted>,
    /// A partition is left out because its buffer is full: do not wait long for the others.
    pub(super) held_back: bool,
    /// When a partition that failed is to be tried again.
    pub(super) retry_at: Option<Instant>,
}

impl State {
    fn partition(&mut self, offset: Offset) -> Partition {
        self.next_epoch += 1;
        Partition {
            position: offset,
            fetch_from: offset,
            epoch: self.next_epoch,
            paused: false,
            in_flight: false,
            buffer: VecDeque::new(),
            buffered: 0,
            trouble: None,
            failure: None,
        }
    }

    pub(super) fn assign(&mut self, partitions: Vec<(TopicPartition, Offset)>) {
        self.partitions.clear();
        self.order.clear();
        self.add(partitions);
    }

    pub(super) fn add(&mut self, partitions: Vec<(TopicPartition, Offset)>) {
        for (at, offset) in partitions {
            let partition = self.partition(offset);
            if self.partitions.insert(at.clone(), partition).is_none() {
                self.order.push_back(at);
            }
        }
    }

    pub(super) fn remove(&mut self, partitions: &[TopicPartition]) {
        self.partitions.retain(|at, _| !partitions.contains(at));
        self.order.retain(|at| !partitions.contains(at));
    }

    pub(super) fn assignment(&self) -> Vec<TopicPartition> {
        let mut assigned: Vec<_> = self.partitions.keys().cloned().collect();
        assigned.sort();
        assigned
    }

    pub(super) fn seek(&mut self, at: &TopicPartition, offset: Offset) {
        let Some(paused) = self.partitions.get(at).map(|partition| partition.paused) else { return };
        let moved = Partition { paused, ..self.partition(offset) };
        self.partitions.insert(at.clone(), moved);
    }

    pub(super) fn set_paused(&mut self, partitions: &[TopicPartition], paused: bool) {
        for at in partitions {
            if let Some(partition) = self.partitions.get_mut(at) {
                partition.paused = paused;
            }
        }
    }

    pub(super) fn position(&self, at: &TopicPartition) -> Option<Offset> {
        self.partitions.get(at).map(|partition| partition.position)
    }

    /// Takes buffered runs, one partition after the other, up to about `POLL_BYTES`.
    pub(super) fn take(&mut self) -> Result<Vec<Fetched>, ClientError> {
        if let Some(failure) = self.partitions.values().find_map(|partition| partition.failure.clone()) {
            return Err(failure);
        }
        let (mut taken, mut bytes) = (Vec::new(), 0);
        for _ in 0..self.order.len() {
            if bytes >= POLL_BYTES {
                break;
            }
            self.order.rotate_left(1);
            let Some(partition) = self.order.back().and_then(|at| self.partitions.get_mut(at)) else {
                continue;
            };
            if partition.paused {
                continue;
            }
            while bytes < POLL_BYTES
                && let Some(run) = partition.buffer.pop_front()
            {
                partition.buffered -= run.bytes;
                partition.position = run.fetched.next_offset;
                bytes += run.bytes;
                taken.push(run.fetched);
            }
        }
        Ok(taken)
    }

    /// What could be fetched now.
    pub(super) fn demand(&mut self, buffer_limit: usize) -> Demand {
        let now = Instant::now();
        let mut demand = Demand::default();
        for at in &self.order {
            let Some(partition) = self.partitions.get(at) else { continue };
            if partition.paused || partition.failure.is_some() || partition.in_flight {
                continue;
            }
            if partition.buffered >= buffer_limit {
                demand.held_back = true;
                continue;
            }
            if let Some(trouble) = partition.trouble.as_ref().filter(|trouble| trouble.retry_at > now) {
                demand.retry_at =
                    Some(demand.retry_at.map_or(trouble.retry_at, |at| at.min(trouble.retry_at)));
                continue;
            }
            demand.wanted.push(Wanted { at: at.clone(), from: partition.fetch_from, epoch: partition.epoch });
        }
        // Whoever came first in this request comes last in the next, so that none is starved by the
        // limit on bytes.
        if let Some(first) = demand.wanted.first().map(|wanted| wanted.at.clone())
            && let Some(place) = self.order.iter().position(|at| *at == first)
        {
            self.order.remove(place);
            self.order.push_back(first);
        }
        demand
    }

    fn current(&mut self, wanted: &Wanted) -> Option<&mut Partition> {
        self.partitions.get_mut(&wanted.at).filter(|partition| partition.epoch == wanted.epoch)
    }

    pub(super) fn begin(&mut self, wanted: &Wanted) {
        if let Some(partition) = self.current(wanted) {
            partition.in_flight = true;
        }
    }

    /// A fetch has ended for this partition, whatever came of it.
    pub(super) fn finish(&mut self, wanted: &Wanted) {
        if let Some(partition) = self.current(wanted) {
            partition.in_flight = false;
        }
    }

    pub(super) fn healthy(&mut self, wanted: &Wanted) {
        if let Some(partition) = self.current(wanted) {
            partition.trouble = None;
        }
    }

    pub(super) fn fill(&mut self, wanted: &Wanted, runs: Vec<Run>) {
        let Some(partition) = self.current(wanted) else { return };
        for run in runs {
            partition.fetch_from = run.fetched.next_offset;
            partition.buffered += run.bytes;
            partition.buffer.push_back(run);
        }
    }

    /// The partition's offset is gone; it goes on elsewhere once its buffer is empty.
    pub(super) fn reset(&mut self, wanted: &Wanted, offset: Offset) {
        let Some(partition) = self.current(wanted) else { return };
        partition.fetch_from = offset;
        if partition.buffer.is_empty() {
            partition.position = offset;
        }
        partition.trouble = None;
    }

    /// Tries again after a pause, or lets `poll` fail when patience has ended.
    pub(super) fn trouble(&mut self, wanted: &Wanted, error: &ClientError) {
        let Some(partition) = self.current(wanted) else { return };
        let now = Instant::now();
        let trouble =
            partition.trouble.get_or_insert(Trouble { since: now, pause: FIRST_PAUSE, retry_at: now });
        if now - trouble.since >= PATIENCE {
            partition.failure = Some(ClientError::GaveUp {
                what: format!("fetch {}", wanted.at),
                after: now - trouble.since,
                last: std::sync::Arc::new(error.clone()),
            });
            return;
        }
        trouble.retry_at = now + trouble.pause;
        trouble.pause = (trouble.pause * 2).min(LONGEST_PAUSE);
    }

    pub(super) fn fail(&mut self, wanted: &Wanted, error: ClientError) {
        if let Some(partition) = self.current(wanted) {
            partition.failure = Some(error);
        }
    }
}
