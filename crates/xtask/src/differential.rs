//! `cargo xtask differential`: fetches Kafka Streams' test driver, builds the harness of `crates/differential` and hands over.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::kafka;

/// What `cargo xtask test` draws from: a red run must be our change.
const SEED: &str = "6";
/// As many as take about a minute on two cores.
const CASES: &str = "30000";

/// What is missing here, with the way to get it.
pub fn missing() -> Option<&'static str> {
    let compiles = Command::new("javac").arg("-version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    match compiles {
        Ok(status) if status.success() => kafka::missing(),
        _ => Some("a Java compiler is not installed (Debian: apt-get install default-jdk-headless maven)"),
    }
}

/// Where the harness finds the Java side, as its options.
fn places() -> Result<[OsString; 4]> {
    let jars = kafka::streams_driver()?;
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| PathBuf::from("target"), PathBuf::from);
    let classes = std::path::absolute(target.join("xtask/differential"))?;
    Ok(["--jars".into(), jars.into(), "--classes".into(), classes.into()])
}

fn hand_over(mut command: Command) -> Result<()> {
    if !command.status().context("running the differential test")?.success() {
        bail!("crates/streams and Kafka Streams differ, or one of them failed; the lines above say where");
    }
    Ok(())
}

pub fn run(arguments: &[String]) -> Result<()> {
    if let Some(reason) = missing() {
        bail!("{reason}");
    }
    let mut command = Command::new(std::env::var("CARGO").unwrap_or_else(|_| "cargo".into()));
    command.args(["run", "--quiet", "--package", "headwater-differential", "--"]);
    command.args(arguments).args(places()?);
    hand_over(command)
}

/// The cases of every `cargo xtask test`, by the harness that the tests built.
pub fn suite(built: &Path) -> Result<()> {
    let mut command = Command::new(built.join("headwater-differential"));
    command.args(["--seed", SEED, "--cases", CASES]).args(places()?);
    hand_over(command)
}
