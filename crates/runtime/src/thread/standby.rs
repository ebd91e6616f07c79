//! Standby tasks: copies of stores that follow their changelogs, on a thread beside the one that processes.
//!
//! A copy is written as a restored store is, entries together with their position, so whoever takes its task over
//! restores only what came after. Only committed records are read, and of a source topic that is its own changelog only
//! what its task has committed. A copy waits while a partition that it needs has no leader, and keeps no other waiting. Trouble
//! here never stops the tasks that run; what no retry helps against, and a panic, ends the application. However the thread ends,
//! others may have its stores.

mod freshness;
mod opening;

use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use headwater_client::{Client, ClientError, Consumer, Fetched};
use headwater_model::{Offset, TopicPartition};
use headwater_streams::{StoreInfo, Task, TaskId};
use tokio::runtime::Handle;
use tokio::sync::watch;

use self::freshness::Freshness;
use super::message;
use super::open::store_failed;
use super::trouble::{Trouble, heals};
use crate::app::Shared;
use crate::board::StandbyStatus;
use crate::claims::Owner;
use crate::error::AppError;
use crate::metrics::Metrics;
use crate::state::{StoreId, StoreWrite};

/// Waits for changelog records.
const WAIT: Duration = Duration::from_millis(200);
/// Before what failed is tried again, and before another thread of this process is asked for its task again.
const RETRY: Duration = Duration::from_millis(500);
const CLAIM_PAUSE: Duration = Duration::from_millis(20);
/// How often committed positions of source topics are looked up.
const LIMITS: Duration = Duration::from_millis(500);

/// The copies of one processing thread; dropping it ends their thread.
pub(super) struct Standbys {
    tasks: Vec<TaskId>,
    stop: watch::Sender<bool>,
    failure: Arc<Mutex<Option<AppError>>>,
    thread: Option<JoinHandle<()>>,
}

impl Standbys {
    pub fn begin(
        shared: &Arc<Shared>,
        client: &Client,
        runtime: &Handle,
        index: usize,
        tasks: Vec<TaskId>,
    ) -> std::io::Result<Self> {
        let (stop, stopped) = watch::channel(false);
        let failure = Arc::new(Mutex::new(None));
        let updater = Updater {
            shared: shared.clone(),
            client: client.clone(),
            runtime: runtime.clone(),
            index,
            tasks: tasks.clone(),
            stopped,
            failure: failure.clone(),
        };
        let name = format!("{}-{index}-standby", shared.config.application_id);
        let thread = std::thread::Builder::new().name(name).spawn(move || updater.run())?;
        Ok(Self { tasks, stop, failure, thread: Some(thread) })
    }

    pub fn tasks(&self) -> &[TaskId] {
        &self.tasks
    }

    /// What no retry helps against, told once.
    pub fn failure(&self) -> Option<AppError> {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl Drop for Standbys {
    fn drop(&mut self) {
        self.stop.send_replace(true);
        if let Some(thread) = self.thread.take() {
            // A panic is among the failures.
            let _ = thread.join();
        }
        if let Some(error) = self.failure() {
            tracing::error!(%error, "the thread of the standby tasks had failed; their copies are behind");
        }
    }
}

struct Updater {
    shared: Arc<Shared>,
    client: Client,
    runtime: Handle,
    index: usize,
    tasks: Vec<TaskId>,
    stopped: watch::Receiver<bool>,
    failure: Arc<Mutex<Option<AppError>>>,
}

/// One store that is copied.
struct Copy {
    task: TaskId,
    info: StoreInfo,
    changelog: TopicPartition,
    next: Offset,
    /// Records from here on may not be applied yet; of a changelog of its own none.
    limit: Offset,
    /// The changelog's end as last seen.
    end: Offset,
    freshness: Freshness,
}

impl Copy {
    fn lag(&self) -> u64 {
        u64::try_from(self.end.min(self.limit) - self.next).unwrap_or(0)
    }
}

/// What is at work between two troubles.
struct Following {
    tasks: HashMap<TaskId, Task>,
    copies: Vec<Copy>,
    consumer: Consumer,
    /// Tasks of partitions that had no leader when that was looked for last.
    waiting: Vec<TaskId>,
    leaders_at: Instant,
    limits_at: Instant,
    ends_at: Instant,
}

impl Updater {
    fn run(mut self) {
        let _entered = self.runtime.clone().enter();
        // What it has open is closed when this returns, after a panic, too.
        let worked = std::panic::catch_unwind(AssertUnwindSafe(|| self.work()));
        if let Err(error) = worked.unwrap_or_else(|panic| Err(AppError::Panic(message(panic.as_ref())))) {
            *self.failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
        }
        self.shared.serving.end_copies(self.index);
        self.tasks.iter().for_each(|task| self.shared.board.remove_standby(*task));
        self.shared.claims.release(Owner::Standby(self.index));
    }

    /// Until it is told to stop, or fails for good.
    fn work(&mut self) -> Result<(), AppError> {
        while !*self.stopped.borrow() {
            match self.follow() {
                Ok(()) => break,
                Err(Trouble::Fatal(error)) => return Err(error),
                Err(trouble) => {
                    tracing::warn!(thread = self.index, %trouble, "the standby tasks begin again");
                    self.pause(RETRY);
                }
            }
        }
        Ok(())
    }

    /// Until it is told to stop, or something fails.
    fn follow(&mut self) -> Result<(), Trouble> {
        // Stores may be emptied before they are followed again.
        self.shared.serving.end_copies(self.index);
        while let Err(taken) = self.shared.claims.claim(&self.tasks, Owner::Standby(self.index)) {
            tracing::debug!(task = %taken, "another thread of this process still has it");
            if self.pause(CLAIM_PAUSE) {
                return Ok(());
            }
        }
        let Some(mut following) = self.open()? else { return Ok(()) };
        loop {
            self.publish(&mut following);
            let mut stopped = self.stopped.clone();
            let polled = self.runtime.block_on(async {
                tokio::select! {
                    biased;
                    _ = stopped.wait_for(|stop| *stop) => None,
                    polled = following.consumer.poll(WAIT) => Some(polled),
                }
            });
            let Some(polled) = polled else { return Ok(()) };
            let fetched = match polled {
                // The other copies go on.
                Err(error) if heals(&error) => {
                    tracing::warn!(thread = self.index, %error, "a changelog of a standby task cannot be read; trying again");
                    following.consumer.try_again();
                    Vec::new()
                }
                polled => polled.map_err(Trouble::client("read changelogs of standby tasks"))?,
            };
            for part in fetched {
                self.apply(&mut following, &part)?;
            }
            if !self.open_waiting(&mut following)? {
                return Ok(());
            }
            self.raise_limits(&mut following)?;
            self.look_up_ends(&mut following)?;
        }
    }

    /// Whether it is to stop, at latest after `time`.
    fn pause(&self, time: Duration) -> bool {
        let mut stopped = self.stopped.clone();
        let told = async { stopped.wait_for(|stop| *stop).await.is_ok() };
        self.runtime.block_on(tokio::time::timeout(time, told)).unwrap_or(false)
    }

    fn apply(&self, following: &mut Following, part: &Fetched) -> Result<(), Trouble> {
        let Following { tasks, copies, consumer, .. } = following;
        let mut held_back: Option<Offset> = None;
        for copy in copies.iter_mut().filter(|copy| copy.changelog == part.topic_partition) {
            let first = part.records.partition_point(|record| record.offset < copy.next);
            let last = part.records.partition_point(|record| record.offset < copy.limit);
            let records = part.records.get(first..last).unwrap_or_default();
            let Some(task) = tasks.get(&copy.task) else { continue };
            let entries = task.restore_batch(&copy.info.name, records).map_err(Trouble::task(copy.task))?;
            let next = part.next_offset.min(copy.limit).max(copy.next);
            if next > copy.next {
                let id = StoreId::new(copy.task, copy.info.name.as_str());
                let write = StoreWrite { id, entries: entries.into(), position: Some(next) };
                self.shared.stores.write(vec![write]).map_err(store_failed(copy.task))?;
                Metrics::add(&self.shared.metrics.standby_records, records.len() as u64);
            }
            copy.next = next;
            copy.end = part.high_watermark.max(next);
            if copy.limit <= part.next_offset {
                held_back = Some(held_back.map_or(copy.limit, |other| other.min(copy.limit)));
            }
        }
        if let Some(from) = held_back {
            consumer.seek(&part.topic_partition, from);
            consumer.pause(std::slice::from_ref(&part.topic_partition));
        }
        Ok(())
    }

    /// What a task has committed of its source topics since may be copied.
    fn raise_limits(&self, following: &mut Following) -> Result<(), Trouble> {
        let Following { copies, consumer, limits_at, .. } = following;
        let sources: Vec<TopicPartition> =
            copies.iter().filter(|copy| copy.info.source_topic).map(|copy| copy.changelog.clone()).collect();
        if sources.is_empty() || limits_at.elapsed() < LIMITS {
            return Ok(());
        }
        *limits_at = Instant::now();
        let asked_at = *limits_at;
        let mut stopped = self.stopped.clone();
        let committed = self.runtime.block_on(async {
            tokio::select! {
                committed = self.client.committed(&self.shared.config.application_id, Some(&sources)) => committed,
                _ = stopped.wait_for(|stop| *stop) => Err(ClientError::State("the standby tasks end")),
            }
        });
        if *self.stopped.borrow() {
            return Ok(());
        }
        let committed =
            committed.map_err(Trouble::client("look up what source topics' tasks have committed"))?;
        for copy in copies.iter_mut().filter(|copy| copy.info.source_topic) {
            let committed = committed.get(&copy.changelog).map_or(copy.limit, |position| position.offset);
            if committed > copy.limit {
                copy.limit = committed;
                consumer.resume(std::slice::from_ref(&copy.changelog));
            }
            copy.end = copy.end.max(copy.limit);
            copy.freshness.looked_up(copy.limit, asked_at);
        }
        Ok(())
    }

    fn publish(&self, following: &mut Following) {
        let Following { tasks, copies, .. } = following;
        copies.iter_mut().for_each(|copy| copy.freshness.reached(copy.next));
        for task in &self.tasks {
            if !tasks.contains_key(task) {
                // It may have been followed before the last trouble.
                self.shared.board.remove_standby(*task);
                continue;
            }
            let own = || copies.iter().filter(|copy| copy.task == *task);
            let lag = own().map(Copy::lag).sum();
            self.shared.board.set_standby(*task, StandbyStatus { lag });
            let Some(looked_at) = own().map(|copy| copy.freshness.looked_at()).min() else { continue };
            let current_at = own().map(|copy| copy.freshness.current_at()).min().flatten();
            self.shared.serving.copy(self.index, *task, lag, looked_at, current_at);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lag_of_a_copy_ends_at_what_may_be_copied() {
        let info = StoreInfo {
            name: "s".to_owned(),
            changelog: Some("t".to_owned()),
            kind: headwater_streams::StoreKind::KeyValue,
            source_topic: true,
            external: None,
        };
        let task = TaskId { subtopology: 0, partition: 0 };
        let changelog = TopicPartition::new("t", 0);
        let copy = |next, limit, end| Copy {
            task,
            info: info.clone(),
            changelog: changelog.clone(),
            next,
            limit,
            end,
            freshness: Freshness::new(end, Instant::now()),
        };
        assert_eq!(copy(4, 7, 9).lag(), 3);
        assert_eq!(copy(4, Offset::MAX, 9).lag(), 5);
        assert_eq!(copy(9, 7, 9).lag(), 0);
    }
}
