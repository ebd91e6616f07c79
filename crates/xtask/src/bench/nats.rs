//! NATS with JetStream, and its own load generator `nats bench`: built once in the cache from two Go modules, started
//! with every message on disk before its acknowledgement.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::both::Peer;
use super::outcome::Sample;
use super::process::{self, Owned};
use crate::{go, kafka};

const SERVER: &str = "2.15.2";
const CLIENT: &str = "0.5.0";
pub const NAME: &str = "NATS 2.15.2 (JetStream, sync always)";
/// What both modules ask for.
const GO: &str = "1.26.0";
const START_LIMIT: Duration = Duration::from_secs(30);
const SLOWEST: Duration = Duration::from_secs(900);
const STREAM: &str = "bench";

struct Tools {
    server: PathBuf,
    client: PathBuf,
}

/// Fetches and compiles nothing that is there already.
fn build() -> Result<Tools> {
    let home = kafka::cache().join(format!("nats-{SERVER}-client-{CLIENT}"));
    let modules = [
        format!("github.com/nats-io/nats-server/v2@v{SERVER}"),
        format!("github.com/nats-io/natscli/nats@v{CLIENT}"),
    ];
    go::install(&home, GO, &modules)?;
    Ok(Tools { server: home.join("nats-server"), client: home.join("nats") })
}

pub struct Nats {
    process: Owned,
    client: PathBuf,
    url: String,
    command: String,
}

impl Peer for Nats {
    const BENCH: &'static str = "nats";

    /// Waits until it answers.
    fn start(dir: &Path) -> Result<Self> {
        let tools = build()?;
        fs::create_dir_all(dir).with_context(|| format!("creating {}", dir.display()))?;
        let address = format!("127.0.0.1:{}", kafka::free_port()?);
        let (settings, log) = (dir.join("nats.conf"), dir.join("nats.log"));
        let text = format!(
            "listen: \"{address}\"\njetstream {{ store_dir: \"{}\", sync_interval: always }}\n",
            dir.join("data").display()
        );
        fs::write(&settings, &text)?;
        let mut command = process::tied(&tools.server.to_string_lossy());
        command.arg("-c").arg(&settings).stdin(Stdio::null());
        let output = File::create(&log)?;
        command.stdout(output.try_clone()?).stderr(output);
        let shown = format!("{}` with `{}", process::shown(&command), text.trim().replace('\n', "; "));
        let mut process = Owned::spawn(&mut command)?;
        let begun = Instant::now();
        while !answers(&address) {
            if let Some(status) = process.0.try_wait()? {
                bail!("nats-server ended with {status}; see {}", log.display());
            }
            if begun.elapsed() > START_LIMIT {
                bail!("nats-server did not serve; see {}", log.display());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(Self { process, client: tools.client, url: format!("nats://{address}"), command: shown })
    }

    fn pid(&self) -> u32 {
        self.process.pid()
    }

    fn command(&self) -> &str {
        &self.command
    }

    fn stop(mut self) -> Result<()> {
        process::signal(self.pid(), "TERM")?;
        self.process.finish(Duration::from_secs(60)).map(drop)
    }
}

/// A NATS server greets whoever connects with its settings.
fn answers(address: &str) -> bool {
    let greeting = || -> std::io::Result<String> {
        let stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(Duration::from_secs(1)))?;
        let mut line = String::new();
        BufReader::new(stream).read_line(&mut line)?;
        Ok(line)
    };
    greeting().is_ok_and(|line| line.starts_with("INFO ") && line.contains("\"jetstream\":true"))
}

/// A run of `nats bench js pub` by one client into an emptied stream, one copy, in files.
pub struct Publish<'a> {
    /// Which way of publishing, with its options.
    pub way: &'a [&'a str],
    pub messages: u64,
    pub size: usize,
    /// A file whose content is the message.
    pub payload: &'a Path,
    /// Where the client may leave its figures.
    pub work: &'a Path,
}

impl Publish<'_> {
    pub fn run(&self, nats: &Nats) -> Result<Sample> {
        let figures = self.work.join("nats-bench.csv");
        let mut command = process::tied(&nats.client.to_string_lossy());
        command.args(["--no-context", "--server", &nats.url, "bench", "js", "pub"]).args(self.way);
        command.args([
            STREAM,
            "--stream",
            STREAM,
            "--create",
            "--purge",
            "--storage",
            "file",
            "--replicas",
            "1",
        ]);
        command.args(["--msgs", &self.messages.to_string(), "--size", &self.size.to_string(), "--payload"]);
        command.arg(self.payload).args(["--no-progress", "--csv"]).arg(&figures);
        let log = self.work.join("nats-bench.log");
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(File::create(&log)?);
        let mut driver = Owned::spawn(&mut command)?;
        driver.0.stdout.take().context("no output to read")?.read_to_end(&mut Vec::new())?;
        // It has closed its output; its figures stay readable until it is waited for.
        let driver_cpu = process::cpu_seconds(driver.pid())?;
        let code = driver.finish(SLOWEST)?;
        if code != 0 {
            let said = fs::read_to_string(&log)?;
            bail!("nats bench ended with {code}: {}", said.lines().last().unwrap_or_default());
        }
        let text = fs::read_to_string(&figures).with_context(|| format!("reading {}", figures.display()))?;
        fs::remove_file(&figures)?;
        let sample = self.sample(&text)?;
        let busy = driver_cpu / sample.values["seconds"];
        Ok(Sample { driver: process::shown(&command), ..sample }.set("driver busy", busy))
    }

    /// Latencies are those of one call each, which is a message only where calls wait for each other.
    fn sample(&self, csv: &str) -> Result<Sample> {
        let mut rows = csv.lines().map(|line| line.split(',').collect::<Vec<_>>());
        let names = rows.next().unwrap_or_default();
        let client = rows.next().with_context(|| format!("nats bench left no figures: {csv}"))?;
        let figure = |name: &str| -> Result<f64> {
            let at = names.iter().position(|known| *known == name);
            let text = at.and_then(|at| client.get(at)).with_context(|| format!("no {name} in {csv}"))?;
            text.parse().with_context(|| format!("reading {name} of {csv}"))
        };
        let seconds = figure("DurationSecs")?;
        let mut sample = Sample::default()
            .set("acknowledged", self.messages as f64)
            .set("seconds", seconds)
            .set("records", self.messages as f64 / seconds);
        for (key, name) in [("p50", "P50"), ("p99", "P99"), ("p99.9", "P99.9")] {
            sample = sample.set(key, figure(&format!("{name}LatencyMicroSecs"))? / 1e3);
        }
        Ok(sample)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_published_names_the_versions_that_are_built() {
        assert!(NAME.contains(SERVER));
        assert!(super::super::cases::nats::METHOD.contains(&format!("natscli {CLIENT}")));
    }

    #[test]
    fn the_clients_figures_are_read_by_their_names() {
        let csv = "#RunID,ClientID,MsgCount,MsgBytes,MsgsPerSec,BytesPerSec,DurationSecs,MinLatencyMicroSecs,\
                   P50LatencyMicroSecs,P99LatencyMicroSecs,P99.9LatencyMicroSecs\n\
                   2PRv,P0,10000,500000,434,43470.8,10.000000,15.7,351.5,472.5,480.0\n";
        let (way, payload, work) = (&[][..], Path::new(""), Path::new(""));
        let sample = Publish { way, messages: 5000, size: 100, payload, work }.sample(csv).unwrap();
        let wanted =
            [("acknowledged", 5000.0), ("p50", 0.3515), ("p99", 0.4725), ("p99.9", 0.48), ("records", 500.0)];
        for (key, value) in wanted {
            assert_eq!(sample.values[key], value, "{key}");
        }
    }
}
