//! The threads that wait for the disk: one for commits, one for everything that can wait, one for what waits for the
//! cold store.
//!
//! A brief commit does not take the way over a thread: waking it, and being woken by it, costs more than what
//! could be staged meanwhile, and what arrives meanwhile makes the next commit either way.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use headwater_log::{Chore, CommitJob, CommitTicket};

use super::Command;
use crate::StartError;
use crate::cleaner::manners::{Manners, STEP};
use crate::mirror::LogDisk;

pub type Job = CommitJob<LogDisk>;
pub type Jobs = mpsc::Sender<Job>;
pub type Chores = mpsc::Sender<Chore<LogDisk>>;

/// How long a commit that found no space waits before it tries again.
const SPACE_RETRY: Duration = Duration::from_millis(500);
/// Upper bounds of the flush histogram, in microseconds; one more bucket holds the rest.
pub const FLUSH_BUCKETS: [u64; 12] =
    [100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 1_000_000, 10_000_000];

/// What the disk has done, for whoever watches it.
#[derive(Debug)]
pub struct DiskActivity {
    epoch: Instant,
    /// Microseconds after `epoch` at which the commit under way began; 0 when there is none.
    began: AtomicU64,
    pub commits: AtomicU64,
    pub flushes: AtomicU64,
    pub bytes: AtomicU64,
    pub busy_micros: AtomicU64,
    pub buckets: [AtomicU64; FLUSH_BUCKETS.len() + 1],
    pub waits_for_space: AtomicBool,
    /// Nobody waits for space any more.
    stopping: AtomicBool,
}

impl Default for DiskActivity {
    fn default() -> Self {
        Self {
            epoch: Instant::now(),
            began: AtomicU64::new(0),
            commits: AtomicU64::new(0),
            flushes: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            busy_micros: AtomicU64::new(0),
            buckets: Default::default(),
            waits_for_space: AtomicBool::new(false),
            stopping: AtomicBool::new(false),
        }
    }
}

impl DiskActivity {
    pub(super) fn stop(&self) {
        self.stopping.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Relaxed)
    }

    fn now(&self) -> u64 {
        u64::try_from(self.epoch.elapsed().as_micros()).unwrap_or(u64::MAX).max(1)
    }

    fn begin(&self) {
        self.began.store(self.now(), Ordering::Relaxed);
    }

    fn end(&self, bytes: u64, synced: bool) {
        let took = self.now().saturating_sub(self.began.swap(0, Ordering::Relaxed));
        self.commits.fetch_add(1, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        self.busy_micros.fetch_add(took, Ordering::Relaxed);
        if synced {
            self.flushes.fetch_add(1, Ordering::Relaxed);
        }
        let bucket = FLUSH_BUCKETS.iter().position(|bound| took <= *bound).unwrap_or(FLUSH_BUCKETS.len());
        self.buckets[bucket].fetch_add(1, Ordering::Relaxed);
    }

    /// How long the commit under way has taken so far.
    pub fn under_way(&self) -> Duration {
        match self.began.load(Ordering::Relaxed) {
            0 => Duration::ZERO,
            began => Duration::from_micros(self.now().saturating_sub(began)),
        }
    }
}

/// What became of a commit that was tried at once.
pub(super) enum Tried {
    Done(CommitTicket<LogDisk>, io::Result<()>),
    /// It is not brief, or finds no space: it is the disk thread's.
    Longer(Job),
}

/// Does a brief commit on the caller's thread.
pub(super) fn try_now(mut job: Job, activity: &DiskActivity) -> Tried {
    if !job.is_brief() {
        return Tried::Longer(job);
    }
    activity.begin();
    match job.attempt() {
        Err(error) if Job::may_retry(&error) => Tried::Longer(job),
        outcome => {
            let ticket = job.finish();
            activity.end(ticket.bytes(), ticket.synced());
            Tried::Done(ticket, outcome)
        }
    }
}

/// Starts the thread that writes and syncs one commit after the other.
pub(super) fn start_commits(
    commands: mpsc::Sender<Command>,
    activity: Arc<DiskActivity>,
) -> Result<Jobs, StartError> {
    let (jobs, inbox) = mpsc::channel::<Job>();
    let work = move || {
        for mut job in inbox {
            activity.begin();
            let outcome = attempt(&mut job, &activity);
            let ticket = job.finish();
            activity.end(ticket.bytes(), ticket.synced());
            if commands.send(Command::Committed { ticket, outcome }).is_err() {
                return;
            }
        }
    };
    std::thread::Builder::new().name("headwater-disk".to_owned()).spawn(work).map_err(StartError::Thread)?;
    Ok(jobs)
}

/// A commit that finds no space waits for some: nothing of it is acknowledged, so nothing is lost, and
/// when there is space again nothing has to be restarted.
fn attempt(job: &mut Job, activity: &DiskActivity) -> io::Result<()> {
    loop {
        match job.attempt() {
            Err(error) if Job::may_retry(&error) && !activity.is_stopping() => {
                if !activity.waits_for_space.swap(true, Ordering::Relaxed) {
                    tracing::error!(%error, "no space is left for the log: nothing is acknowledged until some is freed");
                }
                std::thread::sleep(SPACE_RETRY);
            }
            outcome => {
                if activity.waits_for_space.swap(false, Ordering::Relaxed) && outcome.is_ok() {
                    tracing::info!("there is space again: the log goes on");
                }
                return outcome;
            }
        }
    }
}

/// Starts the thread that saves indexes, removes files and prepares spare ones, and one beside it for what waits for
/// the cold store, so that nothing else does. The thread ends when the last sender is dropped and everything sent is
/// done, but for what the store has not been asked for by then.
pub(super) fn start_chores(
    commands: mpsc::Sender<Command>,
    activity: Arc<DiskActivity>,
) -> Result<(Chores, JoinHandle<()>), StartError> {
    let (chores, inbox) = mpsc::channel::<Chore<LogDisk>>();
    let (far, waiting) = mpsc::channel::<Chore<LogDisk>>();
    let ends = Arc::new(AtomicBool::new(false));
    let (is_over, told, disk) = (Arc::clone(&ends), commands.clone(), Arc::clone(&activity));
    let ask = move || {
        for chore in waiting {
            if !is_over.load(Ordering::Relaxed) {
                tidy(chore, &told, &disk);
            }
        }
    };
    let asking = std::thread::Builder::new().name("headwater-store".to_owned()).spawn(ask);
    let asking = asking.map_err(StartError::Thread)?;
    let work = move || {
        for chore in inbox {
            match chore.waits_for_store() {
                true => drop(far.send(chore)),
                false => tidy(chore, &commands, &activity),
            }
        }
        ends.store(true, Ordering::Relaxed);
        drop(far);
        if asking.join().is_err() {
            tracing::error!(
                "the thread that asks the cold store to tidy up panicked; the cleaner does its work"
            );
        }
    };
    let thread = std::thread::Builder::new().name("headwater-chores".to_owned()).spawn(work);
    Ok((chores, thread.map_err(StartError::Thread)?))
}

fn tidy(chore: Chore<LogDisk>, commands: &mpsc::Sender<Command>, disk: &DiskActivity) {
    let mut manners = Manners::new(None);
    match chore.run_with_rests(&mut || manners.did(STEP, disk)) {
        Ok(None) => {}
        Ok(Some(spare)) => drop(commands.send(Command::Spare(spare))),
        Err(error) => {
            tracing::warn!(%error, "a file of the log could not be tidied up; the next start does it");
        }
    }
}

#[cfg(test)]
mod tests;
