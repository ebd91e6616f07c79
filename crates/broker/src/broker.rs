//! A running broker: its parts in the order in which they start, and their end in the other.

use std::sync::{Arc, Weak};
use std::thread::JoinHandle;

use headwater_log::{ColdStore, Reader, RealDisk};
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinHandle as Task;

use crate::advertised::Advertised;
use crate::api::{Sessions, ShareSessions};
use crate::catalog::Catalog;
use crate::cleaner::{self, CleanerActivity, CleanerConfig, CleanerThread, Cleaning};
use crate::clock::Clock;
use crate::cold::Objects;
use crate::directory::Directory;
use crate::engine::disk::DiskActivity;
use crate::engine::{self, Engine};
use crate::observe::Observer;
use crate::waiters::Waiters;
use crate::{Config, StartError, listener};

/// What all connections share.
pub struct Shared {
    pub config: Config,
    pub advertised: Advertised,
    pub cluster_id: String,
    pub catalog: Arc<Catalog>,
    pub waiters: Arc<Waiters>,
    pub engine: Engine,
    pub reader: Reader<RealDisk>,
    pub disk: Arc<DiskActivity>,
    pub cleaner: Arc<CleanerActivity>,
    pub clock: Clock,
    /// Ends with the engine's thread.
    pub alive: Weak<()>,
    /// One permit for each further connection.
    pub connections: Arc<Semaphore>,
    /// In KiB.
    pub request_memory: Arc<Semaphore>,
    pub fetch_sessions: Sessions,
    pub share_sessions: ShareSessions,
}

/// A broker that serves until [`Broker::shutdown`]; dropping it stops it, too, without waiting.
pub struct Broker {
    bootstrap: String,
    observer: Observer,
    engine: Engine,
    thread: JoinHandle<()>,
    cleaner: CleanerThread,
    listener: Task<()>,
    stop: watch::Sender<bool>,
}

impl Broker {
    /// Returns when clients can connect.
    pub async fn start(config: Config) -> Result<Self, StartError> {
        let address = config.listen;
        let listener = TcpListener::bind(address).await.map_err(|source| match source.kind() {
            std::io::ErrorKind::AddrInUse => StartError::AddressInUse { address },
            _ => StartError::Listen { address, source },
        })?;
        let bound = listener.local_addr().map_err(|source| StartError::Listen { address, source })?;
        let advertised = Advertised::new(config.advertised.as_deref(), bound)?;
        let runtime = tokio::runtime::Handle::current();
        let opening = tokio::task::spawn_blocking(move || open(config, advertised, runtime));
        let (shared, thread, cleaner) = opening.await.unwrap_or_else(|panic| {
            // Opening has no business panicking, and a caller none going on without a broker.
            std::panic::resume_unwind(panic.into_panic())
        })?;
        let bootstrap = shared.advertised.bootstrap();
        let engine = shared.engine.clone();
        let (stop, stopped) = watch::channel(false);
        let shared = Arc::new(shared);
        let observer = Observer::new(&shared);
        let listener = tokio::spawn(listener::run(listener, shared, stopped));
        tracing::info!(%bootstrap, "the broker serves");
        Ok(Self { bootstrap, observer, engine, thread, cleaner, listener, stop })
    }

    /// `HOST:PORT` for clients.
    pub fn bootstrap(&self) -> String {
        self.bootstrap.clone()
    }

    /// Health, metrics and diagnosis. It keeps nothing running.
    pub fn observer(&self) -> Observer {
        self.observer.clone()
    }

    /// Ends connections, commits what is staged and gives the directory back.
    pub async fn shutdown(self) {
        let Self { engine, thread, cleaner, listener, stop, .. } = self;
        let _ = stop.send(true);
        if let Err(error) = listener.await {
            tracing::error!(%error, "the listener ended badly");
        }
        engine.stop();
        let joined = tokio::task::spawn_blocking(move || {
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

fn open(
    config: Config,
    advertised: Advertised,
    runtime: tokio::runtime::Handle,
) -> Result<(Shared, JoinHandle<()>, CleanerThread), StartError> {
    let directory = Directory::claim(&config.data_dir)?;
    let cluster_id = directory.cluster_id.clone();
    let (catalog, waiters) = (Arc::new(Catalog::default()), Arc::new(Waiters::default()));
    let clock = Clock::start();
    let store = match &config.cold_store {
        Some(url) => Some(Arc::new(Objects::open(url, &cluster_id, runtime)?) as Arc<dyn ColdStore>),
        None => None,
    };
    let tiered = store.is_some();
    let started =
        engine::start(&config, directory, clock, Arc::clone(&catalog), Arc::clone(&waiters), store)?;
    let activity = Arc::new(CleanerActivity::default());
    let cleaner = cleaner::start(Cleaning {
        config: CleanerConfig {
            cold_local_bytes: tiered.then_some(config.cold_local_bytes),
            ..config.cleaner
        },
        engine: started.engine.clone(),
        reader: started.reader.clone(),
        catalog: Arc::clone(&catalog),
        clock: started.clock,
        activity: Arc::clone(&activity),
        clock_jump: started.clock_jump,
    })?;
    let memory = |bytes: usize| Arc::new(Semaphore::new((bytes >> 10).clamp(1, u32::MAX as usize / 2)));
    let shared = Shared {
        request_memory: memory(config.request_memory()),
        fetch_sessions: Sessions::new(config.fetch_session_slots),
        share_sessions: ShareSessions::default(),
        connections: Arc::new(Semaphore::new(config.max_connections)),
        clock,
        alive: started.alive,
        config,
        advertised,
        cluster_id,
        catalog,
        waiters,
        engine: started.engine,
        reader: started.reader,
        disk: started.activity,
        cleaner: activity,
    };
    Ok((shared, started.thread, cleaner))
}
