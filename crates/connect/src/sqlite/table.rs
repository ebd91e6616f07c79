//! A table as SQLite describes it, and as a stream's definition chooses from it.

use std::path::{Path, PathBuf};

use rusqlite::Connection;

use super::{failed, nearest};
use crate::DatabaseError;

/// A table told as a topic.
#[derive(Debug, Clone)]
pub struct TableStream {
    /// Of the connector: names its transactional id (`connect-<name>`) and its position.
    pub name: String,
    pub database: PathBuf,
    pub table: String,
    pub topic: String,
    /// Of a topic that does not exist yet.
    pub partitions: i32,
    pub record_name: String,
    pub namespace: String,
    /// The value's fields, in this order; empty for all columns.
    pub columns: Vec<String>,
    /// Their values, joined by `|`, are the record's key; empty for the primary key. Of several, `|` within a text has a `\`
    /// before it, and so has each `\` that comes right before one or ends the text.
    pub key: Vec<String>,
    /// An INTEGER column of UTC milliseconds that becomes the records' timestamp; the time of publishing when none.
    pub event_time: Option<String>,
    /// INTEGER columns of UTC milliseconds that are told as timestamp-millis.
    pub timestamps: Vec<String>,
}

impl TableStream {
    pub fn new(
        name: impl Into<String>,
        database: impl Into<PathBuf>,
        table: impl Into<String>,
        topic: impl Into<String>,
    ) -> Self {
        let table = table.into();
        Self {
            name: name.into(),
            database: database.into(),
            record_name: pascal_case(&table),
            table,
            topic: topic.into(),
            partitions: 1,
            namespace: "headwater.legacy".to_owned(),
            columns: Vec::new(),
            key: Vec::new(),
            event_time: None,
            timestamps: Vec::new(),
        }
    }

    pub fn partitions(self, partitions: i32) -> Self {
        Self { partitions, ..self }
    }

    pub fn record(self, name: impl Into<String>, namespace: impl Into<String>) -> Self {
        Self { record_name: name.into(), namespace: namespace.into(), ..self }
    }

    pub fn columns(self, columns: &[&str]) -> Self {
        Self { columns: owned(columns), ..self }
    }

    pub fn key(self, key: &[&str]) -> Self {
        Self { key: owned(key), ..self }
    }

    pub fn event_time(self, column: impl Into<String>) -> Self {
        Self { event_time: Some(column.into()), ..self }
    }

    pub fn timestamps(self, columns: &[&str]) -> Self {
        Self { timestamps: owned(columns), ..self }
    }

    /// Where the registry keeps the value's schema.
    pub fn subject(&self) -> String {
        format!("{}-value", self.topic)
    }
}

fn owned(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

fn pascal_case(name: &str) -> String {
    let words = name.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
    words.map(|word| word[..1].to_ascii_uppercase() + &word[1..]).collect()
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    pub name: String,
    /// The type's name in CREATE TABLE.
    pub declared: String,
    pub nullable: bool,
    /// Place in the primary key, from 1; 0 for other columns.
    pub primary_key: i64,
}

/// What `PRAGMA table_xinfo` says about a table or view.
#[derive(Debug, Clone)]
pub struct Table {
    pub name: String,
    /// `table`, `view`, `virtual` or `shadow`.
    pub kind: String,
    pub has_rowid: bool,
    pub columns: Vec<Column>,
}

impl Table {
    pub fn describe(connection: &Connection, path: &Path, name: &str) -> Result<Self, DatabaseError> {
        let tables = Self::names(connection).map_err(|source| failed(path, "list the tables", source))?;
        let Some((name, kind, without_rowid)) =
            tables.iter().find(|(other, ..)| other.eq_ignore_ascii_case(name))
        else {
            let found = nearest(name, tables.iter().map(|(other, ..)| other.as_str()));
            return Err(DatabaseError::NoTable { table: name.to_owned(), found });
        };
        let columns =
            Self::columns(connection, name).map_err(|source| failed(path, "describe a table", source))?;
        Ok(Self {
            name: name.clone(),
            kind: kind.clone(),
            has_rowid: !without_rowid && kind == "table",
            columns,
        })
    }

    fn names(connection: &Connection) -> rusqlite::Result<Vec<(String, String, bool)>> {
        let mut statement = connection.prepare(
            "SELECT name, type, wr FROM pragma_table_list WHERE schema = 'main' \
             AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\' AND name NOT LIKE '\\_headwater\\_%' ESCAPE '\\'",
        )?;
        let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
        rows.collect()
    }

    fn columns(connection: &Connection, name: &str) -> rusqlite::Result<Vec<Column>> {
        // Hidden columns of virtual tables are left out, generated ones are not.
        let mut statement = connection.prepare(
            "SELECT name, type, \"notnull\", pk FROM pragma_table_xinfo(?1) WHERE hidden <> 1 ORDER BY cid",
        )?;
        let rows = statement.query_map([name], |row| {
            let (not_null, primary_key): (bool, i64) = (row.get(2)?, row.get(3)?);
            Ok(Column {
                name: row.get(0)?,
                declared: row.get(1)?,
                nullable: !not_null && primary_key == 0,
                primary_key,
            })
        })?;
        rows.collect()
    }

    pub fn column(&self, name: &str) -> Result<&Column, DatabaseError> {
        let found = self.columns.iter().find(|column| column.name.eq_ignore_ascii_case(name));
        found.ok_or_else(|| DatabaseError::NoColumn {
            table: self.name.clone(),
            column: name.to_owned(),
            found: nearest(name, self.columns.iter().map(|column| column.name.as_str())),
        })
    }

    pub fn primary_key(&self) -> Vec<&Column> {
        let mut key: Vec<&Column> = self.columns.iter().filter(|column| column.primary_key > 0).collect();
        key.sort_by_key(|column| column.primary_key);
        key
    }
}
