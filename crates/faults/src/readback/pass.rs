//! One reading of one partition, from its beginning to its end.

use anyhow::{Result, bail};
use bytes::Bytes;
use headwater_wire::{BatchHeader, ErrorCode, batch};

use super::PartitionRead;
use super::aborted::Aborted;
use crate::kafka::{At, Connection, Failure, Isolation, PartitionFetched};
use crate::record;

/// More refused offsets than this in one partition end the reading of it.
const MOST_REFUSED: usize = 20_000;
/// No batch of the harness has more records.
const WIDEST_DAMAGE: i64 = 64;
/// So many answers without a batch, before the end, are a partition that is stuck.
const MOST_EMPTY: usize = 3;

pub struct Pass<'a> {
    connection: &'a mut Connection,
    seed: u64,
    at: At,
    isolation: Isolation,
    /// The offset to be read next.
    position: i64,
    read: &'a mut PartitionRead,
}

impl<'a> Pass<'a> {
    pub fn new(
        connection: &'a mut Connection,
        seed: u64,
        at: At,
        isolation: Isolation,
        read: &'a mut PartitionRead,
    ) -> Result<Self> {
        let position = connection.earliest(&at)?;
        Ok(Self { connection, seed, at, isolation, position, read })
    }

    pub fn run(mut self) -> Result<()> {
        let mut empty = 0;
        loop {
            let from = [(self.at.clone(), self.position)];
            let mut answer = self.connection.fetch(&from, self.isolation, 0)?;
            let Some(fetched) = answer.pop() else { bail!("an empty answer to a fetch") };
            let before = self.position;
            match &fetched.error {
                Ok(()) => self.take(fetched),
                Err(failure) => self.step_over(failure)?,
            }
            if self.read.high_watermark > 0 && self.position >= self.read.high_watermark
                || self.read.high_watermark == 0 && self.position == before
            {
                return Ok(());
            }
            empty = if self.position == before { empty + 1 } else { 0 };
            if empty > MOST_EMPTY {
                self.stuck();
                return Ok(());
            }
        }
    }

    fn stuck(&mut self) {
        self.read.damaged.push(format!(
            "{}/{} gives nothing at {}, before its end {} ({:?})",
            self.at.0, self.at.1, self.position, self.read.high_watermark, self.isolation
        ));
    }

    /// Goes on behind what cannot be read, and remembers it; any other failure ends the reading.
    fn step_over(&mut self, failure: &Failure) -> Result<()> {
        match failure.code() {
            Some(ErrorCode::OffsetOutOfRange) => {
                let earliest = self.connection.earliest(&self.at)?;
                if earliest <= self.position {
                    bail!("{failure} at {}, where the partition begins at {earliest}", self.position);
                }
                self.position = earliest;
            }
            Some(
                ErrorCode::CorruptMessage | ErrorCode::KafkaStorageError | ErrorCode::UnknownServerError,
            ) if self.read.refused.len() < MOST_REFUSED => {
                self.refuse(1, &failure.to_string());
            }
            _ => bail!("{failure} at {}", self.position),
        }
        Ok(())
    }

    fn refuse(&mut self, records: i64, reason: &str) {
        let offsets = self.position..self.position + records;
        self.read.refused.extend(offsets.map(|offset| (offset, reason.to_owned())));
        self.position += records;
    }

    /// Puts the batches of one answer where they belong.
    fn take(&mut self, fetched: PartitionFetched) {
        self.read.log_start = fetched.log_start;
        self.read.high_watermark = fetched.high_watermark;
        let mut aborted = Aborted::listed(&fetched.aborted);
        let mut bytes = fetched.records;
        while let Ok(header) = BatchHeader::read(&bytes) {
            let one = bytes.split_to(header.size);
            if header.last_offset() < self.position {
                continue;
            }
            match header.verify(&one) {
                Ok(()) => {
                    self.take_batch(&header, &one, &mut aborted);
                    self.position = header.last_offset() + 1;
                }
                Err(error) => {
                    let (topic, partition) = &self.at;
                    let base = header.base_offset;
                    let damage = format!("{topic}/{partition} serves a damaged batch at {base}: {error}");
                    if !self.read.damaged.contains(&damage) {
                        self.read.damaged.push(damage);
                    }
                    // Reported once, as damage; not again as a gap.
                    let records = (header.last_offset() + 1 - self.position).clamp(1, WIDEST_DAMAGE);
                    self.refuse(records, &error.to_string());
                }
            }
        }
    }

    fn take_batch(&mut self, header: &BatchHeader, one: &Bytes, aborted: &mut Aborted) {
        let committed = self.isolation == Isolation::Committed;
        let hidden = committed && aborted.hides(header, one);
        if header.is_control() {
            if !committed {
                self.read.controls.push((header.base_offset, header.last_offset()));
            }
            return;
        }
        if hidden {
            return;
        }
        let records = match batch::decode(header, one) {
            Ok(records) => records,
            Err(error) => {
                self.read.damaged.push(format!("batch at {}: {error}", header.base_offset));
                return;
            }
        };
        let into = if committed { &mut self.read.committed } else { &mut self.read.records };
        for record in records.iter().filter(|record| record.offset >= self.position) {
            let id = record::decode(self.seed, record.key.as_deref(), record.value.as_deref());
            into.push((record.offset, id));
        }
    }
}
