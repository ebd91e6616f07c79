//! The cluster's nodes, through `cargo xtask kafka`, and what they say of themselves.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use headwater_wire::messages::describe_quorum_request::{PartitionData, TopicData};
use headwater_wire::messages::{DescribeQuorumRequestData, MetadataRequestData, MetadataRequestTopic};

use crate::kafka::{Connection, Power};

pub const COUNT: usize = 3;
const TIMEOUT: Duration = Duration::from_secs(5);
const PATIENCE: Duration = Duration::from_secs(90);

pub struct Nodes {
    xtask: PathBuf,
    directory: PathBuf,
    pub bootstrap: String,
}

/// Who has the only partition of a topic.
#[derive(Debug, PartialEq, Eq)]
pub struct Placement {
    pub leader: usize,
    pub in_sync: Vec<usize>,
    pub replicas: Vec<usize>,
}

impl Placement {
    /// A replica that does not lead.
    pub fn other(&self) -> Option<usize> {
        self.replicas.iter().copied().find(|node| *node != self.leader)
    }
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

    /// As any node that answers knows it.
    ///
    /// # Errors
    /// Also while the partition has no leader.
    pub fn placement(&self, topic: &str) -> Result<Placement> {
        let wanted = MetadataRequestTopic::default().with_name(Some(topic.to_owned().into()));
        let request = MetadataRequestData::default()
            .with_topics(Some(vec![wanted]))
            .with_allow_auto_topic_creation(false);
        let answer = self.any()?.call(&request)?;
        let partition = answer.topics.first().and_then(|topic| topic.partitions.first());
        let partition = partition.with_context(|| format!("the topic {topic} is not there"))?;
        let number = |node: &i32| usize::try_from(*node).context("the partition has no leader");
        let numbers = |nodes: &[i32]| nodes.iter().map(number).collect::<Result<Vec<_>>>();
        Ok(Placement {
            leader: number(&partition.leader_id)?,
            in_sync: numbers(&partition.isr_nodes)?,
            replicas: numbers(&partition.replica_nodes)?,
        })
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
