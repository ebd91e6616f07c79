//! Kafka Streams in a process of its own, asked a case a line.

use std::io::{BufRead, BufReader, Lines, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use crate::case::{Case, Row};

/// A row as Java writes it.
type Written = (usize, String, Option<String>, Option<String>, i64, String);

/// What Kafka Streams wrote.
pub struct Theirs {
    pub rows: Vec<Row>,
    /// With aggregates that begin with null, if the case asks for that.
    pub bare: Vec<Row>,
}

/// The Java side's answer to one case.
#[derive(Deserialize)]
struct Answer {
    id: u64,
    #[serde(default)]
    out: Vec<Written>,
    #[serde(default)]
    bare: Vec<Written>,
    error: Option<String>,
}

/// Where the answers come from.
pub struct Answers(Lines<BufReader<ChildStdout>>);

/// Where the questions go.
pub struct Questions(ChildStdin);

pub struct Java {
    child: Child,
    pub questions: Questions,
    pub answers: Answers,
}

impl Java {
    /// `classes` are those that [`compile`] made.
    pub fn start(jars: &Path, classes: &Path, workers: usize) -> Result<Self> {
        let mut child = Command::new("java")
            .args(["-Xms256m", "-Xmx1g", "-XX:+UseSerialGC", "-Dlog4j2.level=OFF"])
            .arg(format!("-Dlog4j2.configurationFile={}", classes.join("log4j2.properties").display()))
            .arg(format!("-Dheadwater.state={}", classes.join("state").display()))
            .args(["-cp", &format!("{}:{}/*", classes.display(), jars.display()), "Differential"])
            .arg(workers.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("starting java")?;
        let questions = Questions(child.stdin.take().context("java has no input")?);
        let answers = Answers(BufReader::new(child.stdout.take().context("java has no output")?).lines());
        Ok(Self { child, questions, answers })
    }

    /// One case, while no other is under way.
    pub fn ask(&mut self, case: &Case) -> Result<Theirs> {
        self.questions.put(case)?;
        self.answers.next()?.1
    }

    /// Lets the process end.
    pub fn stop(self) -> Result<()> {
        let Self { mut child, questions, answers } = self;
        drop(questions);
        drop(answers);
        let status = child.wait().context("waiting for java")?;
        anyhow::ensure!(status.success(), "java ended with {status}");
        Ok(())
    }
}

impl Questions {
    pub fn put(&mut self, case: &Case) -> Result<()> {
        let line = serde_json::to_string(case)? + "\n";
        self.0.write_all(line.as_bytes()).context("java does not listen")
    }
}

impl Answers {
    /// The number of a case, and what Kafka Streams wrote or why it failed.
    pub fn next(&mut self) -> Result<(u64, Result<Theirs>)> {
        let Some(line) = self.0.next() else {
            bail!("java ended before it had answered; see its lines above")
        };
        let line = line.context("reading from java")?;
        let answer: Answer = serde_json::from_str(&line).with_context(|| format!("java said {line}"))?;
        let row = |(event, topic, key, value, at, headers)| Row { event, topic, key, value, at, headers };
        let all = |written: Vec<Written>| written.into_iter().map(row).collect();
        let rows = match answer.error {
            Some(error) => Err(anyhow::anyhow!("Kafka Streams: {error}")),
            None => Ok(Theirs { rows: all(answer.out), bare: all(answer.bare) }),
        };
        Ok((answer.id, rows))
    }
}

/// Kafka Streams tells of each late record; nobody reads that here.
const LOGGING: &str = "status = off\nrootLogger.level = off\n";

/// Compiles the Java side into `classes`.
pub fn compile(jars: &Path, classes: &Path) -> Result<()> {
    std::fs::create_dir_all(classes).with_context(|| format!("creating {}", classes.display()))?;
    std::fs::write(classes.join("log4j2.properties"), LOGGING)?;
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("java");
    let mut files: Vec<PathBuf> = std::fs::read_dir(&sources)
        .with_context(|| format!("reading {}", sources.display()))?
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<std::io::Result<_>>()?;
    files.retain(|file| file.extension().is_some_and(|extension| extension == "java"));
    let status = Command::new("javac")
        .args(["--release", "17", "-nowarn", "-d"])
        .arg(classes)
        .args(["-cp", &format!("{}/*", jars.display())])
        .args(files)
        .status()
        .context("running javac (Debian: apt-get install default-jdk-headless)")?;
    anyhow::ensure!(status.success(), "javac could not compile {}", sources.display());
    Ok(())
}
