//! The outbox: generated triggers copy each change of a table into an outbox table, in the transaction of the change.
//!
//! Table `_headwater_outbox_<table>`: `_seq` (order of the changes; never reused), `_deleted` (1: only the key's columns
//! are filled), `_time` (the event time), and the captured columns. SQLite has one writer at a time, so the order of
//! `_seq` is the order of commits, and a reader that has seen N has seen all below N. The triggers read the row back
//! from its table instead of using NEW, because a later trigger of the owner's may have changed it already.
//! A row that does not fit its schema moves to `_headwater_set_aside_<table>` with the reason; correcting it in
//! its own table publishes it.
//!
//! Removing published rows takes the write lock for some milliseconds, by 10,000 rows or every five seconds. A program that
//! reads before it writes in one transaction has to begin it IMMEDIATE: SQLite does not wait for a lock in the midst of one.
//!
//! Not seen: rows displaced by `INSERT OR REPLACE` through another UNIQUE constraint than the key's, unless the writing
//! connection sets `PRAGMA recursive_triggers = ON`; and what is written past SQLite's triggers.

mod feed;
mod triggers;

use headwater_client::Client;
use headwater_registry::RegistryClient;
use rusqlite::{Connection, OptionalExtension, TransactionBehavior};

use super::position::Position;
use super::publish::{Feed, Plan, Source};
use super::row::{Layout, RowEncoder};
use super::table::{Table, TableStream};
use super::{failed, open_existing, quote, quote_all};
use crate::{DatabaseError, SourceError, SourceHandle};

/// Per captured table: the outbox's identity, and the triggers as they were generated.
const OUTBOXES: &str = "CREATE TABLE IF NOT EXISTS _headwater_outboxes \
     (captured TEXT PRIMARY KEY, identity TEXT NOT NULL, definition TEXT NOT NULL)";

/// Creates the outbox of a table and its triggers, or brings them up to the stream's definition. Does nothing when
/// they are. Rows that wait to be published stay.
pub fn install(connection: &Connection, stream: &TableStream) -> Result<(), DatabaseError> {
    describe(connection, stream).map(|_| ())
}

fn describe(connection: &Connection, stream: &TableStream) -> Result<Layout, DatabaseError> {
    let table = Table::describe(connection, &stream.database, &stream.table)?;
    if table.kind != "table" {
        return Err(DatabaseError::NoTriggers { table: table.name, kind: table.kind });
    }
    let layout = Layout::new(&table, stream)?;
    let definition = triggers::generate(&table, &layout)?;
    let what = "install the outbox";
    put(connection, &table, &layout, &definition).map_err(|source| failed(&stream.database, what, source))?;
    Ok(layout)
}

fn put(connection: &Connection, table: &Table, layout: &Layout, definition: &str) -> rusqlite::Result<()> {
    if is_current(connection, &table.name, definition)? {
        return Ok(());
    }
    connection.pragma_update(None, "journal_mode", "wal")?;
    let transaction = rusqlite::Transaction::new_unchecked(connection, TransactionBehavior::Immediate)?;
    transaction.execute_batch(OUTBOXES)?;
    let (outbox, aside) = (outbox_table(&table.name), set_aside_table(&table.name));
    transaction.execute_batch(&format!(
        "CREATE TABLE IF NOT EXISTS {outbox} (_seq INTEGER PRIMARY KEY AUTOINCREMENT, _deleted INTEGER NOT NULL, _time, {columns});
         CREATE TABLE IF NOT EXISTS {aside} (_seq INTEGER PRIMARY KEY, _reason TEXT NOT NULL, _deleted INTEGER NOT NULL, _time, {columns});",
        columns = quote_all(layout.selected.iter().map(String::as_str)),
    ))?;
    add_columns(&transaction, &outbox, layout)?;
    add_columns(&transaction, &aside, layout)?;
    transaction.execute_batch(definition)?;
    transaction.execute(
        "INSERT INTO _headwater_outboxes VALUES (?1, lower(hex(randomblob(8))), ?2)
         ON CONFLICT (captured) DO UPDATE SET definition = excluded.definition",
        (&table.name, definition),
    )?;
    transaction.commit()
}

fn is_current(connection: &Connection, table: &str, definition: &str) -> rusqlite::Result<bool> {
    let there = "SELECT count(*) = 4 FROM sqlite_schema WHERE name IN ('_headwater_outboxes', ?1, ?2, ?3)";
    let named = |event: &str| triggers::name(table, event);
    let names = (named("insert"), named("update"), named("delete"));
    if !connection.query_row(there, names, |row| row.get(0))? {
        return Ok(false);
    }
    let installed = "SELECT definition = ?2 FROM _headwater_outboxes WHERE captured = ?1";
    let current = connection.query_row(installed, (table, definition), |row| row.get(0)).optional()?;
    Ok(current.unwrap_or(false))
}

/// A definition that has grown adds columns; one that has shrunk leaves them unused.
fn add_columns(connection: &Connection, outbox: &str, layout: &Layout) -> rusqlite::Result<()> {
    let there: Vec<String> = {
        let statement = connection.prepare(&format!("SELECT * FROM {outbox} LIMIT 0"))?;
        statement.column_names().into_iter().map(str::to_owned).collect()
    };
    for column in layout.selected.iter().filter(|column| !there.contains(column)) {
        connection.execute_batch(&format!("ALTER TABLE {outbox} ADD COLUMN {}", quote(column)))?;
    }
    Ok(())
}

fn outbox_table(table: &str) -> String {
    quote(&format!("_headwater_outbox_{table}"))
}

fn set_aside_table(table: &str) -> String {
    quote(&format!("_headwater_set_aside_{table}"))
}

/// Publishes a table's outbox, in order, exactly once.
pub struct OutboxSource(Source);

impl OutboxSource {
    pub fn new(stream: TableStream, client: Client, registry: RegistryClient) -> Self {
        Self(Source::new(Outbox { stream }, client, registry))
    }

    pub fn handle(&self) -> SourceHandle {
        self.0.handle.clone()
    }

    /// Runs until `stop`, or until told to finish; returns how many rows it has published. May be dropped at any time.
    pub async fn run(self, stop: impl Future<Output = ()> + Send) -> Result<u64, SourceError> {
        self.0.run(stop).await
    }
}

struct Outbox {
    stream: TableStream,
}

impl Plan for Outbox {
    fn stream(&self) -> &TableStream {
        &self.stream
    }

    fn prepare(&self) -> Result<Layout, DatabaseError> {
        describe(&open_existing(&self.stream.database, true)?, &self.stream)
    }

    fn open(
        &self,
        encoder: RowEncoder,
        position: Option<Position>,
        handle: &SourceHandle,
    ) -> Result<Box<dyn Feed>, SourceError> {
        Ok(Box::new(feed::OutboxFeed::open(&self.stream, encoder, position, handle.clone())?))
    }
}
