//! Schema lookups for code that cannot await: processing threads ask, a thread with a runtime of its own answers.
//!
//! Lookups are rare (once per schema and topic), so the asking thread simply waits, at most [`PATIENCE`].

use std::pin::Pin;
use std::sync::mpsc;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use headwater_registry::{RegistryClient, RegistryError};
use headwater_schema::AvroSchema;
use headwater_streams::SerdeError;

/// How long an unreachable registry is tried before the record fails.
const PATIENCE: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_millis(250);

type Job = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Where ids and schemas come from.
pub(super) enum Lookup {
    Registry {
        registry: RegistryClient,
        jobs: Mutex<Option<tokio::sync::mpsc::UnboundedSender<Job>>>,
    },
    /// The id is the place in the list, from 1.
    Memory(Mutex<Vec<AvroSchema>>),
}

/// What is guarded is replaced or appended to in one step, so a panic elsewhere leaves it whole.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Lookup {
    pub fn registry(registry: RegistryClient) -> Self {
        Self::Registry { registry, jobs: Mutex::new(None) }
    }

    pub fn in_memory() -> Self {
        Self::Memory(Mutex::default())
    }

    /// The id of `schema` in `subject`, registered if it is new.
    pub fn register(&self, subject: &str, schema: &AvroSchema) -> Result<u32, SerdeError> {
        let refused = |error: &dyn std::fmt::Display| {
            SerdeError::new(format!("register the schema of subject {subject:?}: {error}"))
        };
        match self {
            Self::Registry { registry, .. } => {
                let (registry, subject, text) =
                    (registry.clone(), subject.to_owned(), schema.text().to_owned());
                self.wait(retrying(move || {
                    let (registry, subject, text) = (registry.clone(), subject.clone(), text.clone());
                    async move { registry.register(&subject, &text).await }
                }))
                .map_err(|error| refused(&error))?
                .map_err(|error| refused(&error))
            }
            Self::Memory(schemas) => {
                let mut schemas = lock(schemas);
                let known = schemas.iter().position(|known| known.canonical() == schema.canonical());
                let place = known.unwrap_or_else(|| {
                    schemas.push(schema.clone());
                    schemas.len() - 1
                });
                Ok(place as u32 + 1)
            }
        }
    }

    /// The schema with an id.
    pub fn schema(&self, id: u32) -> Result<AvroSchema, SerdeError> {
        let refused =
            |error: &dyn std::fmt::Display| SerdeError::new(format!("look up schema {id}: {error}"));
        match self {
            Self::Registry { registry, .. } => {
                let registry = registry.clone();
                self.wait(retrying(move || {
                    let registry = registry.clone();
                    async move { registry.schema_by_id(id).await }
                }))
                .map_err(|error| refused(&error))?
                .map_err(|error| refused(&error))
            }
            Self::Memory(schemas) => {
                let place = (id as usize).checked_sub(1);
                let found = place.and_then(|place| lock(schemas).get(place).cloned());
                found.ok_or_else(|| refused(&"no such schema was registered"))
            }
        }
    }

    /// Runs `work` on the lookup thread and blocks for its result.
    fn wait<T: Send + 'static>(&self, work: impl Future<Output = T> + Send + 'static) -> Result<T, String> {
        let Self::Registry { jobs, .. } = self else { return Err("there is no registry".to_owned()) };
        let (answer, answered) = mpsc::channel();
        let job: Job = Box::pin(async move {
            // The asker may have given up.
            let _ = answer.send(work.await);
        });
        {
            let mut jobs = lock(jobs);
            if jobs.is_none() {
                *jobs = Some(start().map_err(|error| format!("start the lookup thread: {error}"))?);
            }
            if let Some(jobs) = jobs.as_ref() {
                jobs.send(job).map_err(|_| "the lookup thread has ended".to_owned())?;
            }
        }
        let waited = PATIENCE + Duration::from_secs(10);
        answered.recv_timeout(waited).map_err(|_| format!("no answer within {waited:?}"))
    }
}

/// Starts the thread; it ends when the sender is dropped.
fn start() -> std::io::Result<tokio::sync::mpsc::UnboundedSender<Job>> {
    let (jobs, mut queue) = tokio::sync::mpsc::unbounded_channel::<Job>();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let serve = move || {
        runtime.block_on(async move {
            while let Some(job) = queue.recv().await {
                tokio::spawn(job);
            }
        });
    };
    std::thread::Builder::new().name("headwater-schemas".to_owned()).spawn(serve)?;
    Ok(jobs)
}

async fn retrying<T, F>(ask: impl Fn() -> F + Send) -> Result<T, RegistryError>
where
    F: Future<Output = Result<T, RegistryError>> + Send,
{
    let begun = Instant::now();
    loop {
        match ask().await {
            Err(error) if error.is_retriable() && begun.elapsed() < PATIENCE => {
                tracing::warn!(%error, "the schema registry does not answer; trying for {PATIENCE:?}");
                tokio::time::sleep(PAUSE).await;
            }
            result => return result,
        }
    }
}
