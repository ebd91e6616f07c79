//! log-2 and log-3: the power goes while producers write and topics come and go, again and again on the
//! same files.

use std::time::Duration;

use anyhow::Result;
use rand::rngs::SmallRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};

use crate::broker::{Broker, Launch};
use crate::case::{Case, Extent, Need, Run};
use crate::edit;
use crate::strace::Attached;
use crate::verify::{Allowed, Violation};
use crate::volume::{FileSystem, Volume};
use crate::workload::{Plan, Shape, World};

pub const EXT4: Case = Case {
    name: "log-2-power-ext4",
    promise: "P1 P2",
    about: "power cut on ext4 under producers, rolls, topic creation and deletion",
    needs: &[Need::LoopDevices, Need::Mount, Need::Python, Need::Strace],
    quick: Extent { runs: 40, seconds: 22 },
    long: Extent { runs: 400, seconds: 1800 },
    run: |run| cut(run, FileSystem::Ext4, Disk::Quick),
};

pub const XFS: Case = Case {
    name: "log-2-power-xfs",
    promise: "P1 P2",
    about: "power cut on XFS under producers, rolls, topic creation and deletion",
    needs: &[Need::LoopDevices, Need::Mount, Need::Python, Need::Strace, Need::Xfs],
    quick: Extent { runs: 40, seconds: 22 },
    long: Extent { runs: 400, seconds: 1800 },
    run: |run| cut(run, FileSystem::Xfs, Disk::Quick),
};

pub const RETRIES: Case = Case {
    name: "log-2-power-retries",
    promise: "P1 P4",
    about: "power cut on a slow disk: a retry of what is still being synced is not answered early",
    needs: &[Need::LoopDevices, Need::Mount, Need::Python, Need::Strace],
    quick: Extent { runs: 4, seconds: 10 },
    long: Extent { runs: 200, seconds: 1800 },
    run: |run| cut(run, FileSystem::Ext4, Disk::Slow),
};

/// How long a sync takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Disk {
    Quick,
    /// Longer than producers wait.
    Slow,
}

const SLOW_SYNC: &str = "inject=fdatasync,fsync,sync_file_range:delay_enter=150000";
const IMPATIENCE: Duration = Duration::from_millis(60);
const CUTS: usize = 4;
/// In microseconds.
const LONGEST_START: u64 = 25_000;
const WORK_PATIENCE: Duration = Duration::from_secs(5);

fn plan(rng: &mut SmallRng, disk: Disk) -> Plan {
    if disk == Disk::Slow {
        return Plan { persistent: true, answer_within: IMPATIENCE, churn: false, ..Plan::default() };
    }
    let producers = *[1, 2, 6, 16, 64].choose(rng).expect("a number");
    let partitions = *[1, 2, 3, 3, 5, 8, 20, 500].choose(rng).expect("a number");
    let most_padding = *[200, 2000, 20_000, 50_000].choose(rng).expect("a size");
    // What nobody follows is written past the page cache where it is much.
    let tail = rng.random();
    Plan { producers, partitions, tail, shape: Shape { most_padding, ..Shape::default() }, ..Plan::default() }
}

fn cut(run: &Run, file_system: FileSystem, disk: Disk) -> Result<Option<Vec<Violation>>> {
    let mut rng = SmallRng::seed_from_u64(run.seed);
    let volume = Volume::create(&run.directory, file_system)?;
    let launch = run.launch_rolling(&volume.mount.join("data"), 128 << 10, 100);
    let mut world = World::new(run.seed, plan(&mut rng, disk));
    if rng.random_range(0..3) == 0 {
        // The very first start is cut off.
        cut_while_starting(run, &mut rng, &launch, &volume)?;
    }
    let mut broker = launch.serve()?;
    world.prepare(&broker.address)?;
    let (cuts, most, patience) = match disk {
        Disk::Quick => (CUTS, 150, WORK_PATIENCE),
        Disk::Slow => (CUTS / 2, 12, WORK_PATIENCE / 5),
    };
    for _ in 0..cuts {
        let slow = match disk {
            Disk::Quick => None,
            Disk::Slow => Some(slow_down(run, &broker)?),
        };
        let running = world.start(&broker.address);
        // Not zero: a cut must have something to lose.
        world.wait_acknowledged(rng.random_range(1..most), patience);
        std::thread::sleep(Duration::from_micros(rng.random_range(0..20_000)));
        if disk == Disk::Quick && rng.random_range(0..3) == 0 {
            kill_before_sync(run, broker)?;
            world.stop(running)?;
            broker = killed_first(run, &mut rng, &mut world, &launch)?;
            lights_out(&world, broker, &volume)?;
        } else {
            lights_out(&world, broker, &volume)?;
            world.stop(running)?;
        }
        drop(slow);
        volume.power_on()?;
        world.shared.power.switch(true);
        run.tally("cuts", 1);
        if rng.random_range(0..3) == 0 {
            cut_while_starting(run, &mut rng, &launch, &volume)?;
        }
        broker = launch.serve()?;
        world.resume(&broker.address)?;
        let violations = world.check(&broker.address, Allowed::default())?;
        if !violations.is_empty() {
            broker.kill()?;
            keep(run, &volume)?;
            return Ok(Some(violations));
        }
    }
    broker.kill()?;
    drop(volume);
    run.tally("acknowledged batches", world.shared.lock().order.len());
    run.tally("batches sent again", world.shared.lock().repeated);
    Ok(Some(Vec::new()))
}

fn slow_down(run: &Run, broker: &Broker) -> Result<Attached> {
    let notes = run.directory.join("injected.txt");
    let trace = "trace=fdatasync,fsync,sync_file_range";
    Attached::to(broker.pid(), notes, &["-e", trace, "-e", SLOW_SYNC])
}

fn lights_out(world: &World, broker: Broker, volume: &Volume) -> Result<()> {
    world.shared.power.switch(false);
    volume.cut_power()?;
    broker.kill()
}

/// A kill in the middle of a sync lets the sync end; this one comes just before it.
fn kill_before_sync(run: &Run, mut broker: Broker) -> Result<()> {
    let notes = run.directory.join("killed.txt");
    let options = ["-e", "trace=fdatasync,fsync", "-e", "inject=fdatasync,fsync:signal=KILL:when=1"];
    let attached = Attached::to(broker.pid(), notes, &options)?;
    broker.wait_for_end(WORK_PATIENCE)?;
    attached.gone()
}

/// A killed broker leaves frames that only the page cache has; what its successor answers to retries of
/// them, and shows to readers, must be on disk nevertheless.
fn killed_first(run: &Run, rng: &mut SmallRng, world: &mut World, launch: &Launch) -> Result<Broker> {
    let broker = launch.serve()?;
    match rng.random() {
        true => world.resume(&broker.address)?,
        false => world.observe(&broker.address)?,
    }
    run.tally("kills before a cut", 1);
    Ok(broker)
}

fn cut_while_starting(run: &Run, rng: &mut SmallRng, launch: &Launch, volume: &Volume) -> Result<()> {
    let moment = Duration::from_micros(rng.random_range(0..LONGEST_START));
    launch.interrupted(moment, || volume.cut_power())?;
    run.tally("cuts while starting", 1);
    volume.power_on()
}

/// The volume goes; its files stay.
fn keep(run: &Run, volume: &Volume) -> Result<()> {
    edit::copy(&volume.mount.join("data"), &run.data())
}
