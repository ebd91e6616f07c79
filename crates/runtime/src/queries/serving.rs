//! What of the stores may be read here at this moment, and how far it is.
//!
//! Invariant: while an entry is here, the committed entries of its stores only ever become newer. Whoever drops, wipes or
//! restores stores takes the entry away first, and one that comes back is another *era*: a reader that finds the era it
//! began with has read one state.

use std::collections::{BTreeMap, HashMap};
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::{Duration, Instant};

use headwater_client::Lease;
use headwater_model::{Offset, TopicPartition};
use headwater_streams::TaskId;
use tokio::sync::watch;

/// A lag that was looked up longer ago is not known any more.
const LAG_KNOWN: Duration = Duration::from_secs(5);

/// The next offset of each input of which the stores have seen all records before.
pub(crate) type Seen = BTreeMap<TopicPartition, Offset>;

/// A task that runs here.
#[derive(Clone)]
pub(crate) struct Active {
    pub era: u64,
    thread: usize,
    /// That nobody else runs it.
    lease: Lease,
    pub seen: Seen,
}

impl Active {
    pub fn holds(&self) -> bool {
        self.lease.holds()
    }
}

/// A copy of a task that runs elsewhere.
#[derive(Clone, Copy)]
pub(crate) struct StandbyCopy {
    pub era: u64,
    thread: usize,
    lag: u64,
    looked_at: Instant,
    /// It has all that was in its changelogs then.
    pub current_at: Option<Instant>,
}

/// How far behind an answer may be; without either, not at all.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Staleness {
    /// Changelog records that may be missing. A copy knows within five seconds how many it lacks, or does not answer.
    pub max_lag: Option<u64>,
    /// Milliseconds since the copy had all that was committed.
    pub max_staleness_ms: Option<u64>,
}

impl Staleness {
    /// The instance that runs the task answers, and nobody else.
    pub fn none() -> Self {
        Self::default()
    }

    /// A copy that lacks at most so many changelog records may answer, too.
    pub fn records(max_lag: u64) -> Self {
        Self { max_lag: Some(max_lag), ..Self::default() }
    }

    /// A copy that had all that was committed so long ago may answer, too.
    pub fn time(longest: Duration) -> Self {
        let ms = u64::try_from(longest.as_millis()).unwrap_or(u64::MAX);
        Self { max_staleness_ms: Some(ms), ..Self::default() }
    }

    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }
}

impl StandbyCopy {
    /// Changelog records that it lacked when it last looked, if that was lately.
    pub fn lag(&self) -> Option<u64> {
        (self.looked_at.elapsed() < LAG_KNOWN).then_some(self.lag)
    }

    /// Milliseconds since it had all that was committed.
    pub fn staleness_ms(&self) -> Option<u64> {
        self.current_at.map(|at| u64::try_from(at.elapsed().as_millis()).unwrap_or(u64::MAX))
    }

    pub fn is_within(&self, bound: &Staleness) -> bool {
        let within = |most: Option<u64>, found: Option<u64>| {
            most.is_none_or(|most| found.is_some_and(|found| found <= most))
        };
        !bound.is_none()
            && within(bound.max_lag, self.lag())
            && within(bound.max_staleness_ms, self.staleness_ms())
    }
}

#[derive(Default)]
struct Held {
    era: u64,
    active: HashMap<TaskId, Active>,
    copies: HashMap<TaskId, StandbyCopy>,
    globals: Seen,
}

pub(crate) struct Serving {
    held: RwLock<Held>,
    changes: watch::Sender<()>,
}

impl Default for Serving {
    fn default() -> Self {
        Self { held: RwLock::default(), changes: watch::Sender::new(()) }
    }
}

impl Serving {
    /// Every change is whole, so a panic elsewhere leaves it usable.
    fn read(&self) -> RwLockReadGuard<'_, Held> {
        self.held.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Held> {
        self.held.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Told of each change from now on.
    pub fn changes(&self) -> watch::Receiver<()> {
        self.changes.subscribe()
    }

    /// A thread runs a task, and its stores have seen so much.
    pub fn run(&self, thread: usize, task: TaskId, lease: &Lease, seen: Seen) {
        let mut held = self.write();
        match held.active.get_mut(&task) {
            Some(active) if active.thread == thread => active.seen = seen,
            _ => {
                held.era += 1;
                let era = held.era;
                held.active.insert(task, Active { era, thread, lease: lease.clone(), seen });
            }
        }
        drop(held);
        self.changes.send_replace(());
    }

    /// A thread gives up all of its tasks.
    pub fn end(&self, thread: usize) {
        self.write().active.retain(|_, active| active.thread != thread);
        self.changes.send_replace(());
    }

    /// A thread gives up these tasks and keeps the rest.
    pub fn end_some(&self, thread: usize, tasks: &[TaskId]) {
        self.write().active.retain(|task, active| active.thread != thread || !tasks.contains(task));
        self.changes.send_replace(());
    }

    /// The copy of a task lacks `lag` records of what was there at `looked_at`, and nothing of what was there at `current_at`.
    pub fn copy(
        &self,
        thread: usize,
        task: TaskId,
        lag: u64,
        looked_at: Instant,
        current_at: Option<Instant>,
    ) {
        let mut held = self.write();
        let era = match held.copies.get(&task) {
            Some(known) if known.thread == thread => known.era,
            _ => {
                held.era += 1;
                held.era
            }
        };
        held.copies.insert(task, StandbyCopy { era, thread, lag, looked_at, current_at });
        drop(held);
        self.changes.send_replace(());
    }

    /// A thread gives up its copies, or begins them again.
    pub fn end_copies(&self, thread: usize) {
        self.write().copies.retain(|_, copy| copy.thread != thread);
        self.changes.send_replace(());
    }

    /// A partition of a global table's topic was read up to `next`.
    pub fn read_global(&self, at: &TopicPartition, next: Offset) {
        self.write().globals.insert(at.clone(), next);
        self.changes.send_replace(());
    }

    /// The task that runs here, as long as it is sure that it runs nowhere else.
    pub fn active(&self, task: TaskId) -> Option<Active> {
        self.read().active.get(&task).filter(|active| active.holds()).cloned()
    }

    pub fn copy_of(&self, task: TaskId) -> Option<StandbyCopy> {
        self.read().copies.get(&task).copied()
    }

    /// How far the topic of a global table is read.
    pub fn global(&self, topic: &str) -> Seen {
        let held = self.read();
        let own = held.globals.iter().filter(|(at, _)| at.topic == topic);
        own.map(|(at, next)| (at.clone(), *next)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TASK: TaskId = TaskId { subtopology: 0, partition: 1 };

    #[test]
    fn what_comes_back_is_of_another_era() {
        let serving = Serving::default();
        let era = || serving.read().active.get(&TASK).map(|active| active.era);
        let lease = Lease::default();
        serving.run(0, TASK, &lease, Seen::new());
        let first = era();
        serving.run(0, TASK, &lease, Seen::new());
        assert!(first.is_some() && era() == first);
        serving.end(1);
        assert_eq!(era(), first);
        serving.end(0);
        assert_eq!(era(), None);
        serving.run(0, TASK, &lease, Seen::new());
        assert!(era() > first);
        assert!(serving.active(TASK).is_none(), "without a lease it may run elsewhere");
    }

    #[test]
    fn a_copy_that_does_not_know_how_far_it_is_does_not_answer() {
        let serving = Serving::default();
        let now = Instant::now();
        let within = |bound| serving.copy_of(TASK).unwrap().is_within(&bound);
        serving.copy(0, TASK, 3, now, None);
        assert!(within(Staleness::records(3)) && !within(Staleness::records(2)));
        assert!(!within(Staleness::time(Duration::from_secs(60))) && !within(Staleness::none()));
        serving.copy(0, TASK, 0, now, Some(now));
        assert!(within(Staleness::time(Duration::from_secs(60))));
        if let Some(before) = now.checked_sub(Duration::from_secs(10)) {
            serving.copy(0, TASK, 0, before, Some(before));
            assert!(!within(Staleness::records(3)), "what it lacks now is not known");
            assert!(!within(Staleness::time(Duration::from_secs(9))));
            assert!(within(Staleness::time(Duration::from_secs(60))));
        }
    }
}
