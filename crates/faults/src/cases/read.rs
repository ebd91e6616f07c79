//! log-9: reading one old file fails for a while.

use std::time::Duration;

use anyhow::{Context, Result};

use super::fsync::noticed;
use crate::case::{Case, Extent, Need, Run};
use crate::edit;
use crate::strace::Attached;
use crate::verify::{Allowed, Violation};
use crate::workload::{Plan, Shape, World};

pub const FAILED: Case = Case {
    name: "log-9-read-error",
    promise: "P3 P11",
    about: "reads of the oldest file return EIO: only its records are refused, and come back with the disk",
    needs: &[Need::Strace],
    quick: Extent { runs: 2, seconds: 6 },
    long: Extent { runs: 50, seconds: 600 },
    run: failed,
};

const WORK: Duration = Duration::from_secs(10);
const INJECT: &str = "inject=read,pread64,preadv,preadv2,sendfile:error=EIO";

fn failed(run: &Run) -> Result<Option<Vec<Violation>>> {
    let launch = run.launch_rolling(&run.data(), 64 << 10, 200);
    let mut broker = launch.serve()?;
    let shape = Shape { most_padding: 3000, ..Shape::default() };
    let mut world = World::new(run.seed, Plan { tail: false, shape, ..Plan::default() });
    world.prepare(&broker.address)?;
    let running = world.start(&broker.address);
    world.wait_acknowledged(120, WORK);
    world.stop(running)?;
    world.resume(&broker.address)?;
    let journals = edit::journals(&run.data())?;
    let oldest = journals.first().and_then(|file| file.to_str()).context("a broker without files")?;
    let attached = Attached::to(
        broker.pid(),
        run.directory.join("injected.txt"),
        &["-P", oldest, "-e", "trace=read,pread64,preadv,preadv2,sendfile", "-e", INJECT],
    )?;
    let allowed = Allowed { refused: true, lost_tail: false };
    let (mut violations, refused) = world.compare_counting(&broker.address, allowed)?;
    run.tally("offsets refused", refused);
    let name = oldest.rsplit('/').next().unwrap_or(oldest);
    let words = broker.words();
    if refused > 0 && !words.contains(name) && !words.contains("main-") {
        violations.push(noticed(format!("neither {name}, which cannot be read, nor a partition is named")));
    }
    attached.detach()?;
    match broker.is_running() {
        true => violations.extend(world.check(&broker.address, Allowed::default())?),
        false => violations.push(noticed("the broker ended because a file could not be read".to_owned())),
    }
    broker.kill()?;
    Ok(Some(violations))
}
