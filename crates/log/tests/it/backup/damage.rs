//! Damage to a log and to its backup: it is named, and never taken for what was written.

use std::sync::Arc;

use headwater_log::backup::{BackupError, NamedDamage, copy_back, verify};
use headwater_log::{BROKER_STATE, Disk, DiskFile, FileId, Log, SimDisk};
use rand::Rng;

use super::support::{empty, restored, settled, take};
use crate::common::{self, SETTINGS, World, id, markers, read_all};

fn finished(disk: &SimDisk) -> Vec<FileId> {
    let names = disk.list().expect("listed");
    let mut files: Vec<FileId> = names.iter().filter_map(|name| FileId::parse(name)).collect();
    files.sort_unstable();
    let newest = files.iter().rfind(|file| !file.is_run()).copied();
    files.retain(|file| Some(*file) != newest);
    files
}

#[test]
fn a_damaged_log_is_copied_and_its_damage_named() {
    let mut named = 0;
    for seed in 0..40 {
        let (mut world, to) = settled(seed);
        let store = world.store.clone();
        let (before, _) = read_all(&world.log);
        let files = finished(&world.disk);
        let file = files[world.rng.random_range(0..files.len())].name();
        let length = world.disk.open(&file).and_then(|file| file.len()).expect("a length");
        world.disk.flip_bit(&file, world.rng.random_range(0..length.max(1) * 8));
        let manifest = take(&world.disk, Some(&store), &to).expect("taken").manifest;
        assert!(manifest.damage.iter().all(|damage| damage.file == file), "{:?}", manifest.damage);
        named += manifest.damage.len();
        let again = take(&world.disk, Some(&store), &to).expect("taken").manifest;
        assert_eq!(again.damage, manifest.damage, "it is still known when the file is not looked at");
        let (after, _) = read_all(&restored(&to, &manifest));
        // The copy is as good as the log is when it is opened again and believes no index.
        for name in world.disk.list().expect("listed").iter().filter(|name| name.ends_with(".index")) {
            world.disk.remove(name).expect("removed");
        }
        let (source, _) = read_all(&world.reopened());
        for (id, records) in before {
            for (offset, bytes) in records {
                let found = after.get(&id).and_then(|known| known.get(&offset));
                let at_source = source.get(&id).and_then(|known| known.get(&offset));
                assert_eq!(found, at_source, "seed {seed}: {id} at {offset}");
                let known = manifest.damage.iter().any(|damage| {
                    damage.partition == id.to_string() && (damage.first..=damage.last).contains(&offset)
                });
                assert!(known || found.is_none_or(|found| *found == bytes), "seed {seed}: {id} at {offset}");
                assert!(!known || found.is_none(), "seed {seed}: {id} at {offset}");
            }
        }
    }
    assert!(named > 5, "{named}");
}

/// It is as long as before, and the same at both ends.
#[test]
fn a_file_that_was_damaged_and_is_whole_again_is_copied_again() {
    let disk = SimDisk::new();
    let settings = headwater_log::Settings { segment_bytes: 1 << 20, ..SETTINGS };
    let mut log = Log::open(Arc::new(disk.clone()), settings).expect("it opens");
    log.create_partition(id(1)).expect("created");
    for _ in 0..60 {
        common::append_one(&mut log, id(1), &"v".repeat(8 << 10));
    }
    log.roll();
    common::append_one(&mut log, id(1), "behind it");
    log.take_chores().into_iter().for_each(|chore| drop(chore.run().expect("tidied up")));
    let extent = log.reader().usage(id(1)).expect("it exists").extents[0];
    let places = log.reader().places_of(id(1), &extent).expect("places");
    let flip = || disk.flip_bit(&extent.file.name(), (places[30].position + 1000) * 8);
    let to = empty();
    flip();
    let damaged = take(&disk, None, &to).expect("taken").manifest;
    assert_eq!(damaged.damage.len(), 1, "{:?}", damaged.damage);
    flip();
    let next = take(&disk, None, &to).expect("taken").manifest;
    assert_eq!(next.damage, []);
    assert_eq!(read_all(&restored(&to, &next)), read_all(&log));
    restored(&to, &damaged);
    assert_eq!(take(&disk, None, &to).expect("taken").copied_files, 0);
}

/// What a start would put back, or a reader does, is no damage.
#[test]
fn a_marker_that_has_a_copy_is_not_named() {
    let mut found = 0;
    for seed in 0..20 {
        let (world, _) = settled(seed);
        let before = read_all(&world.log).0;
        for (at, (_, extent, position, size)) in markers(&world.log).into_iter().enumerate().take(4) {
            let disk = world.disk.crash(|| true);
            disk.flip_bit(&extent.file.name(), position * 8 + (at * 37 % (size * 8)) as u64);
            let to = empty();
            let manifest = take(&disk, None, &to).expect("taken").manifest;
            assert_eq!(manifest.damage, [], "seed {seed}");
            assert_eq!(read_all(&restored(&to, &manifest)), (before.clone(), vec![]), "seed {seed}");
            found += 1;
        }
    }
    assert!(found > 10, "{found} markers");
}

/// A start of the broker would be refused, so the backup says so.
#[test]
fn what_is_lost_of_the_brokers_own_state_is_named() {
    let disk = SimDisk::new();
    common::lose_commits(&disk, BROKER_STATE, 4);
    let to = empty();
    let manifest = take(&disk, None, &to).expect("taken").manifest;
    let of_state = BROKER_STATE.to_string();
    let named = |damage: &[NamedDamage]| damage.iter().any(|damage| damage.partition == of_state);
    assert!(named(&manifest.damage), "{:?}", manifest.damage);
    let checked = verify(&to, &manifest, &mut |_| {}).expect("verified");
    assert!(checked.problems.is_empty() && named(&checked.damage), "{checked:?}");
}

#[test]
fn a_file_that_is_missing_is_named() {
    let mut named = 0;
    for seed in 0..30 {
        let (mut world, to) = settled(seed);
        let store = world.store.clone();
        let files = finished(&world.disk);
        let file = files[world.rng.random_range(0..files.len())];
        world.disk.remove(&file.name()).expect("removed");
        let manifest = take(&world.disk, Some(&store), &to).expect("taken").manifest;
        assert!(manifest.damage.iter().all(|damage| damage.file == file.name()));
        named += manifest.damage.len();
        restored(&to, &manifest);
    }
    assert!(named > 5, "{named}");
}

#[test]
fn a_damaged_backup_is_found_and_not_restored() {
    for seed in 0..30 {
        let (mut world, to) = settled(seed);
        let store = world.store.clone();
        let manifest = take(&world.disk, Some(&store), &to).expect("taken").manifest;
        let file = &manifest.files[world.rng.random_range(0..manifest.files.len())];
        to.files.flip_bit(&file.stored, world.rng.random_range(0..file.length * 8));
        let checked = verify(&to, &manifest, &mut |_| {}).expect("looked at");
        assert!(checked.problems.iter().any(|(name, _)| *name == file.stored), "{checked:?}");
        let refused = copy_back(&to, &manifest, &SimDisk::new(), None, &mut |_| {}).expect_err("refused");
        assert!(matches!(&refused, BackupError::Damaged { file: named, .. } if *named == file.stored));
        // A new one does not rely on it.
        let next = take(&world.disk, Some(&store), &to).expect("taken").manifest;
        if next.files.iter().any(|next| next.name == file.name && next.stored != file.stored) {
            assert_eq!(verify(&to, &next, &mut |_| {}).expect("looked at").problems, []);
        }
    }
}

#[test]
fn a_damaged_manifest_is_named_and_the_others_serve() {
    let (world, to) = settled(3);
    let store = world.store.clone();
    let first = take(&world.disk, Some(&store), &to).expect("taken").manifest;
    let second = take(&world.disk, Some(&store), &to).expect("taken").manifest;
    to.manifests.flip_bit(&format!("{}.json", second.id), 8 * 200);
    assert!(matches!(to.find(None), Err(BackupError::Manifest { .. })));
    assert_eq!(to.find(Some("1")).expect("by its number"), first);
    assert_eq!(to.find(Some(&first.id)).expect("by its id"), first);
    assert!(matches!(to.find(Some("7")), Err(BackupError::Unknown { .. })));
    let third = take(&world.disk, Some(&store), &to).expect("taken");
    assert_eq!((third.manifest.number, third.copied_files), (3, 0));
    assert_eq!(World::observe_log(&restored(&to, &third.manifest)), world.observe());
}
