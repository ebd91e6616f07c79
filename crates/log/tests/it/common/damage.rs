//! Bits that flip and files that change places.

use std::collections::BTreeMap;
use std::sync::Arc;

use headwater_log::{
    BatchPlace, Disk, DiskFile, Durability, Extent, FileId, Isolation, Log, Origin, PartitionId, Settings,
    SimDisk,
};
use headwater_wire::BatchHeader;
use rand::Rng;

use super::look::Records;
use super::model::ModelPartition;
use super::world::World;
use super::{SETTINGS, assert_named, id, read_all};

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

/// Flips a bit in the newest journal, before a commit that was synced behind it; panics when that is lost, or
/// when the bit costs more than one batch of data.
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
    let before = read_all(&world.log).0;
    let stable = stable_offsets(&world.log);
    let at = world.rng.random_range(100..end);
    world.disk.flip_bit(&name, at * 8 + 3);
    let log = Log::open(Arc::new(world.disk.clone()), SETTINGS).expect("it opens");
    let read = log.reader().read(marked, 0, 1, Isolation::Uncommitted).expect("what lies behind the damage");
    assert!(!read.records.is_empty());
    let (after, damage) = read_all(&log);
    assert_named(&before, &after, &damage, &BTreeMap::new());
    let batches = |records: &Records| records.values().map(BTreeMap::len).sum::<usize>();
    assert!(batches(&before) <= batches(&after) + 1, "one bit costs {damage:?}");
    // Whoever loses a marker does not know how a transaction ended, and holds back all that follows. A
    // damaged batch at the beginning of an open transaction holds back nothing.
    let stable_after = stable_offsets(&log);
    let back = stable.iter().find(|(id, offset)| stable_after.get(id).is_none_or(|after| after < offset));
    assert_eq!(back, None, "the last stable offset went back");
    if damage.is_empty() {
        assert_eq!(stable_after, stable);
    }
}

pub fn commit<D: Disk>(log: &mut Log<D>) {
    let (ticket, outcome) = log.begin_commit().expect("something is staged").run();
    log.end_commit(ticket, outcome).expect("committed");
}

/// A record in a commit of its own.
pub fn append_one<D: Disk>(log: &mut Log<D>, id: PartitionId, value: &str) {
    let mut builder = headwater_wire::BatchBuilder::new();
    builder.push(0, None, Some(value.as_bytes()), &[]);
    let batch = builder.build(headwater_wire::Compression::None, None, false).expect("it builds");
    log.append(id, &batch, Origin::Client, Durability::Synced, 0).expect("appended");
    commit(log);
}

/// A log in which the heads of so many commits are damaged, of four that follow each other, the last first: the first
/// of them was the last one of `vital`, and nothing of it can be read when all are.
pub fn lose_commits(disk: &SimDisk, vital: PartitionId, damaged: usize) {
    let other = id(2);
    let mut log =
        Log::open(Arc::new(disk.clone()), Settings { vital: Some(vital), ..SETTINGS }).expect("it opens");
    for id in [vital, other] {
        log.create_partition(id).expect("created");
    }
    commit(&mut log);
    for id in [vital, vital, vital, other, other, other, other] {
        append_one(&mut log, id, "value");
    }
    let heads = heads_of_newest(disk);
    // The last four are of the other partition.
    let [.., of_vital, first, second, third, _] = heads.1[..] else { panic!("{heads:?}") };
    for at in [third, second, first, of_vital].iter().take(damaged) {
        disk.flip_bit(&heads.0, (at + 20) as u64 * 8);
    }
}

pub fn heads_of_newest(disk: &SimDisk) -> (String, Vec<usize>) {
    let mut names = disk.list().expect("listed");
    names.retain(|name| name.ends_with(".wal"));
    let name = names.into_iter().max().expect("there is one");
    let file = disk.open(&name).expect("opens");
    let mut bytes = vec![0; DiskFile::len(&file).expect("a length") as usize];
    file.read_exact_at(&mut bytes, 0).expect("read");
    let heads = (0..bytes.len()).filter(|at| bytes[*at..].starts_with(b"HWL3")).collect();
    (name, heads)
}

fn stable_offsets<D: Disk>(log: &Log<D>) -> BTreeMap<headwater_log::PartitionId, i64> {
    let of = |id| (id, log.reader().offsets(id).expect("offsets").last_stable);
    log.partitions().into_iter().map(of).collect()
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

/// Control batches in journals that readers still read, with the partition, and where they are.
pub fn markers<D: Disk>(log: &Log<D>) -> Vec<(PartitionId, Extent, u64, usize)> {
    let reader = log.reader();
    let mut found = Vec::new();
    for id in log.partitions() {
        for extent in reader.usage(id).expect("it exists").extents {
            let mut sizes = Vec::new();
            let read = reader.each_batch(id, &extent, |batch| {
                let header = BatchHeader::read(&batch)?;
                sizes.push(header.is_control().then_some(header.size));
                Ok(())
            });
            read.expect("all is whole");
            let places = reader.places_of(id, &extent).expect("places");
            // Nobody reads what is below the start of the log.
            let start = reader.offsets(id).expect("offsets").log_start;
            let read = |place: &BatchPlace| !extent.file.is_run() && place.base_offset >= start;
            for (place, size) in places.iter().zip(sizes).filter(|(place, _)| read(place)) {
                found.extend(size.map(|size| (id, extent, place.position, size)));
            }
        }
    }
    found
}
