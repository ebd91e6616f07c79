//! The broker under test: a debug build of Headwater, or Apache Kafka set up in the same way.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use super::Choice;
use crate::bench::server::{Recipe, Server, Side};
use crate::kafka;

/// An authorizer that allows where no ACL is.
const OPEN_AUTHORIZER: [(&str, &str); 2] = [
    ("authorizer.class.name", "org.apache.kafka.metadata.authorizer.StandardAuthorizer"),
    ("allow.everyone.if.no.acl.found", "true"),
];

/// One broker cannot have the three replicas that Apache Kafka wants for share groups.
const ALONE: [(&str, &str); 2] = [
    ("share.coordinator.state.topic.replication.factor", "1"),
    ("share.coordinator.state.topic.min.isr", "1"),
];

/// Where a suite keeps what it writes; emptied at its begin.
pub fn work(suite: &str, side: Side) -> Result<PathBuf> {
    let name = if side == Side::Ours { "headwater" } else { "kafka" };
    let work = kafka::cache().join("suites").join(suite).join(name);
    let _ = fs::remove_dir_all(&work);
    fs::create_dir_all(&work).with_context(|| format!("creating {}", work.display()))?;
    Ok(work)
}

/// Starts the server that `choice` asks for, with its data below `dir`.
pub fn start(choice: &Choice, dir: &Path, properties: &[(&str, &str)]) -> Result<Server> {
    recipe(choice, dir, properties)?.start()
}

/// The same for who starts it again after its death.
pub fn recipe(choice: &Choice, dir: &Path, properties: &[(&str, &str)]) -> Result<Recipe> {
    let side = choice.side();
    let binary = if side == Side::Ours { binary(choice)? } else { PathBuf::new() };
    let alone = if side == Side::Peer { &ALONE[..] } else { &[] };
    let all = properties.iter().chain(&OPEN_AUTHORIZER).chain(alone);
    let all: Vec<_> = all.map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    Recipe::new(side, &binary, dir, &all, None)
}

/// Builds what will be tested, so that no test's time has the build in it.
pub fn build(choice: &Choice) -> Result<()> {
    if choice.side() == Side::Ours { binary(choice).map(drop) } else { Ok(()) }
}

fn binary(choice: &Choice) -> Result<PathBuf> {
    if let Some(path) = &choice.headwater {
        return path.canonicalize().with_context(|| format!("{} is not there", path.display()));
    }
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    let built = Command::new(cargo)
        .args(["build", "--quiet", "--workspace", "--bin", "headwater"])
        .stdin(Stdio::null())
        .status()
        .context("running cargo")?;
    if !built.success() {
        bail!("the workspace could not be built");
    }
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| PathBuf::from("target"), PathBuf::from);
    Ok(std::path::absolute(target.join("debug/headwater"))?)
}
