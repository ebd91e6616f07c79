//! log-7: one bit flips, in any kind of file, between a stop and a start or under a running broker.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Result;
use rand::rngs::SmallRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};

use super::fsync::noticed;
use crate::broker::{Broker, Launch, Started};
use crate::case::{Case, Extent, Run};
use crate::edit;
use crate::verify::{Allowed, Violation};
use crate::workload::{Plan, World};

pub const STOPPED: Case = Case {
    name: "log-7-bit-flip",
    promise: "P3",
    about: "one bit flips in each kind of file before a start: at most the damaged batch is refused",
    needs: &[],
    quick: Extent { runs: 40, seconds: 20 },
    long: Extent { runs: 1000, seconds: 3600 },
    run: stopped,
};

pub const LIVE: Case = Case {
    name: "log-7-bit-flip-live",
    promise: "P3",
    about: "bits flip in the log's files under a running broker: it goes on, and its next start serves none of them",
    needs: &[],
    quick: Extent { runs: 4, seconds: 8 },
    long: Extent { runs: 300, seconds: 1200 },
    run: live,
};

const FLIPS_LIVE: usize = 3;
const WORK: Duration = Duration::from_secs(5);
const DAMAGED: Allowed = Allowed { refused: true, lost_tail: false };

/// Files of a broker at rest, and where the frame of the very last record begins.
struct Rest {
    world: World,
    /// Newest journal, and its end before the last record was written.
    last: (PathBuf, u64),
}

/// All kinds of work, everything answered, one more record, and then an end of either kind.
fn at_rest(run: &Run, rng: &mut SmallRng) -> Result<Rest> {
    let launch = rolling(run);
    let broker = launch.serve()?;
    let mut world = World::new(run.seed, Plan { tail: false, ..Plan::default() });
    world.prepare(&broker.address)?;
    let running = world.start(&broker.address);
    world.wait_acknowledged(rng.random_range(80..200), WORK);
    world.stop(running)?;
    world.resume(&broker.address)?;
    let newest = edit::journals(&run.data())?.pop().unwrap_or_default();
    let end = edit::data_end(&newest)?;
    world.one_more(&broker.address)?;
    match rng.random() {
        true => broker.kill()?,
        false => drop(broker.stop()?),
    }
    Ok(Rest { world, last: (newest, end) })
}

/// Small files, so that there are finished ones.
fn rolling(run: &Run) -> Launch {
    run.launch_rolling(&run.data(), 64 << 10, 200)
}

fn stopped(run: &Run) -> Result<Option<Vec<Violation>>> {
    let mut rng = SmallRng::seed_from_u64(run.seed);
    let rest = at_rest(run, &mut rng)?;
    let kept = run.directory.join("kept");
    edit::copy(&run.data(), &kept)?;
    let mut violations = Vec::new();
    for (kind, files) in edit::by_kind(&run.data())? {
        let file = files.choose(&mut rng).expect("a kind has files").clone();
        let length = edit::data_end(&file)?;
        if length == 0 {
            continue;
        }
        let bit = rng.random_range(0..length * 8);
        let found = one_flip(run, &rest, &file, bit)?;
        if !found.is_empty() {
            let at = file.strip_prefix(run.data()).unwrap_or(&file).display().to_string();
            violations.push(noticed(format!("bit {bit} of {at} (kind {kind}, {length} bytes) flipped:")));
            violations.extend(found);
            return Ok(Some(violations));
        }
        std::fs::remove_dir_all(run.data())?;
        edit::copy(&kept, &run.data())?;
    }
    Ok(Some(violations))
}

fn one_flip(run: &Run, rest: &Rest, file: &Path, bit: u64) -> Result<Vec<Violation>> {
    edit::flip(file, bit)?;
    run.tally("flips", 1);
    let broker = match rolling(run).start()? {
        Started::Ready(broker) => broker,
        Started::Ended { stderr, .. } => return Ok(refused_to_start(run, file, &stderr)),
    };
    // The last frame of the newest file cannot be told from one that a crash tore.
    let in_last = *file == rest.last.0 && bit / 8 >= rest.last.1;
    let history = rest.world.shared.lock().clone();
    if in_last {
        rest.world.forget_last();
    }
    let found = compare(run, &rest.world, &broker);
    *rest.world.shared.lock() = history;
    broker.kill()?;
    Ok(found)
}

/// A start that is refused must name the file.
pub fn refused_to_start(run: &Run, file: &Path, stderr: &str) -> Vec<Violation> {
    let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
    run.tally("starts refused", 1);
    run.note(format!("a start was refused for a damaged {}", edit::kind(file)));
    match stderr.contains(&name) {
        true => Vec::new(),
        false => vec![noticed(format!("a start was refused without naming {name}: {}", stderr.trim()))],
    }
}

fn live(run: &Run) -> Result<Option<Vec<Violation>>> {
    let mut rng = SmallRng::seed_from_u64(run.seed);
    let rest = at_rest(run, &mut rng)?;
    let mut broker = rolling(run).serve()?;
    let mut finished = edit::journals(&run.data())?;
    // The last frame of the newest file cannot be told from one that a crash tore.
    finished.pop();
    for _ in 0..FLIPS_LIVE {
        let Some(file) = finished.choose(&mut rng) else { return Ok(None) };
        let bit = rng.random_range(0..edit::data_end(file)?.max(1) * 8);
        edit::flip(file, bit)?;
    }
    run.tally("flips", FLIPS_LIVE);
    // What the broker has checked once it sends as it is: docs/reliability.md.
    let served = rest.world.compare_counting(&broker.address, DAMAGED).map_or(1, |(found, _)| found.len());
    run.tally("served damaged before the restart", served);
    let mut violations = Vec::new();
    if !broker.is_running() {
        violations.push(noticed("the broker ended for a damaged batch".to_owned()));
    }
    broker.kill()?;
    match rolling(run).start()? {
        Started::Ready(broker) => {
            violations.extend(compare(run, &rest.world, &broker));
            broker.kill()?;
        }
        Started::Ended { stderr, .. } => {
            let named = finished.iter().any(|file| refused_to_start(run, file, &stderr).is_empty());
            let unnamed = || noticed(format!("a start was refused without naming a file: {}", stderr.trim()));
            violations.extend((!named).then(unnamed));
        }
    }
    Ok(Some(violations))
}

/// Everything that is not refused is right.
fn compare(run: &Run, world: &World, broker: &Broker) -> Vec<Violation> {
    match world.compare_counting(&broker.address, DAMAGED) {
        Ok((found, refused)) => {
            run.tally("offsets refused", refused);
            found
        }
        Err(error) => vec![noticed(format!("reading ended with: {error:#}"))],
    }
}
