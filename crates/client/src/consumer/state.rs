//! What the caller and the fetcher share: assigned partitions, their positions and buffers.
//!
//! Invariant: a buffer holds consecutive runs from `position` to `fetch_from`. Whatever moves a
//! position gives the partition a new `epoch`, and answers to fetches of an older one are dropped.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use headwater_model::{Offset, TopicPartition};
use tokio::sync::Notify;
use tokio::time::Instant;

use super::batches::Run;
use super::{ConsumerConfig, Fetched, Position};
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
    position: Position,
    fetch_from: Position,
    epoch: u64,
    /// The leader epoch under which `fetch_from` is known to be right; -1 for none.
    validated: i32,
    paused: bool,
    in_flight: bool,
    /// Where there was no more when the broker answered last.
    end: Option<Offset>,
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
    pub(super) from: Position,
    pub(super) epoch: u64,
    pub(super) validated: i32,
    /// Of the leader that is asked; -1 where it is not known.
    pub(super) leader_epoch: i32,
    /// It has been read to its end, as far as is known.
    pub(super) at_end: bool,
}

/// What there is to fetch.
#[derive(Default)]
pub(super) struct Demand {
    pub(super) wanted: Vec<Wanted>,
    /// When a partition that failed is to be tried again.
    pub(super) retry_at: Option<Instant>,
}

impl State {
    fn partition(&mut self, from: Position) -> Partition {
        self.next_epoch += 1;
        Partition {
            position: from,
            fetch_from: from,
            epoch: self.next_epoch,
            validated: -1,
            paused: false,
            in_flight: false,
            end: None,
            buffer: VecDeque::new(),
            buffered: 0,
            trouble: None,
            failure: None,
        }
    }

    pub(super) fn assign(&mut self, partitions: impl IntoIterator<Item = (TopicPartition, Position)>) {
        self.partitions.clear();
        self.order.clear();
        self.add(partitions);
    }

    pub(super) fn add(&mut self, partitions: impl IntoIterator<Item = (TopicPartition, Position)>) {
        for (at, from) in partitions {
            let partition = self.partition(from);
            if self.partitions.insert(at.clone(), partition).is_none() {
                self.order.push_back(at);
            }
        }
    }

    pub(super) fn remove(&mut self, partitions: &[TopicPartition]) {
        let gone: HashSet<&TopicPartition> = partitions.iter().collect();
        self.partitions.retain(|at, _| !gone.contains(at));
        self.order.retain(|at| !gone.contains(at));
    }

    pub(super) fn assignment(&self) -> Vec<TopicPartition> {
        let mut assigned: Vec<_> = self.partitions.keys().cloned().collect();
        assigned.sort();
        assigned
    }

    pub(super) fn seek(&mut self, at: &TopicPartition, to: Position) {
        let Some(paused) = self.partitions.get(at).map(|partition| partition.paused) else { return };
        let moved = Partition { paused, ..self.partition(to) };
        self.partitions.insert(at.clone(), moved);
    }

    /// What has failed begins anew where the caller is.
    pub(super) fn try_again(&mut self) {
        let failed = self.partitions.iter().filter(|(_, partition)| partition.failure.is_some());
        let failed: Vec<_> = failed.map(|(at, partition)| (at.clone(), partition.position)).collect();
        failed.into_iter().for_each(|(at, position)| self.seek(&at, position));
    }

    pub(super) fn set_paused(&mut self, partitions: &[TopicPartition], paused: bool) {
        for at in partitions {
            if let Some(partition) = self.partitions.get_mut(at) {
                partition.paused = paused;
            }
        }
    }

    pub(super) fn position(&self, at: &TopicPartition) -> Option<Position> {
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
                partition.position = run.end(partition.position);
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
            let full = partition.buffered >= buffer_limit;
            if full || partition.paused || partition.failure.is_some() || partition.in_flight {
                continue;
            }
            if let Some(trouble) = partition.trouble.as_ref().filter(|trouble| trouble.retry_at > now) {
                demand.retry_at =
                    Some(demand.retry_at.map_or(trouble.retry_at, |at| at.min(trouble.retry_at)));
                continue;
            }
            demand.wanted.push(Wanted {
                at: at.clone(),
                from: partition.fetch_from,
                epoch: partition.epoch,
                validated: partition.validated,
                leader_epoch: -1,
                at_end: partition.end.is_some_and(|end| end <= partition.fetch_from.offset),
            });
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

    /// What the broker answered, and where it said that there is no more.
    pub(super) fn fill(&mut self, wanted: &Wanted, runs: Vec<Run>, end: Offset) {
        let Some(partition) = self.current(wanted) else { return };
        partition.end = Some(end);
        for run in runs {
            partition.fetch_from = run.end(partition.fetch_from);
            partition.buffered += run.bytes;
            partition.buffer.push_back(run);
        }
    }

    /// The position is right in the log of the leader that was asked, or that leader will say so itself.
    pub(super) fn validated(&mut self, wanted: &Wanted) {
        if let Some(partition) = self.current(wanted) {
            partition.validated = wanted.leader_epoch;
        }
    }

    /// The log parts from what was fetched at `divergent`, or nobody knows where. What the caller has not taken is fetched
    /// again; returns how far it has read when that is too far.
    pub(super) fn drop_buffer(&mut self, wanted: &Wanted, divergent: Option<Position>) -> Option<Offset> {
        let partition = self.current(wanted)?;
        let right = |end: Offset| divergent.is_some_and(|divergent| end <= divergent.offset);
        while partition.buffer.back().is_some_and(|run| !right(run.fetched.next_offset)) {
            partition.buffered -= partition.buffer.pop_back().map_or(0, |run| run.bytes);
        }
        let position = partition.position;
        partition.fetch_from = partition.buffer.iter().fold(position, |before, run| run.end(before));
        (!right(position.offset)).then_some(position.offset)
    }

    /// The partition's offset is gone; it goes on elsewhere once its buffer is empty.
    pub(super) fn reset(&mut self, wanted: &Wanted, to: Position) {
        let Some(partition) = self.current(wanted) else { return };
        partition.fetch_from = to;
        if partition.buffer.is_empty() {
            partition.position = to;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_failed_for_too_long_is_fetched_again_from_where_the_caller_is_when_that_is_asked_for() {
        let (at, other) = (TopicPartition::new("t", 0), TopicPartition::new("t", 1));
        let mut state = State::default();
        let position = Position { offset: 7, leader_epoch: Some(3) };
        state.assign([(at.clone(), position), (other.clone(), Position::from(0))]);
        state.set_paused(std::slice::from_ref(&other), true);
        let first = state.demand(1).wanted.remove(0);
        let away = ClientError::Disconnected { address: "a:1".to_owned(), reason: "away".to_owned() };
        let now = Instant::now();
        let trouble = Trouble { since: now - PATIENCE, pause: FIRST_PAUSE, retry_at: now };
        state.current(&first).unwrap().trouble = Some(trouble);
        state.trouble(&first, &away);
        for _ in 0..2 {
            assert!(matches!(state.take(), Err(ClientError::GaveUp { .. })), "it comes back at each poll");
            assert!(state.demand(1).wanted.is_empty(), "and nothing is fetched");
        }
        state.try_again();
        assert!(state.take().unwrap().is_empty());
        let demand = state.demand(1).wanted;
        let asked: Vec<_> = demand.iter().map(|wanted| (&wanted.at, wanted.from)).collect();
        assert_eq!(asked, [(&at, position)]);
        // Patience begins anew, too.
        state.trouble(&demand[0], &away);
        assert!(state.take().unwrap().is_empty());
    }
}
