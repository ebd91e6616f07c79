//! Python's clients of Kafka, each with a program that uses it as services do.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, bail};

use super::{Choice, Ran, programs, servers};
use crate::bench::process;
use crate::kafka;

const SUITE: &str = "python";
/// Pinned, so that a red run is our change.
const PACKAGES: [&str; 3] = ["kafka-python==3.0.12", "confluent-kafka==2.16.1", "aiokafka==0.14.0"];
/// Name, and where the program is in the workspace.
const PROGRAMS: [(&str, &str); 3] = [
    ("aiokafka", "crates/xtask/python/aiokafka_client.py"),
    ("confluent-kafka", "crates/cli/tests/python/confluent_kafka_client.py"),
    ("kafka-python", "crates/cli/tests/python/kafka_python_client.py"),
];

pub fn run(choice: &Choice) -> Result<Vec<Ran>> {
    let python = environment()?;
    let dir = servers::work(SUITE, choice.side())?;
    let server = servers::start(choice, &dir, &[("num.partitions", "4")])?;
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut ran = Vec::new();
    for (name, program) in PROGRAMS.iter().filter(|(name, _)| choice.wants(name)) {
        let mut command = process::tied(&python.to_string_lossy());
        command.arg(workspace.join(program)).arg(&server.bootstrap);
        ran.push(programs::one(name, command, &dir)?);
    }
    server.stop()?;
    Ok(ran)
}

/// A Python with the clients, made once in the cache.
fn environment() -> Result<PathBuf> {
    let venv = kafka::cache().join("suites-python");
    let (python, stamp) = (venv.join("bin/python"), venv.join("installed"));
    let wanted = PACKAGES.join(" ");
    if fs::read_to_string(&stamp).is_ok_and(|installed| installed == wanted) {
        return Ok(python);
    }
    let made = Command::new("python3").args(["-m", "venv"]).arg(&venv).status();
    let installed = Command::new(&python).args(["-m", "pip", "install", "--quiet"]).args(PACKAGES).status();
    if !made.is_ok_and(|status| status.success()) || !installed.is_ok_and(|status| status.success()) {
        bail!("python3 with venv is needed (Debian: apt-get install python3-venv), and pip must reach PyPI");
    }
    fs::write(&stamp, wanted)?;
    Ok(python)
}
