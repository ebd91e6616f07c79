//! Logs that earlier versions wrote open for ever. `HEADWATER_WRITE_FIXTURE=1` writes one with this
//! version, for a directory that is not there yet; fixtures that are there are never changed.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use headwater_log::{Durability, FileId, Isolation, Log, Move, Origin, PartitionId, RealDisk, Settings};
use headwater_wire::{BatchBuilder, BatchHeader, Compression, Producer, batch};

const NEWEST: &str = "format-3";
const SETTINGS: Settings =
    Settings { segment_bytes: 4096, spares: 1, vital: None, salt: 7, producer_expiration_ms: i64::MAX / 2 };
const CODECS: [Compression; 5] =
    [Compression::None, Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd];

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures")
}

fn id(topic: u8, partition: i32) -> PartitionId {
    PartitionId { topic_id: [topic; 16], partition }
}

fn commit(log: &mut Log<RealDisk>) {
    if let Some(job) = log.begin_commit() {
        let (ticket, outcome) = job.run();
        log.end_commit(ticket, outcome).expect("committed");
    }
    for chore in log.take_chores() {
        if let Ok(Some(spare)) = chore.run() {
            log.spare_ready(spare);
        }
    }
}

fn records(n: i64, codec: Compression, producer: Option<Producer>, transactional: bool) -> Bytes {
    let mut builder = BatchBuilder::new();
    for record in 0..4 {
        let value = format!("record {n} {record} {}", "x".repeat(40));
        builder.push(
            1_700_000_000_000 + n,
            Some(format!("key {record}").as_bytes()),
            Some(value.as_bytes()),
            &[],
        );
    }
    builder.build(codec, producer, transactional).expect("it builds")
}

/// Something of everything that a log can hold.
fn write(directory: &Path) {
    std::fs::create_dir_all(directory).expect("created");
    let mut log = Log::open(Arc::new(RealDisk::new(directory)), SETTINGS).expect("opens");
    for partition in [id(1, 0), id(1, 1), id(2, 0), id(3, 0)] {
        log.create_partition(partition).expect("created");
    }
    commit(&mut log);
    let append = |log: &mut Log<RealDisk>, at, bytes: &Bytes| {
        log.append(at, bytes, Origin::Client, Durability::Synced, 1_700_000_000_000).expect("appended");
        commit(log);
    };
    for n in 0..40 {
        append(&mut log, id(1, (n % 2) as i32), &records(n, CODECS[n as usize % 5], None, false));
        append(&mut log, id(3, 0), &records(n, Compression::None, None, false));
    }
    let producer = |id, base_sequence| Some(Producer { id, epoch: 3, base_sequence });
    append(&mut log, id(2, 0), &records(100, Compression::None, producer(7, 0), true));
    append(&mut log, id(2, 0), &records(101, Compression::Lz4, producer(8, 0), true));
    let abort = batch::transaction_marker(7, 3, false, 0, 0);
    log.append(id(2, 0), &abort, Origin::Broker, Durability::Synced, 0).expect("a marker");
    let end = batch::transaction_marker(8, 3, true, 0, 0);
    log.append(id(2, 0), &end, Origin::Broker, Durability::Synced, 0).expect("a marker");
    commit(&mut log);
    append(&mut log, id(2, 0), &records(102, Compression::None, producer(9, 0), true));
    append(&mut log, id(2, 0), &records(103, Compression::None, producer(11, 0), false));
    log.delete_partition(id(3, 0)).expect("deleted");
    log.delete_before(id(1, 1), 10).expect("trimmed");
    log.roll();
    commit(&mut log);
    let reader = log.reader();
    let usage = reader.usage(id(1, 0)).expect("it exists");
    let mut run = reader.begin_run(log.take_run_number()).expect("a run");
    let from = usage.extents[0];
    reader.each_batch(id(1, 0), &from, |bytes| run.push(id(1, 0), &bytes)).expect("copied");
    let extents = run.finish().expect("written").into_iter().map(|(_, extent)| extent).collect();
    log.install(Move {
        id: id(1, 0),
        replaces: vec![from.file],
        extents,
        cleaned: None,
        aborted: Vec::new(),
    })
    .expect("installed");
    commit(&mut log);
    append(&mut log, id(1, 0), &records(200, Compression::Zstd, None, false));
}

/// Offsets, and the checksum of every batch, by partition.
fn observe(log: &Log<RealDisk>) -> BTreeMap<String, Vec<String>> {
    let reader = log.reader();
    let mut seen = BTreeMap::new();
    for id in log.partitions() {
        let offsets = reader.offsets(id).expect("offsets");
        let mut lines = vec![format!(
            "start {} stable {} end {}",
            offsets.log_start, offsets.last_stable, offsets.high_watermark
        )];
        let mut at = offsets.log_start;
        while at < offsets.high_watermark {
            let fetched = reader.read(id, at, 1 << 20, Isolation::Uncommitted).expect("read");
            let mut rest = fetched.records;
            while !rest.is_empty() {
                let header = BatchHeader::read(&rest).expect("a batch");
                header.verify(&rest).expect("its checksum");
                lines.push(format!(
                    "{} to {} crc {:08x}",
                    header.base_offset,
                    header.last_offset(),
                    header.crc
                ));
                at = header.last_offset() + 1;
                let _ = rest.split_to(header.size);
            }
        }
        let aborted = reader.aborted(id, 0, offsets.high_watermark).expect("aborted");
        lines.extend(
            aborted
                .iter()
                .map(|a| format!("aborted {} from {} to {}", a.producer_id, a.first_offset, a.last_offset)),
        );
        seen.insert(id.to_string(), lines);
    }
    seen
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("created");
    for entry in std::fs::read_dir(from).expect("listed") {
        let entry = entry.expect("an entry");
        std::fs::copy(entry.path(), to.join(entry.file_name())).expect("copied");
    }
}

#[test]
fn logs_of_all_versions_open() {
    let newest = fixtures().join(NEWEST);
    if std::env::var_os("HEADWATER_WRITE_FIXTURE").is_some() {
        assert!(!newest.exists(), "{} is there; fixtures are kept", newest.display());
        write(&newest.join("log"));
        let copied = tempfile::tempdir().expect("a directory");
        copy(&newest.join("log"), copied.path());
        let log = Log::open(Arc::new(RealDisk::new(copied.path())), SETTINGS).expect("it opens");
        let seen = serde_json::to_string_pretty(&observe(&log)).expect("JSON");
        std::fs::write(newest.join("holds.json"), seen + "\n").expect("written");
        // What was allocated and not used is zeros.
        for entry in std::fs::read_dir(newest.join("log")).expect("listed") {
            let path = entry.expect("an entry").path();
            let mut bytes = std::fs::read(&path).expect("read");
            let used = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |at| at + 1);
            if path.extension().is_some_and(|extension| extension == "wal") {
                bytes.truncate(used + 64);
                std::fs::write(&path, bytes).expect("written");
            }
        }
    }
    let mut opened = 0;
    for version in std::fs::read_dir(fixtures()).expect("fixtures") {
        let version = version.expect("an entry").path();
        let copied = tempfile::tempdir().expect("a directory");
        copy(&version.join("log"), copied.path());
        let wanted = std::fs::read_to_string(version.join("holds.json")).expect("what it holds");
        let wanted: BTreeMap<String, Vec<String>> = serde_json::from_str(&wanted).expect("JSON");
        for _ in 0..2 {
            let mut log = Log::open(Arc::new(RealDisk::new(copied.path())), SETTINGS).expect("it opens");
            assert_eq!(observe(&log), wanted, "{}", version.display());
            assert_eq!(log.damage(), []);
            // A producer that was known is known.
            let producer = Some(Producer { id: 11, epoch: 3, base_sequence: 0 });
            let again = records(103, Compression::None, producer, false);
            let again = log.append(id(2, 0), &again, Origin::Client, Durability::Synced, 0).expect("a retry");
            assert!(again.duplicate);
        }
        opened += 1;
    }
    assert!(opened > 0);
    assert!(FileId::parse("00000000000000000001.wal").is_some());
}
