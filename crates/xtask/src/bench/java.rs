//! Kafka's own performance tools, read line by line while they run.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::outcome::Sample;
use super::process::{self, Owned};
use super::server::Server;
use super::window::{Progress, Window};
use crate::kafka;

const SLOWEST: Duration = Duration::from_secs(900);

pub fn fetch() -> Result<PathBuf> {
    kafka::tools()
}

fn tool(jars: &Path, class: &str) -> Command {
    let mut java = process::tied("java");
    java.args(["-Xms512m", "-Xmx512m", "-cp", &format!("{}/*", jars.display())]);
    java.arg(format!("org.apache.kafka.tools.{class}"));
    java.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    java
}

fn configure(command: &mut Command, server: &Server) {
    if let Some(file) = &server.client_config {
        command.arg("--command-config").arg(file);
    }
}

/// A run of `kafka-producer-perf-test`.
pub struct Produce<'a> {
    pub topic: &'a str,
    pub size: usize,
    pub payloads: &'a Path,
    pub properties: &'a [(&'a str, &'a str)],
}

impl Produce<'_> {
    /// Runs for `seconds` after `warmup` seconds.
    pub fn run(&self, jars: &Path, server: &Server, warmup: f64, seconds: f64) -> Result<Sample> {
        let mut command = tool(jars, "ProducerPerformance");
        command.args(["--bootstrap-server", &server.bootstrap, "--topic", self.topic]);
        command.args(["--num-records", "2000000000", "--throughput", "-1", "--payload-file"]);
        command.arg(self.payloads).args(["--reporting-interval", "250", "--command-property", "acks=all"]);
        for (key, value) in self.properties {
            command.arg(format!("{key}={value}"));
        }
        configure(&mut command, server);
        let mut driver = Owned::spawn(&mut command)?;
        let lines = BufReader::new(driver.0.stdout.take().context("no output to read")?).lines();
        let mut window = Window::new(server.pid(), driver.pid(), warmup, warmup + seconds);
        let (mut total, mut elapsed) = (0.0, 0.0);
        for line in lines {
            let Some((records, rate)) = interval(&line?) else { continue };
            total += records;
            elapsed += if rate > 0.0 { records / rate } else { 0.25 };
            if window.add(elapsed, total)? == Progress::Over {
                break;
            }
        }
        window.sample(self.size as f64, process::shown(&command))
    }
}

/// `12345 records sent, 4938.0 records/sec (4.82 MB/sec), …`: records, and records a second.
fn interval(line: &str) -> Option<(f64, f64)> {
    let (records, rest) = line.split_once(" records sent, ")?;
    let rate = rest.split_once(" records/sec")?.0;
    Some((records.trim().parse().ok()?, rate.replace(',', ".").parse().ok()?))
}

/// A run of `kafka-consumer-perf-test` in a new group, from the beginning, of `records` records.
pub fn consume(jars: &Path, server: &Server, topic: &str, group: &str, records: u64) -> Result<Sample> {
    let mut command = tool(jars, "ConsumerPerformance");
    command.args(["--bootstrap-server", &server.bootstrap, "--topic", topic, "--group", group]);
    command.args(["--num-records", &records.to_string(), "--hide-header", "--timeout", "30000"]);
    configure(&mut command, server);
    let before = server.cpu()?;
    let mut driver = Owned::spawn(&mut command)?;
    let output = driver.0.stdout.take().context("no output to read")?;
    let lines: Vec<String> = BufReader::new(output).lines().collect::<std::io::Result<_>>()?;
    let code = driver.finish(SLOWEST)?;
    let cpu = server.cpu()? - before;
    // start, end, MB, MB/s, records, records/s, rebalance ms, fetch ms, fetch MB/s, fetch records/s
    let row = lines.iter().map(|line| line.split(", ").collect::<Vec<_>>()).find(|row| row.len() == 10);
    let Some(row) = row else { bail!("kafka-consumer-perf-test ended with {code} and no figures") };
    let figure = |at: usize| -> Result<f64> { Ok(row[at].trim().parse()?) };
    if (figure(4)? as u64) < records {
        bail!("kafka-consumer-perf-test got {} of {records} records", row[4]);
    }
    let sample = Sample { driver: process::shown(&command), ..Sample::default() };
    Ok(sample.set("throughput", figure(8)? * 1.048_576).set("server CPU", cpu * 1e6 / figure(4)?))
}

/// A run of `EndToEndLatency`: one 100 B record at a time, produced with acks=all and waited for by a consumer.
pub fn end_to_end(jars: &Path, server: &Server, topic: &str, records: u64) -> Result<Sample> {
    let mut command = tool(jars, "EndToEndLatency");
    command.args([&server.bootstrap, topic, &records.to_string(), "all", "100"]);
    command.args(&server.client_config);
    let before = server.cpu()?;
    let mut driver = Owned::spawn(&mut command)?;
    let output = driver.0.stdout.take().context("no output to read")?;
    let lines: Vec<String> = BufReader::new(output).lines().collect::<std::io::Result<_>>()?;
    driver.finish(SLOWEST)?;
    let cpu = server.cpu()? - before;
    let said = lines.join("\n");
    let after = |label: &str| -> Option<f64> {
        let rest = said.split_once(label)?.1.trim_start();
        rest.split([' ', ',', '\n']).next()?.parse().ok()
    };
    let missing = || format!("EndToEndLatency printed no figures: {said}");
    let sample = Sample { driver: process::shown(&command), ..Sample::default() };
    Ok(sample
        .set("mean", after("Avg latency:").with_context(missing)?)
        .set("p99", after("99th =").with_context(missing)?)
        .set("p99.9", after("99.9th =").with_context(missing)?)
        .set("server CPU", cpu * 1e6 / records as f64))
}

#[cfg(test)]
mod tests {
    #[test]
    fn an_interval_is_read_and_the_summary_is_not_an_interval() {
        let line =
            "12345 records sent, 4938.5 records/sec (4.82 MB/sec), 1.3 ms avg latency, 9.0 ms max latency.";
        assert_eq!(super::interval(line), Some((12345.0, 4938.5)));
        assert_eq!(super::interval("org.apache.kafka: warning"), None);
    }
}
