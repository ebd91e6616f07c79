//! Bulk: a whole table once, in the order of its key, as keyed upserts.
//!
//! Rows that change while a large table is read may be told in their old or their new state, each once; nothing is
//! told twice after a restart. When it is done, the source ends, and ends at once when it is started again; another
//! `run_label` publishes the table again. Rows deleted meanwhile keep their last value in the topic.

use headwater_client::Client;
use headwater_registry::RegistryClient;

use super::open_existing;
use super::position::Position;
use super::publish::{Batch, Feed, Plan, Read, Source};
use super::row::{Layout, RowEncoder};
use super::scan::Scan;
use super::table::{Table, TableStream};
use crate::{DatabaseError, SourceError, SourceHandle};

pub struct BulkSource {
    bulk: Bulk,
    client: Client,
    registry: RegistryClient,
    handle: SourceHandle,
}

impl BulkSource {
    pub fn new(stream: TableStream, client: Client, registry: RegistryClient) -> Self {
        let bulk = Bulk { stream, label: String::new() };
        Self { bulk, client, registry, handle: SourceHandle::new() }
    }

    /// A label that was not published yet publishes the table again.
    pub fn run_label(mut self, label: impl Into<String>) -> Self {
        self.bulk.label = label.into();
        self
    }

    pub fn handle(&self) -> SourceHandle {
        self.handle.clone()
    }

    /// Runs until the table is published or `stop`; returns how many rows it has published. May be dropped at any time.
    pub async fn run(self, stop: impl Future<Output = ()> + Send) -> Result<u64, SourceError> {
        let mut source = Source::new(self.bulk, self.client, self.registry);
        source.handle = self.handle;
        source.run(stop).await
    }
}

struct Bulk {
    stream: TableStream,
    label: String,
}

impl Plan for Bulk {
    fn stream(&self) -> &TableStream {
        &self.stream
    }

    fn prepare(&self) -> Result<Layout, DatabaseError> {
        let connection = open_existing(&self.stream.database, false)?;
        Layout::new(&Table::describe(&connection, &self.stream.database, &self.stream.table)?, &self.stream)
    }

    fn open(
        &self,
        encoder: RowEncoder,
        position: Option<Position>,
        _handle: &SourceHandle,
    ) -> Result<Box<dyn Feed>, SourceError> {
        let (after, done) = match position {
            None => (None, false),
            Some(Position::Bulk { label, after, done }) if label == self.label => (after, done),
            Some(Position::Bulk { .. }) => (None, false),
            Some(other) => {
                let (found, expected) = (other.describe(), "a bulk source".to_owned());
                return Err(SourceError::ForeignPosition { name: self.stream.name.clone(), found, expected });
            }
        };
        let order: Vec<String> = encoder.layout().key_columns().map(str::to_owned).collect();
        let scan = Scan::open(&self.stream, &order, None, encoder, after)?;
        Ok(Box::new(BulkFeed { scan, label: self.label.clone(), done }))
    }
}

struct BulkFeed {
    scan: Scan,
    label: String,
    done: bool,
}

impl Feed for BulkFeed {
    fn read(&mut self, batch: &mut Batch, _finishing: bool) -> Result<Read, SourceError> {
        if self.done {
            return Ok(Read::Done);
        }
        self.done = !self.scan.read(batch, 0)?;
        let (label, after) = (self.label.clone(), self.scan.after.clone());
        // Also for an empty table: that it was empty is known then.
        batch.position = Some(Position::Bulk { label, after, done: self.done });
        Ok(Read::More)
    }
}
