//! What a backup copies, what it does not copy again, and when none is taken.

use std::sync::Arc;

use headwater_log::backup::{BackupError, Source, back_up, copy_back};
use headwater_log::{Durability, Log, Origin, SimDisk};

use super::support::{CREATED, empty, restored, settled, take};
use crate::common::{SETTINGS, Store, World, id, read_all};

#[test]
fn what_is_there_is_not_copied_again() {
    for seed in 0..40 {
        let mut world = World::new(seed, false);
        world.live(300);
        world.settle();
        let to = empty();
        let store = world.store.clone();
        let first = take(&world.disk, Some(&store), &to).expect("taken");
        assert_eq!(first.copied_files, first.manifest.files.len() as u64);
        let again = take(&world.disk, Some(&store), &to).expect("taken");
        assert_eq!((again.copied_files, again.copied_bytes), (0, 0), "nothing has changed");
        assert_eq!(again.manifest.previous, Some(first.manifest.id.clone()));
        world.live(100);
        world.settle();
        let next = take(&world.disk, Some(&store), &to).expect("taken").manifest;
        let third = take(&world.disk, Some(&store), &to).expect("taken");
        assert_eq!(third.copied_files, 0);
        for file in &next.files {
            let before = first.manifest.files.iter().find(|before| before.name == file.name);
            if let Some(before) = before {
                assert!(before.length <= file.length, "{file:?}");
                assert_eq!(before.stored, file.stored, "one copy of a file serves all");
            }
        }
    }
}

#[test]
fn a_log_that_went_another_way_since_a_restore_overwrites_nothing() {
    let append = |log: &mut Log<SimDisk>, world: &mut World, commits: usize| {
        for _ in 0..commits {
            let (bytes, _) = world.batch(None, false);
            log.append(id(0), &bytes, Origin::Client, Durability::Synced, 0).expect("appended");
            let (ticket, outcome) = log.begin_commit().expect("something is staged").run();
            log.end_commit(ticket, outcome).expect("committed");
        }
    };
    let mut world = World::new(1, false);
    let disk = Arc::new(SimDisk::new());
    let mut log = Log::open(Arc::clone(&disk), SETTINGS).expect("opens");
    log.create_partition(id(0)).expect("created");
    append(&mut log, &mut world, 40);
    let to = empty();
    let first = take(&*disk, None, &to).expect("taken").manifest;
    append(&mut log, &mut world, 60);
    let here = take(&*disk, None, &to).expect("taken").manifest;
    let expected = read_all(&log);

    let other = Arc::new(SimDisk::new());
    copy_back(&to, &first, &*other, None, &mut |_| {}).expect("restored");
    let mut fork = Log::open(Arc::clone(&other), SETTINGS).expect("opens");
    append(&mut fork, &mut world, 60);
    let there = take(&*other, None, &to).expect("taken").manifest;
    assert!(there.files.iter().any(|file| file.stored != file.name), "names of one log are not the other's");
    assert_eq!(read_all(&restored(&to, &there)), read_all(&fork));
    assert_eq!(read_all(&restored(&to, &here)), expected);
    // And back again: what is there is found.
    let back = take(&*disk, None, &to).expect("taken");
    assert_eq!(back.copied_files, 0);
}

#[test]
fn a_target_without_space_says_how_much_is_needed() {
    let (world, to) = settled(5);
    let store = world.store.clone();
    let source = Source {
        disk: &world.disk,
        cluster_id: "cluster",
        format: 2,
        cold: Some(&store),
        without_lost: false,
    };
    let refused = back_up(&source, &to, CREATED, &|| Some(10), &mut |_| {}).expect_err("no space");
    assert!(matches!(refused, BackupError::NoSpace { needed, free: Some(10) } if needed > 10));
    to.files.faults(|faults| faults.full = true);
    let refused = take(&world.disk, Some(&store), &to).expect_err("no space");
    assert!(matches!(refused, BackupError::NoSpace { needed, free: None } if needed > 10), "{refused}");
    to.files.faults(|faults| faults.full = false);
    take(&world.disk, Some(&store), &to).expect("taken");
}

#[test]
fn another_cluster_and_a_cold_store_that_is_not_there_are_refused() {
    let (mut world, to) = settled(7);
    let store = world.store.clone();
    take(&world.disk, Some(&store), &to).expect("taken");
    let source =
        Source { disk: &world.disk, cluster_id: "other", format: 2, cold: Some(&store), without_lost: false };
    let refused = back_up(&source, &to, CREATED, &|| None, &mut |_| {}).expect_err("another cluster");
    assert!(matches!(refused, BackupError::OtherCluster { .. }));
    for _ in 0..10 {
        world.cool();
        world.settle();
    }
    take(&world.disk, None, &to).expect("it needs nothing that is not there");
    let to = empty();
    let refused = take(&world.disk, None, &to);
    assert!(matches!(refused, Err(BackupError::Cold { .. })), "{refused:?}");
    let spoiled = Store::default();
    assert!(take(&world.disk, Some(&spoiled), &to).is_err());
    let manifest = take(&world.disk, Some(&store), &to).expect("taken").manifest;
    let log = restored(&to, &manifest);
    assert_eq!(World::observe_log(&log), world.observe());
}
