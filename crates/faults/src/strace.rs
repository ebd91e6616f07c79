//! strace: what a broker asks of the kernel, and faults put between the two.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

const ATTACH_PATIENCE: Duration = Duration::from_secs(10);
/// How long strace may take to see that it is done. It can wait for ever for a process whose first thread is dead.
const END_PATIENCE: Duration = Duration::from_secs(20);

/// Calls that change what is on disk, and `sendto`, before which an acknowledgement is not sent yet.
pub const CHANGING: &str = "write,pwrite64,writev,pwritev,pwritev2,fdatasync,fsync,sync_file_range,openat,\
                            unlink,unlinkat,rename,renameat,renameat2,ftruncate,fallocate,mkdir,sendto";

/// A strace that looks at a running broker.
pub struct Attached {
    child: Child,
    pub notes: PathBuf,
}

impl Attached {
    /// Returns once every thread is traced.
    pub fn to(pid: u32, notes: PathBuf, options: &[&str]) -> Result<Self> {
        let words = notes.with_extension("strace-words");
        let child = Command::new("strace")
            .args(["-f", "-o"])
            .arg(&notes)
            .args(options)
            .args(["-p", &pid.to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(&words)?)
            .spawn()
            .context("starting strace")?;
        let mut attached = Self { child, notes };
        let begun = Instant::now();
        loop {
            let said = fs::read_to_string(&words).unwrap_or_default();
            if said.contains("attached") {
                return Ok(attached);
            }
            if attached.child.try_wait()?.is_some() || begun.elapsed() > ATTACH_PATIENCE {
                bail!("strace does not attach to {pid}: {}", said.trim());
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// How many faults it has injected.
    pub fn injected(&self) -> usize {
        let notes = fs::read_to_string(&self.notes).unwrap_or_default();
        notes.matches("(INJECTED)").count()
    }

    /// Waits for the first injected fault.
    pub fn wait_injected(&self, patience: Duration) -> bool {
        let begun = Instant::now();
        while self.injected() == 0 {
            if begun.elapsed() > patience {
                return false;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        true
    }

    /// Waits for its end, which follows the broker's.
    pub fn gone(mut self) -> Result<()> {
        Ok(self.end_within(END_PATIENCE)?)
    }

    /// Leaves the broker alone again.
    pub fn detach(mut self) -> Result<()> {
        let status = Command::new("kill").args(["-s", "INT", &self.child.id().to_string()]).status()?;
        if !status.success() {
            bail!("strace cannot be ended: {status}");
        }
        Ok(self.end_within(END_PATIENCE)?)
    }

    /// Waits for its end, and ends it by force when it takes too long: its notes are written line by line.
    fn end_within(&mut self, patience: Duration) -> io::Result<()> {
        let begun = Instant::now();
        while self.child.try_wait()?.is_none() {
            if begun.elapsed() > patience {
                self.child.kill()?;
                self.child.wait()?;
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        Ok(())
    }
}

impl Drop for Attached {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            let _ = Command::new("kill").args(["-s", "INT", &self.child.id().to_string()]).status();
            let _ = self.end_within(END_PATIENCE);
        }
    }
}

/// How often the busiest thread made each call, as strace counts for `when=`.
pub fn counts(notes: &Path) -> BTreeMap<String, usize> {
    let text = fs::read_to_string(notes).unwrap_or_default();
    let mut of_thread: BTreeMap<(String, String), usize> = BTreeMap::new();
    for line in text.lines() {
        let mut words = line.splitn(2, ' ');
        let (Some(thread), Some(rest)) = (words.next(), words.next()) else { continue };
        if let Some((call, _)) = rest.trim_start().split_once('(')
            && call.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
        {
            *of_thread.entry((thread.to_owned(), call.to_owned())).or_default() += 1;
        }
    }
    let mut most = BTreeMap::new();
    for ((_, call), count) in of_thread {
        let known = most.entry(call).or_default();
        *known = count.max(*known);
    }
    most
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_counted_by_thread() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let text = "7 fsync(3)  = 0\n7 fsync(3) = 0\n8 fsync(4 <unfinished ...>\n\
                    8 <... fsync resumed>) = 0\n8 write(1, \"fsync(\", 6) = 6\n7 +++ exited with 0 +++\n";
        fs::write(file.path(), text).unwrap();
        let expected = BTreeMap::from([("fsync".to_owned(), 2), ("write".to_owned(), 1)]);
        assert_eq!(counts(file.path()), expected);
    }
}
