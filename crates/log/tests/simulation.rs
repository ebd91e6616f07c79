//! The log against a naive model, over a disk that crashes: every run comes from a seed.
//!
//! `HEADWATER_SIM_SEEDS=1000` runs more, `HEADWATER_SIM_SEED=7` replays one.

use std::collections::{BTreeMap, HashMap};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use bytes::Bytes;
use headwater_log::{CommitTicket, Disk, Isolation, Log, LogError, Origin, PartitionId, Settings, SimDisk};
use headwater_wire::{BatchBuilder, BatchHeader, Compression, Producer, batch};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

const SETTINGS: Settings = Settings { segment_bytes: 4096 };

/// What one record looked like when it was sent, and who sent it.
#[derive(Debug, Clone, PartialEq)]
struct Sent {
    value: Option<Bytes>,
    producer: i64,
    transactional: bool,
    /// Of a marker: commit or abort.
    marker: Option<bool>,
}

#[derive(Debug, Clone, Default, PartialEq)]
struct Model {
    partitions: BTreeMap<PartitionId, ModelPartition>,
}

#[derive(Debug, Clone, Default, PartialEq)]
struct ModelPartition {
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

#[derive(Debug, Clone, Copy, Default)]
struct Sequence {
    epoch: i16,
    next: i32,
}

struct World {
    rng: StdRng,
    disk: SimDisk,
    log: Log<SimDisk>,
    /// Acknowledged, and what is on its way: the staged model and the one in flight.
    durable: Model,
    staged: Model,
    flying: Option<Model>,
    ticket: Option<(CommitTicket<SimDisk>, std::io::Result<()>)>,
    sequences: HashMap<(PartitionId, i64), Sequence>,
    last_sent: HashMap<(PartitionId, i64), (Bytes, i64)>,
    serial: u64,
    crashes: i16,
}

fn id(number: u8) -> PartitionId {
    PartitionId { topic_id: [number / 2; 16], partition: i32::from(number % 2) }
}

impl World {
    fn new(seed: u64, lying: bool) -> Self {
        let disk = SimDisk::new();
        disk.faults(|faults| faults.lying_sync = lying);
        let log = Log::open(Arc::new(disk.clone()), SETTINGS).expect("a new log opens");
        Self {
            rng: StdRng::seed_from_u64(seed),
            disk,
            log,
            durable: Model::default(),
            staged: Model::default(),
            flying: None,
            ticket: None,
            sequences: HashMap::new(),
            last_sent: HashMap::new(),
            serial: 0,
            crashes: 0,
        }
    }

    fn batch(&mut self, producer: Option<Producer>, transactional: bool) -> (Bytes, Vec<Bytes>) {
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
        let at = id(self.rng.random_range(0..4));
        let writer = self.rng.random_range(0..5_i64);
        let exists = self.staged.partitions.contains_key(&at);
        if writer == 0 || !exists {
            let (bytes, values) = self.batch(None, false);
            let outcome = self.log.append(at, &bytes, Origin::Client, 0);
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
            let again = self.log.append(at, &bytes, Origin::Client, 0).expect("a retry is fine");
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
        let outcome = self.log.append(at, &bytes, Origin::Client, 0);
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
        let at = id(self.rng.random_range(0..4));
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
        self.log.append(at, &bytes, Origin::Broker, 0).expect("a marker");
        partition.records.push(Sent {
            value: None,
            producer: writer,
            transactional: true,
            marker: Some(commit),
        });
    }

    fn create_or_trim(&mut self) {
        let at = id(self.rng.random_range(0..4));
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

    fn begin(&mut self) {
        if self.ticket.is_some() {
            return;
        }
        if self.rng.random_bool(0.02) {
            self.disk.faults(|faults| faults.fail_next_sync = true);
        }
        if let Some(job) = self.log.begin_commit() {
            self.flying = Some(self.staged.clone());
            self.ticket = Some(job.run());
        }
        self.disk.faults(|faults| faults.fail_next_sync = false);
    }

    fn end(&mut self) {
        let Some((ticket, outcome)) = self.ticket.take() else { return };
        let failed = outcome.is_err();
        assert_eq!(self.log.end_commit(ticket, outcome).is_err(), failed);
        if failed {
            assert!(matches!(self.log.create_partition(id(0)), Err(LogError::Fenced(_))));
            self.crash();
        } else {
            self.durable = self.flying.take().expect("one was flying");
            self.check();
        }
    }

    /// Power off and on. What was acknowledged is there; a frame in flight is there as a whole or not.
    fn crash(&mut self) {
        let mut rng = StdRng::seed_from_u64(self.rng.random());
        self.disk = self.disk.crash(|| rng.random_bool(0.5));
        self.log = Log::open(Arc::new(self.disk.clone()), SETTINGS).expect("it opens after a crash");
        self.ticket = None;
        let flying = self.flying.take();
        let found = self.observe();
        let durable = Self::visible(&self.durable);
        self.durable = match flying {
            Some(flying) if found == Self::visible(&flying) => flying,
            _ => {
                assert_eq!(found, durable, "left: on the disk, right: acknowledged");
                self.durable.clone()
            }
        };
        self.staged = self.durable.clone();
        // Producers learn where they stand from what is there.
        self.sequences.clear();
        self.last_sent.clear();
        self.crashes += 1;
        for number in 0..4 {
            for writer in 1..5 {
                self.sequences.insert((id(number), writer), Sequence { epoch: self.crashes * 100, next: 0 });
            }
        }
        self.check();
    }

    fn visible(model: &Model) -> BTreeMap<PartitionId, (i64, i64, i64, Vec<Bytes>)> {
        let view = |partition: &ModelPartition| {
            let end = partition.records.len() as i64;
            (partition.log_start, end, partition.last_stable(), partition.committed_values())
        };
        model.partitions.iter().map(|(id, partition)| (*id, view(partition))).collect()
    }

    fn observe(&self) -> BTreeMap<PartitionId, (i64, i64, i64, Vec<Bytes>)> {
        let reader = self.log.reader();
        let mut found = BTreeMap::new();
        for id in self.log.partitions() {
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

    fn check(&self) {
        assert_eq!(self.observe(), Self::visible(&self.durable), "left: the log, right: the model");
    }

    fn run(&mut self, steps: usize) {
        for _ in 0..steps {
            match self.rng.random_range(0..100) {
                0..55 => self.append(),
                55..65 => self.end_transaction(),
                65..72 => self.create_or_trim(),
                72..84 => self.begin(),
                84..98 => self.end(),
                _ => self.crash(),
            }
        }
    }
}

fn seeds() -> Vec<u64> {
    let number = |name: &str| std::env::var(name).ok()?.parse::<u64>().ok();
    match number("HEADWATER_SIM_SEED") {
        Some(seed) => vec![seed],
        None => (0..number("HEADWATER_SIM_SEEDS").unwrap_or(200)).collect(),
    }
}

#[test]
fn what_is_acknowledged_survives_every_crash() {
    for seed in seeds() {
        let run = catch_unwind(AssertUnwindSafe(|| World::new(seed, false).run(400)));
        if let Err(panic) = run {
            eprintln!("replay with HEADWATER_SIM_SEED={seed}");
            std::panic::resume_unwind(panic);
        }
    }
}

/// The simulation can fail: a disk that lies about its syncs is found out.
#[test]
fn a_sync_that_does_nothing_is_caught() {
    let caught = (0..40).filter(|&seed| {
        let run = catch_unwind(AssertUnwindSafe(|| World::new(seed, true).run(400)));
        run.is_err()
    });
    assert!(caught.count() > 20);
}

#[test]
fn opening_scans_the_tail_only() {
    let disk = Arc::new(SimDisk::new());
    let mut world = World::new(1, false);
    let mut log = Log::open(Arc::clone(&disk), SETTINGS).expect("opens");
    log.create_partition(id(0)).expect("created");
    for _ in 0..200 {
        let (bytes, _) = world.batch(None, false);
        log.append(id(0), &bytes, Origin::Client, 0).expect("appended");
        let (ticket, outcome) = log.begin_commit().expect("something is staged").run();
        log.end_commit(ticket, outcome).expect("committed");
    }
    let end = log.reader().offsets(id(0)).expect("offsets").high_watermark;
    drop(log);
    let files = disk.list().expect("listed").iter().filter(|name| name.ends_with(".wal")).count();
    assert!(files > 5, "{files}");
    let log = Log::open(disk, SETTINGS).expect("opens again");
    assert!(log.scanned_bytes() <= SETTINGS.segment_bytes, "{}", log.scanned_bytes());
    assert_eq!(log.reader().offsets(id(0)).expect("offsets").high_watermark, end);
}

#[test]
fn a_flipped_bit_is_never_served() {
    for seed in 0..60 {
        let mut world = World::new(seed, false);
        world.run(120);
        world.end();
        world.begin();
        world.end();
        let before = world.observe();
        let names: Vec<String> =
            world.disk.list().expect("listed").into_iter().filter(|n| n.ends_with(".wal")).collect();
        let name = &names[names.len() - 1];
        let length = headwater_log::DiskFile::len(&world.disk.open(name).expect("opens")).expect("length");
        world.disk.flip_bit(name, world.rng.random_range(0..length * 8));
        // Damage with more of the log behind it is refused; in the last frame it looks like a torn write.
        let Ok(log) = Log::open(Arc::new(world.disk.clone()), SETTINGS) else { continue };
        world.log = log;
        for (id, (_, end, _, _)) in world.observe() {
            assert!(before.get(&id).is_none_or(|known| end <= known.1));
        }
    }
}

#[test]
fn sequences_wrap_after_the_greatest() {
    let mut world = World::new(3, false);
    world.log.create_partition(id(0)).expect("created");
    let producer = |base_sequence| Some(Producer { id: 9, epoch: 0, base_sequence });
    let one = |base_sequence| {
        let mut builder = BatchBuilder::new();
        builder.push(0, None, Some(b"x"), &[]);
        builder.build(Compression::None, producer(base_sequence), false).expect("it builds")
    };
    world.log.append(id(0), &one(i32::MAX), Origin::Client, 0).expect("the greatest");
    let next = world.log.append(id(0), &one(0), Origin::Client, 0).expect("zero follows");
    assert_eq!((next.base_offset, next.duplicate), (1, false));
    assert!(matches!(
        world.log.append(id(0), &one(7), Origin::Client, 0),
        Err(LogError::OutOfOrderSequence { expected: 1, .. })
    ));
}

/// A log of many files, each commit synced, and the number of its records.
fn many_files(disk: &Arc<SimDisk>, commits: usize) -> Log<SimDisk> {
    let mut world = World::new(1, false);
    let mut log = Log::open(Arc::clone(disk), SETTINGS).expect("opens");
    log.create_partition(id(0)).expect("created");
    for _ in 0..commits {
        let (bytes, _) = world.batch(None, false);
        log.append(id(0), &bytes, Origin::Client, 0).expect("appended");
        let (ticket, outcome) = log.begin_commit().expect("something is staged").run();
        log.end_commit(ticket, outcome).expect("committed");
    }
    log
}

/// A frame that was written but not synced when the process was killed is whole for the next one, which shows it and
/// acknowledges its retries: then it must be on the disk.
#[test]
fn what_a_start_has_shown_survives_a_power_cut() {
    for commits in 1..60 {
        let disk = Arc::new(SimDisk::new());
        let mut log = many_files(&disk, commits);
        let (bytes, _) = World::new(2, false).batch(None, false);
        log.append(id(0), &bytes, Origin::Client, 0).expect("appended");
        disk.faults(|faults| faults.lying_sync = true);
        log.begin_commit().expect("something is staged").run().1.expect("killed before it could tell");
        disk.faults(|faults| faults.lying_sync = false);
        drop(log);
        let shown = Log::open(Arc::clone(&disk), SETTINGS).expect("opens after the kill");
        let shown = shown.reader().offsets(id(0)).expect("offsets");
        let after = Arc::new(disk.crash(|| false));
        let log = Log::open(after, SETTINGS).expect("opens after the power cut");
        assert_eq!(log.reader().offsets(id(0)).expect("offsets"), shown, "after {commits} commits");
    }
}

#[test]
fn a_file_that_is_missing_or_empty_is_said_and_nothing_is_removed() {
    let wals = |disk: &SimDisk| -> Vec<String> {
        let mut names: Vec<String> =
            disk.list().expect("listed").into_iter().filter(|name| name.ends_with(".wal")).collect();
        names.sort();
        names
    };
    let count = {
        let disk = Arc::new(SimDisk::new());
        drop(many_files(&disk, 200));
        wals(&disk).len()
    };
    assert!(count > 5, "{count}");
    for victim in 0..count - 1 {
        for emptied in [false, true] {
            let disk = Arc::new(SimDisk::new());
            drop(many_files(&disk, 200));
            let name = wals(&disk)[victim].clone();
            let index = name.replace(".wal", ".index");
            match emptied {
                true => drop(disk.create(&name).expect("emptied")),
                false => disk.remove(&name).expect("removed"),
            }
            disk.remove(&index).expect("the file is not trusted unread");
            let before = wals(&disk);
            let opened = Log::open(Arc::clone(&disk), SETTINGS);
            assert!(
                matches!(opened, Err(LogError::Corrupt { .. })),
                "file {victim} of {count}, emptied: {emptied}"
            );
            assert_eq!(wals(&disk), before);
        }
    }
}
