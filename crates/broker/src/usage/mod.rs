//! Sees who produces and consumes, and tells the coordinator now and then.
//!
//! Owns the way from a request to the coordinator's rows: each connection remembers what it has shown in this round,
//! so that the common table is touched once a round and not once a request. A row that is new is on disk within
//! [`TICK`]; when it was last seen follows with the end of each round.

mod memo;
pub mod report;

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use headwater_coordinator::{Client, MOST_CLIENTS, MOST_ROWS, Request, Response, Usage, UsageRecord};
use headwater_model::TimestampMs;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

pub use memo::{Memo, cut};

use crate::engine::{Engine, Unavailable};

const TICK: Duration = Duration::from_secs(1);
/// How many ticks a round has.
const ROUND: u32 = 30;

/// What was seen since the coordinator was told.
#[derive(Default)]
pub struct Sightings {
    table: Mutex<Table>,
    round: AtomicU64,
    /// Found no room in the table.
    dropped: AtomicU64,
    /// Found none among the coordinator's rows.
    unplaced: AtomicU64,
}

#[derive(Default)]
struct Table {
    seen: HashMap<Usage, Seen>,
    /// How many rows of this round each principal has in a direction of a topic.
    crowds: HashMap<Usage, usize>,
    /// Told within the last two rounds, so not urgent.
    known: HashSet<Usage>,
}

struct Seen {
    first: TimestampMs,
    last: TimestampMs,
    /// The coordinator has not heard of it lately.
    new: bool,
}

impl Sightings {
    pub fn round(&self) -> u64 {
        self.round.load(Ordering::Relaxed)
    }

    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed) + self.unplaced.load(Ordering::Relaxed)
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Of one principal, direction and topic the rows are counted here, too, so that nobody hides the others.
    fn see(&self, mut of: Usage, now: TimestampMs) {
        let mut table = self.table();
        if !table.seen.contains_key(&of) {
            let others = Usage { client_id: None, through: None, ..of.clone() };
            let rows = table.crowds.entry(others.clone()).or_default();
            if *rows >= MOST_CLIENTS {
                of = others;
            } else {
                *rows += 1;
            }
        }
        if let Some(seen) = table.seen.get_mut(&of) {
            seen.last = now;
        } else if table.seen.len() < MOST_ROWS {
            let new = !table.known.contains(&of);
            table.seen.insert(of, Seen { first: now, last: now, new });
        } else {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Takes what the coordinator should hear: what is new, or everything, which ends the round.
    fn take(&self, everything: bool) -> Vec<UsageRecord> {
        let mut table = self.table();
        let Table { seen, known, crowds } = &mut *table;
        let record = |of: &Usage, seen: &Seen| UsageRecord {
            of: of.clone(),
            first_ms: seen.first,
            last_ms: seen.last,
        };
        if everything {
            let all = seen.iter().map(|(of, seen)| record(of, seen)).collect();
            *known = seen.drain().map(|(of, _)| of).collect();
            crowds.clear();
            self.round.fetch_add(1, Ordering::Relaxed);
            return all;
        }
        let mut new = Vec::new();
        for (of, seen) in seen.iter_mut().filter(|(_, seen)| seen.new) {
            seen.new = false;
            new.push(record(of, seen));
        }
        new
    }

    /// Tells the coordinator; what it cannot be told is lost with a word in the log.
    pub async fn tell(&self, engine: &Engine, everything: bool) -> Result<(), Unavailable> {
        let seen = self.take(everything);
        if seen.is_empty() {
            return Ok(());
        }
        if let Response::RecordUsage(unplaced) =
            engine.ask(Client::default(), Request::RecordUsage(seen)).await?
        {
            self.unplaced.store(unplaced, Ordering::Relaxed);
        }
        Ok(())
    }
}

/// The task that tells.
pub struct UsageTask {
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

/// Tells until stopped.
pub fn start(sightings: Arc<Sightings>, engine: Engine) -> UsageTask {
    let (stop, stopped) = oneshot::channel();
    UsageTask { stop, task: tokio::spawn(run(sightings, engine, stopped)) }
}

async fn run(sightings: Arc<Sightings>, engine: Engine, mut stopped: oneshot::Receiver<()>) {
    let (mut tick, mut dropped) = (0, 0);
    loop {
        let stops = tokio::select! {
            () = tokio::time::sleep(TICK) => false,
            // Told to stop, or nobody is left who could.
            _ = &mut stopped => true,
        };
        tick += 1;
        let ends = stops || tick % ROUND == 0;
        if let Err(error) = sightings.tell(&engine, ends).await {
            tracing::warn!(%error, "who produced and consumed lately is not recorded");
        }
        if stops {
            return;
        }
        let lost = sightings.dropped();
        if ends && lost > dropped {
            tracing::warn!(
                lost,
                "too many clients at once: who produces and consumes is recorded in part only"
            );
            dropped = lost;
        }
    }
}

impl UsageTask {
    /// Returns when all that was seen is told.
    pub async fn stop(self) {
        // A task that has ended does not listen.
        let _ = self.stop.send(());
        if let Err(error) = self.task.await {
            tracing::error!(%error, "the record of who produces and consumes ended badly");
        }
    }
}
