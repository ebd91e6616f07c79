//! log-6: writes that fail, writes that are cut short, a disk that is full.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use rand::rngs::SmallRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};

use super::fsync::{noticed, reads_go_on};
use crate::broker::{Broker, Launch};
use crate::case::{Case, Extent, Need, Run};
use crate::edit;
use crate::strace::Attached;
use crate::verify::{Allowed, Violation};
use crate::volume::{self, Tmpfs};
use crate::workload::{Plan, Shape, World};

pub const ERRORS: Case = Case {
    name: "log-6-write-error",
    promise: "P1 P11",
    about: "writes return EIO, ENOSPC, EDQUOT or write nothing, once or for a while",
    needs: &[Need::Strace],
    quick: Extent { runs: 6, seconds: 12 },
    long: Extent { runs: 200, seconds: 1200 },
    run: errors,
};

pub const SHORT: Case = Case {
    name: "log-6-short-write",
    promise: "P1 P11",
    about: "a file size limit cuts a write short at any byte and fails the next ones",
    needs: &[Need::Prlimit],
    quick: Extent { runs: 5, seconds: 8 },
    long: Extent { runs: 200, seconds: 1200 },
    run: short,
};

pub const FULL: Case = Case {
    name: "log-6-disk-full",
    promise: "P1 P11",
    about: "the disk is full: produce is refused, reads go on, nothing acknowledged is lost",
    needs: &[Need::Mount],
    quick: Extent { runs: 2, seconds: 10 },
    long: Extent { runs: 50, seconds: 900 },
    run: full,
};

const POSITIONED: &str = "pwrite64,pwritev,pwritev2,fallocate,ftruncate";
const SHARED: &str = "write,writev";
pub(super) const FAULT_PATIENCE: Duration = Duration::from_secs(10);
const AFTER: Duration = Duration::from_millis(300);
/// How long producing may take to go on by itself.
const RECOVERY: Duration = Duration::from_millis(1500);
const FULL_MEBIBYTES: u32 = 96;

pub(super) fn plan() -> Plan {
    Plan { persistent: true, answer_within: Duration::from_secs(5), ..Plan::default() }
}

fn errors(run: &Run) -> Result<Option<Vec<Violation>>> {
    let mut rng = SmallRng::seed_from_u64(run.seed);
    let launch = run.launch(&run.data());
    let mut broker = launch.serve()?;
    let mut world = World::new(run.seed, plan());
    world.prepare(&broker.address)?;
    let running = world.start(&broker.address);
    world.wait_acknowledged(rng.random_range(5..60), FAULT_PATIENCE);
    let fault = *["error=EIO", "error=ENOSPC", "error=EDQUOT", "retval=0"].choose(&mut rng).expect("a fault");
    let when = *["1", "1+", "2..4"].choose(&mut rng).expect("a time");
    run.tally(fault, 1);
    let attached = attach(run, &broker, &format!("{fault}:when={when}"))?;
    std::thread::sleep(AFTER);
    let mut violations = Vec::new();
    if broker.is_running() {
        violations.extend(reads_go_on(&world, &broker.address)?);
    }
    attached.detach()?;
    resumes(run, &world, &mut broker);
    finish(world, running, broker, &launch, true, violations)
}

/// Returns once a write has failed. Calls that sockets share are made to fail on the files of the data
/// directory alone, so that the network stays sound.
fn attach(run: &Run, broker: &Broker, fault: &str) -> Result<Attached> {
    let notes = run.directory.join("injected.txt");
    let (trace, inject) = (format!("trace={POSITIONED}"), format!("inject={POSITIONED}:{fault}"));
    let attached = Attached::to(broker.pid(), notes, &["-e", &trace, "-e", &inject])?;
    if attached.wait_injected(FAULT_PATIENCE / 5) {
        return Ok(attached);
    }
    attached.detach()?;
    let (trace, inject) = (format!("trace={SHARED}"), format!("inject={SHARED}:{fault}"));
    let mut options = vec!["-e", &trace, "-e", &inject];
    let files = edit::files(&run.data())?;
    for file in files.iter().filter_map(|file| file.to_str()) {
        options.extend(["-P", file]);
    }
    let attached = Attached::to(broker.pid(), run.directory.join("injected-too.txt"), &options)?;
    if !attached.wait_injected(FAULT_PATIENCE) {
        bail!("no write was made to fail");
    }
    Ok(attached)
}

/// Whether producing goes on without a restart is counted, and no promise.
pub(super) fn resumes(run: &Run, world: &World, broker: &mut Broker) {
    let more = world.wait_acknowledged(1, RECOVERY);
    match (broker.is_running(), more > 0) {
        (false, _) => run.tally("stopped", 1),
        (true, true) => run.tally("went on without a restart", 1),
        (true, false) => run.tally("needed a restart", 1),
    }
}

/// `met`: the fault was; then somebody must have been told.
pub(super) fn finish(
    mut world: World,
    running: crate::workload::Running,
    broker: Broker,
    launch: &Launch,
    met: bool,
    mut violations: Vec<Violation>,
) -> Result<Option<Vec<Violation>>> {
    if met && !world.shared.lock().refused && broker.words().is_empty() {
        violations.push(noticed("nobody was told of the failed write".to_owned()));
    }
    broker.kill()?;
    world.stop(running)?;
    let broker = launch.serve()?;
    world.resume(&broker.address)?;
    violations.extend(world.check(&broker.address, Allowed::default())?);
    broker.kill()?;
    Ok(Some(violations))
}

fn limit(broker: &Broker, bytes: &str) -> Result<()> {
    volume::run("prlimit", &["--pid", &broker.pid().to_string(), &format!("--fsize={bytes}")])?;
    Ok(())
}

fn short(run: &Run) -> Result<Option<Vec<Violation>>> {
    let mut rng = SmallRng::seed_from_u64(run.seed);
    let launch = Launch { ignore_file_size_signal: true, ..run.launch(&run.data()) };
    let mut broker = launch.serve()?;
    let mut world = World::new(run.seed, plan());
    world.prepare(&broker.address)?;
    let running = world.start(&broker.address);
    world.wait_acknowledged(rng.random_range(5..60), FAULT_PATIENCE);
    let journals = edit::journals(&run.data())?;
    let end = match journals.last() {
        Some(newest) => edit::data_end(newest)?,
        None => bail!("a broker without files"),
    };
    limit(&broker, &format!("{}:unlimited", end + rng.random_range(1..20_000)))?;
    let begun = Instant::now();
    while broker.is_running() && !world.shared.lock().refused && begun.elapsed() < FAULT_PATIENCE / 3 {
        std::thread::sleep(Duration::from_millis(5));
    }
    // A file that rolls before it has so many bytes does not meet the limit.
    let met = world.shared.lock().refused || !broker.is_running();
    run.tally("limits met", usize::from(met));
    let mut violations = Vec::new();
    if broker.is_running() {
        violations.extend(reads_go_on(&world, &broker.address)?);
        limit(&broker, "unlimited:unlimited")?;
    }
    resumes(run, &world, &mut broker);
    finish(world, running, broker, &launch, met, violations)
}

fn full(run: &Run) -> Result<Option<Vec<Violation>>> {
    let mut rng = SmallRng::seed_from_u64(run.seed);
    let disk = Tmpfs::create(&run.directory, FULL_MEBIBYTES)?;
    let launch = run.launch(&disk.mount.join("data"));
    let mut broker = launch.serve()?;
    let shape = Shape { most_padding: 6000, ..Shape::default() };
    let mut world = World::new(run.seed, Plan { shape, ..plan() });
    world.prepare(&broker.address)?;
    let running = world.start(&broker.address);
    world.wait_acknowledged(40, FAULT_PATIENCE);
    let ballast = disk.mount.join("ballast");
    fill(&ballast, rng.random_range(100_000..3_000_000), &disk.mount)?;
    let begun = Instant::now();
    while broker.is_running() && !world.shared.lock().refused && begun.elapsed() < FAULT_PATIENCE {
        std::thread::sleep(Duration::from_millis(5));
    }
    let mut violations = Vec::new();
    if !world.shared.lock().refused && broker.is_running() {
        violations.push(noticed("a full disk, and no producer was refused with an error".to_owned()));
    }
    if broker.is_running() {
        violations.extend(reads_go_on(&world, &broker.address)?);
    }
    fs::remove_file(&ballast)?;
    resumes(run, &world, &mut broker);
    let done = finish(world, running, broker, &launch, true, violations);
    if done.as_ref().is_ok_and(|found| found.as_ref().is_some_and(|list| !list.is_empty())) {
        edit::copy(&disk.mount.join("data"), &run.data())?;
    }
    done
}

/// Takes all space but so many bytes.
pub(super) fn fill(ballast: &Path, leave: u64, mount: &Path) -> Result<()> {
    let said = volume::run("df", &["--output=avail", "-B1", mount.to_str().unwrap_or_default()])?;
    let free: u64 = said.lines().last().unwrap_or_default().trim().parse()?;
    // The broker takes space too; what of the ballast does not fit is left out.
    match fs::write(ballast, vec![1_u8; free as usize]) {
        Err(error) if error.kind() != ErrorKind::StorageFull => return Err(error.into()),
        _ => {}
    }
    let length = fs::metadata(ballast)?.len();
    edit::truncate(ballast, length.saturating_sub(leave))
}
