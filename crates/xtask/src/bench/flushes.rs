//! Proof of a durability class: what reaches the disk before an acknowledgement is counted with `strace`, in a run of
//! its own that is never timed. A flush is an fsync, fdatasync or synchronous msync, or a write to a file that was
//! opened with O_DSYNC or O_SYNC.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result};

use super::process::{self, Owned};

const CALLS: &str =
    "trace=fsync,fdatasync,msync,sync_file_range,pwrite64,pwritev,pwritev2,write,writev,io_uring_enter";
/// Linux's O_DSYNC; O_SYNC contains it.
const DSYNC: u32 = 0o10_000;

pub struct Counter {
    strace: Owned,
    output: PathBuf,
    server: u32,
    synced: BTreeSet<u32>,
}

#[derive(Default, Debug, PartialEq)]
pub struct Flushes {
    pub syncs: u64,
    pub maps: u64,
    pub synced_writes: u64,
    pub ring: u64,
}

impl Flushes {
    pub fn total(&self) -> u64 {
        self.syncs + self.maps + self.synced_writes
    }

    pub fn describe(&self, records: f64) -> String {
        let mut text = format!("{} flushes for {records:.0} records", self.total());
        if self.total() > 0 {
            let each = records / self.total() as f64;
            text += &format!(" ({each:.1} records each: {} fsync/fdatasync, ", self.syncs);
            text += &format!("{} msync, {} O_DSYNC writes)", self.maps, self.synced_writes);
        }
        if self.ring > 0 {
            text += &format!("; {} io_uring calls, whose writes strace does not show", self.ring);
        }
        text
    }
}

/// File descriptors of `pid` whose writes are synchronous.
fn synced_descriptors(pid: u32) -> BTreeSet<u32> {
    let entries = fs::read_dir(format!("/proc/{pid}/fdinfo")).into_iter().flatten().flatten();
    let is_synced = |path: &Path| -> Option<bool> {
        let text = fs::read_to_string(path).ok()?;
        let flags = text.lines().find_map(|line| line.strip_prefix("flags:"))?;
        Some(u32::from_str_radix(flags.trim(), 8).ok()? & DSYNC != 0)
    };
    let synced = entries.filter(|entry| is_synced(&entry.path()) == Some(true));
    synced.filter_map(|entry| entry.file_name().to_string_lossy().parse().ok()).collect()
}

impl Counter {
    pub fn attach(server: u32, work: &Path) -> Result<Self> {
        let output = work.join("strace.txt");
        let mut command = process::tied("strace");
        command.args(["-f", "-qq", "-e", CALLS, "-e", "signal=none", "-o"]).arg(&output);
        command.args(["-p", &server.to_string()]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let strace = Owned::spawn(&mut command).context("strace is needed to count flushes")?;
        let begun = std::time::Instant::now();
        while !traced(server) && begun.elapsed() < Duration::from_secs(10) {
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(Self { strace, output, server, synced: synced_descriptors(server) })
    }

    pub fn detach(mut self) -> Result<Flushes> {
        self.synced.extend(synced_descriptors(self.server));
        process::signal(self.strace.pid(), "INT")?;
        self.strace.finish(Duration::from_secs(20))?;
        let text = String::from_utf8_lossy(&fs::read(&self.output)?).into_owned();
        fs::remove_file(&self.output)?;
        Ok(count(&text, &self.synced))
    }
}

fn traced(pid: u32) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    status.lines().any(|line| line.starts_with("TracerPid:") && !line.ends_with("\t0"))
}

fn count(trace: &str, synced: &BTreeSet<u32>) -> Flushes {
    let mut flushes = Flushes::default();
    for line in trace.lines() {
        let call = line.split_once(' ').map_or(line, |(_, call)| call.trim_start());
        let Some((name, arguments)) = call.split_once('(') else { continue };
        let descriptor = arguments.split([',', ')', ' ']).next().and_then(|first| first.parse::<u32>().ok());
        match name {
            "fsync" | "fdatasync" => flushes.syncs += 1,
            "msync" if arguments.contains("MS_SYNC") => flushes.maps += 1,
            "pwritev2" if arguments.contains("RWF_DSYNC") || arguments.contains("RWF_SYNC") => {
                flushes.synced_writes += 1;
            }
            "pwrite64" | "pwritev" | "pwritev2" | "write" | "writev" => {
                flushes.synced_writes += u64::from(descriptor.is_some_and(|fd| synced.contains(&fd)));
            }
            "io_uring_enter" => flushes.ring += 1,
            _ => {}
        }
    }
    flushes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flushes_are_told_from_plain_writes() {
        let trace = "12 fdatasync(7) = 0\n12 pwrite64(9, \"\"..., 4096, 0) = 4096\n\
                     13 pwrite64(5, \"\"..., 4096, 0 <unfinished ...>\n13 <... pwrite64 resumed>) = 4096\n\
                     14 msync(0x7f, 4096, MS_SYNC) = 0\n14 msync(0x7f, 4096, MS_ASYNC) = 0\n";
        let flushes = count(trace, &BTreeSet::from([9]));
        assert_eq!(flushes, Flushes { syncs: 1, maps: 1, synced_writes: 1, ring: 0 });
    }
}
