//! Reads a table or view in the order of some columns, from after a row that is known.

use std::path::PathBuf;

use rusqlite::types::{ToSql, ToSqlOutput, ValueRef};
use rusqlite::{Connection, Row, params_from_iter};

use super::position::KeyValue;
use super::publish::{BATCH_ROWS, Batch};
use super::row::RowEncoder;
use super::table::TableStream;
use super::{failed, open_existing, quote, quote_all};
use crate::SourceError;

pub(crate) struct Scan {
    name: String,
    path: PathBuf,
    table: String,
    topic: String,
    connection: Connection,
    encoder: RowEncoder,
    /// Number of ordering columns; they are selected first, then the event time, then the encoder's.
    order: usize,
    first: String,
    next: String,
    pub after: Option<Vec<KeyValue>>,
}

impl ToSql for KeyValue {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(match self {
            Self::Integer(number) => ToSqlOutput::from(*number),
            Self::Text(text) => ToSqlOutput::from(text.as_str()),
        })
    }
}

impl Scan {
    /// `until`: a column whose value must not exceed what `read` is given.
    pub fn open(
        stream: &TableStream,
        order: &[String],
        until: Option<&str>,
        encoder: RowEncoder,
        after: Option<Vec<KeyValue>>,
    ) -> Result<Self, SourceError> {
        let connection = open_existing(&stream.database, false)
            .map_err(|source| SourceError::database(&stream.name, source))?;
        let layout = encoder.layout();
        let columns = quote_all(order.iter().chain(&layout.selected).map(String::as_str));
        let time = layout.event_time.as_deref().map_or("NULL".to_owned(), quote);
        let ordering = quote_all(order.iter().map(String::as_str));
        let marks =
            |from: usize| (from..from + order.len()).map(|n| format!("?{n}")).collect::<Vec<_>>().join(", ");
        let until = until.map_or("?1 = ?1".to_owned(), |column| format!("{} <= ?1", quote(column)));
        let select = format!("SELECT {time}, {columns} FROM {} WHERE {until}", quote(&stream.table));
        let tail = format!("ORDER BY {ordering} LIMIT {BATCH_ROWS}");
        Ok(Self {
            name: stream.name.clone(),
            path: stream.database.clone(),
            table: stream.table.clone(),
            topic: stream.topic.clone(),
            connection,
            order: order.len(),
            first: format!("{select} {tail}"),
            next: format!("{select} AND ({ordering}) > ({}) {tail}", marks(2)),
            encoder,
            after,
        })
    }

    /// Adds the next rows; whether there may be more.
    pub fn read(&mut self, batch: &mut Batch, until: i64) -> Result<bool, SourceError> {
        let Self { connection, encoder, topic, order, after, .. } = self;
        let sql = if after.is_some() { &self.next } else { &self.first };
        let mut values = vec![KeyValue::Integer(until)];
        values.extend(after.iter().flatten().cloned());
        let read = (|| {
            let mut statement = connection.prepare_cached(sql)?;
            let mut rows = statement.query(params_from_iter(values))?;
            let mut count = 0;
            while !batch.is_full() {
                let Some(row) = rows.next()? else { return Ok(Ok(count == BATCH_ROWS)) };
                count += 1;
                match encode(encoder, topic, *order, row, batch) {
                    Ok(reached) => *after = Some(reached),
                    Err(misfit) => return Ok(Err(misfit)),
                }
            }
            Ok(Ok(true))
        })();
        match read {
            Ok(Ok(more)) => Ok(more),
            Ok(Err((key, reason))) => {
                Err(SourceError::Row { name: self.name.clone(), table: self.table.clone(), key, reason })
            }
            Err(error) => Err(SourceError::database(&self.name, failed(&self.path, "read a table", error))),
        }
    }
}

/// The row's place in the order, or its key and what is wrong with it.
fn encode(
    encoder: &mut RowEncoder,
    topic: &str,
    order: usize,
    row: &Row<'_>,
    batch: &mut Batch,
) -> Result<Vec<KeyValue>, (String, String)> {
    let first = 1 + order;
    let key = encoder.key(row, first).map_err(|misfit| (String::new(), misfit.to_string()))?;
    let told = |reason: String| (String::from_utf8_lossy(&key).into_owned(), reason);
    let reached = (1..first).map(|n| match row.get_ref(n) {
        Ok(ValueRef::Integer(number)) => Ok(KeyValue::Integer(number)),
        Ok(ValueRef::Text(text)) => Ok(KeyValue::Text(String::from_utf8_lossy(text).into_owned())),
        _ => Err(told("the columns that rows are ordered by have to be INTEGER or TEXT".to_owned())),
    });
    let reached = reached.collect::<Result<Vec<_>, _>>()?;
    let value = encoder.value(row, first).map_err(|misfit| told(misfit.to_string()))?;
    let time = match row.get_ref(0) {
        Ok(ValueRef::Integer(time)) => Some(time),
        _ => None,
    };
    batch.push(topic, time, key, Some(value));
    Ok(reached)
}
