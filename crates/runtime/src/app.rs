//! A running application: what its parts share, how it starts and how it ends.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use headwater_client::{Client, ClientConfig, ClientError};
use headwater_streams::{GlobalStores, HeldKey, TaskId, Topology};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::access::{Asker, Door};
use crate::assignor::TaskInputs;
use crate::board::{Board, Phase, StandbyStatus, TaskStatus};
use crate::claims::Claims;
use crate::cleanup::Given;
use crate::config::{AppConfig, StateStore};
use crate::error::AppError;
use crate::membership::Membership;
use crate::metrics::{Metrics, MetricsSnapshot};
use crate::quarantine::{self, Releases};
use crate::queries::{Flows, HostTasks, Hosts, Queries, Serving};
use crate::snapshot::Snapshots;
use crate::state::{Budget, StateDir, Stores};
use crate::topics::Counts;
use crate::{catalog, cleanup, external, globals, serve, snapshot, thread, topics};

/// How long a broker that does not answer is tried at the start: it may be starting, too.
const CONNECT_PATIENCE: Duration = Duration::from_secs(20);
/// How long a stop waits for answers that are being read.
const HTTP_PATIENCE: Duration = Duration::from_secs(2);
const CONNECT_PAUSE: Duration = Duration::from_millis(250);

/// What the threads and the HTTP side of one application have in common.
pub(crate) struct Shared {
    pub config: AppConfig,
    pub topology: Topology,
    /// Partitions of the topics it reads and writes, as they were at the start.
    pub counts: Counts,
    /// `max.message.bytes` of topics that a handler guards.
    pub limits: Arc<HashMap<String, usize>>,
    /// Topics about whose records the handler wants to be asked.
    pub guarded: Vec<String>,
    pub tasks: Arc<TaskInputs>,
    /// How its threads join the group.
    pub membership: Membership,
    pub board: Board,
    pub metrics: Metrics,
    pub stores: Stores,
    pub globals: GlobalStores,
    pub claims: Claims,
    pub given: Given,
    pub snapshots: Option<Arc<Snapshots>>,
    /// What may be read here.
    pub serving: Serving,
    /// Who has which task in the whole group.
    pub hosts: Hosts,
    pub flows: Flows,
    pub client: Client,
    /// Who comes in over HTTP.
    pub door: Arc<Door>,
    /// Asks other instances.
    pub asker: Arc<Asker>,
    /// Where other instances reach this one, once that is known.
    endpoint: OnceLock<String>,
    /// The program itself asks.
    asks: AtomicBool,
    pub releases: Releases,
    /// Nothing is processed until it is resumed.
    paused: AtomicBool,
    /// Partitions of input topics that have come since the start.
    pub unread_partitions: AtomicU64,
    /// Names this process across restarts.
    pub instance: String,
    /// Threads that have not had an assignment yet.
    awaiting: AtomicUsize,
    stop: watch::Sender<bool>,
    ended: watch::Sender<usize>,
    failure: Mutex<Option<AppError>>,
    /// Locked as long as any thread may write.
    _directory: Option<StateDir>,
}

impl Shared {
    pub fn stopping(&self) -> bool {
        *self.stop.borrow()
    }

    pub fn is_paused(&self) -> bool {
        self.paused.load(Ordering::Relaxed)
    }

    /// What each store may keep in memory when this process has all tasks.
    pub fn cache_share(&self) -> usize {
        let stores: usize = self.tasks.keys().map(|id| self.topology.stores(id.subtopology).len()).sum();
        usize::try_from(self.config.record_cache_bytes).unwrap_or(usize::MAX) / stores.max(1)
    }

    /// Whether the topic is one that the application owns.
    pub fn is_internal(&self, topic: &str) -> bool {
        let own = topic.strip_prefix(self.config.application_id.as_str());
        own.is_some_and(|name| name.starts_with('-') && name.ends_with("-repartition"))
    }

    /// `host:port` at which other instances reach this one.
    pub fn endpoint(&self) -> Option<&str> {
        self.endpoint.get().map(String::as_str)
    }

    /// Whether anybody may ask what copies hold, and how far they are.
    pub fn is_asked(&self) -> bool {
        self.config.http.is_some() || self.asks.load(Ordering::Relaxed)
    }

    /// Returns when the application is to stop.
    pub async fn stopped(&self) {
        // The sender is in `self`.
        let _ = self.stop.subscribe().wait_for(|stop| *stop).await;
    }

    /// A thread was assigned tasks for the first time; when all were, the application runs.
    pub fn first_assignment(&self) {
        if self.awaiting.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.board.set_phase(Phase::Running);
        }
    }

    /// The application ends with this, unless it ends already.
    pub fn fail(&self, error: AppError) {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
        self.stop.send_replace(true);
        if self.tasks.is_empty() {
            // There are no threads that end.
            self.board.set_phase(Phase::Stopped);
        }
    }

    /// A thread has ended. One that failed ends the others, too.
    pub fn thread_ended(&self, result: Result<(), AppError>) {
        if let Err(error) = result {
            tracing::error!(application_id = self.config.application_id, %error, "a processing thread stopped");
            self.fail(error);
        }
        self.ended.send_modify(|ended| *ended += 1);
        if *self.ended.borrow() >= self.config.threads.max(1) {
            // Nobody may be waiting for the end, and `/health` says how it is.
            self.board.set_phase(Phase::Stopped);
        }
    }
}

/// A topology at work. Dropping it stops it without waiting; [`StreamsApp::stop`] waits.
pub struct StreamsApp {
    shared: Arc<Shared>,
    threads: Vec<std::thread::JoinHandle<()>>,
    http: Option<SocketAddr>,
    close_http: watch::Sender<bool>,
    http_task: Option<JoinHandle<()>>,
    background: Vec<JoinHandle<()>>,
    /// Ends by itself.
    cleanup: Option<JoinHandle<()>>,
}

impl StreamsApp {
    /// Checks and creates topics, loads global tables and starts threads; tasks may be restoring when it returns.
    pub async fn start(topology: Topology, config: AppConfig) -> Result<Self, AppError> {
        if topology.application_id() != config.application_id {
            let (topology, application_id) = (topology.application_id().to_owned(), config.application_id);
            return Err(AppError::ApplicationId { topology, application_id });
        }
        config.check()?;
        if let Some(address) = config.http {
            config.http_access.check_for(address, config.http_commands)?;
        }
        external::first(&config, &topology).await?;
        let directory = match config.state_store {
            StateStore::Disk => Some(StateDir::open(&config.state_dir, &config.application_id)?),
            StateStore::Memory => None,
        };
        let client = connect(&config).await?;
        let counts = topics::prepare(&client, &topology, &config).await?;
        let limits = topics::limits(&client, &topology.guarded_topics()).await?;
        topics::warn_of_tables(&client, &topology).await;
        let mut shared = share(topology, config, &client, counts.clone(), directory)?;
        shared.limits = Arc::new(limits);
        shared.membership = Membership::choose(&client, &shared).await?;
        cleanup::at_start(&shared, thread::wall_clock());
        let shared = Arc::new(shared);
        let close_http = watch::Sender::new(false);
        let (http, http_task) = serve::serve(&shared, close_http.subscribe()).await?.unzip();
        if let Some(endpoint) = http.and_then(|bound| serve::endpoint(&shared.config, &shared.door, bound)) {
            // It is set nowhere else.
            let _ = shared.endpoint.set(endpoint);
        }
        let (threads, background) = (Vec::new(), Vec::new());
        let mut app = Self { shared, threads, http, close_http, http_task, background, cleanup: None };
        let (door, asker) = (Arc::downgrade(&app.shared.door), Arc::clone(&app.shared.asker));
        app.background.push(tokio::spawn(Door::watch(door, move |access| asker.renew(access))));
        app.background.extend(globals::load(&client, &app.shared, &counts).await?);
        app.start_threads(&client)?;
        app.cleanup = Some(tokio::spawn(cleanup::run(app.shared.clone())));
        app.background.push(tokio::spawn(snapshot::run(client.clone(), app.shared.clone())));
        app.background.push(tokio::spawn(topics::watch(client.clone(), app.shared.clone())));
        app.background.push(tokio::spawn(announce(client, app.shared.clone())));
        Ok(app)
    }

    fn start_threads(&mut self, client: &Client) -> Result<(), AppError> {
        if self.shared.tasks.is_empty() {
            self.shared.board.set_phase(Phase::Running);
            return Ok(());
        }
        for index in 0..self.shared.config.threads.max(1) {
            let started = thread::spawn(self.shared.clone(), client.clone(), index);
            self.threads.push(started.map_err(AppError::Thread)?);
        }
        Ok(())
    }

    /// Where questions are answered, if anywhere.
    pub fn http(&self) -> Option<SocketAddr> {
        self.http
    }

    /// What was counted since the start: committed work only.
    pub fn metrics(&self) -> MetricsSnapshot {
        self.shared.metrics.snapshot()
    }

    pub fn phase(&self) -> Phase {
        self.shared.board.phase()
    }

    /// Follows the phase: what Kafka Streams tells a `StateListener`.
    pub fn phases(&self) -> watch::Receiver<Phase> {
        self.shared.board.phases()
    }

    /// Processes nothing, and runs no punctuations, until [`StreamsApp::resume`] (KIP-834): what is under way is committed. This
    /// process stays in its group and keeps its tasks, stores are restored and copied, and questions are answered. The other
    /// instances are not paused, nor is this one after a restart.
    pub fn pause(&self) {
        self.shared.paused.store(true, Ordering::Relaxed);
    }

    /// Goes on where it was paused.
    pub fn resume(&self) {
        self.shared.paused.store(false, Ordering::Relaxed);
    }

    pub fn is_paused(&self) -> bool {
        self.shared.is_paused()
    }

    /// The tasks assigned to this process.
    pub fn tasks(&self) -> BTreeMap<TaskId, TaskStatus> {
        self.shared.board.tasks()
    }

    /// The tasks of which this process keeps a copy, standbys and warm-ups.
    pub fn standbys(&self) -> BTreeMap<TaskId, StandbyStatus> {
        self.shared.board.standbys()
    }

    /// Whether every assigned task runs.
    pub fn ready(&self) -> bool {
        self.shared.board.ready()
    }

    /// Asks what the stores hold, here or on whichever instance of the group that is.
    pub fn queries(&self) -> Queries {
        self.shared.asks.store(true, Ordering::Relaxed);
        Queries::inside(&self.shared)
    }

    /// Which tasks every instance of the group has, by its `host:port`, as the group was told last (Kafka Streams'
    /// `metadataForAllStreamsClients`). Instances that answer no questions are not among them.
    pub fn instances(&self) -> BTreeMap<String, HostTasks> {
        self.shared.hosts.all()
    }

    /// `host:port` at which other instances ask this one; `None` if it answers nothing, or listens on all addresses and was
    /// not told which one is its own (`AppConfig::application_server`).
    pub fn application_server(&self) -> Option<&str> {
        self.shared.endpoint()
    }

    /// The keys that are held in quarantine in the tasks of this process, by what was committed last.
    pub fn quarantined(&self) -> Vec<(TaskId, HeldKey)> {
        quarantine::held(&self.shared)
    }

    /// Lets a key that is held here go on, or all of them: its records are processed in order, before others. What fails
    /// again stays. Returns what is held of it; the release itself comes with the next commit.
    pub fn release_quarantined(&self, key: Option<&[u8]>) -> Vec<(TaskId, HeldKey)> {
        quarantine::release(&self.shared, key)
    }

    /// Names this process across restarts.
    pub fn instance(&self) -> &str {
        &self.shared.instance
    }

    /// Returns when all threads have ended: what made one fail (told once), or `Ok` after a stop.
    pub async fn wait(&self) -> Result<(), AppError> {
        // The senders live in `self`, so waiting cannot fail before they say so.
        let _ = self.shared.stop.subscribe().wait_for(|stop| *stop).await;
        let _ = self.shared.ended.subscribe().wait_for(|ended| *ended >= self.threads.len()).await;
        self.shared.board.set_phase(Phase::Stopped);
        match self.shared.failure.lock().unwrap_or_else(PoisonError::into_inner).take() {
            Some(error) => Err(error),
            None => Ok(()),
        }
    }

    /// Commits what is done, ends the threads and gives up the state directory.
    pub async fn stop(mut self) -> Result<(), AppError> {
        self.shared.stop.send_replace(true);
        let result = self.wait().await;
        self.close_http.send_replace(true);
        for task in self.background.drain(..) {
            task.abort();
            // Aborted tasks end with an error that says so.
            let _ = task.await;
        }
        if let Some(cleanup) = self.cleanup.take() {
            // What is being removed is removed first: somebody may be about to start on the directory anew.
            let _ = cleanup.await;
        }
        if let Some(mut serving) = self.http_task.take()
            && tokio::time::timeout(HTTP_PATIENCE, &mut serving).await.is_err()
        {
            serving.abort();
        }
        for thread in self.threads.drain(..) {
            // It has reported its end, a panic included; what is left is to let go of what it shares.
            let _ = tokio::task::spawn_blocking(|| thread.join()).await;
        }
        result
    }

    /// For `main`: runs until SIGTERM or SIGINT and stops cleanly, or until a failure.
    pub async fn run_until_signal(self) -> Result<(), AppError> {
        use tokio::signal::unix::{SignalKind, signal};
        let mut terminate = signal(SignalKind::terminate()).map_err(AppError::Signal)?;
        let mut interrupt = signal(SignalKind::interrupt()).map_err(AppError::Signal)?;
        let failed = tokio::select! {
            result = self.wait() => result,
            _ = terminate.recv() => Ok(()),
            _ = interrupt.recv() => Ok(()),
        };
        let stopped = self.stop().await;
        failed.and(stopped)
    }
}

impl Drop for StreamsApp {
    fn drop(&mut self) {
        self.shared.stop.send_replace(true);
        self.close_http.send_replace(true);
        self.background.iter().for_each(JoinHandle::abort);
    }
}

/// The topics of the cluster that `config` names, for `StreamsBuilder::existing_topics`; not those that its brokers say are their own.
pub async fn existing_topics(config: &AppConfig) -> Result<Vec<String>, AppError> {
    let listed = connect(config).await?.topics().await.map_err(AppError::client("list topics"))?;
    Ok(listed.into_iter().filter(|topic| !topic.internal).map(|topic| topic.name).collect())
}

async fn connect(config: &AppConfig) -> Result<Client, AppError> {
    let begun = Instant::now();
    let mut warned = false;
    loop {
        let client = ClientConfig::new(&config.bootstrap, &config.client_id);
        match Client::connect(client.security(config.security.clone())).await {
            Ok(client) => return Ok(client),
            Err(error) if error.is_retriable() && begun.elapsed() < CONNECT_PATIENCE => {
                if !std::mem::replace(&mut warned, true) {
                    tracing::warn!(%error, "trying for {CONNECT_PATIENCE:?}");
                }
                tokio::time::sleep(CONNECT_PAUSE).await;
            }
            Err(source) => {
                let (application_id, bootstrap) = (config.application_id.clone(), config.bootstrap.clone());
                return Err(AppError::Connect { application_id, bootstrap, source });
            }
        }
    }
}

fn share(
    topology: Topology,
    config: AppConfig,
    client: &Client,
    counts: Counts,
    directory: Option<StateDir>,
) -> Result<Shared, AppError> {
    let count = |topic: &str| counts.get(topic).copied();
    let tasks: TaskInputs =
        topology.tasks(&count).into_iter().map(|id| (id, topology.inputs(id, &count))).collect();
    let budget = Budget {
        cache_bytes: config.cache_bytes,
        write_buffer_bytes: config.write_buffer_bytes,
        table_from: config.store_table_from,
        stores: tasks.keys().map(|id| topology.stores(id.subtopology).len()).sum(),
    };
    let stores = match &directory {
        Some(directory) => Stores::on_disk(directory, budget)?,
        None => Stores::in_memory(),
    };
    let kept = || directory.as_ref().map(|directory| directory.instance().to_owned());
    let instance = config.instance.clone().or_else(kept).unwrap_or_else(|| uuid::Uuid::new_v4().to_string());
    Ok(Shared {
        globals: topology.new_globals(),
        awaiting: AtomicUsize::new(config.threads.max(1)),
        limits: Arc::default(),
        guarded: topology.guarded_topics(),
        tasks: Arc::new(tasks),
        board: Board::new(),
        metrics: Metrics::default(),
        claims: Claims::default(),
        given: Given::new(config.threads.max(1)),
        membership: Membership::Classic,
        snapshots: Snapshots::open(&config)?.map(Arc::new),
        serving: Serving::default(),
        hosts: Hosts::default(),
        flows: Flows::new(&topology.describe()),
        client: client.clone(),
        door: Arc::new(Door::new(&config.http_access)?),
        asker: Arc::new(Asker::instance(&config.http_access)?),
        endpoint: OnceLock::new(),
        asks: AtomicBool::new(false),
        releases: Releases::default(),
        paused: AtomicBool::new(config.start_paused),
        unread_partitions: AtomicU64::new(0),
        stop: watch::Sender::new(false),
        ended: watch::Sender::new(0),
        failure: Mutex::new(None),
        _directory: directory,
        config,
        topology,
        counts,
        stores,
        instance,
    })
}

/// The catalog is for people: an application that cannot be listed runs all the same.
async fn announce(client: Client, shared: Arc<Shared>) {
    let result: Result<(), ClientError> = catalog::publish(&client, &shared).await;
    if let Err(error) = result {
        tracing::warn!(topic = catalog::TOPIC, %error, "the catalog does not list this service; it runs");
    }
}
