//! What each case plays on: a broker that can be killed, Flink's job, and the program that produces and reads.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::bench::process::{self, Owned};
use crate::bench::server::{Recipe, Server};
use crate::suites::account;

const PATIENCE: Duration = Duration::from_secs(180);
/// What Flink reaches into on Java 17, as its own configuration opens it.
const OPENED: [&str; 8] = [
    "java.lang",
    "java.lang.reflect",
    "java.net",
    "java.text",
    "java.time",
    "java.util",
    "java.util.concurrent",
    "java.util.concurrent.atomic",
];

pub struct Stage<'a> {
    programs: &'a Programs,
    dir: &'a Path,
    recipe: Recipe,
    server: Server,
    /// So many jobs were started here.
    jobs: usize,
}

/// Where Flink is, and our programs beside it.
pub struct Programs {
    pub jars: PathBuf,
    pub classes: PathBuf,
    /// Log4j's configuration.
    pub logging: PathBuf,
}

impl Programs {
    fn java(&self, class: &str, heap: &str) -> Command {
        let mut java = process::tied("java");
        java.args([heap, "-XX:+UseSerialGC"]);
        java.args(OPENED.map(|package| format!("--add-opens=java.base/{package}=ALL-UNNAMED")));
        java.arg(format!("-Dlog4j2.configurationFile={}", self.logging.display()));
        java.arg("-cp").arg(format!("{}:{}/*", self.classes.display(), self.jars.display())).arg(class);
        java
    }
}

/// Records to be produced: keys and times go up with their number.
#[derive(Clone, Copy)]
pub struct Load<'a> {
    pub topic: &'a str,
    /// `plain`, `varied` or `transactional`.
    pub kind: &'static str,
    pub first: u64,
    /// 0 goes on until it is told to stop.
    pub count: u64,
    /// Records a second; 0 is as quickly as it goes.
    pub rate: u64,
    /// The first partition and how many.
    pub partitions: (u32, u32),
    /// The time of number 0, in milliseconds.
    pub time: u64,
}

/// A producer that goes on until it is stopped.
pub struct Producing {
    process: Owned,
    output: PathBuf,
}

impl Producing {
    /// What the broker acknowledged.
    pub fn stop(mut self) -> Result<Vec<String>> {
        drop(self.process.0.stdin.take());
        ended_well(&mut self.process, &self.output)
    }
}

/// A job that runs, and where it leaves its checkpoints.
pub struct Job {
    process: Owned,
    log: PathBuf,
}

impl Job {
    /// Until it ends by itself.
    pub fn finish(mut self) -> Result<()> {
        let code = self.process.finish(PATIENCE);
        if !matches!(code, Ok(0)) {
            bail!("the job ended with {code:?}; see {}", self.log.display());
        }
        Ok(())
    }

    pub fn kill(mut self) -> Result<()> {
        if let Some(status) = self.process.0.try_wait()? {
            bail!("the job ended by itself with {status}; see {}", self.log.display());
        }
        process::signal(self.process.pid(), "KILL")?;
        let _ = self.process.finish(PATIENCE)?;
        Ok(())
    }
}

impl<'a> Stage<'a> {
    pub fn new(programs: &'a Programs, dir: &'a Path, recipe: Recipe) -> Result<Self> {
        let server = recipe.start()?;
        Ok(Self { programs, dir, recipe, server, jobs: 0 })
    }

    pub fn stop(self) -> Result<()> {
        self.server.stop()
    }

    /// `kill -9`, and the same broker again on what it left.
    pub fn kill_broker(&mut self) -> Result<()> {
        process::signal(self.server.pid(), "KILL")?;
        let _ = self.server.process.finish(PATIENCE)?;
        self.server = self.recipe.start()?;
        Ok(())
    }

    /// Records keep their own times, however long ago those are.
    pub fn topic(&self, name: &str, partitions: u32) -> Result<()> {
        self.server.create_topic(name, partitions, &[("retention.ms", "-1")])
    }

    /// Produces all of it.
    pub fn produce(&self, name: &str, load: &Load<'_>) -> Result<Vec<String>> {
        let mut producing = self.producing(name, load)?;
        ended_well(&mut producing.process, &producing.output)
    }

    /// Begins to produce.
    pub fn producing(&self, name: &str, load: &Load<'_>) -> Result<Producing> {
        let (from, partitions) = load.partitions;
        let numbers = [load.first, load.count, load.rate, u64::from(from), u64::from(partitions), load.time];
        let mut words = vec!["produce".to_owned(), load.topic.to_owned(), load.kind.to_owned()];
        words.extend(numbers.map(|number| number.to_string()));
        let (process, output) = self.records(name, &words, Stdio::piped())?;
        Ok(Producing { process, output })
    }

    /// What a reader of committed records finds, once it has found `count` and no more comes.
    pub fn read(&self, name: &str, topic: &str, count: usize) -> Result<Vec<String>> {
        self.told(name, &["read", topic, &count.to_string()]).map(|text| account::records(&text))
    }

    /// What the program says to a command that ends by itself.
    pub fn told(&self, name: &str, words: &[&str]) -> Result<String> {
        let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
        let (mut process, output) = self.records(name, &words, Stdio::null())?;
        ended_well(&mut process, &output)?;
        fs::read_to_string(&output).with_context(|| format!("reading {}", output.display()))
    }

    fn records(&self, name: &str, words: &[String], input: Stdio) -> Result<(Owned, PathBuf)> {
        let output = self.dir.join(format!("{name}.txt"));
        let mut java = self.programs.java("FlinkRecords", "-Xmx256m");
        java.arg(&self.recipe.bootstrap).args(words).stdin(input).stdout(File::create(&output)?);
        java.stderr(File::create(self.dir.join(format!("{name}.log")))?);
        Ok((Owned::spawn(&mut java)?, output))
    }

    /// Starts the job anew.
    pub fn job(&mut self, settings: &[(&str, &str)]) -> Result<Job> {
        self.start(settings, None)
    }

    /// Starts the job again from the last checkpoint that any before it retained.
    pub fn again(&mut self, settings: &[(&str, &str)]) -> Result<Job> {
        let checkpoints = (1..=self.jobs).rev().filter_map(|job| last(&self.checkpoints(job)));
        let from = checkpoints.take(1).next().context("no checkpoint was retained")?;
        self.start(settings, Some(&from))
    }

    fn checkpoints(&self, job: usize) -> PathBuf {
        self.dir.join(format!("checkpoints-{job}"))
    }

    fn start(&mut self, settings: &[(&str, &str)], from: Option<&Path>) -> Result<Job> {
        self.jobs += 1;
        let log = self.dir.join(format!("job-{}.log", self.jobs));
        let output = File::create(&log)?;
        let mut java = self.programs.java("FlinkJob", "-Xmx768m");
        java.arg(format!("bootstrap={}", self.recipe.bootstrap));
        java.arg(format!("checkpoints={}", self.checkpoints(self.jobs).display()));
        if let Some(from) = from {
            java.arg(format!("restore={}", from.display()));
        }
        java.args(settings.iter().map(|(key, value)| format!("{key}={value}")));
        java.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output);
        Ok(Job { process: Owned::spawn(&mut java)?, log })
    }

    /// The sum of a group's committed offsets; 0 while the broker does not answer.
    pub fn committed(&self, group: &str, topic: &str, partitions: u32) -> u64 {
        self.server.committed(group, topic, partitions).unwrap_or(0)
    }

    /// Waits until a group has committed so many offsets, while the job runs.
    pub fn through(&self, job: &mut Job, group: &str, topic: (&str, u32), count: u64) -> Result<()> {
        let begun = Instant::now();
        loop {
            let committed = self.committed(group, topic.0, topic.1);
            if committed >= count {
                return Ok(());
            }
            if let Some(status) = job.process.0.try_wait()? {
                bail!("the job ended with {status}; see {}", job.log.display());
            }
            if begun.elapsed() > PATIENCE {
                let log = job.log.display();
                bail!(
                    "{committed} offsets of {} committed, not {count}, after {PATIENCE:?}; see {log}",
                    topic.0
                );
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

fn ended_well(process: &mut Owned, output: &Path) -> Result<Vec<String>> {
    let code = process.finish(PATIENCE);
    let text = fs::read_to_string(output).with_context(|| format!("reading {}", output.display()))?;
    if !matches!(code, Ok(0)) || !text.ends_with("done\n") {
        bail!("ended with {code:?}; see {} and its .log", output.display());
    }
    Ok(account::records(&text))
}

/// The newest checkpoint that is whole: `DIR/JOB/chk-N/_metadata` is written last.
fn last(dir: &Path) -> Option<PathBuf> {
    let below = |dir: &Path| fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path());
    let checkpoints = below(dir).flat_map(|job| below(&job).collect::<Vec<_>>());
    let whole = checkpoints.filter(|checkpoint| checkpoint.join("_metadata").is_file());
    whole
        .filter_map(|checkpoint| Some((number(&checkpoint)?, checkpoint)))
        .max()
        .map(|(_, checkpoint)| checkpoint)
}

/// The N of `chk-N`.
fn number(checkpoint: &Path) -> Option<u64> {
    checkpoint.file_name()?.to_str()?.strip_prefix("chk-")?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_checkpoint_is_the_highest_that_is_whole() {
        let dir = std::env::temp_dir().join(format!("headwater-flink-{}", std::process::id()));
        for (checkpoint, whole) in [("chk-9", true), ("chk-10", true), ("chk-11", false), ("shared", true)] {
            let path = dir.join("job").join(checkpoint);
            fs::create_dir_all(&path).expect("a directory");
            if whole {
                fs::write(path.join("_metadata"), "").expect("a file");
            }
        }
        assert_eq!(last(&dir), Some(dir.join("job/chk-10")));
        assert_eq!(last(&dir.join("none")), None);
        fs::remove_dir_all(&dir).expect("removed");
    }
}
