//! Answers for what is here: a task that runs, a copy that is not too far behind, a global table.
//!
//! Only committed state is read, and only if it was the same state from the first byte to the last: see [`super::serving`].

use std::sync::Arc;

use headwater_streams::{Page, Query, QueryError, QueryableStore, StoreBackend, TaskId};
use tokio::sync::watch;
use tokio::time::Instant;

use super::ask::{Ask, Part, Place, QueryResultInfo, Role};
use super::position::Position;
use super::serving::{Active, Seen, StandbyCopy};
use super::upstream::{covers, needs, not_yet, wait_committed};
use crate::app::Shared;
use crate::board::Phase;
use crate::state::StoreId;

/// One question about one store, here.
pub(crate) struct Here<'a> {
    pub shared: &'a Arc<Shared>,
    pub ask: &'a Ask,
    pub store: &'a QueryableStore,
    pub deadline: Instant,
}

/// Whether a copy here may answer such a question.
pub(crate) fn may_stand_in(shared: &Shared, ask: &Ask, task: TaskId) -> Option<StandbyCopy> {
    let is_copied = |info: &headwater_streams::StoreInfo| info.name == ask.store && info.changelog.is_some();
    let copied = shared.topology.stores(task.subtopology).iter().any(is_copied);
    shared.serving.copy_of(task).filter(|copy| copied && copy.is_within(&ask.staleness))
}

impl Here<'_> {
    pub async fn of_task(&self, task: TaskId) -> Part {
        let position = &self.ask.position;
        let needs = match needs(self.shared, (&self.ask.store, task), position, self.deadline).await {
            Ok(needs) => needs,
            Err(part) => return part,
        };
        let mut changes = self.shared.serving.changes();
        loop {
            changes.mark_unchanged();
            let told = match self.shared.serving.active(task) {
                Some(active) => self.of_active(task, &active, &needs, &mut changes).await,
                None => match may_stand_in(self.shared, self.ask, task) {
                    Some(copy) => self.of_copy(task, copy, &needs, &mut changes).await,
                    None => return Part::Unavailable { detail: self.why_not(task) },
                },
            };
            if let Some(part) = told {
                return part;
            }
        }
    }

    /// `None`: it is not what it was, look again.
    async fn of_active(
        &self,
        task: TaskId,
        active: &Active,
        needs: &Seen,
        changes: &mut watch::Receiver<()>,
    ) -> Option<Part> {
        if !covers(&active.seen, needs) {
            return self.later(changes).await.then(|| not_yet(&active.seen, needs));
        }
        let read = self.read(Some(task)).await;
        let same = self.shared.serving.active(task).is_some_and(|now| now.era == active.era);
        let info = QueryResultInfo {
            role: Role::Active,
            host: self.shared.endpoint().map(str::to_owned),
            lag: None,
            staleness_ms: None,
            position: Position::before(&active.seen),
        };
        same.then(|| self.part(read, info))
    }

    async fn of_copy(
        &self,
        task: TaskId,
        copy: StandbyCopy,
        needs: &Seen,
        changes: &mut watch::Receiver<()>,
    ) -> Option<Part> {
        let mut copy = copy;
        if !needs.is_empty() {
            if let Err(part) = wait_committed(self.shared, needs, self.deadline).await {
                return Some(part);
            }
            // What is committed by now is in the changelogs that the copy will have read to their ends of now.
            let known_at = std::time::Instant::now();
            copy = loop {
                let now = may_stand_in(self.shared, self.ask, task)?;
                if now.current_at.is_some_and(|at| at >= known_at) {
                    break now;
                }
                if self.later(changes).await {
                    return Some(not_yet(&Seen::new(), needs));
                }
            };
        }
        let read = self.read(Some(task)).await;
        let same = self.shared.serving.copy_of(task).is_some_and(|now| now.era == copy.era);
        let info = QueryResultInfo {
            role: Role::Standby,
            host: self.shared.endpoint().map(str::to_owned),
            lag: copy.lag(),
            staleness_ms: copy.staleness_ms(),
            position: Position::before(needs),
        };
        same.then(|| self.part(read, info))
    }

    pub async fn of_global(&self) -> Part {
        let globals = self.shared.topology.global_stores();
        let topic =
            globals.into_iter().find(|global| global.store == self.ask.store).map(|global| global.topic);
        let mut needs = Seen::new();
        for (at, offset) in self.ask.position.components() {
            if Some(&at.topic) != topic.as_ref() {
                let (store, asked) = (&self.ask.store, &at.topic);
                let topic = topic.unwrap_or_default();
                let detail =
                    format!("store {store:?} is not made of {asked:?}: use positions of records in {topic}");
                return Part::Refused { detail };
            }
            needs.insert(at.clone(), offset + 1);
        }
        let mut changes = self.shared.serving.changes();
        loop {
            changes.mark_unchanged();
            let seen = self.shared.serving.global(topic.as_deref().unwrap_or_default());
            let ready = self.shared.board.phase() == Phase::Running;
            if ready && covers(&seen, &needs) {
                let info = QueryResultInfo {
                    role: Role::Global,
                    host: self.shared.endpoint().map(str::to_owned),
                    lag: None,
                    staleness_ms: None,
                    position: Position::before(&seen),
                };
                return self.part(self.read(None).await, info);
            }
            if self.later(&mut changes).await {
                let detail = "the global tables are not loaded yet; ask again".to_owned();
                return if ready { not_yet(&seen, &needs) } else { Part::Unavailable { detail } };
            }
        }
    }

    /// Waits for a change; whether the time is over.
    async fn later(&self, changes: &mut watch::Receiver<()>) -> bool {
        let changed = tokio::time::timeout_at(self.deadline, changes.changed());
        // The sender is in `Shared`.
        changed.await.is_err()
    }

    pub fn why_not(&self, task: TaskId) -> String {
        let board = &self.shared.board;
        if let Some(status) = board.tasks().get(&task) {
            return match (status.running, status.restoring) {
                (true, _) => format!("it is not certain that task {task} still runs here; ask again"),
                (false, records) => {
                    format!("task {task} is being restored here ({records} records to go); ask again")
                }
            };
        }
        match self.shared.serving.copy_of(task) {
            Some(copy) if self.ask.staleness.is_none() => {
                let lag = copy.lag().map_or("an unknown number of".to_owned(), |lag| lag.to_string());
                format!(
                    "task {task} runs elsewhere, and the copy here lacks {lag} records; max_lag or max_staleness lets it answer"
                )
            }
            Some(copy) => {
                let lag = copy.lag().map_or("an unknown number of".to_owned(), |lag| lag.to_string());
                let age =
                    copy.staleness_ms().map_or("has never been".to_owned(), |ms| format!("was {ms} ms ago"));
                format!(
                    "the copy of task {task} here lacks {lag} records and {age} complete: further behind than was asked for"
                )
            }
            None => format!("task {task} is not here"),
        }
    }

    /// Reads the part of a task, or the global table.
    async fn read(&self, task: Option<TaskId>) -> Result<Page, Part> {
        let (shared, store) = (self.shared.clone(), self.store.clone());
        let (query, after) = (self.ask.query.clone(), self.ask.after.clone());
        let work = move || read(&shared, &store, task, &query, after.as_ref());
        match tokio::task::spawn_blocking(work).await {
            Ok(Ok(page)) => Ok(page),
            Ok(Err(error)) => Err(failed(&error)),
            Err(error) => Err(Part::Failed { detail: format!("the query ended early: {error}") }),
        }
    }

    fn part(&self, read: Result<Page, Part>, info: QueryResultInfo) -> Part {
        match read {
            Ok(Page { rows, more }) => {
                let rows = rows.into_iter().map(|(place, row)| (Place(place), row)).collect();
                Part::Rows { rows, more, info }
            }
            Err(part) => part,
        }
    }
}

fn read(
    shared: &Shared,
    store: &QueryableStore,
    task: Option<TaskId>,
    query: &Query,
    after: Option<&Place>,
) -> Result<Page, QueryError> {
    let name = store.name();
    let after = after.map(|Place(place)| &place[..]);
    let backend: Box<dyn StoreBackend> = match task {
        Some(task) => shared
            .stores
            .view(&StoreId::new(task, name))
            .map_err(|source| QueryError::Store { store: name.to_owned(), source })?,
        None => match shared.globals.backend(name) {
            Some(memory) => Box::new(memory),
            None => return Ok(Page::default()),
        },
    };
    store.page(backend.as_ref(), query, after)
}

/// What kind of failure it is.
pub(crate) fn failed(error: &QueryError) -> Part {
    let mut detail = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(source) = cause {
        detail.push_str(&format!(": {source}"));
        cause = source.source();
    }
    match error {
        QueryError::Key { .. } | QueryError::Kind { .. } | QueryError::Place { .. } => {
            Part::Refused { detail }
        }
        QueryError::Store { .. } | QueryError::Decode { .. } => Part::Failed { detail },
    }
}
