//! Carries out a [`Migration`]: state of a stopped application is brought to where its new version looks for it.
//!
//! Everything is written by one transactional producer, `<application>-migration`, and noted in the same transactions as
//! offsets of the group `<application>-migration`: how far each topic is copied, and at last that all is done. A run that is
//! killed leaves an open transaction, which the next run aborts before it asks how far the last one came; so it goes on from
//! there, and two runs at once fence each other. The application's own offsets change at the very end, all at once.
//!
//! The metadata of those offsets is `hwmigration1;<fingerprint of the migration>`, with `;done` behind it for the last one and, for
//! those before, `;<checksum of where the application was>`: of what the old version has gone on from, a copy is not all.

use std::collections::HashMap;

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
    /// Does it once more, also where it was done: the old version has run since. Where nothing is copied, that is not to be seen.
    pub again: bool,
    /// Of the topics that are made; -1 takes the broker's default.
    pub replication: i16,
}

impl Default for Options {
    fn default() -> Self {
        Self { batch: 1_000, replace: false, again: false, replication: -1 }
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
        "copy to {topic}: it holds records already, so the new version seems to have run, or the old one again since they were copied; with --replace they are deleted first"
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

/// Names the copying of what an application left behind where it was. Once it has committed anything more, it is another one.
fn copying(
    fingerprint: &str,
    migration: &Migration,
    committed: &HashMap<TopicPartition, Committed>,
) -> String {
    let own = format!("{}-", migration.application_id);
    let copied = |topic: &str| migration.copies.iter().any(|copied| copied.from == topic);
    // What is in the way under the new names may be deleted by the first run, and then has no offsets in the second.
    let mut read: Vec<String> = committed
        .iter()
        .filter(|(at, _)| !at.topic.starts_with(&own) || copied(&at.topic))
        .map(|(at, committed)| format!("{at}:{}", committed.offset))
        .collect();
    read.sort();
    format!("{fingerprint};{:08x}", crc32c::crc32c(read.join("\n").as_bytes()))
}

/// The group that remembers how far a migration is.
fn group(application_id: &str) -> String {
    format!("{application_id}-migration")
}

/// That so much is copied, by what names the copying.
fn note(offset: Offset, copying: &str) -> Committed {
    Committed { offset, metadata: format!("{VERSION};{copying}"), leader_epoch: None }
}

/// That all is done.
fn done(fingerprint: &str) -> Committed {
    note(0, &format!("{fingerprint};done"))
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
) -> Result<HashMap<TopicPartition, Offset>, MigrateError> {
    let ask: Vec<_> = parts.iter().map(|at| (at.clone(), spec)).collect();
    client
        .list_offsets(&ask, isolation)
        .await
        .map_err(MigrateError::client("look up where topics begin and end"))
}

#[cfg(test)]
mod tests {
    use headwater_streams::serdes::{i64, string};
    use headwater_streams::{Consumed, Grouped, Materialized, Produced, Renames, StreamsBuilder};

    use super::*;

    /// Orders counted in a store of this name.
    fn migration() -> Migration {
        let version = |store: &str| {
            let builder = StreamsBuilder::new("shop");
            builder
                .stream("orders", Consumed::with(string(), string()))
                .group_by(|_, value| value.clone(), Grouped::with(string(), string()).named("by-value"))
                .count(Materialized::named(store))
                .to("counts", Produced::with(string(), i64()));
            builder.build().unwrap().describe()
        };
        let renames = Renames::new([("old".to_owned(), "new".to_owned())]);
        Migration::between(&version("old"), &version("new"), &renames, &[]).unwrap()
    }

    #[test]
    fn a_copy_is_of_where_the_application_was_whatever_lies_under_the_new_names() {
        let migration = migration();
        assert_eq!(migration.copies[0].to, "shop-new-changelog", "{migration:?}");
        let at = |offsets: &[(&str, Offset)]| {
            let offsets = offsets.iter().map(|(topic, offset)| {
                (TopicPartition::new(*topic, 0), Committed { offset: *offset, ..Committed::default() })
            });
            copying(&fingerprint(&migration), &migration, &offsets.collect())
        };
        let begun = at(&[("orders", 7)]);
        assert_eq!(at(&[("orders", 7), ("shop-new-changelog", 3)]), begun);
        assert_ne!(at(&[("orders", 8)]), begun, "the old version has gone on");
        assert_ne!(note(7, &begun), done(&fingerprint(&migration)));
    }
}
