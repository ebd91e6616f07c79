//! log-14: a log in two directories, of which one is lost, damaged, cut off or behind.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use super::fsync::noticed;
use crate::broker::{Broker, Launch};
use crate::case::{Case, Extent, Need, Run};
use crate::edit;
use crate::verify::{Allowed, Violation};
use crate::volume::{FileSystem, Volume};
use crate::workload::{Plan, World};

pub const LOST: Case = Case {
    name: "log-14-mirror-lost",
    promise: "P1 P2",
    about: "either directory is removed before a start; a kill comes while it is filled; then each alone has everything",
    needs: &[],
    quick: Extent { runs: 2, seconds: 20 },
    long: Extent { runs: 200, seconds: 1800 },
    run: lost,
};

pub const DAMAGED: Case = Case {
    name: "log-14-mirror-damaged",
    promise: "P3",
    about: "bits flip in both directories, in different files: nothing is lost, and no bad copy goes over a good one",
    needs: &[],
    quick: Extent { runs: 3, seconds: 20 },
    long: Extent { runs: 300, seconds: 1800 },
    run: damaged,
};

pub const CUT: Case = Case {
    name: "log-14-mirror-power",
    promise: "P1 P2 P11",
    about: "power is cut on one directory under the broker: it goes on, lets go of the disk, and takes it in again without a restart",
    needs: &[Need::LoopDevices, Need::Python],
    quick: Extent { runs: 2, seconds: 20 },
    long: Extent { runs: 100, seconds: 1800 },
    run: cut,
};

const WORK: Duration = Duration::from_secs(5);
const COMPLETE: Duration = Duration::from_secs(60);
/// What the broker says of a mirror, in its messages.
const IS_FILLED: &str = "filled from the other";
const IS_COMPLETE: &str = "both sides hold everything";
const HAS_FAILED: &str = "one side of the mirror has failed";

/// Two directories, the first of which is the broker's own.
struct Sides {
    directories: [PathBuf; 2],
    launch: Launch,
}

impl Sides {
    fn new(run: &Run, directories: [PathBuf; 2]) -> Self {
        let mut launch = run.launch_rolling(&directories[0], 64 << 10, 200);
        let mirror = directories[1].display().to_string();
        launch.configs.push(("headwater.mirror.dir".to_owned(), mirror));
        launch.configs.push(("headwater.mirror.retry.ms".to_owned(), "200".to_owned()));
        Self { directories, launch }
    }

    fn beside(run: &Run) -> Self {
        Self::new(run, [run.data(), run.directory.join("mirror")])
    }

    /// The broker on one directory, without the other.
    fn alone(&self, run: &Run, side: usize) -> Launch {
        run.launch_rolling(&self.directories[side], 64 << 10, 200)
    }
}

fn told(broker: &mut Broker, what: &str) -> Result<()> {
    let begun = Instant::now();
    while !broker.words().contains(what) {
        if begun.elapsed() > COMPLETE || !broker.is_running() {
            bail!("the broker does not say {what:?}: {}", broker.words().trim());
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}

/// Each directory by itself has all of it.
fn each_alone(run: &Run, world: &World, sides: &Sides) -> Result<Vec<Violation>> {
    let mut violations = Vec::new();
    for side in 0..2 {
        let broker = sides.alone(run, side).serve()?;
        let found = world.compare(&broker.address, Allowed::default())?;
        if !found.is_empty() {
            let directory = sides.directories[side].display();
            violations.push(noticed(format!("alone, {directory} does not have everything:")));
            violations.extend(found);
        }
        broker.kill()?;
    }
    Ok(violations)
}

/// A log with all kinds of work in it, in both directories, and everything answered.
fn written(run: &Run, rng: &mut SmallRng, sides: &Sides) -> Result<World> {
    let broker = sides.launch.serve()?;
    let mut world = World::new(run.seed, Plan { tail: false, ..Plan::default() });
    world.prepare(&broker.address)?;
    let running = world.start(&broker.address);
    world.wait_acknowledged(rng.random_range(80..200), WORK);
    world.stop(running)?;
    world.resume(&broker.address)?;
    match rng.random() {
        true => broker.kill()?,
        false => drop(broker.stop()?),
    }
    Ok(world)
}

fn lost(run: &Run) -> Result<Option<Vec<Violation>>> {
    let mut rng = SmallRng::seed_from_u64(run.seed);
    let sides = Sides::beside(run);
    let mut world = written(run, &mut rng, &sides)?;
    let lost = run.index % 2;
    fs::remove_dir_all(&sides.directories[lost])?;
    run.tally("directories lost", 1);
    // It is killed while it fills the directory, which nobody may believe then.
    sides.launch.interrupted(Duration::from_millis(rng.random_range(0..400)), || Ok(()))?;
    let mut broker = sides.launch.serve()?;
    let running = world.start(&broker.address);
    world.wait_acknowledged(50, WORK);
    world.stop(running)?;
    world.resume(&broker.address)?;
    // It may have been filled before the kill.
    if broker.words().contains(IS_FILLED) && told(&mut broker, IS_COMPLETE).is_err() {
        return Ok(Some(vec![noticed(format!("the mirror is never complete: {}", broker.words().trim()))]));
    }
    let mut violations = world.compare(&broker.address, Allowed::default())?;
    broker.kill()?;
    violations.extend(each_alone(run, &world, &sides)?);
    Ok(Some(violations))
}

/// Files of the log that both directories have, by name.
fn log_files(directory: &Path) -> Result<Vec<PathBuf>> {
    let mut files = edit::files(directory)?;
    files.retain(|file| file.components().any(|part| part.as_os_str() == "log"));
    files.sort();
    Ok(files)
}

fn damaged(run: &Run) -> Result<Option<Vec<Violation>>> {
    let mut rng = SmallRng::seed_from_u64(run.seed);
    let sides = Sides::beside(run);
    let world = written(run, &mut rng, &sides)?;
    let odd = rng.random_range(0..2);
    for (at, file) in log_files(&sides.directories[0])?.iter().enumerate() {
        let name = file.strip_prefix(&sides.directories[0]).unwrap_or(file);
        let file = sides.directories[(at + odd) % 2].join(name);
        let length = if file.exists() { edit::data_end(&file)? } else { 0 };
        for _ in 0..usize::from(length > 0) * 3 {
            edit::flip(&file, rng.random_range(0..length * 8))?;
            run.tally("flips", 1);
        }
    }
    let broker = sides.launch.serve()?;
    // What is read is repaired, on whichever side it was.
    let mut violations = world.compare(&broker.address, Allowed::default())?;
    broker.stop()?;
    let broker = sides.launch.serve()?;
    violations.extend(world.compare(&broker.address, Allowed::default())?);
    broker.kill()?;
    Ok(Some(violations))
}

fn cut(run: &Run) -> Result<Option<Vec<Violation>>> {
    let mut rng = SmallRng::seed_from_u64(run.seed);
    let volume = Volume::create(&run.directory, FileSystem::Ext4)?;
    let on_volume = volume.mount.join("data");
    let mut directories = [run.data(), on_volume];
    directories.rotate_left(run.index % 2);
    let sides = Sides::new(run, directories);
    let mut broker = sides.launch.serve()?;
    let mut world = World::new(run.seed, Plan::default());
    world.prepare(&broker.address)?;
    let mut running = world.start(&broker.address);
    world.wait_acknowledged(rng.random_range(20..200), WORK);
    volume.cut_power()?;
    run.tally("cuts", 1);
    // Nothing of it is excused: the other directory has what was acknowledged.
    let after = world.wait_acknowledged(100, WORK);
    let mut violations = Vec::new();
    if after == 0 {
        violations.push(noticed("nothing is taken with one directory".to_owned()));
    }
    told(&mut broker, HAS_FAILED)?;
    if rng.random() {
        // Killed while it has one directory, and started so.
        broker.kill()?;
        world.stop(running)?;
        broker = sides.launch.serve()?;
        world.resume(&broker.address)?;
        running = world.start(&broker.address);
        run.tally("kills with one directory", 1);
    }
    // Fails unless the broker has let go of the disk.
    volume.power_on()?;
    world.wait_acknowledged(50, WORK);
    told(&mut broker, IS_COMPLETE)?;
    run.tally("taken in again", 1);
    world.wait_acknowledged(20, WORK);
    world.stop(running)?;
    world.resume(&broker.address)?;
    violations.extend(world.compare(&broker.address, Allowed::default())?);
    broker.kill()?;
    violations.extend(each_alone(run, &world, &sides)?);
    Ok(Some(violations))
}
