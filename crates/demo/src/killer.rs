//! Kills processes in rotation, and brings them back.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Result;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::process::Running;

/// How often it is looked whether a process has ended by itself.
const WATCH_EVERY: Duration = Duration::from_millis(200);

/// The processes, watched all the time, and killed while the killer is on.
pub struct Killer {
    processes: Vec<Running>,
    every: Duration,
    kills: Arc<AtomicU64>,
}

impl Killer {
    /// Kills one of `processes` every so often, the first one first.
    pub fn new(processes: Vec<Running>, every: Duration) -> Self {
        Self { processes, every, kills: Arc::default() }
    }

    /// How often it has killed; goes on counting.
    pub fn kills(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.kills)
    }

    /// Kills until `on` is false, then only watches, and returns the processes when `on` is closed. A process that
    /// ends by itself is an error.
    pub async fn run(mut self, mut on: watch::Receiver<bool>) -> Result<Vec<Running>> {
        let mut turn = 0;
        let mut next_kill = Instant::now() + self.every;
        loop {
            tokio::select! {
                () = tokio::time::sleep(WATCH_EVERY) => {}
                changed = on.changed() => if changed.is_err() {
                    return Ok(self.processes);
                }
            }
            self.processes.iter_mut().try_for_each(Running::check)?;
            if *on.borrow() && Instant::now() >= next_kill {
                self.processes[turn].kill_and_restart().await?;
                self.kills.fetch_add(1, Ordering::Relaxed);
                turn = (turn + 1) % self.processes.len();
                next_kill += self.every;
            }
        }
    }
}
