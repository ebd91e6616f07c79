//! SQLite as a source and as a sink.
//!
//! Owns how a database is opened: never created by a source, always with a busy timeout, errors mapped to
//! what their reader can do about them. All SQLite work happens on threads of its own, never on the reactor.

mod bulk;
pub mod outbox;
mod position;
mod publish;
mod query;
mod row;
mod scan;
mod schema;
mod sink;
mod table;

use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, OpenFlags};

pub use bulk::BulkSource;
pub use outbox::OutboxSource;
pub use position::POSITIONS_TOPIC;
pub use query::{Cursor, QuerySource};
pub use schema::{Field, Kind, RowSchema};
pub use sink::{Sink, SinkConfig, SinkHandle, SinkStream};
pub use table::{Column, Table, TableStream};

use crate::DatabaseError;

/// How long SQLite waits for another connection's lock before it says so.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// Opens a database that has to be there; read-only unless `write`.
fn open_existing(path: &Path, write: bool) -> Result<Connection, DatabaseError> {
    if !path.exists() {
        return Err(DatabaseError::Missing { path: path.to_owned() });
    }
    let access = if write { OpenFlags::SQLITE_OPEN_READ_WRITE } else { OpenFlags::SQLITE_OPEN_READ_ONLY };
    let open = || -> rusqlite::Result<Connection> {
        let connection = Connection::open_with_flags(path, access | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
        connection.busy_timeout(BUSY_TIMEOUT)?;
        // The file is first looked into by a query, so that is when a file of another kind shows.
        connection.query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(()))?;
        Ok(connection)
    };
    open().map_err(|source| failed(path, "open", source))
}

/// Gives an SQLite error its place and, where there is one, its own variant.
fn failed(path: &Path, what: &'static str, source: rusqlite::Error) -> DatabaseError {
    let path = path.to_owned();
    match source.sqlite_error_code() {
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
            DatabaseError::Locked { path, what, after: BUSY_TIMEOUT }
        }
        Some(ErrorCode::NotADatabase) => DatabaseError::NotADatabase { path },
        _ => DatabaseError::Sqlite { path, what, source },
    }
}

fn is_busy(error: &rusqlite::Error) -> bool {
    matches!(error.sqlite_error_code(), Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked))
}

/// An SQL identifier, whatever characters the name has.
fn quote(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

fn quote_all<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    names.into_iter().map(quote).collect::<Vec<_>>().join(", ")
}

/// The name that was probably meant.
fn nearest<'a>(name: &str, among: impl IntoIterator<Item = &'a str>) -> Option<String> {
    let score = |other: &&str| strsim::jaro_winkler(&name.to_lowercase(), &other.to_lowercase());
    among.into_iter().max_by(|a, b| score(a).total_cmp(&score(b))).map(str::to_owned)
}
