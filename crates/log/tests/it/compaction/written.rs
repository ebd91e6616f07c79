//! A partition's batches as a broker would store them, and a consumer who reads them.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use headwater_log::compact::{AbortedRange, Outcome, Surveyed};
use headwater_log::compact::{
    ActiveProducers, CleanSettings, Cleaner, OffsetMap, Progress, Statistics, Survey,
};
use headwater_model::{Header, Record};
use headwater_wire::batch::{assign_offset, decode, marker_is_commit, transaction_marker};
use headwater_wire::{BatchBuilder, BatchHeader, Compression, Producer};

pub const CODECS: [Compression; 5] =
    [Compression::None, Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd];
pub const RETENTION: i64 = 1000;

/// A key and a value; `None` for none.
pub type Pair = (Option<u8>, Option<u8>);

#[derive(Default)]
pub struct Written {
    pub batches: Vec<Bytes>,
    pub aborted: Vec<AbortedRange>,
    pub open: BTreeMap<i64, i64>,
    pub next: i64,
    pub now: i64,
}

impl Written {
    pub fn append(&mut self, pairs: &[Pair], codec: Compression, transaction: Option<i64>) {
        let mut builder = BatchBuilder::new();
        for (key, value) in pairs {
            self.now += 1;
            let key = key.map(|key| vec![key; usize::from(key)]);
            let value = value.map(|value| vec![value; 20]);
            let headers = [Header { key: "at".into(), value: value.clone().map(Bytes::from) }];
            builder.push(self.now, key.as_deref(), value.as_deref(), &headers);
        }
        let producer = transaction.map(|id| Producer { id, epoch: 0, base_sequence: 0 });
        if let Some(id) = transaction {
            self.open.entry(id).or_insert(self.next);
        }
        self.push(&builder.build(codec, producer, transaction.is_some()).unwrap());
    }

    pub fn end(&mut self, producer_id: i64, commit: bool) {
        let Some(first_offset) = self.open.remove(&producer_id) else { return };
        if !commit {
            self.aborted.push(AbortedRange { producer_id, first_offset, last_offset: self.next });
        }
        self.push(&transaction_marker(producer_id, 0, commit, 0, self.now));
    }

    fn push(&mut self, batch: &[u8]) {
        let mut batch = batch.to_vec();
        assign_offset(&mut batch, self.next, 0);
        let batch = Bytes::from(batch);
        self.next = header(&batch).last_offset() + 1;
        self.batches.push(batch);
    }

    pub fn last_stable(&self) -> i64 {
        self.open.values().copied().min().unwrap_or(self.next)
    }

    pub fn survey(&self, memory: usize, first_dirty: i64) -> Surveyed {
        let map = OffsetMap::with_memory(memory, [3, 4]).unwrap();
        let mut survey = Survey::new(map, first_dirty, &self.aborted);
        for batch in &self.batches {
            if header(batch).last_offset() < first_dirty || header(batch).base_offset >= self.last_stable() {
                continue;
            }
            if let Progress::Full { .. } = survey.add(batch).unwrap() {
                break;
            }
        }
        survey.finish()
    }

    /// Replaces the batches by the cleaned ones; returns what was done.
    pub fn clean(&mut self, surveyed: &Surveyed, active: &ActiveProducers) -> Statistics {
        let settings = CleanSettings { now: self.now, delete_retention_ms: RETENTION };
        let mut cleaner = Cleaner::new(surveyed, settings, &self.aborted, active.clone());
        let mut cleaned = Vec::new();
        for batch in &self.batches {
            match cleaner.clean(batch).unwrap() {
                Outcome::AsIs => cleaned.push(batch.clone()),
                Outcome::Rewritten(batch) => cleaned.push(batch),
                Outcome::Dropped => {}
            }
        }
        // The last batches may lie past the survey's end, and are counted as they are.
        let statistics = cleaner.statistics();
        let sum = |batches: &[Bytes]| batches.iter().map(|batch| batch.len() as u64).sum::<u64>();
        assert_eq!((statistics.bytes_in, statistics.bytes_out), (sum(&self.batches), sum(&cleaned)));
        self.aborted = cleaner.aborted_left();
        self.batches = cleaned;
        statistics
    }

    /// Every record of a data batch, whoever wrote it, and whatever became of it.
    pub fn records(&self) -> Vec<Record> {
        let data = self.batches.iter().filter(|batch| !header(batch).is_control());
        data.flat_map(|batch| decode(&header(batch), batch).unwrap()).collect()
    }

    /// What a read_committed consumer gets below the last stable offset: told of the aborted
    /// transactions, it skips what their producers wrote until their markers come.
    pub fn committed(&self) -> Vec<Record> {
        let mut told = self.aborted.clone();
        told.sort_by_key(|range| range.first_offset);
        let mut told = told.into_iter().peekable();
        let mut skipped = BTreeSet::new();
        let mut records = Vec::new();
        for batch in self.batches.iter().take_while(|batch| header(batch).base_offset < self.last_stable()) {
            let header = header(batch);
            while let Some(range) = told.next_if(|range| range.first_offset <= header.last_offset()) {
                skipped.insert(range.producer_id);
            }
            if header.is_control() {
                if marker_is_commit(batch) == Some(false) {
                    skipped.remove(&header.producer_id);
                }
            } else if !(header.is_transactional() && skipped.contains(&header.producer_id)) {
                records.extend(decode(&header, batch).unwrap());
            }
        }
        records
    }

    /// Producers whose transactions would be taken for open by one who reads the log alone.
    pub fn looks_open(&self) -> BTreeSet<i64> {
        let mut open = BTreeSet::new();
        for header in self.batches.iter().map(header).filter(BatchHeader::is_transactional) {
            if header.is_control() {
                open.remove(&header.producer_id);
            } else {
                open.insert(header.producer_id);
            }
        }
        open
    }
}

pub fn header(batch: &Bytes) -> BatchHeader {
    let header = BatchHeader::read(batch).unwrap();
    header.verify(batch).unwrap();
    header
}

/// The table that a reader builds: the last record of each key, unless it is a tombstone.
pub fn fold(records: &[Record]) -> BTreeMap<Vec<u8>, Record> {
    let mut table = BTreeMap::new();
    for record in records {
        let Some(key) = &record.key else { continue };
        match record.value {
            Some(_) => table.insert(key.to_vec(), record.clone()),
            None => table.remove(&key[..]),
        };
    }
    table
}
