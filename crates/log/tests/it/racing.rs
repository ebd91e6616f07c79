//! Readers while retention and the writer go on.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use headwater_log::{Durability, Isolation, Log, LogError, Origin, PartitionId, Reader, Settings, SimDisk};
use headwater_wire::{BatchBuilder, BatchHeader, Compression, Producer, batch};

const PARTITION: PartitionId = PartitionId { topic_id: [1; 16], partition: 0 };
const PRODUCER: i64 = 7;

fn commit(log: &mut Log<SimDisk>) {
    let (ticket, outcome) = log.begin_commit().expect("something is staged").run();
    log.end_commit(ticket, outcome).expect("committed");
}

/// Reads from the beginning again and again; returns how many records of transactions it was given.
fn read_committed(reader: &Reader<SimDisk>, stop: &AtomicBool) -> usize {
    let mut seen = 0;
    while !stop.load(Ordering::Relaxed) {
        let from = reader.offsets(PARTITION).expect("offsets").log_start;
        let fetched = match reader.read(PARTITION, from, 1 << 20, Isolation::Committed) {
            Ok(fetched) => fetched,
            Err(LogError::OffsetOutOfRange { .. }) => continue,
            Err(error) => panic!("{error}"),
        };
        let mut rest = fetched.records;
        while !rest.is_empty() {
            let header = BatchHeader::read(&rest).expect("a batch");
            let _ = rest.split_to(header.size);
            if header.is_transactional() && !header.is_control() {
                let told = fetched.aborted.iter().any(|aborted| aborted.first_offset <= header.base_offset);
                assert!(told, "{} was aborted, and nobody says so", header.base_offset);
                seen += 1;
            }
        }
    }
    seen
}

/// All that is ever written is aborted, and deleted as soon as it is.
#[test]
fn what_was_aborted_is_told_or_not_read() {
    let mut log = Log::open(Arc::new(SimDisk::new()), Settings::default()).expect("it opens");
    log.create_partition(PARTITION).expect("created");
    commit(&mut log);
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let readers = [log.reader(), log.reader()];
        let readers = readers.map(|reader| scope.spawn(|| read_committed(&{ reader }, &stop)));
        for round in 0..3_000 {
            let producer = Producer { id: PRODUCER, epoch: 0, base_sequence: round };
            let mut builder = BatchBuilder::new();
            builder.push(0, None, Some(b"never"), &[]);
            let bytes = builder.build(Compression::None, Some(producer), true).expect("it builds");
            log.append(PARTITION, &bytes, Origin::Client, Durability::Unsynced, 0).expect("appended");
            commit(&mut log);
            let marker = batch::transaction_marker(PRODUCER, 0, false, 0, 0);
            log.append(PARTITION, &marker, Origin::Broker, Durability::Unsynced, 0).expect("appended");
            commit(&mut log);
            let end = log.next_offset(PARTITION).expect("it exists");
            log.delete_before(PARTITION, end).expect("deleted");
        }
        stop.store(true, Ordering::Relaxed);
        let seen: usize =
            readers.into_iter().map(|reader| reader.join().expect("it found nothing wrong")).sum();
        assert!(seen > 0, "the readers were never there in time");
    });
}
