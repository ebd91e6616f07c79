//! A named fault: which promise it attacks, what it needs, and how it is run.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use anyhow::Result;

use crate::broker::{self, ANY_PORT, Launch};
use crate::clients::Language;
use crate::verify::Violation;

/// Something that not every machine has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    Strace,
    LoopDevices,
    Xfs,
    Python,
    Mount,
    Prlimit,
    ConfluentKafka,
    JavaClients,
}

impl Need {
    /// Why it is not there, and how to get it.
    fn missing(self) -> Option<String> {
        let (program, package) = match self {
            Self::ConfluentKafka => return Language::Python.missing(),
            Self::JavaClients if Language::Java.missing().is_some() => return Language::Java.missing(),
            Self::JavaClients => ("java", "default-jre-headless"),
            Self::Strace => ("strace", "strace"),
            Self::LoopDevices => ("losetup", "mount"),
            Self::Xfs => ("mkfs.xfs", "xfsprogs"),
            Self::Python => ("python3", "python3"),
            Self::Mount => ("mount", "mount"),
            Self::Prlimit => ("prlimit", "util-linux"),
        };
        if which(program).is_none() {
            return Some(format!("{program} is not installed (Debian: apt-get install {package})"));
        }
        match self {
            Self::LoopDevices if !fs::exists("/dev/loop-control").unwrap_or(false) || !is_root() => {
                Some("loop devices need root and /dev/loop-control (modprobe loop)".to_owned())
            }
            Self::Mount if !is_root() => Some("mounting needs root (sudo)".to_owned()),
            Self::Strace if !can_trace() => Some(
                "strace may not trace here (CAP_SYS_PTRACE; in a container: --cap-add SYS_PTRACE)".into(),
            ),
            _ => None,
        }
    }
}

fn which(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    let mut places: Vec<PathBuf> = std::env::split_paths(&path).collect();
    places.extend(["/usr/sbin", "/sbin"].map(PathBuf::from));
    places.into_iter().map(|place| place.join(program)).find(|file| file.is_file())
}

fn is_root() -> bool {
    let said = Command::new("id").arg("-u").output();
    said.is_ok_and(|output| output.stdout.trim_ascii() == b"0")
}

fn can_trace() -> bool {
    let tried = Command::new("strace").args(["-qq", "-o", "/dev/null", "true"]).output();
    tried.is_ok_and(|output| output.status.success())
}

/// How much of it is run.
#[derive(Debug, Clone, Copy)]
pub struct Extent {
    pub runs: usize,
    pub seconds: u64,
}

pub struct Case {
    pub name: &'static str,
    pub promise: &'static str,
    pub about: &'static str,
    pub needs: &'static [Need],
    pub quick: Extent,
    pub long: Extent,
    /// Broken promises; `None` when every point of a sweep has had its turn.
    pub run: fn(&Run) -> Result<Option<Vec<Violation>>>,
}

/// What all cases share.
pub struct Context {
    /// As `cargo xtask faults` names it.
    pub suite: &'static str,
    pub headwater: PathBuf,
    pub takes_config: bool,
    pub seed: u64,
    pub long: bool,
    /// Instead of the case's own number.
    pub runs: Option<usize>,
    /// One point of a sweep.
    pub at: Option<String>,
    pub directory: PathBuf,
    pub ci: bool,
    /// What one run found out for the next ones.
    pub memory: Mutex<BTreeMap<String, String>>,
}

/// One run of a case.
pub struct Run<'a> {
    pub context: &'a Context,
    pub seed: u64,
    pub index: usize,
    pub directory: PathBuf,
    /// For the table.
    notes: RefCell<Vec<String>>,
    tallies: RefCell<BTreeMap<&'static str, usize>>,
    /// What a replay needs beyond the seed.
    replay: RefCell<String>,
}

impl Run<'_> {
    /// A broker whose data is at `data`, with files that roll soon.
    pub fn launch(&self, data: &Path) -> Launch {
        self.launch_rolling(data, 1 << 20, 200)
    }

    /// Its files roll at so many bytes, and the cleaner comes so often, if this binary lets us choose.
    pub fn launch_rolling(&self, data: &Path, segment_bytes: u32, cleaner_ms: u32) -> Launch {
        let mut configs = Vec::new();
        if self.context.takes_config {
            let settings = [
                ("headwater.log.segment.bytes", segment_bytes),
                ("log.retention.check.interval.ms", cleaner_ms),
                ("log.cleaner.backoff.ms", cleaner_ms),
            ];
            configs.extend(settings.map(|(key, value)| (key.to_owned(), value.to_string())));
        }
        Launch {
            headwater: self.context.headwater.clone(),
            listen: ANY_PORT.to_owned(),
            data: data.to_owned(),
            words: self.directory.join("words"),
            configs,
            strace: Vec::new(),
            ignore_file_size_signal: false,
            environment: Vec::new(),
        }
    }

    pub fn data(&self) -> PathBuf {
        self.directory.join("data")
    }

    pub fn words(&self) -> PathBuf {
        self.directory.join("words")
    }

    pub fn note(&self, text: impl Into<String>) {
        let text = text.into();
        let mut notes = self.notes.borrow_mut();
        if !notes.contains(&text) {
            notes.push(text);
        }
    }

    /// Adds up over all runs of the case.
    pub fn tally(&self, what: &'static str, count: usize) {
        *self.tallies.borrow_mut().entry(what).or_default() += count;
    }

    /// The same run once more, in another directory and with another seed.
    pub fn again(&self, more: u64, directory: PathBuf) -> Self {
        Self {
            context: self.context,
            seed: self.seed.wrapping_add(more.wrapping_mul(1_000_003)),
            index: self.index,
            directory,
            notes: RefCell::default(),
            tallies: RefCell::default(),
            replay: RefCell::default(),
        }
    }

    pub fn replay_with(&self, options: String) {
        *self.replay.borrow_mut() = options;
    }
}

/// A run that went wrong.
#[derive(Debug, Clone)]
pub struct Failed {
    pub what: Vec<String>,
    pub replay: String,
    pub directory: PathBuf,
}

#[derive(Debug)]
pub enum Verdict {
    Passed,
    Failed(Vec<Failed>),
    Skipped(String),
}

#[derive(Debug)]
pub struct Report {
    pub name: &'static str,
    pub promise: &'static str,
    pub runs: usize,
    pub verdict: Verdict,
    pub notes: Vec<String>,
    pub tallies: BTreeMap<&'static str, usize>,
    pub took: Duration,
}

/// A case that has failed so often is not run again.
const MOST_FAILURES: usize = 3;
const VIOLATIONS_SHOWN: usize = 12;

impl Case {
    pub fn report(&self, context: &Context) -> Report {
        let begun = Instant::now();
        let missing = self.needs.iter().find_map(|need| need.missing());
        let mut report = Report {
            name: self.name,
            promise: self.promise,
            runs: 0,
            verdict: Verdict::Passed,
            notes: Vec::new(),
            tallies: BTreeMap::new(),
            took: Duration::ZERO,
        };
        match missing {
            Some(reason) => report.verdict = Verdict::Skipped(reason),
            None => {
                let failures = self.repeat(context, begun, &mut report);
                if !failures.is_empty() {
                    report.verdict = Verdict::Failed(failures);
                }
            }
        }
        report.took = begun.elapsed();
        report
    }

    fn repeat(&self, context: &Context, begun: Instant, report: &mut Report) -> Vec<Failed> {
        let extent = if context.long { self.long } else { self.quick };
        let most = context.runs.unwrap_or(extent.runs);
        let mut failures = Vec::new();
        for index in 0..most {
            let late = begun.elapsed() > Duration::from_secs(extent.seconds) && context.runs.is_none();
            if (late && index > 0) || failures.len() >= MOST_FAILURES {
                break;
            }
            let seed = context.seed.wrapping_add(index as u64);
            let directory = context.directory.join(format!("{}-{seed}", self.name));
            let run = Run {
                context,
                seed,
                index,
                directory,
                notes: RefCell::default(),
                tallies: RefCell::default(),
                replay: RefCell::default(),
            };
            let Some(what) = self.once(&run) else { break };
            report.runs += 1;
            for note in run.notes.take() {
                if !report.notes.contains(&note) {
                    report.notes.push(note);
                }
            }
            for (what, count) in run.tallies.take() {
                *report.tallies.entry(what).or_default() += count;
            }
            if what.is_empty() {
                let _ = fs::remove_dir_all(&run.directory);
            } else {
                failures.push(self.failed(&run, what));
            }
        }
        failures
    }

    /// What went wrong; `None` when there was nothing to run.
    fn once(&self, run: &Run) -> Option<Vec<String>> {
        let _ = fs::remove_dir_all(&run.directory);
        let mut what =
            match fs::create_dir_all(&run.directory).map_err(Into::into).and_then(|()| (self.run)(run)) {
                Ok(None) => {
                    let _ = fs::remove_dir_all(&run.directory);
                    return None;
                }
                Ok(Some(violations)) => {
                    let all: String = violations.iter().map(|violation| format!("{violation}\n")).collect();
                    if !all.is_empty() {
                        let _ = fs::write(run.directory.join("violations.txt"), all);
                    }
                    shown(&violations)
                }
                Err(error) => vec![format!("{error:#}")],
            };
        what.extend(broker::panic_in(&run.words()).map(|panic| format!("the broker panicked: {panic}")));
        Some(what)
    }

    fn failed(&self, run: &Run, what: Vec<String>) -> Failed {
        let context = run.context;
        let replay = format!(
            "cargo xtask faults {} --only {} --seed {} --runs 1{}{} --headwater {}",
            context.suite,
            self.name,
            run.seed,
            if context.long { " --long" } else { "" },
            run.replay.borrow(),
            context.headwater.display()
        );
        Failed { what, replay, directory: run.directory.clone() }
    }
}

fn shown(violations: &[Violation]) -> Vec<String> {
    let mut lines: Vec<String> = violations.iter().take(VIOLATIONS_SHOWN).map(ToString::to_string).collect();
    if violations.len() > VIOLATIONS_SHOWN {
        lines.push(format!("… and {} more", violations.len() - VIOLATIONS_SHOWN));
    }
    lines
}
