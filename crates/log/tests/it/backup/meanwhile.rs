//! A backup of a log that goes on while it is taken.

use std::io;
use std::sync::{Arc, Mutex};

use headwater_log::backup::{Backup, BackupError, Manifest, Outcome, verify};
use headwater_log::disk::SimFile;
use headwater_log::{Disk, DiskFile, SimDisk};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::support::{empty, restored, take};
use crate::common::{Visible, World};

/// `HEADWATER_SIM_SEEDS=1000` tries more.
fn seeds() -> std::ops::Range<u64> {
    let wanted = std::env::var("HEADWATER_SIM_SEEDS").ok().and_then(|seeds| seeds.parse().ok());
    0..wanted.unwrap_or(60)
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
