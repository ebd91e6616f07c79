//! Clients of years ago, each with a program that uses it as services do, each on a broker of its own.
//!
//! A client that this machine cannot install is `skipped`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result};

use super::ledger::Outcome;
use super::{Choice, Ran, programs, servers};
use crate::bench::process;
use crate::kafka;

const SUITE: &str = "old";
/// The first that speaks with a broker without ZooKeeper knowing it, the last before 4.0, and the first after.
const JAVA: [&str; 3] = ["2.8.2", "3.9.1", "4.0.0"];
/// What is installed, the first of which names the test, and the program. librdkafka 1.9.2 is inside of confluent-kafka
/// 1.9.2; aiokafka 0.8.1 is made of parts of the kafka-python of its time.
const PYTHON: [(&[&str], &str); 3] = [
    (&["aiokafka==0.8.1", "kafka-python==2.0.2"], "crates/xtask/python/aiokafka_client.py"),
    (&["confluent-kafka==1.9.2"], "crates/cli/tests/python/confluent_kafka_client.py"),
    (&["kafka-python==2.0.2"], "crates/cli/tests/python/kafka_python_client.py"),
];
const POM: &str = include_str!("../../kafka/old-pom.xml");

pub fn run(choice: &Choice) -> Result<Vec<Ran>> {
    let work = servers::work(SUITE, choice.side())?;
    servers::build(choice)?;
    let mut ran = Vec::new();
    for version in JAVA {
        let test = format!("kafka-clients-{version}");
        if choice.wants(&test) {
            ran.push(one(choice, &work, test, |address| java(version, address))?);
        }
    }
    for (packages, program) in PYTHON {
        let test = packages[0].replace("==", "-");
        if choice.wants(&test) {
            ran.push(one(choice, &work, test.clone(), |address| python(&test, packages, program, address))?);
        }
    }
    Ok(ran)
}

fn one(choice: &Choice, work: &Path, test: String, command: impl Fn(&str) -> Result<Command>) -> Result<Ran> {
    let dir = work.join(&test);
    fs::create_dir_all(&dir)?;
    // Fetched before the broker is there, which then runs no longer than it must.
    if let Err(error) = command("") {
        eprintln!("skipped  {test}: {error:#}");
        return Ok(Ran { test, outcome: Outcome::Skipped, seconds: 0 });
    }
    let server = servers::start(choice, &dir, &[("num.partitions", "4")])?;
    let ran = programs::one(&test, command(&server.bootstrap)?, &dir)?;
    server.stop()?;
    Ok(ran)
}

fn java(version: &str, address: &str) -> Result<Command> {
    let jars = kafka::cache().join(format!("kafka-clients-{version}"));
    let jars = kafka::fetch_into(jars, &POM.replace("VERSION", version))?;
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("java/OldClient.java");
    let mut java = process::tied("java");
    java.args(["-Xmx256m", "-cp", &format!("{}/*", jars.display())]).arg(source).arg(address);
    Ok(java)
}

fn python(test: &str, packages: &[&str], program: &str, address: &str) -> Result<Command> {
    let venv = kafka::cache().join(format!("suites-{test}"));
    let (python, stamp) = (venv.join("bin/python"), venv.join("installed"));
    let wanted = packages.join(" ");
    if !fs::read_to_string(&stamp).is_ok_and(|installed| installed == wanted) {
        let interpreter = interpreter();
        let made = Command::new(&interpreter).args(["-m", "venv"]).arg(&venv).status();
        let made = made.is_ok_and(|status| status.success());
        let mut pip = Command::new(&python);
        // Built wheels only: what needs a compiler and old headers is not what users had.
        pip.args(["-m", "pip", "install", "--quiet", "--only-binary", ":all:"]).args(packages);
        let installed = made && pip.status().is_ok_and(|status| status.success());
        anyhow::ensure!(
            installed,
            "{} cannot install {wanted}; Python 3.10 can (as python3.10 in PATH)",
            interpreter.display()
        );
        fs::write(&stamp, &wanted)?;
    }
    let workspace =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().context("the workspace")?;
    let mut command = process::tied(&python.to_string_lossy());
    command.arg(workspace.join(program)).arg(address);
    Ok(command)
}

/// A Python that the old wheels were made for, where there is one.
fn interpreter() -> PathBuf {
    let quiet = |program: &Path| {
        let mut asked = Command::new(program);
        asked.arg("--version").stdout(Stdio::null()).stderr(Stdio::null());
        asked.status().is_ok_and(|status| status.success())
    };
    let named = PathBuf::from("python3.10");
    let managed = std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".pyenv/versions"));
    let versions = managed.and_then(|directory| fs::read_dir(directory).ok()).into_iter().flatten();
    let found = versions.filter_map(Result::ok).map(|entry| entry.path().join("bin/python3.10"));
    std::iter::once(named)
        .chain(found)
        .find(|program| quiet(program))
        .unwrap_or_else(|| PathBuf::from("python3"))
}
