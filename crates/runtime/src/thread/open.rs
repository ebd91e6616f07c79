//! Opening tasks: where their inputs start, which stores fit their changelogs, and what is left to restore.
//!
//! The order matters: the producer's InitProducerId has settled our own last transaction before committed offsets are
//! read, and those are read before the changelogs' ends, which are high watermarks: a transaction of someone else that is
//! still open there must end, either way, before a store is complete.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use headwater_client::planted::{self, Bug};
use headwater_client::{Client, ClientError, Committed, Isolation, OffsetSpec, Position};
use headwater_model::{Offset, TimestampMs, TopicPartition};
use headwater_streams::{OffsetReset, StoreBackend, StoreError, StoreInfo, StoreKind, TaskId};

use super::Worker;
use super::active::ActiveTask;
use super::external;
use super::led::{AWAY_PAUSE, changelogs_of};
use super::restore::{Part, RestoringTask};
use super::trouble::Trouble;
use super::wall_clock;
use crate::app::Shared;
use crate::claims::Owner;
use crate::error::AppError;
use crate::external::Taken;
use crate::metrics::Metrics;
use crate::snapshot::{self, Fetch, Found, Snapshots, Subject};
use crate::state::{StoreId, StoreWrite};

/// Before another thread of this process is asked for its task again.
pub(super) const CLAIM_PAUSE: Duration = Duration::from_millis(20);

/// A thread that keeps a task from another for longer is worth a warning.
const CLAIM_WARNING: Duration = Duration::from_secs(5);

/// What says that a row is gone is compacted away a day after it was written (`delete.retention.ms`), in milliseconds; less an hour.
const TOMBSTONES: TimestampMs = 23 * 3600 * 1000;

/// How long the claim of some tasks has been refused.
#[derive(Default)]
pub(super) struct ClaimWait {
    since: Option<Instant>,
    told: bool,
}

impl ClaimWait {
    /// It was refused; whether that is to be told now, which is once.
    fn refused(&mut self, now: Instant) -> bool {
        let since = *self.since.get_or_insert(now);
        let due = !self.told && now.saturating_duration_since(since) >= CLAIM_WARNING;
        self.told |= due;
        due
    }
}

/// Records that a planted mistake leaves out.
const PLANTED_GAP: Offset = 20;

type Offsets = HashMap<TopicPartition, Offset>;

/// What the broker says about the topics of some tasks.
pub(super) struct Facts {
    committed: HashMap<TopicPartition, Committed>,
    input_starts: Offsets,
    input_ends: Offsets,
    /// Where inputs without a committed position begin, as far as that is not their start.
    begins: Offsets,
    changelog_starts: Offsets,
    changelog_ends: Offsets,
    /// For stores that are not here.
    snapshots: HashMap<StoreId, (Subject, Found)>,
}

impl Facts {
    pub(super) async fn of(client: &Client, shared: &Shared, tasks: &[TaskId]) -> Result<Self, ClientError> {
        let inputs: Vec<TopicPartition> =
            tasks.iter().filter_map(|task| shared.tasks.get(task)).flatten().cloned().collect();
        let changelogs: Vec<TopicPartition> =
            tasks.iter().flat_map(|task| changelogs_of(shared, *task)).collect();
        let ask = async |of: &[TopicPartition], spec: OffsetSpec, isolation: Isolation| {
            let asked: Vec<_> = of.iter().map(|at| (at.clone(), spec)).collect();
            client.list_offsets(&asked, isolation).await
        };
        let committed = client.committed(&shared.config.application_id, Some(&inputs)).await?;
        let (input_starts, input_ends, changelog_starts, changelog_ends) = tokio::try_join!(
            ask(&inputs, OffsetSpec::Earliest, Isolation::Committed),
            ask(&inputs, OffsetSpec::Latest, Isolation::Committed),
            ask(&changelogs, OffsetSpec::Earliest, Isolation::Uncommitted),
            ask(&changelogs, OffsetSpec::Latest, Isolation::Uncommitted),
        )?;
        let begins = begins(client, shared, &committed, &input_ends).await?;
        let snapshots = HashMap::new();
        let mut facts =
            Self { committed, input_starts, input_ends, begins, changelog_starts, changelog_ends, snapshots };
        if let Some(snapshots) = &shared.snapshots {
            facts.snapshots = facts.look_for(client, shared, snapshots, tasks).await?;
        }
        Ok(facts)
    }

    /// Snapshots that fit what the changelogs hold, of the stores that have no position here.
    async fn look_for(
        &self,
        client: &Client,
        shared: &Shared,
        snapshots: &Snapshots,
        tasks: &[TaskId],
    ) -> Result<HashMap<StoreId, (Subject, Found)>, ClientError> {
        let mut wanted = Vec::new();
        for task in tasks {
            for info in shared.topology.stores(task.subtopology) {
                let Some(topic) = &info.changelog else { continue };
                let changelog = TopicPartition::new(topic.as_str(), task.partition);
                let store = StoreId::new(*task, info.name.as_str());
                let (start, end) = self.log(&changelog, info.source_topic);
                // One that cannot be read is for who opens it to report.
                let position = trusted_position(shared, &store, &info, end);
                if start < end && position.is_ok_and(|position| position.is_none()) {
                    let from = if expires(&info) { 0 } else { start };
                    let since = if info.source_topic { 0 } else { wall_clock() - TOMBSTONES };
                    wanted.push((store, changelog, (from, end), since));
                }
            }
        }
        let mut topics: Vec<String> = wanted.iter().map(|(_, at, ..)| at.topic.to_string()).collect();
        topics.sort();
        topics.dedup();
        let ids = snapshot::topic_ids(client, topics).await?;
        let mut found = HashMap::new();
        for (store, changelog, range, since) in wanted {
            let Some(topic_id) = ids.get(changelog.topic.as_str()).copied() else { continue };
            let subject = Subject { store: store.clone(), changelog, topic_id };
            match snapshots.newest(&subject, range, since).await {
                Ok(Some(snapshot)) => drop(found.insert(store, (subject, snapshot))),
                Ok(None) => {}
                Err(error) => {
                    Metrics::add(&shared.metrics.snapshot_failures, 1);
                    tracing::warn!(%store, error, "no snapshot was found: restoring from the changelog");
                }
            }
        }
        Ok(found)
    }

    /// Where an input begins for who has committed this.
    fn start(&self, committed: Option<&Committed>, input: &TopicPartition) -> Position {
        let begin = self.begins.get(input).or_else(|| self.input_starts.get(input));
        committed.map_or_else(|| Position::from(begin.copied().unwrap_or(0)), Committed::position)
    }

    /// What an input holds, up to the last stable offset.
    pub(super) fn input_range(&self, input: &TopicPartition) -> Option<(Offset, Offset)> {
        Some((*self.input_starts.get(input)?, *self.input_ends.get(input)?))
    }

    /// The range of the changelog that makes up the store.
    pub(super) fn log(&self, changelog: &TopicPartition, source_topic: bool) -> (Offset, Offset) {
        if source_topic {
            let earliest = self.input_starts.get(changelog).copied().unwrap_or(0);
            let end = self.committed.get(changelog).map_or(earliest, |position| position.offset);
            return (earliest, end);
        }
        let of = |offsets: &Offsets| offsets.get(changelog).copied().unwrap_or(0);
        (of(&self.changelog_starts), of(&self.changelog_ends))
    }
}

/// Asks where inputs begin that have no committed position and are not read from their first record. One that has no record that is
/// young enough begins at its end.
async fn begins(
    client: &Client,
    shared: &Shared,
    committed: &HashMap<TopicPartition, Committed>,
    ends: &Offsets,
) -> Result<Offsets, ClientError> {
    let resets = shared.topology.offset_resets();
    let spec = |at: &TopicPartition| match resets.get(&at.topic)? {
        OffsetReset::Earliest => None,
        OffsetReset::Latest => Some(OffsetSpec::Latest),
        OffsetReset::NoOlderThan(age) => {
            let age = i64::try_from(age.as_millis()).unwrap_or(i64::MAX);
            Some(OffsetSpec::Timestamp(wall_clock().saturating_sub(age).max(0)))
        }
    };
    let unknown = ends.keys().filter(|at| !committed.contains_key(*at));
    let asked: Vec<_> = unknown.filter_map(|at| Some((at.clone(), spec(at)?))).collect();
    if asked.is_empty() {
        return Ok(Offsets::new());
    }
    let mut begins = client.list_offsets(&asked, Isolation::Committed).await?;
    for (at, _) in asked {
        let end = ends.get(&at).copied().unwrap_or(0);
        begins.entry(at).or_insert(end);
    }
    Ok(begins)
}

/// What a store's position means for a changelog that holds `start..end`.
///
/// Changelogs of windows expire (`expires`) by their records' time: what is missing before `start` is old windows, which
/// the store may keep. Anywhere else a hole means that the store cannot be trusted.
#[derive(Debug, PartialEq, Eq)]
struct Plan {
    wipe: bool,
    from: Offset,
}

fn plan(position: Option<Offset>, start: Offset, end: Offset, expires: bool) -> Plan {
    match position {
        Some(position) if position == end || (start..end).contains(&position) => {
            Plan { wipe: false, from: position }
        }
        Some(position) if expires && position < start => Plan { wipe: false, from: start },
        _ => Plan { wipe: true, from: start },
    }
}

/// A store's position, unless what was deleted since it was written may be gone from the changelog: the rows would stay in the store.
/// What was written last is in the log in any case.
fn trusted(
    position: Option<Offset>,
    end: Offset,
    written_at: Option<TimestampMs>,
    now: TimestampMs,
) -> Option<Offset> {
    let is_old = written_at.is_some_and(|at| now - at >= TOMBSTONES);
    position.filter(|position| !is_old || end - *position <= 1)
}

/// Of a store that is made of somebody else's topic, what compaction does there is not known.
fn trusted_position(
    shared: &Shared,
    store: &StoreId,
    info: &StoreInfo,
    end: Offset,
) -> Result<Option<Offset>, StoreError> {
    let position = shared.stores.position(store)?;
    match info.source_topic {
        true => Ok(position),
        false => Ok(trusted(position, end, shared.stores.written_at(store)?, wall_clock())),
    }
}

fn expires(info: &StoreInfo) -> bool {
    matches!(info.kind, StoreKind::Window | StoreKind::Session)
}

impl Worker {
    /// Opens the assigned tasks if that is still to be done. Those without anything to restore run at once.
    pub(super) fn open_tasks(&mut self) -> Result<(), Trouble> {
        if self.open_at.is_none_or(|moment| Instant::now() < moment) {
            return Ok(());
        }
        let is_open = |id: &TaskId| self.active.contains_key(id) || self.restoring.contains_key(id);
        let due: Vec<TaskId> = self.assigned.iter().filter(|id| !is_open(id)).copied().collect();
        if let Err(taken) = self.shared.claims.claim(&due, Owner::Active(self.index)) {
            let now = Instant::now();
            if self.claim_wait.refused(now) {
                let holder = self.shared.claims.holder(taken);
                tracing::warn!(
                    thread = self.index, task = %taken, ?holder,
                    "the task cannot be opened: another thread of this process has had it for {CLAIM_WARNING:?} longer than it was given it; trying on"
                );
            }
            self.open_at = Some(now + CLAIM_PAUSE);
            return Ok(());
        }
        self.claim_wait = ClaimWait::default();
        self.ensure_producer()?;
        let (due, waiting) = self.led(&due)?;
        let open_again = (!waiting.is_empty()).then(|| Instant::now() + AWAY_PAUSE);
        if due.is_empty() && open_again.is_some() {
            self.open_at = open_again;
            return Ok(());
        }
        let Some(taken) = self.take_outside(&due)? else { return Ok(()) };
        let facts = self.runtime.block_on(Facts::of(&self.client, &self.shared, &due));
        let facts = facts.map_err(Trouble::client("look up committed offsets and changelogs"))?;
        for id in due {
            let opened = self.open_task(id, &facts, taken.get(&id))?;
            self.restoring.insert(id, opened);
        }
        self.open_at = open_again;
        self.last_commit = Instant::now();
        self.begin_restore()
    }

    fn open_task(&self, id: TaskId, facts: &Facts, taken: Option<&Taken>) -> Result<RestoringTask, Trouble> {
        let mut backends: HashMap<String, Box<dyn StoreBackend>> = HashMap::new();
        let mut parts = Vec::new();
        let outside = self.outside(id, taken, facts)?;
        backends.extend(outside.iter().flat_map(external::backends));
        for info in self.shared.topology.stores(id.subtopology) {
            if info.external.is_some() {
                continue;
            }
            parts.extend(fit_store(&self.shared, id, &info, facts)?);
            let opened = self.shared.stores.open(&StoreId::new(id, info.name.as_str()));
            backends.insert(info.name, opened.map_err(store_failed(id))?);
        }
        let globals = self.shared.globals.clone();
        let count = |topic: &str| self.shared.counts.get(topic).copied();
        let mut task = self.shared.topology.task(id, backends, globals, &count).map_err(Trouble::task(id))?;
        task.limit_caches(self.shared.cache_share());
        self.tell_aside(id, &mut task);
        task.set_limits(self.shared.limits.clone());
        task.set_refused(self.refused.clone());
        let mut starts = Vec::new();
        let mut committed = HashMap::new();
        // The database knows how far its rows are, and the group may know better or worse.
        let known = taken.map_or(&facts.committed, |taken| &taken.positions);
        for input in task.inputs() {
            let start = facts.start(known.get(&input), &input);
            task.set_fetched_to(&input, start.offset);
            if let Some(end) = facts.input_ends.get(&input) {
                task.set_end_offset(&input, *end);
            }
            if let Some(position) = known.get(&input) {
                task.set_stream_time(&input, &position.metadata);
                committed.insert(input.clone(), position.clone());
            }
            starts.push((input, start));
        }
        let begins_anew = |(at, _): &(TopicPartition, Position)| {
            facts.begins.contains_key(at) && !committed.contains_key(at)
        };
        let is_new = starts.iter().any(begins_anew);
        let mut active = ActiveTask::new(task, starts, committed);
        // The end of a topic moves on: whoever opens the task next has to begin at this one.
        active.dirty = is_new;
        active.outside = outside;
        Ok(RestoringTask { active, parts })
    }
}

/// Empties a store of windows or sessions that another version of the program has laid out otherwise, by another retention: this one
/// would not find what is in it.
fn empty_misfit(shared: &Shared, task: TaskId, info: &StoreInfo) -> Result<(), Trouble> {
    if !expires(info) {
        return Ok(());
    }
    let id = StoreId::new(task, info.name.as_str());
    let backend = shared.stores.open(&id).map_err(store_failed(task))?;
    if shared.topology.fits(&info.name, backend).map_err(Trouble::task(task))? {
        return Ok(());
    }
    Metrics::add(&shared.metrics.wiped_stores, 1);
    tracing::warn!(
        %task, store = info.name,
        "the store was written with another retention, or told its windows otherwise: what its changelog has is restored"
    );
    shared.stores.wipe(&id).map_err(store_failed(task))
}

/// Empties a store that does not fit its changelog, and says what is to be restored.
pub(super) fn fit_store(
    shared: &Shared,
    task: TaskId,
    info: &StoreInfo,
    facts: &Facts,
) -> Result<Option<Part>, Trouble> {
    empty_misfit(shared, task, info)?;
    // A store that is not logged keeps what the last process on this machine left in it.
    let Some(topic) = &info.changelog else { return Ok(None) };
    let changelog = TopicPartition::new(topic.as_str(), task.partition);
    let (start, mut end) = facts.log(&changelog, info.source_topic);
    if planted::is(Bug::RestoreTooLittle) {
        end = (end - PLANTED_GAP).max(start);
    }
    let id = StoreId::new(task, info.name.as_str());
    let stores = &shared.stores;
    let mut position = trusted_position(shared, &id, info, end).map_err(store_failed(task))?;
    if planted::is(Bug::TrustWipedStore) {
        position = position.or(Some(end));
    }
    let plan = plan(position, start, end, expires(info));
    if plan.wipe {
        if let Some(position) = stores.position(&id).map_err(store_failed(task))? {
            Metrics::add(&shared.metrics.wiped_stores, 1);
            tracing::warn!(
                %task, store = info.name, position, %changelog, start, end,
                "the store's position is not in its changelog, or so old that what was deleted since may not be there any more: restoring all of it"
            );
        }
        stores.wipe(&id).map_err(store_failed(task))?;
    }
    if plan.from < end {
        let snapshot = match (&shared.snapshots, facts.snapshots.get(&id).filter(|_| plan.wipe)) {
            (Some(snapshots), Some((of, found))) => {
                tracing::info!(store = %id, position = found.position, end, "restoring from a snapshot");
                Some(Fetch::begin(snapshots, of.clone(), found.clone()))
            }
            _ => None,
        };
        return Ok(Some(Part::new(changelog, id, (plan.from, end), snapshot)));
    }
    if position != Some(end) {
        let write = StoreWrite { id, entries: Vec::new().into(), position: Some(end) };
        stores.write(vec![write]).map_err(store_failed(task))?;
    }
    Ok(None)
}

/// A store that cannot be read or written stops the application: its operator must look at the disk.
pub(super) fn store_failed(task: TaskId) -> impl Fn(headwater_streams::StoreError) -> Trouble {
    move |source| Trouble::Fatal(AppError::Store { task: task.to_string(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_task_that_another_thread_keeps_is_told_once_after_some_seconds() {
        let (mut wait, begun) = (ClaimWait::default(), Instant::now());
        let told: Vec<bool> = [0, 1, 5, 6, 60].map(|s| wait.refused(begun + Duration::from_secs(s))).into();
        assert_eq!(told, [false, false, true, false, false]);
    }

    #[test]
    fn a_position_is_trusted_as_long_as_the_changelog_has_what_was_deleted_since() {
        let (written, day) = (Some(1_000), 24 * 3600 * 1000);
        let at = |position, now| trusted(Some(position), 100, written, now);
        assert_eq!(at(50, day - 3_600_000), Some(50));
        assert_eq!(at(50, day), None);
        // Nothing has come but the end of the transaction that the position is of.
        assert_eq!((at(99, 9 * day), at(100, 9 * day)), (Some(99), Some(100)));
        assert_eq!(
            trusted(Some(50), 100, None, 9 * day),
            Some(50),
            "an earlier version did not note the time"
        );
        assert_eq!(trusted(None, 100, written, 0), None);
    }

    #[test]
    fn a_position_inside_the_changelog_restores_the_tail_and_any_other_all_of_it() {
        let keeps = |from| Plan { wipe: false, from };
        let wipes = |from| Plan { wipe: true, from };
        let table = |position, start, end| plan(position, start, end, false);
        assert_eq!(table(Some(7), 2, 9), keeps(7));
        assert_eq!(table(Some(9), 2, 9), keeps(9));
        assert_eq!(table(Some(0), 0, 0), keeps(0));
        assert_eq!(table(None, 2, 9), wipes(2));
        // The topic was made anew, or its start was deleted.
        assert_eq!(table(Some(10), 2, 9), wipes(2));
        assert_eq!(table(Some(1), 2, 9), wipes(2));
        // Nothing was lost: all was read before it was deleted.
        assert_eq!(table(Some(9), 9, 9), keeps(9));
        // Old windows have expired from the changelog.
        assert_eq!(plan(Some(1), 2, 9, true), keeps(2));
        assert_eq!(plan(Some(10), 2, 9, true), wipes(2));
    }
}
