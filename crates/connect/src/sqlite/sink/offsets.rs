//! Table `_headwater_offsets`: how far the database holds each partition.

use headwater_model::{Offset, TopicPartition};
use rusqlite::{Connection, OptionalExtension, Transaction};

use super::Offsets;

const CREATE: &str = "CREATE TABLE IF NOT EXISTS _headwater_offsets (topic TEXT NOT NULL, partition INTEGER NOT NULL, \
     next_offset INTEGER NOT NULL, PRIMARY KEY (topic, partition)) WITHOUT ROWID";
const READ: &str = "SELECT topic, partition, next_offset FROM _headwater_offsets";
/// Changes nothing when another sink has moved the offset.
const MOVE: &str = "INSERT INTO _headwater_offsets VALUES (?1, ?2, ?3) ON CONFLICT (topic, partition) \
     DO UPDATE SET next_offset = excluded.next_offset WHERE next_offset = ?4";
const FOUND: &str = "SELECT next_offset FROM _headwater_offsets WHERE topic = ?1 AND partition = ?2";

pub(super) fn create(connection: &Connection) -> rusqlite::Result<()> {
    connection.execute_batch(CREATE)
}

pub(super) fn read(connection: &Connection) -> rusqlite::Result<Offsets> {
    let mut statement = connection.prepare(READ)?;
    let rows = statement.query_map([], |row| {
        Ok((TopicPartition { topic: row.get(0)?, partition: row.get(1)? }, row.get(2)?))
    })?;
    rows.collect()
}

/// Moves one partition's offset; what is found instead when it is not the expected one.
pub(super) fn move_on(
    transaction: &Transaction<'_>,
    at: &TopicPartition,
    expected: Option<Offset>,
    next: Offset,
) -> rusqlite::Result<Result<(), Offset>> {
    let moved = transaction.prepare_cached(MOVE)?.execute((&at.topic, at.partition, next, expected))?;
    if moved == 1 {
        return Ok(Ok(()));
    }
    let found = transaction.query_row(FOUND, (&at.topic, at.partition), |row| row.get(0)).optional()?;
    Ok(Err(found.unwrap_or(-1)))
}
