//! Stores in a database outside, committed there together with the positions of the inputs.
//!
//! The traits that drivers implement (`headwater-external` has PostgreSQL and Redis), and what the threads make of them.
//! Invariant: the database has the rows of a task up to the positions that it has of the task's inputs, whatever was killed,
//! and only the instance that took the task last can change either. Where a task begins is told by the database; what the
//! group has committed only follows.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use headwater_client::Committed;
use headwater_model::{Bytes, TopicPartition};
use headwater_streams::{ExternalTable, TaskId};

mod backend;
mod link;

pub(crate) use backend::ExternalBackend;
pub(crate) use link::{Link, first};

/// Why a database did not do what it was asked.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ExternalError {
    /// It is not there, or does not answer: trying again helps once it is back.
    #[error(
        "{what} in {database}: {message}; nothing is lost, and it is tried again: see whether it runs and is reached"
    )]
    Unavailable { database: String, what: String, message: String },
    /// Another instance has taken the task since.
    #[error(
        "commit task {task} in {database}: instance {owner:?} took the task over (epoch {theirs}, here {ours}), so what was done here since is dropped; nothing is lost: that instance does it"
    )]
    Fenced { database: String, task: TaskId, owner: String, theirs: i64, ours: i64 },
    /// No retry changes that.
    #[error("{what} in {database}: {message}; {advice}")]
    Refused { database: String, what: String, message: String, advice: String },
}

/// What an application keeps in the database.
#[derive(Debug, Clone)]
pub struct Application {
    pub id: String,
    /// The tables of its stores.
    pub stores: BTreeMap<String, ExternalTable>,
    /// After so long a transaction in which nothing happens is given up, so that who hangs blocks nobody.
    pub patience: Duration,
}

/// Keys and values of a store.
pub type Rows = Vec<(Bytes, Bytes)>;

/// A task that was taken: only who gives this epoch may commit it.
#[derive(Debug, Clone, Default)]
pub struct Taken {
    pub epoch: i64,
    /// Where its inputs are; one that is not here was never committed.
    pub positions: HashMap<TopicPartition, Committed>,
}

/// What a task did since its last commit.
#[derive(Debug, Clone)]
pub struct TaskCommit {
    pub task: TaskId,
    pub epoch: i64,
    /// By table: what to write, or (`None`) to delete, each key once and in order.
    pub rows: Vec<(ExternalTable, BTreeMap<Bytes, Option<Bytes>>)>,
    pub positions: Vec<(TopicPartition, Committed)>,
}

/// How large a store's table is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableSize {
    pub store: String,
    pub table: String,
    /// What it takes in the database, indexes and what can be used again included. Of all instances.
    pub reserved_bytes: u64,
    /// What of that its rows are, about; `None` if the database does not know yet.
    pub used_bytes: Option<u64>,
}

/// A database in which stores may be kept. Calls block, on a thread within a tokio runtime.
pub trait ExternalDatabase: Send + Sync + fmt::Debug {
    /// Which one, for people; no password.
    fn name(&self) -> String;

    /// What it keeps when it dies itself, in a sentence.
    fn durability(&self) -> String;

    /// Connects; tables that are not there are made, and those that are, checked.
    fn open(&self, application: &Application) -> Result<Box<dyn ExternalSession>, ExternalError>;

    /// How large the tables of an application are.
    fn sizes(&self, application_id: &str) -> Result<Vec<TableSize>, ExternalError>;

    /// Where the inputs of an application's tasks are.
    fn positions(&self, application_id: &str) -> Result<HashMap<TopicPartition, Committed>, ExternalError>;

    /// Empties the tables of an application and sets these positions, in one; whoever has its tasks can commit no more.
    fn reset(
        &self,
        application_id: &str,
        positions: &HashMap<TopicPartition, Committed>,
    ) -> Result<(), ExternalError>;
}

/// A connection of one processing thread. After an error it is thrown away, with what it had prepared.
pub trait ExternalSession: Send {
    /// Takes a task from whoever had it.
    fn take(&mut self, task: TaskId, owner: &str) -> Result<Taken, ExternalError>;

    /// The rows of a partition that have these keys, in any order; prepared ones as they are prepared.
    fn get(&mut self, table: &ExternalTable, partition: i32, keys: &[Bytes]) -> Result<Rows, ExternalError>;

    /// All rows of a partition, in any order; prepared ones as they are prepared.
    fn rows(&mut self, table: &ExternalTable, partition: i32) -> Result<Rows, ExternalError>;

    /// Does all that a commit takes but the last step, after which nothing is expected to go wrong.
    fn prepare(&mut self, commits: &[TaskCommit]) -> Result<(), ExternalError>;

    /// Makes what was prepared last: all of it, or nothing.
    fn commit(&mut self) -> Result<(), ExternalError>;
}

/// The database of an application, in its settings.
#[derive(Clone)]
pub struct External(pub(crate) Arc<dyn ExternalDatabase>);

impl External {
    pub fn new(database: impl ExternalDatabase + 'static) -> Self {
        Self(Arc::new(database))
    }

    pub fn database(&self) -> &dyn ExternalDatabase {
        &*self.0
    }
}

impl fmt::Debug for External {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "External({})", self.0.name())
    }
}
