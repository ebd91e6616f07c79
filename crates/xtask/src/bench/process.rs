//! What the kernel says of a process, and children that end with the harness.

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};

/// Linux reports CPU time to user space in hundredths of a second on every architecture.
const TICKS_PER_SECOND: f64 = 100.0;

fn stat_fields(pid: u32) -> Result<Vec<String>> {
    let path = format!("/proc/{pid}/stat");
    let text = fs::read_to_string(&path).with_context(|| format!("reading {path}"))?;
    let after_name = text.rsplit_once(')').ok_or_else(|| anyhow!("{path} has no command name"))?.1;
    Ok(after_name.split_whitespace().map(str::to_owned).collect())
}

/// CPU seconds, user and system, of all threads of `pid`, the ended ones included.
pub fn cpu_seconds(pid: u32) -> Result<f64> {
    let fields = stat_fields(pid)?;
    let ticks = |at: usize| -> Result<f64> { Ok(fields.get(at).context("short stat")?.parse()?) };
    Ok((ticks(11)? + ticks(12)?) / TICKS_PER_SECOND)
}

/// The same to the nanosecond, of the threads that live.
pub fn fine_cpu_seconds(pid: u32) -> Result<f64> {
    let mut nanoseconds = 0.0;
    for thread in fs::read_dir(format!("/proc/{pid}/task"))?.flatten() {
        let text = fs::read_to_string(thread.path().join("schedstat")).unwrap_or_default();
        nanoseconds += text.split(' ').next().and_then(|first| first.parse::<f64>().ok()).unwrap_or(0.0);
    }
    Ok(nanoseconds / 1e9)
}

/// Waits until what the last run left is written and the process rests.
pub fn settle(pid: u32) -> Result<()> {
    std::thread::sleep(Duration::from_millis(300));
    Command::new("sync").status().context("running sync")?;
    let begun = Instant::now();
    let mut before = cpu_seconds(pid)?;
    while begun.elapsed() < Duration::from_secs(15) {
        std::thread::sleep(Duration::from_millis(250));
        let after = cpu_seconds(pid)?;
        if after - before <= 0.03 {
            return Ok(());
        }
        before = after;
    }
    Ok(())
}

pub fn rss_mib(pid: u32) -> Result<f64> {
    let text = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = text.lines().find(|line| line.starts_with("VmRSS:")).context("no VmRSS in status")?;
    let kib: f64 = line.split_whitespace().nth(1).context("no figure in VmRSS")?.parse()?;
    Ok(kib / 1024.0)
}

pub fn open_files(pid: u32) -> Result<usize> {
    Ok(fs::read_dir(format!("/proc/{pid}/fd"))?.count())
}

/// Files below `dir`, and the bytes they occupy on disk.
pub fn files_and_bytes(dir: &Path) -> (u64, u64) {
    use std::os::unix::fs::MetadataExt;
    let (mut files, mut bytes) = (0, 0);
    let Ok(entries) = fs::read_dir(dir) else { return (0, 0) };
    for entry in entries.flatten() {
        // What a running server deletes meanwhile is not counted.
        let Ok(metadata) = entry.metadata() else { continue };
        if metadata.is_dir() {
            let below = files_and_bytes(&entry.path());
            files += below.0;
            bytes += below.1;
        } else {
            files += 1;
            bytes += metadata.blocks() * 512;
        }
    }
    (files, bytes)
}

pub fn signal(pid: u32, name: &str) -> Result<()> {
    Command::new("kill").args([&format!("-{name}"), &pid.to_string()]).status().context("running kill")?;
    Ok(())
}

/// What Kafka's guide and thousands of clients ask for.
const OPEN_FILES: &str = "--nofile=200000:200000";

/// Whether this user may have so many open files.
fn may_open_many() -> bool {
    static MAY: OnceLock<bool> = OnceLock::new();
    *MAY.get_or_init(|| {
        let tried = Command::new("prlimit").args([OPEN_FILES, "true"]).stderr(Stdio::null()).status();
        tried.is_ok_and(|status| status.success())
    })
}

/// `program` so that it is killed when the harness dies, and keeps its process id.
pub fn tied(program: &str) -> Command {
    let mut command = if may_open_many() {
        let mut command = Command::new("prlimit");
        command.args([OPEN_FILES, "setpriv"]);
        command
    } else {
        Command::new("setpriv")
    };
    command.args(["--pdeathsig", "KILL", program]);
    command
}

/// The same for a command that was built elsewhere.
pub fn tie(inner: &Command) -> Command {
    let mut command = tied(&inner.get_program().to_string_lossy());
    command.args(inner.get_args());
    command
}

/// A command as one would type it, without the wrappers of the harness.
pub fn shown(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    let words: Vec<String> = words.map(|word| word.to_string_lossy().into_owned()).collect();
    let from = words.iter().position(|word| word == "KILL").map_or(0, |at| at + 1);
    let from = from + if words[from..].first().is_some_and(|word| word == "stdbuf") { 2 } else { 0 };
    let quoted = words[from..].iter().map(|word| {
        if word.len() > 200 {
            format!("'{}…'", &word[..40])
        } else if word.contains([' ', '*', '\'', '"', '$']) {
            format!("'{word}'")
        } else {
            word.clone()
        }
    });
    quoted.collect::<Vec<_>>().join(" ")
}

/// A child that is killed when it is dropped.
pub struct Owned(pub Child);

impl Owned {
    pub fn spawn(command: &mut Command) -> Result<Self> {
        let child = command.spawn().with_context(|| format!("starting {}", shown(command)))?;
        Ok(Self(child))
    }

    pub fn pid(&self) -> u32 {
        self.0.id()
    }

    /// Waits for the end, at most `limit`, then kills. The exit code, or the signal negated.
    pub fn finish(&mut self, limit: Duration) -> Result<i32> {
        let begun = Instant::now();
        while begun.elapsed() < limit {
            if let Some(status) = self.0.try_wait()? {
                return Ok(status.code().unwrap_or_else(|| -status.signal().unwrap_or(0)));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        self.0.kill()?;
        self.0.wait()?;
        bail!("process {} did not end within {} s and was killed", self.pid(), limit.as_secs())
    }
}

impl Drop for Owned {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
