//! Whether the harness can see: a disk that only says that it synced must be caught by the power cuts.

use std::fs;
use std::time::Duration;

use anyhow::Result;

use super::fsync::noticed;
use crate::case::{Case, Extent, Need, Run};
use crate::strace::Attached;
use crate::verify::{Allowed, Rule, Violation};
use crate::volume::{FileSystem, Volume};
use crate::workload::{Plan, World};

pub const SYNC: Case = Case {
    name: "check-lying-sync",
    promise: "harness",
    about: "fdatasync does nothing and says it did: the verifier must report lost records",
    needs: &[Need::Strace, Need::LoopDevices, Need::Mount, Need::Python],
    quick: Extent { runs: 1, seconds: 10 },
    long: Extent { runs: 10, seconds: 120 },
    run: sync,
};

const WORK: Duration = Duration::from_secs(10);

/// Somebody else's sync(2) may save the data of one attempt.
const ATTEMPTS: u64 = 6;

fn sync(run: &Run) -> Result<Option<Vec<Violation>>> {
    for attempt in 0..ATTEMPTS {
        if loses(run, attempt)? {
            return Ok(Some(Vec::new()));
        }
        run.note("records that were never synced survived an attempt");
    }
    Ok(Some(vec![noticed(format!("{ATTEMPTS} cuts without any sync, and no loss was seen"))]))
}

/// Whether the verifier reports lost records.
fn loses(run: &Run, attempt: u64) -> Result<bool> {
    let directory = run.directory.join(attempt.to_string());
    fs::create_dir_all(&directory)?;
    let volume = Volume::create(&directory, FileSystem::Ext4)?;
    let launch = run.launch(&volume.mount.join("data"));
    let broker = launch.serve()?;
    let mut world = World::new(run.seed + attempt, Plan::default());
    world.prepare(&broker.address)?;
    let attached = Attached::to(
        broker.pid(),
        directory.join("injected.txt"),
        &["-e", "trace=fdatasync,fsync", "-e", "inject=fdatasync,fsync:retval=0"],
    )?;
    let running = world.start(&broker.address);
    world.wait_acknowledged(50, WORK);
    world.shared.power.switch(false);
    volume.cut_power()?;
    broker.kill()?;
    attached.gone()?;
    world.stop(running)?;
    volume.power_on()?;
    world.shared.power.switch(true);
    let broker = launch.serve()?;
    world.resume(&broker.address)?;
    let found = world.check(&broker.address, Allowed::default())?;
    broker.kill()?;
    Ok(found.iter().any(|violation| violation.rule == Rule::Lost))
}
