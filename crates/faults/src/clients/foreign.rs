//! Programs of other people's clients, in `crates/faults/clients`; they do what `ours` does and print their histories.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use headwater_history::{Event, parse};

use super::{Cast, Stage};

const END_PATIENCE: Duration = Duration::from_secs(90);
const PYTHON: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/clients/history.py");
const JAVA: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/clients/History.java");
const KAFKA: &str = "headwater/apache-kafka-4.3.1";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Language {
    /// librdkafka, by confluent-kafka.
    Python,
    /// Apache Kafka's own clients.
    Java,
}

impl Language {
    fn name(self) -> &'static str {
        match self {
            Self::Python => "python",
            Self::Java => "java",
        }
    }

    /// Why it is not there, and how to get it.
    pub fn missing(self) -> Option<String> {
        match self {
            Self::Python if python().is_none() => Some(
                "a Python with confluent-kafka is missing: `cargo xtask test` makes one, HEADWATER_TEST_PYTHON names another"
                    .to_owned(),
            ),
            Self::Java if jars().is_none() => Some(
                "Apache Kafka's clients are missing: `cargo xtask kafka start` fetches them, HEADWATER_TEST_KAFKA_JARS names others"
                    .to_owned(),
            ),
            _ => None,
        }
    }

    fn command(self) -> Result<Command> {
        match self {
            Self::Python => {
                let mut command = Command::new(python().context("Python")?);
                command.arg(PYTHON);
                Ok(command)
            }
            Self::Java => {
                let jars = jars().context("Apache Kafka's jars")?;
                let mut command = Command::new("java");
                command.args(["-Xmx256m", "-XX:TieredStopAtLevel=1", "-cp"]);
                command.arg(format!("{}/*", jars.display())).arg(JAVA);
                Ok(command)
            }
        }
    }
}

/// The one that is named, or the one that `cargo xtask test` has made beside this build.
fn python() -> Option<PathBuf> {
    if let Some(named) = std::env::var_os("HEADWATER_TEST_PYTHON") {
        return Some(PathBuf::from(named));
    }
    let built = std::env::current_exe().ok()?;
    let python = built.ancestors().nth(2)?.join("xtask/python/bin/python");
    python.is_file().then_some(python)
}

fn jars() -> Option<PathBuf> {
    if let Some(named) = std::env::var_os("HEADWATER_TEST_KAFKA_JARS") {
        return Some(PathBuf::from(named));
    }
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let cache = cache.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache")))?;
    let jars = cache.join(KAFKA);
    jars.join(".complete").exists().then_some(jars)
}

/// A program at work.
pub struct Foreign {
    child: Child,
    history: PathBuf,
    words: PathBuf,
}

impl Foreign {
    /// Its processes have the numbers from `first` on.
    pub fn start(stage: &Stage, language: Language, first: u32, count: u32, cast: &Cast) -> Result<Self> {
        let file = |what: &str| stage.directory.join(format!("{}-{first}.{what}", language.name()));
        let (history, words) = (file("jsonl"), file("txt"));
        let numbers = [
            u64::from(first),
            u64::from(count),
            u64::from(cast.transactional),
            u64::from(cast.count()),
            stage.seed % 1_000_000,
        ];
        let child = language
            .command()?
            .arg(&stage.address)
            .args(numbers.map(|number| number.to_string()))
            .stdin(Stdio::piped())
            .stdout(File::create(&history)?)
            .stderr(File::create(&words)?)
            .spawn()
            .with_context(|| format!("starting the {} clients", language.name()))?;
        Ok(Self { child, history, words })
    }

    /// Whether it has noted something; it takes a while to start.
    pub fn works(&self) -> bool {
        fs::metadata(&self.history).is_ok_and(|file| file.len() > 0)
    }

    /// To all its processes at once.
    pub fn signal(&self, name: &str) -> Result<()> {
        let pid = self.child.id().to_string();
        let status = Command::new("kill").args(["-s", name, &pid]).status()?;
        if !status.success() {
            bail!("kill -s {name} {pid}: {status}");
        }
        Ok(())
    }

    /// Tells it to end, and takes what it has noted.
    pub fn end(mut self) -> Result<Vec<Event>> {
        drop(self.child.stdin.take());
        let begun = Instant::now();
        let status = loop {
            if let Some(status) = self.child.try_wait()? {
                break status;
            }
            if begun.elapsed() > END_PATIENCE {
                self.child.kill()?;
                bail!("{} did not end: {}", self.history.display(), said(&self.words));
            }
            std::thread::sleep(Duration::from_millis(20));
        };
        if !status.success() {
            bail!("{} ended with {status}: {}", self.history.display(), said(&self.words));
        }
        let text = fs::read_to_string(&self.history)?;
        parse(&text).with_context(|| self.history.display().to_string())
    }
}

impl Drop for Foreign {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// The end of what it said.
fn said(words: &Path) -> String {
    let text = fs::read_to_string(words).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(10)..].join("; ")
}
