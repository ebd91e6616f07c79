//! Starts on a disk that has little space, or none.

mod common;

use std::io::{self, ErrorKind};
use std::sync::Arc;

use common::{Mirror, SETTINGS, World, attach, read_all};
use headwater_log::{ColdStore, Disk, DiskFile, Log, SimDisk};

/// A disk that has no room for a whole journal ahead.
struct Tight(SimDisk);

struct TightFile(<SimDisk as Disk>::File);

impl Disk for Tight {
    type File = TightFile;

    fn create(&self, name: &str) -> io::Result<TightFile> {
        self.0.create(name).map(TightFile)
    }

    fn open(&self, name: &str) -> io::Result<TightFile> {
        self.0.open(name).map(TightFile)
    }

    fn list(&self) -> io::Result<Vec<String>> {
        self.0.list()
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.0.remove(name)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.0.rename(from, to)
    }

    fn sync_directory(&self) -> io::Result<()> {
        self.0.sync_directory()
    }
}

impl DiskFile for TightFile {
    fn read_exact_at(&self, buffer: &mut [u8], position: u64) -> io::Result<()> {
        self.0.read_exact_at(buffer, position)
    }

    fn write_all_at(&self, bytes: &[u8], position: u64) -> io::Result<()> {
        self.0.write_all_at(bytes, position)
    }

    fn len(&self) -> io::Result<u64> {
        self.0.len()
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        self.0.set_len(length)
    }

    fn sync(&self) -> io::Result<()> {
        self.0.sync()
    }

    fn allocate(&self, _length: u64) -> io::Result<()> {
        Err(ErrorKind::StorageFull.into())
    }
}

fn files(disk: &SimDisk) -> Vec<(String, Vec<u8>)> {
    let mut names = disk.list().expect("listed");
    names.sort();
    let read = |name: String| {
        let file = disk.open(&name).expect("opens");
        let mut bytes = vec![0; file.len().expect("a length") as usize];
        file.read_exact_at(&mut bytes, 0).expect("read");
        (name, bytes)
    };
    names.into_iter().map(read).collect()
}

fn worked(seed: u64) -> World {
    let mut world = World::new(seed, false);
    world.cools = false;
    world.run(200);
    world.settle();
    world
}

#[test]
fn a_start_without_room_for_a_journal_ahead_serves_and_writes() {
    for seed in 0..10 {
        let world = worked(seed);
        let before = read_all(&world.log);
        let mut log = Log::open(Arc::new(Tight(world.disk.clone())), SETTINGS).expect("it opens");
        assert_eq!(read_all(&log), before, "seed {seed}");
        log.create_partition(common::id(200)).expect("staged");
        let (ticket, outcome) = log.begin_commit().expect("something is staged").run();
        log.end_commit(ticket, outcome).expect("committed");
    }
}

#[test]
fn a_preparation_that_finds_no_space_leaves_the_directory_as_it_was() {
    for seed in 0..10 {
        let world = worked(seed);
        let (disk, before) = (world.disk.clone(), read_all(&world.log));
        drop(world);
        let found = files(&disk);
        let mut opening = Log::look(Arc::new(disk.clone()), SETTINGS, None).expect("it is read");
        disk.faults(|faults| faults.full = true);
        opening.prepare().expect_err("there is no space");
        drop(opening);
        assert!(files(&disk) == found, "seed {seed}");
        disk.faults(|faults| faults.full = false);
        assert_eq!(read_all(&Log::open(Arc::new(disk), SETTINGS).expect("it opens")), before);
    }
}

/// What was prepared is used; when it is not, after a kill, it is in nobody's way.
#[test]
fn what_was_prepared_becomes_the_journal() {
    for (seed, killed) in (0..20).map(|seed| (seed, seed % 2 == 0)) {
        let world = worked(seed);
        let (disk, before) = (world.disk.clone(), read_all(&world.log));
        drop(world);
        let mut opening = Log::look(Arc::new(disk.clone()), SETTINGS, None).expect("it is read");
        opening.prepare().expect("there is space");
        if killed {
            drop(opening);
            let disk = disk.crash(|| true);
            for _ in 0..2 {
                let log = Log::open(Arc::new(disk.clone()), SETTINGS).expect("it opens");
                assert_eq!(read_all(&log), before, "seed {seed}");
            }
            continue;
        }
        let spares = || disk.list().expect("listed").iter().filter(|name| name.starts_with("spare-")).count();
        let prepared = spares();
        let log = opening.begin().expect("it begins");
        assert_eq!(read_all(&log), before, "seed {seed}");
        assert!(spares() < prepared, "a spare has become the journal");
        drop(log);
        assert_eq!(read_all(&Log::open(Arc::new(disk), SETTINGS).expect("it opens again")), before);
    }
}

#[test]
fn what_was_prepared_is_on_both_sides_of_a_mirror() {
    for seed in 0..10 {
        let mut world = World::mirrored(seed);
        world.live(150);
        world.settle();
        let before = read_all(&world.log);
        let Some(mirror) = world.mirror.take() else { panic!("it has one") };
        let (disk, store) = (world.disk.clone(), world.store.clone());
        let store = || Some(Arc::new(store.clone()) as Arc<dyn ColdStore>);
        drop(world);
        let mirror = Mirror { away: [false; 2], ..mirror };
        let disks = attach(&disk, Some(&mirror), 1000 + seed);
        let mut opening = Log::look(Arc::new(disks), SETTINGS, store()).expect("it is read");
        opening.prepare().expect("there is space");
        let log = opening.begin().expect("it begins");
        assert_eq!(read_all(&log), before, "seed {seed}");
        drop(log);
        for side in [disk, mirror.disk] {
            let alone = Log::open_with(Arc::new(side), SETTINGS, store()).expect("either is a log");
            assert_eq!(read_all(&alone), before, "seed {seed}");
        }
    }
}
