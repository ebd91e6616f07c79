//! One `headwater up` process: started, waited for, killed, and its words kept in files.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

const START_PATIENCE: Duration = Duration::from_secs(60);
const STOP_PATIENCE: Duration = Duration::from_secs(30);

/// Any free port of this machine.
pub const ANY_PORT: &str = "127.0.0.1:0";

/// How to start it.
#[derive(Debug, Clone)]
pub struct Launch {
    pub headwater: PathBuf,
    /// Where it serves; port 0 takes a free one.
    pub listen: String,
    pub data: PathBuf,
    /// Where its standard error and strace's notes go.
    pub words: PathBuf,
    /// `--config` options, for a binary that takes them.
    pub configs: Vec<(String, String)>,
    /// Options of strace; empty: without strace.
    pub strace: Vec<String>,
    /// A write beyond the file size limit is an error, not the end.
    pub ignore_file_size_signal: bool,
    pub environment: Vec<(String, String)>,
}

pub struct Broker {
    child: Child,
    pub address: String,
    pub stderr: PathBuf,
}

/// What came of a start.
pub enum Started {
    Ready(Broker),
    /// It ended before it served.
    Ended {
        status: ExitStatus,
        stderr: String,
    },
}

impl Launch {
    /// Waits until it serves or has ended.
    pub fn start(&self) -> Result<Started> {
        let (mut child, stderr) = self.spawn()?;
        let stdout = child.stdout.take().context("the broker's standard output")?;
        let (told, lines) = mpsc::channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                let _ = told.send(line);
            }
        });
        let begun = Instant::now();
        loop {
            match lines.recv_timeout(Duration::from_millis(20)) {
                Ok(line) => {
                    if let Some(address) = address(&line) {
                        return Ok(Started::Ready(Broker { child, address, stderr }));
                    }
                }
                Err(RecvTimeoutError::Timeout) if begun.elapsed() < START_PATIENCE => {}
                Err(RecvTimeoutError::Disconnected) => {
                    let status = wait(&mut child, STOP_PATIENCE)?;
                    return Ok(Started::Ended { status, stderr: read(&stderr) });
                }
                Err(RecvTimeoutError::Timeout) => {
                    let _ = child.kill();
                    let _ = child.wait();
                    bail!("the broker did not serve within {START_PATIENCE:?}: {}", read(&stderr));
                }
            }
        }
    }

    fn spawn(&self) -> Result<(Child, PathBuf)> {
        fs::create_dir_all(&self.words)?;
        let number = fs::read_dir(&self.words)?.count();
        let stderr = self.words.join(format!("stderr-{number:04}.txt"));
        let mut command = self.command(number);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(File::create(&stderr)?);
        let child = command.spawn().with_context(|| format!("starting {command:?}"))?;
        Ok((child, stderr))
    }

    /// Starts it, waits a moment, lets something happen, and kills it, wherever it is by then.
    pub fn interrupted(&self, after: Duration, then: impl FnOnce() -> Result<()>) -> Result<()> {
        let (mut child, _) = self.spawn()?;
        std::thread::sleep(after);
        let done = then();
        child.kill()?;
        child.wait()?;
        done
    }

    /// For a start that nothing should hinder.
    pub fn serve(&self) -> Result<Broker> {
        match self.start()? {
            Started::Ready(broker) => Ok(broker),
            Started::Ended { status, stderr } => {
                bail!("the broker does not start ({status}) on {}: {}", self.data.display(), stderr.trim())
            }
        }
    }

    pub fn traced(&self, options: &[String]) -> Self {
        Self { strace: options.to_vec(), ..self.clone() }
    }

    fn command(&self, number: usize) -> Command {
        let mut words: Vec<String> = Vec::new();
        if self.ignore_file_size_signal {
            words.extend(["sh", "-c", r#"trap "" XFSZ; exec "$@""#, "sh"].map(str::to_owned));
        }
        if !self.strace.is_empty() {
            let notes = self.words.join(format!("strace-{number:04}.txt"));
            // -D: the broker, not strace, is our child.
            words.extend(["strace", "-D", "-f", "-qq", "-o"].map(str::to_owned));
            words.push(notes.display().to_string());
            words.extend(self.strace.iter().cloned());
            words.push("--".to_owned());
        }
        words.push(self.headwater.display().to_string());
        words.extend(["up", "--json", "--listen", &self.listen, "--http", "127.0.0.1:0"].map(str::to_owned));
        words.extend(["--data-dir".to_owned(), self.data.display().to_string()]);
        for (key, value) in &self.configs {
            words.extend(["--config".to_owned(), format!("{key}={value}")]);
        }
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]).envs(self.environment.iter().cloned());
        command
    }
}

impl Broker {
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// kill -9.
    pub fn kill(mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// SIGTERM, and the wait for its end.
    pub fn stop(mut self) -> Result<ExitStatus> {
        self.signal("TERM")?;
        wait(&mut self.child, STOP_PATIENCE)
    }

    /// Waits for an end that something else brings about.
    pub fn wait_for_end(&mut self, patience: Duration) -> Result<ExitStatus> {
        wait(&mut self.child, patience)
    }

    pub fn signal(&self, name: &str) -> Result<()> {
        let pid = self.pid().to_string();
        let status = Command::new("kill").args(["-s", name, &pid]).status()?;
        if !status.success() {
            bail!("kill -s {name} {pid}: {status}");
        }
        Ok(())
    }

    pub fn words(&self) -> String {
        read(&self.stderr)
    }

    /// Open descriptors and threads.
    pub fn open(&self) -> (usize, usize) {
        let count =
            |what: &str| fs::read_dir(format!("/proc/{}/{what}", self.pid())).map_or(0, Iterator::count);
        (count("fd"), count("task"))
    }

    /// Processor time that it has used, in hundredths of a second.
    pub fn ticks(&self) -> u64 {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.pid())).unwrap_or_default();
        let after_name = stat.rsplit(')').next().unwrap_or_default();
        after_name.split_whitespace().skip(11).take(2).filter_map(|ticks| ticks.parse::<u64>().ok()).sum()
    }

    pub fn resident_kib(&self) -> Option<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid())).ok()?;
        let line = status.lines().find(|line| line.starts_with("VmRSS:"))?;
        line.split_whitespace().nth(1)?.parse().ok()
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        if self.is_running() {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

fn wait(child: &mut Child, patience: Duration) -> Result<ExitStatus> {
    let begun = Instant::now();
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(status);
        }
        if begun.elapsed() > patience {
            child.kill()?;
            child.wait()?;
            bail!("the broker did not end within {patience:?}");
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

fn address(line: &str) -> Option<String> {
    let ready: serde_json::Value = serde_json::from_str(line).ok()?;
    Some(ready.get("kafka")?.as_str()?.to_owned())
}

/// The first panic that a broker wrote into this directory.
pub fn panic_in(words: &Path) -> Option<String> {
    for entry in fs::read_dir(words).ok()?.flatten() {
        let text = read(&entry.path());
        let mut lines = text.lines().skip_while(|line| !line.contains("panicked"));
        if let Some(line) = lines.next() {
            let more = lines.next().unwrap_or_default();
            return Some(format!("{line} {more} ({})", entry.path().display()));
        }
    }
    None
}
