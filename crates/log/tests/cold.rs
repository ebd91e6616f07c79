//! Files in a cold store: they are read as if they were here, and never go before they are there as a whole.

mod common;

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;

use common::{World, read_all};
use headwater_log::{Disk, FileId, Orphans, Swept};

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
        let left: BTreeSet<String> =
            world.store.objects.lock().expect("unpoisoned").keys().cloned().collect();
        assert_eq!(left, BTreeSet::new(), "seed {seed}");
        let runs = world.disk.list().expect("listed");
        assert!(runs.iter().filter_map(|name| FileId::parse(name)).all(|file| !file.is_run()), "{runs:?}");
    }
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

/// A copy of a log does not own what the log it was copied from has in the store.
#[test]
fn only_the_owner_of_its_place_in_the_store_sweeps_it() {
    let (mut world, _) = far(1);
    let first = world.log.reader();
    assert!(!first.owns_cold_store(1).expect("asked"), "it has only just put its name there");
    assert!(first.owns_cold_store(2).expect("asked"));
    let copy = world.disk.crash(|| true);
    copy.remove("cold-owner").expect("a backup does not have it");
    let store = std::sync::Arc::new(world.store.clone());
    let disk = std::sync::Arc::new(headwater_log::MirroredDisk::single(copy));
    let restored = headwater_log::Log::open_with(disk, common::SETTINGS, Some(store)).expect("it opens");
    for fresh in 3..5 {
        assert!(!restored.reader().owns_cold_store(fresh).expect("asked"));
    }
    world.log = world.reopened();
    assert!(world.log.reader().owns_cold_store(6).expect("asked"), "a restart changes nothing");
}
