//! What the service runs on: our broker, a process that is killed and started again in its place, or three nodes of
//! Apache Kafka that are lost one by one.

use std::net::TcpListener;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rand::Rng;
use rand::rngs::StdRng;

use crate::broker::{Broker, Launch, Started};
use crate::cluster::nodes::{COUNT, Nodes};

/// How long the port of a killed broker may stay taken.
const PORT_PATIENCE: Duration = Duration::from_secs(10);

/// Members that are gone are found as soon as those of the classic protocol, and tasks have copies.
const STREAMS_GROUPS: [(&str, &str); 4] = [
    ("group.streams.session.timeout.ms", "6000"),
    ("group.streams.heartbeat.interval.ms", "500"),
    ("group.streams.initial.rebalance.delay.ms", "500"),
    ("group.streams.num.standby.replicas", "1"),
];

pub enum Server {
    Ours { launch: Box<Launch>, port: u16, running: Option<Broker> },
    Cluster { nodes: Nodes, lost: Option<usize> },
}

fn free_port() -> Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

impl Server {
    pub fn ours(headwater: &Path, directory: &Path) -> Result<Self> {
        let port = free_port()?;
        let launch = Launch {
            headwater: headwater.to_owned(),
            listen: format!("127.0.0.1:{port}"),
            data: directory.join("data"),
            words: directory.join("broker"),
            configs: STREAMS_GROUPS.map(|(key, value)| (key.to_owned(), value.to_owned())).to_vec(),
            strace: Vec::new(),
            ignore_file_size_signal: false,
            environment: Vec::new(),
        };
        let running = Some(launch.serve()?);
        Ok(Self::Ours { launch: Box::new(launch), port, running })
    }

    pub fn cluster(xtask: &Path, directory: &Path) -> Result<Self> {
        Ok(Self::Cluster { nodes: Nodes::start(xtask, directory)?, lost: None })
    }

    pub fn bootstrap(&self) -> String {
        match self {
            Self::Ours { port, .. } => format!("127.0.0.1:{port}"),
            Self::Cluster { nodes, .. } => nodes.bootstrap.clone(),
        }
    }

    /// Whether members of streams groups that are gone are found within a round.
    pub fn has_short_sessions(&self) -> bool {
        matches!(self, Self::Ours { .. })
    }

    pub fn is_whole(&self) -> bool {
        match self {
            Self::Ours { running, .. } => running.is_some(),
            Self::Cluster { lost, .. } => lost.is_none(),
        }
    }

    /// `kill -9`, or for a while SIGSTOP; what was done, in a word.
    pub fn lose(&mut self, random: &mut StdRng) -> Result<&'static str> {
        match self {
            Self::Ours { running, .. } => {
                running.take().context("the broker is away already")?.kill()?;
                Ok("kill the broker")
            }
            Self::Cluster { nodes, lost } => {
                let node = random.random_range(1..=COUNT);
                let action = if random.random_bool(0.3) { "pause" } else { "kill" };
                nodes.wait_in_sync()?;
                nodes.act(action, node)?;
                *lost = Some(node);
                Ok(if action == "kill" { "kill a node" } else { "pause a node" })
            }
        }
    }

    pub fn restore(&mut self) -> Result<()> {
        match self {
            Self::Ours { launch, running, .. } if running.is_none() => {
                let begun = Instant::now();
                *running = loop {
                    match launch.start()? {
                        Started::Ready(broker) => break Some(broker),
                        Started::Ended { .. } if begun.elapsed() < PORT_PATIENCE => {
                            std::thread::sleep(Duration::from_millis(100));
                        }
                        Started::Ended { status, stderr } => {
                            bail!("the broker does not start: {status}: {stderr}")
                        }
                    }
                };
            }
            Self::Ours { .. } => {}
            Self::Cluster { nodes, lost } => {
                if let Some(node) = lost.take() {
                    nodes.act("restart", node)?;
                }
            }
        }
        Ok(())
    }
}
