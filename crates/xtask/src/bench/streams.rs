//! An application of a stream library while it runs: ours (`examples/streams-bench`), or Kafka Streams' (`Programs.java`).
//!
//! Both say on standard output how many records have passed their source.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use super::process::{self, Owned};
use super::server::Side;
use crate::kafka;

const PROGRAMS: &str = include_str!("Programs.java");
const STEP: Duration = Duration::from_millis(5);
const START_LIMIT: Duration = Duration::from_secs(120);
/// Either library's session lasts 10 s or longer: one who stands still for longer comes back as another member, and reads its
/// state again.
const LONGEST_PAUSE: Duration = Duration::from_secs(8);

/// How much memory the JVM may take for its objects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Heap {
    /// 2 GiB from the start: what is measured is not how often it is collected.
    Ample,
    /// It grows to 256 MiB at most, by which the whole process is measured.
    Needed,
}

impl Heap {
    fn options(self) -> &'static [&'static str] {
        match self {
            Self::Ample => &["-Xms2g", "-Xmx2g"],
            Self::Needed => &["-Xms64m", "-Xmx256m"],
        }
    }
}

/// How each of the two is started.
pub struct Libraries {
    ours: PathBuf,
    jars: PathBuf,
    /// Where the Java programs are compiled to.
    classes: PathBuf,
}

impl Libraries {
    /// Builds ours in release mode, and compiles the peer's.
    pub fn build(work: &Path) -> Result<Self> {
        eprintln!("bench: streams: building the programs");
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize()?;
        let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
        let mut build = Command::new(cargo);
        build
            .args(["build", "--release", "--workspace", "--bin", "headwater-streams-bench"])
            .current_dir(&root);
        if !build.status().context("running cargo")?.success() {
            bail!("the release build of headwater-streams-bench failed");
        }
        let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from);
        let (jars, classes) = (kafka::streams()?, work.join("classes"));
        fs::create_dir_all(&classes)?;
        let source = classes.join("Programs.java");
        fs::write(&source, PROGRAMS)?;
        let mut javac = Command::new("javac");
        javac.arg("-cp").arg(jars.join("*")).arg("-d").arg(&classes).arg(&source);
        let compiled =
            javac.status().context("running javac (Debian: apt-get install default-jdk-headless)")?;
        if !compiled.success() {
            bail!("{} does not compile", source.display());
        }
        Ok(Self { ours: target.join("release/headwater-streams-bench"), jars, classes })
    }

    fn command(&self, side: Side, heap: Heap) -> Command {
        if side == Side::Ours {
            return process::tied(&self.ours.to_string_lossy());
        }
        let mut java = process::tied("java");
        let logging = format!("-Dlog4j2.configurationFile={}", self.jars.join("log4j2.properties").display());
        let classpath = format!("{}:{}", self.classes.display(), self.jars.join("*").display());
        java.args(heap.options()).args([&logging, "-cp", &classpath, "Programs"]);
        java
    }
}

/// What an application is to do.
pub struct Job<'a> {
    pub program: &'a str,
    pub bootstrap: &'a str,
    pub application_id: &'a str,
    pub input: &'a str,
    pub table: &'a str,
    pub output: &'a str,
    pub dir: &'a Path,
    pub threads: u32,
    pub guarantee: &'a str,
    pub verify: bool,
    pub heap: Heap,
}

#[derive(Debug, Clone, Copy, Default)]
pub struct Said {
    pub running: bool,
    pub processed: u64,
    /// Of the last output of each key.
    pub digest: Option<i64>,
}

pub struct Application {
    process: Owned,
    pub shown: String,
    said: Arc<Mutex<Said>>,
    log: PathBuf,
    paused: Option<Instant>,
}

fn locked(said: &Mutex<Said>) -> MutexGuard<'_, Said> {
    said.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Application {
    /// Returns when it runs.
    pub fn start(libraries: &Libraries, side: Side, job: &Job<'_>) -> Result<Self> {
        fs::create_dir_all(job.dir)?;
        let log = job.dir.join(format!("{}.log", job.application_id));
        let mut command = libraries.command(side, job.heap);
        command.args([job.program, job.bootstrap, job.application_id, job.input, job.table, job.output]);
        command.arg(job.dir.join(job.application_id)).arg(job.threads.to_string());
        command.args([job.guarantee, if job.verify { "verify" } else { "measure" }]);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(File::create(&log)?);
        let mut process = Owned::spawn(&mut command)?;
        let lines = BufReader::new(process.0.stdout.take().context("no output to read")?).lines();
        let said = Arc::new(Mutex::new(Said::default()));
        let heard = Arc::clone(&said);
        std::thread::spawn(move || lines.map_while(Result::ok).for_each(|line| hear(&heard, &line)));
        let mut application = Self { process, shown: process::shown(&command), said, log, paused: None };
        application.until(START_LIMIT, |said| said.running)?;
        Ok(application)
    }

    pub fn said(&self) -> Said {
        *locked(&self.said)
    }

    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Waits until it says so.
    pub fn until(&mut self, limit: Duration, enough: impl Fn(Said) -> bool) -> Result<Said> {
        let begun = Instant::now();
        loop {
            let said = self.said();
            if enough(said) {
                return Ok(said);
            }
            if let Some(status) = self.process.0.try_wait()? {
                bail!("{} ended with {status}; see {}", self.shown, self.log.display());
            }
            if begun.elapsed() > limit {
                bail!(
                    "{} is still at {said:?} after {} s; see {}",
                    self.shown,
                    limit.as_secs(),
                    self.log.display()
                );
            }
            std::thread::sleep(STEP);
        }
    }

    /// Stands still.
    pub fn pause(&mut self) -> Result<()> {
        self.paused = Some(Instant::now());
        process::signal(self.pid(), "STOP")
    }

    /// Refuses a pause after which a member that the group has given up would be measured.
    pub fn go_on(&mut self) -> Result<()> {
        process::signal(self.pid(), "CONT")?;
        let paused = self.paused.take().map_or(Duration::ZERO, |begun| begun.elapsed());
        allowed(paused).with_context(|| format!("measuring {}", self.shown))
    }

    /// As nobody expects it.
    pub fn kill(mut self) -> Result<()> {
        process::signal(self.pid(), "KILL")?;
        self.process.0.wait().map(drop).context("waiting for a process that was killed")
    }

    pub fn stop(mut self) -> Result<()> {
        process::signal(self.pid(), "TERM")?;
        self.process.finish(Duration::from_secs(60)).map(drop)
    }
}

fn allowed(pause: Duration) -> Result<()> {
    if pause > LONGEST_PAUSE {
        bail!(
            "it stood still for {:.1} s while its input was filled, and after {} s the group may have given it up: use a machine \
             that fills faster, or --quick",
            pause.as_secs_f64(),
            LONGEST_PAUSE.as_secs()
        );
    }
    Ok(())
}

fn hear(said: &Mutex<Said>, line: &str) {
    let mut words = line.split(' ');
    let word = words.next();
    let mut number = || words.next().and_then(|number| number.parse::<i64>().ok());
    let mut said = locked(said);
    match word {
        Some("running") => said.running = true,
        Some("processed") => {
            said.processed = number().and_then(|n| n.try_into().ok()).unwrap_or(said.processed)
        }
        Some("digest") => {
            number();
            said.digest = number();
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_that_a_session_does_not_outlast_is_refused() {
        assert!(allowed(Duration::from_secs(3)).is_ok());
        let error = allowed(Duration::from_millis(8_100)).unwrap_err().to_string();
        assert!(error.contains("8.1 s"), "{error}");
    }

    #[test]
    fn what_an_application_says_is_understood() {
        let said = Mutex::new(Said::default());
        for line in ["running", "digest 20 -7", "processed 20", "something else"] {
            hear(&said, line);
        }
        let said = *locked(&said);
        assert_eq!((said.running, said.processed, said.digest), (true, 20, Some(-7)));
    }
}
