//! A directory of the mirror that was lost is tried again, ever more rarely.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use headwater_log::RealDisk;

use super::LogDisk;
use crate::StartError;
use crate::directory::{self, Directory};

/// Between two attempts at most, as a multiple of the first wait.
const LONGEST: u32 = 60;

/// The locks on both directories. That of a lost one is let go, so that its disk can be taken out.
pub struct Claims([Mutex<Option<Directory>>; 2]);

impl Claims {
    pub fn new(held: [Option<Directory>; 2]) -> Self {
        Self(held.map(Mutex::new))
    }

    fn set(&self, side: usize, directory: Option<Directory>) {
        *locked(&self.0[side]) = directory;
    }

    /// [`Directory::is_older`] of one that is held.
    pub fn is_older(&self, side: usize) -> bool {
        locked(&self.0[side]).as_ref().is_some_and(Directory::is_older)
    }

    /// [`Directory::mark`] of one that is held.
    pub fn mark(&self, side: usize) -> Result<(), StartError> {
        locked(&self.0[side]).as_mut().map_or(Ok(()), Directory::mark)
    }

    /// [`Directory::note_begun`] of one that is held.
    pub fn note_begun(&self, side: usize) -> Result<(), StartError> {
        locked(&self.0[side]).as_mut().map_or(Ok(()), Directory::note_begun)
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What whoever watches the mirror is told.
#[derive(Default)]
pub struct Retries {
    /// Attempts since the broker started, and how many of them brought a directory back.
    pub attempts: AtomicU64,
    pub returned: AtomicU64,
    last: Mutex<Option<Attempt>>,
}

struct Attempt {
    next: Instant,
    refused: Option<String>,
}

impl Retries {
    /// When the lost directory is tried next, and what was wrong with it the last time.
    pub fn outlook(&self) -> Option<(Duration, Option<String>)> {
        let last = locked(&self.last);
        last.as_ref().map(|last| (last.next.saturating_duration_since(Instant::now()), last.refused.clone()))
    }
}

/// The way back of a lost directory.
pub struct Returning {
    directories: [PathBuf; 2],
    cluster_id: String,
    claims: Arc<Claims>,
    retries: Arc<Retries>,
    first: Duration,
    /// How long the next wait is; it shrinks again when the mirror has held for so long.
    wait: Duration,
    due: Option<(usize, Instant)>,
    whole_since: Option<Instant>,
}

impl Returning {
    pub fn new(
        directories: [PathBuf; 2],
        cluster_id: String,
        claims: Arc<Claims>,
        retries: Arc<Retries>,
        first: Duration,
    ) -> Self {
        let (wait, due, whole_since) = (first, None, None);
        Self { directories, cluster_id, claims, retries, first, wait, due, whole_since }
    }

    /// Whether the side has just been found lost.
    pub fn begins(&mut self, side: usize) -> bool {
        self.whole_since = None;
        if self.due.is_some_and(|(known, _)| known == side) {
            return false;
        }
        self.postpone(side, None);
        true
    }

    fn postpone(&mut self, side: usize, refused: Option<String>) {
        let next = Instant::now() + self.wait;
        self.due = Some((side, next));
        *locked(&self.retries.last) = Some(Attempt { next, refused });
        self.wait = (self.wait * 2).min(self.first * LONGEST);
    }

    /// The mirror is complete.
    pub fn holds(&mut self) {
        let since = *self.whole_since.get_or_insert_with(Instant::now);
        if since.elapsed() >= self.wait {
            self.wait = self.first;
        }
    }

    /// Tries when it is time. Returns how long to wait for the next time; none when the side is back.
    pub fn attempt(&mut self, side: usize, disk: &LogDisk) -> Option<Duration> {
        let now = Instant::now();
        if let Some((_, due)) = self.due.filter(|(_, due)| *due > now) {
            return Some(due - now);
        }
        self.retries.attempts.fetch_add(1, Ordering::Relaxed);
        match self.bring_back(side, disk) {
            Ok(()) => {
                self.retries.returned.fetch_add(1, Ordering::Relaxed);
                self.due = None;
                *locked(&self.retries.last) = None;
                None
            }
            Err(reason) => {
                let wait = self.wait;
                let directory = self.directories[side].display();
                tracing::warn!(%directory, %reason, next_in = ?wait, "a lost side of the mirror is not back yet");
                self.postpone(side, Some(reason));
                Some(wait)
            }
        }
    }

    /// A directory that does not say whose it is may be the place where a disk was mounted.
    fn bring_back(&self, side: usize, disk: &LogDisk) -> Result<(), String> {
        let path = &self.directories[side];
        self.claims.set(side, None);
        match directory::cluster_of(path).map_err(|error| error.to_string())? {
            Some(cluster) if cluster == self.cluster_id => {}
            Some(other) => return Err(format!("it belongs to cluster {other} now")),
            None => {
                return Err(format!(
                    "{} holds no {}: mount its disk, or restart the broker to have an empty directory filled",
                    path.display(),
                    directory::MARKER
                ));
            }
        }
        let mut claimed = Directory::claim_for(path, None).map_err(|error| error.to_string())?;
        let there = RealDisk::new(&claimed.log);
        // Judged before it is marked: a directory that is refused stays readable for the build that wrote it.
        disk.may_rejoin(side, &there).map_err(|error| error.to_string())?;
        claimed.mark().map_err(|error| error.to_string())?;
        disk.rejoin(side, there).map_err(|error| error.to_string())?;
        self.claims.set(side, Some(claimed));
        Ok(())
    }
}
