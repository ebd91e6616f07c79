//! A client that knows how the log is written, and sends records that look like it.

use std::sync::Arc;

use bytes::Bytes;
use headwater_log::{Disk, DiskFile, Durability, FileId, Log, Origin, PartitionId, Settings, SimDisk};
use headwater_wire::{BatchBuilder, Compression};

use super::{SETTINGS, id};

/// Journals whose frames are forged.
const JOURNALS: u64 = 40;

fn commit(log: &mut Log<SimDisk>) {
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

fn newest(disk: &SimDisk) -> FileId {
    let names = disk.list().expect("listed").into_iter();
    let journals = names.filter_map(|name| FileId::parse(&name)).filter(|file| !file.is_run());
    journals.max().expect("there is one")
}

fn append(log: &mut Log<SimDisk>, at: PartitionId, value: &[u8]) {
    let mut builder = BatchBuilder::new();
    builder.push(0, None, Some(value), &[]);
    let bytes: Bytes = builder.build(Compression::None, None, false).expect("it builds");
    log.append(at, &bytes, Origin::Client, Durability::Synced, 0).expect("appended");
    commit(log);
}

/// Frames of journals of these numbers, as a log of one's own writes them, with commits far ahead.
fn frames(victim: PartitionId) -> Vec<u8> {
    let disk = SimDisk::new();
    let settings = Settings { segment_bytes: 1 << 20, ..SETTINGS };
    let mut log = Log::open(Arc::new(disk.clone()), settings).expect("it opens");
    log.create_partition(victim).expect("created");
    (0..300).for_each(|_| append(&mut log, victim, b"x"));
    let mut forged = Vec::new();
    while newest(&disk).number() < JOURNALS {
        log.roll();
        (0..3).for_each(|_| append(&mut log, victim, b"forged"));
        let file = disk.open(&newest(&disk).name()).expect("opens");
        let mut bytes = vec![0; file.len().expect("a length") as usize];
        file.read_exact_at(&mut bytes, 0).expect("read");
        let heads: Vec<usize> = (0..bytes.len()).filter(|at| bytes[*at..].starts_with(b"HWL3")).collect();
        let used = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |at| at + 1);
        forged.extend_from_slice(&bytes[heads[1]..used]);
    }
    forged
}

/// Files with forged frames in their records are used again; panics when a start believes one.
pub fn forged(_: u64) {
    let (victim, hostile) = (id(1), id(2));
    let disk = SimDisk::new();
    let settings = Settings { salt: 0x5eed, segment_bytes: 1 << 20, ..SETTINGS };
    let mut log = Log::open(Arc::new(disk.clone()), settings).expect("it opens");
    for id in [victim, hostile] {
        log.create_partition(id).expect("created");
    }
    append(&mut log, victim, b"precious");
    let frames = frames(victim);
    for _ in 0..6 {
        append(&mut log, hostile, &frames);
        log.roll();
        let end = log.next_offset(hostile).expect("it exists");
        log.delete_before(hostile, end).expect("deleted");
        (0..3).for_each(|_| commit(&mut log));
    }
    log.roll();
    append(&mut log, victim, b"precious, too");
    assert!(newest(&disk) < FileId::journal(JOURNALS), "the frames are of journals to come");
    let before = log.reader().offsets(victim).expect("offsets");
    let log = Log::open(Arc::new(disk), settings).expect("it opens again");
    assert_eq!(log.damage(), []);
    assert_eq!(log.reader().offsets(victim).expect("offsets"), before);
}
