//! Whether there is a Go to build other people's programs with, and the building of those that benchmarks need.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::bench::librdkafka;

/// What is missing to build with Go `wanted`, with the way to get it.
pub fn missing(wanted: &str) -> Option<String> {
    let output = Command::new("go").arg("version").env("GOTOOLCHAIN", "local").output().ok();
    let output = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
    let found = output.as_deref().and_then(|text| text.split(" go").nth(1)?.split(' ').next());
    match found {
        Some(found) if version(found) >= version(wanted) => None,
        Some(found) => Some(format!("go {found} is too old: {wanted} or newer is needed")),
        None => Some(format!("go {wanted} or newer is needed, in PATH")),
    }
}

/// Compiles the programs of `modules`, each `PATH@VERSION`, into `home`: nothing that is there already. They ask for
/// Go `wanted`.
pub fn install(home: &Path, wanted: &str, modules: &[String]) -> Result<()> {
    if home.join(".complete").exists() {
        return Ok(());
    }
    let named = modules.join(" and ");
    if let Some(missing) = missing(wanted) {
        bail!("{named} must be built: {missing}");
    }
    eprintln!("bench: building {named} in {} (once, minutes)", home.display());
    fs::create_dir_all(home).with_context(|| format!("creating {}", home.display()))?;
    for module in modules {
        let mut install = Command::new("go");
        install.args(["install", module]).env("GOBIN", home).env("GOTOOLCHAIN", "local");
        librdkafka::run(&mut install).context("can Go reach its module proxy from here?")?;
    }
    fs::write(home.join(".complete"), "").with_context(|| format!("writing in {}", home.display()))
}

fn version(text: &str) -> Vec<u32> {
    text.split('.').map_while(|part| part.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_by_their_numbers() {
        assert!(version("1.26.8") > version("1.9") && version("1.26") < version("1.26.0"));
        assert!(version("1.19.8") < version("1.26.0"));
    }
}
