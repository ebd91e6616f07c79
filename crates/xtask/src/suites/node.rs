//! Node's clients of Kafka, each with a program that uses it as services do.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::{Choice, Ran, programs};
use crate::bench::process;
use crate::kafka;

/// Pinned, so that a red run is our change.
const PACKAGES: &str = include_str!("../../node/package.json");
const PROGRAMS: [(&str, &str); 2] = [
    ("kafkajs", include_str!("../../node/kafkajs_client.mjs")),
    ("platformatic", include_str!("../../node/platformatic_client.mjs")),
];
/// What the newer of the clients asks for.
const OLDEST: u32 = 20;

pub fn run(choice: &Choice) -> Result<Vec<Ran>> {
    let home = environment()?;
    let command = |name: &str, bootstrap: &str| {
        let mut command = process::tied("node");
        command.arg(home.join(format!("{name}.mjs"))).arg(bootstrap);
        command
    };
    let kafkajs = |bootstrap: &str| command("kafkajs", bootstrap);
    let platformatic = |bootstrap: &str| command("platformatic", bootstrap);
    programs::run("node", choice, &[("kafkajs", &kafkajs), ("platformatic", &platformatic)])
}

/// Why this machine cannot run the suite; `None` when it can.
pub fn missing() -> Option<String> {
    let version = Command::new("node").arg("--version").output().ok();
    let version = version.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
    let major =
        version.as_deref().and_then(|text| text.trim().strip_prefix('v')?.split('.').next()?.parse().ok());
    let npm = Command::new("npm").arg("--version").output().is_ok_and(|output| output.status.success());
    match major {
        Some(major) if u32::ge(&major, &OLDEST) && npm => None,
        Some(major) if npm => Some(format!("node {major} is too old: {OLDEST} or newer is needed")),
        _ => Some(format!("node {OLDEST} or newer with npm is needed (Debian: apt-get install nodejs npm)")),
    }
}

/// A directory in the cache with the programs and the clients that they use.
fn environment() -> Result<PathBuf> {
    if let Some(missing) = missing() {
        bail!("{missing}");
    }
    let home = kafka::cache().join("suites-node");
    fs::create_dir_all(&home).with_context(|| format!("creating {}", home.display()))?;
    for (name, program) in PROGRAMS {
        fs::write(home.join(format!("{name}.mjs")), program)?;
    }
    let stamp = home.join("installed");
    if fs::read_to_string(&stamp).is_ok_and(|installed| installed == PACKAGES) {
        return Ok(home);
    }
    fs::write(home.join("package.json"), PACKAGES)?;
    let install = ["install", "--no-audit", "--no-fund", "--ignore-scripts", "--loglevel=error"];
    if !Command::new("npm").args(install).current_dir(&home).status()?.success() {
        bail!("npm could not install the clients in {}: see what it said above", home.display());
    }
    fs::write(&stamp, PACKAGES)?;
    Ok(home)
}
