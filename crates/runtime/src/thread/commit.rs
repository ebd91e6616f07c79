//! Commits: what tasks wrote, their changelogs and their input positions become visible at once; stores follow.
//!
//! Stores are written last, so they never hold more than their changelogs: a crash before that is made good by restoring
//! the changelog's tail.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use headwater_client::planted::{self, Bug};
use headwater_client::{ClientError, Committed, Delivery, GroupMetadata, ProduceRecord};
use headwater_model::{Offset, TopicPartition};
use headwater_streams::{Output, TaskId};

use super::Worker;
use super::active::ActiveTask;
use super::open::store_failed;
use super::trouble::Trouble;
use super::wall_clock;
use crate::config::Guarantee;
use crate::fault::FaultPoint;
use crate::metrics::Metrics;
use crate::state::{StoreId, StoreWrite};

/// Between two writes that ought to be one.
const PLANTED_PAUSE: Duration = Duration::from_millis(40);

/// What was sent since the last commit.
#[derive(Default)]
pub(super) struct Transaction {
    open: bool,
    /// The last record sent to each changelog partition: its offset is the store's next position.
    changelogs: HashMap<(Arc<str>, i32), Delivery>,
}

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
        self.transaction = Transaction::default();
    }

    pub(super) fn commit_if_due(&mut self) -> Result<(), Trouble> {
        if self.last_commit.elapsed() < self.shared.config.commit_interval {
            return Ok(());
        }
        self.commit()
    }

    /// Commits all tasks that processed anything; without one it does nothing.
    pub(super) fn commit(&mut self) -> Result<(), Trouble> {
        if !self.active.values().any(|active| active.dirty) {
            return Ok(());
        }
        let begun = Instant::now();
        let (outputs, positions) = self.pre_commit()?;
        let offsets: HashMap<TopicPartition, Committed> =
            positions.iter().flat_map(|(_, advanced)| advanced.iter().cloned()).collect();
        if planted::is(Bug::CommitBeforeOutput) {
            self.runtime.block_on(self.group.commit(&offsets)).map_err(Trouble::client("commit offsets"))?;
        }
        self.send(outputs, true)?;
        if planted::is(Bug::StoreBeforeCommit) {
            self.write_stores(positions.clone(), &HashMap::new())?;
        }
        match self.shared.config.guarantee {
            Guarantee::ExactlyOnce => self.commit_transaction(&offsets)?,
            Guarantee::AtLeastOnce => self.commit_offsets(&offsets)?,
        }
        self.fault(FaultPoint::BeforeStores)?;
        let ends = self.changelog_ends().map_err(Trouble::client("learn the changelogs' offsets"))?;
        self.write_stores(positions, &ends)?;
        // What others may rely on is noted here, behind the write, and published at the end of the turn.
        self.active.values_mut().for_each(ActiveTask::note_written);
        self.fault(FaultPoint::AfterStores)?;
        self.purge.committed(&self.client, &offsets);
        self.failures.healed();
        self.last_commit = Instant::now();
        Metrics::add(&self.shared.metrics.commits, 1);
        Metrics::took(&self.shared.metrics.commit_micros, begun.elapsed());
        Ok(())
    }

    fn pre_commit(&mut self) -> Result<(Vec<Output>, Positions), Trouble> {
        let mut outputs = Vec::new();
        let mut positions = Vec::new();
        for (id, active) in self.active.iter_mut().filter(|(_, active)| active.dirty) {
            active.task.pre_commit().map_err(Trouble::task(*id))?;
            outputs.append(&mut active.task.take_output());
            positions.push((*id, active.positions()));
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
        let noted = &mut self.transaction.changelogs;
        let sent = self.runtime.block_on(async {
            for output in outputs {
                let changelog = output.partition.filter(|_| changelogs);
                let place = changelog.map(|partition| (output.topic.clone(), partition));
                let delivery = producer.send(record(output)).await?;
                if let Some(place) = place {
                    noted.insert(place, delivery);
                }
            }
            Ok(())
        });
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

    fn commit_transaction(&mut self, offsets: &HashMap<TopicPartition, Committed>) -> Result<(), Trouble> {
        self.begin()?;
        let Some(producer) = &self.producer else { return Err(no_producer()) };
        let mut member = self.group.metadata();
        if planted::is(Bug::CommitOfAnyMember) {
            member = GroupMetadata::simple(member.group_id);
        }
        let added = self.runtime.block_on(producer.send_offsets(&member, offsets));
        added.map_err(Trouble::client("add offsets to the transaction"))?;
        self.fault(FaultPoint::BeforeCommit)?;
        let committed = self.runtime.block_on(producer.commit_transaction());
        committed.map_err(Trouble::client("commit the transaction"))?;
        self.transaction.open = false;
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

    /// One batch for all stores of all tasks, with their positions.
    fn write_stores(
        &mut self,
        positions: Positions,
        ends: &HashMap<(Arc<str>, i32), Offset>,
    ) -> Result<(), Trouble> {
        let now = wall_clock();
        let mut writes = Vec::new();
        let Some(first) = positions.first().map(|(id, _)| *id) else { return Ok(()) };
        for (id, advanced) in positions {
            let Some(active) = self.active.get_mut(&id) else { continue };
            active.commit_positions(advanced);
            let mut batches = active.task.committed(now);
            for info in &active.stores {
                let entries = batches.remove(&info.name).unwrap_or_default();
                let position = info.changelog.as_deref().and_then(|topic| {
                    if info.source_topic {
                        active.committed(&TopicPartition::new(topic, id.partition))
                    } else {
                        ends.get(&(Arc::from(topic), id.partition)).copied()
                    }
                });
                if !entries.is_empty() || position.is_some() {
                    writes.push(StoreWrite { id: StoreId::new(id, info.name.as_str()), entries, position });
                }
            }
            let counted = active.task.metrics();
            self.shared.metrics.advance(&active.counted, &counted);
            active.counted = counted;
            self.shared.board.set_task(id, active.status());
        }
        if writes.is_empty() {
            return Ok(());
        }
        if planted::is(Bug::PositionBeforeEntries) {
            let positions = writes.iter().map(|write| StoreWrite { entries: Vec::new(), ..write.clone() });
            self.shared.stores.write(positions.collect()).map_err(store_failed(first))?;
            std::thread::sleep(PLANTED_PAUSE);
        }
        self.shared.stores.write(writes).map_err(store_failed(first))
    }
}

fn no_producer() -> Trouble {
    Trouble::client("send records")(ClientError::State("the thread has no producer"))
}

fn record(output: Output) -> ProduceRecord {
    ProduceRecord {
        topic: output.topic.to_string(),
        partition: output.partition,
        timestamp: Some(output.timestamp),
        key: output.key,
        value: output.value,
        headers: output.headers,
    }
}
