//! One instance of the service: its process, and what is done to the directory with its stores.

use std::fs::{self, File};
use std::io::{ErrorKind, Read, Seek, SeekFrom, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rand::Rng;
use rand::rngs::StdRng;

/// A broker that is away may keep it waiting.
const STOP_PATIENCE: Duration = Duration::from_secs(90);
const SIGTERM: i32 = 15;

/// Where it is written that the instance with this state is to stop within its next transaction.
pub fn stop_request(state: &Path) -> PathBuf {
    state.with_extension("stop")
}

/// How all instances of a round are started.
#[derive(Debug, Clone)]
pub struct Start {
    pub plan: PathBuf,
    pub bootstrap: String,
    pub directory: PathBuf,
    pub plant: Option<String>,
}

pub struct Instance {
    start: Start,
    name: String,
    child: Option<Child>,
    starts: usize,
    pub stopped: bool,
    /// Since when it is asked to end.
    ending: Option<Instant>,
}

impl Instance {
    pub fn new(start: &Start, name: &str) -> Self {
        Self {
            start: start.clone(),
            name: name.to_owned(),
            child: None,
            starts: 0,
            stopped: false,
            ending: None,
        }
    }

    fn state(&self) -> PathBuf {
        self.start.directory.join(format!("state-{}", self.name))
    }

    fn older(&self) -> PathBuf {
        self.start.directory.join(format!("older-{}", self.name))
    }

    /// What the last start wrote to its standard error.
    pub fn words(&self) -> PathBuf {
        self.start.directory.join(format!("{}-{:02}.log", self.name, self.starts))
    }

    pub fn is_there(&self) -> bool {
        self.child.is_some()
    }

    /// Whether it runs and nothing is being done to it.
    pub fn is_at_work(&self) -> bool {
        self.is_there() && !self.stopped && self.ending.is_none()
    }

    pub fn begin(&mut self) -> Result<()> {
        self.forget_stop()?;
        self.starts += 1;
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("eos-service").arg("--plan").arg(&self.start.plan);
        command.arg("--bootstrap").arg(&self.start.bootstrap).arg("--state").arg(self.state());
        if let Some(bug) = &self.start.plant {
            command.args(["--plant", bug]);
        }
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(File::create(self.words())?);
        self.child = Some(command.spawn().context("starting an instance")?);
        self.stopped = false;
        Ok(())
    }

    /// The reason of an end that nobody asked for, of one with an error, or of one that does not come.
    pub fn ended(&mut self) -> Result<Option<String>> {
        let Some(child) = &mut self.child else { return Ok(None) };
        let status = child.try_wait()?;
        let since = self.ending;
        let Some(status) = status else {
            if since.is_none_or(|since| since.elapsed() < STOP_PATIENCE) {
                return Ok(None);
            }
            self.kill()?;
            return Ok(Some(format!("{} did not end within {STOP_PATIENCE:?} of SIGTERM", self.described())));
        };
        (self.child, self.ending, self.stopped) = (None, None, false);
        // One that had not begun to listen for it dies of it.
        if since.is_some() && (status.success() || status.signal() == Some(SIGTERM)) {
            return Ok(None);
        }
        let words = fs::read_to_string(self.words()).unwrap_or_default();
        let last = words.lines().next_back().unwrap_or_default();
        Ok(Some(format!("{} ended ({status}): {last}", self.described())))
    }

    fn described(&self) -> String {
        format!("{} ({})", self.name, self.words().display())
    }

    pub fn kill(&mut self) -> Result<()> {
        self.ending = None;
        if let Some(mut child) = self.child.take() {
            child.kill()?;
            child.wait()?;
        }
        Ok(())
    }

    fn signal(&self, name: &str) -> Result<()> {
        let child = self.child.as_ref().context("the instance does not run")?;
        let status = Command::new("kill").args(["-s", name, &child.id().to_string()]).status()?;
        if !status.success() {
            bail!("kill -s {name}: {status}");
        }
        Ok(())
    }

    pub fn stop(&mut self) -> Result<()> {
        self.signal("STOP")?;
        self.stopped = true;
        Ok(())
    }

    /// It stops when its next transaction holds output, before offsets are added: the worst moment, as nothing but what is
    /// said of the member then tells that others have taken over.
    pub fn stop_in_transaction(&mut self) -> Result<()> {
        fs::write(stop_request(&self.state()), "")?;
        self.stopped = true;
        Ok(())
    }

    pub fn resume(&mut self) -> Result<()> {
        self.stopped = false;
        self.forget_stop()?;
        self.signal("CONT")
    }

    fn forget_stop(&self) -> Result<()> {
        match fs::remove_file(stop_request(&self.state())) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(error.into()),
            _ => Ok(()),
        }
    }

    /// Asks for a clean end.
    pub fn end(&mut self) -> Result<()> {
        self.ending = Some(Instant::now());
        self.signal("TERM")
    }

    /// Waits for the end that was asked for; the reason if it was none without an error.
    pub fn finish(&mut self) -> Result<Option<String>> {
        while self.is_there() {
            if let Some(reason) = self.ended()? {
                return Ok(Some(reason));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(None)
    }

    /// Keeps a copy of the state, for [`Instance::swap`].
    pub fn keep_copy(&self) -> Result<()> {
        let older = self.older();
        if older.exists() {
            fs::remove_dir_all(&older)?;
        }
        if self.state().exists() {
            copy(&self.state(), &older)?;
        }
        Ok(())
    }

    /// Puts the older copy in the place of the state; false if there is none.
    pub fn swap(&self) -> Result<bool> {
        if !self.older().exists() {
            return Ok(false);
        }
        fs::remove_dir_all(self.state())?;
        copy(&self.older(), &self.state())?;
        Ok(true)
    }

    /// Removes everything, the instance's name with it, or the stores alone.
    pub fn wipe(&self, all: bool) -> Result<()> {
        let state = self.state();
        if all {
            return Ok(fs::remove_dir_all(state)?);
        }
        for application in fs::read_dir(state)? {
            let stores = application?.path().join("stores");
            if stores.exists() {
                fs::remove_dir_all(stores)?;
            }
        }
        Ok(())
    }

    /// Flips one bit of one file of the stores; which, in a word.
    pub fn flip(&self, random: &mut StdRng) -> Result<Option<String>> {
        let mut found = files(&self.state())?;
        found.retain(|(path, length)| {
            *length > 0 && path.components().any(|part| part.as_os_str() == "stores")
        });
        found.sort();
        if found.is_empty() {
            return Ok(None);
        }
        let (path, length) = &found[random.random_range(0..found.len())];
        // A journal is set aside at its full length; what was written is at its beginning.
        let written = written(path, *length)?;
        let (at, bit) = (random.random_range(0..written.max(1)), random.random_range(0..8));
        let mut file = File::options().read(true).write(true).open(path)?;
        let mut byte = [0];
        file.seek(SeekFrom::Start(at))?;
        file.read_exact(&mut byte)?;
        byte[0] ^= 1 << bit;
        file.seek(SeekFrom::Start(at))?;
        file.write_all(&byte)?;
        Ok(Some(format!("bit {bit} of byte {at} of {}", path.display())))
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        if let Err(error) = self.kill() {
            eprintln!("eos: {}: {error:#}", self.name);
        }
    }
}

fn files(directory: &Path) -> Result<Vec<(PathBuf, u64)>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        match entry.metadata()? {
            metadata if metadata.is_dir() => found.extend(files(&entry.path())?),
            metadata => found.push((entry.path(), metadata.len())),
        }
    }
    Ok(found)
}

/// Up to the last byte that is not zero.
fn written(path: &Path, length: u64) -> Result<u64> {
    let bytes = fs::read(path)?;
    let last = bytes.iter().rposition(|byte| *byte != 0);
    Ok(last.map_or(length, |last| last as u64 + 1))
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        match entry.file_type()?.is_dir() {
            true => copy(&entry.path(), &target)?,
            false => drop(fs::copy(entry.path(), target)?),
        }
    }
    Ok(())
}
