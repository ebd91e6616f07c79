//! A processing thread: one member of the group, one producer, and the tasks it was given.
//!
//! Everything runs in turns on a thread of its own: poll, open tasks, restore, process, commit. Only network I/O is
//! awaited, on the application's runtime. Invariant: whatever fails, no task survives it; tasks are opened again from
//! committed state, by a producer whose InitProducerId has ended the open transaction.

use std::any::Any;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use headwater_client::{Client, Consumer, Fetched, GroupConsumer, GroupEvent, Producer};
use headwater_model::{Bytes, TimestampMs, TopicPartition};
use headwater_streams::{Output, RefusedOutput, TaskId};
use tokio::runtime::Handle;

use crate::app::Shared;
use crate::assignor::{Owned, tasks_of};
use crate::balance::{AssignmentInfo, names, tasks};
use crate::board::TaskStatus;
use crate::claims::Owner;
use crate::error::AppError;
use crate::external::Link;
use crate::fault::FaultPoint;
use crate::membership;
use crate::metrics::Metrics;

mod active;
mod calls;
mod commit;
mod epochs;
mod external;
mod join;
mod led;
mod open;
mod pace;
mod publish;
mod purge;
mod quarantine;
mod refused;
mod restore;
mod standby;
mod tasks;
mod trouble;
mod underway;
mod writing;

use active::ActiveTask;
use commit::Transaction;
use open::ClaimWait;
use pace::Pace;
use purge::Purge;
use quarantine::Unsettled;
use restore::RestoringTask;
use standby::Standbys;
use trouble::{Failures, Trouble, heals};
use writing::{Unwritten, Writing};

/// The longest wait for records: how soon a stop is noticed.
const IDLE: Duration = Duration::from_millis(200);
/// Waits while records are held back for an input that is behind.
const HELD_BACK: Duration = Duration::from_millis(5);
/// Waits while services are to answer.
const ANSWERS: Duration = Duration::from_millis(2);

/// Starts processing thread `index`; its end is reported to `shared`.
pub(crate) fn spawn(shared: Arc<Shared>, client: Client, index: usize) -> std::io::Result<JoinHandle<()>> {
    let runtime = Handle::current();
    let name = format!("{}-{index}", shared.config.application_id);
    let work = move || {
        // Connections and heartbeats are spawned on the runtime that the application was started in.
        let _entered = runtime.enter();
        let worked = std::panic::catch_unwind(AssertUnwindSafe(|| {
            match Worker::join(shared.clone(), runtime.clone(), client, index)? {
                Some(worker) => worker.run(),
                None => Ok(()),
            }
        }));
        shared.serving.end(index);
        shared.claims.release(Owner::Active(index));
        shared.thread_ended(worked.unwrap_or_else(|panic| Err(AppError::Panic(message(panic.as_ref())))));
    };
    std::thread::Builder::new().name(name).spawn(work)
}

fn message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "no message".to_owned())
}

/// Milliseconds since 1970.
pub(crate) fn wall_clock() -> TimestampMs {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

struct Worker {
    shared: Arc<Shared>,
    runtime: Handle,
    client: Client,
    index: usize,
    /// What the assignor tells the group's leader.
    owned: Owned,
    group: GroupConsumer,
    /// The group refused this member for good; a new one must join.
    membership_ended: bool,
    producer: Option<Producer>,
    had_assignment: bool,
    assigned: Vec<TaskId>,
    /// The assigned tasks are yet to be opened, not before this moment.
    open_at: Option<Instant>,
    claim_wait: ClaimWait,
    active: BTreeMap<TaskId, ActiveTask>,
    /// Which active task reads a partition.
    readers: HashMap<TopicPartition, TaskId>,
    paused: HashSet<TopicPartition>,
    restoring: BTreeMap<TaskId, RestoringTask>,
    restorer: Option<Consumer>,
    /// The copies that this thread keeps.
    standbys: Option<Standbys>,
    /// When this member is to let the group rebalance.
    probing_at: Option<Instant>,
    /// When changelog records came last.
    restored_at: Instant,
    /// To the database of external stores.
    link: Option<Link>,
    /// Something waits there for the last step.
    prepared: bool,
    transaction: Transaction,
    unwritten: Unwritten,
    writing: Option<Writing>,
    /// Written while the last transaction was being committed: of the next one.
    held: Vec<Output>,
    last_commit: Instant,
    pace: Pace,
    purge: Purge,
    failures: Failures,
    unsettled: Unsettled,
    /// What the broker did not take, until the next commit.
    refused: Vec<RefusedOutput>,
}

impl Worker {
    fn run(mut self) -> Result<(), AppError> {
        while !self.shared.stopping() {
            if let Err(trouble) = self.turn() {
                self.recover(trouble)?;
            }
        }
        self.finish()
    }

    fn turn(&mut self) -> Result<(), Trouble> {
        self.watch_standbys()?;
        self.poll()?;
        self.open_tasks()?;
        self.restore()?;
        self.process()?;
        self.commit_if_due()?;
        self.publish();
        self.settle();
        Ok(())
    }

    /// A clean end. What cannot be committed is done again by the next start.
    fn finish(mut self) -> Result<(), AppError> {
        match self.commit() {
            Ok(()) => {}
            Err(Trouble::Fatal(error)) => return Err(error),
            Err(trouble) => {
                tracing::warn!(%trouble, "the last commit failed; the next start repeats its work")
            }
        }
        self.unlist();
        self.drop_tasks();
        self.standbys = None;
        if let Err(error) = self.runtime.block_on(self.group.leave()) {
            tracing::warn!(%error, "leave the group; its tasks wait for the session timeout");
        }
        Ok(())
    }

    fn poll(&mut self) -> Result<(), Trouble> {
        self.ensure_member()?;
        let patience = self.patience();
        let event = match self.runtime.block_on(self.group.poll(patience)) {
            // One partition that cannot be read stops no other task.
            Err(error) if !self.group.has_ended() && heals(&error) => {
                tracing::warn!(thread = self.index, %error, "an input cannot be read; trying again");
                self.group.consumer().try_again();
                return Ok(());
            }
            polled => polled.map_err(|source| {
                self.membership_ended = true;
                membership::refused(&self.shared, &source)
                    .map_or_else(|| Trouble::client("poll the group")(source), Trouble::Fatal)
            })?,
        };
        match event {
            None => Ok(()),
            Some(GroupEvent::Records(fetched)) => fetched.into_iter().try_for_each(|part| self.take(part)),
            Some(GroupEvent::Revoked { lost, .. }) => self.revoked(lost),
            Some(GroupEvent::Assigned { partitions, user_data }) => {
                self.assigned_tasks(&partitions, user_data.as_ref())
            }
            Some(GroupEvent::Tasks(tasks)) => self.given(&tasks),
            Some(GroupEvent::TasksRevoked { tasks, lost }) => self.taken_away(&tasks, lost),
            Some(GroupEvent::Endpoints(endpoints)) => {
                self.shared.hosts.set(membership::hosts(&self.shared.tasks, endpoints));
                Ok(())
            }
        }
    }

    /// How long to wait for records: not at all if there is work.
    fn patience(&mut self) -> Duration {
        let (now, paused) = (wall_clock(), self.shared.is_paused());
        let ready = !paused && self.active.values_mut().any(|active| active.task.ready(now));
        if ready || !self.restoring.is_empty() {
            return Duration::ZERO;
        }
        let mut wait = IDLE;
        if self.active.values().any(|active| active.dirty) {
            wait = wait.min(self.shared.config.commit_interval.saturating_sub(self.last_commit.elapsed()));
        }
        if let Some(write_at) = self.write_at() {
            wait = wait.min(write_at.saturating_duration_since(Instant::now()));
        }
        if let Some(open_at) = self.open_at {
            wait = wait.min(open_at.saturating_duration_since(Instant::now()));
        }
        if paused {
            return wait;
        }
        if let Some(due) = self.active.values().filter_map(|active| active.task.next_punctuation()).min() {
            wait = wait.min(Duration::from_millis(u64::try_from(due - now).unwrap_or(0)));
        }
        if self.active.values().any(|active| active.calls.any()) {
            wait = wait.min(ANSWERS);
        }
        if let Some(due) = self.active.values().filter_map(|active| active.task.next_call()).min() {
            wait = wait.min(Duration::from_millis(u64::try_from(due.saturating_sub(now)).unwrap_or(0)));
        }
        if self.active.values().any(ActiveTask::holds_records) {
            wait = wait.min(HELD_BACK);
        }
        wait
    }

    /// Hands fetched records to their task and pauses the partition if it has enough.
    fn take(&mut self, part: Fetched) -> Result<(), Trouble> {
        let at = part.topic_partition.clone();
        let Some(active) = self.readers.get(&at).and_then(|task| self.active.get_mut(task)) else {
            return Ok(());
        };
        // What comes through a repartition topic has been measured where it came from.
        if !self.shared.is_internal(&at.topic) {
            let (name, bound) = (at.to_string(), self.shared.config.clock_skew_bound);
            let skew = active.skews.entry(name).or_default();
            if skew.note(&part.records, wall_clock(), i64::try_from(bound.as_millis()).unwrap_or(i64::MAX)) {
                tracing::warn!(
                    input = %at, ahead_ms = skew.ahead_ms, bound = ?bound,
                    "records come from the future: a producer's clock is ahead, or it gives them wrong times; what follows may be late"
                );
            }
        }
        let buffered = active.take(part).map_err(Trouble::task(active.task.id()))?;
        if buffered > self.shared.config.max_buffered && self.paused.insert(at.clone()) {
            self.group.consumer().pause(&[at]);
        }
        Ok(())
    }

    fn resume(&mut self) {
        let low = self.shared.config.max_buffered / 2;
        let Self { paused, readers, active, .. } = self;
        let buffered = |at: &TopicPartition| {
            let active = readers.get(at).and_then(|task| active.get(task));
            active.map_or(0, |active| active.task.buffered(at))
        };
        let due: Vec<TopicPartition> = paused.extract_if(|at| buffered(at) <= low).collect();
        if !due.is_empty() {
            self.group.consumer().resume(&due);
        }
    }

    /// One turn of every task, and sending what they wrote.
    fn process(&mut self) -> Result<(), Trouble> {
        if !self.shared.is_paused() {
            self.release_held()?;
        }
        self.work()?;
        self.send_held()?;
        self.resume();
        Ok(())
    }

    /// One turn of every task; what they wrote is held back. Whether there was anything to do.
    fn work(&mut self) -> Result<bool, Trouble> {
        if self.shared.is_paused() {
            self.tell_fresh();
            return Ok(false);
        }
        let begun = Instant::now();
        let now = wall_clock();
        let turn = self.pace.turn();
        let (mut worked, mut more) = (false, false);
        for (id, active) in &mut self.active {
            active.read_ahead().map_err(Trouble::task(*id))?;
            let done = active.work(turn, now).map_err(Trouble::task(*id))?;
            (worked, more) = (worked || done > 0, more || done >= turn);
            self.held.append(&mut active.task.take_output());
        }
        self.tell_fresh();
        if worked {
            self.pace.took(begun.elapsed(), more);
            Metrics::took(&self.shared.metrics.process_micros, begun.elapsed());
        }
        Ok(worked)
    }

    /// Says of tasks that have just been opened that they run.
    fn tell_fresh(&mut self) {
        for (id, active) in &mut self.active {
            if std::mem::take(&mut active.fresh) {
                self.shared.board.set_task(*id, active.status());
            }
        }
    }

    fn send_held(&mut self) -> Result<(), Trouble> {
        let outputs = std::mem::take(&mut self.held);
        self.send(outputs, false)
    }

    fn assigned_tasks(
        &mut self,
        partitions: &[TopicPartition],
        user_data: Option<&Bytes>,
    ) -> Result<(), Trouble> {
        self.unlist();
        self.drop_tasks();
        self.standbys = None;
        self.assigned = tasks_of(&self.shared.tasks, partitions);
        let info = AssignmentInfo::decode(user_data);
        let standby = tasks(&info.standby);
        self.learn_hosts(info.hosts);
        self.owned.set(self.assigned.clone(), standby.clone());
        for task in &self.assigned {
            self.shared.board.set_task(*task, TaskStatus::default());
        }
        let (active, copies) = (names(&self.assigned).join(" "), names(&standby).join(" "));
        tracing::info!(thread = self.index, tasks = active, standby = copies, "assigned");
        Metrics::add(&self.shared.metrics.rebalances, 1);
        self.open_at = Some(Instant::now());
        self.probing_at = info.probing_at.map(|at| {
            let wait = u64::try_from(at - wall_clock()).unwrap_or(0);
            // Whatever the other's clock says.
            let longest = self.shared.config.probing_rebalance_interval;
            Instant::now() + Duration::from_millis(wait).min(longest)
        });
        self.begin_copies(standby)?;
        self.shared.given.assigned(self.index, Instant::now());
        if !std::mem::replace(&mut self.had_assignment, true) {
            self.shared.first_assignment();
        }
        Ok(())
    }

    /// Keeps copies of these tasks, and of no others.
    fn begin_copies(&mut self, standby: Vec<TaskId>) -> Result<(), Trouble> {
        // The thread before lets go of its copies first.
        self.standbys = None;
        self.shared.given.copies(self.index, standby.clone());
        if !standby.is_empty() {
            let begun = Standbys::begin(&self.shared, &self.client, &self.runtime, self.index, standby);
            self.standbys = Some(begun.map_err(|error| Trouble::Fatal(AppError::Thread(error)))?);
        }
        Ok(())
    }

    /// Looks after the copies' thread, and lets the group rebalance when tasks may have become able to move.
    fn watch_standbys(&mut self) -> Result<(), Trouble> {
        if let Some(error) = self.standbys.as_ref().and_then(Standbys::failure) {
            return Err(Trouble::Fatal(error));
        }
        if self.probing_at.is_some_and(|at| Instant::now() >= at) {
            self.probing_at = None;
            tracing::info!(thread = self.index, "a probing rebalance: tasks may be able to move");
            self.owned.change();
            self.group.enforce_rebalance();
        }
        Ok(())
    }

    /// What can still be committed is; then the tasks belong to others.
    fn revoked(&mut self, lost: bool) -> Result<(), Trouble> {
        tracing::info!(thread = self.index, lost, "revoked");
        self.shared.given.revoked(self.index, lost);
        let committed = if lost { Ok(()) } else { self.commit() };
        self.unlist();
        self.assigned.clear();
        match lost {
            true => self.owned.set(Vec::new(), Vec::new()),
            // Without the commit its stores may be behind what was promised here; the offsets tell.
            false if committed.is_ok() => self.owned.set_running(self.active.keys().copied().collect()),
            false => {}
        }
        self.drop_tasks();
        (self.standbys, self.probing_at) = (None, None);
        if self.transaction.is_open() {
            self.abandon_transaction();
        }
        committed
    }

    /// Forgets all tasks without committing anything.
    fn drop_tasks(&mut self) {
        self.shared.serving.end(self.index);
        self.group.consumer().assign(Vec::new());
        self.restorer = None;
        self.restoring.clear();
        self.active.clear();
        self.held.clear();
        self.unwritten = Unwritten::default();
        // It ends first.
        self.writing = None;
        self.readers.clear();
        self.paused.clear();
        self.open_at = None;
        self.shared.claims.release(Owner::Active(self.index));
    }

    fn unlist(&self) {
        self.assigned.iter().for_each(|task| self.shared.board.remove_task(*task));
    }

    fn fault(&self, point: FaultPoint) -> Result<(), Trouble> {
        fault(&self.shared, point)
    }
}

fn fault(shared: &Shared, point: FaultPoint) -> Result<(), Trouble> {
    match &shared.config.fault {
        Some(hook) if hook.dies(point) => Err(Trouble::Fatal(AppError::Killed(point))),
        _ => Ok(()),
    }
}
