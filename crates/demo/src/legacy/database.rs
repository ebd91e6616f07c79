//! `legacy.sqlite`: its tables, its settings, and the three tables that do not change.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use rusqlite::{Connection, params_from_iter};

use crate::data::{AIRLINES, AIRPORTS, PLANES, Table};

const TABLES: &str = include_str!("schema.sql");

/// How long a statement waits for somebody else's transaction.
const BUSY_TIMEOUT: Duration = Duration::from_secs(60);

/// Creates the database with empty tables. The file must not exist.
pub fn create(path: &Path) -> Result<()> {
    anyhow::ensure!(!path.exists(), "{} exists already; name another directory", path.display());
    let connection = open(path)?;
    connection.execute_batch(TABLES).with_context(|| format!("creating the tables of {}", path.display()))
}

/// Fills `airlines`, `airports` and `planes` in one transaction.
pub fn load_small_tables(path: &Path) -> Result<()> {
    let mut connection = open(path)?;
    let transaction = connection.transaction()?;
    for table in [AIRLINES, AIRPORTS, PLANES] {
        load(&transaction, table)
            .with_context(|| format!("loading {} into {}", table.name, path.display()))?;
    }
    Ok(transaction.commit()?)
}

/// Inserts the rows as text; the columns' affinities make the numbers.
fn load(connection: &Connection, table: Table) -> Result<()> {
    let columns = table.columns()?;
    let places = vec!["?"; columns.len()].join(", ");
    let sql = format!("INSERT INTO {} ({}) VALUES ({places})", table.name, columns.join(", "));
    let mut insert = connection.prepare(&sql)?;
    table.for_each_row(|row| {
        insert.execute(params_from_iter(row))?;
        Ok(())
    })
}

/// A connection with the settings every user of the database shares.
///
/// `synchronous = FULL`: a commit returns when the disk has it. With NORMAL a power cut could take back a
/// commit that somebody has read and told the world about.
pub(super) fn open(path: &Path) -> Result<Connection> {
    let connection = Connection::open(path).with_context(|| format!("opening {}", path.display()))?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "foreign_keys", true)?;
    Ok(connection)
}
