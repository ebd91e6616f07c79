//! The log beside a naive model of it, over a disk that crashes; what happens is drawn from a seed.
#![allow(dead_code)]

pub mod mirror;

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use headwater_log::{
    Chore, ColdStore, CommitJob, CommitTicket, Disk, Durability, Extent, Faults, FileId, InTurn, Isolation,
    Log, LogError, MirroredDisk, Mirroring, Move, Origin, Orphans, PartitionId, Settings, Side, SimDisk,
};
use headwater_wire::{BatchBuilder, BatchHeader, Compression, Producer, batch};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

pub const SETTINGS: Settings =
    Settings { segment_bytes: 4096, spares: 1, producer_expiration_ms: i64::MAX / 2 };

/// What one record looked like when it was sent, and who sent it.
#[derive(Debug, Clone, PartialEq)]
pub struct Sent {
    value: Option<Bytes>,
    producer: i64,
    transactional: bool,
    /// Of a marker: commit or abort.
    marker: Option<bool>,
}

#[derive(Debug, Clone, Default, PartialEq)]
pub struct Model {
    pub partitions: BTreeMap<PartitionId, ModelPartition>,
}

#[derive(Debug, Clone, Default, PartialEq)]
pub struct ModelPartition {
    log_start: i64,
    records: Vec<Sent>,
}

impl ModelPartition {
    /// First offset of the earliest open transaction, or the end.
    fn last_stable(&self) -> i64 {
        let mut open: HashMap<i64, i64> = HashMap::new();
        for (offset, sent) in self.records.iter().enumerate() {
            if sent.marker.is_some() {
                open.remove(&sent.producer);
            } else if sent.transactional {
                open.entry(sent.producer).or_insert(offset as i64);
            }
        }
        open.values().copied().min().unwrap_or(self.records.len() as i64)
    }

    /// Values a read_committed consumer sees.
    fn committed_values(&self) -> Vec<Bytes> {
        let mut seen: Vec<(i64, Option<i64>, Bytes)> = Vec::new();
        let mut fate: HashMap<usize, bool> = HashMap::new();
        let mut open: HashMap<i64, Vec<usize>> = HashMap::new();
        for (offset, sent) in self.records.iter().enumerate() {
            match (sent.marker, &sent.value) {
                (Some(committed), _) => {
                    for place in open.remove(&sent.producer).unwrap_or_default() {
                        fate.insert(place, committed);
                    }
                }
                (None, Some(value)) => {
                    if sent.transactional {
                        open.entry(sent.producer).or_default().push(seen.len());
                    } else {
                        fate.insert(seen.len(), true);
                    }
                    seen.push((offset as i64, None, value.clone()));
                }
                _ => {}
            }
        }
        let stable = self.last_stable();
        let visible = seen.into_iter().enumerate().filter(|(place, (offset, _, _))| {
            *offset >= self.log_start && *offset < stable && fate.get(place).copied().unwrap_or(false)
        });
        visible.map(|(_, (_, _, value))| value).collect()
    }
}

/// A cold store that outlives crashes; it may spoil what is put there.
#[derive(Clone, Default)]
pub struct Store {
    pub objects: Arc<Mutex<BTreeMap<String, Vec<u8>>>>,
    pub spoils: Arc<AtomicBool>,
}

impl ColdStore for Store {
    fn put(&self, name: &str, mut bytes: Vec<u8>) -> std::io::Result<()> {
        if self.spoils.load(Ordering::Relaxed)
            && let Some(middle) = bytes.len().checked_sub(1).map(|last| last / 2)
        {
            bytes[middle] ^= 1;
        }
        self.objects.lock().expect("unpoisoned").insert(name.to_owned(), bytes);
        Ok(())
    }

    fn get(&self, name: &str) -> std::io::Result<Vec<u8>> {
        let found = self.objects.lock().expect("unpoisoned").get(name).cloned();
        found.ok_or_else(|| std::io::ErrorKind::NotFound.into())
    }

    fn delete(&self, name: &str) -> std::io::Result<()> {
        self.objects.lock().expect("unpoisoned").remove(name);
        Ok(())
    }

    fn size(&self, name: &str) -> std::io::Result<Option<u64>> {
        Ok(self.objects.lock().expect("unpoisoned").get(name).map(|bytes| bytes.len() as u64))
    }

    fn list(&self) -> std::io::Result<Vec<String>> {
        Ok(self.objects.lock().expect("unpoisoned").keys().cloned().collect())
    }
}

#[derive(Debug, Clone, Copy, Default)]
struct Sequence {
    epoch: i16,
    next: i32,
}

/// What the log of a world is on: one disk, or two.
pub type Disks = MirroredDisk<SimDisk>;

/// A second disk, and which of the two are not there at the next start.
pub struct Mirror {
    pub disk: SimDisk,
    pub away: [bool; 2],
}

pub struct World {
    pub rng: StdRng,
    pub disk: SimDisk,
    pub mirror: Option<Mirror>,
    /// The log's view of both.
    pub disks: Disks,
    opened: u64,
    pub store: Store,
    /// Whether files go to the store while it runs.
    pub cools: bool,
    /// Whether no sync fails and space is never short.
    pub steady: bool,
    pub log: Log<Disks>,
    /// Acknowledged, and what is on its way: the staged model and the one in flight.
    pub durable: Model,
    pub staged: Model,
    flying: Option<Model>,
    /// What was acknowledged since the last sync, oldest first: a power cut may leave any of it.
    unsynced: Vec<Model>,
    ticket: Option<(CommitTicket<Disks>, std::io::Result<()>)>,
    sequences: HashMap<(PartitionId, i64), Sequence>,
    last_sent: HashMap<(PartitionId, i64), (Bytes, i64)>,
    chores: Vec<Chore<Disks>>,
    /// How often the partition of each slot was deleted; a new one has another id.
    generations: [u8; 4],
    serial: u64,
    crashes: i16,
}

fn attach(disk: &SimDisk, mirror: Option<&Mirror>, opened: u64) -> Disks {
    let Some(mirror) = mirror else { return MirroredDisk::single(disk.clone()) };
    let side = |at: usize, disk: &SimDisk| Side {
        name: at.to_string(),
        disk: if mirror.away[at] { Err("it is away".to_owned()) } else { Ok(disk.clone()) },
    };
    let mirroring = Mirroring { required: false, seed: opened, beside: Arc::new(InTurn) };
    MirroredDisk::open([side(0, disk), side(1, &mirror.disk)], mirroring).expect("the mirror opens")
}

pub fn id(number: u8) -> PartitionId {
    PartitionId { topic_id: [number / 2; 16], partition: i32::from(number % 2) }
}

impl World {
    pub fn new(seed: u64, lying: bool) -> Self {
        let disk = SimDisk::new();
        disk.faults(|faults| faults.lying_sync = lying);
        Self::on(seed, disk, None)
    }

    pub fn mirrored(seed: u64) -> Self {
        Self::on(seed, SimDisk::new(), Some(Mirror { disk: SimDisk::new(), away: [false; 2] }))
    }

    fn on(seed: u64, disk: SimDisk, mirror: Option<Mirror>) -> Self {
        let store = Store::default();
        let disks = attach(&disk, mirror.as_ref(), 0);
        let log = Log::open_with(Arc::new(disks.clone()), SETTINGS, Some(Arc::new(store.clone())));
        let log = log.expect("a new log opens");
        Self {
            rng: StdRng::seed_from_u64(seed),
            disk,
            mirror,
            disks,
            opened: 0,
            store,
            cools: true,
            steady: false,
            log,
            durable: Model::default(),
            staged: Model::default(),
            flying: None,
            unsynced: Vec::new(),
            ticket: None,
            sequences: HashMap::new(),
            last_sent: HashMap::new(),
            chores: Vec::new(),
            generations: [0; 4],
            serial: 0,
            crashes: 0,
        }
    }

    fn pick(&mut self) -> PartitionId {
        let slot = self.rng.random_range(0..4);
        self.slot(slot)
    }

    fn slot(&self, slot: u8) -> PartitionId {
        id(slot + 8 * self.generations[usize::from(slot)])
    }

    fn gone(&mut self, at: PartitionId) {
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

    fn append(&mut self) {
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

    fn note(&mut self, at: PartitionId, producer: i64, transactional: bool, values: Vec<Bytes>, base: i64) {
        let partition = self.staged.partitions.get_mut(&at).expect("it exists");
        assert_eq!(partition.records.len() as i64, base, "offsets are dense");
        partition.records.extend(values.into_iter().map(|value| Sent {
            value: Some(value),
            producer,
            transactional,
            marker: None,
        }));
    }

    fn end_transaction(&mut self) {
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

    fn create_or_trim(&mut self) {
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
    fn relocate(&mut self) {
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

    pub fn reopened(&mut self) -> Log<Disks> {
        let store = Arc::new(self.store.clone());
        self.opened += 1;
        self.disks = attach(&self.disk, self.mirror.as_ref(), self.opened << 20);
        let log = Log::open_with(Arc::new(self.disks.clone()), SETTINGS, Some(store));
        let log = log.expect("it opens");
        let swept = log.reader().sweep_cold_store(&mut Orphans::default(), 0, 0, usize::MAX);
        swept.expect("the store is swept");
        log
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
        if let Ok(cold) = self.log.reader().upload(file) {
            self.log.cool(cold).expect("cooled");
        }
    }

    pub fn newest_journal(&self) -> FileId {
        let names = self.disks.list().expect("listed");
        let journals = names.iter().filter_map(|name| FileId::parse(name)).filter(|file| !file.is_run());
        journals.max().expect("there is a journal")
    }

    fn delete(&mut self) {
        let at = self.pick();
        if self.log.delete_partition(at).is_ok() {
            self.gone(at);
        }
    }

    fn do_chores(&mut self) {
        self.chores.extend(self.log.take_chores());
        for chore in std::mem::take(&mut self.chores) {
            if let Ok(Some(spare)) = chore.run() {
                self.log.spare_ready(spare);
            }
        }
    }

    pub fn begin(&mut self) {
        if self.ticket.is_some() {
            return;
        }
        if !self.steady && self.rng.random_bool(0.02) {
            let side = self.rng.random_range(0..2);
            self.on_side(side, |faults| faults.fail_next_sync = true);
        }
        if let Some(mut job) = self.log.begin_commit() {
            self.flying = Some(self.staged.clone());
            if !self.steady && self.rng.random_bool(0.05) {
                self.on_both(|faults| faults.full = true);
                match job.attempt() {
                    // A side may have gone meanwhile.
                    Err(refused) if self.mirror.is_none() => {
                        assert!(CommitJob::<Disks>::may_retry(&refused));
                    }
                    Err(_) => {}
                    Ok(()) => panic!("there is no space"),
                }
                self.on_both(|faults| faults.full = false);
            }
            self.ticket = Some(job.run());
        }
        self.on_both(|faults| faults.fail_next_sync = false);
    }

    /// Side 1 is the mirror's, when there is one.
    pub fn on_side(&self, side: usize, change: impl FnOnce(&mut Faults)) {
        match &self.mirror {
            Some(mirror) if side == 1 => mirror.disk.faults(change),
            _ => self.disk.faults(change),
        }
    }

    pub fn on_both(&self, change: impl Fn(&mut Faults)) {
        self.on_side(0, &change);
        self.on_side(1, &change);
    }

    pub fn end(&mut self) {
        let Some((ticket, outcome)) = self.ticket.take() else { return };
        let failed = outcome.is_err();
        let synced = ticket.synced();
        assert_eq!(self.log.end_commit(ticket, outcome).is_err(), failed);
        if failed {
            let refused = self.log.create_partition(id(0));
            assert!(matches!(refused, Err(LogError::Fenced(_))), "{refused:?}");
            self.crash();
        } else {
            let now = self.flying.take().expect("one was flying");
            match synced {
                true => self.unsynced.clear(),
                false => self.unsynced.push(std::mem::replace(&mut self.durable, now.clone())),
            }
            self.durable = now;
            self.check();
        }
    }

    /// Stopped and started without a crash: nothing is lost, unsynced or not.
    fn restart(&mut self) {
        self.end();
        self.begin();
        self.end();
        self.log = self.reopened();
        self.unsynced.clear();
        self.recovered();
    }

    /// Power off and on. What was acknowledged is there; a frame in flight is there as a whole or not.
    pub fn crash(&mut self) {
        let mut rng = StdRng::seed_from_u64(self.rng.random());
        self.disk = self.disk.crash(|| rng.random_bool(0.5));
        if let Some(mirror) = &mut self.mirror {
            mirror.disk = mirror.disk.crash(|| rng.random_bool(0.5));
        }
        self.log = self.reopened();
        let found = self.observe();
        let possible = self.unsynced.drain(..).chain([self.durable.clone()]).chain(self.flying.take());
        let possible: Vec<Model> = possible.collect();
        let shown: Vec<_> = possible.iter().map(Self::visible).collect();
        let at = shown.iter().position(|shown| *shown == found);
        let at =
            at.unwrap_or_else(|| panic!("what is on the disk is none of {} possible states", shown.len()));
        self.durable = possible.into_iter().nth(at).expect("it was found there");
        self.recovered();
    }

    fn recovered(&mut self) {
        self.ticket = None;
        self.flying = None;
        self.staged = self.durable.clone();
        self.chores.clear();
        assert_eq!(self.log.damage(), [], "a crash damages nothing");
        self.check();
        self.retry_what_is_there();
        // Producers learn where they stand from what is there.
        self.sequences.clear();
        self.last_sent.clear();
        self.crashes += 1;
        for number in 0..4 {
            for writer in 1..5 {
                self.sequences
                    .insert((self.slot(number), writer), Sequence { epoch: self.crashes * 100, next: 0 });
            }
        }
        self.do_chores();
        self.check();
        self.check_files();
    }

    /// A batch that survived is recognized when it is sent again.
    fn retry_what_is_there(&mut self) {
        for ((at, writer), (bytes, base)) in self.last_sent.clone() {
            let known = self.durable.partitions.get(&at).and_then(|p| p.records.get(base as usize));
            let size = BatchHeader::read(&bytes).expect("a batch").record_count;
            let ours = known.is_some_and(|sent| {
                let values =
                    batch::decode(&BatchHeader::read(&bytes).expect("a batch"), &bytes).expect("records");
                sent.producer == writer && sent.value == values[0].value && size > 0
            });
            if ours {
                let again = self.log.append(at, &bytes, Origin::Client, Durability::Synced, 0);
                let again = again.expect("a retry is fine after a restart");
                assert!(again.duplicate && again.base_offset == base, "{again:?}, first at {base}");
            }
        }
    }

    /// No file is left that nobody needs, but for two journals and spares.
    fn check_files(&self) {
        let needed: Vec<FileId> = self
            .log
            .partitions()
            .into_iter()
            .flat_map(|id| {
                let usage = self.log.reader().usage(id).expect("it exists");
                usage.extents.into_iter().map(|extent| extent.file)
            })
            .collect();
        let newest = self.newest_journal().number();
        for name in self.disks.list().expect("listed") {
            if let Some(file) = FileId::parse(&name) {
                let kept = needed.contains(&file) || (!file.is_run() && file.number() + 1 >= newest);
                assert!(kept, "{name} is left, and nobody needs it");
            }
        }
    }

    pub fn visible(model: &Model) -> Visible {
        let view = |partition: &ModelPartition| {
            let end = partition.records.len() as i64;
            (partition.log_start, end, partition.last_stable(), partition.committed_values())
        };
        model.partitions.iter().map(|(id, partition)| (*id, view(partition))).collect()
    }

    pub fn observe(&self) -> Visible {
        Self::observe_log(&self.log)
    }

    pub fn observe_log<D: Disk>(log: &Log<D>) -> Visible {
        let reader = log.reader();
        let mut found = BTreeMap::new();
        for id in log.partitions() {
            let offsets = reader.offsets(id).expect("offsets");
            let mut values = Vec::new();
            let mut aborted: Vec<(i64, i64)> = Vec::new();
            let mut at = offsets.log_start;
            while at < offsets.last_stable {
                let fetched = reader.read(id, at, 700, Isolation::Committed).expect("read");
                for transaction in fetched.aborted {
                    let known = (transaction.first_offset, transaction.producer_id);
                    if !aborted.contains(&known) {
                        aborted.push(known);
                    }
                }
                let mut rest = fetched.records;
                assert!(!rest.is_empty(), "nothing at {at} below {}", offsets.last_stable);
                while !rest.is_empty() {
                    let header = BatchHeader::read(&rest).expect("a batch");
                    header.verify(&rest).expect("its checksum");
                    let whole = rest.split_to(header.size);
                    at = header.last_offset() + 1;
                    if header.is_control() {
                        aborted.retain(|(first, producer)| {
                            *producer != header.producer_id || *first > header.base_offset
                        });
                        continue;
                    }
                    let skipped = header.is_transactional()
                        && aborted
                            .iter()
                            .any(|(first, p)| *p == header.producer_id && header.base_offset >= *first);
                    if !skipped {
                        let records = batch::decode(&header, &whole).expect("records");
                        values.extend(
                            records
                                .into_iter()
                                .filter(|r| r.offset >= offsets.log_start)
                                .filter_map(|r| r.value),
                        );
                    }
                }
            }
            found.insert(id, (offsets.log_start, offsets.high_watermark, offsets.last_stable, values));
        }
        found
    }

    pub fn check(&self) {
        let (log, model) = (self.observe(), Self::visible(&self.durable));
        for id in log.keys().chain(model.keys()) {
            assert_eq!(log.get(id), model.get(id), "{id}; left: the log, right: the model");
        }
    }

    pub fn run(&mut self, steps: usize) {
        for _ in 0..steps {
            if self.rng.random_bool(0.003) {
                self.log.roll();
            }
            match self.rng.random_range(0..100) {
                0..55 => self.append(),
                55..64 => self.end_transaction(),
                64..70 => self.create_or_trim(),
                70..72 => self.relocate(),
                72..84 => self.begin(),
                84..95 => self.end(),
                95 => {
                    self.do_chores();
                    if self.cools {
                        self.cool();
                    }
                }
                96 => self.delete(),
                97 => self.restart(),
                _ => self.crash(),
            }
        }
    }
}

impl World {
    /// All that is staged is on disk, and no work is left.
    pub fn settle(&mut self) {
        self.end();
        for _ in 0..2 {
            self.begin();
            self.end();
        }
        self.do_chores();
    }
}

/// Log start, high watermark, last stable offset and committed values of every partition.
pub type Visible = BTreeMap<PartitionId, (i64, i64, i64, Vec<Bytes>)>;

impl World {
    /// As [`Self::run`], on a machine that does not fail. Returns what became visible, in its order.
    pub fn live(&mut self, steps: usize) -> Vec<Visible> {
        let mut shown = Vec::new();
        for _ in 0..steps {
            if self.rng.random_bool(0.02) {
                self.log.roll();
            }
            match self.rng.random_range(0..100) {
                0..50 => self.append(),
                50..58 => self.end_transaction(),
                58..64 => self.create_or_trim(),
                64..70 => self.relocate(),
                70..80 => shown.extend(self.begin_without_faults()),
                80..90 => self.end(),
                90..96 => self.do_chores(),
                96..98 => self.delete(),
                98 => self.cool(),
                _ => {
                    self.end();
                    shown.extend(self.begin_without_faults());
                    self.end();
                    self.log = self.reopened();
                    self.unsynced.clear();
                    self.recovered();
                }
            }
        }
        shown
    }

    fn begin_without_faults(&mut self) -> Option<Visible> {
        if self.ticket.is_none()
            && let Some(job) = self.log.begin_commit()
        {
            self.flying = Some(self.staged.clone());
            self.ticket = Some(job.run());
            return self.on_its_way();
        }
        None
    }

    /// What will be visible when the commit under way ends.
    pub fn on_its_way(&self) -> Option<Visible> {
        self.flying.as_ref().map(Self::visible)
    }
}

type Records = BTreeMap<PartitionId, BTreeMap<i64, Bytes>>;

/// Every batch that can be read, by its base offset, and what is known to be damaged then.
pub fn read_all<D: Disk>(log: &Log<D>) -> (Records, Vec<(PartitionId, headwater_log::Damage)>) {
    let reader = log.reader();
    let mut all = Records::new();
    for id in log.partitions() {
        let offsets = reader.offsets(id).expect("offsets");
        let of_partition = all.entry(id).or_default();
        let mut at = offsets.log_start;
        while at < offsets.high_watermark {
            let fetched = match reader.read(id, at, 500, Isolation::Uncommitted) {
                Ok(fetched) => fetched,
                Err(LogError::Damaged { damage, .. }) => {
                    at = damage.last + 1;
                    continue;
                }
                Err(error) => panic!("{id} at {at}: {error}"),
            };
            let mut rest = fetched.records;
            if rest.is_empty() {
                break;
            }
            while !rest.is_empty() {
                let header = BatchHeader::read(&rest).expect("a batch");
                at = header.last_offset() + 1;
                of_partition.insert(header.base_offset, rest.split_to(header.size));
            }
        }
    }
    (all, reader.damage())
}

/// What was there is there with its bytes, or named, or (from `cut` on) the tail that was cut off.
pub fn assert_named(
    before: &Records,
    after: &Records,
    damage: &[(PartitionId, headwater_log::Damage)],
    cut: &BTreeMap<PartitionId, i64>,
) {
    for (id, records) in before {
        let known = after.get(id);
        for (offset, bytes) in records {
            match known.and_then(|known| known.get(offset)) {
                Some(found) => assert_eq!(found, bytes, "{id} at {offset}"),
                None => {
                    let named = damage.iter().any(|(of, d)| of == id && (d.first..=d.last).contains(offset));
                    let cut = cut.get(id).is_some_and(|end| offset >= end);
                    assert!(named || cut, "{id}: offset {offset} is neither there nor named");
                }
            }
        }
    }
}

/// Flips a bit in one file of a kind; panics when the log then serves what was not written, or hides
/// what it lost.
pub fn damage_one_bit(seed: u64, kind: &str) {
    let mut world = World::new(seed, false);
    world.cools = false;
    world.run(300);
    world.settle();
    let (before, _) = read_all(&world.log);
    let mut names = world.disk.list().expect("listed");
    names.retain(|name| name.ends_with(kind));
    names.sort();
    if names.is_empty() {
        return;
    }
    let name = names[world.rng.random_range(0..names.len())].clone();
    let length = headwater_log::DiskFile::len(&world.disk.open(&name).expect("opens")).expect("a length");
    if length == 0 {
        return;
    }
    world.disk.flip_bit(&name, world.rng.random_range(0..length * 8));
    let newest = FileId::parse(&name) == Some(world.newest_journal());
    let log = Log::open(Arc::new(world.disk.clone()), SETTINGS).expect("it opens");
    let (after, damage) = read_all(&log);
    let ends = log.partitions().into_iter();
    let ends: BTreeMap<_, _> =
        ends.map(|id| (id, log.reader().offsets(id).expect("offsets").high_watermark)).collect();
    // Nothing shows that the last commit was on disk, so it may be cut off; partitions with it.
    let mut cut = if newest { ends.clone() } else { BTreeMap::new() };
    if newest {
        cut.extend(before.keys().filter(|id| !ends.contains_key(id)).map(|id| (*id, 0)));
    }
    assert_named(&before, &after, &damage, &cut);
    if kind == ".index" {
        assert_eq!(damage, [], "an index holds no data");
    }
    let batches = |records: &Records| records.values().map(BTreeMap::len).sum::<usize>();
    if newest {
        let lost = batches(&before).saturating_sub(batches(&after));
        assert!(lost <= 40, "{lost} batches lost by one bit in {name}");
    } else {
        assert!(damage.len() <= 1, "one bit in {name} costs {damage:?}");
    }
    // It is known after another restart, too.
    drop(log);
    let log = Log::open(Arc::new(world.disk.clone()), SETTINGS).expect("it opens again");
    assert_named(&before, &read_all(&log).0, &read_all(&log).1, &cut);
}

/// Flips a bit in the newest journal, before a commit that was synced behind it; panics when that is lost.
pub fn damage_the_middle(seed: u64) {
    let mut world = World::new(seed, false);
    world.cools = false;
    world.run(200);
    world.settle();
    let marked = id(200);
    world.log.create_partition(marked).expect("created");
    world.staged.partitions.insert(marked, ModelPartition::default());
    world.settle();
    let name = world.newest_journal().name();
    let bytes = |world: &World| {
        let file = world.disk.open(&name).expect("opens");
        let mut bytes = vec![0; headwater_log::DiskFile::len(&file).expect("a length") as usize];
        headwater_log::DiskFile::read_exact_at(&file, &mut bytes, 0).expect("read");
        bytes
    };
    let without = bytes(&world);
    let (marker, values) = world.batch(None, false);
    // A sync may have failed, and the partition with it.
    let Ok(appended) = world.log.append(marked, &marker, Origin::Client, Durability::Synced, 0) else {
        return;
    };
    world.note(marked, -1, false, values, appended.base_offset);
    world.settle();
    let again = world.batch(None, false);
    let Ok(appended) = world.log.append(marked, &again.0, Origin::Client, Durability::Synced, 0) else {
        return;
    };
    world.note(marked, -1, false, again.1, appended.base_offset);
    world.settle();
    if world.newest_journal().name() != name {
        return;
    }
    // What is behind the marker in a file that is used again is older.
    let end = without.iter().zip(&bytes(&world)).position(|(before, after)| before != after);
    let end = end.unwrap_or(without.len()) as u64;
    if end < 200 {
        return;
    }
    let at = world.rng.random_range(100..end);
    world.disk.flip_bit(&name, at * 8 + 3);
    let log = Log::open(Arc::new(world.disk.clone()), SETTINGS).expect("it opens");
    let read = log.reader().read(marked, 0, 1, Isolation::Uncommitted).expect("what lies behind the damage");
    assert!(!read.records.is_empty());
}

/// Gives two indexes each other's name; panics when then anything else is read than before.
pub fn misplace_indexes(seed: u64) {
    let mut world = World::new(seed, false);
    world.cools = false;
    world.run(300);
    world.settle();
    let before = read_all(&world.log);
    let mut names = world.disk.list().expect("listed");
    names.retain(|name| name.ends_with(".index"));
    names.sort();
    for pair in names.chunks_exact(2) {
        world.disk.rename(&pair[0], "between").expect("moved");
        world.disk.rename(&pair[1], &pair[0]).expect("moved");
        world.disk.rename("between", &pair[1]).expect("moved");
    }
    let log = Log::open(Arc::new(world.disk.clone()), SETTINGS).expect("it opens");
    assert_eq!(read_all(&log), before);
}
