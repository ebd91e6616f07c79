//! Starts on a disk that has little space, or none, and what a log ahead of its use takes of it.

use std::io::{self, ErrorKind};
use std::sync::Arc;

use headwater_log::{ColdStore, Disk, DiskFile, Durability, Log, Origin, SimDisk};
use headwater_wire::{BatchBuilder, Compression};

use crate::common::{self, Mirror, SETTINGS, World, attach, read_all};

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

fn spares(disk: &SimDisk) -> Vec<String> {
    disk.list().expect("listed").into_iter().filter(|name| name.starts_with("spare-")).collect()
}

fn do_chores<D: Disk>(log: &mut Log<D>) {
    for chore in log.take_chores() {
        if let Some(spare) = chore.run().expect("done") {
            log.spare_ready(spare);
        }
    }
}

fn batch(bytes: usize) -> bytes::Bytes {
    let mut builder = BatchBuilder::new();
    builder.push(0, None, Some(&vec![7; bytes]), &[]);
    builder.build(Compression::None, None, false).expect("it builds")
}

fn append<D: Disk>(log: &mut Log<D>, bytes: usize) -> io::Result<()> {
    log.append(common::id(1), &batch(bytes), Origin::Client, Durability::Synced, 0).expect("staged");
    let (ticket, outcome) = log.begin_commit().expect("something is staged").run();
    log.end_commit(ticket, outcome).map_err(io::Error::other)
}

fn begun<D: Disk>(disk: D) -> Log<D> {
    let mut log = Log::open(Arc::new(disk), SETTINGS).expect("it opens");
    log.create_partition(common::id(1)).expect("staged");
    let (ticket, outcome) = log.begin_commit().expect("something is staged").run();
    log.end_commit(ticket, outcome).expect("committed");
    log
}

#[test]
fn a_spare_is_not_begun_where_it_would_take_more_than_half_of_what_is_free() {
    for (journals, is_made) in [(1, false), (2, false), (3, true)] {
        let disk = SimDisk::new();
        disk.faults(|faults| faults.capacity = Some(journals * SETTINGS.segment_bytes));
        do_chores(&mut begun(disk.clone()));
        assert_eq!(spares(&disk).len(), usize::from(is_made), "room for {journals} journals");
    }
}

/// The disk does not say how much is free, so that the space ends while the spare is written.
#[test]
fn a_spare_that_finds_no_space_leaves_nothing() {
    let disk = SimDisk::new();
    disk.faults(|faults| faults.capacity = Some(SETTINGS.segment_bytes));
    let mut log = begun(Tight(disk.clone()));
    do_chores(&mut log);
    assert_eq!(spares(&disk), Vec::<String>::new());
    append(&mut log, 2000).expect("the space is there for records");
}

#[test]
fn a_commit_that_finds_no_space_takes_that_of_the_spare() {
    let disk = SimDisk::new();
    let mut log = begun(disk.clone());
    do_chores(&mut log);
    assert_eq!(spares(&disk).len(), 1);
    assert_eq!(log.reader().spare_bytes().expect("counted"), SETTINGS.segment_bytes);
    let taken: usize = files(&disk).iter().map(|(_, bytes)| bytes.len()).sum();
    disk.faults(|faults| faults.capacity = Some(taken as u64 + 100));
    append(&mut log, 2000).expect("there is space when the spare is gone");
    assert_eq!(spares(&disk), Vec::<String>::new());
    // The next journal goes without it.
    disk.faults(|faults| faults.capacity = None);
    log.roll();
    append(&mut log, 2000).expect("a new journal begins");
    let before = read_all(&log);
    drop(log);
    assert_eq!(read_all(&Log::open(Arc::new(disk), SETTINGS).expect("it opens again")), before);
}

#[test]
fn a_journal_that_is_not_needed_is_kept_where_there_is_room_and_else_removed() {
    for is_kept in [true, false] {
        let disk = SimDisk::new();
        let mut log = begun(disk.clone());
        log.roll();
        append(&mut log, 10).expect("a second journal");
        log.roll();
        append(&mut log, 10).expect("a third journal");
        log.delete_partition(common::id(1)).expect("staged");
        let (ticket, outcome) = log.begin_commit().expect("something is staged").run();
        log.end_commit(ticket, outcome).expect("committed");
        let taken: usize = files(&disk).iter().map(|(_, bytes)| bytes.len()).sum();
        // Indexes that are saved meanwhile take a little.
        let free = if is_kept { SETTINGS.segment_bytes + 2000 } else { SETTINGS.segment_bytes - 1 };
        disk.faults(|faults| faults.capacity = Some(taken as u64 + free));
        let chores = log.take_chores();
        let kept: Vec<String> = chores.into_iter().filter_map(|chore| chore.run().expect("done")).collect();
        assert_eq!(!kept.is_empty(), is_kept, "{kept:?}");
    }
}

/// Less than a journal ahead is no reason to wait: the next journal grows as it is written.
#[test]
fn a_journal_begins_without_room_for_all_of_it() {
    let disk = SimDisk::new();
    let mut log = begun(Tight(disk.clone()));
    log.roll();
    append(&mut log, 100).expect("committed");
    let before = read_all(&log);
    drop(log);
    assert_eq!(read_all(&Log::open(Arc::new(Tight(disk)), SETTINGS).expect("it opens")), before);
}
