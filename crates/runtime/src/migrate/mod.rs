//! Carries out a [`Migration`]: state of a stopped application is brought to where its new version looks for it.
//!
//! Everything is written by one transactional producer, `<application>-migration`, and noted in the same transactions as
//! offsets of the group `<application>-migration`: how far each topic is copied, and at last that all is done. A run that is
//! killed leaves an open transaction, which the next run aborts before it asks how far the last one came; so it goes on from
//! there, and two runs at once fence each other. The application's own offsets change at the very end, all at once.
//!
//! The metadata of those offsets is `hwmigration1;<fingerprint of the migration>`, and `;done` behind it for the last one.

use headwater_client::{ClientError, Committed, Isolation, OffsetSpec};
use headwater_model::{Offset, TopicPartition};
use headwater_streams::{Migration, MigrationRefused};

mod execute;
mod plan;

pub use execute::{Progress, execute};
pub use plan::{CopyPart, MigrationPlan, ResetPart, plan};

/// How a migration is made.
#[derive(Debug, Clone)]
pub struct Options {
    /// Records in one transaction.
    pub batch: usize,
    /// Deletes what is in the way under the new names: left by an attempt at the new version.
    pub replace: bool,
    /// Of the topics that are made; -1 takes the broker's default.
    pub replication: i16,
}

impl Default for Options {
    fn default() -> Self {
        Self { batch: 1_000, replace: false, replication: -1 }
    }
}

/// Why an application is not migrated. Nothing of it has changed, unless it says that it was interrupted.
#[derive(Debug, thiserror::Error)]
pub enum MigrateError {
    #[error(transparent)]
    Refused(#[from] MigrationRefused),
    #[error(
        "migrate application {application_id}: it has {members} members; stop every instance first, and wait until their sessions end (session_timeout, 10 s)"
    )]
    Running { application_id: String, members: usize },
    #[error(
        "migrate application {application_id}: its group has committed nothing, so it has no state to move; start the new version"
    )]
    NeverRan { application_id: String },
    #[error(
        "use topic {topic}: it has {found} partitions, and the new version needs {needed}, so that keys would lie elsewhere; this cannot be done in place: run the new version under another application id, beside this one, until it has caught up"
    )]
    Partitions { topic: String, found: i32, needed: i32 },
    #[error("copy {topic}: there is no such topic; does the old description say what ran?")]
    NoTopic { topic: String },
    #[error(
        "copy to {topic}: it holds records already, so the new version seems to have run; with --replace they are deleted first"
    )]
    Occupied { topic: String },
    #[error(
        "leave {topic}: at least {records} records of it are not read yet, and the new version does not read it; start the old version, without new input, until its group has no lag"
    )]
    UnderWay { topic: String, records: usize },
    #[error(
        "read {topic}: a transaction is open there, of an instance that was killed or still runs; try again when it has ended (transaction_timeout, 10 s), or abort it with headwater transaction abort"
    )]
    OpenTransaction { topic: String },
    #[error("the migration was interrupted; run it again to go on where it was")]
    Interrupted,
    #[error("{what}: {source}")]
    Client { what: &'static str, source: ClientError },
}

impl MigrateError {
    fn client(what: &'static str) -> impl Fn(ClientError) -> Self {
        move |source| Self::Client { what, source }
    }
}

const VERSION: &str = "hwmigration1";

/// Names the migration in what is committed of it.
fn fingerprint(migration: &Migration) -> String {
    // A description of two enumerations, strings and numbers always becomes JSON.
    let text = serde_json::to_string(migration).unwrap_or_default();
    format!("{:08x}{:08x}", crc32c::crc32c(text.as_bytes()), text.len())
}

/// The group that remembers how far a migration is.
fn group(application_id: &str) -> String {
    format!("{application_id}-migration")
}

fn note(offset: Offset, fingerprint: &str, done: bool) -> Committed {
    let metadata = format!("{VERSION};{fingerprint}{}", if done { ";done" } else { "" });
    Committed { offset, metadata, leader_epoch: None }
}

type Parts = Vec<TopicPartition>;

fn parts(topic: &str, count: i32) -> Parts {
    (0..count).map(|partition| TopicPartition::new(topic, partition)).collect()
}

async fn offsets(
    client: &headwater_client::Client,
    parts: &[TopicPartition],
    spec: OffsetSpec,
    isolation: Isolation,
) -> Result<std::collections::HashMap<TopicPartition, Offset>, MigrateError> {
    let ask: Vec<_> = parts.iter().map(|at| (at.clone(), spec)).collect();
    client
        .list_offsets(&ask, isolation)
        .await
        .map_err(MigrateError::client("look up where topics begin and end"))
}
