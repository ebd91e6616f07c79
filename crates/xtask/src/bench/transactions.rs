//! The transactional producers of `transactions.c`.

use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use super::outcome::Sample;
use super::process::{self, Owned};
use super::server::Server;

/// How long a run may take beyond its time.
const LONGEST: Duration = Duration::from_secs(120);

pub struct Transactions<'a> {
    pub topic: &'a str,
    pub payloads: &'a Path,
    pub producers: u32,
    pub records: u32,
    pub partitions: u32,
    pub size: usize,
    /// The same records, sent and flushed without a transaction.
    pub plain: bool,
    pub warmup: f64,
    pub seconds: f64,
    pub properties: &'a [(&'a str, &'a str)],
}

impl Transactions<'_> {
    /// A whole run, with the server's CPU for each transaction.
    pub fn run(&self, program: &Path, server: &Server) -> Result<Sample> {
        let mut command = process::tied(&program.to_string_lossy());
        command.args(["-b", &server.bootstrap, "-t", self.topic, "-f"]).arg(self.payloads);
        let options = [
            ("-n", self.producers.to_string()),
            ("-r", self.records.to_string()),
            ("-P", self.partitions.to_string()),
            ("-s", self.size.to_string()),
            ("-w", self.warmup.to_string()),
            ("-d", self.seconds.to_string()),
        ];
        command.args(options.iter().flat_map(|(flag, value)| [*flag, value.as_str()]));
        if self.plain {
            command.arg("-p");
        }
        for (key, value) in self.properties {
            command.args(["-X", &format!("{key}={value}")]);
        }
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut driver = Owned::spawn(&mut command)?;
        let mut said = BufReader::new(driver.0.stderr.take().context("no stderr to read")?);
        let mut line = String::new();
        while said.read_line(&mut line)? > 0 && !line.ends_with("connected\n") {}
        let before = server.cpu()?;
        let mut text = String::new();
        driver.0.stdout.take().context("no output to read")?.read_to_string(&mut text)?;
        let cpu = server.cpu()? - before;
        driver.finish(LONGEST)?;
        if text.is_empty() {
            said.read_to_string(&mut line)?;
            bail!("the transactional client failed: {}", line.trim());
        }
        let report: Value =
            serde_json::from_str(&text).context("reading the transactional client's report")?;
        let figure = |key: &str| report[key].as_f64().with_context(|| format!("no {key} in {text}"));
        let sample = Sample { driver: process::shown(&command), ..Sample::default() };
        Ok(sample
            .set("transactions", figure("transactions")? / figure("seconds")?)
            .set("commit p50", figure("p50_ms")?)
            .set("commit p99", figure("p99_ms")?)
            .set("server CPU", cpu * 1e6 / figure("total")?))
    }
}
