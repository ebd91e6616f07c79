//! Commits: what tasks wrote, their changelogs and their input positions become visible at once; stores follow.
//!
//! Stores are written last, so they never hold more than their changelogs: a crash before that is made good by restoring
//! the changelog's tail. Where much changes they are written once for several commits, and beside what comes then.
//!
//! While the coordinator ends a transaction, tasks process what is buffered already. They see their own state as it will be, and
//! what they write is held back for the next transaction: if this one fails, tasks and what is held are dropped together.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use headwater_client::planted::{self, Bug};
use headwater_client::{ClientError, Committed, Delivery, GroupMetadata, RecordRef};
use headwater_model::{Offset, TopicPartition};
use headwater_streams::{Output, TaskId};

use super::trouble::Trouble;
use super::{Worker, fault};
use crate::config::Guarantee;
use crate::error::AppError;
use crate::fault::FaultPoint;
use crate::metrics::Metrics;

/// So many records are held back at most while a transaction ends.
const HELD: usize = 50_000;

/// What was sent since the last commit.
#[derive(Default)]
pub(super) struct Transaction {
    open: bool,
    /// The last record sent to each changelog partition: its offset is the store's next position.
    changelogs: Changelogs,
}

type Changelogs = HashMap<(Arc<str>, i32), Delivery>;

impl Transaction {
    pub fn is_open(&self) -> bool {
        self.open
    }
}

/// Positions to commit, per task.
type Positions = Vec<(TaskId, Vec<(TopicPartition, Committed)>)>;

impl Worker {
    /// Leaves the open transaction to the next producer, whose InitProducerId aborts it or completes its commit.
    pub(super) fn abandon_transaction(&mut self) {
        self.producer = None;
        // What was prepared in the database ends with the connection.
        (self.link, self.prepared) = (None, false);
        self.transaction = Transaction::default();
    }

    pub(super) fn commit_if_due(&mut self) -> Result<(), Trouble> {
        if self.last_commit.elapsed() < self.shared.config.commit_interval {
            return Ok(());
        }
        self.end_writing(false)?;
        if self.write_at().is_some_and(|at| at <= Instant::now()) {
            self.begin_writing()?;
        }
        self.commit_and(true)
    }

    /// A task that has not worked yet has something to commit only where its inputs begin anew. The end of a topic moves on: whoever
    /// opens the task next, this thread after a failure included, has to begin where it did.
    pub(super) fn commit_beginnings(&mut self) -> Result<(), Trouble> {
        match self.active.values().any(|active| active.fresh && active.dirty) {
            true => self.commit_and(false),
            false => Ok(()),
        }
    }

    /// Commits all tasks that processed anything, and leaves nothing unwritten.
    pub(super) fn commit(&mut self) -> Result<(), Trouble> {
        self.commit_and(false)?;
        self.write_unwritten()
    }

    /// Commits; `work` says whether to process more meanwhile.
    fn commit_and(&mut self, work: bool) -> Result<(), Trouble> {
        if !self.active.values().any(|active| active.dirty) {
            return Ok(());
        }
        let begun = Instant::now();
        self.send_held()?;
        let (outputs, positions) = self.pre_commit()?;
        let offsets: HashMap<TopicPartition, Committed> =
            positions.iter().flat_map(|(_, advanced)| advanced.iter().cloned()).collect();
        if planted::is(Bug::CommitBeforeOutput) {
            self.runtime.block_on(self.group.commit(&offsets)).map_err(Trouble::client("commit offsets"))?;
        }
        self.send(outputs, true)?;
        if planted::is(Bug::StoreBeforeCommit) {
            self.write_stores(positions.clone(), HashMap::new())?;
            self.write_unwritten()?;
        }
        self.prepare_outside(&positions)?;
        let worked = match self.shared.config.guarantee {
            Guarantee::ExactlyOnce => self.commit_transaction(&offsets, work)?,
            Guarantee::AtLeastOnce => self.commit_offsets(&offsets).map(Ok)?,
        };
        self.fault(FaultPoint::BeforeStores)?;
        self.commit_outside()?;
        let ends = self.changelog_ends().map_err(Trouble::client("learn the changelogs' offsets"))?;
        self.write_stores(positions, ends)?;
        self.fault(FaultPoint::AfterStores)?;
        self.purge.committed(&self.client, &offsets);
        self.failures.healed();
        self.refused.clear();
        self.last_commit = Instant::now();
        Metrics::add(&self.shared.metrics.commits, 1);
        Metrics::took(&self.shared.metrics.commit_micros, begun.elapsed());
        worked
    }

    fn pre_commit(&mut self) -> Result<(Vec<Output>, Positions), Trouble> {
        let mut outputs = Vec::new();
        let mut positions = Vec::new();
        for (id, active) in self.active.iter_mut().filter(|(_, active)| active.dirty) {
            active.task.pre_commit().map_err(Trouble::task(*id))?;
            outputs.append(&mut active.task.take_output());
            positions.push((*id, active.positions()));
            active.dirty = false;
        }
        Ok((outputs, positions))
    }

    /// Hands records to the producer; `changelogs` says whether to note what becomes of them.
    pub(super) fn send(&mut self, outputs: Vec<Output>, changelogs: bool) -> Result<(), Trouble> {
        if outputs.is_empty() {
            return Ok(());
        }
        self.fault(FaultPoint::BeforeSend)?;
        self.begin()?;
        let Some(producer) = &self.producer else { return Err(no_producer()) };
        let mut last = Last { outputs: &outputs, noted: &mut self.transaction.changelogs, of: None };
        let sent = self.runtime.block_on(producer.send_all(outputs.iter().map(record), |place, delivery| {
            if changelogs {
                last.note(place, delivery);
            }
        }));
        last.end();
        sent.map_err(Trouble::client("send records"))?;
        self.fault(FaultPoint::AfterSend)
    }

    fn begin(&mut self) -> Result<(), Trouble> {
        if self.shared.config.guarantee == Guarantee::ExactlyOnce && !self.transaction.open {
            let Some(producer) = &self.producer else { return Err(no_producer()) };
            let begun = self.runtime.block_on(producer.begin_transaction());
            begun.map_err(Trouble::client("begin a transaction"))?;
            self.transaction.open = true;
        }
        Ok(())
    }

    /// What went wrong with tasks meanwhile is returned apart: the transaction is committed all the same.
    fn commit_transaction(
        &mut self,
        offsets: &HashMap<TopicPartition, Committed>,
        work: bool,
    ) -> Result<Result<(), Trouble>, Trouble> {
        self.begin()?;
        let Some(producer) = self.producer.clone() else { return Err(no_producer()) };
        let mut member = self.group.metadata();
        if planted::is(Bug::CommitOfAnyMember) {
            member = GroupMetadata::simple(member.group_id);
        }
        let (shared, offsets) = (Arc::clone(&self.shared), offsets.clone());
        let commit = self.runtime.spawn(async move {
            let added = producer.send_offsets(&member, &offsets).await;
            added.map_err(Trouble::client("add offsets to the transaction"))?;
            fault(&shared, FaultPoint::BeforeCommit)?;
            producer.commit_transaction().await.map_err(Trouble::client("commit the transaction"))
        });
        let worked = if work { self.work_until(|| commit.is_finished()) } else { Ok(()) };
        let committed = self.runtime.block_on(commit);
        committed.map_err(|ended| Trouble::Fatal(AppError::Panic(ended.to_string())))??;
        self.transaction.open = false;
        Ok(worked)
    }

    fn work_until(&mut self, done: impl Fn() -> bool) -> Result<(), Trouble> {
        while !done() && self.held.len() < HELD && self.work()? {}
        Ok(())
    }

    fn commit_offsets(&mut self, offsets: &HashMap<TopicPartition, Committed>) -> Result<(), Trouble> {
        let Some(producer) = &self.producer else { return Err(no_producer()) };
        self.runtime.block_on(producer.flush()).map_err(Trouble::client("flush records"))?;
        self.fault(FaultPoint::BeforeCommit)?;
        self.runtime.block_on(self.group.commit(offsets)).map_err(Trouble::client("commit offsets"))
    }

    /// The end of each changelog that was written to. All deliveries have come: the commit waited for them.
    fn changelog_ends(&mut self) -> Result<HashMap<(Arc<str>, i32), Offset>, ClientError> {
        let noted = std::mem::take(&mut self.transaction.changelogs);
        self.runtime.block_on(async {
            let mut ends = HashMap::new();
            for (place, delivery) in noted {
                let delivered = delivery.await?;
                // A broker may know a retried batch only by its sequence number, not by its offset. Without an
                // offset the store's position stays behind, which costs a restart some restoring.
                if delivered.offset >= 0 {
                    ends.insert(place, delivered.offset + 1);
                }
            }
            Ok(ends)
        })
    }

    /// What is committed goes to the stores, now or with what is committed next.
    fn write_stores(
        &mut self,
        positions: Positions,
        ends: HashMap<(Arc<str>, i32), Offset>,
    ) -> Result<(), Trouble> {
        for (id, advanced) in positions {
            let Some(active) = self.active.get_mut(&id) else { continue };
            active.commit_positions(advanced);
            let counted = active.task.metrics();
            self.shared.metrics.advance(&active.counted, &counted);
            active.counted = counted;
            self.shared.board.set_task(id, active.status());
        }
        self.unwritten.ends.extend(ends);
        let since = *self.unwritten.since.get_or_insert_with(Instant::now);
        match self.may_wait(since) {
            true => Ok(()),
            false => self.begin_writing(),
        }
    }
}

fn no_producer() -> Trouble {
    Trouble::client("send records")(ClientError::State("the thread has no producer"))
}

fn record(output: &Output) -> RecordRef<'_> {
    RecordRef {
        topic: &output.topic,
        partition: output.partition,
        timestamp: Some(output.timestamp),
        key: output.key.as_deref(),
        value: output.value.as_deref(),
        headers: &output.headers,
    }
}

/// Finds the last record of each changelog partition; those of one come together.
struct Last<'a> {
    outputs: &'a [Output],
    noted: &'a mut Changelogs,
    of: Option<(&'a Output, Delivery)>,
}

impl<'a> Last<'a> {
    fn note(&mut self, place: usize, delivery: Delivery) {
        let Some(output) = self.outputs.get(place).filter(|output| output.partition.is_some()) else {
            return;
        };
        let same = |(before, _): &(&Output, _)| {
            Arc::ptr_eq(&before.topic, &output.topic) && before.partition == output.partition
        };
        if !self.of.as_ref().is_some_and(same) {
            self.end();
        }
        self.of = Some((output, delivery));
    }

    fn end(&mut self) {
        if let Some((Output { topic, partition: Some(partition), .. }, delivery)) = self.of.take() {
            self.noted.insert((topic.clone(), *partition), delivery);
        }
    }
}
