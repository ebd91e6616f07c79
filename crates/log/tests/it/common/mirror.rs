//! Attacks on a log that is on two disks.

use std::sync::Arc;

use headwater_log::{Disk, DiskFile, FileId, Filled, Log, MirroredDisk, SimDisk, Standing};
use rand::Rng;

use super::{Disks, Mirror, SETTINGS, World, read_all};

impl World {
    pub fn side(&self, side: usize) -> &SimDisk {
        match (&self.mirror, side) {
            (Some(mirror), 1) => &mirror.disk,
            _ => &self.disk,
        }
    }

    fn mirror(&mut self) -> &mut Mirror {
        self.mirror.as_mut().expect("it is mirrored")
    }

    fn set_side(&mut self, side: usize, disk: SimDisk) {
        match side {
            0 => self.disk = disk,
            _ => self.mirror().disk = disk,
        }
    }

    /// An empty disk takes the place of one side, with a restart.
    pub fn replace(&mut self, side: usize) {
        self.set_side(side, SimDisk::new());
        self.log = self.reopened();
    }

    /// The side that has everything, when only one has.
    fn lead(&self) -> Option<usize> {
        match self.disks.standing() {
            Standing::Filling { side, .. } | Standing::Lost { side, .. } => {
                Some(1 - side.parse::<usize>().expect("0 or 1"))
            }
            Standing::Both | Standing::Single => None,
        }
    }

    /// Power off and on; a side that is not needed may be away afterwards, or come back empty.
    fn crash_and_lose(&mut self) {
        let lead = self.lead();
        let side = lead.map_or_else(|| self.rng.random_range(0..2), |lead| 1 - lead);
        self.mirror().away = [false; 2];
        self.steady = false;
        match self.rng.random_range(0..4) {
            0 => self.mirror().away[side] = true,
            1 => self.set_side(side, SimDisk::new()),
            _ => {}
        }
        self.crash();
    }

    /// Both disks stop at some call, each at its own, and what they had not synced is uncertain.
    fn cut_power_somewhere(&mut self) {
        for side in 0..2 {
            let calls = self.rng.random_range(0..12);
            self.on_side(side, |faults| faults.gone_after = Some(calls));
        }
        let _ = self.log.reader().fill_mirror(&mut |_| true);
        self.begin();
        self.mirror().away = [false; 2];
        self.crash();
    }

    /// One side will fail at some call, unless one has already.
    fn fail_a_side_soon(&mut self) {
        if self.disks.standing() == Standing::Both && !self.steady {
            // Only one side fails.
            self.steady = true;
            let (side, calls) = (self.rng.random_range(0..2), self.rng.random_range(0..30));
            self.on_side(side, |faults| faults.gone_after = Some(calls));
        }
    }
}

impl World {
    /// The disk of a lost side is there again, under the running log. Files that were open stay without it.
    /// Returns whether a new journal was asked for, as the broker always does.
    pub fn come_back(&mut self) -> bool {
        let closes = self.rejoin() && self.rng.random_bool(0.7);
        if closes {
            self.let_go();
        }
        closes
    }

    /// As the broker brings a side back.
    pub fn come_back_and_let_go(&mut self) {
        assert!(self.rejoin());
        self.let_go();
    }

    fn let_go(&mut self) {
        self.log.roll();
        self.log.reader().close_files();
    }

    fn rejoin(&mut self) -> bool {
        let Some(side) = self.disks.lost_side() else { return false };
        self.mirror().away = [false; 2];
        self.on_side(side, |faults| *faults = headwater_log::Faults::default());
        let disk = self.side(side).clone();
        self.disks.rejoin(side, disk).expect("it is behind, and says so");
        self.steady = false;
        true
    }
}

/// Everything at once, by the seed.
pub fn attack(seed: u64) {
    let mut world = World::mirrored(seed);
    world.cools = false;
    for _ in 0..25 {
        world.run(20);
        match world.rng.random_range(0..7) {
            6 => {
                world.come_back();
            }
            0 => world.crash_and_lose(),
            1 => world.cut_power_somewhere(),
            2 => world.fail_a_side_soon(),
            _ => drop(world.log.reader().fill_mirror(&mut |_| true)),
        }
    }
}

/// A side comes back while a journal is written, or begun, through a handle that does not reach it, and is
/// filled in the midst of that. It is believed when it has everything, and then it has.
pub fn returning(seed: u64) {
    let mut world = World::mirrored(seed);
    world.cools = false;
    world.steady = true;
    world.live(60);
    world.settle();
    let side = world.rng.random_range(0..2);
    world.on_side(side, |faults| faults.gone = true);
    while world.disks.lost_side().is_none() {
        world.live(5);
    }
    world.live(10);
    if world.rng.random() {
        world.log.roll();
    }
    world.begin();
    assert!(world.rejoin());
    world.steady = true;
    let closes = world.rng.random();
    if closes {
        world.log.roll();
        world.log.reader().close_files();
    }
    world.end();
    for _ in 0..8 {
        world.live(2);
        fill(&mut world);
    }
    world.log.roll();
    world.settle();
    world.live(20);
    world.settle();
    fill(&mut world);
    // Without a new journal it may have been believed before the first write past it, which lost it again.
    if !closes && matches!(world.disks.standing(), Standing::Lost { .. }) {
        return;
    }
    assert_eq!(world.disks.standing(), Standing::Both, "seed {seed}, closes: {closes}");
    let here = read_all(&world.log);
    for alone in sides_alone(&world) {
        assert_eq!(read_all(&alone), here, "seed {seed}");
    }
}

/// Fills until nothing is missing.
pub fn fill(world: &mut World) {
    while world.log.reader().fill_mirror(&mut |_| true).expect("filled") == Filled::File {}
}

/// A log on a copy of each side.
pub fn sides_alone(world: &World) -> Vec<Log<Disks>> {
    let alone = |side: usize| {
        let copy = world.side(side).crash(|| true);
        Log::open(Arc::new(MirroredDisk::single(copy)), SETTINGS).expect("a side opens alone")
    };
    (0..2).map(alone).collect()
}

/// Files of the log that are not written any more and are needed.
pub fn finished(world: &World) -> Vec<String> {
    let newest = world.newest_journal();
    let files = world.log.reader().files().expect("files");
    files
        .into_iter()
        .filter(|file| file.live > 0 && file.file != newest)
        .map(|file| file.file.name())
        .collect()
}

/// Bits flip on both sides, the files of one side after those of the other; panics when anything is lost.
pub fn disjoint_damage(seed: u64) {
    let mut world = World::mirrored(seed);
    world.cools = false;
    world.steady = true;
    world.live(250);
    world.settle();
    let (before, _) = read_all(&world.log);
    let mut names = world.disks.list().expect("listed");
    names.retain(|name| FileId::parse(name).is_some());
    for (at, name) in names.iter().enumerate() {
        let disk = world.side(at % 2).clone();
        let length = disk.open(name).expect("opens").len().expect("a length");
        for _ in 0..4 {
            disk.flip_bit(name, world.rng.random_range(0..length.max(1) * 8));
        }
    }
    world.log = world.reopened();
    assert_eq!(read_all(&world.log), (before.clone(), Vec::new()), "seed {seed}");
    scrub(&world);
    for alone in sides_alone(&world) {
        assert_eq!(read_all(&alone), (before.clone(), Vec::new()), "seed {seed}");
    }
}

fn scrub(world: &World) {
    let reader = world.log.reader();
    for id in reader.partitions() {
        for extent in reader.usage(id).expect("it exists").extents {
            assert_eq!(reader.scrub(id, &extent, |_| true).expect("scrubbed"), 0);
        }
    }
}
