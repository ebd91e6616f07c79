//! log-8: the files of a stopped broker are cut, zeroed, lengthened, swapped, removed.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rand::rngs::SmallRng;
use rand::{Rng, RngCore, SeedableRng};

use super::flip::refused_to_start;
use super::fsync::noticed;
use crate::broker::{Broker, Launch, Started};
use crate::case::{Case, Extent, Run};
use crate::edit;
use crate::verify::{Allowed, Rule, Violation};
use crate::workload::{Plan, World};

pub const EDITED: Case = Case {
    name: "log-8-edited-tail",
    promise: "P1 P2 P3",
    about: "the newest file is cut, zeroed or lengthened by garbage: exactly the acknowledged prefix is served",
    needs: &[],
    quick: Extent { runs: 60, seconds: 12 },
    long: Extent { runs: 2000, seconds: 3600 },
    run: edited,
};

pub const MISPLACED: Case = Case {
    name: "log-8-misplaced-file",
    promise: "P3",
    about: "a file of the log is removed, or two change places: noticed, never served as another's data",
    needs: &[],
    quick: Extent { runs: 8, seconds: 8 },
    long: Extent { runs: 300, seconds: 1200 },
    run: misplaced,
};

const STEPS: usize = 60;
/// How long what a broker says may take to come.
const WORDS: Duration = Duration::from_secs(5);
/// Words by which a broker may say that it dropped something.
const SAYS_SO: [&str; 7] = ["truncat", "drop", "cut", "torn", "discard", "removed", "incomplete"];

/// After so many acknowledged batches, where the newest file ended.
struct Mark {
    batches: usize,
    file: PathBuf,
    end: u64,
}

/// One client writes one batch after the other, so acknowledgements have one order.
fn written(run: &Run, launch: &Launch, steps: usize) -> Result<(World, Vec<Mark>)> {
    let broker = launch.serve()?;
    let plan = Plan { producers: 3, churn: false, tail: false, transactions: false, ..Plan::default() };
    let mut world = World::new(run.seed, Plan { cleaned: false, ..plan });
    world.prepare(&broker.address)?;
    let mut marks = Vec::new();
    for step in 0..steps {
        world.step(&broker.address, step)?;
        let file = edit::journals(&run.data())?.pop().context("a broker without files")?;
        let end = edit::data_end(&file)?;
        marks.push(Mark { batches: world.shared.lock().order.len(), file, end });
    }
    broker.kill()?;
    Ok((world, marks))
}

enum Edit {
    Cut(u64),
    Lengthened,
}

fn edit_tail(rng: &mut SmallRng, file: &Path) -> Result<(Edit, String)> {
    let end = edit::data_end(file)?;
    let bytes = fs::read(file)?;
    let cut = rng.random_range(0..end);
    Ok(match rng.random_range(0..6) {
        0 | 1 => {
            edit::truncate(file, cut)?;
            (Edit::Cut(cut), format!("cut from {end} to {cut} bytes"))
        }
        2 => {
            edit::write_at(file, &vec![0; (end - cut) as usize], cut)?;
            (Edit::Cut(cut), format!("zeroed from {cut} to {end}"))
        }
        3 => {
            let mut garbage = vec![0; rng.random_range(1..5000)];
            rng.fill_bytes(&mut garbage);
            edit::write_at(file, &garbage, end)?;
            (Edit::Lengthened, format!("{} bytes of garbage after {end}", garbage.len()))
        }
        4 => {
            let again = &bytes[cut as usize..end as usize];
            edit::write_at(file, again, end)?;
            (Edit::Lengthened, format!("bytes {cut} to {end} once more after {end}"))
        }
        _ => {
            let length = (end - cut).min(rng.random_range(1..2000)) as usize;
            let again = &bytes[..length.min(bytes.len())];
            edit::write_at(file, again, end)?;
            (Edit::Lengthened, format!("the file's first {length} bytes after {end}"))
        }
    })
}

fn edited(run: &Run) -> Result<Option<Vec<Violation>>> {
    let mut rng = SmallRng::seed_from_u64(run.seed);
    let launch = run.launch(&run.data());
    let (world, marks) = written(run, &launch, STEPS)?;
    let file = edit::journals(&run.data())?.pop().context("a broker without files")?;
    let (edit, what) = edit_tail(&mut rng, &file)?;
    let broker = match launch.start()? {
        Started::Ready(broker) => broker,
        Started::Ended { stderr, .. } => return Ok(Some(refused_to_start(run, &file, &stderr))),
    };
    let mut violations = match edit {
        Edit::Lengthened => world.compare(&broker.address, Allowed::default())?,
        Edit::Cut(at) => after_cut(&world, &marks, &broker, &file, at)?,
    };
    if !violations.is_empty() {
        violations.insert(0, noticed(format!("{} {what}:", file.display())));
    }
    broker.kill()?;
    Ok(Some(violations))
}

/// What it says may be on its way yet: on a busy machine a moment longer.
fn says_so(broker: &Broker) -> bool {
    let said = || {
        let words = broker.words().to_lowercase();
        SAYS_SO.iter().any(|word| words.contains(word))
    };
    let begun = Instant::now();
    while !said() && begun.elapsed() < WORDS {
        std::thread::sleep(WORDS / 100);
    }
    said()
}

fn after_cut(world: &World, marks: &[Mark], broker: &Broker, file: &Path, at: u64) -> Result<Vec<Violation>> {
    let mut violations = world.compare(&broker.address, Allowed { lost_tail: true, ..Allowed::default() })?;
    let (kept, lost) = world.kept_of_order(&broker.address)?;
    // What the remaining bytes hold is served.
    let whole = marks.iter().filter(|mark| mark.file != file || mark.end <= at);
    let least = whole.map(|mark| mark.batches).max().unwrap_or(0);
    if kept < least {
        let detail = format!("the bytes hold the first {least} batches, {kept} are served");
        violations.push(Violation { rule: Rule::Lost, detail });
    }
    if let Some(later) = lost {
        let detail = format!("batch {later} is served, but one acknowledged before it is not");
        violations.push(Violation { rule: Rule::Order, detail });
    }
    let between = !marks.iter().any(|mark| mark.file == file && mark.end == at);
    if between && at > 0 && !says_so(broker) {
        let words = broker.words();
        violations.push(noticed(format!("nothing is said of what was dropped; words: {}", words.trim())));
    }
    Ok(violations)
}

fn misplaced(run: &Run) -> Result<Option<Vec<Violation>>> {
    let mut rng = SmallRng::seed_from_u64(run.seed);
    let launch = run.launch_rolling(&run.data(), 64 << 10, 200);
    let (world, _) = written(run, &launch, 3 * STEPS)?;
    let journals = edit::journals(&run.data())?;
    if journals.len() < 2 {
        run.note("this binary has one file only: nothing to misplace (it takes no --config)");
        return Ok(Some(Vec::new()));
    }
    let one = rng.random_range(0..journals.len() - 1);
    let (file, other) = (&journals[one], &journals[rng.random_range(one + 1..journals.len())]);
    match rng.random() {
        true => fs::remove_file(file)?,
        false => {
            let between = run.directory.join("between");
            fs::rename(file, &between)?;
            fs::rename(other, file)?;
            fs::rename(&between, other)?;
        }
    }
    let broker = match launch.start()? {
        Started::Ready(broker) => broker,
        Started::Ended { stderr, .. } => {
            run.tally("starts refused", 1);
            let name = |file: &PathBuf| file.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if journals.iter().any(|file| stderr.contains(&name(file))) {
                return Ok(Some(Vec::new()));
            }
            let said = stderr.trim();
            return Ok(Some(vec![noticed(format!("a start was refused without naming a file: {said}"))]));
        }
    };
    let found = world.compare(&broker.address, Allowed { refused: true, lost_tail: false });
    broker.kill()?;
    Ok(Some(found.unwrap_or_else(|error| vec![noticed(format!("reading ended with: {error:#}"))])))
}
