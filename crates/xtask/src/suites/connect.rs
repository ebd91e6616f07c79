//! Apache Kafka Connect: two workers in a group, a source with exactly-once and a sink, of which one worker is killed.
//!
//! The connectors are Kafka's own verifiable ones: each task of the source writes 0, 1, 2 … under its own number.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::ledger::Outcome;
use super::{Choice, Ran, servers};
use crate::bench::process::{self, Owned};
use crate::bench::server::Server;
use crate::kafka;

const SUITE: &str = "connect";
const TEST: &str = "exactly-once-killed";
const TOPIC: &str = "verified";
const PARTITIONS: u32 = 4;
/// So many offsets must be committed before a worker is killed, and so many after. A transaction of the source may have a
/// single record, so that up to half of them are markers.
const EACH: u64 = 1000;
const PATIENCE: Duration = Duration::from_secs(180);

pub fn run(choice: &Choice) -> Result<Vec<Ran>> {
    let (jars, log4j) = (kafka::connect()?, kafka::connect()?.join("log4j2.properties"));
    let work = servers::work(SUITE, choice.side())?;
    servers::build(choice)?;
    let begun = Instant::now();
    let server = servers::start(choice, &work, &[("num.partitions", "4")])?;
    server.create_topic(TOPIC, PARTITIONS, &[])?;
    let cluster = Cluster { jars, log4j, dir: work.clone(), server: &server };
    let outcome = match cluster.play() {
        Ok(()) => Outcome::Passed,
        Err(error) => {
            eprintln!("         {error:#}; see {}", work.display());
            Outcome::Failed
        }
    };
    server.stop()?;
    let seconds = begun.elapsed().as_secs();
    eprintln!("{:8} {seconds:4} s  {TEST}  {}", outcome.word(), work.display());
    Ok(vec![Ran { test: TEST.to_owned(), outcome, seconds }])
}

struct Cluster<'a> {
    jars: PathBuf,
    log4j: PathBuf,
    dir: PathBuf,
    server: &'a Server,
}

struct Worker {
    process: Owned,
    port: u16,
}

impl Cluster<'_> {
    fn play(&self) -> Result<()> {
        let (first, second) = (self.worker("first")?, self.worker("second")?);
        for worker in [&first, &second] {
            wait("a worker does not serve", || {
                Ok(worker.ask("GET", "/", "").is_ok_and(|(code, _)| code == 200))
            })?;
        }
        let tools = "org.apache.kafka.connect.tools";
        let source = format!(
            r#"{{"connector.class":"{tools}.VerifiableSourceConnector","tasks.max":"2","topic":"{TOPIC}","throughput":"300"}}"#
        );
        let sink = format!(
            r#"{{"connector.class":"{tools}.VerifiableSinkConnector","tasks.max":"1","topics":"{TOPIC}"}}"#
        );
        for (name, config) in [("source", source), ("sink", sink)] {
            // A group that is still forming answers with a conflict.
            let mut last = String::new();
            let made = wait("no worker takes a connector", || {
                let answer = first.ask("PUT", &format!("/connectors/{name}/config"), &config);
                last = format!("{answer:?}");
                Ok(answer.is_ok_and(|(code, _)| code == 200 || code == 201))
            });
            made.with_context(|| format!("{name}: {last}"))?;
        }
        self.through(EACH)?;
        let before = self.committed();
        process::signal(first.process.pid(), "KILL")?;
        self.through(before + EACH)?;
        let (code, body) = second.ask("GET", "/connectors/source/status", "")?;
        if code != 200 || body.contains("FAILED") {
            bail!("the source is not well after the other worker's death: {body}");
        }
        second.ask("DELETE", "/connectors/source", "")?;
        self.verify()
    }

    fn worker(&self, name: &str) -> Result<Worker> {
        let port = kafka::free_port()?;
        let converter = "org.apache.kafka.connect.json.JsonConverter";
        let mut text = format!(
            "bootstrap.servers={}\ngroup.id=connect-cluster\nlisteners=HTTP://127.0.0.1:{port}\n\
             rest.advertised.host.name=127.0.0.1\nexactly.once.source.support=enabled\n\
             session.timeout.ms=6000\nheartbeat.interval.ms=1000\nscheduled.rebalance.max.delay.ms=2000\n\
             offset.flush.interval.ms=500\n",
            self.server.bootstrap
        );
        for side in ["key", "value"] {
            text += &format!("{side}.converter={converter}\n{side}.converter.schemas.enable=false\n");
        }
        for storage in ["offset", "config", "status"] {
            text += &format!(
                "{storage}.storage.topic=connect-{storage}\n{storage}.storage.replication.factor=1\n"
            );
        }
        let file = self.dir.join(format!("{name}.properties"));
        fs::write(&file, text).with_context(|| format!("writing {}", file.display()))?;
        let output = File::create(self.dir.join(format!("{name}.log")))?;
        let mut java = self.java("org.apache.kafka.connect.cli.ConnectDistributed");
        java.arg(&file).stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output);
        Ok(Worker { process: Owned::spawn(&mut java)?, port })
    }

    fn java(&self, class: &str) -> Command {
        let mut java = process::tied("java");
        java.arg(format!("-Dlog4j2.configurationFile={}", self.log4j.display()));
        java.args(["-Xmx384m", "-cp", &format!("{}/*", self.jars.display()), class]);
        java
    }

    /// What the sink has taken and committed.
    fn committed(&self) -> u64 {
        self.server.committed("connect-sink", TOPIC, PARTITIONS).unwrap_or(0)
    }

    fn through(&self, count: u64) -> Result<()> {
        wait(&format!("the sink has not committed {count} offsets"), || Ok(self.committed() >= count))
    }

    /// Each task's numbers are there from 0 on, each once and in order, for who reads what is committed.
    fn verify(&self) -> Result<()> {
        let said = self.dir.join("records.txt");
        let mut reader = self.java("org.apache.kafka.tools.consumer.ConsoleConsumer");
        reader.args(["--bootstrap-server", &self.server.bootstrap, "--topic", TOPIC, "--from-beginning"]);
        reader.args(["--isolation-level", "read_committed", "--formatter-property", "print.key=true"]);
        reader.args(["--timeout-ms", "8000"]).stdin(Stdio::null());
        reader.stdout(File::create(&said)?).stderr(File::create(self.dir.join("reader.log"))?);
        Owned::spawn(&mut reader)?.finish(PATIENCE)?;
        let text = fs::read_to_string(&said)?;
        let mut next: BTreeMap<&str, u64> = BTreeMap::new();
        // The consumer's log goes the same way: in the end it says that there is nothing more.
        for (task, number) in text.lines().filter_map(record) {
            let expected = next.entry(task).or_default();
            if number != *expected {
                bail!("task {task} wrote {number} where {expected} should be");
            }
            *expected += 1;
        }
        let count: u64 = next.values().sum();
        if next.len() != 2 || count < EACH {
            bail!("{count} records of {} tasks, not {EACH} of 2", next.len());
        }
        eprintln!("         {count} records of 2 tasks, each once and in order");
        Ok(())
    }
}

/// The task and its number.
fn record(line: &str) -> Option<(&str, u64)> {
    let (task, number) = line.split_once('\t')?;
    Some((task, number.parse().ok()?))
}

impl Worker {
    /// Code and body of an answer.
    fn ask(&self, method: &str, path: &str, body: &str) -> Result<(u16, String)> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port))?;
        stream.set_read_timeout(Some(Duration::from_secs(30)))?;
        write!(
            stream,
            "{method} {path} HTTP/1.0\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        )?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        let code = answer.split(' ').nth(1).and_then(|code| code.parse().ok()).context("no HTTP answer")?;
        Ok((code, answer.split_once("\r\n\r\n").map_or(String::new(), |(_, body)| body.to_owned())))
    }
}

fn wait(what: &str, mut holds: impl FnMut() -> Result<bool>) -> Result<()> {
    let begun = Instant::now();
    while !holds()? {
        if begun.elapsed() > PATIENCE {
            bail!("{what} within {} s", PATIENCE.as_secs());
        }
        std::thread::sleep(Duration::from_millis(200));
    }
    Ok(())
}
