//! The open-loop client of `openloop.c`.

use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use super::outcome::Sample;
use super::process::{self, Owned};
use super::server::Server;

pub struct OpenLoop<'a> {
    pub topic: &'a str,
    pub payloads: &'a Path,
    pub size: usize,
    /// Messages a second; 0 sends `count` messages as fast as they go.
    pub rate: f64,
    pub seconds: f64,
    pub warmup: f64,
    pub count: u64,
    /// Not 0: a closed loop of `count` messages with so many unacknowledged, and a latency runs from the sending.
    pub in_flight: u32,
    pub keys: u64,
    pub clients: u32,
    /// More than one: client i writes to `topic`-(i mod topics).
    pub topics: u32,
    pub seed: u64,
    /// Latencies run to the arrival at a consumer of the same process, and not to the acknowledgement.
    pub end_to_end: bool,
    pub properties: &'a [(&'a str, &'a str)],
}

pub struct Running {
    driver: Owned,
    shown: String,
    limit: Duration,
}

impl Default for OpenLoop<'_> {
    fn default() -> Self {
        Self {
            topic: "",
            payloads: Path::new(""),
            size: 100,
            rate: 0.0,
            seconds: 0.0,
            warmup: 0.0,
            count: 0,
            in_flight: 0,
            keys: 0,
            clients: 1,
            topics: 1,
            seed: 1,
            end_to_end: false,
            properties: &[],
        }
    }
}

impl OpenLoop<'_> {
    /// Starts it and returns when its clients are connected.
    pub fn start(&self, program: &Path, bootstrap: &str) -> Result<Running> {
        let mut command = process::tied(&program.to_string_lossy());
        command.args(["-b", bootstrap, "-t", self.topic, "-f"]).arg(self.payloads);
        let options = [
            ("-r", self.rate.to_string()),
            ("-d", self.seconds.to_string()),
            ("-w", self.warmup.to_string()),
            ("-s", self.size.to_string()),
            ("-n", self.clients.to_string()),
            ("-S", self.seed.to_string()),
        ];
        command.args(options.iter().flat_map(|(flag, value)| [*flag, value.as_str()]));
        if self.topics > 1 {
            command.args(["-T", &self.topics.to_string()]);
        }
        if self.end_to_end {
            command.arg("-e");
        }
        if self.keys > 0 {
            command.args(["-k", &self.keys.to_string()]);
        }
        if self.rate == 0.0 {
            command.args(["-c", &self.count.to_string(), "-g", "600"]);
        }
        if self.in_flight > 0 {
            command.args(["-i", &self.in_flight.to_string()]);
        }
        for (key, value) in self.properties {
            command.args(["-X", &format!("{key}={value}")]);
        }
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut driver = Owned::spawn(&mut command)?;
        let mut said = BufReader::new(driver.0.stderr.take().context("no stderr to read")?);
        let mut line = String::new();
        while said.read_line(&mut line)? > 0 && !line.ends_with("connected\n") {}
        if !line.ends_with("connected\n") {
            bail!("the open-loop client did not connect: {}", line.trim());
        }
        // The library's log lines go nowhere, but the pipe must not fill.
        std::thread::spawn(move || std::io::copy(&mut said, &mut std::io::sink()));
        let longest = if self.rate == 0.0 { 3600.0 } else { self.warmup + self.seconds + 60.0 };
        Ok(Running { driver, shown: process::shown(&command), limit: Duration::from_secs_f64(longest) })
    }

    /// A whole run, with the server's CPU per acknowledged message.
    pub fn run(&self, program: &Path, server: &Server) -> Result<Sample> {
        let running = self.start(program, &server.bootstrap)?;
        let before = server.cpu()?;
        let sample = running.finish()?;
        let cpu = server.cpu()? - before;
        let records = sample.values["acknowledged"];
        Ok(sample.set("server CPU", cpu * 1e6 / records))
    }
}

impl Running {
    /// Ends the schedule now; the report is of what was sent by then.
    pub fn stop(self) -> Result<Sample> {
        process::signal(self.driver.pid(), "INT")?;
        self.finish()
    }

    pub fn finish(mut self) -> Result<Sample> {
        let mut output = self.driver.0.stdout.take().context("no output to read")?;
        let mut text = String::new();
        output.read_to_string(&mut text)?;
        // It has closed its output; its figures stay readable until it is waited for.
        let driver_cpu = process::cpu_seconds(self.driver.pid())?;
        self.driver.finish(self.limit)?;
        let report: Value = serde_json::from_str(&text).context("reading the open-loop client's report")?;
        let figure = |key: &str| report[key].as_f64().with_context(|| format!("no {key} in {text}"));
        if figure("errors")? > 0.0 {
            bail!("{} messages were not delivered", figure("errors")?);
        }
        let mut sample = Sample { driver: self.shown, ..Sample::default() };
        for (name, key) in [
            ("p50", "p50_ms"),
            ("p99", "p99_ms"),
            ("p99.9", "p999_ms"),
            ("longest", "max_ms"),
            ("acknowledged", "acknowledged"),
            ("sent", "sent"),
            ("unfinished", "unfinished"),
            ("connect and metadata", "metadata_mean_ms"),
            ("metadata of all", "metadata_all_ms"),
        ] {
            sample = sample.set(name, figure(key)?);
        }
        let seconds = figure("seconds")?;
        let rate = figure("acknowledged")? / seconds;
        Ok(sample.set("records", rate).set("seconds", seconds).set("driver busy", driver_cpu / seconds))
    }
}
