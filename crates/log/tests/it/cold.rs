//! Files in a cold store: they are read as if they were here, and never go before they are there as a whole.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Barrier};

use headwater_log::{
    COLD_PIECE, ColdStore, Disk, DiskFile, Durability, FileId, Isolation, Log, LogError, MirroredDisk,
    Origin, Orphans, Ownership, Pieces, Settings, SimDisk, Swept,
};
use headwater_wire::{BatchBuilder, BatchHeader, Compression};
use rand::Rng;

use crate::common::{self, SETTINGS, Store, World, read_all};

/// A world whose finished files are all in the store, and only there.
fn far(seed: u64) -> (World, usize) {
    let mut world = World::new(seed, false);
    world.run(300);
    world.settle();
    for _ in 0..60 {
        world.cool();
        world.settle();
    }
    let files = world.log.reader().files().expect("files");
    let far = files.iter().filter(|file| file.cold && !file.local).count();
    (world, far)
}

#[test]
fn what_is_far_is_read_as_if_it_were_here() {
    let mut moved = 0;
    for seed in 0..20 {
        let mut world = World::new(seed, false);
        world.run(300);
        world.settle();
        let before = read_all(&world.log);
        for _ in 0..60 {
            world.cool();
            world.settle();
        }
        let files = world.log.reader().files().expect("files");
        moved += files.iter().filter(|file| file.cold && !file.local).count();
        assert_eq!(read_all(&world.log), before, "seed {seed}");
        let again = world.reopened();
        assert_eq!(read_all(&again), before, "seed {seed}, after a restart");
    }
    assert!(moved > 40, "{moved} files were moved");
}

/// Many readers of the same history cost the store no more than one.
#[test]
fn a_file_is_fetched_once_however_many_want_it() {
    let mut all = 0;
    for seed in 0..8 {
        let (world, moved) = far(seed);
        let before = world.store.ranges.load(Ordering::Relaxed);
        world.store.slow.store(true, Ordering::Relaxed);
        std::thread::scope(|scope| {
            for _ in 0..16 {
                scope.spawn(|| read_all(&world.log));
            }
        });
        let fetched = world.store.ranges.load(Ordering::Relaxed) - before;
        assert!(fetched <= moved, "{fetched} fetches of {moved} files");
        all += fetched;
    }
    assert!(all > 5, "{all} fetches");
}

/// The store refuses pieces that are larger than it is told they are.
#[test]
fn a_large_file_goes_there_in_pieces() {
    let (disk, store, id) = (SimDisk::new(), Store::default(), common::id(1));
    let settings = Settings { segment_bytes: 64 << 20, ..SETTINGS };
    let log = Log::open_with(Arc::new(disk.clone()), settings, Some(Arc::new(store.clone())));
    let mut log = log.expect("it opens");
    log.create_partition(id).expect("created");
    for letter in ["a", "b", "c", "d", "e"] {
        common::append_one(&mut log, id, &letter.repeat(4 << 20));
    }
    log.roll();
    common::append_one(&mut log, id, "behind it");
    log.take_chores().into_iter().for_each(|chore| drop(chore.run().expect("tidied up")));
    let reader = log.reader();
    let file = reader.usage(id).expect("it exists").extents[0].file;
    assert_eq!(reader.claim_cold_store(7).expect("it answers"), Ownership::Ours);
    let cold = reader.upload(file).expect("it goes there");
    assert!(cold.length > 2 * COLD_PIECE as u64);
    let local = disk.open(&file.name()).expect("it is here");
    let mut bytes = vec![0; local.len().expect("a length") as usize];
    local.read_exact_at(&mut bytes, 0).expect("read");
    assert!(store.get(&file.name()).expect("it is there") == bytes);
}

/// Whoever reads history, however much, leaves room for what is written.
#[test]
fn what_came_back_goes_again_where_there_is_no_room() {
    let (disk, id) = (SimDisk::new(), common::id(1));
    let settings = Settings { segment_bytes: 64 << 10, spares: 0, ..SETTINGS };
    let log = Log::open_with(Arc::new(disk.clone()), settings, Some(Arc::new(Store::default())));
    let mut log = log.expect("it opens");
    log.create_partition(id).expect("created");
    for number in 0..60 {
        common::append_one(&mut log, id, &format!("{number:04}").repeat(2 << 10));
    }
    log.take_chores().into_iter().for_each(|chore| drop(chore.run().expect("tidied up")));
    let reader = log.reader();
    assert_eq!(reader.claim_cold_store(7).expect("it answers"), Ownership::Ours);
    let files = reader.files().expect("files");
    let newest = files.iter().map(|file| file.file.number()).max().expect("there are some");
    for file in files.iter().filter(|file| file.live > 0 && file.file.number() + 1 < newest) {
        log.cool(reader.upload(file.file).expect("it goes there")).expect("staged");
    }
    let (ticket, outcome) = log.begin_commit().expect("a commit").run();
    log.end_commit(ticket, outcome).expect("committed");
    log.take_chores().into_iter().for_each(|chore| drop(chore.run().expect("they go from here")));
    let files = reader.files().expect("files");
    let far: Vec<u64> =
        files.iter().filter(|file| file.cold && !file.local).map(|file| file.length).collect();
    assert!(far.len() > 4, "{} files are far", far.len());
    let names = disk.list().expect("listed");
    let length = |name: &String| disk.open(name).and_then(|file| file.len()).expect("a length");
    let taken: u64 = names.iter().map(length).sum();
    let room = 3 * far.iter().copied().max().expect("there are some");
    disk.faults(|faults| faults.capacity = Some(taken + room));
    for offset in 0..60 {
        let read = reader.read(id, offset, 500, Isolation::Uncommitted).expect("it comes back");
        assert!(!read.records.is_empty(), "nothing at {offset}");
    }
    common::append_one(&mut log, id, "there is room for it");
}

/// A store that stops in the midst of a fetch, and keeps what it was told to remove then.
struct Held {
    store: Store,
    holds: AtomicBool,
    gate: Barrier,
}

impl ColdStore for Held {
    fn put(&self, name: &str, pieces: Pieces<'_>) -> std::io::Result<()> {
        self.store.put(name, pieces)
    }

    fn put_new(&self, name: &str, bytes: Vec<u8>) -> std::io::Result<bool> {
        self.store.put_new(name, bytes)
    }

    fn get(&self, name: &str) -> std::io::Result<Vec<u8>> {
        self.store.get(name)
    }

    fn get_range(&self, name: &str, from: u64, length: usize) -> std::io::Result<Vec<u8>> {
        if self.holds.load(Ordering::Relaxed) {
            self.gate.wait();
            self.gate.wait();
        }
        self.store.get_range(name, from, length)
    }

    fn delete(&self, name: &str) -> std::io::Result<()> {
        if self.holds.load(Ordering::Relaxed) { Ok(()) } else { self.store.delete(name) }
    }

    fn list(&self) -> std::io::Result<Vec<String>> {
        self.store.list()
    }

    fn size(&self, name: &str) -> std::io::Result<Option<u64>> {
        self.store.size(name)
    }
}

#[test]
fn a_file_that_comes_back_when_nobody_needs_it_any_more_does_not_stay() {
    let (disk, id) = (SimDisk::new(), common::id(1));
    let (store, holds, gate) = (Store::default(), AtomicBool::new(false), Barrier::new(2));
    let held = Arc::new(Held { store, holds, gate });
    let cold: Arc<dyn ColdStore> = held.clone();
    let settings = Settings { spares: 0, ..SETTINGS };
    let mut log = Log::open_with(Arc::new(disk.clone()), settings, Some(cold)).expect("it opens");
    log.create_partition(id).expect("created");
    for number in 0..60 {
        common::append_one(&mut log, id, &format!("{number:04}").repeat(200));
    }
    let reader = log.reader();
    assert_eq!(reader.claim_cold_store(7).expect("it answers"), Ownership::Ours);
    let file = reader.usage(id).expect("it exists").extents[0].file;
    log.cool(reader.upload(file).expect("it goes there")).expect("staged");
    let tidied = |log: &mut Log<SimDisk>| {
        let (ticket, outcome) = log.begin_commit().expect("a commit").run();
        log.end_commit(ticket, outcome).expect("committed");
        log.take_chores().into_iter().for_each(|chore| drop(chore.run().expect("done")));
    };
    tidied(&mut log);
    assert!(!disk.list().expect("listed").contains(&file.name()));
    held.holds.store(true, Ordering::Relaxed);
    std::thread::scope(|scope| {
        let fetching = scope.spawn(|| reader.fetch(file));
        held.gate.wait();
        log.delete_partition(id).expect("deleted");
        tidied(&mut log);
        held.gate.wait();
        fetching.join().expect("no panic").expect_err("nobody needs it");
    });
    assert!(!disk.list().expect("listed").contains(&file.name()));
}

/// Who does not wait is told which file it is that he needs.
#[test]
fn a_reader_that_does_not_wait_is_told_what_is_far() {
    let (world, moved) = far(1);
    let patient = world.log.reader();
    let reader = patient.near();
    let mut brought = 0;
    for id in world.log.partitions() {
        let offsets = reader.offsets(id).expect("offsets");
        let mut at = offsets.log_start;
        while at < offsets.high_watermark {
            let asked = world.store.ranges.load(Ordering::Relaxed);
            match reader.read(id, at, 500, Isolation::Uncommitted) {
                Ok(fetched) => {
                    let mut rest = fetched.records;
                    while !rest.is_empty() {
                        let header = BatchHeader::read(&rest).expect("a batch");
                        at = header.last_offset() + 1;
                        let _ = rest.split_to(header.size);
                    }
                }
                Err(LogError::Far { id, .. }) => {
                    assert_eq!(world.store.ranges.load(Ordering::Relaxed), asked, "the store was not asked");
                    patient.fetch(id).expect("it comes");
                    brought += 1;
                }
                Err(LogError::Damaged { damage, .. }) => at = damage.last + 1,
                Err(error) => panic!("{error}"),
            }
        }
    }
    assert!((1..=moved).contains(&brought), "{brought} of {moved}");
}

#[test]
fn a_store_that_spoils_what_it_gets_is_found_out_before_the_local_copy_goes() {
    for seed in 0..10 {
        let mut world = World::new(seed, false);
        world.store.spoils.store(true, Ordering::Relaxed);
        world.run(300);
        world.settle();
        let before = read_all(&world.log);
        for _ in 0..20 {
            world.cool();
            world.settle();
        }
        let files = world.log.reader().files().expect("files");
        assert!(files.iter().all(|file| !file.cold), "seed {seed}");
        assert_eq!(read_all(&world.log), before, "seed {seed}");
    }
}

/// Both copies here go when the file is in the store, so what goes there is what is good of them.
#[test]
fn damage_on_one_side_of_a_mirror_does_not_go_to_the_store() {
    let mut moved = 0;
    for seed in 0..20 {
        let mut world = World::mirrored(seed);
        world.cools = false;
        world.steady = true;
        world.live(250);
        world.settle();
        let before = read_all(&world.log);
        let newest = world.newest_journal().number();
        let files = world.log.reader().files().expect("files");
        let idle: Vec<FileId> = files
            .into_iter()
            .filter(|file| file.local && !file.cold && file.live > 0)
            .map(|file| file.file)
            .filter(|file| file.is_run() || file.number() + 1 < newest)
            .collect();
        for file in &idle {
            let name = file.name();
            let length = world.disk.open(&name).expect("opens").len().expect("a length");
            for _ in 0..20 {
                let bit = world.rng.random_range(0..length * 8);
                world.disk.flip_bit(&name, bit);
            }
        }
        // Nobody has looked at them since.
        let log = world.reopened();
        world.log = log;
        for file in &idle {
            let cold = world.log.reader().upload(*file).expect("it goes there");
            world.log.cool(cold).expect("cooled");
        }
        world.settle();
        let files = world.log.reader().files().expect("files");
        let far = files.iter().filter(|file| file.cold && !file.local);
        moved += far.filter(|file| idle.contains(&file.file)).count();
        assert_eq!(read_all(&world.log), before, "seed {seed}");
    }
    assert!(moved > 20, "{moved} damaged files were moved");
}

#[test]
fn damage_in_the_store_is_refused() {
    for seed in 0..10 {
        let (world, moved) = far(seed);
        if moved == 0 {
            continue;
        }
        for bytes in world.store.objects.lock().expect("unpoisoned").values_mut() {
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
        }
        let reader = world.log.reader();
        for id in world.log.partitions() {
            let offsets = reader.offsets(id).expect("offsets");
            let isolation = headwater_log::Isolation::Uncommitted;
            if let Ok(fetched) = reader.read(id, offsets.log_start, 500, isolation) {
                let mut rest = fetched.records;
                while !rest.is_empty() {
                    let header = headwater_wire::BatchHeader::read(&rest).expect("a batch");
                    header.verify(&rest).expect("only good batches are served");
                    let _ = rest.split_to(header.size);
                }
            }
        }
    }
}

#[test]
fn objects_that_nobody_needs_go() {
    for seed in 0..10 {
        let (mut world, _) = far(seed);
        for id in world.log.partitions() {
            world.log.delete_partition(id).expect("deleted");
        }
        world.staged.partitions.clear();
        world.settle();
        assert_eq!(files_in(&world), BTreeSet::new(), "seed {seed}");
        let runs = world.disk.list().expect("listed");
        assert!(runs.iter().filter_map(|name| FileId::parse(name)).all(|file| !file.is_run()), "{runs:?}");
    }
}

/// The log may have lost the commit that said that the file is there.
#[test]
fn an_object_of_a_file_that_is_missing_here_stays() {
    let (disk, store, id) = (SimDisk::new(), Store::default(), common::id(1));
    let open = || {
        let store = Some(Arc::new(store.clone()) as Arc<dyn ColdStore>);
        Log::open_with(Arc::new(disk.clone()), SETTINGS, store).expect("it opens")
    };
    let mut log = open();
    log.create_partition(id).expect("created");
    for number in 0..60 {
        common::append_one(&mut log, id, &format!("{number:04}").repeat(200));
    }
    let before = read_all(&log);
    let reader = log.reader();
    assert_eq!(reader.claim_cold_store(7).expect("it answers"), Ownership::Ours);
    let file = reader.usage(id).expect("it exists").extents[0].file;
    reader.upload(file).expect("it goes there");
    drop((log, reader));
    disk.remove(&file.name()).expect("removed");
    let log = open();
    assert!(!log.damage().is_empty());
    let swept = log.reader().sweep_cold_store(&mut Orphans::default(), 0, 0, usize::MAX).expect("swept");
    assert_eq!(swept, Swept::default());
    drop(log);
    // As the finding says: it is brought back.
    let back = disk.create(&file.name()).expect("created");
    back.write_all_at(&store.get(&file.name()).expect("it is there"), 0).expect("written");
    assert_eq!(read_all(&open()), before);
}

/// An object that nobody knows of goes when it has been so for long enough, and no other ever does.
#[test]
fn orphans_wait_and_what_is_needed_stays() {
    let mut swept = 0;
    for seed in 0..10 {
        let (mut world, _) = far(seed);
        let before = read_all(&world.log);
        let needed: BTreeSet<String> = objects(&world);
        // A move that is killed before its commit: the object is there, and nobody knows.
        let reader = world.log.reader();
        let files = reader.files().expect("files");
        let newest = world.newest_journal();
        let local = files.iter().find(|file| file.local && !file.cold && file.file != newest);
        let Some(file) = local.map(|file| file.file) else { continue };
        reader.upload(file).expect("uploaded");
        for name in ["0000000000009999.run", "notes.txt"] {
            world.store.objects.lock().expect("unpoisoned").insert(name.to_owned(), vec![1]);
        }
        let unknown =
            objects(&world).difference(&needed).filter(|name| FileId::parse(name).is_some()).count();
        let mut orphans = Orphans::default();
        let mut sweep =
            |now, most| world.log.reader().sweep_cold_store(&mut orphans, now, 1000, most).expect("swept");
        assert_eq!(sweep(5000, 9), Swept { removed: 0, waiting: unknown }, "seed {seed}");
        assert_eq!(sweep(5999, 9), Swept { removed: 0, waiting: unknown });
        assert_eq!(sweep(6000, 1), Swept { removed: 1, waiting: unknown - 1 }, "one at a time");
        assert_eq!(sweep(6001, 9).waiting, 0);
        swept += unknown;
        let left = objects(&world);
        assert!(left.contains("notes.txt"), "what is no file of a log is not touched");
        assert!(needed.is_subset(&left), "seed {seed}");
        assert_eq!(read_all(&world.log), before);
        world.log = world.reopened();
        assert_eq!(read_all(&world.log), before);
    }
    assert!(swept > 5, "{swept} were swept");
}

fn objects(world: &World) -> BTreeSet<String> {
    world.store.objects.lock().expect("unpoisoned").keys().cloned().collect()
}

fn files_in(world: &World) -> BTreeSet<String> {
    objects(world).into_iter().filter(|name| FileId::parse(name).is_some()).collect()
}

type Restored = Log<MirroredDisk<SimDisk>>;

/// The log as a backup of the world gives it back: all files are here, and the store does not know it.
fn restored(world: &World, store: &Store) -> Restored {
    let copy = world.disk.crash(|| true);
    copy.remove("cold-owner").expect("a backup does not have it");
    for (name, bytes) in world.store.objects.lock().expect("unpoisoned").iter() {
        if FileId::parse(name).is_some() {
            let file = copy.create(name).expect("created");
            file.write_all_at(bytes, 0).expect("written");
        }
    }
    let disk = Arc::new(MirroredDisk::single(copy));
    Log::open_with(disk, common::SETTINGS, Some(Arc::new(store.clone()))).expect("it opens")
}

/// Writes until there is a finished file that is nowhere but here, and returns it.
fn finish_a_file(log: &mut Restored) -> FileId {
    for number in 0..4 {
        let mut batch = BatchBuilder::default();
        batch.push(1, None, Some(format!("of the copy, {number}").as_bytes()), &[]);
        let batch = batch.build(Compression::None, None, false).expect("a batch");
        let id = log.partitions()[0];
        log.append(id, &batch, Origin::Broker, Durability::Synced, 1).expect("appended");
        log.roll();
        let (ticket, outcome) = log.begin_commit().expect("a commit").run();
        log.end_commit(ticket, outcome).expect("committed");
    }
    for chore in log.take_chores() {
        chore.run().expect("done");
    }
    let files = log.reader().files().expect("files");
    let newest = files.iter().filter(|file| !file.file.is_run()).map(|file| file.file.number()).max();
    let finished = files.into_iter().filter(|file| file.local && !file.cold && file.live > 0);
    let mut journals = finished.map(|file| file.file).filter(|file| !file.is_run());
    journals.rfind(|file| Some(file.number() + 1) < newest).expect("a finished journal")
}

/// A copy of a log does not own what the log it was copied from has in the store: it puts nothing over it,
/// removes nothing of it, and lets go of nothing here on the strength of it.
#[test]
fn a_restored_log_leaves_the_place_of_the_first_one_alone() {
    let (mut world, moved) = far(1);
    assert!(moved > 0);
    let first = world.log.reader();
    assert_eq!(first.claim_cold_store(1).expect("asked"), Ownership::Ours);
    let before = world.store.objects.lock().expect("unpoisoned").clone();
    let mut copy = restored(&world, &world.store);
    let reader = copy.reader();
    for fresh in 3..5 {
        assert_eq!(reader.claim_cold_store(fresh).expect("asked"), Ownership::Others);
    }
    let refused = |error: std::io::Error| {
        assert_eq!(error.kind(), std::io::ErrorKind::PermissionDenied, "{error}");
        assert!(error.to_string().contains("prefix of its own"), "{error}");
    };
    let file = finish_a_file(&mut copy);
    match reader.upload(file).expect_err("it would go over what the first one puts there") {
        LogError::Io(error) => refused(error),
        other => panic!("{other}"),
    }
    let files = reader.files().expect("files");
    let known = files.iter().find(|file| file.cold).expect("one has moved").file;
    refused(reader.evict(known, &mut || {}).expect_err("the first one may remove it there"));
    assert!(reader.files().expect("files").iter().all(|file| file.local), "everything stays here");
    refused(reader.sweep_cold_store(&mut Orphans::default(), 9, 0, 9).expect_err("it is not its own"));
    for id in copy.partitions() {
        copy.delete_partition(id).expect("deleted");
    }
    let (ticket, outcome) = copy.begin_commit().expect("a commit").run();
    copy.end_commit(ticket, outcome).expect("committed");
    for chore in copy.take_chores() {
        chore.run().expect("another's objects are no trouble");
    }
    assert_eq!(*world.store.objects.lock().expect("unpoisoned"), before, "not a byte has changed");
    world.log = world.reopened();
    assert_eq!(
        world.log.reader().claim_cold_store(6).expect("asked"),
        Ownership::Ours,
        "a restart changes nothing"
    );
    read_all(&world.log);
}

/// With a place of its own it moves everything again, although it knows of objects by the same names elsewhere.
#[test]
fn a_restored_log_moves_its_files_again_to_a_place_of_its_own() {
    let (world, moved) = far(1);
    assert!(moved > 0);
    let place = Store::default();
    let mut copy = restored(&world, &place);
    let before = read_all(&copy);
    let reader = copy.reader();
    assert_eq!(reader.claim_cold_store(2).expect("asked"), Ownership::Ours);
    let known: Vec<FileId> =
        reader.files().expect("files").iter().filter(|file| file.cold).map(|file| file.file).collect();
    assert!(!known.is_empty());
    for file in known {
        assert!(!reader.evict(file, &mut || {}).expect("asked"), "it is not there");
        let cold = reader.upload(file).expect("so it is put there");
        copy.cool(cold).expect("staged");
        let (ticket, outcome) = copy.begin_commit().expect("a commit").run();
        copy.end_commit(ticket, outcome).expect("committed");
    }
    for chore in copy.take_chores() {
        chore.run().expect("done");
    }
    assert!(reader.files().expect("files").iter().all(|file| file.local != file.cold));
    assert_eq!(read_all(&copy), before);
}

/// Files of a version without owners may be those of a log that this one was restored from.
#[test]
fn a_place_with_files_that_nobody_knows_is_not_taken() {
    let (world, _) = far(1);
    let place = Store::default();
    place.put_new("00000000000000009999.run", vec![1]).expect("put");
    let mut copy = restored(&world, &place);
    assert_eq!(copy.reader().claim_cold_store(2).expect("asked"), Ownership::Unknown);
    let file = finish_a_file(&mut copy);
    assert!(copy.reader().upload(file).is_err());
    place.delete("00000000000000009999.run").expect("deleted");
    assert_eq!(copy.reader().claim_cold_store(2).expect("asked"), Ownership::Ours);
    copy.reader().upload(file).expect("it is its own now");
}

/// Of two that find the place empty at once, one is told that it is the other's.
#[test]
fn of_two_that_come_at_once_one_gets_the_place() {
    let (world, _) = far(1);
    let place = Store::default();
    let copies = [restored(&world, &place), restored(&world, &place)];
    let claimed = std::thread::scope(|scope| {
        let claims: Vec<_> = (1..)
            .zip(&copies)
            .map(|(fresh, copy)| scope.spawn(move || copy.reader().claim_cold_store(fresh).expect("asked")))
            .collect();
        claims.into_iter().map(|claim| claim.join().expect("no panic")).collect::<Vec<_>>()
    });
    assert_eq!(claimed.iter().filter(|claimed| **claimed == Ownership::Ours).count(), 1, "{claimed:?}");
}

/// A side that was filled is known to the store, too: each alone is the log.
#[test]
fn either_side_of_a_mirror_owns_the_logs_place() {
    let mut world = World::mirrored(3);
    world.cools = false;
    world.steady = true;
    world.live(60);
    world.settle();
    assert_eq!(world.log.reader().claim_cold_store(1).expect("asked"), Ownership::Ours);
    let owns = |world: &World, side: usize| {
        let disk = Arc::new(MirroredDisk::single(world.side(side).crash(|| true)));
        let store = Some(Arc::new(world.store.clone()) as Arc<dyn ColdStore>);
        let alone = Log::open_with(disk, common::SETTINGS, store).expect("it opens");
        alone.reader().claim_cold_store(99).expect("asked") == Ownership::Ours
    };
    for side in [1, 0] {
        world.replace(side);
        common::mirror::fill(&mut world);
        world.settle();
        assert!(owns(&world, 0) && owns(&world, 1), "side {side} was replaced");
        world.on_side(side, |faults| faults.gone = true);
        while world.disks.lost_side().is_none() {
            world.live(5);
        }
        world.come_back_and_let_go();
        world.settle();
        common::mirror::fill(&mut world);
        world.settle();
        assert!(owns(&world, 0) && owns(&world, 1), "side {side} came back");
    }
}
