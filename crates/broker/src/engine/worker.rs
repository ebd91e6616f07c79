//! The loop of the engine's thread, and the thread that waits for the disk.

use std::collections::HashMap;
use std::io;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use headwater_coordinator::{Client, Coordinator, Request, Response, TopicId};
use headwater_log::{ColdStore, CommitTicket, Log, LogError, Opening, Reader};
use headwater_model::TimestampMs;
use tokio::sync::oneshot;

use super::disk::{self, Chores, DiskActivity, Job, Jobs, Tried};
use super::held::{Held, Reply};
use super::published::{self, Internals};
use super::staging::count;
use super::state::{self, State};
use super::{Answer, Command, Unavailable};
use crate::authorizer::Authorizer;
use crate::catalog::{Catalog, Change};
use crate::cleaner::BELIEVED_JUMP_MS;
use crate::clock::Clock;
use crate::mirror::{Home, LogDisk};
use crate::planted::{self, Bug};
use crate::rules::{RuleChange, Rules};
use crate::security::{CredentialChange, Credentials};
use crate::waiters::Waiters;
use crate::{Config, CoordinatorSettings, StartError};

pub struct Worker {
    pub(super) log: Log<LogDisk>,
    pub(super) coordinator: Coordinator,
    pub(super) state: State,
    pub(super) clock: Clock,
    catalog: Arc<Catalog>,
    rules: Arc<Rules>,
    credentials: Arc<Credentials>,
    pub(super) waiters: Arc<Waiters>,
    jobs: Jobs,
    chores: Chores,
    activity: Arc<DiskActivity>,
    /// Who waits for the coordinator.
    pub(super) asked: HashMap<u64, oneshot::Sender<Answer<Response>>>,
    /// How many partitions the log has of each topic.
    pub(super) partitions: HashMap<TopicId, i32>,
    pub(super) staged: Held,
    /// Whether Kafka's own topics are written, and what of them waits.
    pub(super) publishes: bool,
    pub(super) internals: Internals,
    in_flight: Option<Held>,
    fenced: Arc<OnceLock<Unavailable>>,
    stopping: bool,
    /// How far the system's clock is ahead of ours, when it is not believed.
    pub(super) clock_jump: TimestampMs,
}

/// What the engine's thread shares with others.
pub struct Wiring {
    pub catalog: Arc<Catalog>,
    pub rules: Arc<Rules>,
    pub credentials: Arc<Credentials>,
    pub waiters: Arc<Waiters>,
    pub jobs: Jobs,
    pub chores: Chores,
    pub activity: Arc<DiskActivity>,
    pub store: Option<Arc<dyn ColdStore>>,
    pub fenced: Arc<OnceLock<Unavailable>>,
}

impl Worker {
    pub fn open(config: &Config, home: &Home, clock: Clock, wiring: Wiring) -> Result<Self, StartError> {
        let Wiring { catalog, credentials, rules, waiters, jobs, chores, activity, store, fenced } = wiring;
        let mut found = look(home, config, store)?;
        let jump = if found.time() > 0 { clock.now() - found.time() } else { 0 };
        let held = jump > BELIEVED_JUMP_MS && !config.cleaner.accept_clock_jump;
        if held {
            tracing::error!(
                days = jump / 86_400_000,
                "the system's clock is far ahead of the log's last time, so the broker goes on from that: nothing is deleted or forgotten by age; set the clock right, or start with --config headwater.clock.jump.accept=true"
            );
        }
        let clock = if held { clock.set_back(jump) } else { clock };
        let mut coordinator = Coordinator::new(CoordinatorSettings {
            seed: uuid::Uuid::new_v4().as_u64_pair().0,
            default_partitions: config.default_partitions,
            ..config.coordinator.clone()
        });
        if config.authorizer.enabled {
            let authorizer = Authorizer::new(config.authorizer.clone(), Arc::clone(&rules));
            coordinator.look_through(Arc::new(authorizer));
        }
        let mut partitions = HashMap::new();
        let reader = found.reader();
        let state =
            State::replay(&reader, &mut coordinator, clock.now(), |record| count(&mut partitions, record))
                .map_err(|reason| StartError::State { directory: home.log.clone(), reason })?;
        let publishes = config.coordinator.internal_topics;
        let odd = if publishes { published::odd(&coordinator, &reader, home)? } else { Vec::new() };
        // Nothing of what is there refuses the start any more, and nothing that is not: the space that it takes.
        if home.is_older() {
            found.prepare().map_err(|error| StartError::log(&home.log, error))?;
        }
        home.mark()?;
        let log = begin(home, found)?;
        home.note_begun();
        let inherited = Change::Broker(Box::new(coordinator.broker_configs().clone()));
        let topics = coordinator.topics().cloned().map(Change::Put);
        catalog.apply([inherited].into_iter().chain(topics).collect());
        let acls = coordinator.acls().cloned().map(RuleChange::Put);
        let features = coordinator.features().records().map(RuleChange::Feature);
        rules.apply(acls.chain(coordinator.quotas().map(RuleChange::Quota)).chain(features).collect());
        credentials.apply(coordinator.scram_credentials().cloned().map(CredentialChange::Put));
        let mut worker = Self {
            log,
            coordinator,
            state,
            clock,
            catalog,
            rules,
            credentials,
            waiters,
            jobs,
            chores,
            activity,
            asked: HashMap::new(),
            partitions,
            staged: Held::default(),
            publishes,
            internals: Internals::default(),
            in_flight: None,
            fenced,
            stopping: false,
            clock_jump: if held { jump } else { 0 },
        };
        let failed = |error| StartError::log(&home.log, error);
        worker.prepare_published(&odd).map_err(failed)?;
        worker.commit_start().map_err(failed)?;
        Ok(worker)
    }

    /// Brings to disk what the start has changed, before anybody asks.
    fn commit_start(&mut self) -> Result<(), LogError> {
        if self.fenced.get().is_some() {
            return Ok(());
        }
        self.flush_published()?;
        let snapshot = self.state.flush(&mut self.log, &self.coordinator, self.clock.now())?;
        let Some(mut job) = self.log.begin_commit() else { return Ok(()) };
        let outcome = job.attempt();
        if outcome.as_ref().is_err_and(Job::may_retry) {
            // The disk thread waits for space, while what is there is served.
            self.staged.snapshot = snapshot;
            self.in_flight = Some(std::mem::take(&mut self.staged));
            let sent = self.jobs.send(job);
            return sent.map_err(|_| LogError::Io(io::Error::other("the disk thread is gone")));
        }
        outcome?;
        self.log.end_commit(job.finish(), Ok(()))?;
        self.catalog.apply(std::mem::take(&mut self.staged).changes);
        if let Some(first) = snapshot {
            self.log.delete_before(state::PARTITION, first)?;
        }
        Ok(())
    }

    pub fn reader(&self) -> Reader<LogDisk> {
        self.log.reader()
    }

    /// Works until told to stop and all that was staged is on disk.
    pub fn run(&mut self, inbox: &mpsc::Receiver<Command>) {
        planted::begin_thread();
        while !(self.stopping && self.in_flight.is_none()) {
            match self.next(inbox) {
                Ok(command) => self.handle(command),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            while let Ok(command) = inbox.try_recv() {
                self.handle(command);
            }
            self.tick();
            self.commit();
            for chore in self.log.take_chores() {
                // Without its thread the next start does it.
                let _ = self.chores.send(chore);
            }
        }
        let reason = Unavailable::now("it is stopping");
        self.refuse_all(&reason);
    }

    fn next(&self, inbox: &mpsc::Receiver<Command>) -> Result<Command, RecvTimeoutError> {
        match self.coordinator.next_deadline() {
            Some(deadline) if self.fenced.get().is_none() => {
                let wait = u64::try_from(deadline - self.clock.now()).unwrap_or(0);
                inbox.recv_timeout(Duration::from_millis(wait))
            }
            _ => inbox.recv().map_err(|_| RecvTimeoutError::Disconnected),
        }
    }

    fn handle(&mut self, command: Command) {
        match command {
            Command::Ask { ticket, client, request, reply } => self.ask(ticket, &client, request, reply),
            Command::Cancel { ticket } => {
                if self.asked.remove(&ticket).is_some() {
                    self.coordinator.cancel(ticket);
                }
            }
            Command::Produce { produce, reply } => {
                let produced = self.produce(produce);
                self.hold(Reply::Produced(reply, produced));
            }
            Command::DeleteRecords { before, reply } => {
                let deleted = before.into_iter().map(|(id, offset)| self.delete_before(id, offset)).collect();
                self.hold(Reply::Deleted(reply, deleted));
            }
            Command::WriteMarkers { markers, reply } => {
                let marked = markers.iter().map(|marker| self.write_marker(marker)).collect();
                self.hold(Reply::Marked(reply, marked));
            }
            Command::Committed { ticket, outcome } => self.committed(ticket, outcome),
            Command::Spare(name) => self.log.spare_ready(name),
            Command::Clean(clean) => self.clean(clean),
            Command::Stop => {
                // What was acknowledged without a sync is synced, and the next start has nothing to scan.
                self.log.roll();
                self.stopping = true;
            }
        }
    }

    fn ask(
        &mut self,
        ticket: u64,
        client: &Client,
        request: Request,
        reply: oneshot::Sender<Answer<Response>>,
    ) {
        if let Some(reason) = self.fenced.get() {
            let _ = reply.send(Err(reason.clone()));
            return;
        }
        self.asked.insert(ticket, reply);
        let request = planted::believed(request, &self.coordinator);
        let effects = self.coordinator.handle(ticket, client, request, self.clock.now());
        self.perform(effects);
    }

    fn tick(&mut self) {
        let now = self.clock.now();
        if self.fenced.get().is_none() && self.coordinator.next_deadline().is_some_and(|due| due <= now) {
            let effects = self.coordinator.tick(now);
            self.perform(effects);
        }
    }

    /// Keeps a reply until all that it may tell of is on disk; sends it when that is so.
    pub(super) fn hold(&mut self, reply: Reply) {
        if let Some(reason) = self.fenced.get() {
            reply.refuse(reason);
        } else if planted::is(Bug::AcknowledgeEarly) && matches!(reply, Reply::Produced(..)) {
            reply.send();
        } else if self.log.staged_bytes() > 0 || !self.state.is_empty() {
            self.staged.replies.push(reply);
        } else if let Some(in_flight) = &mut self.in_flight {
            in_flight.replies.push(reply);
        } else {
            reply.send();
        }
    }

    fn commit(&mut self) {
        if self.in_flight.is_some() || self.fenced.get().is_some() {
            return;
        }
        if planted::is(Bug::AcknowledgeEarly) {
            // A kill must find the gap between the answer and the write.
            std::thread::sleep(Duration::from_millis(20));
        }
        if let Err(error) = self.flush_published() {
            return self.fence(&error);
        }
        match self.state.flush(&mut self.log, &self.coordinator, self.clock.now()) {
            Ok(snapshot) => self.staged.snapshot = snapshot,
            Err(error) => return self.fence(&error),
        }
        let Some(job) = self.log.begin_commit() else { return };
        self.in_flight = Some(std::mem::take(&mut self.staged));
        let job = match disk::try_now(job, &self.activity) {
            Tried::Done(ticket, outcome) => return self.committed(ticket, outcome),
            Tried::Longer(job) => job,
        };
        if self.jobs.send(job).is_err() {
            self.fence(&LogError::Io(io::Error::other("the disk thread is gone")));
        }
    }

    fn committed(&mut self, ticket: CommitTicket<LogDisk>, outcome: io::Result<()>) {
        let ends_full = self.activity.is_stopping() && outcome.as_ref().is_err_and(Job::may_retry);
        if let Err(error) = self.log.end_commit(ticket, outcome) {
            return if ends_full { self.end_full() } else { self.fence(&error) };
        }
        let Some(held) = self.in_flight.take() else { return };
        self.catalog.apply(held.changes);
        self.rules.apply(held.rules);
        self.credentials.apply(held.credentials);
        held.replies.into_iter().for_each(Reply::send);
        self.waiters.wake(&held.touched);
        if let Some(first) = held.snapshot
            && let Err(error) = self.log.delete_before(state::PARTITION, first)
        {
            self.fence(&error);
        }
    }

    /// Nothing decided since the last good commit is true: refuse it all, and say so.
    pub(super) fn fence(&mut self, error: &LogError) {
        let reason = Unavailable::now(error.to_string());
        if self.fenced.set(reason.clone()).is_ok() {
            tracing::error!(%error, "the broker takes no more writes; free space or mend the disk, then restart it");
        }
        self.refuse_all(&reason);
    }

    /// The last commit found no space, and nothing waits for some when the broker stops: the next start goes on from
    /// what is on disk.
    fn end_full(&mut self) {
        let waiting =
            self.in_flight.as_ref().map_or(0, |held| held.replies.len()) + self.staged.replies.len();
        if waiting > 0 {
            tracing::warn!(
                waiting,
                "the disk is full, so what waited for space is refused and not kept; nothing of it was acknowledged"
            );
        }
        let reason = Unavailable::now("it is stopping, and the disk is full");
        let _ = self.fenced.set(reason.clone());
        self.refuse_all(&reason);
    }

    fn refuse_all(&mut self, reason: &Unavailable) {
        let in_flight = self.in_flight.take().into_iter().flat_map(|held| held.replies);
        in_flight.chain(std::mem::take(&mut self.staged).replies).for_each(|reply| reply.refuse(reason));
        for (_, reply) in self.asked.drain() {
            let _ = reply.send(Err(reason.clone()));
        }
    }
}

/// What the log holds. Nothing is written that an older build could not read.
pub(super) fn look(
    home: &Home,
    config: &Config,
    store: Option<Arc<dyn ColdStore>>,
) -> Result<Opening<LogDisk>, StartError> {
    let salt = uuid::Uuid::new_v4().as_u64_pair().0;
    let settings = crate::LogSettings { vital: Some(state::PARTITION), salt, ..config.log };
    let disk = Arc::new(home.disk.clone());
    Log::look(disk, settings, store).map_err(|error| StartError::log(&home.log, error))
}

/// The log with the state partition in it.
pub(super) fn begin(home: &Home, found: Opening<LogDisk>) -> Result<Log<LogDisk>, StartError> {
    let directory = home.log.as_path();
    let failed = |error| StartError::log(directory, error);
    let mut log = found.begin().map_err(failed)?;
    log.create_partition(state::PARTITION).map_err(failed)?;
    if let Some(job) = log.begin_commit() {
        let (ticket, outcome) = job.run();
        if let Err(error) = outcome {
            return Err(StartError::io(directory, error));
        }
        log.end_commit(ticket, Ok(())).map_err(failed)?;
    }
    Ok(log)
}
