//! Taking tasks, and committing them: the transaction that has the rows has the positions.

use std::collections::{BTreeMap, HashMap};

use headwater_client::Committed;
use headwater_model::{Bytes, TopicPartition};
use headwater_runtime::external::{ExternalError, ExternalSession, Rows, Taken, TaskCommit};
use headwater_streams::{ExternalTable, TaskId};

use super::link::Link;
use super::rows::{self, Changes};

pub(super) struct Session {
    link: Link,
    application_id: String,
}

impl Session {
    pub fn new(link: Link, application_id: String) -> Self {
        Self { link, application_id }
    }

    /// Begins the transaction, in which nobody else can take these tasks.
    fn lock(&mut self, commits: &[TaskCommit]) -> Result<(), ExternalError> {
        let tasks: Vec<String> = commits.iter().map(|commit| commit.task.to_string()).collect();
        let sql = "SELECT task, epoch, owner FROM headwater_tasks WHERE application_id = $1 AND task = ANY($2) \
                   ORDER BY task FOR UPDATE";
        let found = self.link.begin_and_ask("begin a commit", sql, &[&self.application_id, &tasks])?;
        let found: HashMap<String, (i64, String)> =
            found.iter().map(|row| (row.get(0), (row.get(1), row.get(2)))).collect();
        for TaskCommit { task, epoch, .. } in commits {
            let (theirs, owner) =
                found.get(&task.to_string()).cloned().unwrap_or_else(|| (0, "nobody".to_owned()));
            if theirs != *epoch {
                let database = self.link.failures.database().to_owned();
                return Err(ExternalError::Fenced { database, task: *task, owner, theirs, ours: *epoch });
            }
        }
        Ok(())
    }
}

impl ExternalSession for Session {
    fn take(&mut self, task: TaskId, owner: &str) -> Result<Taken, ExternalError> {
        let sql = "INSERT INTO headwater_tasks AS t (application_id, task, epoch, owner) VALUES ($1, $2, 1, $3) \
                   ON CONFLICT (application_id, task) DO UPDATE SET epoch = t.epoch + 1, owner = excluded.owner, taken_at = now() \
                   RETURNING epoch";
        let what = format!("take task {task}");
        let rows = self.link.ask(&what, sql, &[&self.application_id, &task.to_string(), &owner])?;
        let epoch = rows.first().map_or(0, |row| row.get(0));
        // After the lock, so that a commit that held it is in what is read.
        let positions = positions(&mut self.link, &self.application_id, Some(task.partition))?;
        Ok(Taken { epoch, positions })
    }

    fn get(&mut self, table: &ExternalTable, partition: i32, keys: &[Bytes]) -> Result<Rows, ExternalError> {
        rows::read(&mut self.link, table, partition, Some(keys))
    }

    fn rows(&mut self, table: &ExternalTable, partition: i32) -> Result<Rows, ExternalError> {
        rows::read(&mut self.link, table, partition, None)
    }

    fn prepare(&mut self, commits: &[TaskCommit]) -> Result<(), ExternalError> {
        self.lock(commits)?;
        let mut changes: BTreeMap<&str, Changes<'_>> = BTreeMap::new();
        for TaskCommit { task, rows, .. } in commits {
            for (table, rows) in rows {
                let changes = changes.entry(&table.name).or_insert_with(|| Changes::new(table));
                for (key, value) in rows {
                    changes.push(&self.link.failures, task.partition, (key, value.as_ref()))?;
                }
            }
        }
        for changes in changes.values() {
            changes.write(&mut self.link)?;
        }
        let positions = commits.iter().flat_map(|commit| &commit.positions);
        write_positions(&mut self.link, &self.application_id, positions.map(|(at, position)| (at, position)))
    }

    fn commit(&mut self) -> Result<(), ExternalError> {
        self.link.commit()
    }
}

fn write_positions<'a>(
    link: &mut Link,
    application_id: &str,
    positions: impl Iterator<Item = (&'a TopicPartition, &'a Committed)>,
) -> Result<(), ExternalError> {
    let (mut topics, mut partitions, mut offsets) = (Vec::new(), Vec::new(), Vec::new());
    let (mut epochs, mut metadata) = (Vec::new(), Vec::new());
    for (at, position) in positions {
        topics.push(at.topic.to_string());
        partitions.push(at.partition);
        offsets.push(position.offset);
        epochs.push(position.leader_epoch);
        metadata.push(position.metadata.as_str());
    }
    let sql = "INSERT INTO headwater_positions (application_id, topic, partition, next_offset, leader_epoch, metadata) \
               SELECT $1, t, p, o, e, m FROM unnest($2::text[], $3::int4[], $4::int8[], $5::int4[], $6::text[]) AS u(t, p, o, e, m) \
               ON CONFLICT (application_id, topic, partition) DO UPDATE \
               SET next_offset = excluded.next_offset, leader_epoch = excluded.leader_epoch, metadata = excluded.metadata";
    let with: [&(dyn tokio_postgres::types::ToSql + Sync); 6] =
        [&application_id, &topics, &partitions, &offsets, &epochs, &metadata];
    link.ask("write positions", sql, &with).map(drop)
}

/// The positions of an application's inputs, of one partition or all.
pub(super) fn positions(
    link: &mut Link,
    application_id: &str,
    partition: Option<i32>,
) -> Result<HashMap<TopicPartition, Committed>, ExternalError> {
    let sql = "SELECT topic, partition, next_offset, leader_epoch, metadata FROM headwater_positions \
               WHERE application_id = $1 AND ($2::int4 IS NULL OR partition = $2)";
    let rows = link.ask("read positions", sql, &[&application_id, &partition])?;
    let position = |row: &tokio_postgres::Row| {
        let at = TopicPartition::new(row.get::<_, String>(0), row.get(1));
        (at, Committed { offset: row.get(2), leader_epoch: row.get(3), metadata: row.get(4) })
    };
    Ok(rows.iter().map(position).collect())
}

/// Empties the application's tables and sets its positions; whoever has a task can commit it no more.
pub(super) fn reset(
    link: &mut Link,
    application_id: &str,
    positions: &HashMap<TopicPartition, Committed>,
) -> Result<(), ExternalError> {
    let what = format!("reset the stores of {application_id}");
    let sql = "UPDATE headwater_tasks SET epoch = epoch + 1, owner = 'a reset', taken_at = now() WHERE application_id = $1";
    link.begin_and_ask(&what, sql, &[&application_id])?;
    let sql = "SELECT table_name FROM headwater_stores WHERE application_id = $1 ORDER BY table_name";
    let tables: Vec<String> =
        link.ask(&what, sql, &[&application_id])?.iter().map(|row| row.get(0)).collect();
    for table in &tables {
        link.run(&format!("empty table {table}"), &format!("TRUNCATE \"{table}\""))?;
    }
    link.ask(&what, "DELETE FROM headwater_positions WHERE application_id = $1", &[&application_id])?;
    write_positions(link, application_id, positions.iter())?;
    link.commit()
}
