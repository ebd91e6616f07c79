//! The log against a naive model, over a disk that crashes: every run comes from a seed.
//!
//! `HEADWATER_SIM_SEEDS=1000` runs more, `HEADWATER_SIM_SEED=7` replays one.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use headwater_log::{Disk, Durability, Log, LogError, Origin, SimDisk};
use headwater_wire::{BatchBuilder, Compression, Producer, batch};

use crate::common::{SETTINGS, World, id};

/// Further seeds that once found a fault.
const FOUND: [u64; 1] = [818];

fn seeds() -> Vec<u64> {
    let number = |name: &str| std::env::var(name).ok()?.parse::<u64>().ok();
    match number("HEADWATER_SIM_SEED") {
        Some(seed) => vec![seed],
        None => (0..number("HEADWATER_SIM_SEEDS").unwrap_or(200)).chain(FOUND).collect(),
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
    assert!(caught.count() > 10);
}

#[test]
fn opening_scans_the_tail_only() {
    let disk = Arc::new(SimDisk::new());
    let mut world = World::new(1, false);
    let mut log = Log::open(Arc::clone(&disk), SETTINGS).expect("opens");
    log.create_partition(id(0)).expect("created");
    for _ in 0..200 {
        let (bytes, _) = world.batch(None, false);
        log.append(id(0), &bytes, Origin::Client, Durability::Synced, 0).expect("appended");
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
fn sequences_wrap_after_the_greatest() {
    let mut world = World::new(3, false);
    world.log.create_partition(id(0)).expect("created");
    let producer = |base_sequence| Some(Producer { id: 9, epoch: 0, base_sequence });
    let one = |base_sequence| {
        let mut builder = BatchBuilder::new();
        builder.push(0, None, Some(b"x"), &[]);
        builder.build(Compression::None, producer(base_sequence), false).expect("it builds")
    };
    world.log.append(id(0), &one(i32::MAX), Origin::Client, Durability::Synced, 0).expect("the greatest");
    let next = world.log.append(id(0), &one(0), Origin::Client, Durability::Synced, 0).expect("zero follows");
    assert_eq!((next.base_offset, next.duplicate), (1, false));
    assert!(matches!(
        world.log.append(id(0), &one(7), Origin::Client, Durability::Synced, 0),
        Err(LogError::OutOfOrderSequence { expected: 1, .. })
    ));
}

/// Under KIP-890 the marker has the next epoch already: a second batch that overtakes the first must wait for it.
#[test]
fn after_a_marker_of_the_next_epoch_sequences_begin_at_zero() {
    let mut world = World::new(3, false);
    world.log.create_partition(id(0)).expect("created");
    let one = |epoch, base_sequence| {
        let mut builder = BatchBuilder::new();
        builder.push(0, None, Some(b"x"), &[]);
        let producer = Some(Producer { id: 9, epoch, base_sequence });
        builder.build(Compression::None, producer, true).expect("it builds")
    };
    let mut client = |bytes| world.log.append(id(0), &bytes, Origin::Client, Durability::Synced, 0);
    client(one(0, 0)).expect("the first");
    client(one(0, 1)).expect("the second");
    let marker = batch::transaction_marker(9, 1, true, 0, 0);
    world.log.append(id(0), &marker, Origin::Broker, Durability::Synced, 0).expect("a marker");
    let mut client = |bytes| world.log.append(id(0), &bytes, Origin::Client, Durability::Synced, 0);
    let early = client(one(1, 2));
    assert!(matches!(early, Err(LogError::OutOfOrderSequence { expected: 0, .. })), "{early:?}");
    let late = client(one(0, 2));
    assert!(matches!(late, Err(LogError::InvalidProducerEpoch { .. })), "{late:?}");
    client(one(1, 0)).expect("the first of the next transaction");
    client(one(1, 1)).expect("the second");
}

/// Batches of every size lie across the wrap in every way; each is known again, also after a restart, and the next in
/// the model's count follows, and no other.
#[test]
fn batches_across_the_wrap_are_known_again() {
    let many = |base_sequence, records: i32| {
        let mut builder = BatchBuilder::new();
        (0..records).for_each(|_| builder.push(0, None, Some(b"x"), &[]));
        let producer = Some(Producer { id: 9, epoch: 0, base_sequence });
        builder.build(Compression::None, producer, false).expect("it builds")
    };
    let after = |sequence: i32, records: i32| ((i64::from(sequence) + i64::from(records)) % (1 << 31)) as i32;
    for (before, records) in (0..6).flat_map(|before| (1..7).map(move |records| (before, records))) {
        let disk = Arc::new(SimDisk::new());
        let mut log = Log::open(Arc::clone(&disk), SETTINGS).expect("opens");
        log.create_partition(id(0)).expect("created");
        let (mut sequence, mut sent) = (i32::MAX - before, Vec::new());
        for _ in 0..4 {
            let batch = many(sequence, records);
            let appended =
                log.append(id(0), &batch, Origin::Client, Durability::Synced, 0).expect("the next");
            assert!(!appended.duplicate);
            sequence = after(sequence, records);
            sent.push((batch, appended.base_offset));
            let (ticket, outcome) = log.begin_commit().expect("something is staged").run();
            log.end_commit(ticket, outcome).expect("committed");
        }
        for round in 0..2 {
            for (batch, base_offset) in &sent {
                let again = log.append(id(0), batch, Origin::Client, Durability::Synced, 0).expect("known");
                assert_eq!((again.duplicate, again.base_offset), (true, *base_offset), "round {round}");
            }
            let wrong =
                log.append(id(0), &many(after(sequence, 1), 1), Origin::Client, Durability::Synced, 0);
            assert!(matches!(wrong, Err(LogError::OutOfOrderSequence { .. })), "{wrong:?}");
            drop(log);
            log = Log::open(Arc::clone(&disk), SETTINGS).expect("opens again");
        }
    }
}

/// A log of many files, each commit synced, and the number of its records.
fn many_files(disk: &Arc<SimDisk>, commits: usize) -> Log<SimDisk> {
    let mut world = World::new(1, false);
    let mut log = Log::open(Arc::clone(disk), SETTINGS).expect("opens");
    log.create_partition(id(0)).expect("created");
    for _ in 0..commits {
        let (bytes, _) = world.batch(None, false);
        log.append(id(0), &bytes, Origin::Client, Durability::Synced, 0).expect("appended");
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
        log.append(id(0), &bytes, Origin::Client, Durability::Synced, 0).expect("appended");
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

/// A consumer may still be sending what has just been deleted: the file must not be written again under it.
#[test]
fn what_is_being_read_is_not_written_again() {
    let disk = Arc::new(SimDisk::new());
    let mut log = many_files(&disk, 20);
    let reader = log.reader();
    let held = reader.locate(id(0), 0, 500, headwater_log::Isolation::Uncommitted).expect("located");
    let before = held.load().expect("read");
    let mut world = World::new(5, false);
    for round in 0..200 {
        let end = reader.offsets(id(0)).expect("offsets").high_watermark;
        log.delete_before(id(0), end).expect("trimmed");
        let (bytes, _) = world.batch(None, false);
        log.append(id(0), &bytes, Origin::Client, Durability::Synced, 0).expect("appended");
        let (ticket, outcome) = log.begin_commit().expect("something is staged").run();
        log.end_commit(ticket, outcome).expect("committed");
        for chore in log.take_chores() {
            if let Ok(Some(spare)) = chore.run() {
                log.spare_ready(spare);
            }
        }
        assert_eq!(held.load().expect("read"), before, "after {round} commits");
    }
}

/// A checkpoint says what time it was when its journal began; what the broker has stamped since says more, and what
/// clients have stamped says nothing.
#[test]
fn a_crash_does_not_set_the_time_back() {
    let disk = SimDisk::new();
    let (state, topic) = (headwater_log::BROKER_STATE, id(1));
    let settings = headwater_log::Settings { vital: Some(state), ..SETTINGS };
    let mut log = Log::open(Arc::new(disk.clone()), settings).expect("it opens");
    for (partition, stamp) in [(state, 5_000), (topic, 1 << 50)] {
        log.create_partition(partition).expect("created");
        let mut builder = BatchBuilder::new();
        builder.push(stamp, None, Some(b"a value"), &[]);
        let batch = builder.build(Compression::None, None, false).expect("it builds");
        log.append(partition, &batch, Origin::Broker, Durability::Synced, 6_000).expect("appended");
        let (ticket, outcome) = log.begin_commit().expect("something is staged").run();
        log.end_commit(ticket, outcome).expect("committed");
    }
    drop(log);
    let again = Log::open(Arc::new(disk.crash(|| true)), settings).expect("it opens again");
    assert_eq!(again.time(), 5_000);
}

/// It has written a moment ago, whatever the log was told before a restart.
#[test]
fn a_clock_that_is_set_back_forgets_no_producer_that_writes() {
    const DAY: i64 = 86_400_000;
    let disk = Arc::new(SimDisk::new());
    let settings = headwater_log::Settings { producer_expiration_ms: DAY, ..SETTINGS };
    let first = |id: i64| {
        let mut builder = BatchBuilder::new();
        builder.push(0, None, Some(b"x"), &[]);
        let producer = Some(Producer { id, epoch: 0, base_sequence: 0 });
        builder.build(Compression::None, producer, false).expect("it builds")
    };
    let roll = |log: &mut Log<SimDisk>| {
        for _ in 0..2 {
            let (ticket, outcome) = log.begin_commit().expect("something is staged").run();
            log.end_commit(ticket, outcome).expect("committed");
            log.roll();
        }
    };
    let mut log = Log::open(Arc::clone(&disk), settings).expect("opens");
    log.create_partition(id(0)).expect("created");
    log.append(id(0), &first(1), Origin::Client, Durability::Synced, 100 * DAY).expect("appended");
    roll(&mut log);
    drop(log);
    let mut log = Log::open(disk, settings).expect("opens again");
    assert_eq!(log.time(), 100 * DAY);
    let sent = log.append(id(0), &first(2), Origin::Client, Durability::Synced, DAY).expect("appended");
    roll(&mut log);
    let again = log.append(id(0), &first(2), Origin::Client, Durability::Synced, DAY).expect("known");
    assert_eq!((again.duplicate, again.base_offset), (true, sent.base_offset));
}
