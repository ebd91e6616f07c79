//! What keeps a connector from starting or makes it stop, and what to do about it.

use std::path::PathBuf;
use std::time::Duration;

use headwater_client::ClientError;
use headwater_registry::RegistryError;
use headwater_schema::SchemaError;

/// The database, or what a stream's definition says about it.
#[derive(Debug, thiserror::Error)]
pub enum DatabaseError {
    #[error("open {}: there is no such database; start the program that owns it first, or correct the path", path.display())]
    Missing { path: PathBuf },
    #[error("open {}: it is not an SQLite database; correct the path", path.display())]
    NotADatabase { path: PathBuf },
    #[error("{what} in {}: locked for more than {after:?}; find the program that holds a write transaction open", path.display())]
    Locked { path: PathBuf, what: &'static str, after: Duration },
    #[error("find table {table:?}: {}", nearest(found.as_deref(), "this database has no tables"))]
    NoTable { table: String, found: Option<String> },
    #[error("find column {column:?} of table {table:?}: {}", nearest(found.as_deref(), "it has no columns"))]
    NoColumn { table: String, column: String, found: Option<String> },
    #[error(
        "choose the record key of table {table:?}: it has no primary key; name the columns that identify a row in `key`"
    )]
    NoKey { table: String },
    #[error(
        "capture table {table:?}: it is a {kind}, and triggers need an ordinary table; use a query source"
    )]
    NoTriggers { table: String, kind: String },
    #[error(
        "derive a schema: column {table}.{column} is declared {declared:?}, which has no Avro type; choose other columns, or read a view that casts it to INTEGER, REAL, TEXT or BLOB"
    )]
    UnknownType { table: String, column: String, declared: String },
    #[error(
        "derive a schema: {table}.{column} is named as an instant, but declared {declared:?}; it has to be INTEGER (UTC milliseconds)"
    )]
    NotAnInstant { table: String, column: String, declared: String },
    #[error(
        "derive a schema: {name:?} is not an Avro name (letters, digits, underscore); choose other columns, or read a view that renames it"
    )]
    BadName { name: String },
    #[error("write {}: table {table:?} was not made by a sink (it has no _key column); choose another table name", path.display())]
    ForeignTable { path: PathBuf, table: String },
    #[error("{what} in {}: {source}", path.display())]
    Sqlite { path: PathBuf, what: &'static str, source: rusqlite::Error },
}

fn nearest(found: Option<&str>, nothing: &str) -> String {
    found.map_or_else(|| nothing.to_owned(), |name| format!("there is none; is {name:?} meant?"))
}

/// Why a source did not start, or stopped. What it has committed stays; starting it again resumes there.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    #[error("source {name:?}: failed to {source}")]
    Database { name: String, source: Box<DatabaseError> },
    #[error("source {name:?}: {what}: {source}")]
    Client { name: String, what: &'static str, source: ClientError },
    #[error(
        "source {name:?}: another process runs a source of this name, or a transaction outlived its timeout: this one stops, its open transaction is aborted ({source}); run one per name"
    )]
    Fenced { name: String, source: ClientError },
    #[error(
        "source {name:?}: register subject {subject:?}: {source}; if the schema is incompatible, keep the old columns and add new ones as nullable, or publish to a topic of another name"
    )]
    Registry { name: String, subject: String, source: Box<RegistryError> },
    #[error("source {name:?}: derive the schema of {subject:?}: {source}")]
    Schema { name: String, subject: String, source: SchemaError },
    #[error(
        "source {name:?}: encode the row of {table:?} with key {key:?}: {reason}; correct the row in the database, then start again"
    )]
    Row { name: String, table: String, key: String, reason: String },
    #[error(
        "source {name:?}: resume: its position belongs to {found}, not to {expected}; give this source a name of its own, or a database that continues the old one"
    )]
    ForeignPosition { name: String, found: String, expected: String },
    #[error(
        "source {name:?}: resume after row {position} of the outbox: the database has counted only to {counted}; it was restored from an older copy, or lost its last transactions with the power. Publish it under a new source name"
    )]
    Rewound { name: String, position: i64, counted: i64 },
    #[error("source {name:?}: read its position: the record in {topic} is not one of ours: {reason}")]
    Position { name: String, topic: &'static str, reason: String },
    #[error("source {name:?}: its reading thread {what}")]
    Thread { name: String, what: String },
    #[error("source {name:?}: gave up after {attempts} attempts without progress: {last}")]
    GaveUp { name: String, attempts: u32, last: Box<SourceError> },
}

impl SourceError {
    pub(crate) fn database(name: &str, source: DatabaseError) -> Self {
        Self::Database { name: name.to_owned(), source: Box::new(source) }
    }

    /// A restart from the committed position may help.
    pub(crate) fn may_heal(&self) -> bool {
        match self {
            Self::Client { source, .. } => !matches!(
                source,
                ClientError::RecordTooLarge { .. }
                    | ClientError::TooOld { .. }
                    | ClientError::Malformed { .. }
            ),
            Self::Registry { source, .. } => source.is_retriable(),
            Self::Database { source, .. } => matches!(**source, DatabaseError::Locked { .. }),
            _ => false,
        }
    }
}

/// Why a sink did not start, or stopped. Rows and offsets stay as of its last transaction.
#[derive(Debug, thiserror::Error)]
pub enum SinkError {
    #[error("sink {name:?}: failed to {source}")]
    Database { name: String, source: Box<DatabaseError> },
    #[error("sink {name:?}: {what}: {source}")]
    Client { name: String, what: &'static str, source: ClientError },
    #[error(
        "sink {name:?}: read topic {topic:?}: it does not exist; start the service that writes it, or create it (headwater topic create {topic})"
    )]
    NoTopic { name: String, topic: String },
    #[error("sink {name:?}: fetch schema {id} of topic {topic:?}: {source}")]
    Registry { name: String, topic: String, id: u32, source: Box<RegistryError> },
    #[error(
        "sink {name:?}: make a column of field {field:?} of {topic:?} (schema {id}): {type_name} has no column type; sink a topic of flat records"
    )]
    Field { name: String, topic: String, id: u32, field: String, type_name: String },
    #[error(
        "sink {name:?}: another sink has written {}: offsets of {topic}/{partition} moved from {expected} to {found}; run one sink per database", path.display()
    )]
    Contended { name: String, path: PathBuf, topic: String, partition: i32, expected: i64, found: i64 },
    #[error(
        "sink {name:?}: resume {topic}/{partition} at offset {next}: the topic ends at {end}; it was deleted and made anew. Remove {} to fill it again", path.display()
    )]
    TopicReplaced { name: String, path: PathBuf, topic: String, partition: i32, next: i64, end: i64 },
    #[error("sink {name:?}: its writing thread {what}")]
    Thread { name: String, what: String },
}

impl SinkError {
    pub(crate) fn database(name: &str, source: DatabaseError) -> Self {
        Self::Database { name: name.to_owned(), source: Box::new(source) }
    }
}
