//! What is kept of a run outside the repository: one JSON line for every run of a server, and the last full result of
//! every benchmark. The document is written from these and from what the repository keeps of earlier machines.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::context::Context;
use super::machine::Machine;
use super::outcome::{Outcome, Sample};
use crate::kafka::cache;

/// A benchmark as it was last measured in full.
#[derive(Serialize, Deserialize)]
pub struct Stored {
    pub bench: String,
    pub date: String,
    pub seed: u64,
    pub machine: Machine,
    pub versions: BTreeMap<String, String>,
    pub outcomes: Vec<Outcome>,
}

fn directory() -> PathBuf {
    cache().join("bench/results")
}

pub fn today() -> Result<String> {
    let said = Command::new("date").args(["-u", "+%Y-%m-%d %H:%M UTC"]).output()?;
    Ok(String::from_utf8_lossy(&said.stdout).trim().to_owned())
}

/// Adds one line to `runs.jsonl`.
pub fn append(context: &Context, bench: &str, case: &str, entry: &str, sample: &Sample) -> Result<()> {
    fs::create_dir_all(directory())?;
    let path = directory().join("runs.jsonl");
    let line = json!({
        "date": today()?, "bench": bench, "case": case, "entry": entry, "quick": context.options.quick, "tls": context.options.tls,
        "seed": context.options.seed, "versions": context.versions, "sample": sample,
    });
    let mut file = File::options().create(true).append(true).open(&path)?;
    writeln!(file, "{line}").with_context(|| format!("writing {}", path.display()))
}

pub fn store(context: &Context, bench: &str, outcomes: &[Outcome]) -> Result<()> {
    let stored = Stored {
        bench: bench.to_owned(),
        date: today()?,
        seed: context.options.seed,
        machine: context.machine.clone(),
        versions: context.versions.clone(),
        outcomes: merged(bench, outcomes),
    };
    let path = directory().join(format!("{bench}.json"));
    fs::create_dir_all(directory())?;
    fs::write(&path, serde_json::to_string_pretty(&stored)?)
        .with_context(|| format!("writing {}", path.display()))
}

/// A run of some cases only keeps what was known of the others.
fn merged(bench: &str, outcomes: &[Outcome]) -> Vec<Outcome> {
    let mut all = load(bench).map_or_else(Vec::new, |stored| stored.outcomes);
    for outcome in outcomes {
        match all.iter_mut().find(|known| known.case == outcome.case) {
            Some(known) => *known = outcome.clone(),
            None => all.push(outcome.clone()),
        }
    }
    all
}

fn load(bench: &str) -> Option<Stored> {
    read(&directory().join(format!("{bench}.json"))).ok()?
}

/// `None` where nothing was ever measured.
fn read(path: &Path) -> Result<Option<Stored>> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(
            serde_json::from_str(&text).with_context(|| format!("reading {}; remove it", path.display()))?,
        )),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("reading {}", path.display())),
    }
}

/// The newest result: this machine's, which the repository then keeps, or the one that it has.
pub fn publish(bench: &str) -> Result<Option<Stored>> {
    let kept = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../../docs/benchmarks/{bench}.json"));
    let measured = read(&directory().join(format!("{bench}.json")))?;
    let known = read(&kept)?;
    let is_newer = |measured: &Stored| known.as_ref().is_none_or(|known| measured.date > known.date);
    let Some(newer) = measured.filter(is_newer) else { return Ok(known) };
    fs::write(&kept, serde_json::to_string_pretty(&newer)? + "\n")
        .with_context(|| format!("writing {}", kept.display()))?;
    Ok(Some(newer))
}
