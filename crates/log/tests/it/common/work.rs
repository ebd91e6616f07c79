//! What is done to a log: batches, transactions, moves, removals.

use bytes::Bytes;
use headwater_log::{Durability, Extent, FileId, LogError, Move, Origin, PartitionId};
use headwater_wire::{BatchBuilder, Compression, Producer, batch};
use rand::Rng;

use super::id;
use super::model::{ModelPartition, Sent};
use super::world::World;

impl World {
    pub(super) fn pick(&mut self) -> PartitionId {
        let slot = self.rng.random_range(0..4);
        self.slot(slot)
    }

    pub(super) fn slot(&self, slot: u8) -> PartitionId {
        id(slot + 8 * self.generations[usize::from(slot)])
    }

    pub(super) fn gone(&mut self, at: PartitionId) {
        self.staged.partitions.remove(&at);
        let slot = (0..4).find(|&slot| self.slot(slot) == at).expect("it has a slot");
        self.generations[usize::from(slot)] += 1;
    }

    pub fn batch(&mut self, producer: Option<Producer>, transactional: bool) -> (Bytes, Vec<Bytes>) {
        let mut builder = BatchBuilder::new();
        let mut values = Vec::new();
        for _ in 0..self.rng.random_range(1..5) {
            self.serial += 1;
            let value =
                Bytes::from(format!("value {} {}", self.serial, "x".repeat(self.rng.random_range(0..200))));
            builder.push(self.serial as i64, None, Some(&value), &[]);
            values.push(value);
        }
        (builder.build(Compression::None, producer, transactional).expect("it builds"), values)
    }

    pub(super) fn append(&mut self) {
        let durability = if self.rng.random_bool(0.2) { Durability::Unsynced } else { Durability::Synced };
        let at = self.pick();
        let writer = self.rng.random_range(0..5_i64);
        let exists = self.staged.partitions.contains_key(&at);
        if writer == 0 || !exists {
            let (bytes, values) = self.batch(None, false);
            let outcome = self.log.append(at, &bytes, Origin::Client, durability, 0);
            assert_eq!(outcome.is_ok(), exists, "{outcome:?}");
            if exists {
                self.note(at, -1, false, values, outcome.expect("checked").base_offset);
            }
            return;
        }
        // Producers 1 and 2 are idempotent, 3 and 4 transactional.
        let transactional = writer > 2;
        let key = (at, writer);
        if self.rng.random_bool(0.1)
            && let Some((bytes, base)) = self.last_sent.get(&key).cloned()
        {
            let again = self.log.append(at, &bytes, Origin::Client, durability, 0).expect("a retry is fine");
            assert!(again.duplicate && again.base_offset == base, "{again:?}, first at {base}");
            return;
        }
        let sequence = self.sequences.entry(key).or_default();
        if self.rng.random_bool(0.05) {
            sequence.epoch += 1;
            sequence.next = 0;
        }
        let mut sequence = *sequence;
        let wrong = sequence.next > 0 && self.rng.random_bool(0.05);
        let base_sequence = if wrong { sequence.next + 3 } else { sequence.next };
        let producer = Producer { id: writer, epoch: sequence.epoch, base_sequence };
        let (bytes, values) = self.batch(Some(producer), transactional);
        let outcome = self.log.append(at, &bytes, Origin::Client, durability, 0);
        if wrong {
            assert!(matches!(outcome, Err(LogError::OutOfOrderSequence { .. })), "{outcome:?}");
            return;
        }
        let base = outcome.expect("the right sequence").base_offset;
        sequence.next += values.len() as i32;
        self.sequences.insert(key, sequence);
        self.last_sent.insert(key, (bytes, base));
        self.note(at, writer, transactional, values, base);
    }

    pub(super) fn note(
        &mut self,
        at: PartitionId,
        producer: i64,
        transactional: bool,
        values: Vec<Bytes>,
        base: i64,
    ) {
        let partition = self.staged.partitions.get_mut(&at).expect("it exists");
        assert_eq!(partition.records.len() as i64, base, "offsets are dense");
        partition.records.extend(values.into_iter().map(|value| Sent {
            value: Some(value),
            producer,
            transactional,
            marker: None,
        }));
    }

    pub(super) fn end_transaction(&mut self) {
        let at = self.pick();
        let writer = self.rng.random_range(3..5_i64);
        let Some(partition) = self.staged.partitions.get_mut(&at) else { return };
        let open = partition
            .records
            .iter()
            .rev()
            .find(|sent| sent.producer == writer)
            .is_some_and(|sent| sent.marker.is_none());
        if !open {
            return;
        }
        let commit = self.rng.random_bool(0.5);
        let epoch = self.sequences[&(at, writer)].epoch;
        let bytes = batch::transaction_marker(writer, epoch, commit, 0, 0);
        self.log.append(at, &bytes, Origin::Broker, Durability::Synced, 0).expect("a marker");
        partition.records.push(Sent {
            value: None,
            producer: writer,
            transactional: true,
            marker: Some(commit),
        });
    }

    pub(super) fn create_or_trim(&mut self) {
        let at = self.pick();
        if !self.staged.partitions.contains_key(&at) {
            self.log.create_partition(at).expect("created");
            self.staged.partitions.insert(at, ModelPartition::default());
            return;
        }
        let Some(end) = self.durable.partitions.get(&at).map(|p| p.records.len() as i64) else { return };
        let to = self.rng.random_range(0..=end);
        self.log.delete_before(at, to).expect("trimmed");
        let partition = self.staged.partitions.get_mut(&at).expect("it exists");
        partition.log_start = partition.log_start.max(to);
    }

    /// Copies whole extents of finished files to a run, as they are.
    pub(super) fn relocate(&mut self) {
        let at = self.pick();
        let reader = self.log.reader();
        let Ok(usage) = reader.usage(at) else { return };
        let newest = self.newest_journal();
        let finished: Vec<Extent> =
            usage.extents.into_iter().filter(|extent| extent.file != newest).collect();
        if finished.is_empty() {
            self.log.roll();
            return;
        }
        let from = self.rng.random_range(0..finished.len());
        let to = self.rng.random_range(from..finished.len());
        let number = self.log.take_run_number();
        let mut run = reader.begin_run(number).expect("a run begins");
        for extent in &finished[from..=to] {
            let copied = reader.each_batch(at, extent, |bytes| run.push(at, &bytes));
            copied.expect("every batch is good");
        }
        let extents =
            run.finish().expect("the run is written").into_iter().map(|(_, extent)| extent).collect();
        if self.rng.random_bool(0.1) {
            // Nobody is told of it.
            return;
        }
        let replaces = finished[from..=to].iter().map(|extent| extent.file).collect();
        if self.rng.random_bool(0.1) && self.log.delete_partition(at).is_ok() {
            self.gone(at);
        }
        self.log
            .install(Move { id: at, replaces, extents, cleaned: None, aborted: Vec::new() })
            .expect("installed");
    }

    /// Some finished file goes to the store.
    pub fn cool(&mut self) {
        let newest = self.newest_journal().number();
        let files = self.log.reader().files().expect("files");
        let candidates: Vec<FileId> = files
            .into_iter()
            .filter(|file| file.local && !file.cold && file.live > 0)
            .map(|file| file.file)
            .filter(|file| file.is_run() || file.number() + 1 < newest)
            .collect();
        if candidates.is_empty() {
            self.log.roll();
            return;
        }
        let file = candidates[self.rng.random_range(0..candidates.len())];
        let reader = self.log.reader();
        if reader.claim_cold_store(self.opened).is_err() {
            return;
        }
        if let Ok(cold) = reader.upload(file) {
            self.log.cool(cold).expect("cooled");
        }
    }

    pub(super) fn delete(&mut self) {
        let at = self.pick();
        if self.log.delete_partition(at).is_ok() {
            self.gone(at);
        }
    }

    pub(super) fn do_chores(&mut self) {
        self.chores.extend(self.log.take_chores());
        for chore in std::mem::take(&mut self.chores) {
            if let Ok(Some(spare)) = chore.run() {
                self.log.spare_ready(spare);
            }
        }
    }
}
