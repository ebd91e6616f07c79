//! The cluster's nodes, through `cargo xtask kafka`, and what they say of themselves.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use headwater_wire::messages::describe_quorum_request::{PartitionData, TopicData};
use headwater_wire::messages::{DescribeQuorumRequestData, MetadataRequestData};

use crate::kafka::{Connection, Power};

pub const COUNT: usize = 3;
const TIMEOUT: Duration = Duration::from_secs(5);
const PATIENCE: Duration = Duration::from_secs(90);

pub struct Nodes {
    xtask: PathBuf,
    directory: PathBuf,
    pub bootstrap: String,
}

impl Nodes {
    pub fn start(xtask: &Path, directory: &Path) -> Result<Self> {
        let mut nodes =
            Self { xtask: xtask.to_owned(), directory: directory.join("kafka"), bootstrap: String::new() };
        nodes.bootstrap = nodes.kafka(&["start", "--nodes", &COUNT.to_string()])?;
        Ok(nodes)
    }

    fn kafka(&self, arguments: &[&str]) -> Result<String> {
        let mut command = Command::new(&self.xtask);
        command.arg("kafka").args(arguments).arg("--dir").arg(&self.directory);
        let output = command.output().with_context(|| format!("running {}", self.xtask.display()))?;
        if !output.status.success() {
            bail!("xtask kafka {}: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr).trim());
        }
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    }

    pub fn act(&self, action: &str, node: usize) -> Result<()> {
        self.kafka(&[action, &node.to_string()]).map(drop)
    }

    /// The node that leads the controllers.
    pub fn controller(&self) -> Result<usize> {
        let topic = TopicData::default()
            .with_topic_name("__cluster_metadata".to_owned().into())
            .with_partitions(vec![PartitionData::default()]);
        let answer = self.any()?.call(&DescribeQuorumRequestData::default().with_topics(vec![topic]))?;
        let leader = answer.topics.first().and_then(|topic| topic.partitions.first());
        let leader = leader.context("the controllers name no leader")?.leader_id;
        usize::try_from(leader).context("the controllers have no leader")
    }

    fn any(&self) -> Result<Connection> {
        let mut last = None;
        for address in self.bootstrap.split(',') {
            match Connection::open(address, TIMEOUT, &Power::default()) {
                Ok(connection) => return Ok(connection),
                Err(error) => last = Some(error),
            }
        }
        bail!("no node of {} answers: {last:?}", self.bootstrap)
    }

    /// Waits until every replica of every partition is in sync again: only then may another node be lost.
    pub fn wait_in_sync(&self) -> Result<()> {
        let begun = Instant::now();
        loop {
            let behind = self.behind();
            if matches!(behind, Ok(0)) {
                return Ok(());
            }
            if begun.elapsed() > PATIENCE {
                bail!("after {PATIENCE:?} partitions are not in sync: {behind:?}");
            }
            std::thread::sleep(Duration::from_millis(250));
        }
    }

    /// How many partitions lack a replica or a leader.
    fn behind(&self) -> Result<usize> {
        let request = MetadataRequestData::default().with_topics(None).with_allow_auto_topic_creation(false);
        let answer = self.any()?.call(&request)?;
        let partitions = answer.topics.iter().flat_map(|topic| &topic.partitions);
        Ok(partitions.filter(|p| p.leader_id < 0 || p.isr_nodes.len() < p.replica_nodes.len()).count())
    }
}

impl Drop for Nodes {
    fn drop(&mut self) {
        if let Err(error) = self.kafka(&["stop"]) {
            eprintln!("faults: {error:#}");
        }
    }
}
