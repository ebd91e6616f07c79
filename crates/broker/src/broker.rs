//! A running broker: its parts in the order in which they start, and their end in the other.

use std::net::SocketAddr;
use std::sync::{Arc, Weak};
use std::thread::JoinHandle;

use headwater_log::{ColdStore, Reader};
use tokio::sync::mpsc::Receiver;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinHandle as Task;

use crate::addresses::Addresses;
use crate::api::{Sessions, ShareSessions};
use crate::audit::{self, Audit, AuditTask};
use crate::authorizer::Authorizer;
use crate::catalog::Catalog;
use crate::cleaner::{self, CleanerActivity, CleanerConfig, CleanerThread, Cleaning, SMALLEST_RUN};
use crate::clock::Clock;
use crate::cold::{ColdActivity, ColdReads, Objects};
use crate::engine::disk::DiskActivity;
use crate::engine::{self, Engine, Published};
use crate::gate::Gate;
use crate::memory::Memory;
use crate::mirror::{Filler, FillerTools, Home, LogDisk, Retries, Returning};
use crate::observe::Observer;
use crate::opening::{self, ListenerAddress};
use crate::quota::Quotas;
use crate::rules::Rules;
use crate::schemas::Schemas;
use crate::security::{Authority, Credentials, InternalUser};
use crate::usage::{self, Sightings, UsageTask};
use crate::waiters::Waiters;
use crate::{Config, StartError, listener, security};

/// What all connections share.
pub struct Shared {
    pub config: Config,
    pub authority: Arc<Authority>,
    pub cluster_id: String,
    pub catalog: Arc<Catalog>,
    pub waiters: Arc<Waiters>,
    pub engine: Engine,
    /// Waits for no cold store.
    pub reader: Reader<LogDisk>,
    pub cold: ColdReads,
    pub disk: Arc<DiskActivity>,
    pub mirror: LogDisk,
    pub mirror_retries: Arc<Retries>,
    pub cleaner: Arc<CleanerActivity>,
    pub clock: Clock,
    /// Ends with the engine's thread.
    pub alive: Weak<()>,
    /// One permit for each further connection.
    pub connections: Arc<Semaphore>,
    pub addresses: Arc<Addresses>,
    pub memory: Arc<Memory>,
    pub fetch_sessions: Sessions,
    pub rules: Arc<Rules>,
    pub authorizer: Authorizer,
    pub quotas: Quotas,
    pub audit: Arc<Audit>,
    pub share_sessions: ShareSessions,
    pub sightings: Arc<Sightings>,
    pub schemas: Schemas,
}

/// A broker that serves until [`Broker::shutdown`]; dropping it stops it, too, without waiting.
pub struct Broker {
    addresses: Vec<ListenerAddress>,
    internal: Option<(String, InternalUser)>,
    observer: Observer,
    shared: Weak<Shared>,
    engine: Engine,
    thread: JoinHandle<()>,
    cleaner: CleanerThread,
    filler: Option<Filler>,
    listeners: Vec<Task<()>>,
    audit: AuditTask,
    usage: UsageTask,
    stop: watch::Sender<bool>,
}

impl Broker {
    /// Returns when clients can connect.
    pub async fn start(config: Config) -> Result<Self, StartError> {
        let credentials = Arc::new(Credentials::default());
        let opening::Opened { sockets, addresses, internal, authority } =
            opening::open(&config, Arc::clone(&credentials)).await?;
        let runtime = tokio::runtime::Handle::current();
        let known = Arc::clone(&authority);
        let opening = tokio::task::spawn_blocking(move || open(config, known, runtime));
        let (shared, running) = opening.await.unwrap_or_else(|panic| {
            // Opening has no business panicking, and a caller none going on without a broker.
            std::panic::resume_unwind(panic.into_panic())
        })?;
        let opened: Vec<&security::Listener> = sockets.iter().map(|(_, listener)| &**listener).collect();
        for advice in security::advice(&authority, &opened) {
            tracing::warn!("{advice}");
        }
        let Running { entries, thread, cleaner, filler } = running;
        let engine = shared.engine.clone();
        let (stop, stopped) = watch::channel(false);
        let shared = Arc::new(shared);
        let observer = Observer::new(&shared);
        let weak = Arc::downgrade(&shared);
        let audit = audit::start(&shared, entries);
        let usage = usage::start(Arc::clone(&shared.sightings), shared.engine.clone());
        let every = shared.config.security.reload_interval;
        let watched = sockets.iter().map(|(_, listener)| Arc::downgrade(listener)).collect();
        tokio::spawn(security::watch(Arc::downgrade(&authority), watched, every));
        let listen = |(socket, listener)| {
            tokio::spawn(listener::run(socket, listener, Arc::clone(&shared), stopped.clone()))
        };
        let listeners = sockets.into_iter().map(listen).collect();
        tracing::info!(?addresses, "the broker serves");
        Ok(Self {
            addresses,
            internal,
            observer,
            shared: weak,
            engine,
            thread,
            cleaner,
            filler,
            listeners,
            audit,
            usage,
            stop,
        })
    }

    /// Where, and as whom, the parts of this process connect; `None` when they come as anybody does.
    pub fn internal(&self) -> Option<(&str, &InternalUser)> {
        self.internal.as_ref().map(|(address, user)| (address.as_str(), user))
    }

    /// `HOST:PORT` for clients.
    pub fn bootstrap(&self) -> String {
        self.addresses.first().map_or_else(String::new, |first| first.address.clone())
    }

    /// All listeners for clients.
    pub fn addresses(&self) -> &[ListenerAddress] {
        &self.addresses
    }

    /// The way in to what this process serves by HTTP at `address`.
    ///
    /// # Errors
    /// An address that strangers can use, and certificates that cannot be read.
    pub fn gate(&self, address: SocketAddr) -> Result<Gate, StartError> {
        let shared = self.shared.upgrade().ok_or(StartError::Ended)?;
        Gate::of(&shared, address)
    }

    /// Health, metrics and diagnosis. It keeps nothing running.
    pub fn observer(&self) -> Observer {
        self.observer.clone()
    }

    /// Ends connections, commits what is staged and gives the directory back. What waits for space on the disk is
    /// refused, so that nothing here waits for it.
    pub async fn shutdown(self) {
        let Self { engine, thread, cleaner, filler, listeners, audit, usage, stop, .. } = self;
        engine.wait_no_more();
        let _ = stop.send(true);
        for listener in listeners {
            if let Err(error) = listener.await {
                tracing::error!(%error, "a listener ended badly");
            }
        }
        audit.stop().await;
        usage.stop().await;
        engine.stop();
        let joined = tokio::task::spawn_blocking(move || {
            drop(filler);
            let joined = thread.join();
            // What it waited for has been refused.
            drop(cleaner);
            joined
        })
        .await;
        if !matches!(joined, Ok(Ok(()))) {
            tracing::error!("the engine ended badly; the next start replays the log");
        }
    }
}

/// What runs, or waits to be run, beside what is shared.
pub struct Running {
    /// What the audit stream is told.
    pub entries: Receiver<audit::Entry>,
    pub thread: JoinHandle<()>,
    pub cleaner: CleanerThread,
    pub filler: Option<Filler>,
}

pub fn open(
    config: Config,
    authority: Arc<Authority>,
    runtime: tokio::runtime::Handle,
) -> Result<(Shared, Running), StartError> {
    headwater_log::allow_many_files();
    let home = Home::claim(&config)?;
    let (cluster_id, mirrored) = (home.cluster_id.clone(), home.disk.clone());
    let published = Published { credentials: Arc::clone(&authority.credentials), ..Published::default() };
    let Published { catalog, rules, waiters, .. } = published.clone();
    let clock = Clock::start();
    let asked = Arc::<ColdActivity>::default();
    let store = match &config.cold_store {
        Some(url) => {
            let objects = Objects::open(url, &cluster_id, runtime.clone(), Arc::clone(&asked))
                .map_err(|reason| StartError::ColdStore { url: url.clone(), reason })?;
            Some(Arc::new(objects) as Arc<dyn ColdStore>)
        }
        None => None,
    };
    let tiered = store.is_some();
    let claims = Arc::clone(&home.claims);
    let started = engine::start(&config, home, clock, published, store)?;
    let retries = Arc::<Retries>::default();
    let filler = match &config.mirror_dir {
        Some(mirror_dir) => {
            let directories = [config.data_dir.clone(), mirror_dir.clone()];
            let wait = config.mirror_retry;
            let returning =
                Returning::new(directories, cluster_id.clone(), claims, Arc::clone(&retries), wait);
            let (reader, engine) = (started.reader.clone(), started.engine.clone());
            Some(Filler::start(FillerTools { disk: mirrored.clone(), reader, engine, returning })?)
        }
        None => None,
    };
    let activity = Arc::new(CleanerActivity::with(asked));
    let memory = Arc::new(Memory::new(config.memory()));
    let cleaner = cleaner::start(Cleaning {
        config: CleanerConfig {
            cold_local_bytes: tiered.then_some(config.cold_local_bytes),
            run_bytes: config.log.segment_bytes.max(SMALLEST_RUN),
            ..config.cleaner
        },
        engine: started.engine.clone(),
        reader: started.reader.clone(),
        disk: Arc::clone(&started.activity),
        catalog: Arc::clone(&catalog),
        clock: started.clock,
        activity: Arc::clone(&activity),
        clock_jump: started.clock_jump,
        memory: Arc::clone(&memory),
        runtime: runtime.clone(),
    })?;
    let (audit, entries) = Audit::new(config.audits());
    let shared = Shared {
        audit: Arc::new(audit),
        sightings: Arc::default(),
        schemas: Schemas::default(),
        cold: ColdReads::new(started.reader.clone(), Arc::clone(&memory), runtime),
        memory,
        fetch_sessions: Sessions::new(config.fetch_session_slots),
        share_sessions: ShareSessions::default(),
        connections: Arc::new(Semaphore::new(config.max_connections)),
        addresses: Arc::default(),
        authorizer: Authorizer::new(config.authorizer.clone(), Arc::clone(&rules)),
        quotas: Quotas::new(Arc::clone(&rules), config.quota, clock),
        rules,
        clock,
        alive: started.alive,
        config,
        authority,
        cluster_id,
        catalog,
        waiters,
        engine: started.engine,
        reader: started.reader.near(),
        disk: started.activity,
        mirror: mirrored,
        mirror_retries: retries,
        cleaner: activity,
    };
    Ok((shared, Running { entries, thread: started.thread, cleaner, filler }))
}
