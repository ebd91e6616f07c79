//! Node and service as processes of their own, so that SIGKILL can hit them.
//!
//! A child says that it is ready by one line of JSON on its standard output; the rest of what it says goes to its
//! log in the demo's directory. Children are ended when their [`Running`] is dropped.

use std::collections::VecDeque;
use std::fs::OpenOptions;
use std::io::Write;
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, ChildStdout, Command};
use tokio::sync::watch;

use crate::figures::Of;

/// How long a child may take until it is ready.
const READY_WITHIN: Duration = Duration::from_secs(60);
/// How long a child may take to stop cleanly.
const STOP_WITHIN: Duration = Duration::from_secs(30);
/// Lines of a child's log that an error quotes.
const LAST_LINES: usize = 8;

/// How to start one of the processes, again and again.
#[derive(Debug, Clone)]
pub struct Program {
    /// `node` or `service`: names the log and the errors.
    pub name: &'static str,
    pub executable: PathBuf,
    pub arguments: Vec<String>,
    pub environment: Vec<(&'static str, String)>,
    pub log: PathBuf,
}

/// A started process.
pub struct Running {
    program: Program,
    child: Child,
    ready: watch::Receiver<Option<Value>>,
    /// The most memory that it or one of its predecessors had.
    peak_rss_bytes: Option<u64>,
}

impl Running {
    pub fn start(program: Program) -> Result<Self> {
        let (child, ready) = spawn(&program)?;
        Ok(Self { program, child, ready, peak_rss_bytes: None })
    }

    /// What the child says when it is ready.
    pub async fn ready(&mut self) -> Result<Value> {
        let mut ready = self.ready.clone();
        tokio::select! {
            status = self.child.wait() => Err(self.died(status?)),
            said = tokio::time::timeout(READY_WITHIN, ready.wait_for(Option::is_some)) => match said {
                Ok(Ok(said)) => Ok(said.clone().unwrap_or_default()),
                // Its standard output is closed, so the child is about to end.
                Ok(Err(_)) => {
                    let status = self.child.wait().await?;
                    Err(self.died(status))
                }
                Err(_) => bail!("the {} process was not ready within {READY_WITHIN:?}; see {}", self.program.name, self.program.log.display()),
            }
        }
    }

    /// An error if the child has ended by itself.
    pub fn check(&mut self) -> Result<()> {
        match self.child.try_wait()? {
            None => Ok(()),
            Some(status) => Err(self.died(status)),
        }
    }

    /// SIGKILL, then the same process anew.
    pub async fn kill_and_restart(&mut self) -> Result<()> {
        self.check()?;
        self.measure();
        self.child.kill().await.with_context(|| format!("killing the {} process", self.program.name))?;
        tracing::info!(process = self.program.name, "killed");
        (self.child, self.ready) = spawn(&self.program)?;
        Ok(())
    }

    /// SIGTERM, and waits for the end.
    pub async fn stop(mut self) -> Result<()> {
        self.check()?;
        let id = self.child.id().and_then(|id| rustix::process::Pid::from_raw(id.cast_signed()));
        let id = id.context("the child has an id until it has been waited for")?;
        rustix::process::kill_process(id, rustix::process::Signal::TERM)?;
        let name = self.program.name;
        let status = tokio::time::timeout(STOP_WITHIN, self.child.wait()).await.with_context(|| {
            format!("the {name} process did not stop within {STOP_WITHIN:?} of SIGTERM")
        })??;
        if status.success() { Ok(()) } else { Err(self.died(status)) }
    }

    /// Processor time of the child that runs; its predecessors' is counted with this process.
    pub fn cpu_seconds(&self) -> Option<f64> {
        Of::Process(self.child.id()?).cpu_seconds()
    }

    pub fn peak_rss_bytes(&mut self) -> Option<u64> {
        self.measure();
        self.peak_rss_bytes
    }

    fn measure(&mut self) {
        let current = self.child.id().and_then(|id| Of::Process(id).peak_rss_bytes());
        self.peak_rss_bytes = self.peak_rss_bytes.max(current);
    }

    fn died(&self, status: ExitStatus) -> anyhow::Error {
        let log = self.program.log.display();
        let text = std::fs::read_to_string(&self.program.log).unwrap_or_default();
        let mut last: VecDeque<&str> = VecDeque::new();
        for line in text.lines() {
            last.push_back(line);
            if last.len() > LAST_LINES {
                last.pop_front();
            }
        }
        let last = Vec::from(last).join("\n  ");
        anyhow!("the {} process ended by itself ({status}); the end of {log}:\n  {last}", self.program.name)
    }
}

fn spawn(program: &Program) -> Result<(Child, watch::Receiver<Option<Value>>)> {
    let log = OpenOptions::new()
        .create(true)
        .append(true)
        .open(&program.log)
        .with_context(|| format!("opening {}", program.log.display()))?;
    let mut child = Command::new(&program.executable)
        .args(&program.arguments)
        .envs(program.environment.iter().map(|(name, value)| (*name, value)))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(log.try_clone()?)
        // Ctrl-C is for the demo, which then ends its children.
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
        .with_context(|| format!("starting {}", program.executable.display()))?;
    let stdout = child.stdout.take().context("standard output is piped")?;
    let (say, ready) = watch::channel(None);
    tokio::spawn(listen(stdout, log, say));
    Ok((child, ready))
}

/// Notes the line that says "ready" and copies everything to the log.
async fn listen(stdout: ChildStdout, mut log: impl Write, say: watch::Sender<Option<Value>>) {
    let mut lines = BufReader::new(stdout).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        if let Ok(said) = serde_json::from_str::<Value>(&line)
            && said["ready"] == true
        {
            say.send_replace(Some(said));
        }
        // The log is for people; without it the child runs on.
        let _ = writeln!(log, "{line}");
    }
}

/// A port that is free now: for a process that has to come back where it was.
pub fn free_port() -> Result<u16> {
    let listener = TcpListener::bind("127.0.0.1:0").context("looking for a free port")?;
    Ok(listener.local_addr()?.port())
}
