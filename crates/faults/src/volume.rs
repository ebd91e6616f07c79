//! A file system of our own on a loop device, whose power can be cut.
//!
//! `FS_IOC_SHUTDOWN` with `NOLOGFLUSH` stops a mounted ext4 or XFS at once: what was not synced is gone
//! at the next mount, as after a power failure.

use std::fs;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

const BUSY_PATIENCE: Duration = Duration::from_secs(10);
/// The smallest that mkfs.xfs takes is 300 MiB; the file is sparse.
const BYTES: u64 = 400 << 20;

/// An ioctl needs `unsafe` in Rust, which this workspace forbids.
const CUT: &str = "import fcntl, os, struct, sys
fcntl.ioctl(os.open(sys.argv[1], os.O_RDONLY), 0x8004587D, struct.pack('I', 2))";

/// Set for the process that has a mount namespace of its own.
const INSIDE: &str = "HEADWATER_FAULTS_NAMESPACE";

/// Runs this program again in a mount namespace of its own, so that however it ends no mount stays.
/// Returns only when that is not possible, with the reason, or has been done.
pub fn enter_namespace() -> Option<io::Error> {
    if std::env::var_os(INSIDE).is_some() {
        return None;
    }
    let program = std::env::current_exe().ok()?;
    let tried = Command::new("unshare").args(["--mount", "true"]).stderr(Stdio::null()).status();
    if !tried.is_ok_and(|status| status.success()) {
        return None;
    }
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation", "private", "--"]).arg(program);
    Some(command.args(std::env::args_os().skip(1)).env(INSIDE, "1").exec())
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileSystem {
    Ext4,
    Xfs,
}

pub struct Volume {
    image: PathBuf,
    pub mount: PathBuf,
    file_system: FileSystem,
}

pub fn run(program: &str, arguments: &[&str]) -> Result<String> {
    let output =
        Command::new(program).args(arguments).output().with_context(|| format!("running {program}"))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("{program} {}: {}", arguments.join(" "), said.trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap_or_default()
}

impl Volume {
    /// Makes and mounts it inside `directory`.
    pub fn create(directory: &Path, file_system: FileSystem) -> Result<Self> {
        Self::of_size(directory, file_system, BYTES)
    }

    /// As [`Self::create`], of so many bytes.
    pub fn of_size(directory: &Path, file_system: FileSystem, bytes: u64) -> Result<Self> {
        let (image, mount) = (directory.join("image"), directory.join("mount"));
        fs::create_dir_all(&mount)?;
        fs::File::create(&image)?.set_len(bytes)?;
        match file_system {
            // Nothing is set aside for root, who the broker may be.
            FileSystem::Ext4 => run("mkfs.ext4", &["-q", "-F", "-m", "0", text(&image)])?,
            FileSystem::Xfs => run("mkfs.xfs", &["-q", "-f", text(&image)])?,
        };
        let volume = Self { image, mount, file_system };
        volume.attach()?;
        Ok(volume)
    }

    /// The loop device goes with the mount.
    fn attach(&self) -> Result<()> {
        // An error that ext4 finds makes it read-only, which `make_read_only` uses.
        let options = match self.file_system {
            FileSystem::Ext4 => "loop,errors=remount-ro",
            FileSystem::Xfs => "loop",
        };
        run("mount", &["-o", options, text(&self.image), text(&self.mount)])?;
        Ok(())
    }

    /// From here on nothing reaches the disk.
    pub fn cut_power(&self) -> Result<()> {
        run("python3", &["-c", CUT, text(&self.mount)])?;
        Ok(())
    }

    /// After a cut, once nobody has its files open.
    pub fn power_on(&self) -> Result<()> {
        self.detach()?;
        self.attach()
    }

    fn detach(&self) -> Result<()> {
        let begun = Instant::now();
        loop {
            match run("umount", &[text(&self.mount)]) {
                Ok(_) => return Ok(()),
                Err(error) if begun.elapsed() > BUSY_PATIENCE => return Err(error),
                Err(_) => std::thread::sleep(Duration::from_millis(20)),
            }
        }
    }

    /// Makes ext4 find an error, after which it takes no more writes, open files or not.
    pub fn make_read_only(&self) -> Result<()> {
        let device = run("findmnt", &["--noheadings", "--output", "SOURCE", text(&self.mount)])?;
        let name = device.trim_start_matches("/dev/");
        fs::write(format!("/sys/fs/ext4/{name}/trigger_fs_error"), "faults").context("trigger_fs_error")
    }
}

impl Drop for Volume {
    fn drop(&mut self) {
        if run("umount", &[text(&self.mount)]).is_err() {
            let _ = run("umount", &["-l", text(&self.mount)]);
        }
    }
}

/// A small file system in memory.
pub struct Tmpfs {
    pub mount: PathBuf,
}

impl Tmpfs {
    pub fn create(directory: &Path, mebibytes: u32) -> Result<Self> {
        let mount = directory.join("mount");
        fs::create_dir_all(&mount)?;
        run("mount", &["-t", "tmpfs", "-o", &format!("size={mebibytes}m"), "faults", text(&mount)])?;
        Ok(Self { mount })
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        if run("umount", &[text(&self.mount)]).is_err() {
            let _ = run("umount", &["-l", text(&self.mount)]);
        }
    }
}
