//! Incremental query: rows whose `(updated_at, id)` is above the last seen one.
//!
//! Sees inserts and updates that set `updated_at`. Does not see: deletes; rows with a NULL in `updated_at` or `id`;
//! rows that become visible with an `(updated_at, id)` below the last seen one, which happens when a slow transaction
//! commits after a faster one, or when two changes share a millisecond. `settle` closes that window where `updated_at` is
//! the wall clock. A source that must see everything is an outbox.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use headwater_client::Client;
use headwater_registry::RegistryClient;

use super::open_existing;
use super::position::Position;
use super::publish::{Batch, Feed, Plan, Read, Source};
use super::row::{Layout, RowEncoder};
use super::scan::Scan;
use super::table::{Table, TableStream};
use crate::{DatabaseError, SourceError, SourceHandle};

/// The columns that tell new rows from known ones.
#[derive(Debug, Clone)]
pub struct Cursor {
    /// INTEGER (UTC milliseconds) or TEXT that sorts by time; an index over both columns makes the query cheap.
    pub updated_at: String,
    /// Tells rows of one `updated_at` apart.
    pub id: String,
    /// Rows younger than this by the wall clock wait; needs `updated_at` in milliseconds. Zero: none waits.
    pub settle: Duration,
}

pub struct QuerySource(Source);

impl QuerySource {
    pub fn new(stream: TableStream, cursor: Cursor, client: Client, registry: RegistryClient) -> Self {
        Self(Source::new(Query { stream, cursor }, client, registry))
    }

    pub fn handle(&self) -> SourceHandle {
        self.0.handle.clone()
    }

    /// Runs until `stop`, or until told to finish; returns how many rows it has published. May be dropped at any time.
    pub async fn run(self, stop: impl Future<Output = ()> + Send) -> Result<u64, SourceError> {
        self.0.run(stop).await
    }
}

struct Query {
    stream: TableStream,
    cursor: Cursor,
}

impl Plan for Query {
    fn stream(&self) -> &TableStream {
        &self.stream
    }

    fn prepare(&self) -> Result<Layout, DatabaseError> {
        let connection = open_existing(&self.stream.database, false)?;
        let table = Table::describe(&connection, &self.stream.database, &self.stream.table)?;
        table.column(&self.cursor.updated_at)?;
        table.column(&self.cursor.id)?;
        Layout::new(&table, &self.stream)
    }

    fn open(
        &self,
        encoder: RowEncoder,
        position: Option<Position>,
        _handle: &SourceHandle,
    ) -> Result<Box<dyn Feed>, SourceError> {
        let after = match position {
            None => None,
            Some(Position::Query { after }) if after.len() == 2 => Some(after),
            Some(other) => {
                let (found, expected) = (other.describe(), "a query source".to_owned());
                return Err(SourceError::ForeignPosition { name: self.stream.name.clone(), found, expected });
            }
        };
        let order = [self.cursor.updated_at.clone(), self.cursor.id.clone()];
        let settle = self.cursor.settle;
        let until = (!settle.is_zero()).then_some(self.cursor.updated_at.as_str());
        Ok(Box::new(QueryFeed { scan: Scan::open(&self.stream, &order, until, encoder, after)?, settle }))
    }
}

struct QueryFeed {
    scan: Scan,
    settle: Duration,
}

impl Feed for QueryFeed {
    fn read(&mut self, batch: &mut Batch, finishing: bool) -> Result<Read, SourceError> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let settled = now.saturating_sub(self.settle).as_millis() as i64;
        let until = if finishing || self.settle.is_zero() { i64::MAX } else { settled };
        let more = self.scan.read(batch, until)?;
        if !batch.records.is_empty() {
            batch.position = self.scan.after.clone().map(|after| Position::Query { after });
        }
        Ok(if more { Read::More } else { Read::Drained })
    }
}
