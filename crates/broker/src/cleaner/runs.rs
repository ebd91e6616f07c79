//! Copies that take the place of other files, in files of the size of a journal: whoever needs all of a file at once
//! (an index that is built again, a backup, a mirror, what comes back from the cold store) never needs more.

use headwater_log::{Extent, LogError, PartitionId, Reader, RunWriter};

use super::CleanError;
use crate::engine::Engine;
use crate::mirror::LogDisk;

/// Runs of one partition. Nobody knows of them until they are installed; they go again unless they are finished.
pub struct Runs {
    reader: Reader<LogDisk>,
    engine: Engine,
    /// What has grown to so much is followed by the next.
    most: u64,
    runs: Vec<RunWriter<LogDisk>>,
    /// The broker stops, and what came since is nowhere.
    stops: bool,
}

impl Runs {
    pub fn new(reader: Reader<LogDisk>, engine: Engine, most: u64) -> Self {
        Self { reader, engine, most, runs: Vec::new(), stops: false }
    }

    /// Adds a batch; they come in offset order.
    pub fn push(&mut self, id: PartitionId, batch: &[u8]) -> Result<(), LogError> {
        if self.runs.last().is_none_or(|run| run.bytes() >= self.most) {
            self.begin()?;
        }
        match self.runs.last_mut() {
            Some(run) if !self.stops => run.push(id, batch),
            _ => Ok(()),
        }
    }

    fn begin(&mut self) -> Result<(), LogError> {
        if let Some(full) = self.runs.last_mut() {
            full.rest()?;
        }
        match self.engine.run_number() {
            Some(number) => self.runs.push(self.reader.begin_run(number)?),
            None => self.stops = true,
        }
        Ok(())
    }

    /// All of it is on disk; returns the extents, in their order.
    pub(super) fn finish(mut self) -> Result<Vec<Extent>, CleanError> {
        if self.stops {
            return Err(CleanError::Stopping);
        }
        // While none is finished all of them go, should there be no room for the rest.
        if let Some(last) = self.runs.last_mut() {
            last.rest()?;
        }
        let mut extents = Vec::new();
        for run in self.runs {
            extents.extend(run.finish()?.into_iter().map(|(_, extent)| extent));
        }
        Ok(extents)
    }
}
