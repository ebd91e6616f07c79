//! Apache Kafka's own smoke test of Kafka Streams: an application that joins, windows and aggregates what a driver
//! produces, while the driver verifies every result.

use std::collections::HashMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::ledger::Outcome;
use super::{Choice, Ran, servers};
use crate::bench::process::{self, Owned};
use crate::kafka;

const SUITE: &str = "streams";
const CLASS: &str = "org.apache.kafka.streams.tests.StreamsSmokeTest";
const LIMIT: Duration = Duration::from_secs(240);
const PARTITIONS: i32 = 5;
/// What the application and its driver read and write.
const TOPICS: [&str; 15] = [
    "echo",
    "data",
    "fk",
    "min",
    "min-suppressed",
    "min-raw",
    "max",
    "sum",
    "sws-raw",
    "sws-suppressed",
    "dif",
    "cnt",
    "avg",
    "wcnt",
    "tagg",
];

struct Case {
    name: &'static str,
    guarantee: &'static str,
    /// The application is killed while it works, and another takes its place.
    killed: bool,
    /// `classic`, or `streams` for the protocol of KIP-1071.
    protocol: &'static str,
}

const fn case(name: &'static str, guarantee: &'static str, killed: bool, protocol: &'static str) -> Case {
    Case { name, guarantee, killed, protocol }
}

const CASES: [Case; 5] = [
    case("smoke-at-least-once", "at_least_once", false, "classic"),
    case("smoke-exactly-once", "exactly_once_v2", false, "classic"),
    case("smoke-exactly-once-killed", "exactly_once_v2", true, "classic"),
    case("smoke-protocol-streams", "exactly_once_v2", false, "streams"),
    case("smoke-protocol-streams-killed", "exactly_once_v2", true, "streams"),
];

pub fn run(choice: &Choice) -> Result<Vec<Ran>> {
    let jars = kafka::streams()?;
    let work = servers::work(SUITE, choice.side())?;
    servers::build(choice)?;
    let mut ran = Vec::new();
    for case in CASES.iter().filter(|case| choice.wants(case.name)) {
        let dir = work.join(case.name);
        fs::create_dir_all(&dir)?;
        let begun = Instant::now();
        let outcome = judge(choice, case, &jars, &dir)?;
        let seconds = begun.elapsed().as_secs();
        eprintln!("{:8} {seconds:4} s  {}  {}", outcome.word(), case.name, dir.display());
        ran.push(Ran { test: case.name.to_owned(), outcome, seconds });
    }
    Ok(ran)
}

fn judge(choice: &Choice, case: &Case, jars: &Path, dir: &Path) -> Result<Outcome> {
    let server = servers::start(choice, dir, &[("num.partitions", "4")])?;
    for topic in TOPICS {
        server.create_topic(topic, PARTITIONS as u32, &[])?;
    }
    let smoke = Smoke { jars, dir, bootstrap: &server.bootstrap, case };
    let mut application = smoke.start("process", "first")?;
    let mut driver = smoke.start("run", "driver")?;
    if case.killed {
        smoke.wait_until_it_works("first")?;
        process::signal(application.pid(), "KILL")?;
        let _ = application.finish(LIMIT);
        application = smoke.start("process", "second")?;
    }
    let ended = driver.finish(LIMIT);
    drop(application);
    let said = fs::read_to_string(smoke.log("driver"))?;
    server.stop()?;
    Ok(match ended {
        Ok(_) if said.contains("\nSUCCESS") => Outcome::Passed,
        Ok(_) => Outcome::Failed,
        Err(_) => Outcome::Endless,
    })
}

struct Smoke<'a> {
    jars: &'a Path,
    dir: &'a Path,
    bootstrap: &'a str,
    case: &'a Case,
}

impl Smoke<'_> {
    fn log(&self, name: &str) -> PathBuf {
        self.dir.join(format!("{name}.log"))
    }

    fn start(&self, command: &str, name: &str) -> Result<Owned> {
        let mut settings = HashMap::from([
            ("bootstrap.servers", self.bootstrap.to_owned()),
            ("state.dir", self.dir.join(format!("state-{name}")).display().to_string()),
            ("processing.guarantee", self.case.guarantee.to_owned()),
            ("group.id", "SmokeTest".to_owned()),
            ("group.protocol", self.case.protocol.to_owned()),
        ]);
        if self.case.protocol == "classic" {
            // With the other protocol the broker says how long a member may be silent.
            settings.insert("session.timeout.ms", "10000".to_owned());
        }
        let lines: Vec<String> = settings.iter().map(|(key, value)| format!("{key}={value}\n")).collect();
        let file = self.dir.join(format!("{name}.properties"));
        fs::write(&file, lines.concat()).with_context(|| format!("writing {}", file.display()))?;
        let output = File::create(self.log(name))?;
        let mut java: Command = process::tied("java");
        java.args(["-Xmx512m", "-cp", &format!("{}/*", self.jars.display()), CLASS]).arg(&file).arg(command);
        java.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output);
        Owned::spawn(&mut java)
    }

    fn wait_until_it_works(&self, name: &str) -> Result<()> {
        let begun = Instant::now();
        while begun.elapsed() < LIMIT {
            if fs::read_to_string(self.log(name))?.contains("processed ") {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        bail!("the application processed nothing within {} s", LIMIT.as_secs())
    }
}
