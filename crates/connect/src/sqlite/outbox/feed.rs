//! Reads an outbox in order, and removes what is published.

use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use rusqlite::types::ValueRef;
use rusqlite::{Connection, OptionalExtension, Row};

use super::super::position::Position;
use super::super::publish::{BATCH_ROWS, Batch, Feed, Read};
use super::super::row::{Misfit, RowEncoder};
use super::super::table::TableStream;
use super::super::{failed, is_busy, open_existing, quote_all};
use super::{outbox_table, set_aside_table};
use crate::{SourceError, SourceHandle};

/// Published rows are removed by this many: each removal takes the one write lock from the owner for some milliseconds.
const SWEEP_ROWS: i64 = 10_000;
/// Fewer are removed when nothing has been for this long.
const SWEEP_EVERY: Duration = Duration::from_secs(5);
/// The owner's writes come first: a removal that does not get the lock is put off.
const SWEEP_PATIENCE: Duration = Duration::from_millis(100);
/// `_seq`, `_deleted`, `_time` come before the captured columns.
const FIRST: usize = 3;

pub(super) struct OutboxFeed {
    name: String,
    path: PathBuf,
    topic: String,
    connection: Connection,
    sweeper: Connection,
    handle: SourceHandle,
    encoder: RowEncoder,
    identity: String,
    sql: Sql,
    read_to: i64,
    committed_to: i64,
    swept_to: i64,
    swept_at: Instant,
}

struct Sql {
    select: String,
    set_aside: String,
    sweep: String,
}

impl Sql {
    fn new(table: &str, columns: &[String]) -> Self {
        let (outbox, aside) = (outbox_table(table), set_aside_table(table));
        let columns = quote_all(columns.iter().map(String::as_str));
        Self {
            select: format!(
                "SELECT _seq, _deleted, _time, {columns} FROM {outbox} WHERE _seq > ?1 ORDER BY _seq LIMIT ?2"
            ),
            set_aside: format!(
                "INSERT INTO {aside} (_seq, _reason, _deleted, _time, {columns}) \
                 SELECT _seq, ?2, _deleted, _time, {columns} FROM {outbox} WHERE _seq = ?1"
            ),
            sweep: format!("DELETE FROM {outbox} WHERE _seq BETWEEN ?1 AND ?2"),
        }
    }
}

impl OutboxFeed {
    pub fn open(
        stream: &TableStream,
        encoder: RowEncoder,
        position: Option<Position>,
        handle: SourceHandle,
    ) -> Result<Self, SourceError> {
        let (name, path) = (stream.name.clone(), stream.database.clone());
        let database = |source| SourceError::database(&name, source);
        let connection = open_existing(&path, true).map_err(database)?;
        let sweeper = open_existing(&path, true).map_err(database)?;
        let state = (|| {
            sweeper.busy_timeout(SWEEP_PATIENCE)?;
            // A removal that the power takes back is done again by the next start.
            sweeper.pragma_update(None, "synchronous", "normal")?;
            State::read(&connection, &stream.table)
        })();
        let state = state.map_err(|error| database(failed(&path, "read the outbox", error)))?;
        let read_to = resume(&name, &state, position)?;
        let sql = Sql::new(&state.captured, &encoder.layout().selected);
        let swept_to = state.first.map_or(read_to, |first| first - 1).min(read_to);
        let (topic, identity) = (stream.topic.clone(), state.identity);
        let (committed_to, swept_at) = (read_to, Instant::now());
        Ok(Self {
            name,
            path,
            topic,
            connection,
            sweeper,
            handle,
            encoder,
            identity,
            sql,
            read_to,
            committed_to,
            swept_to,
            swept_at,
        })
    }

    fn sqlite(&self, what: &'static str) -> impl FnOnce(rusqlite::Error) -> SourceError {
        let (name, path) = (self.name.clone(), self.path.clone());
        move |error| SourceError::database(&name, failed(&path, what, error))
    }

    fn fill(&mut self, batch: &mut Batch) -> rusqlite::Result<(bool, Vec<(i64, Misfit)>)> {
        let mut misfits = Vec::new();
        let mut statement = self.connection.prepare_cached(&self.sql.select)?;
        let mut rows = statement.query((self.read_to, BATCH_ROWS as i64))?;
        let mut count = 0;
        while !batch.is_full() {
            let Some(row) = rows.next()? else { return Ok((count == BATCH_ROWS, misfits)) };
            count += 1;
            self.read_to = row.get(0)?;
            if let Err(misfit) = encode(&mut self.encoder, &self.topic, row, batch)? {
                misfits.push((self.read_to, misfit));
            }
        }
        Ok((true, misfits))
    }

    /// Before the batch that passes them is published: the position may then go past them.
    fn set_aside(&mut self, misfits: &[(i64, Misfit)]) -> rusqlite::Result<()> {
        let transaction =
            self.connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
        for (sequence, misfit) in misfits {
            tracing::warn!(source = self.name, sequence, %misfit, "row set aside; correct it in its table");
            transaction.execute(&self.sql.set_aside, (sequence, misfit.to_string()))?;
            transaction.execute(&self.sql.sweep, (sequence, sequence))?;
        }
        transaction.commit()?;
        self.handle.add_set_aside(misfits.len() as u64);
        Ok(())
    }

    fn sweep(&mut self, range: RangeInclusive<i64>) {
        let result = self
            .sweeper
            .prepare_cached(&self.sql.sweep)
            .and_then(|mut s| s.execute((range.start(), range.end())));
        self.swept_at = Instant::now();
        match result {
            Ok(_) => self.swept_to = *range.end(),
            Err(error) if is_busy(&error) => {
                tracing::debug!(source = self.name, "outbox is in use; removal put off")
            }
            Err(error) => {
                tracing::warn!(source = self.name, %error, "published rows stay in the outbox until the next attempt")
            }
        }
    }
}

fn encode(
    encoder: &mut RowEncoder,
    topic: &str,
    row: &Row<'_>,
    batch: &mut Batch,
) -> rusqlite::Result<Result<(), Misfit>> {
    let deleted: bool = row.get(1)?;
    let time = match row.get_ref(2)? {
        ValueRef::Integer(time) => Some(time),
        _ => None,
    };
    let encoded = encoder.key(row, FIRST).and_then(|key| match deleted {
        true => Ok((key, None)),
        false => encoder.value(row, FIRST).map(|value| (key, Some(value))),
    });
    Ok(encoded.map(|(key, value)| batch.push(topic, time, key, value)))
}

impl Feed for OutboxFeed {
    fn read(&mut self, batch: &mut Batch, _finishing: bool) -> Result<Read, SourceError> {
        let from = self.read_to;
        let (more, misfits) = self.fill(batch).map_err(self.sqlite("read the outbox"))?;
        if !misfits.is_empty() {
            self.set_aside(&misfits).map_err(self.sqlite("set rows aside"))?;
        }
        if self.read_to > from {
            batch.position = Some(Position::Outbox { outbox: self.identity.clone(), sequence: self.read_to });
        }
        Ok(if more { Read::More } else { Read::Drained })
    }

    fn committed(&mut self, position: Position) {
        if let Position::Outbox { sequence, .. } = position {
            self.committed_to = sequence;
        }
    }

    fn rest(&mut self, ending: bool) {
        let published = |feed: &Self| feed.committed_to - feed.swept_to;
        if ending && let Err(error) = self.sweeper.busy_timeout(super::super::BUSY_TIMEOUT) {
            tracing::warn!(source = self.name, %error, "set the busy timeout");
        }
        while published(self) > 0
            && (ending || published(self) >= SWEEP_ROWS || self.swept_at.elapsed() >= SWEEP_EVERY)
        {
            let before = self.swept_to;
            self.sweep(before + 1..=self.committed_to.min(before + SWEEP_ROWS));
            if self.swept_to == before {
                break;
            }
        }
    }
}

/// What the database knows of the outbox.
struct State {
    captured: String,
    identity: String,
    /// The highest `_seq` ever given.
    counted: i64,
    first: Option<i64>,
}

impl State {
    fn read(connection: &Connection, table: &str) -> rusqlite::Result<Self> {
        let outbox = "SELECT captured, identity FROM _headwater_outboxes WHERE captured = ?1 COLLATE NOCASE";
        let (captured, identity): (String, String) =
            connection.query_row(outbox, [table], |row| Ok((row.get(0)?, row.get(1)?)))?;
        let counted = "SELECT seq FROM sqlite_sequence WHERE name = '_headwater_outbox_' || ?1";
        let counted = connection.query_row(counted, [&captured], |row| row.get(0)).optional()?.unwrap_or(0);
        let first = format!("SELECT min(_seq) FROM {}", outbox_table(&captured));
        let first = connection.query_row(&first, [], |row| row.get(0))?;
        Ok(Self { captured, identity, counted, first })
    }
}

/// The sequence to go on after; refuses a position that this outbox cannot have had.
fn resume(name: &str, state: &State, position: Option<Position>) -> Result<i64, SourceError> {
    let name = name.to_owned();
    match position {
        None => Ok(0),
        Some(Position::Outbox { outbox, sequence }) if outbox == state.identity => {
            if sequence > state.counted {
                return Err(SourceError::Rewound { name, position: sequence, counted: state.counted });
            }
            Ok(sequence)
        }
        Some(other) => {
            let expected = format!("outbox {}", state.identity);
            Err(SourceError::ForeignPosition { name, found: other.describe(), expected })
        }
    }
}
