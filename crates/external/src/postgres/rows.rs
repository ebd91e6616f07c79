//! Rows of a table as arrays: many of them in one statement, there and back.

use headwater_model::Bytes;
use headwater_runtime::external::{ExternalError, Rows};
use headwater_streams::{ColumnType, ExternalTable};
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;

use super::failure::Failures;
use super::link::Link;
use crate::column::{Cell, cell, joined, split};

/// PostgreSQL's name of the type.
pub(super) fn sql_type(column: ColumnType) -> &'static str {
    match column {
        ColumnType::Bytes => "bytea",
        ColumnType::Text => "text",
        ColumnType::BigInt => "bigint",
        ColumnType::Json => "jsonb",
    }
}

/// What values travel as.
fn wire_type(column: ColumnType) -> &'static str {
    if column == ColumnType::Json { "text" } else { sql_type(column) }
}

/// The values of a column.
enum Column {
    Bytes(Vec<Vec<u8>>),
    Text(Vec<String>),
    BigInt(Vec<i64>),
}

impl Column {
    fn new(of: ColumnType) -> Self {
        match of {
            ColumnType::Bytes => Self::Bytes(Vec::new()),
            ColumnType::Text | ColumnType::Json => Self::Text(Vec::new()),
            ColumnType::BigInt => Self::BigInt(Vec::new()),
        }
    }

    fn push(&mut self, cell: Cell) {
        match (self, cell) {
            (Self::Bytes(all), Cell::Bytes(bytes)) => all.push(bytes.to_vec()),
            (Self::Text(all), Cell::Text(text)) => all.push(text),
            (Self::BigInt(all), Cell::BigInt(number)) => all.push(number),
            _ => unreachable!("a cell is made by its column's type"),
        }
    }

    fn parameter(&self) -> &(dyn ToSql + Sync) {
        match self {
            Self::Bytes(all) => all,
            Self::Text(all) => all,
            Self::BigInt(all) => all,
        }
    }
}

/// Rows to be written and deleted, of any partitions.
pub(super) struct Changes<'a> {
    table: &'a ExternalTable,
    keys: Column,
    partitions: Vec<i32>,
    values: Column,
    timestamps: Vec<i64>,
    gone: Column,
    gone_from: Vec<i32>,
}

/// A value that its column cannot have: it would not have it the next time either.
fn misfit(failures: &Failures, table: &ExternalTable, what: &str, bytes: &[u8], why: &str) -> ExternalError {
    let column = if what == "key" { table.key } else { table.value };
    failures.refused(
        &format!("write to table {}", table.name),
        &format!("{what} {:?} does not fit its column, {}: {why}", Bytes::copy_from_slice(bytes), sql_type(column)),
        "give the store's ExternalTable the ColumnType that fits its serde (Bytes fits all), in a table of another name",
    )
}

impl<'a> Changes<'a> {
    pub fn new(table: &'a ExternalTable) -> Self {
        Self {
            table,
            keys: Column::new(table.key),
            partitions: Vec::new(),
            values: Column::new(table.value),
            timestamps: Vec::new(),
            gone: Column::new(table.key),
            gone_from: Vec::new(),
        }
    }

    /// Each key of a partition once.
    pub fn push(
        &mut self,
        failures: &Failures,
        partition: i32,
        (key, stored): (&Bytes, Option<&Bytes>),
    ) -> Result<(), ExternalError> {
        let wrong = |what, bytes: &[u8], why| misfit(failures, self.table, what, bytes, why);
        let key = cell(self.table.key, key).map_err(|why| wrong("key", key, why))?;
        let Some(stored) = stored else {
            self.gone.push(key);
            self.gone_from.push(partition);
            return Ok(());
        };
        let (timestamp, value) = split(stored).map_err(|why| wrong("value", stored, why))?;
        let value = cell(self.table.value, value).map_err(|why| wrong("value", value, why))?;
        self.keys.push(key);
        self.values.push(value);
        self.partitions.push(partition);
        self.timestamps.push(timestamp);
        Ok(())
    }

    /// In one statement for what is written and one for what is deleted.
    pub fn write(&self, link: &mut Link) -> Result<(), ExternalError> {
        let ExternalTable { name, key, value } = self.table;
        let what = format!("write to table {name}");
        let (key_type, value_type) = (wire_type(*key), wire_type(*value));
        if !self.partitions.is_empty() {
            let sql = format!(
                "INSERT INTO \"{name}\" (key, partition, value, timestamp_ms) \
                 SELECT k, p, v::{}, t FROM unnest($1::{key_type}[], $2::int4[], $3::{value_type}[], $4::int8[]) AS u(k, p, v, t) \
                 ON CONFLICT (key, partition) DO UPDATE SET value = excluded.value, timestamp_ms = excluded.timestamp_ms",
                sql_type(*value)
            );
            let with = [self.keys.parameter(), &self.partitions, self.values.parameter(), &self.timestamps];
            link.ask(&what, &sql, &with)?;
        }
        if !self.gone_from.is_empty() {
            let sql = format!(
                "DELETE FROM \"{name}\" AS t USING unnest($1::{key_type}[], $2::int4[]) AS u(k, p) \
                 WHERE t.key = u.k AND t.partition = u.p"
            );
            link.ask(&what, &sql, &[self.gone.parameter(), &self.gone_from])?;
        }
        Ok(())
    }
}

/// Those with these keys, or all of the partition.
pub(super) fn read(
    link: &mut Link,
    table: &ExternalTable,
    partition: i32,
    keys: Option<&[Bytes]>,
) -> Result<Rows, ExternalError> {
    let ExternalTable { name, key, value } = table;
    let what = format!("read table {name}");
    let of = format!(
        "SELECT key, value::{}, timestamp_ms FROM \"{name}\" WHERE partition = $1",
        wire_type(*value)
    );
    let found = match keys {
        None => link.ask(&what, &of, &[&partition])?,
        Some(keys) => {
            let mut wanted = Column::new(*key);
            for bytes in keys {
                // What does not fit was never written.
                cell(*key, bytes).into_iter().for_each(|cell| wanted.push(cell));
            }
            let sql = format!("{of} AND key = ANY($2::{}[])", wire_type(*key));
            link.ask(&what, &sql, &[&partition, wanted.parameter()])?
        }
    };
    found.iter().map(|row| row_of(row, table).map_err(|error| link.failures.of(&what, &error))).collect()
}

fn row_of(row: &Row, table: &ExternalTable) -> Result<(Bytes, Bytes), tokio_postgres::Error> {
    let key = cell_of(row, 0, table.key)?.into_bytes();
    let value = cell_of(row, 1, table.value)?.into_bytes();
    Ok((key, joined(row.try_get(2)?, &value)))
}

fn cell_of(row: &Row, at: usize, column: ColumnType) -> Result<Cell, tokio_postgres::Error> {
    Ok(match column {
        ColumnType::Bytes => Cell::Bytes(Bytes::from(row.try_get::<_, Vec<u8>>(at)?)),
        ColumnType::Text | ColumnType::Json => Cell::Text(row.try_get(at)?),
        ColumnType::BigInt => Cell::BigInt(row.try_get(at)?),
    })
}
