//! The connection of a processing thread, shared with its tasks' stores; the first thing that fails on it is remembered.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use headwater_streams::StoreError;

use super::{Application, ExternalDatabase, ExternalError, ExternalSession};
use crate::app::Shared;
use crate::config::AppConfig;
use crate::error::AppError;

/// How long a database that does not answer is tried at the start: it may be starting, too.
const PATIENCE: Duration = Duration::from_secs(20);
const PAUSE: Duration = Duration::from_millis(500);

struct Ends {
    session: Box<dyn ExternalSession>,
    failure: Option<ExternalError>,
}

/// Clones share the connection.
#[derive(Clone)]
pub(crate) struct Link(Arc<Mutex<Ends>>);

impl Link {
    pub fn open(shared: &Shared) -> Result<Self, ExternalError> {
        let database = database(&shared.config, "keep its stores")?;
        let application = application(&shared.config, &shared.topology);
        Ok(Self::new(database.open(&application)?))
    }

    pub fn new(session: Box<dyn ExternalSession>) -> Self {
        Self(Arc::new(Mutex::new(Ends { session, failure: None })))
    }

    /// A panic within a call ends the thread, and with it all who have this.
    fn ends(&self) -> MutexGuard<'_, Ends> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whoever stands between the store and the thread makes of the error what it likes: the thread asks for it here.
    pub fn with<T>(
        &self,
        call: impl FnOnce(&mut dyn ExternalSession) -> Result<T, ExternalError>,
    ) -> Result<T, StoreError> {
        self.call(call).map_err(|error| StoreError::new(error.to_string()))
    }

    /// Nothing is done after a failure: a transaction that has seen one is over.
    pub fn call<T>(
        &self,
        call: impl FnOnce(&mut dyn ExternalSession) -> Result<T, ExternalError>,
    ) -> Result<T, ExternalError> {
        let mut ends = self.ends();
        if let Some(failure) = &ends.failure {
            return Err(failure.clone());
        }
        let done = call(&mut *ends.session);
        if let Err(error) = &done {
            ends.failure = Some(error.clone());
        }
        done
    }

    pub fn failure(&self) -> Option<ExternalError> {
        self.ends().failure.clone()
    }
}

fn application(config: &AppConfig, topology: &headwater_streams::Topology) -> Application {
    Application {
        id: config.application_id.clone(),
        stores: topology.external_stores(),
        patience: config.transaction_timeout,
    }
}

fn database<'a>(config: &'a AppConfig, what: &str) -> Result<&'a dyn ExternalDatabase, ExternalError> {
    config.external.as_ref().map(super::External::database).ok_or_else(|| ExternalError::Refused {
        database: "a database".to_owned(),
        what: what.to_owned(),
        message: "the topology has external stores, and no database was named".to_owned(),
        advice: "set AppConfig::external (headwater_external::open(\"postgres://user@host/database\"), or its from_environment with HEADWATER_EXTERNAL)".to_owned(),
    })
}

/// Makes or checks the tables before anything runs, so that a mistake is told by the start.
pub(crate) async fn first(
    config: &AppConfig,
    topology: &headwater_streams::Topology,
) -> Result<(), AppError> {
    let application = application(config, topology);
    if application.stores.is_empty() {
        return Ok(());
    }
    database(config, "keep its stores").map_err(AppError::External)?;
    let begun = Instant::now();
    loop {
        let (external, application) = (config.external.clone(), application.clone());
        let opened = tokio::task::spawn_blocking(move || match external {
            Some(external) => external.database().open(&application).map(drop),
            None => Ok(()),
        });
        match opened.await.map_err(|ended| AppError::Panic(ended.to_string()))? {
            Ok(()) => return Ok(()),
            Err(error @ ExternalError::Unavailable { .. }) if begun.elapsed() < PATIENCE => {
                tracing::warn!(%error, "trying for {PATIENCE:?}");
                tokio::time::sleep(PAUSE).await;
            }
            Err(error) => return Err(AppError::External(error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use headwater_model::Bytes;
    use headwater_streams::{ExternalTable, TaskId};

    use super::super::{Rows, Taken, TaskCommit};
    use super::*;

    /// Fails to read, and would commit all the same: as PostgreSQL answers a COMMIT of a transaction that failed.
    struct Careless;

    impl ExternalSession for Careless {
        fn take(&mut self, _: TaskId, _: &str) -> Result<Taken, ExternalError> {
            Ok(Taken::default())
        }

        fn get(&mut self, _: &ExternalTable, _: i32, _: &[Bytes]) -> Result<Rows, ExternalError> {
            let (database, what) = ("it".to_owned(), "read".to_owned());
            Err(ExternalError::Unavailable { database, what, message: "gone".to_owned() })
        }

        fn rows(&mut self, _: &ExternalTable, _: i32) -> Result<Rows, ExternalError> {
            Ok(Rows::new())
        }

        fn prepare(&mut self, _: &[TaskCommit]) -> Result<(), ExternalError> {
            Ok(())
        }

        fn commit(&mut self) -> Result<(), ExternalError> {
            Ok(())
        }
    }

    #[test]
    fn after_a_failure_nothing_is_committed_and_the_thread_learns_which_it_was() {
        let link = Link::new(Box::new(Careless));
        link.call(|session| session.prepare(&[])).unwrap();
        assert!(link.failure().is_none());
        link.with(|session| session.get(&ExternalTable::named("t"), 0, &[])).unwrap_err();
        let refused = link.call(|session| session.commit()).unwrap_err();
        assert!(refused.to_string().contains("read in it: gone"), "{refused}");
        assert!(link.failure().is_some());
    }
}
