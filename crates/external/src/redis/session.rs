//! Taking tasks, and committing them by one script. What is prepared is kept here until then.

use std::collections::{BTreeMap, HashMap};

use headwater_client::Committed;
use headwater_model::{Bytes, TopicPartition};
use headwater_runtime::external::{ExternalError, ExternalSession, Rows, Taken, TaskCommit};
use headwater_streams::{ColumnType, ExternalTable, TaskId};
use serde::{Deserialize, Serialize};

use super::Link;
use super::keys::{self, Keys};
use super::script::{COMMIT, Commands, RESET};
use crate::column::{Cell, cell, joined, split};

/// By the rows' keys.
type Times = HashMap<Vec<u8>, i64>;

pub(super) struct Session {
    link: Link,
    keys: Keys,
    tokens: HashMap<TaskId, String>,
    prepared: Vec<TaskCommit>,
}

/// As it is kept.
#[derive(Serialize, Deserialize)]
struct Position {
    offset: i64,
    leader_epoch: Option<i32>,
    metadata: String,
}

fn position_text(position: &Committed) -> String {
    let Committed { offset, leader_epoch, metadata } = position.clone();
    serde_json::to_string(&Position { offset, leader_epoch, metadata }).unwrap_or_default()
}

fn parse_position((at, text): (String, String)) -> Option<(TopicPartition, Committed)> {
    let (topic, partition) = at.rsplit_once('/')?;
    let Position { offset, leader_epoch, metadata } = serde_json::from_str(&text).ok()?;
    let at = TopicPartition::new(topic, partition.parse().ok()?);
    Some((at, Committed { offset, leader_epoch, metadata }))
}

/// For people to read: numbers in digits.
fn text(column: ColumnType, bytes: &[u8]) -> Result<Vec<u8>, &'static str> {
    Ok(match cell(column, bytes)? {
        Cell::BigInt(number) => number.to_string().into_bytes(),
        other => other.into_bytes().to_vec(),
    })
}

fn bytes(column: ColumnType, text: &[u8]) -> Option<Bytes> {
    if column != ColumnType::BigInt {
        return Some(Bytes::copy_from_slice(text));
    }
    let number: i64 = std::str::from_utf8(text).ok()?.parse().ok()?;
    Some(Cell::BigInt(number).into_bytes())
}

impl Session {
    pub fn new(link: Link, keys: Keys) -> Self {
        Self { link, keys, tokens: HashMap::new(), prepared: Vec::new() }
    }

    /// What is prepared of a partition.
    fn ahead<'a>(
        &'a self,
        table: &'a ExternalTable,
        partition: i32,
    ) -> impl Iterator<Item = &'a BTreeMap<Bytes, Option<Bytes>>> {
        let of_task = self.prepared.iter().filter(move |commit| commit.task.partition == partition);
        of_task
            .flat_map(|commit| &commit.rows)
            .filter(move |(of, _)| of.name == table.name)
            .map(|(_, rows)| rows)
    }

    /// Does the commands if the tasks are still this session's.
    fn evaluate(&mut self, what: &str, commands: &Commands) -> Result<(), ExternalError> {
        let mut call = redis::cmd("EVAL");
        call.arg(COMMIT).arg(0).arg(self.prepared.len());
        for TaskCommit { task, .. } in &self.prepared {
            call.arg(self.keys.task(*task)).arg(self.tokens.get(task).map_or("none", String::as_str));
        }
        call.arg(commands.parts());
        let answer: Option<(usize, String, String)> = match self.link.ask::<redis::Value>(what, &call)? {
            redis::Value::Array(parts) if parts.is_empty() => None,
            other => Some(redis::from_redis_value(other).map_err(|error| {
                self.link.failures.refused(what, &error.to_string(), "see the server's version")
            })?),
        };
        let Some((place, owner, epoch)) = answer else { return Ok(()) };
        let commit = place.checked_sub(1).and_then(|place| self.prepared.get(place));
        let (task, ours) =
            commit.map_or((TaskId { subtopology: 0, partition: 0 }, 0), |of| (of.task, of.epoch));
        let theirs = epoch.parse().unwrap_or(0);
        let database = self.link.failures.database().to_owned();
        Err(ExternalError::Fenced { database, task, owner, theirs, ours })
    }

    fn misfit(&self, table: &ExternalTable, what: &str, found: &[u8], why: &str) -> ExternalError {
        let column = if what == "key" { table.key } else { table.value };
        let found = Bytes::copy_from_slice(found);
        self.link.failures.refused(
            &format!("write to table {}", table.name),
            &format!("{what} {found:?} does not fit its column, {column:?}: {why}"),
            "give the store's ExternalTable the ColumnType that fits its serde (Bytes fits all), in a table of another name",
        )
    }

    fn write_rows(
        &self,
        commands: &mut Commands,
        (table, partition): (&ExternalTable, i32),
        rows: &BTreeMap<Bytes, Option<Bytes>>,
    ) -> Result<(), ExternalError> {
        let (mut values, mut times, mut gone) = (Vec::new(), Vec::new(), Vec::new());
        for (key, stored) in rows {
            let field = text(table.key, key).map_err(|why| self.misfit(table, "key", key, why))?;
            let Some(stored) = stored else {
                gone.push(field);
                continue;
            };
            let wrong = |why| self.misfit(table, "value", stored, why);
            let (timestamp, value) = split(stored).map_err(wrong)?;
            let value = text(table.value, value).map_err(wrong)?;
            times.extend([field.clone(), timestamp.to_string().into_bytes()]);
            values.extend([field, value]);
        }
        let of = [keys::values(table, partition), keys::timestamps(table, partition)];
        commands.push("HSET", of[0].as_bytes(), &values);
        commands.push("HSET", of[1].as_bytes(), &times);
        of.iter().for_each(|key| commands.push("HDEL", key.as_bytes(), &gone));
        commands.push("SADD", self.keys.rows().as_bytes(), &of.map(String::into_bytes));
        Ok(())
    }

    fn commands(&self, commits: &[TaskCommit]) -> Result<Commands, ExternalError> {
        let mut commands = Commands::default();
        let mut positions = Vec::new();
        for TaskCommit { task, rows, positions: advanced, .. } in commits {
            for (table, rows) in rows {
                self.write_rows(&mut commands, (table, task.partition), rows)?;
            }
            for (at, position) in advanced {
                positions.extend([at.to_string().into_bytes(), position_text(position).into_bytes()]);
            }
        }
        commands.push("HSET", self.keys.positions().as_bytes(), &positions);
        Ok(commands)
    }
}

/// A row as stores have it; one that cannot be read was not written here.
fn row(table: &ExternalTable, key: &[u8], value: &[u8], timestamp: i64) -> Option<(Bytes, Bytes)> {
    Some((bytes(table.key, key)?, joined(timestamp, &bytes(table.value, value)?)))
}

impl ExternalSession for Session {
    fn take(&mut self, task: TaskId, owner: &str) -> Result<Taken, ExternalError> {
        let (key, token) = (self.keys.task(task), uuid::Uuid::new_v4().to_string());
        let mut take = redis::pipe();
        take.atomic().cmd("HINCRBY").arg(&key).arg("epoch").arg(1);
        take.cmd("HSET").arg(&key).arg("owner").arg(owner).arg("token").arg(&token).ignore();
        take.cmd("SADD").arg(self.keys.tasks()).arg(&key).ignore();
        take.cmd("HGETALL").arg(self.keys.positions());
        let what = format!("take task {task}");
        let (epoch, known): (i64, HashMap<String, String>) = self.link.ask_all(&what, &take)?;
        self.tokens.insert(task, token);
        let mut positions: HashMap<_, _> = known.into_iter().filter_map(parse_position).collect();
        positions.retain(|at: &TopicPartition, _| at.partition == task.partition);
        Ok(Taken { epoch, positions })
    }

    fn get(
        &mut self,
        table: &ExternalTable,
        partition: i32,
        wanted: &[Bytes],
    ) -> Result<Rows, ExternalError> {
        let mut found = Rows::new();
        let mut asked = Vec::new();
        for key in wanted {
            match self.ahead(table, partition).find_map(|rows| rows.get(key)) {
                Some(prepared) => found.extend(prepared.clone().map(|value| (key.clone(), value))),
                // What does not fit was never written.
                None => asked.extend(text(table.key, key)),
            }
        }
        if asked.is_empty() {
            return Ok(found);
        }
        let mut read = redis::pipe();
        read.cmd("HMGET").arg(keys::values(table, partition)).arg(&asked);
        read.cmd("HMGET").arg(keys::timestamps(table, partition)).arg(&asked);
        let (values, times): (Vec<Option<Vec<u8>>>, Vec<Option<i64>>) =
            self.link.ask_all(&format!("read table {}", table.name), &read)?;
        for ((key, value), timestamp) in asked.iter().zip(values).zip(times) {
            found.extend(value.and_then(|value| row(table, key, &value, timestamp.unwrap_or(0))));
        }
        Ok(found)
    }

    fn rows(&mut self, table: &ExternalTable, partition: i32) -> Result<Rows, ExternalError> {
        let mut read = redis::pipe();
        read.cmd("HGETALL").arg(keys::values(table, partition));
        read.cmd("HGETALL").arg(keys::timestamps(table, partition));
        let (values, times): (HashMap<Vec<u8>, Vec<u8>>, Times) =
            self.link.ask_all(&format!("read table {}", table.name), &read)?;
        let time = |key: &Vec<u8>| times.get(key).copied().unwrap_or(0);
        let mut rows: BTreeMap<Bytes, Bytes> =
            values.iter().filter_map(|(key, value)| row(table, key, value, time(key))).collect();
        for (key, value) in self.ahead(table, partition).flatten() {
            match value {
                Some(value) => rows.insert(key.clone(), value.clone()),
                None => rows.remove(key),
            };
        }
        Ok(rows.into_iter().collect())
    }

    /// All but the writing: what cannot be written, and who is another's, is known before anything else is committed.
    fn prepare(&mut self, commits: &[TaskCommit]) -> Result<(), ExternalError> {
        self.commands(commits)?;
        self.prepared = commits.to_vec();
        self.evaluate("begin a commit", &Commands::default())
    }

    fn commit(&mut self) -> Result<(), ExternalError> {
        let commands = self.commands(&self.prepared)?;
        self.evaluate("commit", &commands)?;
        self.prepared.clear();
        Ok(())
    }
}

pub(super) fn positions(
    link: &mut Link,
    keys: &Keys,
) -> Result<HashMap<TopicPartition, Committed>, ExternalError> {
    let known: HashMap<String, String> =
        link.ask("read positions", redis::cmd("HGETALL").arg(keys.positions()))?;
    Ok(known.into_iter().filter_map(parse_position).collect())
}

/// Empties the application's tables and sets its positions; whoever has a task can commit it no more.
pub(super) fn reset(
    link: &mut Link,
    keys: &Keys,
    positions: &HashMap<TopicPartition, Committed>,
) -> Result<(), ExternalError> {
    let mut call = redis::cmd("EVAL");
    call.arg(RESET).arg(3).arg(keys.tasks()).arg(keys.rows()).arg(keys.positions());
    call.arg(uuid::Uuid::new_v4().to_string());
    for (at, position) in positions {
        call.arg(at.to_string()).arg(position_text(position));
    }
    link.ask("reset the stores", &call)
}
