//! `cargo xtask faults`: builds the harness of `crates/faults` and hands over.

use std::process::Command;

use anyhow::{Context, Result, bail};

pub fn run(arguments: &[String]) -> Result<()> {
    let status = Command::new(std::env::var("CARGO").unwrap_or_else(|_| "cargo".into()))
        .args(["run", "--quiet", "--package", "headwater-faults", "--"])
        .args(arguments)
        .status()
        .context("running cargo")?;
    if !status.success() {
        bail!("a promise was broken or a fault could not be injected");
    }
    Ok(())
}
