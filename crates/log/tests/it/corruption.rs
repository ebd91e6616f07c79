//! Damage of every kind of file: what can be read is what was written, what cannot be read is named, and
//! everything else is served (P3).

use headwater_log::{
    Cause, Disk, DiskFile, Extent, FileId, Isolation, Log, LogError, Move, PartitionId, Settings, SimDisk,
};

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::common::{self, SETTINGS, World, damage_one_bit, markers, read_all};

/// A disk with several journals, runs and indexes, and what can be read from it.
fn full(seed: u64) -> (SimDisk, BTreeMap<headwater_log::PartitionId, BTreeMap<i64, bytes::Bytes>>) {
    let mut world = World::new(seed, false);
    world.cools = false;
    world.run(300);
    world.settle();
    let all = read_all(&world.log).0;
    (world.disk.clone(), all)
}

fn names(disk: &SimDisk, ending: &str) -> Vec<String> {
    let mut names = disk.list().expect("listed");
    names.retain(|name| name.ends_with(ending));
    names.sort();
    names
}

fn reopened(disk: &SimDisk) -> Log<SimDisk> {
    Log::open(Arc::new(disk.clone()), SETTINGS).expect("it opens")
}

#[test]
fn a_flipped_bit_costs_at_most_what_it_is_in() {
    for (kind, seeds) in [(".wal", 0..150), (".run", 0..100), (".index", 0..100)] {
        for seed in seeds {
            damage_one_bit(seed, kind);
        }
    }
}

#[test]
fn an_index_is_built_again_when_it_is_missing_or_nonsense() {
    for seed in 0..30 {
        let (disk, before) = full(seed);
        for (place, name) in names(&disk, ".index").into_iter().enumerate() {
            match place % 3 {
                0 => disk.remove(&name).expect("removed"),
                1 => disk.open(&name).and_then(|file| file.set_len(17)).expect("cut"),
                _ => disk.open(&name).and_then(|file| file.write_all_at(b"nonsense", 8)).expect("written"),
            }
        }
        let (after, damage) = read_all(&reopened(&disk));
        assert_eq!((after, damage), (before, vec![]), "seed {seed}");
    }
}

/// More batches than one part of an index holds, of which a later part is damaged: what the parts before told of is not
/// told of twice, to readers or to whoever copies the batches.
#[test]
fn an_index_that_is_damaged_in_the_middle_doubles_nothing() {
    const BATCHES: i64 = 3000;
    let settings = Settings { segment_bytes: 8 << 20, ..SETTINGS };
    let (disk, id) = (SimDisk::new(), common::id(1));
    let mut log = Log::open(Arc::new(disk.clone()), settings).expect("it opens");
    log.create_partition(id).expect("created");
    for _ in 0..BATCHES {
        common::append_one(&mut log, id, "value");
    }
    log.roll();
    common::append_one(&mut log, id, "behind it");
    log.take_chores().into_iter().for_each(|chore| drop(chore.run().expect("tidied up")));
    drop(log);
    let index = names(&disk, ".index").into_iter().next().expect("an index");
    let length = disk.open(&index).and_then(|file| file.len()).expect("a length");
    for part in [2, 3, 4] {
        let disk = disk.crash(|| true);
        disk.flip_bit(&index, length / 5 * part * 8);
        let log = Log::open(Arc::new(disk), settings).expect("it opens");
        let reader = log.reader();
        let extent = reader.usage(id).expect("it exists").extents[0];
        let mut offsets = Vec::new();
        let copied = reader.each_batch(id, &extent, |batch| {
            offsets.push(headwater_wire::BatchHeader::read(&batch)?.base_offset);
            Ok(())
        });
        copied.expect("nothing is damaged");
        assert_eq!(offsets, (extent.first..=extent.last).collect::<Vec<_>>(), "part {part}");
    }
    for part in [2, 3, 4] {
        let disk = disk.crash(|| true);
        disk.flip_bit(&index, length / 5 * part * 8);
        let log = Log::open(Arc::new(disk), settings).expect("it opens");
        let read = log.reader().read(id, 0, 8 << 20, headwater_log::Isolation::Uncommitted).expect("read");
        let (mut rest, mut offsets) = (read.records, Vec::new());
        while !rest.is_empty() {
            let header = headwater_wire::BatchHeader::read(&rest).expect("a batch");
            offsets.push(header.base_offset);
            let _ = rest.split_to(header.size);
        }
        assert_eq!(offsets, (0..=BATCHES).collect::<Vec<_>>(), "part {part}");
    }
}

/// Of three batches in a row compaction left the first and the last, and the last is damaged: whoever comes to where the
/// second was is told, before the damage is known and after.
#[test]
fn a_reader_in_a_gap_before_damage_is_told_of_it() {
    let (disk, id) = (SimDisk::new(), common::id(1));
    let mut log = Log::open(Arc::new(disk.clone()), SETTINGS).expect("it opens");
    log.create_partition(id).expect("created");
    (0..3).for_each(|_| common::append_one(&mut log, id, "value"));
    log.roll();
    common::append_one(&mut log, id, "behind it");
    let reader = log.reader();
    let old = reader.usage(id).expect("it exists").extents[0];
    assert_eq!((old.first, old.last), (0, 2));
    let mut run = reader.begin_run(log.take_run_number()).expect("a run begins");
    let copied = reader.each_batch(id, &old, |batch| {
        let offset = headwater_wire::BatchHeader::read(&batch)?.base_offset;
        if offset == 1 { Ok(()) } else { run.push(id, &batch) }
    });
    copied.expect("every batch is good");
    let extents: Vec<_> = run.finish().expect("written").into_iter().map(|(_, extent)| extent).collect();
    let (new, replaces) = (extents[0], vec![old.file]);
    log.install(Move { id, replaces, extents, cleaned: None, aborted: Vec::new() }).expect("installed");
    common::commit(&mut log);
    let read = |at: i64| reader.read(id, at, 1, Isolation::Committed);
    assert!(!read(1).expect("nothing is damaged yet").records.is_empty());

    let place = reader.places_of(id, &new).expect("places")[1];
    disk.flip_bit(&new.file.name(), (place.position + u64::from(place.size) - 1) * 8);
    let log = reopened(&disk);
    let reader = log.reader();
    for isolation in [Isolation::Committed, Isolation::Uncommitted, Isolation::Committed] {
        let told = reader.read(id, 1, 1, isolation);
        let Err(LogError::Damaged { damage, .. }) = &told else { panic!("{told:?}") };
        assert_eq!((damage.first, damage.last), (2, 2));
    }
    assert!(!reader.read(id, 0, 1000, Isolation::Committed).expect("what is before it").records.is_empty());
    assert!(!reader.read(id, 3, 1, Isolation::Committed).expect("what is behind it").records.is_empty());
    let end = reader.offsets(id).expect("offsets").high_watermark;
    assert!(reader.read(id, end, 1, Isolation::Committed).expect("the end").records.is_empty());
}

/// An error of the disk costs the batch that it is in, for who asks for much at once, too.
#[test]
fn what_is_before_a_sector_that_cannot_be_read_is_served() {
    let (disk, id) = (SimDisk::new(), common::id(1));
    let settings = Settings { segment_bytes: 1 << 20, ..SETTINGS };
    let mut log = Log::open(Arc::new(disk.clone()), settings).expect("it opens");
    log.create_partition(id).expect("created");
    for _ in 0..20 {
        common::append_one(&mut log, id, &"v".repeat(2 << 10));
    }
    log.roll();
    common::append_one(&mut log, id, "behind it");
    log.take_chores().into_iter().for_each(|chore| drop(chore.run().expect("tidied up")));
    let extent = log.reader().usage(id).expect("it exists").extents[0];
    let place = log.reader().places_of(id, &extent).expect("places")[10];
    disk.break_sector(&extent.file.name(), place.position + 1024);
    let last = |records: bytes::Bytes| {
        let (mut rest, mut last) = (records, None);
        while !rest.is_empty() {
            let header = headwater_wire::BatchHeader::read(&rest).expect("a batch");
            last = Some(header.last_offset());
            let _ = rest.split_to(header.size);
        }
        last
    };
    let check = |log: &Log<SimDisk>| {
        let read = |offset| log.reader().read(id, offset, 1 << 20, Isolation::Uncommitted);
        assert_eq!(last(read(0).expect("it is before").records), Some(9));
        assert!(matches!(read(10), Err(LogError::Unreadable { .. })));
        assert_eq!(last(read(11).expect("it is behind").records), Some(20));
        assert!(log.damage().is_empty(), "it may pass");
    };
    // What was looked at before, and what was not.
    check(&log);
    drop(log);
    check(&Log::open(Arc::new(disk), settings).expect("it opens again"));
}

/// Nobody knows which times are in what cannot be read; what is behind it is found.
#[test]
fn a_damaged_batch_answers_no_search_by_time() {
    use headwater_log::{Durability, Origin};
    use headwater_wire::{BatchBuilder, Compression};
    let (disk, id) = (SimDisk::new(), common::id(1));
    let mut log = Log::open(Arc::new(disk.clone()), SETTINGS).expect("it opens");
    log.create_partition(id).expect("created");
    for number in 1..=3 {
        let mut builder = BatchBuilder::new();
        builder.push(number * 1000, None, Some(b"a value"), &[]);
        let batch = builder.build(Compression::None, None, false).expect("it builds");
        log.append(id, &batch, Origin::Client, Durability::Synced, 0).expect("appended");
        let (ticket, outcome) = log.begin_commit().expect("something is staged").run();
        log.end_commit(ticket, outcome).expect("committed");
    }
    let reader = log.reader();
    let extent = reader.usage(id).expect("it exists").extents[0];
    let place = reader.places_of(id, &extent).expect("places")[1];
    disk.flip_bit(&extent.file.name(), (place.position + u64::from(place.size) - 3) * 8);
    let refused = reader.offset_for_time(id, 1500).expect_err("it is damaged");
    assert!(matches!(&refused, LogError::Damaged { damage, .. } if damage.first == 1), "{refused}");
    assert_eq!(reader.offset_for_time(id, 2500).expect("it is whole"), Some((2, 3000)));
}

/// Logs may hold such from times when brokers looked into few batches; the header says when it was.
#[test]
fn a_batch_that_nobody_unpacks_is_found_by_the_time_of_its_header() {
    use headwater_log::{Durability, Origin};
    use headwater_wire::batch::{HEADER_LEN, assign_producer};
    use headwater_wire::{BatchBuilder, Compression, Producer};
    let (disk, id) = (SimDisk::new(), common::id(1));
    let mut log = Log::open(Arc::new(disk), SETTINGS).expect("it opens");
    log.create_partition(id).expect("created");
    let mut builder = BatchBuilder::new();
    builder.push(5_000, None, Some(b"v"), &[]);
    let mut garbage = builder.build(Compression::Gzip, None, false).expect("it builds").to_vec();
    garbage[HEADER_LEN..].fill(0);
    // It changes nothing but the checksum.
    assign_producer(&mut garbage, Producer { id: -1, epoch: -1, base_sequence: -1 });
    log.append(id, &garbage.into(), Origin::Client, Durability::Synced, 0).expect("appended");
    let (ticket, outcome) = log.begin_commit().expect("something is staged").run();
    log.end_commit(ticket, outcome).expect("committed");
    assert_eq!(log.reader().offset_for_time(id, 4_000).expect("it is there"), Some((0, 5_000)));
}

#[test]
fn indexes_that_changed_places_are_built_again() {
    (0..60).for_each(common::misplace_indexes);
}

#[test]
fn damage_costs_nothing_of_what_was_written_behind_it() {
    (0..200).for_each(common::damage_the_middle);
}

#[test]
fn a_damaged_checkpoint_is_made_up_for_by_the_journal_before() {
    for seed in 0..30 {
        let (disk, before) = full(seed);
        let newest = names(&disk, ".wal").pop().expect("there is one");
        disk.flip_bit(&newest, 50 * 8);
        let (after, damage) = read_all(&reopened(&disk));
        assert_eq!((after, damage), (before, vec![]), "seed {seed}");
    }
}

/// Nobody can say what was in commits of which nothing can be read. In the partition that must not lose
/// anything unseen, that is damage.
#[test]
fn commits_of_which_nothing_is_left_are_damage_of_the_vital_partition() {
    for (damaged, named) in [(1, false), (3, false), (4, true)] {
        let vital = common::id(1);
        let disk = SimDisk::new();
        common::lose_commits(&disk, vital, damaged);
        let settings = Settings { vital: Some(vital), ..SETTINGS };
        let log = Log::open(Arc::new(disk.clone()), settings).expect("it opens");
        let damage: Vec<_> = log.damage().into_iter().filter(|(id, _)| *id == vital).collect();
        assert_eq!(!damage.is_empty(), named, "{damaged} damaged: {damage:?}");
        // A restart does not forget it.
        drop(log);
        let log = Log::open(Arc::new(disk.clone()), settings).expect("it opens again");
        assert_eq!(log.damage().iter().any(|(id, _)| *id == vital), named);
    }
}

/// What comes next would be below the start, acknowledged and read by nobody.
#[test]
fn a_log_goes_on_at_its_start_where_what_was_before_is_lost() {
    let (disk, topic, other) = (SimDisk::new(), common::id(1), common::id(2));
    let settings = Settings { segment_bytes: 1 << 20, ..SETTINGS };
    let open = || Log::open(Arc::new(disk.clone()), settings).expect("it opens");
    let mut log = open();
    for id in [topic, other] {
        log.create_partition(id).expect("created");
    }
    for id in [topic, topic, other, other, other] {
        common::append_one(&mut log, id, "value");
    }
    log.delete_before(topic, 2).expect("staged");
    for _ in 0..2 {
        common::append_one(&mut log, other, "value");
    }
    drop(log);
    let (journal, heads) = common::heads_of_newest(&disk);
    // Behind the checkpoint and the first commit. The first of these four is lost, and was the topic's last.
    for head in heads.iter().skip(2).take(4) {
        disk.flip_bit(&journal, (head + 20) as u64 * 8);
    }
    let mut log = open();
    let offsets = log.reader().offsets(topic).expect("offsets");
    assert_eq!((offsets.log_start, offsets.high_watermark), (2, 2));
    common::append_one(&mut log, topic, "it goes on");
    drop(log);
    let (records, _) = read_all(&open());
    assert_eq!(records[&topic].keys().copied().collect::<Vec<_>>(), [2]);
}

/// Which offsets are left, and which are named.
type Left = (Vec<(PartitionId, Vec<i64>)>, Vec<(PartitionId, i64, i64, Cause)>);

/// Commits of one record each, by partition; the heads of so many are damaged, from the second on.
fn without(damaged: usize, partitions: &[u8]) -> Left {
    let disk = SimDisk::new();
    let settings = Settings { segment_bytes: 1 << 20, ..SETTINGS };
    let mut log = Log::open(Arc::new(disk.clone()), settings).expect("it opens");
    let ids: BTreeSet<PartitionId> = partitions.iter().map(|partition| common::id(*partition)).collect();
    ids.iter().for_each(|id| log.create_partition(*id).expect("created"));
    for partition in partitions {
        common::append_one(&mut log, common::id(*partition), "value");
    }
    drop(log);
    let (journal, heads) = common::heads_of_newest(&disk);
    // Before the commits is the checkpoint.
    for head in heads.iter().skip(2).take(damaged) {
        disk.flip_bit(&journal, (head + 20) as u64 * 8);
    }
    let mut known: Option<Left> = None;
    for restart in 0..3 {
        let log = Log::open(Arc::new(disk.clone()), settings).expect("it opens");
        let (records, damage) = read_all(&log);
        let left = ids.iter().map(|id| {
            let offsets =
                records.get(id).map(|records| records.keys().copied().collect()).unwrap_or_default();
            (*id, offsets)
        });
        let named = damage.into_iter().map(|(id, d)| (id, d.first, d.last, d.cause));
        let found: Left = (left.collect(), named.collect());
        assert_eq!(*known.get_or_insert_with(|| found.clone()), found, "after restart {restart}");
    }
    known.expect("it was opened")
}

#[test]
fn three_damaged_commits_in_a_row_cost_nothing() {
    let [a, b, c] = [1, 2, 3].map(common::id);
    let whole = vec![(a, vec![0, 1, 2]), (b, vec![0, 1]), (c, vec![0, 1])];
    for damaged in 0..=3 {
        assert_eq!(without(damaged, &[1, 1, 2, 3, 1, 2, 3]), (whole.clone(), vec![]), "{damaged} damaged");
    }
}

/// Of four in a row the first has no copy. It costs the records of that commit, which the next commit of the partition
/// names, and nothing else.
#[test]
fn four_damaged_commits_in_a_row_cost_the_first_and_what_is_lost_is_named() {
    let [a, b, c] = [1, 2, 3].map(common::id);
    let (left, named) = without(4, &[1, 1, 2, 3, 2, 1, 2]);
    assert_eq!(left, [(a, vec![0, 2]), (b, vec![0, 1, 2]), (c, vec![0])]);
    assert_eq!(named, [(a, 1, 1, Cause::LostCommit)]);
    // Of a partition without a later commit nobody knows that it had one more record; all others are whole.
    let (left, named) = without(4, &[1, 2, 1, 3, 1, 3, 1]);
    assert_eq!(left, [(a, vec![0, 1, 2, 3]), (b, vec![]), (c, vec![0, 1])]);
    assert_eq!(named, []);
}

/// What a disk loses at once: any sector of a journal of small commits.
#[test]
fn a_lost_sector_costs_the_batches_in_it_and_no_commit() {
    const SECTOR: u64 = 512;
    let disk = SimDisk::new();
    let settings = Settings { segment_bytes: 1 << 20, ..SETTINGS };
    let ids = [1, 2, 3].map(common::id);
    let mut log = Log::open(Arc::new(disk.clone()), settings).expect("it opens");
    ids.iter().for_each(|id| log.create_partition(*id).expect("created"));
    for number in 0..60 {
        common::append_one(&mut log, ids[number % 3], &"v".repeat(number));
    }
    drop(log);
    let (journal, heads) = common::heads_of_newest(&disk);
    let (first, last) = (heads[1] as u64 / SECTOR + 1, heads[heads.len() - 1] as u64 / SECTOR);
    for sector in first..last {
        let disk = disk.crash(|| true);
        let zeros =
            disk.open(&journal).and_then(|file| file.write_all_at(&[0; SECTOR as usize], sector * SECTOR));
        zeros.expect("written");
        let log = Log::open(Arc::new(disk), settings).expect("it opens");
        let (records, damage) = read_all(&log);
        for id in ids {
            let there = records[&id].len();
            let named = damage.iter().filter(|(of, _)| *of == id).map(|(_, d)| d.last - d.first + 1);
            assert_eq!(there as i64 + named.sum::<i64>(), 20, "sector {sector}: {damage:?}");
        }
        assert!(
            damage.iter().all(|(_, damage)| damage.cause == Cause::Checksum),
            "sector {sector}: {damage:?}"
        );
    }
}

fn contents(disk: &SimDisk, file: FileId) -> Vec<u8> {
    let file = disk.open(&file.name()).expect("opens");
    let mut bytes = vec![0; file.len().expect("a length") as usize];
    file.read_exact_at(&mut bytes, 0).expect("read");
    bytes
}

/// No start reads them any more: whoever meets one puts it back from its copy, and the file is as it was.
#[test]
fn a_damaged_marker_of_a_finished_journal_is_put_back_by_whoever_meets_it() {
    type Meet = fn(&Log<SimDisk>, PartitionId, &Extent);
    let ways: [Meet; 3] = [
        |log, _, _| drop(read_all(log)),
        |log, id, extent| assert_eq!(log.reader().scrub(id, extent, |_| true).expect("scrubbed"), 0),
        |log, id, extent| log.reader().each_batch(id, extent, |_| Ok(())).expect("nothing is damaged"),
    ];
    let mut met = 0;
    for seed in 0..20 {
        let (disk, before) = full(seed);
        drop(reopened(&disk));
        let log = reopened(&disk);
        for (at, (id, extent, position, size)) in markers(&log).into_iter().enumerate() {
            let disk = disk.crash(|| true);
            let whole = contents(&disk, extent.file);
            disk.flip_bit(&extent.file.name(), position * 8 + (at * 37 % (size * 8)) as u64);
            if at % 4 == 3 {
                // Made again, the index knows of it, too.
                let _ = disk.remove(&format!("{}.index", extent.file.name()));
            }
            let log = reopened(&disk);
            ways[at % 3](&log, id, &extent);
            assert!(contents(&disk, extent.file) == whole, "seed {seed}, marker {at} of {id}");
            assert_eq!(read_all(&log), (before.clone(), vec![]), "seed {seed}");
            met += 1;
        }
    }
    assert!(met > 20, "{met} markers");
}

#[test]
fn what_a_client_forges_never_becomes_a_commit() {
    common::forged::forged(0);
}

#[test]
fn a_missing_file_is_named_and_the_others_are_served() {
    for seed in 0..40 {
        let (disk, before) = full(seed);
        let mut files = names(&disk, ".wal");
        files.truncate(files.len() - 2);
        files.extend(names(&disk, ".run"));
        for name in files {
            let disk = disk.crash(|| true);
            let file = FileId::parse(&name).expect("a file's name");
            disk.remove(&name).expect("removed");
            let (after, damage) = read_all(&reopened(&disk));
            assert!(
                damage.iter().all(|(_, damage)| damage.cause == Cause::MissingFile && damage.file == file)
            );
            common::assert_named(&before, &after, &damage, &BTreeMap::new());
        }
    }
}

#[test]
fn the_newest_journals_loss_is_noticed() {
    for seed in 0..30 {
        let (disk, _) = full(seed);
        let newest = names(&disk, ".wal").pop().expect("there is one");
        disk.remove(&newest).expect("removed");
        let opened = Log::open(Arc::new(disk.clone()), SETTINGS).err().expect("refused").to_string();
        assert!(opened.contains(&newest) && opened.contains("missing"), "{opened}");
    }
}

#[test]
fn the_newest_journals_in_each_others_place_are_noticed() {
    for seed in 0..30 {
        let (disk, _) = full(seed);
        let mut files = names(&disk, ".wal");
        let (a, b) = (files.pop().expect("one"), files.pop().expect("two"));
        disk.rename(&a, "between").expect("moved");
        disk.rename(&b, &a).expect("moved");
        disk.rename("between", &b).expect("moved");
        let opened = Log::open(Arc::new(disk.clone()), SETTINGS).err().expect("refused").to_string();
        assert!(opened.contains("another file") || opened.contains("whole checkpoint"), "{opened}");
    }
}

#[test]
fn the_newest_journal_in_an_old_ones_place_is_noticed() {
    for seed in 0..30 {
        let (disk, _) = full(seed);
        let files = names(&disk, ".wal");
        let (Some(oldest), Some(newest)) = (files.first(), files.last()) else { continue };
        if oldest == newest {
            continue;
        }
        disk.rename(oldest, "between").expect("moved");
        disk.rename(newest, oldest).expect("moved");
        disk.rename("between", newest).expect("moved");
        let opened = Log::open(Arc::new(disk.clone()), SETTINGS).err().expect("refused").to_string();
        assert!(opened.contains("changed places") || opened.contains("whole checkpoint"), "{opened}");
    }
}

#[test]
fn files_that_changed_places_are_not_taken_for_each_other() {
    for seed in 0..40 {
        let (disk, before) = full(seed);
        let files = names(&disk, ".wal");
        if files.len() < 4 {
            continue;
        }
        disk.rename(&files[0], "between").expect("moved");
        disk.rename(&files[1], &files[0]).expect("moved");
        disk.rename("between", &files[1]).expect("moved");
        let (after, damage) = read_all(&reopened(&disk));
        common::assert_named(&before, &after, &damage, &BTreeMap::new());
    }
}

#[test]
fn a_newest_journal_that_was_cut_anywhere_opens_with_what_is_left() {
    let (disk, before) = full(3);
    let newest = names(&disk, ".wal").pop().expect("there is one");
    let length = disk.open(&newest).and_then(|file| file.len()).expect("a length");
    for length in (0..length).step_by(37) {
        let disk = disk.crash(|| true);
        disk.open(&newest).and_then(|file| file.set_len(length)).expect("cut");
        let (after, damage) = read_all(&reopened(&disk));
        assert_eq!(damage, []);
        for (id, records) in after {
            assert!(records.iter().all(|record| before[&id].get(record.0) == Some(record.1)));
        }
    }
}
