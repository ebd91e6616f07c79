//! `rdkafka_performance`: librdkafka's own load generator, read line by line while it runs.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::outcome::Sample;
use super::process::{self, Owned};
use super::server::Server;
use super::window::{Progress, Window};

/// The tool prints a row of totals this often.
const ROW_MS: &str = "100";
const END_LIMIT: Duration = Duration::from_secs(20);
const SLOWEST: Duration = Duration::from_secs(900);

/// A producing run of `rdkafka_performance`.
pub struct Produce<'a> {
    pub topic: &'a str,
    pub size: usize,
    pub message: &'a str,
    pub batch: usize,
    pub linger_ms: u32,
    /// Further `-X` properties.
    pub properties: &'a [(&'a str, &'a str)],
}

fn base(program: &std::path::Path) -> Command {
    let mut command = process::tied("stdbuf");
    command.arg("-oL").arg(program).args(["-u", "-i", ROW_MS, "-T", "3600000"]);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    command
}

impl Produce<'_> {
    pub fn command(&self, program: &std::path::Path, bootstrap: &str) -> Command {
        let mut command = base(program);
        command.args(["-P", "-t", self.topic, "-b", bootstrap, "-a", "-1"]);
        command.args(["-s", &self.size.to_string(), "-m", self.message]);
        let batch = format!("batch.size={}", self.batch);
        let linger = format!("linger.ms={}", self.linger_ms);
        command.args(["-X", &batch, "-X", &linger]);
        for property in ["partitioner=random", "sticky.partitioning.linger.ms=0"] {
            command.args(["-X", property]);
        }
        if self.batch > 1_000_000 {
            // The library's own default is just below 1 MiB.
            command.args(["-X", &format!("message.max.bytes={}", self.batch + self.batch / 8)]);
        }
        for (key, value) in self.properties {
            command.args(["-X", &format!("{key}={value}")]);
        }
        command
    }

    /// Runs for `seconds` after `warmup` seconds; throughput and CPU are those of the time between.
    pub fn run(
        &self,
        program: &std::path::Path,
        server: &Server,
        warmup: f64,
        seconds: f64,
    ) -> Result<Sample> {
        let mut command = self.command(program, &server.bootstrap);
        let mut driver = Owned::spawn(&mut command)?;
        let rows = BufReader::new(driver.0.stdout.take().context("no output to read")?).lines();
        let mut window = Window::new(server.pid(), driver.pid(), warmup, warmup + seconds);
        let mut errors = 0.0;
        for row in rows {
            let Some(row) = Row::parse(&row?) else { continue };
            errors = row.failed;
            if window.add(row.seconds, row.records)? == Progress::Over {
                break;
            }
        }
        process::signal(driver.pid(), "INT")?;
        driver.finish(END_LIMIT)?;
        if errors > 0.0 {
            bail!("{errors} messages were not delivered by {}", server.side.name());
        }
        window.sample(self.size as f64, process::shown(&command))
    }
}

impl Produce<'_> {
    /// Writes `records` records and waits for their acknowledgements.
    pub fn fill(&self, program: &std::path::Path, bootstrap: &str, records: u64) -> Result<()> {
        let mut command = self.command(program, bootstrap);
        command.args(["-c", &records.to_string()]).stdout(Stdio::null());
        let code = Owned::spawn(&mut command)?.finish(SLOWEST)?;
        if code != 0 {
            bail!("rdkafka_performance ended with {code} while filling {}", self.topic);
        }
        Ok(())
    }
}

/// A consuming run in a group of its own, from the beginning, of `records` records.
pub struct Consume<'a> {
    pub topic: &'a str,
    pub group: &'a str,
    pub records: u64,
}

impl Consume<'_> {
    pub fn command(&self, program: &std::path::Path, bootstrap: &str) -> Command {
        let mut command = base(program);
        command.args(["-G", self.group, "-t", self.topic, "-b", bootstrap]);
        command.args(["-c", &self.records.to_string()]);
        command
    }

    /// Starts it; [`Consuming::finish`] reads its figures.
    pub fn start(&self, program: &std::path::Path, bootstrap: &str) -> Result<Consuming> {
        let mut command = self.command(program, bootstrap);
        let driver = Owned::spawn(&mut command)?;
        Ok(Consuming { driver, shown: process::shown(&command), records: self.records })
    }
}

pub struct Consuming {
    pub driver: Owned,
    pub shown: String,
    records: u64,
}

pub struct Consumed {
    pub records: f64,
    pub bytes: f64,
    pub seconds: f64,
    pub driver_cpu: f64,
}

impl Consuming {
    pub fn is_running(&mut self) -> Result<bool> {
        Ok(self.driver.0.try_wait()?.is_none())
    }

    pub fn finish(mut self) -> Result<Consumed> {
        let rows = BufReader::new(self.driver.0.stdout.take().context("no output to read")?).lines();
        let mut last = None;
        for row in rows {
            last = Row::parse(&row?).or(last);
        }
        // It has closed its output; its figures stay readable until it is waited for.
        let driver_cpu = process::cpu_seconds(self.driver.pid())?;
        self.driver.finish(SLOWEST)?;
        let row = last.context("rdkafka_performance printed no figures")?;
        if row.messages < self.records as f64 {
            bail!("a consumer ended after {} of {} records", row.messages, self.records);
        }
        Ok(Consumed { records: row.messages, bytes: row.bytes, seconds: row.seconds, driver_cpu })
    }
}

/// A row of the table that `-u` prints: totals since the start.
struct Row {
    seconds: f64,
    messages: f64,
    bytes: f64,
    /// Acknowledged, of a producer.
    records: f64,
    failed: f64,
}

impl Row {
    fn parse(line: &str) -> Option<Self> {
        let cells: Vec<f64> = line.split('|').filter_map(|cell| cell.trim().parse().ok()).collect();
        let cell = |at: usize| cells.get(at).copied();
        Some(Self {
            seconds: cell(0)? / 1e3,
            messages: cell(1)?,
            bytes: cell(2)?,
            records: cell(4)?,
            failed: cell(7)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::Row;

    #[test]
    fn a_row_is_read_and_a_heading_is_not() {
        let row = "|        200 |     122560 |  125501440 |          0 |      22605 |     112959 |     115.67 \
                   |          3 |        286 |      99956 |       3734 ";
        let row = Row::parse(row).expect("a row");
        assert_eq!((row.seconds, row.records, row.failed), (0.2, 22605.0, 3.0));
        assert!(Row::parse("|    elapsed |       msgs |      bytes |").is_none());
    }
}
