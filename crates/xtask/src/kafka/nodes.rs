//! Several nodes of Apache Kafka in one directory, each broker and controller: started together, and killed, paused
//! and started again one by one.
//!
//! ```text
//! DIR/bootstrap         every node's address
//! DIR/node-1/           server.properties, kafka.log, pid, data/
//! ```

use std::fs::{self, OpenOptions};
use std::net::TcpListener;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::{START_LIMIT, fetch, java, running};

/// Little memory, and code compiled quickly rather than well: three nodes share a machine with what is tested.
const JVM: [&str; 4] = ["-Xms128m", "-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"];
const STARTED: &str = "Kafka Server started";

/// Where a cluster lives unless `--dir` says otherwise.
pub fn default_dir() -> PathBuf {
    std::env::temp_dir().join("headwater-kafka-cluster")
}

pub fn is_cluster(dir: &Path) -> bool {
    dir.join("node-1").is_dir()
}

/// Starts `count` nodes and returns their addresses, separated by commas, once all of them serve. A directory that has
/// nodes already resumes with those.
pub fn start(dir: &Path, count: usize) -> Result<String> {
    let jars = fetch()?;
    fs::create_dir_all(dir).with_context(|| format!("creating {}", dir.display()))?;
    let dir = dir.canonicalize()?;
    if !dir.join("bootstrap").exists() {
        prepare(&dir, &jars, count)?;
    }
    let nodes = nodes(&dir)?;
    if nodes.len() != count {
        bail!("{} has {} nodes, not {count}; give another --dir, or remove it", dir.display(), nodes.len());
    }
    if let Some(pid) = nodes.iter().find_map(|node| running(node)) {
        bail!("a node of {} is running already (process {pid}); see `cargo xtask kafka stop`", dir.display());
    }
    let begun = nodes.iter().map(|node| spawn(node, &jars)).collect::<Result<Vec<_>>>()?;
    for (node, from) in nodes.iter().zip(begun) {
        wait(node, from)?;
    }
    Ok(fs::read_to_string(dir.join("bootstrap"))?)
}

/// `kill -9`, without a word to the others.
pub fn kill(dir: &Path, number: usize) -> Result<()> {
    let (node, pid) = running_node(dir, number)?;
    signal("-9", pid)?;
    while running(&node).is_some() {
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

/// The process stops where it is, and its connections stay.
pub fn pause(dir: &Path, number: usize) -> Result<()> {
    signal("-STOP", running_node(dir, number)?.1)
}

/// Starts a node that is not running, or lets one go on that was paused; returns once it serves.
pub fn restart(dir: &Path, number: usize) -> Result<()> {
    let node = node(dir, number)?;
    match running(&node) {
        Some(pid) => signal("-CONT", pid),
        None => {
            let from = spawn(&node, &fetch()?)?;
            wait(&node, from)
        }
    }
}

pub fn stop(dir: &Path) -> Result<()> {
    let nodes = nodes(&dir.canonicalize()?)?;
    for pid in nodes.iter().filter_map(|node| running(node)) {
        // One that is paused hears nothing else.
        signal("-CONT", pid)?;
        signal("-TERM", pid)?;
    }
    let begun = Instant::now();
    while let Some(pid) = nodes.iter().find_map(|node| running(node)) {
        if begun.elapsed() > Duration::from_secs(10) {
            signal("-9", pid)?;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}

fn nodes(dir: &Path) -> Result<Vec<PathBuf>> {
    let numbered = (1..).map(|number| dir.join(format!("node-{number}"))).take_while(|node| node.is_dir());
    let nodes: Vec<PathBuf> = numbered.collect();
    match nodes.is_empty() {
        true => {
            bail!("there is no cluster in {}; `cargo xtask kafka start --nodes 3` makes one", dir.display())
        }
        false => Ok(nodes),
    }
}

fn node(dir: &Path, number: usize) -> Result<PathBuf> {
    let nodes = nodes(&dir.canonicalize().with_context(|| format!("there is no {}", dir.display()))?)?;
    let count = nodes.len();
    let found = number.checked_sub(1).and_then(|index| nodes.into_iter().nth(index));
    found.with_context(|| format!("the nodes of {} are 1 to {count}, not {number}", dir.display()))
}

fn running_node(dir: &Path, number: usize) -> Result<(PathBuf, u32)> {
    let node = node(dir, number)?;
    let pid = running(&node).with_context(|| format!("node {number} of {} is not running", dir.display()))?;
    Ok((node, pid))
}

fn signal(signal: &str, pid: u32) -> Result<()> {
    let status = Command::new("kill").args([signal, &pid.to_string()]).status().context("running kill")?;
    match status.success() {
        true => Ok(()),
        false => bail!("process {pid} took no signal {signal}"),
    }
}

/// Starts the process; returns how long its log was before.
fn spawn(node: &Path, jars: &Path) -> Result<u64> {
    let log = OpenOptions::new().create(true).append(true).open(node.join("kafka.log"))?;
    let before = log.metadata()?.len();
    let mut command = java(jars);
    command.args(JVM).arg("kafka.Kafka").arg(node.join("server.properties"));
    command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).process_group(0);
    let child = command.spawn().context("starting java")?;
    fs::write(node.join("pid"), child.id().to_string())?;
    Ok(before)
}

fn wait(node: &Path, from: u64) -> Result<()> {
    let (begun, log) = (Instant::now(), node.join("kafka.log"));
    loop {
        let said = fs::read(&log)?;
        if String::from_utf8_lossy(said.get(from as usize..).unwrap_or_default()).contains(STARTED) {
            return Ok(());
        }
        if running(node).is_none() && begun.elapsed() > Duration::from_secs(2) {
            bail!("a node of Apache Kafka ended; see {}", log.display());
        }
        if begun.elapsed() > START_LIMIT {
            bail!(
                "a node of Apache Kafka did not serve after {} s; see {}",
                START_LIMIT.as_secs(),
                log.display()
            );
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn prepare(dir: &Path, jars: &Path, count: usize) -> Result<()> {
    // All at once, so that no port is given twice.
    let held = (0..2 * count).map(|_| TcpListener::bind("127.0.0.1:0")).collect::<Result<Vec<_>, _>>()?;
    let ports = held.iter().map(|port| Ok(port.local_addr()?.port())).collect::<Result<Vec<u16>>>()?;
    drop(held);
    let (brokers, controllers) = ports.split_at(count);
    let voters: Vec<String> =
        (1..).zip(controllers).map(|(id, port)| format!("{id}@127.0.0.1:{port}")).collect();
    for (index, (port, controller)) in brokers.iter().zip(controllers).enumerate() {
        let node = dir.join(format!("node-{}", index + 1));
        fs::create_dir_all(&node)?;
        let settings = node.join("server.properties");
        fs::write(&settings, properties(&node, index + 1, [*port, *controller], &voters.join(",")))?;
        let formatted = java(jars)
            .args(["kafka.tools.StorageTool", "format", "-t", "aGVhZHdhdGVyLXh0YXNrMw", "-c"])
            .arg(&settings)
            .output()
            .context("running Kafka's storage tool")?;
        if !formatted.status.success() {
            fs::remove_dir_all(&node)?;
            bail!("formatting {}: {}", node.display(), String::from_utf8_lossy(&formatted.stderr));
        }
    }
    let bootstrap: Vec<String> = brokers.iter().map(|port| format!("127.0.0.1:{port}")).collect();
    fs::write(dir.join("bootstrap"), bootstrap.join(","))?;
    Ok(())
}

/// Everything is kept three times, and written at least twice before it is acknowledged. A node that is silent for 6 s
/// counts as lost (Kafka's default is 9 s), and leaders return to a node soon after it does.
fn properties(node: &Path, id: usize, [port, controller]: [u16; 2], voters: &str) -> String {
    format!(
        "process.roles=broker,controller\n\
         node.id={id}\n\
         controller.quorum.voters={voters}\n\
         listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}\n\
         advertised.listeners=PLAINTEXT://127.0.0.1:{port}\n\
         controller.listener.names=CONTROLLER\n\
         listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT\n\
         log.dirs={}\n\
         default.replication.factor=3\n\
         min.insync.replicas=2\n\
         unclean.leader.election.enable=false\n\
         offsets.topic.replication.factor=3\n\
         offsets.topic.num.partitions=4\n\
         transaction.state.log.replication.factor=3\n\
         transaction.state.log.min.isr=2\n\
         transaction.state.log.num.partitions=4\n\
         share.coordinator.state.topic.replication.factor=3\n\
         share.coordinator.state.topic.min.isr=2\n\
         group.initial.rebalance.delay.ms=0\n\
         broker.session.timeout.ms=6000\n\
         broker.heartbeat.interval.ms=1000\n\
         leader.imbalance.check.interval.seconds=5\n\
         transaction.abort.timed.out.transaction.cleanup.interval.ms=1000\n\
         num.network.threads=2\n\
         num.io.threads=4\n",
        node.join("data").display()
    )
}
