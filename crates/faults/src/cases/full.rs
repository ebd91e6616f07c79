//! log-3 and log-6: a disk without space under commits that pass the page cache, and under a start that is an upgrade.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rand::rngs::SmallRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};

use super::disk::{FAULT_PATIENCE, fill, finish, plan, resumes};
use super::fsync::{noticed, reads_go_on};
use crate::broker::{Broker, Started};
use crate::case::{Case, Extent, Need, Run};
use crate::verify::{Allowed, Violation};
use crate::volume::{FileSystem, Tmpfs, Volume};
use crate::workload::{Plan, Shape, World};

pub const DIRECT: Case = Case {
    name: "log-6-disk-full-direct",
    promise: "P1 P11",
    about: "the disk is full under large commits that nobody follows, which pass the page cache",
    needs: &[Need::LoopDevices],
    quick: Extent { runs: 2, seconds: 12 },
    long: Extent { runs: 50, seconds: 900 },
    run: direct,
};

pub const UPGRADE: Case = Case {
    name: "log-3-upgrade-full",
    promise: "P1 P11",
    about: "an upgrade on a disk with little space or none serves, or is refused with the way back open",
    needs: &[Need::Mount],
    quick: Extent { runs: 3, seconds: 12 },
    long: Extent { runs: 50, seconds: 900 },
    run: upgrade,
};

const VOLUME_BYTES: u64 = 96 << 20;
const TMPFS_MEBIBYTES: u32 = 96;
const JOURNAL_BYTES: u32 = 8 << 20;
const OLDER: u64 = 2;
/// open(2)'s flag, as /proc shows it.
const O_DIRECT: u32 = 0o40000;

fn direct(run: &Run) -> Result<Option<Vec<Violation>>> {
    let mut rng = SmallRng::seed_from_u64(run.seed);
    let volume = Volume::of_size(&run.directory, FileSystem::Ext4, VOLUME_BYTES)?;
    // A commit is often longer than what a journal has taken ahead, so space is looked for by the write itself.
    let launch = run.launch(&volume.mount.join("data"));
    let mut broker = launch.serve()?;
    let shape = Shape { most_records: 4, most_padding: 200_000, pipeline: 2 };
    let mut world = World::new(run.seed, Plan { shape, tail: false, churn: false, cleaned: false, ..plan() });
    world.prepare(&broker.address)?;
    let running = world.start(&broker.address);
    world.wait_acknowledged(20, FAULT_PATIENCE);
    if !passes_cache(&broker)? {
        bail!("no commit has passed the page cache");
    }
    let ballast = volume.mount.join("ballast");
    fill(&ballast, rng.random_range(100_000..3_000_000), &volume.mount)?;
    let begun = Instant::now();
    while broker.is_running() && !world.shared.lock().refused && begun.elapsed() < FAULT_PATIENCE {
        std::thread::sleep(Duration::from_millis(5));
    }
    let mut violations = Vec::new();
    if !broker.is_running() {
        violations.push(noticed("a full disk has ended the broker".to_owned()));
    } else if !world.shared.lock().refused {
        violations.push(noticed("a full disk, and no producer was refused with an error".to_owned()));
    } else {
        violations.extend(reads_go_on(&world, &broker.address)?);
    }
    fs::remove_file(&ballast)?;
    resumes(run, &world, &mut broker);
    finish(world, running, broker, &launch, true, violations)
}

/// Whether a file is open in such a way.
fn passes_cache(broker: &Broker) -> Result<bool> {
    for entry in fs::read_dir(format!("/proc/{}/fdinfo", broker.pid()))? {
        let text = fs::read_to_string(entry?.path()).unwrap_or_default();
        let flags = text.lines().find_map(|line| line.strip_prefix("flags:"));
        let flags = flags.and_then(|flags| u32::from_str_radix(flags.trim(), 8).ok());
        if flags.is_some_and(|flags| flags & O_DIRECT != 0) {
            return Ok(true);
        }
    }
    Ok(false)
}

fn upgrade(run: &Run) -> Result<Option<Vec<Violation>>> {
    let mut rng = SmallRng::seed_from_u64(run.seed);
    let disk = Tmpfs::create(&run.directory, TMPFS_MEBIBYTES)?;
    let data = disk.mount.join("data");
    let launch = run.launch_rolling(&data, JOURNAL_BYTES, 200);
    let broker = launch.serve()?;
    let mut world = World::new(run.seed, Plan::default());
    world.prepare(&broker.address)?;
    let running = world.start(&broker.address);
    world.wait_acknowledged(60, FAULT_PATIENCE);
    broker.stop()?;
    world.stop(running)?;
    mark(&data, OLDER)?;
    let ballast = disk.mount.join("ballast");
    let left = *[0, 4096, 40_000, 2 << 20].choose(&mut rng).expect("a size");
    fill(&ballast, left, &disk.mount)?;
    let mut violations = Vec::new();
    match launch.start()? {
        Started::Ready(broker) => {
            run.tally("served with little space", 1);
            violations.extend(reads_go_on(&world, &broker.address)?);
            broker.kill()?;
        }
        Started::Ended { stderr, .. } => {
            run.tally("refused", 1);
            if left >= 2 << 20 {
                violations.push(noticed(format!("a start with {left} bytes of space is refused: {stderr}")));
            }
            if marked(&data)? != OLDER {
                violations.push(noticed("a start that was refused has closed the way back".to_owned()));
            }
            if !stderr.contains("space") {
                violations.push(noticed(format!("the refusal does not speak of space: {stderr}")));
            }
        }
    }
    fs::remove_file(&ballast)?;
    let broker = launch.serve()?;
    world.resume(&broker.address)?;
    violations.extend(world.check(&broker.address, Allowed::default())?);
    broker.kill()?;
    Ok(Some(violations))
}

fn marker(data: &Path) -> Result<serde_json::Value> {
    let file = data.join("headwater.json");
    Ok(serde_json::from_slice(&fs::read(&file).with_context(|| file.display().to_string())?)?)
}

fn marked(data: &Path) -> Result<u64> {
    marker(data)?["format"].as_u64().context("a number")
}

/// As a build of that format would have left it.
fn mark(data: &Path, format: u64) -> Result<()> {
    let mut marker = marker(data)?;
    marker["format"] = format.into();
    fs::write(data.join("headwater.json"), serde_json::to_string_pretty(&marker)?)?;
    Ok(())
}
