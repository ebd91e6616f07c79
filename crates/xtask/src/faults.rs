//! `cargo xtask faults`: builds the harness of `crates/faults` and hands over.

use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::kafka;

/// `cargo xtask eos`
pub fn eos(arguments: Vec<String>) -> Result<()> {
    if let Some(reason) = kafka::missing().filter(|_| arguments.iter().any(|word| word == "--cluster")) {
        bail!("{reason}");
    }
    run(&[vec!["eos".to_owned()], arguments].concat())
}

pub fn run(arguments: &[String]) -> Result<()> {
    if let Some(reason) = kafka::missing().filter(|_| arguments.iter().any(|word| word == "cluster")) {
        bail!("{reason}");
    }
    // Deliberate mistakes are in no other build.
    let planted = arguments.iter().any(|word| word == "planted" || word.starts_with("--plant"));
    let features: &[&str] = if planted { &["--features", "planted-bugs"] } else { &[] };
    let status = Command::new(std::env::var("CARGO").unwrap_or_else(|_| "cargo".into()))
        .args(["run", "--quiet", "--package", "headwater-faults"])
        .args(features)
        .arg("--")
        .args(arguments)
        .env("HEADWATER_XTASK", std::env::current_exe()?)
        .status()
        .context("running cargo")?;
    if !status.success() {
        bail!("a promise was broken or a fault could not be injected");
    }
    Ok(())
}
