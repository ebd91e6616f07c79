//! Files in a cold store: they are read as if they were here, and never go before they are there as a whole.

mod common;

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;

use common::{World, read_all};
use headwater_log::{Disk, FileId};

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
