//! What the figures of a run were measured on: the machine, and its limits measured in the same run.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use serde::{Deserialize, Serialize};

const MIB: usize = 1 << 20;
const BLOCK: usize = 4096;
/// The bytes that the direct writes go round in.
const BLOCKS: usize = 16 * MIB;
/// What bench-3's target is asked at: 1,000 messages a second.
const TICK: Duration = Duration::from_millis(1);
const AT_ONCE: Duration = Duration::ZERO;
/// Linux's `O_DIRECT | O_DSYNC` on x86-64 and on the generic table.
const DIRECT_AND_SYNCED: i32 = if cfg!(target_arch = "aarch64") { 0o200_000 } else { 0o40_000 } | 0o10_000;

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Machine {
    pub processor: String,
    pub cores: usize,
    pub memory_gib: f64,
    pub kernel: String,
    pub filesystem: String,
    pub limits: Vec<Limit>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Limit {
    pub name: String,
    pub value: String,
}

pub fn describe(work: &Path, quick: bool) -> Result<Machine> {
    let cpuinfo = fs::read_to_string("/proc/cpuinfo")?;
    let named = |line: &&str| line.starts_with("model name") || line.starts_with("Model");
    let processor = cpuinfo.lines().find(named).and_then(|line| line.split_once(':'));
    let memory = fs::read_to_string("/proc/meminfo")?;
    let kib: f64 = memory.split_whitespace().nth(1).context("short /proc/meminfo")?.parse()?;
    Ok(Machine {
        processor: processor.map_or("unknown", |(_, name)| name.trim()).to_owned(),
        cores: std::thread::available_parallelism()?.get(),
        memory_gib: kib / 1024.0 / 1024.0,
        kernel: fs::read_to_string("/proc/sys/kernel/osrelease")?.trim().to_owned(),
        filesystem: filesystem(work)?,
        limits: limits(work, quick)?,
    })
}

/// The type and options of the mount that holds `work`.
fn filesystem(work: &Path) -> Result<String> {
    let asked = Command::new("findmnt").args(["-n", "-o", "FSTYPE,OPTIONS", "-T"]).arg(work).output();
    let asked = asked.context("running findmnt")?;
    Ok(String::from_utf8_lossy(&asked.stdout).split_whitespace().collect::<Vec<_>>().join(" "))
}

fn limits(work: &Path, quick: bool) -> Result<Vec<Limit>> {
    let time = Duration::from_millis(if quick { 300 } else { 3000 });
    let path = work.join("limits.tmp");
    let measured = || -> Result<Vec<Limit>> {
        Ok(vec![
            limit("loopback TCP, one stream", format!("{:.0} MB/s", loopback_stream(time)?)),
            limit("loopback round trip, 64 B", percentiles(&loopback_round_trips(time)?)),
            limit("4 KiB append + fdatasync", percentiles(&small_appends(&path, time, AT_ONCE)?)),
            limit(
                "4 KiB append + fdatasync, 1,000 a second",
                percentiles(&small_appends(&path, 4 * time, TICK)?),
            ),
            limit("4 KiB O_DIRECT + O_DSYNC into written blocks", direct(&path, time)?),
            limit("1 MiB append + fdatasync", format!("{:.0} MB/s", large_appends(&path, time)?)),
        ])
    };
    let measured = measured();
    fs::remove_file(&path).with_context(|| format!("removing {}", path.display()))?;
    measured
}

fn direct(path: &Path, time: Duration) -> Result<String> {
    write_blocks(path)?;
    Ok(direct_writes(path, time, AT_ONCE)
        .map_or_else(|error| format!("not available: {error:#}"), |latencies| percentiles(&latencies)))
}

fn limit(name: &str, value: String) -> Limit {
    Limit { name: name.to_owned(), value }
}

fn sorted(latencies: &[Duration]) -> Vec<Duration> {
    let mut sorted = latencies.to_vec();
    sorted.sort_unstable();
    sorted
}

/// In milliseconds.
fn quantile(sorted: &[Duration], q: f64) -> f64 {
    sorted[((sorted.len() - 1) as f64 * q) as usize].as_secs_f64() * 1e3
}

fn percentiles(latencies: &[Duration]) -> String {
    let sorted = sorted(latencies);
    let at = |q: f64| quantile(&sorted, q);
    format!("p50 {:.3} ms, p99 {:.3} ms, p99.9 {:.3} ms", at(0.5), at(0.99), at(0.999))
}

/// `part` again and again for `time`, each timed. One begins `tick` after the other, or as soon as that is done.
fn repeat(time: Duration, tick: Duration, mut part: impl FnMut() -> Result<()>) -> Result<Vec<Duration>> {
    let (begun, mut latencies) = (Instant::now(), Vec::new());
    let mut next = begun;
    while begun.elapsed() < time {
        std::thread::sleep(next.saturating_duration_since(Instant::now()));
        let from = Instant::now();
        part()?;
        latencies.push(from.elapsed());
        next = (next + tick).max(from);
    }
    Ok(latencies)
}

fn connected() -> Result<(TcpStream, TcpStream)> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let near = TcpStream::connect(listener.local_addr()?)?;
    let far = listener.accept()?.0;
    near.set_nodelay(true)?;
    far.set_nodelay(true)?;
    Ok((near, far))
}

fn loopback_stream(time: Duration) -> Result<f64> {
    let (mut near, mut far) = connected()?;
    let sink = std::thread::spawn(move || -> std::io::Result<()> {
        let mut buffer = vec![0; MIB];
        while far.read(&mut buffer)? > 0 {}
        Ok(())
    });
    let (buffer, begun) = (vec![7; MIB], Instant::now());
    let sent = repeat(time, AT_ONCE, || Ok(near.write_all(&buffer)?))?.len();
    drop(near);
    sink.join().map_err(|_| anyhow!("the loopback reader panicked"))??;
    Ok((sent * MIB) as f64 / 1e6 / begun.elapsed().as_secs_f64())
}

fn loopback_round_trips(time: Duration) -> Result<Vec<Duration>> {
    let (mut near, mut far) = connected()?;
    let echo = std::thread::spawn(move || -> std::io::Result<()> {
        let mut buffer = [0; 64];
        while far.read_exact(&mut buffer).is_ok() {
            far.write_all(&buffer)?;
        }
        Ok(())
    });
    let mut buffer = [0; 64];
    let trips = repeat(time, AT_ONCE, || {
        near.write_all(&buffer)?;
        Ok(near.read_exact(&mut buffer)?)
    });
    drop(near);
    echo.join().map_err(|_| anyhow!("the loopback echo panicked"))??;
    trips
}

fn small_appends(path: &Path, time: Duration, tick: Duration) -> Result<Vec<Duration>> {
    let mut file = File::create(path)?;
    let buffer = [7; BLOCK];
    repeat(time, tick, || {
        file.write_all(&buffer)?;
        Ok(file.sync_data()?)
    })
}

fn large_appends(path: &Path, time: Duration) -> Result<f64> {
    let mut file = File::create(path)?;
    let (buffer, begun) = (vec![7; MIB], Instant::now());
    let written = repeat(time, AT_ONCE, || {
        file.write_all(&buffer)?;
        Ok(file.sync_data()?)
    })?;
    Ok((written.len() * MIB) as f64 / 1e6 / begun.elapsed().as_secs_f64())
}

/// The p99, in milliseconds, of one flush every millisecond and nothing else, where the servers keep their data. The
/// file stays for the next, so that its removal is not felt by what is measured after it.
pub fn flush_loop_p99(work: &Path, time: Duration) -> Result<f64> {
    let path = work.join("flush-loop");
    if !path.exists() {
        write_blocks(&path)?;
    }
    Ok(quantile(&sorted(&direct_writes(&path, time, TICK)?), 0.99))
}

fn write_blocks(path: &Path) -> Result<()> {
    let mut file = File::create(path)?;
    file.write_all(&vec![7; BLOCKS])?;
    Ok(file.sync_all()?)
}

/// Into the blocks of [`write_blocks`]; not every file system takes direct writes.
fn direct_writes(path: &Path, time: Duration, tick: Duration) -> Result<Vec<Duration>> {
    let file = File::options().write(true).custom_flags(DIRECT_AND_SYNCED).open(path)?;
    let room = vec![9u8; 2 * BLOCK];
    let from = room.as_ptr().align_offset(BLOCK);
    let mut at = 0;
    repeat(time, tick, || {
        file.write_all_at(&room[from..from + BLOCK], at)?;
        at = (at + BLOCK as u64) % BLOCKS as u64;
        Ok(())
    })
}
