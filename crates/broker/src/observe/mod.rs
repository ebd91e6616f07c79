//! What operators ask of a running broker: is it well, what does it do, what holds it up.
//!
//! Everything is read when somebody asks; nothing is counted for it on the way of a record. An observer
//! keeps nothing running, and never waits long for the engine: when the disk stalls is when it is asked.

mod diagnosis;
mod finding;
mod health;
mod metrics;
mod process;
mod scrape;
pub mod space;
mod transactions;

use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use headwater_coordinator::{Client, Request, Response};
use headwater_model::TimestampMs;

use crate::broker::Shared;

pub use diagnosis::{Diagnosis, Looked};
pub use finding::{Finding, Place, Severity};
pub use health::Health;
pub use metrics::{Exporter, FamilyInfo, families};

/// How long the engine may take to answer an observer.
const PATIENCE: Duration = Duration::from_secs(2);
const SCRAPE_PATIENCE: Duration = Duration::from_millis(250);

/// A view of a broker; the broker ends without it.
#[derive(Clone)]
pub struct Observer {
    shared: Weak<Shared>,
    /// When the oldest transaction began, as far as the coordinator said last.
    oldest: Arc<Mutex<Option<TimestampMs>>>,
}

impl std::fmt::Debug for Observer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Observer").finish_non_exhaustive()
    }
}

impl Observer {
    pub(crate) fn new(shared: &Arc<Shared>) -> Self {
        Self { shared: Arc::downgrade(shared), oldest: Arc::default() }
    }

    pub fn health(&self) -> Health {
        match self.shared.upgrade() {
            Some(shared) => Health::of(&shared),
            None => Health::gone(),
        }
    }

    /// What an operator should know, the worst first; `None` when the broker has ended.
    pub async fn diagnose(&self) -> Option<Diagnosis> {
        diagnosis::run(self.shared.upgrade()?).await
    }

    /// Asks the coordinator when the oldest transaction began; without an answer in time the last one stays.
    async fn look_at_transactions(&self) {
        let Some(shared) = self.shared.upgrade() else { return };
        if let Some(open) = transactions::ongoing(&shared, SCRAPE_PATIENCE).await {
            let oldest = open.iter().map(|transaction| transaction.started_ms).min();
            *self.oldest.lock().unwrap_or_else(PoisonError::into_inner) = oldest;
        }
    }

    fn oldest_transaction(&self) -> Option<TimestampMs> {
        *self.oldest.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The coordinator's answer, unless it takes too long: it waits for the commit under way.
async fn ask(shared: &Shared, request: Request, patience: Duration) -> Option<Response> {
    let client = Client { id: "headwater-observer".to_owned(), ..Client::default() };
    tokio::time::timeout(patience, shared.engine.ask(client, request)).await.ok()?.ok()
}
