//! log-5: one fdatasync fails. What the kernel did with the pages is unknown, so nothing may be
//! acknowledged before the log has been read again from the disk.

use std::time::Duration;

use anyhow::{Result, bail};

use crate::case::{Case, Extent, Need, Run};
use crate::readback;
use crate::strace::Attached;
use crate::verify::{Allowed, Rule, Violation};
use crate::workload::{CHURN, Plan, World};

pub const FAILED: Case = Case {
    name: "log-5-fsync-error",
    promise: "P1 P11",
    about: "one fdatasync returns EIO and the next ones succeed: nothing is acknowledged until a restart",
    needs: &[Need::Strace],
    quick: Extent { runs: 6, seconds: 12 },
    long: Extent { runs: 100, seconds: 900 },
    run: failed,
};

/// Which calls fail, and the how manieth of them.
const FAULTS: [(&str, &str); 3] = [
    ("fdatasync,fsync,sync_file_range", "1"),
    ("fdatasync,fsync,sync_file_range", "2"),
    ("fdatasync,fsync,sync_file_range", "7..8"),
];
const FAULT_PATIENCE: Duration = Duration::from_secs(10);
/// How long producers go on asking after the fault.
const AFTER: Duration = Duration::from_millis(800);

fn failed(run: &Run) -> Result<Option<Vec<Violation>>> {
    let launch = run.launch(&run.data());
    let mut broker = launch.serve()?;
    let mut world = World::new(run.seed, Plan { persistent: true, ..Plan::default() });
    world.prepare(&broker.address)?;
    let running = world.start(&broker.address);
    world.wait_acknowledged(30, FAULT_PATIENCE);
    let notes = run.directory.join("injected.txt");
    let (calls, when) = FAULTS[(run.seed % FAULTS.len() as u64) as usize];
    let (trace, inject) = (format!("trace={calls}"), format!("inject={calls}:error=EIO:when={when}"));
    let attached = Attached::to(broker.pid(), notes, &["-e", &trace, "-e", &inject])?;
    if !attached.wait_injected(FAULT_PATIENCE) {
        bail!("no {calls} was made to fail within {FAULT_PATIENCE:?}");
    }
    std::thread::sleep(AFTER);
    let injected = attached.injected();
    attached.detach()?;
    let mut violations = Vec::new();
    let serving = broker.is_running();
    if serving {
        violations.extend(reads_go_on(&world, &broker.address)?);
    }
    let words = broker.words();
    match serving {
        true => run.note(format!("{injected} sync(s) failed; it went on serving reads")),
        false => run.note(format!("{injected} sync(s) failed; it stopped")),
    }
    if !words.to_lowercase().contains("sync") && !words.contains("Input/output error") {
        let said = words.lines().last().unwrap_or("nothing");
        violations.push(noticed(format!("the broker does not say that a sync failed; it said: {said}")));
    }
    broker.kill()?;
    world.stop(running)?;
    let late = world.shared.lock().acknowledged_after_refusal;
    if late > 0 {
        violations.push(noticed(format!("{late} batches sent after the failure were acknowledged")));
    }
    if serving && !world.shared.lock().refused {
        violations.push(noticed("no producer was refused anything".to_owned()));
    }
    let broker = launch.serve()?;
    world.resume(&broker.address)?;
    violations.extend(world.check(&broker.address, Allowed::default())?);
    broker.kill()?;
    Ok(Some(violations))
}

pub fn noticed(detail: String) -> Violation {
    Violation { rule: Rule::Noticed, detail }
}

/// What was readable before the fault is readable after it.
pub fn reads_go_on(world: &World, address: &str) -> Result<Vec<Violation>> {
    let mut connection = world.connect(address)?;
    let history = world.shared.lock().clone();
    // Others may come and go meanwhile.
    let stays = |name: &str| !name.starts_with(CHURN);
    if let Err(error) = readback::read_records(&mut connection, &history, stays) {
        return Ok(vec![noticed(format!("reads do not go on: {error:#}"))]);
    }
    Ok(Vec::new())
}
