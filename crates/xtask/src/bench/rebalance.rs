//! The group of `rebalance.c`.

use std::io::Read;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use super::outcome::Sample;
use super::process::{self, Owned};
use super::server::Server;

const LONGEST: Duration = Duration::from_secs(900);

pub struct Rebalance<'a> {
    pub topic: &'a str,
    pub members: u32,
    /// At first, and how many more come.
    pub partitions: u32,
    pub added: u32,
    pub properties: &'a [(&'a str, &'a str)],
}

impl Rebalance<'_> {
    /// A whole run, with the server's CPU for all of it.
    pub fn run(&self, program: &Path, server: &Server) -> Result<Sample> {
        let mut command = process::tied(&program.to_string_lossy());
        command.args(["-b", &server.bootstrap, "-t", self.topic, "-g", self.topic]);
        for (flag, value) in [("-n", self.members), ("-p", self.partitions), ("-a", self.added)] {
            command.args([flag, &value.to_string()]);
        }
        for (key, value) in self.properties {
            command.args(["-X", &format!("{key}={value}")]);
        }
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let before = server.cpu()?;
        let mut driver = Owned::spawn(&mut command)?;
        let mut text = String::new();
        driver.0.stdout.take().context("no output to read")?.read_to_string(&mut text)?;
        let cpu = server.cpu()? - before;
        let code = driver.finish(LONGEST)?;
        if code != 0 {
            bail!("the group of consumers ended with {code}: {}", process::shown(&command));
        }
        let report: Value = serde_json::from_str(&text).context("reading the group's report")?;
        let figure = |key: &str| report[key].as_f64().with_context(|| format!("no {key} in {text}"));
        let sample = Sample { driver: process::shown(&command), ..Sample::default() };
        Ok(sample
            .set("all joined", figure("joined_ms")?)
            .set("partitions added", figure("grown_ms")?)
            .set("rolling restart", figure("rolled_ms")?)
            .set("server CPU", cpu * 1e3))
    }
}
