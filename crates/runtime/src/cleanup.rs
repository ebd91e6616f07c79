//! The stores of tasks that have moved away are removed after a while: Kafka Streams' `state.cleanup.delay.ms`.
//!
//! Invariant: a store goes only while its task is claimed for that, so no thread has it open or opens it meanwhile, and only if
//! every thread knows what the group has given it, for as long as the delay: an instance that its group has lost, or that a
//! broker does not answer, keeps what it will need again. Whoever gets the task afterwards restores it from its changelog.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use headwater_model::TimestampMs;
use headwater_streams::{StoreError, TaskId};

use crate::app::Shared;
use crate::claims::Owner;
use crate::metrics::Metrics;
use crate::state::Removed;

/// It is looked for what is to be removed four times within the delay, but no more and no less often than this.
const OFTENEST: Duration = Duration::from_millis(100);
const LEAST_OFTEN: Duration = Duration::from_secs(60);

/// What the group has given to the threads of this process.
pub(crate) struct Given {
    threads: Mutex<Threads>,
}

struct Threads {
    /// Those that have no assignment, and whether they have lost the one before, or had none.
    without: HashMap<usize, bool>,
    /// When the last of those who had lost theirs was given another.
    since: Option<Instant>,
    copies: HashMap<usize, Vec<TaskId>>,
}

impl Given {
    pub fn new(threads: usize) -> Self {
        let without = (0..threads).map(|thread| (thread, true)).collect();
        Self { threads: Mutex::new(Threads { without, since: None, copies: HashMap::new() }) }
    }

    /// Every change is whole, so a panic elsewhere leaves it usable.
    fn threads(&self) -> MutexGuard<'_, Threads> {
        self.threads.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A thread has an assignment.
    pub fn assigned(&self, thread: usize, now: Instant) {
        let mut threads = self.threads();
        if threads.without.remove(&thread) == Some(true) {
            threads.since = Some(now);
        }
    }

    /// A thread is to keep copies of these tasks, and of no others.
    pub fn copies(&self, thread: usize, tasks: Vec<TaskId>) {
        self.threads().copies.insert(thread, tasks);
    }

    /// A thread gives up what it has: to get something else, or because it is not in the group any more.
    pub fn revoked(&self, thread: usize, lost: bool) {
        let mut threads = self.threads();
        *threads.without.entry(thread).or_default() |= lost;
        threads.copies.remove(&thread);
    }

    /// Since when this process has been in its group, if every thread knows what it has.
    fn since(&self) -> Option<Instant> {
        let threads = self.threads();
        threads.since.filter(|_| threads.without.is_empty())
    }

    fn is_copied(&self, task: TaskId) -> bool {
        self.threads().copies.values().any(|copies| copies.contains(&task))
    }
}

/// Before any thread opens a store: removes those of tasks that nothing was written to for as long as the configuration allows
/// (`state.cleanup.dir.max.age.ms`, KIP-1259).
pub(crate) fn at_start(shared: &Shared, now: TimestampMs) {
    let Some(max_age) = shared.config.state_cleanup_dir_max_age else { return };
    for task in shared.stores.tasks() {
        match remove_old(shared, task, max_age, now) {
            Ok(None) => {}
            Ok(Some(Removed { stores, bytes })) => {
                Metrics::add(&shared.metrics.removed_stores, stores as u64);
                tracing::info!(
                    %task, stores, bytes, state_cleanup_dir_max_age = ?max_age,
                    "the stores of a task were removed, as nothing was written to them for longer; if it comes here it is restored from its changelog"
                );
            }
            Err(error) => {
                tracing::warn!(%task, %error, "old stores of a task could not be removed, or not all; they are used");
            }
        }
    }
}

fn remove_old(
    shared: &Shared,
    task: TaskId,
    max_age: Duration,
    now: TimestampMs,
) -> Result<Option<Removed>, StoreError> {
    let oldest = now.saturating_sub(i64::try_from(max_age.as_millis()).unwrap_or(i64::MAX));
    let is_old = shared.stores.task_written_at(task)?.is_some_and(|at| at < oldest);
    if is_old { shared.stores.remove(task).map(Some) } else { Ok(None) }
}

/// Until the application stops.
pub(crate) async fn run(shared: Arc<Shared>) {
    let delay = shared.config.state_cleanup_delay;
    let pause = (delay / 4).clamp(OFTENEST, LEAST_OFTEN);
    loop {
        tokio::select! {
            () = shared.stopped() => return,
            () = tokio::time::sleep(pause) => {}
        }
        for task in shared.stores.tasks() {
            if shared.stopping() {
                return;
            }
            if claim(&shared, task, delay) {
                remove(&shared, task, delay).await;
                shared.claims.release_some(&[task], Owner::Cleanup);
            }
        }
    }
}

/// Claims a task whose stores are to be removed; whether it is one.
fn claim(shared: &Shared, task: TaskId, delay: Duration) -> bool {
    let Some(before) = Instant::now().checked_sub(delay) else { return false };
    let is_gone = || {
        let is_known = shared.given.since().is_some_and(|since| since <= before);
        is_known && !shared.given.is_copied(task) && !shared.board.has_task(task)
    };
    if !is_gone() || !shared.claims.claim_idle(task, before) {
        return false;
    }
    // It may have been given to this process just before the claim; whoever gets it from here on waits for that.
    let is_due = is_gone();
    if !is_due {
        shared.claims.release_some(&[task], Owner::Cleanup);
    }
    is_due
}

async fn remove(shared: &Arc<Shared>, task: TaskId, delay: Duration) {
    let removing = Arc::clone(shared);
    let removed = tokio::task::spawn_blocking(move || removing.stores.remove(task)).await;
    let failed = match removed {
        Ok(Ok(Removed { stores, bytes })) => {
            Metrics::add(&shared.metrics.removed_stores, stores as u64);
            tracing::info!(
                %task, stores, bytes, state_cleanup_delay = ?delay,
                "the stores of a task that has moved away were removed; if it comes back it is restored from its changelog"
            );
            return;
        }
        Ok(Err(error)) => error.to_string(),
        Err(error) => error.to_string(),
    };
    tracing::warn!(
        %task, error = failed,
        "the stores of a task that has moved away could not be removed, or not all; trying again later"
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_knows_what_it_has_when_all_threads_do() {
        let given = Given::new(2);
        let begun = Instant::now();
        let at = |seconds| begun + Duration::from_secs(seconds);
        given.assigned(0, at(1));
        assert_eq!(given.since(), None, "the other thread may be given the task");
        given.assigned(1, at(2));
        assert_eq!(given.since(), Some(at(2)));
        given.revoked(0, false);
        assert_eq!(given.since(), None, "a rebalance is under way");
        given.assigned(0, at(3));
        assert_eq!(given.since(), Some(at(2)), "it was in the group all the time");
        given.assigned(0, at(4));
        assert_eq!(given.since(), Some(at(2)));
        given.revoked(1, true);
        given.revoked(1, false);
        given.assigned(1, at(5));
        assert_eq!(given.since(), Some(at(5)), "the others had all tasks meanwhile");
    }

    #[test]
    fn a_task_is_copied_until_its_copies_are_others_or_none() {
        let given = Given::new(2);
        let task = |partition| TaskId { subtopology: 0, partition };
        given.copies(0, vec![task(0), task(1)]);
        given.copies(1, vec![task(2)]);
        given.copies(0, vec![task(1)]);
        assert_eq!([0, 1, 2].map(|partition| given.is_copied(task(partition))), [false, true, true]);
        given.revoked(1, true);
        assert_eq!([0, 1, 2].map(|partition| given.is_copied(task(partition))), [false, true, false]);
    }
}
