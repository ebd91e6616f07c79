//! log-10 and pauses: nothing is lost or doubled when answers come too late for the clients' patience.

use std::time::{Duration, Instant};

use anyhow::Result;

use super::fsync::noticed;
use crate::case::{Case, Extent, Need, Run};
use crate::strace::Attached;
use crate::verify::{Allowed, Violation};
use crate::workload::{Plan, World};

pub const DISK: Case = Case {
    name: "log-10-slow-disk",
    promise: "P1 P4 P12",
    about: "each fdatasync takes 1 to 3 s: producers repeat, nothing is appended twice, memory stays bounded",
    needs: &[Need::Strace],
    quick: Extent { runs: 1, seconds: 15 },
    long: Extent { runs: 20, seconds: 1200 },
    run: disk,
};

pub const PAUSED: Case = Case {
    name: "wire-9-pause",
    promise: "P4",
    about: "SIGSTOP and SIGCONT while producers repeat: nothing twice, nothing lost, order kept",
    needs: &[],
    quick: Extent { runs: 1, seconds: 10 },
    long: Extent { runs: 10, seconds: 900 },
    run: paused,
};

const WORK: Duration = Duration::from_secs(5);
/// A broker under this little work has no use for more.
const MOST_GROWTH_KIB: u64 = 200 << 10;

fn impatient() -> Plan {
    Plan { persistent: true, answer_within: Duration::from_millis(700), ..Plan::default() }
}

fn disk(run: &Run) -> Result<Option<Vec<Violation>>> {
    let launch = run.launch(&run.data());
    let broker = launch.serve()?;
    let mut world = World::new(run.seed, impatient());
    world.prepare(&broker.address)?;
    let running = world.start(&broker.address);
    world.wait_acknowledged(30, WORK);
    let before = broker.resident_kib().unwrap_or(0);
    let micros = 1_000_000 + run.seed % 2_000_000;
    let inject = format!("inject=fdatasync,fsync,sync_file_range:delay_enter={micros}");
    let attached = Attached::to(
        broker.pid(),
        run.directory.join("injected.txt"),
        &["-e", "trace=fdatasync,fsync,sync_file_range", "-e", &inject],
    )?;
    let begun = Instant::now();
    let stalled = Duration::from_secs(if run.context.long { 30 } else { 7 });
    let mut most = before;
    while begun.elapsed() < stalled {
        most = most.max(broker.resident_kib().unwrap_or(0));
        std::thread::sleep(Duration::from_millis(50));
    }
    attached.detach()?;
    let after = world.wait_acknowledged(20, WORK);
    world.stop(running)?;
    let mut violations = Vec::new();
    if most > before + MOST_GROWTH_KIB {
        violations.push(noticed(format!("memory grew from {before} to {most} KiB on a slow disk")));
    }
    if after == 0 {
        violations.push(noticed("nothing is acknowledged after the disk is fast again".to_owned()));
    }
    world.resume(&broker.address)?;
    violations.extend(world.check(&broker.address, Allowed::default())?);
    broker.kill()?;
    again(run, &mut world, violations)
}

fn again(run: &Run, world: &mut World, mut violations: Vec<Violation>) -> Result<Option<Vec<Violation>>> {
    let broker = run.launch(&run.data()).serve()?;
    world.resume(&broker.address)?;
    violations.extend(world.check(&broker.address, Allowed::default())?);
    broker.kill()?;
    let history = world.shared.lock();
    run.tally("acknowledged batches", history.order.len());
    run.tally("batches sent again", history.repeated);
    Ok(Some(violations))
}

fn paused(run: &Run) -> Result<Option<Vec<Violation>>> {
    let broker = run.launch(&run.data()).serve()?;
    let mut world = World::new(run.seed, impatient());
    world.prepare(&broker.address)?;
    let running = world.start(&broker.address);
    world.wait_acknowledged(30, WORK);
    broker.signal("STOP")?;
    std::thread::sleep(Duration::from_secs(if run.context.long { 30 } else { 3 }));
    broker.signal("CONT")?;
    let after = world.wait_acknowledged(30, WORK);
    world.stop(running)?;
    let mut violations = Vec::new();
    if after == 0 {
        violations.push(noticed("nothing is acknowledged after the pause".to_owned()));
    }
    world.resume(&broker.address)?;
    violations.extend(world.check(&broker.address, Allowed::default())?);
    broker.kill()?;
    again(run, &mut world, violations)
}
