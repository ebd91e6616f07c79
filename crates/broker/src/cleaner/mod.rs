//! The thread that makes room: retention, compaction, and moving what outlives its neighbours.
//!
//! It reads the log as any reader does and asks the engine for each change; what it copied is known to
//! nobody until the engine has committed that. Time is the broker's clock, which starts at the system's and
//! never jumps; a start at which the system's clock is far ahead of what the log was last told deletes
//! nothing by age.

pub mod compaction;
pub mod manners;
mod relocation;
mod retention;
mod runs;
mod scrub;
mod throttle;
mod tiering;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::{Duration, Instant};

use headwater_log::{LogError, Orphans, PartitionId, Reader};
use headwater_model::TimestampMs;
use thiserror::Error;
use tokio::runtime::Handle;

use crate::StartError;
use crate::catalog::{Catalog, Topic};
use crate::clock::Clock;
use crate::cold::ColdActivity;
use crate::engine::disk::DiskActivity;
use crate::engine::{Engine, Unavailable};
use crate::memory::Memory;
use crate::mirror::LogDisk;
use manners::Manners;

/// What [`Work`] says it does to one partition.
pub const RETENTION: &str = "retention";
pub const COMPACTION: &str = "compaction";

/// When a journal has to end before what is in it can be compacted, the next round is not long after this one.
const ROLLED: Duration = Duration::from_secs(1);

/// A system clock that is so far ahead of the log's own time is not believed.
pub const BELIEVED_JUMP_MS: TimestampMs = 365 * 86_400_000;

/// With small journals files are larger than those.
pub const SMALLEST_RUN: u64 = 1 << 20;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CleanerConfig {
    /// `log.cleaner.enable`
    pub enabled: bool,
    /// `log.retention.check.interval.ms`
    pub retention_check: Duration,
    /// `log.cleaner.backoff.ms`
    pub backoff: Duration,
    /// `log.cleaner.dedupe.buffer.size`
    pub dedupe_bytes: usize,
    /// `log.cleaner.io.max.bytes.per.second`
    pub io_bytes_per_second: Option<u64>,
    /// `headwater.scrub.bytes.per.second`; `None` for no scrubbing.
    pub scrub_bytes_per_second: Option<u64>,
    /// `headwater.scrub.interval.ms`: from the end of one pass to the beginning of the next.
    pub scrub_interval: Duration,
    /// `headwater.cold.local.bytes`: what finished files may take on this disk when there is a cold store.
    pub cold_local_bytes: Option<u64>,
    /// `headwater.cold.orphan.grace.ms`: how long an object in the store must have been known to nobody.
    pub cold_orphan_grace: Duration,
    /// `headwater.clock.jump.accept`
    pub accept_clock_jump: bool,
    /// About how large a file is that compaction writes: as large as a journal.
    pub run_bytes: u64,
}

impl Default for CleanerConfig {
    fn default() -> Self {
        Self {
            enabled: true,
            retention_check: Duration::from_secs(300),
            backoff: Duration::from_secs(15),
            dedupe_bytes: 128 << 20,
            io_bytes_per_second: None,
            scrub_bytes_per_second: Some(16 << 20),
            scrub_interval: Duration::from_secs(7 * 86_400),
            cold_local_bytes: None,
            cold_orphan_grace: Duration::from_secs(3600),
            accept_clock_jump: false,
            run_bytes: 64 << 20,
        }
    }
}

/// What the cleaner has done, for whoever watches it.
#[derive(Debug, Default)]
pub struct CleanerActivity {
    pub cleanings: AtomicU64,
    pub bytes_read: AtomicU64,
    pub bytes_written: AtomicU64,
    pub records_dropped: AtomicU64,
    pub offsets_deleted: AtomicU64,
    pub files_emptied: AtomicU64,
    pub failures: AtomicU64,
    pub files_cooled: AtomicU64,
    pub bytes_cooled: AtomicU64,
    pub objects_swept: AtomicU64,
    pub cold: Arc<ColdActivity>,
    pub bytes_scrubbed: AtomicU64,
    pub batches_damaged: AtomicU64,
    /// Deletion by age waits for somebody to look at the clock.
    pub clock_held: AtomicBool,
    /// How far the system's clock was ahead of what the log was last told, when it is not believed.
    pub clock_jump_ms: AtomicI64,
    /// Records without a key that compaction left out, since the start.
    keyless: Mutex<BTreeMap<PartitionId, u64>>,
    /// Work that failed the last time it was tried.
    failing: Mutex<BTreeMap<Work, Failing>>,
}

/// What the cleaner does, and to which partition when it is about one.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Work {
    pub doing: &'static str,
    pub partition: Option<(String, i32)>,
}

impl Work {
    fn all(doing: &'static str) -> Self {
        Self { doing, partition: None }
    }
}

impl fmt::Display for Work {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.partition {
            Some((topic, partition)) => write!(f, "{} of {topic}-{partition}", self.doing),
            None => f.write_str(self.doing),
        }
    }
}

#[derive(Debug, Clone)]
pub struct Failing {
    pub reason: String,
    pub since: TimestampMs,
    pub times: u64,
}

impl CleanerActivity {
    pub fn with(cold: Arc<ColdActivity>) -> Self {
        Self { cold, ..Self::default() }
    }

    pub fn keyless(&self) -> BTreeMap<PartitionId, u64> {
        self.keyless.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn dropped_keyless(&self, id: PartitionId, records: u64) {
        if records > 0 {
            *self.keyless.lock().unwrap_or_else(PoisonError::into_inner).entry(id).or_default() += records;
        }
    }

    pub fn failing(&self) -> BTreeMap<Work, Failing> {
        self.failing.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn failed(&self, work: Work, reason: String) {
        self.failures.fetch_add(1, Ordering::Relaxed);
        let mut failing = self.failing.lock().unwrap_or_else(PoisonError::into_inner);
        let since = crate::clock::wall();
        let known = failing.entry(work).or_insert(Failing { reason: String::new(), since, times: 0 });
        known.reason = reason;
        known.times += 1;
    }

    fn went_well(&self, work: &Work) {
        self.failing.lock().unwrap_or_else(PoisonError::into_inner).remove(work);
    }
}

#[derive(Debug, Error)]
enum CleanError {
    #[error(transparent)]
    Log(#[from] LogError),
    #[error(transparent)]
    Compact(#[from] headwater_log::compact::CompactError),
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
    #[error(transparent)]
    Io(#[from] std::io::Error),
    #[error("the broker stops")]
    Stopping,
}

/// The running thread; it ends with this value.
pub struct CleanerThread {
    stop: Option<mpsc::Sender<()>>,
    stopping: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Drop for CleanerThread {
    fn drop(&mut self) {
        self.stopping.store(true, Ordering::Relaxed);
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

pub struct Cleaning {
    pub config: CleanerConfig,
    pub engine: Engine,
    pub reader: Reader<LogDisk>,
    /// What commits do to the disk meanwhile.
    pub disk: Arc<DiskActivity>,
    pub catalog: Arc<Catalog>,
    pub clock: Clock,
    pub activity: Arc<CleanerActivity>,
    /// How far the system's clock is ahead of the broker's, when it is not believed.
    pub clock_jump: TimestampMs,
    /// That of requests and answers, of which uploads take a part.
    pub memory: Arc<Memory>,
    pub runtime: Handle,
}

struct Cleaner {
    cleaning: Cleaning,
    stopping: Arc<AtomicBool>,
    manners: Manners,
    secret: [u64; 2],
    pass: scrub::Pass,
    orphans: Orphans,
    swept: Option<Instant>,
    /// A journal was ended in this round, for the next.
    rolled: bool,
}

pub fn start(cleaning: Cleaning) -> Result<CleanerThread, StartError> {
    let (stop, stopped) = mpsc::channel();
    let stopping = Arc::new(AtomicBool::new(false));
    cleaning.activity.clock_held.store(cleaning.clock_jump > 0, Ordering::Relaxed);
    cleaning.activity.clock_jump_ms.store(cleaning.clock_jump, Ordering::Relaxed);
    let (a, b) = uuid::Uuid::new_v4().as_u64_pair();
    let mut cleaner = Cleaner {
        manners: Manners::new(cleaning.config.io_bytes_per_second),
        stopping: Arc::clone(&stopping),
        secret: [a, b],
        pass: scrub::Pass::default(),
        orphans: Orphans::default(),
        swept: None,
        rolled: false,
        cleaning,
    };
    let work = move || {
        Manners::come_last();
        cleaner.run(&stopped);
    };
    let thread = std::thread::Builder::new().name("headwater-cleaner".to_owned());
    let thread = Some(thread.spawn(work).map_err(StartError::Thread)?);
    Ok(CleanerThread { stop: Some(stop), stopping, thread })
}

impl Cleaner {
    fn run(&mut self, stopped: &mpsc::Receiver<()>) {
        let mut next_retention = Instant::now() + self.cleaning.config.retention_check;
        let usual = self.cleaning.config.backoff.min(self.cleaning.config.retention_check);
        let mut step = usual;
        while let Err(mpsc::RecvTimeoutError::Timeout) = stopped.recv_timeout(step) {
            let retention = Instant::now() >= next_retention;
            if retention {
                next_retention = Instant::now() + self.cleaning.config.retention_check;
            }
            for topic in self.cleaning.catalog.all() {
                self.topic(&topic, retention);
            }
            let relocated = self.relocate();
            self.note(relocated, Work::all("moving batches out of files that are mostly unused"));
            let tiered = self.tier();
            self.note(tiered, Work::all("moving old files to the cold store"));
            let swept = self.sweep();
            self.note(swept, Work::all("removing objects that nobody needs from the cold store"));
            let scrubbed = self.scrub(step);
            self.note(scrubbed, Work::all("looking for damage"));
            // Not twice in a row: with many topics there is always one.
            let soon = std::mem::take(&mut self.rolled) && step == usual;
            step = if soon { usual.min(ROLLED) } else { usual };
        }
    }

    fn topic(&mut self, topic: &Topic, retention: bool) {
        let settings = &topic.settings;
        for partition in (0..topic.record.partitions).filter_map(|index| topic.partition(index)) {
            let of = |doing| Work { doing, partition: Some((topic.name().to_owned(), partition.partition)) };
            if retention && settings.delete {
                let retained = self.retain(partition, settings);
                self.note(retained, of(RETENTION));
            }
            if settings.compact && self.cleaning.config.enabled {
                let compacted = self.compact(partition, settings);
                self.note(compacted, of(COMPACTION));
            }
        }
    }

    fn note(&self, outcome: Result<(), CleanError>, work: Work) {
        match outcome {
            // A partition may be deleted while it is being cleaned.
            Ok(()) | Err(CleanError::Log(LogError::UnknownPartition(_))) => {
                self.cleaning.activity.went_well(&work);
            }
            Err(CleanError::Stopping | CleanError::Unavailable(_)) => {}
            Err(error) => {
                tracing::warn!(%error, %work, "the log could not be cleaned; everything stays as it is");
                self.cleaning.activity.failed(work, error.to_string());
            }
        }
    }

    fn now(&self) -> TimestampMs {
        self.cleaning.clock.now()
    }

    /// Waits as the byte rate asks for, and leaves room for others.
    fn pace(&mut self, bytes: usize) -> Result<(), CleanError> {
        match self.stopping.load(Ordering::Relaxed) {
            true => Err(CleanError::Stopping),
            false => {
                self.manners.did(bytes, &self.cleaning.disk);
                Ok(())
            }
        }
    }

    fn run_number(&self) -> Result<u64, CleanError> {
        self.cleaning.engine.run_number().ok_or(CleanError::Stopping)
    }

    fn delete_before(&self, id: PartitionId, offset: i64, before: i64) -> Result<(), CleanError> {
        let deleted = self.cleaning.engine.delete_records_blocking(vec![(id, offset)])?;
        for outcome in deleted {
            outcome?;
        }
        let count = u64::try_from(offset - before).unwrap_or(0);
        self.cleaning.activity.offsets_deleted.fetch_add(count, Ordering::Relaxed);
        Ok(())
    }
}
