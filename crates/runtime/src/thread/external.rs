//! Tasks whose stores are in a database: taken there before they begin, prefetched, and committed there with their positions.
//!
//! A commit prepares everything in the database, then ends the transaction of Kafka, then the one of the database. Between the two
//! ends a crash leaves output that comes again: the database has not moved, so it is at-least-once. Nothing of the
//! state is lost or counted twice: a start goes on from what the database has.

use std::collections::HashMap;
use std::time::Instant;

use headwater_client::Committed;
use headwater_model::{Bytes, Offset, Record, TopicPartition};
use headwater_streams::{StoreBackend, StoreError, TaskError, TaskId};

use super::open::{CLAIM_PAUSE, Facts};
use super::trouble::Trouble;
use super::{ActiveTask, Worker, wall_clock};
use crate::external::{ExternalBackend, ExternalError, Link, Taken, TaskCommit};

/// What an external task has beside what others have.
pub(super) struct Outside {
    pub epoch: i64,
    /// Its stores by name.
    pub stores: Vec<(String, ExternalBackend)>,
    /// Keys of records that came and are not processed yet.
    keys: Vec<Bytes>,
}

impl Outside {
    pub fn note(&mut self, records: &[Record]) {
        self.keys.extend(records.iter().filter_map(|record| record.key.clone()));
    }
}

impl ActiveTask {
    /// Reads the rows of what came, as far as its stores have the records' keys.
    pub fn read_ahead(&mut self) -> Result<(), TaskError> {
        let Some(outside) = &mut self.outside else { return Ok(()) };
        let keys = std::mem::take(&mut outside.keys);
        if keys.is_empty() {
            return Ok(());
        }
        for (store, backend) in &outside.stores {
            let failed = |source: StoreError| TaskError::Store { store: store.clone(), source };
            backend.read_ahead(|| self.task.lacking(store, &keys)).map_err(failed)?;
        }
        Ok(())
    }
}

/// Where the database says that an input is, held against what the topic has.
fn check(
    (database, task): (&str, TaskId),
    input: &TopicPartition,
    at: Offset,
    (start, end): (Offset, Offset),
) -> Result<(), Trouble> {
    if at > end {
        return Err(Trouble::External(ExternalError::Refused {
            database: database.to_owned(),
            what: format!("go on with task {task}"),
            message: format!("its stores have {input} up to offset {at}, and the topic ends at {end}: it was made anew, or cut back"),
            advice: "if the stores may be filled from the topic as it is, stop every instance and run headwater topology reprocess with --external and --execute".to_owned(),
        }));
    }
    if at < start {
        tracing::warn!(%task, %input, at, start, "records were deleted before they were processed: going on where the topic begins");
    }
    Ok(())
}

impl Worker {
    pub(super) fn is_external(&self, task: TaskId) -> bool {
        self.shared.topology.stores(task.subtopology).iter().any(|info| info.external.is_some())
    }

    /// Takes these tasks in the database, where they are external. `None`: it is not sure whether they are this thread's, so that
    /// whoever has them must not be disturbed.
    pub(super) fn take_outside(&mut self, due: &[TaskId]) -> Result<Option<HashMap<TaskId, Taken>>, Trouble> {
        let mut taken = HashMap::new();
        let external: Vec<TaskId> = due.iter().filter(|id| self.is_external(**id)).copied().collect();
        if external.is_empty() {
            return Ok(Some(taken));
        }
        if !self.group.lease().holds() {
            self.open_at = Some(Instant::now() + CLAIM_PAUSE);
            return Ok(None);
        }
        let link = match &self.link {
            Some(link) => link.clone(),
            None => Link::open(&self.shared).map_err(Trouble::External)?,
        };
        self.link = Some(link.clone());
        let owner = format!("{} thread {}", self.shared.instance, self.index);
        for id in external {
            let begun = link.call(|session| session.take(id, &owner)).map_err(Trouble::External)?;
            tracing::info!(task = %id, epoch = begun.epoch, "taken in the database");
            taken.insert(id, begun);
        }
        Ok(Some(taken))
    }

    /// The stores of an external task; `None` for any other.
    pub(super) fn outside(
        &self,
        id: TaskId,
        taken: Option<&Taken>,
        facts: &Facts,
    ) -> Result<Option<Outside>, Trouble> {
        let (Some(taken), Some(link)) = (taken, &self.link) else { return Ok(None) };
        let name = || self.shared.config.external.as_ref().map(|external| external.database().name());
        for (input, position) in &taken.positions {
            if let Some(range) = facts.input_range(input) {
                check((&name().unwrap_or_default(), id), input, position.offset, range)?;
            }
        }
        let stores = self.shared.topology.stores(id.subtopology).into_iter();
        let stores = stores.filter_map(|info| {
            Some((info.name, ExternalBackend::new(link.clone(), info.external?, id.partition)))
        });
        Ok(Some(Outside { epoch: taken.epoch, stores: stores.collect(), keys: Vec::new() }))
    }

    /// Everything that the external tasks did and their positions go to the database, but for the last step.
    pub(super) fn prepare_outside(
        &mut self,
        positions: &[(TaskId, Vec<(TopicPartition, Committed)>)],
    ) -> Result<(), Trouble> {
        let now = wall_clock();
        let mut commits = Vec::new();
        for (id, advanced) in positions {
            let Some(ActiveTask { task, outside: Some(outside), .. }) = self.active.get_mut(id) else {
                continue;
            };
            let mut batches = task.committed(now);
            let rows = outside.stores.iter().filter_map(|(store, backend)| {
                let rows = batches.remove(store)?.into_iter().collect::<std::collections::BTreeMap<_, _>>();
                backend.forget(rows.keys());
                Some((backend.table().clone(), rows))
            });
            let rows = rows.collect();
            commits.push(TaskCommit { task: *id, epoch: outside.epoch, rows, positions: advanced.clone() });
        }
        self.prepared = !commits.is_empty();
        match &self.link {
            Some(link) if self.prepared => {
                link.call(|session| session.prepare(&commits)).map_err(Trouble::External)
            }
            _ => Ok(()),
        }
    }

    pub(super) fn commit_outside(&mut self) -> Result<(), Trouble> {
        match &self.link {
            Some(link) if std::mem::take(&mut self.prepared) => {
                link.call(|session| session.commit()).map_err(Trouble::External)
            }
            _ => Ok(()),
        }
    }

    /// What an operator failed with may be what the database failed with.
    pub(super) fn blame_database(&self, trouble: Trouble) -> Trouble {
        match (self.link.as_ref().and_then(Link::failure), trouble) {
            (_, Trouble::Fatal(error)) => Trouble::Fatal(error),
            (Some(failure), _) => Trouble::External(failure),
            (None, trouble) => trouble,
        }
    }
}

/// The stores as a task is given them.
pub(super) fn backends(outside: &Outside) -> impl Iterator<Item = (String, Box<dyn StoreBackend>)> + '_ {
    outside.stores.iter().map(|(name, backend)| (name.clone(), Box::new(backend.clone()) as Box<_>))
}
