//! The one thread that writes: it owns the log and the coordinator.
//!
//! Connections send commands over a channel and wait. The thread takes every command that is there, stages
//! what they write, and hands one commit to the disk thread; while the disk syncs it, the next gathers. No
//! reply leaves before the commit that carries what it tells. A commit that failed fences the engine: what it
//! has decided since is not on disk, so it refuses everything until a restart replays the log.

mod cleaning;
pub mod disk;
mod held;
mod published;
mod staging;
mod state;
mod worker;

pub use state::PARTITION as STATE_PARTITION;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, Weak, mpsc};
use std::thread::JoinHandle;

use bytes::Bytes;
use headwater_coordinator::{Client, Request, Response};
use headwater_log::{
    Appended, ColdFile, ColdStore, CommitTicket, Durability, LogError, Move, PartitionId, Reader,
};
use headwater_model::{Offset, TimestampMs};
use thiserror::Error;
use tokio::sync::oneshot;

use crate::catalog::Catalog;
use crate::clock::Clock;
use crate::mirror::{Home, LogDisk};
use crate::rules::Rules;
use crate::security::Credentials;
use crate::waiters::Waiters;
use crate::{Config, StartError};
use disk::DiskActivity;

/// The engine takes no more commands.
#[derive(Debug, Clone, Error)]
#[error("the broker takes no writes: {reason}")]
pub struct Unavailable {
    pub reason: Arc<str>,
    pub since: TimestampMs,
}

impl Unavailable {
    fn now(reason: impl Into<Arc<str>>) -> Self {
        Self { reason: reason.into(), since: crate::clock::wall() }
    }
}

pub type Answer<T> = Result<T, Unavailable>;

/// Why one batch of a Produce request was not appended.
#[derive(Debug, Error)]
pub enum Refusal {
    #[error(transparent)]
    Log(#[from] LogError),
    #[error(transparent)]
    Coordinator(#[from] headwater_coordinator::Error),
}

/// One batch that its connection has checked.
#[derive(Debug)]
pub struct Batch {
    pub partition: PartitionId,
    pub bytes: Bytes,
    pub producer_id: i64,
    pub producer_epoch: i16,
    pub transactional: bool,
    /// When it is acknowledged.
    pub durability: Durability,
}

/// The batches of one Produce request, in its order.
#[derive(Debug)]
pub struct Produce {
    pub transactional_id: Option<String>,
    /// v12 and above (KIP-890): writing to a partition adds it to the transaction.
    pub implicit: bool,
    pub batches: Vec<Batch>,
}

/// The end of a transaction in one partition, as an administrator asks for it.
#[derive(Debug, Clone, Copy)]
pub struct Marker {
    pub partition: PartitionId,
    pub producer_id: i64,
    pub producer_epoch: i16,
    pub commit: bool,
}

pub type Marked = Vec<Result<(), LogError>>;
pub type Produced = Vec<Result<Appended, Refusal>>;
/// The new log start of each partition.
pub type Deleted = Vec<Result<Offset, LogError>>;

enum Command {
    Ask { ticket: u64, client: Client, request: Request, reply: oneshot::Sender<Answer<Response>> },
    Cancel { ticket: u64 },
    Produce { produce: Produce, reply: oneshot::Sender<Answer<Produced>> },
    DeleteRecords { before: Vec<(PartitionId, Offset)>, reply: oneshot::Sender<Answer<Deleted>> },
    WriteMarkers { markers: Vec<Marker>, reply: oneshot::Sender<Answer<Marked>> },
    Committed { ticket: CommitTicket<LogDisk>, outcome: std::io::Result<()> },
    Spare(String),
    Clean(Clean),
    Stop,
}

/// What the cleaner asks for.
pub enum Clean {
    /// The number of a new run.
    RunNumber(oneshot::Sender<u64>),
    /// What was copied to runs takes the place of what it was copied from.
    Install { moves: Vec<Move>, reply: oneshot::Sender<Answer<Cleaned>> },
    /// A file is in the cold store.
    Cool { cold: ColdFile, reply: oneshot::Sender<Answer<Cleaned>> },
    /// A new journal begins, so that the one before can be cleaned.
    Roll,
}

/// The moves are known and on disk.
#[derive(Debug)]
pub struct Cleaned;

/// The way to the thread; the engine stops with the last of these.
#[derive(Clone)]
pub struct Engine {
    inbox: Arc<Inbox>,
}

struct Inbox {
    commands: mpsc::Sender<Command>,
    next_ticket: AtomicU64,
    fenced: Arc<OnceLock<Unavailable>>,
    activity: Arc<DiskActivity>,
}

impl Drop for Inbox {
    fn drop(&mut self) {
        self.activity.stop();
        let _ = self.commands.send(Command::Stop);
    }
}

/// A started engine and what others read of it.
pub struct Started {
    pub engine: Engine,
    pub reader: Reader<LogDisk>,
    pub activity: Arc<DiskActivity>,
    /// The broker's time, which is the system's unless that is not believed.
    pub clock: Clock,
    /// How far the system's clock is ahead of that.
    pub clock_jump: TimestampMs,
    /// Ends with the thread.
    pub alive: Weak<()>,
    pub thread: JoinHandle<()>,
}

/// What the engine tells everybody else, each after the commit that makes it true.
#[derive(Clone, Default)]
pub struct Published {
    pub catalog: Arc<Catalog>,
    pub credentials: Arc<Credentials>,
    pub rules: Arc<Rules>,
    pub waiters: Arc<Waiters>,
}

/// Opens the log, replays the state and starts the threads.
pub fn start(
    config: &Config,
    home: Home,
    clock: Clock,
    published: Published,
    store: Option<Arc<dyn ColdStore>>,
) -> Result<Started, StartError> {
    let (commands, inbox) = mpsc::channel();
    let fenced = Arc::new(OnceLock::new());
    let activity = Arc::new(DiskActivity::default());
    let (chores, tidying) = disk::start_chores(commands.clone(), Arc::clone(&activity))?;
    let wiring = worker::Wiring {
        catalog: published.catalog,
        credentials: published.credentials,
        rules: published.rules,
        waiters: published.waiters,
        jobs: disk::start_commits(commands.clone(), Arc::clone(&activity))?,
        chores,
        activity: Arc::clone(&activity),
        store,
        fenced: Arc::clone(&fenced),
    };
    let mut worker = worker::Worker::open(config, &home, clock, wiring)?;
    let reader = worker.reader();
    let (clock, clock_jump) = (worker.clock, worker.clock_jump);
    let living = Arc::new(());
    let alive = Arc::downgrade(&living);
    let thread = std::thread::Builder::new()
        .name("headwater-engine".to_owned())
        .spawn(move || {
            worker.run(&inbox);
            // The lock on the directory ends with the last change of a file in it.
            drop(worker);
            if tidying.join().is_err() {
                tracing::error!("the thread that tidies up the log panicked; the next start does its work");
            }
            drop(home);
            drop(living);
        })
        .map_err(StartError::Thread)?;
    let inbox =
        Arc::new(Inbox { commands, next_ticket: AtomicU64::new(0), fenced, activity: Arc::clone(&activity) });
    Ok(Started { engine: Engine { inbox }, reader, activity, clock, clock_jump, alive, thread })
}

impl Engine {
    /// Why the engine refuses everything, when it does.
    pub fn fenced(&self) -> Option<&Unavailable> {
        self.inbox.fenced.get()
    }

    fn gone(&self) -> Unavailable {
        self.fenced().cloned().unwrap_or_else(|| Unavailable::now("it is stopping"))
    }

    fn send<T, F>(&self, command: F) -> impl Future<Output = Answer<T>> + use<T, F>
    where
        F: FnOnce(oneshot::Sender<Answer<T>>) -> Command,
    {
        let (reply, answer) = oneshot::channel();
        // A closed channel drops the reply, which the answer then shows.
        let _ = self.inbox.commands.send(command(reply));
        let engine = self.clone();
        async move { answer.await.unwrap_or_else(|_| Err(engine.gone())) }
    }

    /// Asks the coordinator. Dropping the future withdraws a question that waits for others (JoinGroup).
    pub async fn ask(&self, client: Client, request: Request) -> Answer<Response> {
        let ticket = self.inbox.next_ticket.fetch_add(1, Ordering::Relaxed);
        let mut withdrawal = Withdrawal { engine: self, ticket, answered: false };
        let answer = self.send(|reply| Command::Ask { ticket, client, request, reply }).await;
        withdrawal.answered = true;
        answer
    }

    /// Hands over in the order of the calls; the future waits for the disk.
    ///
    /// While the disk is full, what is not staged yet is refused at once: it would only wait in memory.
    pub fn produce(&self, produce: Produce) -> impl Future<Output = Answer<Produced>> + use<> {
        let full = self.inbox.activity.waits_for_space.load(Ordering::Relaxed);
        let produced = (!full).then(|| self.send(|reply| Command::Produce { produce, reply }));
        async move {
            match produced {
                Some(produced) => produced.await,
                None => Err(Unavailable::now("the disk is full; free some space and it goes on by itself")),
            }
        }
    }

    pub async fn delete_records(&self, before: Vec<(PartitionId, Offset)>) -> Answer<Deleted> {
        self.send(|reply| Command::DeleteRecords { before, reply }).await
    }

    pub async fn write_markers(&self, markers: Vec<Marker>) -> Answer<Marked> {
        self.send(|reply| Command::WriteMarkers { markers, reply }).await
    }

    /// The number of a new run; `None` when the engine has ended.
    pub fn run_number(&self) -> Option<u64> {
        let (reply, answer) = oneshot::channel();
        let _ = self.inbox.commands.send(Command::Clean(Clean::RunNumber(reply)));
        answer.blocking_recv().ok()
    }

    /// Makes moves known; blocks until that is on disk.
    pub fn install(&self, moves: Vec<Move>) -> Answer<Cleaned> {
        let (reply, answer) = oneshot::channel();
        let _ = self.inbox.commands.send(Command::Clean(Clean::Install { moves, reply }));
        answer.blocking_recv().unwrap_or_else(|_| Err(self.gone()))
    }

    /// Makes known that a file is in the cold store; blocks until that is on disk.
    pub fn cool(&self, cold: ColdFile) -> Answer<Cleaned> {
        let (reply, answer) = oneshot::channel();
        let _ = self.inbox.commands.send(Command::Clean(Clean::Cool { cold, reply }));
        answer.blocking_recv().unwrap_or_else(|_| Err(self.gone()))
    }

    pub fn roll(&self) {
        let _ = self.inbox.commands.send(Command::Clean(Clean::Roll));
    }

    /// As [`Self::delete_records`], for a thread that may wait.
    pub fn delete_records_blocking(&self, before: Vec<(PartitionId, Offset)>) -> Answer<Deleted> {
        let (reply, answer) = oneshot::channel();
        let _ = self.inbox.commands.send(Command::DeleteRecords { before, reply });
        answer.blocking_recv().unwrap_or_else(|_| Err(self.gone()))
    }

    /// A commit that finds no space from here on fails, and all that is asked after it.
    pub fn wait_no_more(&self) {
        self.inbox.activity.stop();
    }

    /// Commits what is staged and ends the thread.
    pub fn stop(&self) {
        self.wait_no_more();
        let _ = self.inbox.commands.send(Command::Stop);
    }
}

struct Withdrawal<'a> {
    engine: &'a Engine,
    ticket: u64,
    answered: bool,
}

impl Drop for Withdrawal<'_> {
    fn drop(&mut self) {
        if !self.answered {
            let _ = self.engine.inbox.commands.send(Command::Cancel { ticket: self.ticket });
        }
    }
}
