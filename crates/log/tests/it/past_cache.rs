//! Frames that go past the page cache, on a real file system, between frames that do not.

use std::sync::Arc;

use headwater_log::{CommitTicket, Durability, Isolation, Log, Origin, PartitionId, RealDisk, Settings};
use headwater_wire::{BatchBuilder, BatchHeader, Compression};
use rand::rngs::SmallRng;
use rand::{Rng, RngCore, SeedableRng};

const PARTITION: PartitionId = PartitionId { topic_id: [1; 16], partition: 0 };
const SETTINGS: Settings = Settings {
    segment_bytes: 2 << 20,
    spares: 1,
    vital: None,
    salt: 5,
    producer_expiration_ms: i64::MAX / 2,
};

fn open(directory: &std::path::Path) -> Log<RealDisk> {
    Log::open(Arc::new(RealDisk::new(directory)), SETTINGS).expect("it opens")
}

fn commit(log: &mut Log<RealDisk>) {
    let (ticket, outcome): (CommitTicket<RealDisk>, _) =
        log.begin_commit().expect("something is staged").run();
    log.end_commit(ticket, outcome).expect("committed");
    log.take_chores().into_iter().for_each(|chore| {
        if let Some(spare) = chore.run().expect("tidied up") {
            log.spare_ready(spare);
        }
    });
}

/// One batch of noise, which no other has.
fn batch(rng: &mut SmallRng, size: usize) -> Vec<u8> {
    let mut value = vec![0; size];
    rng.fill_bytes(&mut value);
    let mut builder = BatchBuilder::new();
    builder.push(0, None, Some(&value), &[]);
    builder.build(Compression::None, None, false).expect("it builds").to_vec()
}

fn assert_all_there(log: &Log<RealDisk>, sent: &[Vec<u8>]) {
    let reader = log.reader();
    // The offset and the leader epoch in front are the log's own.
    for (offset, sent) in sent.iter().enumerate() {
        let read =
            reader.read(PARTITION, offset as i64, 1, Isolation::Uncommitted).expect("readable").records;
        let header = BatchHeader::read(&read).expect("a batch");
        header.verify(&read).expect("its bytes are whole");
        assert!(read[16..] == sent[16..], "offset {offset} holds another batch");
    }
}

#[test]
fn what_went_past_the_cache_is_there_and_after_a_restart() {
    for seed in 0..6 {
        let directory = tempfile::tempdir().expect("a directory");
        let mut rng = SmallRng::seed_from_u64(seed);
        let mut log = open(directory.path());
        log.create_partition(PARTITION).expect("created");
        commit(&mut log);
        let mut sent: Vec<Vec<u8>> = Vec::new();
        for _ in 0..60 {
            for _ in 0..rng.random_range(1..4) {
                let size = rng.random_range(1..200_000);
                let bytes = batch(&mut rng, size);
                let durability = if rng.random() { Durability::Synced } else { Durability::Unsynced };
                log.append(PARTITION, &bytes.clone().into(), Origin::Client, durability, 0)
                    .expect("appended");
                sent.push(bytes);
            }
            commit(&mut log);
            if rng.random_ratio(1, 10) {
                // Read through the cache what went past it, beside what did not.
                assert_all_there(&log, &sent);
            }
            if rng.random_ratio(1, 15) {
                drop(log);
                log = open(directory.path());
            }
        }
        assert_all_there(&log, &sent);
        drop(log);
        assert_all_there(&open(directory.path()), &sent);
    }
}
