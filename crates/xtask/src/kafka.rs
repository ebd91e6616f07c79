//! One node of Apache Kafka from Maven Central's jars: fetch, format, start, stop. Several are in `kafka/nodes.rs`.

pub mod nodes;

pub mod secure;

use std::fs::{self, File};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

const POM: &str = include_str!("../kafka/pom.xml");
const TOOLS_POM: &str = include_str!("../kafka/tools-pom.xml");
const CONNECT_POM: &str = include_str!("../kafka/connect-pom.xml");
const STREAMS_POM: &str = include_str!("../kafka/streams-pom.xml");
const STREAMS_DRIVER_POM: &str = include_str!("../kafka/streams-driver-pom.xml");
const LOGGING: &str = include_str!("../kafka/log4j2.properties");
pub const VERSION: &str = "4.3.1";
const START_LIMIT: Duration = Duration::from_secs(90);

/// Where a node lives unless `--dir` says otherwise.
pub fn default_dir() -> PathBuf {
    std::env::temp_dir().join("headwater-kafka")
}

/// What is missing to run Apache Kafka here, with the way to get it.
pub fn missing() -> Option<&'static str> {
    let runs = |program: &str, flag: &str| {
        Command::new(program)
            .arg(flag)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .is_ok_and(|status| status.success())
    };
    if !runs("java", "-version") {
        return Some(
            "Java 17 or later is not installed (Debian: apt-get install default-jre-headless maven)",
        );
    }
    if !jars().join(".complete").exists() && !runs("mvn", "-version") {
        return Some("Maven is not installed (Debian: apt-get install maven)");
    }
    None
}

/// Where fetched tools are kept between runs, outside the repository.
pub fn cache() -> PathBuf {
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let cache = cache.or_else(|| std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache")));
    cache.unwrap_or_else(std::env::temp_dir).join("headwater")
}

/// Where the node's jars are, its clients among them.
pub fn jars() -> PathBuf {
    cache().join(format!("apache-kafka-{VERSION}"))
}

/// The jars of the broker and its own tools.
pub fn fetch() -> Result<PathBuf> {
    fetch_into(jars(), POM)
}

/// The jars of Kafka's command-line tools, fetched once.
pub fn tools() -> Result<PathBuf> {
    fetch_into(cache().join(format!("apache-kafka-tools-{VERSION}")), TOOLS_POM)
}

/// The jars of Kafka Connect and of Kafka's verifiable connectors, fetched once.
pub fn connect() -> Result<PathBuf> {
    fetch_into(cache().join(format!("apache-kafka-connect-{VERSION}")), CONNECT_POM)
}

/// The jars of Kafka Streams and of its tests, fetched once.
pub fn streams() -> Result<PathBuf> {
    fetch_into(cache().join(format!("apache-kafka-streams-{VERSION}")), STREAMS_POM)
}

/// The jars of Kafka Streams and of its test driver, fetched once.
pub fn streams_driver() -> Result<PathBuf> {
    fetch_into(cache().join(format!("apache-kafka-streams-driver-{VERSION}")), STREAMS_DRIVER_POM)
}

/// The jars that `pom` names, fetched once.
pub fn fetch_into(jars: PathBuf, pom_text: &str) -> Result<PathBuf> {
    if jars.join(".complete").exists() {
        return Ok(jars);
    }
    if let Some(reason) = missing() {
        bail!("{reason}");
    }
    eprintln!("xtask: fetching jars from Maven Central into {}", jars.display());
    fs::create_dir_all(&jars).with_context(|| format!("creating {}", jars.display()))?;
    let pom = jars.join("pom.xml");
    fs::write(&pom, pom_text)?;
    fs::write(jars.join("log4j2.properties"), LOGGING)?;
    let status = Command::new("mvn")
        .args(["-q", "-B", "-f"])
        .arg(&pom)
        .arg("dependency:copy-dependencies")
        .arg(format!("-DoutputDirectory={}", jars.display()))
        .stdout(Stdio::inherit())
        .status()
        .context("running mvn (Debian: apt-get install maven)")?;
    if !status.success() {
        bail!("Maven could not fetch what {} names; can Maven reach Maven Central from here?", pom.display());
    }
    fs::write(jars.join(".complete"), "")?;
    Ok(jars)
}

pub fn java(jars: &Path) -> Command {
    let mut java = Command::new("java");
    java.arg(format!("-Dlog4j2.configurationFile={}", jars.join("log4j2.properties").display()))
        .args(["-cp", &format!("{}/*", jars.display())]);
    java
}

pub fn free_port() -> Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

/// A formatted directory, ready to be run as a node.
pub struct Prepared {
    pub jars: PathBuf,
    pub dir: PathBuf,
    pub bootstrap: String,
}

impl Prepared {
    pub fn settings(&self) -> PathBuf {
        self.dir.join("server.properties")
    }

    pub fn log(&self) -> PathBuf {
        self.dir.join("kafka.log")
    }

    /// The node's command; `properties` override those of its file.
    pub fn command(&self, jvm: &[&str], properties: &[(&str, &str)]) -> Result<Command> {
        let output = File::create(self.log())?;
        let mut node = java(&self.jars);
        node.args(jvm).arg("kafka.Kafka").arg(self.settings());
        for (key, value) in properties {
            node.args(["--override", &format!("{key}={value}")]);
        }
        node.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output);
        Ok(node)
    }
}

/// What distinguishes one node from another.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Plain,
    Secured,
    /// With what our tests need.
    Tested,
    /// As Apache Kafka was before KIP-890: `transaction.version` is 1.
    OldTransactions,
}

impl Kind {
    /// What the storage tool is told beside the usual.
    fn format_arguments(self) -> Vec<String> {
        match self {
            Self::Plain | Self::Tested => Vec::new(),
            Self::Secured => secure::format_arguments(),
            Self::OldTransactions => vec!["--feature".to_owned(), "transaction.version=1".to_owned()],
        }
    }
}

/// Writes the settings of `dir` and formats it; a directory that is formatted already is kept as it is.
pub fn prepare(dir: &Path, port: u16) -> Result<Prepared> {
    prepare_as(dir, port, Kind::Plain)
}

fn prepare_as(dir: &Path, port: u16, kind: Kind) -> Result<Prepared> {
    let jars = fetch()?;
    fs::create_dir_all(dir).with_context(|| format!("creating {}", dir.display()))?;
    let dir = dir.canonicalize()?;
    let settings = dir.join("server.properties");
    let address = dir.join("bootstrap");
    if !settings.exists() {
        let port = if port == 0 { free_port()? } else { port };
        let controller = free_port()?;
        fs::write(&address, format!("127.0.0.1:{port}"))?;
        let text = match kind {
            Kind::Secured => secured_properties(&dir, port, controller)?,
            Kind::Plain | Kind::OldTransactions => properties(&dir, port, controller),
            // The copies that the runtime's `streams_protocol` tests wait for are the broker's to assign.
            Kind::Tested => properties(&dir, port, controller) + "group.streams.num.standby.replicas=1\n",
        };
        fs::write(&settings, text)?;
        let formatted = java(&jars)
            .args(["kafka.tools.StorageTool", "format", "--standalone", "-t", "aGVhZHdhdGVyLXh0YXNrMQ", "-c"])
            .arg(&settings)
            .args(kind.format_arguments())
            .output()
            .context("running Kafka's storage tool")?;
        if !formatted.status.success() {
            fs::remove_file(&settings)?;
            bail!("formatting {}: {}", dir.display(), String::from_utf8_lossy(&formatted.stderr));
        }
    }
    let bootstrap = fs::read_to_string(&address)?;
    Ok(Prepared { jars, dir, bootstrap })
}

/// Starts the node of `dir` and returns its bootstrap address once it serves.
pub fn start(dir: &Path, port: u16) -> Result<String> {
    run(dir, port, Kind::Plain)
}

/// As [`start`], with what the tests of `HEADWATER_TEST_BOOTSTRAP` need.
pub fn start_for_tests(dir: &Path, port: u16) -> Result<String> {
    run(dir, port, Kind::Tested)
}

/// As [`start`], with TLS, SASL and an authorizer; the files of [`secure::WAYS`] in `dir` lead in.
pub fn start_secured(dir: &Path, port: u16) -> Result<String> {
    run(dir, port, Kind::Secured)
}

/// As [`start`], with `transaction.version` 1.
pub fn start_with_old_transactions(dir: &Path, port: u16) -> Result<String> {
    run(dir, port, Kind::OldTransactions)
}

fn run(dir: &Path, port: u16, kind: Kind) -> Result<String> {
    if let Some(pid) = dir.canonicalize().ok().and_then(|dir| running(&dir)) {
        bail!(
            "a node is running in {} already (process {pid}); stop it with `cargo xtask kafka stop`",
            dir.display()
        );
    }
    let prepared = prepare_as(dir, port, kind)?;
    let allowed = secure::jvm(&prepared.dir);
    let log = prepared.log();
    let mut node = prepared.command(&["-Xms512m", "-Xmx1g", &allowed], &[])?;
    std::os::unix::process::CommandExt::process_group(&mut node, 0);
    let mut child = node.spawn().context("starting java")?;
    fs::write(prepared.dir.join("pid"), child.id().to_string())?;
    let begun = Instant::now();
    loop {
        if fs::read_to_string(&log)?.contains("Kafka Server started") {
            return Ok(prepared.bootstrap);
        }
        if let Some(status) = child.try_wait()? {
            bail!("Apache Kafka ended with {status}; see {}", log.display());
        }
        if begun.elapsed() > START_LIMIT {
            child.kill()?;
            bail!("Apache Kafka was not ready after {} s; see {}", START_LIMIT.as_secs(), log.display());
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn properties(dir: &Path, port: u16, controller: u16) -> String {
    format!(
        "listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}\n\
         advertised.listeners=PLAINTEXT://127.0.0.1:{port}\n\
         listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT\n{}",
        common(dir, controller)
    )
}

fn secured_properties(dir: &Path, port: u16, controller: u16) -> Result<String> {
    let (certified, inside) = (free_port()?, free_port()?);
    let clients =
        format!("SASL_SSL://127.0.0.1:{port},SSL://127.0.0.1:{certified},INSIDE://127.0.0.1:{inside}");
    Ok(format!(
        "listeners={clients},CONTROLLER://127.0.0.1:{controller}\n\
         advertised.listeners={clients}\n\
         listener.security.protocol.map=CONTROLLER:PLAINTEXT,INSIDE:PLAINTEXT,SSL:SSL,SASL_SSL:SASL_SSL\n{}{}",
        secure::write(dir, port, certified)?,
        common(dir, controller)
    ))
}

fn common(dir: &Path, controller: u16) -> String {
    format!(
        "process.roles=broker,controller\n\
         node.id=1\n\
         controller.quorum.bootstrap.servers=127.0.0.1:{controller}\n\
         controller.listener.names=CONTROLLER\n\
         log.dirs={}\n\
         default.replication.factor=1\n\
         offsets.topic.replication.factor=1\n\
         offsets.topic.num.partitions=4\n\
         transaction.state.log.replication.factor=1\n\
         transaction.state.log.min.isr=1\n\
         transaction.state.log.num.partitions=4\n\
         group.initial.rebalance.delay.ms=0\n",
        dir.join("data").display()
    )
}

fn running(dir: &Path) -> Option<u32> {
    let pid: u32 = fs::read_to_string(dir.join("pid")).ok()?.trim().parse().ok()?;
    let command = fs::read_to_string(format!("/proc/{pid}/cmdline")).ok()?;
    command.contains("kafka.Kafka").then_some(pid)
}

/// Stops the node of `dir` and waits until it is gone; no node there is no error.
pub fn stop(dir: &Path) -> Result<()> {
    let Ok(dir) = dir.canonicalize() else { return Ok(()) };
    let Some(pid) = running(&dir) else { return Ok(()) };
    Command::new("kill").arg(pid.to_string()).status().context("running kill")?;
    let begun = Instant::now();
    while running(&dir).is_some() {
        if begun.elapsed() > Duration::from_secs(20) {
            Command::new("kill").args(["-9", &pid.to_string()]).status()?;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    Ok(())
}
