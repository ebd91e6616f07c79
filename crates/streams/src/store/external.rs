//! Stores whose rows are in a table of a database that the author names: which table, and how serdes' bytes become columns.
//!
//! Only words: the shell has the database. There the rows and the positions of the inputs are committed together, so such a
//! store has no changelog, and where a task begins is told by the database.

use serde::{Deserialize, Serialize};

/// How a column keeps the bytes that a serde makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ColumnType {
    /// As they are.
    #[default]
    Bytes,
    /// UTF-8, as `serdes::string` makes it.
    Text,
    /// Eight bytes, the highest first, as `serdes::i64` makes them.
    BigInt,
    /// JSON, as `serdes::json` makes it. It comes back with its names in another order. Not for keys.
    Json,
}

/// The table in which a store is kept: `key`, `value`, `timestamp_ms` and the `partition` of the task that wrote the row.
///
/// ```
/// # use headwater_streams::{ColumnType, ExternalTable, Materialized};
/// let table = ExternalTable::named("stock").key(ColumnType::Text).value(ColumnType::BigInt);
/// let kept = Materialized::<String, i64>::named("stock").external(table);
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExternalTable {
    pub name: String,
    pub key: ColumnType,
    pub value: ColumnType,
}

impl ExternalTable {
    /// Lower-case letters, digits and `_`, at most 48. Of bytes, unless its columns are said to be something else.
    pub fn named(name: impl Into<String>) -> Self {
        Self { name: name.into(), key: ColumnType::Bytes, value: ColumnType::Bytes }
    }

    pub fn key(mut self, column: ColumnType) -> Self {
        self.key = column;
        self
    }

    pub fn value(mut self, column: ColumnType) -> Self {
        self.value = column;
        self
    }

    /// Why no database could keep it.
    pub(crate) fn fault(&self) -> Option<String> {
        let name = &self.name;
        let legal = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
        if !name.starts_with(|c: char| c.is_ascii_lowercase()) || !name.chars().all(legal) || name.len() > 48
        {
            return Some(format!(
                "a table cannot be called {name:?}: begin with a lower-case letter, and use at most 48 lower-case letters, digits and '_'"
            ));
        }
        if name.starts_with("headwater_") {
            return Some(format!("table {name:?}: names that begin with headwater_ are the runtime's own"));
        }
        (self.key == ColumnType::Json).then(|| {
            "a key cannot be ColumnType::Json, which does not keep its bytes: use Bytes or Text".to_owned()
        })
    }
}
