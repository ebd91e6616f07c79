//! Programs of ours, each with somebody else's client, one after another on one broker.

use std::fs::File;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::Result;

use super::ledger::Outcome;
use super::{Choice, Ran, servers};
use crate::bench::process::Owned;

const LIMIT: Duration = Duration::from_secs(180);

/// A test: its name and, given the broker's address, the command line.
pub type Program<'a> = (&'a str, &'a dyn Fn(&str) -> Command);

/// Runs those that were asked for; exit code 0 is a pass.
pub fn run(suite: &str, choice: &Choice, programs: &[Program<'_>]) -> Result<Vec<Ran>> {
    let dir = servers::work(suite, choice.side())?;
    let server = servers::start(choice, &dir, &[("num.partitions", "4")])?;
    let mut ran = Vec::new();
    for (name, command) in programs.iter().filter(|(name, _)| choice.wants(name)) {
        ran.push(one(name, command(&server.bootstrap), &dir)?);
    }
    server.stop()?;
    Ok(ran)
}

/// Runs one program; what it says goes into a file in `dir`.
pub fn one(name: &str, mut command: Command, dir: &Path) -> Result<Ran> {
    let log = dir.join(format!("{name}.log"));
    let output = File::create(&log)?;
    command.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output);
    let begun = Instant::now();
    let outcome = match Owned::spawn(&mut command)?.finish(LIMIT) {
        Ok(0) => Outcome::Passed,
        Ok(_) => Outcome::Failed,
        Err(_) => Outcome::Endless,
    };
    let seconds = begun.elapsed().as_secs();
    eprintln!("{:8} {seconds:4} s  {name}  {}", outcome.word(), log.display());
    Ok(Ran { test: name.to_owned(), outcome, seconds })
}
