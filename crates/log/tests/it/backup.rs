//! Backups of a log that is being written, moved, cooled and restarted meanwhile: what comes back is what
//! the model showed at some commit between the begin and the end of the backup.

use std::collections::HashSet;
use std::io;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};

use headwater_log::backup::{
    Backup, BackupError, Manifest, NamedDamage, Outcome, Pruned, Source, back_up, copy_back, open_restored,
    prune, verify,
};
use headwater_log::disk::SimFile;
use headwater_log::{BROKER_STATE, ColdStore, Disk, DiskFile, Durability, FileId, Log, Origin, SimDisk};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::common::{self, SETTINGS, Store, Visible, World, id, markers, read_all};

const CREATED: &str = "2026-01-02T03:04:05Z";

/// `HEADWATER_SIM_SEEDS=1000` tries more.
fn seeds() -> std::ops::Range<u64> {
    let wanted = std::env::var("HEADWATER_SIM_SEEDS").ok().and_then(|seeds| seeds.parse().ok());
    0..wanted.unwrap_or(60)
}

fn empty() -> Backup<SimDisk> {
    Backup { files: SimDisk::new(), manifests: SimDisk::new() }
}

fn take<S: Disk, B: Disk>(
    disk: &S,
    store: Option<&dyn ColdStore>,
    to: &Backup<B>,
) -> Result<Outcome, BackupError> {
    let source = Source { disk, cluster_id: "cluster", format: 2, cold: store, without_lost: false };
    back_up(&source, to, CREATED, &|| None, &mut |_| {})
}

fn restored<B: Disk>(from: &Backup<B>, manifest: &Manifest) -> Log<SimDisk> {
    let disk = Arc::new(SimDisk::new());
    let checked = copy_back(from, manifest, &*disk, None, &mut |_| {}).expect("restored");
    let found = open_restored(Arc::clone(&disk), manifest, checked).expect("it opens");
    assert_eq!(found.damage, manifest.damage);
    assert_eq!(found.partitions, manifest.totals.partitions);
    assert_eq!(found.bytes, manifest.totals.bytes);
    Log::open(disk, SETTINGS).expect("it opens again")
}

/// A log that goes on whenever somebody reads its files.
#[derive(Clone)]
struct Busy {
    disk: SimDisk,
    world: Arc<Mutex<World>>,
    shown: Arc<Mutex<Vec<Visible>>>,
    rng: Arc<Mutex<StdRng>>,
}

struct BusyFile {
    file: SimFile,
    busy: Busy,
}

impl Busy {
    fn new(seed: u64) -> Self {
        let mut world = World::new(seed, false);
        world.live(200);
        Self {
            disk: world.disk.clone(),
            world: Arc::new(Mutex::new(world)),
            shown: Arc::default(),
            rng: Arc::new(Mutex::new(StdRng::seed_from_u64(seed))),
        }
    }

    fn go_on(&self) {
        let steps = match self.rng.lock().expect("unpoisoned").random_range(0..100) {
            // Several commits within one look at a file.
            0..2 => 60,
            2..30 => 2,
            _ => 0,
        };
        if steps > 0 {
            let shown = self.world.lock().expect("unpoisoned").live(steps);
            self.shown.lock().expect("unpoisoned").extend(shown);
        }
    }

    /// Takes a backup, and returns it with all that could be seen meanwhile.
    fn backup<B: Disk>(&self, to: &Backup<B>) -> (Result<Outcome, BackupError>, Vec<Visible>) {
        let store = {
            let world = self.world.lock().expect("unpoisoned");
            let mut shown = self.shown.lock().expect("unpoisoned");
            *shown = vec![World::visible(&world.durable)];
            shown.extend(world.on_its_way());
            world.store.clone()
        };
        let taken = take(self, Some(&store), to);
        (taken, std::mem::take(&mut self.shown.lock().expect("unpoisoned")))
    }
}

impl Disk for Busy {
    type File = BusyFile;

    fn create(&self, name: &str) -> io::Result<BusyFile> {
        panic!("a backup creates {name} in the log");
    }

    fn open(&self, name: &str) -> io::Result<BusyFile> {
        self.go_on();
        Ok(BusyFile { file: self.disk.open(name)?, busy: self.clone() })
    }

    fn list(&self) -> io::Result<Vec<String>> {
        let names = self.disk.list();
        self.go_on();
        names
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        panic!("a backup removes {name} from the log");
    }

    fn rename(&self, from: &str, _to: &str) -> io::Result<()> {
        panic!("a backup renames {from} in the log");
    }

    fn sync_directory(&self) -> io::Result<()> {
        panic!("a backup syncs the log");
    }
}

impl DiskFile for BusyFile {
    /// Reads are not atomic.
    fn read_exact_at(&self, buffer: &mut [u8], position: u64) -> io::Result<()> {
        for (place, part) in buffer.chunks_mut(900).enumerate() {
            self.file.read_exact_at(part, position + 900 * place as u64)?;
            self.busy.go_on();
        }
        Ok(())
    }

    fn write_all_at(&self, _bytes: &[u8], _position: u64) -> io::Result<()> {
        panic!("a backup writes to the log");
    }

    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn set_len(&self, _length: u64) -> io::Result<()> {
        panic!("a backup cuts a file of the log");
    }

    fn sync(&self) -> io::Result<()> {
        panic!("a backup syncs a file of the log");
    }
}

#[test]
fn a_backup_is_what_the_log_was_at_some_commit() {
    for seed in seeds() {
        let busy = Busy::new(seed);
        let to = empty();
        let mut taken: Vec<(Manifest, Visible)> = Vec::new();
        for _ in 0..5 {
            let (outcome, shown) = busy.backup(&to);
            let manifest = match outcome {
                Ok(outcome) => outcome.manifest,
                // It may run away for ever; what was copied is the next one's.
                Err(BackupError::Moving(_)) => continue,
                Err(error) => panic!("seed {seed}: {error}"),
            };
            assert_eq!(manifest.damage, [], "seed {seed}");
            let found = World::observe_log(&restored(&to, &manifest));
            assert!(shown.contains(&found), "seed {seed}: {} is none of {} states", manifest.id, shown.len());
            taken.push((manifest, found));
            busy.world.lock().expect("unpoisoned").live(60);
        }
        // Later backups change nothing of earlier ones.
        for (manifest, before) in &taken {
            let checked = verify(&to, manifest, &mut |_| {}).expect("looked at");
            assert_eq!((checked.problems, checked.damage), (vec![], vec![]), "seed {seed}");
            assert_eq!(&World::observe_log(&restored(&to, manifest)), before, "seed {seed}");
        }
        assert!(taken.len() >= 3, "seed {seed}: the log ran away from {} of 5 backups", 5 - taken.len());
        assert_eq!(taken.last().map(|(last, _)| last.id.clone()), to.ids().expect("listed").pop());
    }
}

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

/// However early it ends, the backups that stay are whole; and in the end nothing is there that they do not need.
#[test]
fn old_backups_go_and_those_that_stay_are_whole() {
    for seed in 0..20 {
        let mut world = World::new(seed, false);
        let store = world.store.clone();
        let mut to = empty();
        let mut taken = Vec::new();
        for _ in 0..5 {
            world.live(80);
            world.settle();
            let manifest = take(&world.disk, Some(&store), &to).expect("taken").manifest;
            taken.push((manifest, world.observe()));
        }
        let kept = &taken[3..];
        for operations in 0.. {
            let left = Arc::new(AtomicI64::new(operations));
            let failing = |disk: &SimDisk| Failing { disk: disk.clone(), left: Arc::clone(&left) };
            let cut = Backup { files: failing(&to.files), manifests: failing(&to.manifests) };
            let outcome = prune(&cut, 2);
            // What was not synced may be there again, or not.
            to = Backup {
                files: to.files.crash(|| (operations + seed as i64) % 3 == 0),
                manifests: to.manifests.crash(|| operations % 2 == 0),
            };
            for (manifest, before) in kept {
                assert_eq!(
                    &World::observe_log(&restored(&to, manifest)),
                    before,
                    "seed {seed}, {operations}"
                );
            }
            for id in to.ids().expect("listed") {
                let manifest = to.manifest(&id).expect("it is read");
                let checked = verify(&to, &manifest, &mut |_| {}).expect("looked at");
                assert_eq!(checked.problems, [], "seed {seed}, {operations}: {id} is there and not whole");
            }
            if outcome.is_ok() {
                break;
            }
        }
        assert_eq!(to.ids().expect("listed").len(), 2);
        let needed: HashSet<&str> =
            kept.iter().flat_map(|(manifest, _)| &manifest.files).map(|file| file.stored.as_str()).collect();
        let files = to.files.list().expect("listed");
        assert_eq!(files.iter().map(String::as_str).collect::<HashSet<_>>(), needed, "seed {seed}");
        assert_eq!(prune(&to, 2).expect("nothing to do"), Pruned::default());
        // The next one finds what is there.
        assert_eq!(take(&world.disk, Some(&store), &to).expect("taken").copied_files, 0);
    }
}

/// A disk whose operations fail from some time on.
struct Failing {
    disk: SimDisk,
    left: Arc<AtomicI64>,
}

struct FailingFile {
    file: SimFile,
    left: Arc<AtomicI64>,
}

fn count(left: &AtomicI64) -> io::Result<()> {
    match left.fetch_sub(1, Ordering::Relaxed) > 0 {
        true => Ok(()),
        false => Err(io::Error::other("killed")),
    }
}

impl Disk for Failing {
    type File = FailingFile;

    fn create(&self, name: &str) -> io::Result<FailingFile> {
        count(&self.left)?;
        Ok(FailingFile { file: self.disk.create(name)?, left: Arc::clone(&self.left) })
    }

    fn open(&self, name: &str) -> io::Result<FailingFile> {
        Ok(FailingFile { file: self.disk.open(name)?, left: Arc::clone(&self.left) })
    }

    fn list(&self) -> io::Result<Vec<String>> {
        self.disk.list()
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        count(&self.left)?;
        self.disk.remove(name)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        count(&self.left)?;
        self.disk.rename(from, to)
    }

    fn sync_directory(&self) -> io::Result<()> {
        count(&self.left)?;
        self.disk.sync_directory()
    }
}

impl DiskFile for FailingFile {
    fn read_exact_at(&self, buffer: &mut [u8], position: u64) -> io::Result<()> {
        self.file.read_exact_at(buffer, position)
    }

    fn write_all_at(&self, bytes: &[u8], position: u64) -> io::Result<()> {
        count(&self.left)?;
        self.file.write_all_at(bytes, position)
    }

    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        count(&self.left)?;
        self.file.set_len(length)
    }

    fn sync(&self) -> io::Result<()> {
        count(&self.left)?;
        self.file.sync()
    }
}

#[test]
fn a_backup_that_ends_anywhere_leaves_the_earlier_ones_and_is_continued() {
    for seed in 0..10 {
        let mut world = World::new(seed, false);
        let mut rng = StdRng::seed_from_u64(seed);
        world.live(200);
        world.settle();
        let store = world.store.clone();
        let before = world.observe();
        let mut to = empty();
        let first = take(&world.disk, Some(&store), &to).expect("taken").manifest;
        world.live(150);
        world.settle();
        let mut copied = Vec::new();
        for operations in 0.. {
            let left = Arc::new(AtomicI64::new(operations));
            let failing = |disk: &SimDisk| Failing { disk: disk.clone(), left: Arc::clone(&left) };
            let cut = Backup { files: failing(&to.files), manifests: failing(&to.manifests) };
            let outcome = take(&world.disk, Some(&store), &cut);
            if let Ok(outcome) = &outcome {
                copied.push(outcome.copied_files);
            }
            // The machine of the backup loses power, too.
            to = Backup {
                files: to.files.crash(|| rng.random_bool(0.5)),
                manifests: to.manifests.crash(|| rng.random_bool(0.5)),
            };
            assert_eq!(World::observe_log(&restored(&to, &first)), before, "seed {seed}, {operations}");
            if outcome.is_ok() {
                break;
            }
        }
        let last = to.find(None).expect("there is one");
        assert_eq!(World::observe_log(&restored(&to, &last)), world.observe(), "seed {seed}");
        assert!(copied[0] < last.files.len() as u64, "what the killed ones copied is not copied again");
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

fn settled(seed: u64) -> (World, Backup<SimDisk>) {
    let mut world = World::new(seed, false);
    world.run(300);
    world.settle();
    world.log.roll();
    world.settle();
    (world, empty())
}

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
