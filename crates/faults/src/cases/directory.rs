//! log-13: a second process on the directory, a file system that turns read-only, a directory that goes.

use std::fs;
use std::time::Duration;

use anyhow::Result;

use super::fsync::{noticed, reads_go_on};
use crate::broker::Started;
use crate::case::{Case, Extent, Need, Run};
use crate::verify::{Allowed, Violation};
use crate::volume::{FileSystem, Volume};
use crate::workload::{Plan, World};

pub const SECOND: Case = Case {
    name: "log-13-second-process",
    promise: "P2 P11",
    about: "a second broker on the same directory is refused, and the first one does not notice",
    needs: &[],
    quick: Extent { runs: 1, seconds: 5 },
    long: Extent { runs: 20, seconds: 300 },
    run: second,
};

pub const READ_ONLY: Case = Case {
    name: "log-13-read-only",
    promise: "P1 P11",
    about: "the file system turns read-only: writes are refused, reads go on, a start is refused or reads",
    needs: &[Need::LoopDevices, Need::Mount],
    quick: Extent { runs: 1, seconds: 8 },
    long: Extent { runs: 20, seconds: 300 },
    run: read_only,
};

pub const REMOVED: Case = Case {
    name: "log-13-removed",
    promise: "P11",
    about: "the data directory is removed under the broker: no panic, no hang, and a new start serves",
    needs: &[],
    quick: Extent { runs: 1, seconds: 8 },
    long: Extent { runs: 20, seconds: 300 },
    run: removed,
};

const WORK: Duration = Duration::from_secs(5);
const AFTER: Duration = Duration::from_millis(500);

fn second(run: &Run) -> Result<Option<Vec<Violation>>> {
    let launch = run.launch(&run.data());
    let broker = launch.serve()?;
    let mut world = World::new(run.seed, Plan::default());
    world.prepare(&broker.address)?;
    let running = world.start(&broker.address);
    world.wait_acknowledged(30, WORK);
    let mut violations = Vec::new();
    match launch.start()? {
        Started::Ready(other) => {
            violations.push(noticed("a second broker serves the same directory".to_owned()));
            other.kill()?;
        }
        Started::Ended { stderr, status } => {
            let named = stderr.contains(run.data().to_str().unwrap_or_default());
            if status.success() || !named {
                let said = stderr.trim();
                violations
                    .push(noticed(format!("the refusal ({status}) does not name the directory: {said}")));
            }
        }
    }
    if world.wait_acknowledged(30, WORK) == 0 {
        violations.push(noticed("the first broker takes nothing any more".to_owned()));
    }
    world.stop(running)?;
    broker.kill()?;
    let broker = launch.serve()?;
    world.resume(&broker.address)?;
    violations.extend(world.check(&broker.address, Allowed::default())?);
    broker.kill()?;
    Ok(Some(violations))
}

fn read_only(run: &Run) -> Result<Option<Vec<Violation>>> {
    let volume = Volume::create(&run.directory, FileSystem::Ext4)?;
    let launch = run.launch(&volume.mount.join("data"));
    let mut broker = launch.serve()?;
    let mut world = World::new(run.seed, Plan::default());
    world.prepare(&broker.address)?;
    let running = world.start(&broker.address);
    world.wait_acknowledged(30, WORK);
    // ext4 lies once: the fdatasync that meets the error may return 0 and lose the data. So what is
    // answered from here on does not count.
    world.shared.power.switch(false);
    volume.make_read_only()?;
    std::thread::sleep(AFTER);
    world.stop(running)?;
    world.shared.power.switch(true);
    let mut violations = Vec::new();
    match broker.is_running() {
        true => {
            violations.extend(refuses(run, &world, &broker.address));
            violations.extend(reads_go_on(&world, &broker.address)?);
        }
        false => run.note("the broker stopped"),
    }
    broker.kill()?;
    if let Started::Ready(broker) = launch.start()? {
        run.note("a start on a read-only file system serves");
        violations.extend(refuses(run, &world, &broker.address));
        violations.extend(reads_go_on(&world, &broker.address)?);
        broker.kill()?;
    }
    volume.power_on()?;
    let broker = launch.serve()?;
    world.resume(&broker.address)?;
    violations.extend(world.check(&broker.address, Allowed::default())?);
    broker.kill()?;
    Ok(Some(violations))
}

fn refuses(run: &Run, world: &World, address: &str) -> Option<Violation> {
    match world.stranger(address) {
        Ok(offset) => Some(noticed(format!("a record is acknowledged at {offset}, which nobody can write"))),
        Err(failure) if failure.is_lost() => {
            run.note("produce is answered by closing the connection");
            None
        }
        Err(_) => None,
    }
}

fn removed(run: &Run) -> Result<Option<Vec<Violation>>> {
    let launch = run.launch(&run.data());
    let mut broker = launch.serve()?;
    let mut world = World::new(run.seed, Plan { persistent: true, ..Plan::default() });
    world.prepare(&broker.address)?;
    let running = world.start(&broker.address);
    world.wait_acknowledged(30, WORK);
    fs::remove_dir_all(run.data())?;
    std::thread::sleep(AFTER);
    match (broker.is_running(), world.wait_acknowledged(1, AFTER) > 0) {
        (false, _) => run.note("the broker stopped"),
        (true, true) => run.note("the broker went on acknowledging into removed files"),
        (true, false) => run.note("the broker acknowledged nothing more"),
    }
    broker.kill()?;
    world.stop(running)?;
    launch.serve()?.kill()?;
    Ok(Some(Vec::new()))
}
