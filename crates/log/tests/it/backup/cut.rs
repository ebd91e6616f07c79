//! Backups and removals that end anywhere: what was whole before stays so.

use std::collections::HashSet;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use headwater_log::backup::{Backup, Pruned, prune, verify};
use headwater_log::disk::SimFile;
use headwater_log::{Disk, DiskFile, SimDisk};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::support::{empty, restored, take};
use crate::common::World;

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
