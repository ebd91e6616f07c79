//! Go's clients of Kafka, each with a program that uses it as services do, and the own tests of two of them.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::ledger::Outcome;
use super::{Choice, Ran, programs, servers};
use crate::bench::process::{self, Owned};
use crate::bench::server::{Recipe, Side};
use crate::{go, kafka};

const PROGRAMS: [&str; 3] = ["franz", "sarama", "segmentio"];
/// franz-go's own tests that talk to a broker; what they produce and consume is this many records.
const RECORDS: &str = "20000";
const LIMIT: Duration = Duration::from_secs(1_260);
const OF_A_BROKER: &str =
    "Test(Txn|Group|Share|Consume|Issue|Ping|Client_|Pause|Direct|AddRemove|848|Pooling)";

pub fn run(choice: &Choice) -> Result<Vec<Ran>> {
    let home = build()?;
    let program = |name: &str, bootstrap: &str| {
        let mut command = process::tied(&home.join(name).to_string_lossy());
        command.arg(bootstrap);
        command
    };
    let franz = |bootstrap: &str| program("franz", bootstrap);
    let sarama = |bootstrap: &str| program("sarama", bootstrap);
    let segmentio = |bootstrap: &str| program("segmentio", bootstrap);
    programs::run("go", choice, &[("franz", &franz), ("sarama", &sarama), ("segmentio", &segmentio)])
}

/// franz-go's own tests, all at once in one process, each judged by itself.
pub fn own_tests(choice: &Choice) -> Result<Vec<Ran>> {
    let tests = build()?.join("kgo.test");
    let dir = servers::work("franz-go", choice.side())?;
    let server = servers::start(choice, &dir, &[("num.partitions", "4")])?;
    let log = dir.join("tests.log");
    let output = File::create(&log)?;
    let mut command = process::tied(&tests.to_string_lossy());
    command.args(["-test.v", "-test.parallel=4", "-test.timeout=20m", "-test.run", OF_A_BROKER]);
    command.env("KGO_SEEDS", &server.bootstrap).env("KGO_TEST_RF", "1").env("KGO_TEST_RECORDS", RECORDS);
    command.env("KGO_LOG_LEVEL", "none");
    command.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output);
    eprintln!("suites: franz-go's own tests, some minutes; see {}", log.display());
    let _code = Owned::spawn(&mut command)?.finish(LIMIT);
    server.stop()?;
    let ran = outcomes(&fs::read_to_string(&log)?);
    Ok(ran.into_iter().filter(|ran| choice.wants(&ran.test)).collect())
}

/// What Go's test runner says of each test; one that began and has no outcome did not end.
fn outcomes(said: &str) -> Vec<Ran> {
    let mut ran: BTreeMap<&str, (Outcome, u64)> = BTreeMap::new();
    for line in said.lines() {
        let mut words = line.split_whitespace().skip(2);
        let (Some(test), spent) = (words.next(), words.next()) else { continue };
        if test.contains('/') {
            continue;
        }
        let outcome = match line.get(..9) {
            Some("--- PASS:") => Outcome::Passed,
            Some("--- FAIL:") => Outcome::Failed,
            Some("--- SKIP:") => Outcome::Skipped,
            Some("=== RUN  ") => Outcome::Endless,
            _ => continue,
        };
        let seconds = spent.and_then(|spent| spent.strip_prefix('(')?.split('.').next()?.parse().ok());
        ran.insert(test, (outcome, seconds.unwrap_or(0)));
    }
    let one = |(test, (outcome, seconds)): (&str, _)| Ran { test: test.to_owned(), outcome, seconds };
    ran.into_iter().map(one).collect()
}

/// Why this machine cannot run the suite; `None` when it can.
pub fn missing() -> Option<String> {
    let mod_file = include_str!("../../go/go.mod");
    go::missing(mod_file.lines().find_map(|line| line.strip_prefix("go ")).unwrap_or_default())
}

/// segmentio/kafka-go's tests that talk to a broker.
const OF_A_KAFKA_GO: &str = "^Test(Client|Conn|Dialer|Reader|Writer|Batch|ConsumerGroup$|CloseLeaves|AlterUser|DescribeUser|OffsetFetchRequest|ReadPartitions|ReadTruncated)";
/// The first ends the whole process, on both brokers: a helper of it makes a consumer group without a way to connect. The
/// part of the second wants a listener with SASL.
const LEFT_OUT: &str = "^TestReaderConsumerGroup$|^TestWriter$/SASL";
const WRITTEN: &str = "localhost:9092";

/// segmentio/kafka-go's own tests, which have the broker's address written in.
pub fn kafka_go_tests(choice: &Choice) -> Result<Vec<Ran>> {
    build()?;
    let dir = servers::work("kafka-go", choice.side())?;
    let settings = [("num.partitions", "1"), ("message.max.bytes", "200000000")];
    let mut recipe = servers::recipe(choice, &dir, &settings)?;
    let written = written_listener(&recipe)?;
    recipe.properties.extend(written);
    let tests = built_copy("github.com/segmentio/kafka-go", &dir)?;
    let server = recipe.start()?;
    let log = dir.join("tests.log");
    let output = File::create(&log)?;
    let mut command = process::tied(&tests.join("own.test").to_string_lossy());
    command.args(["-test.v", "-test.timeout=20m", "-test.run", OF_A_KAFKA_GO, "-test.skip", LEFT_OUT]);
    command.env("KAFKA_VERSION", kafka::VERSION).env("KAFKA_SKIP_NETTEST", "1").current_dir(&tests);
    command.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output);
    eprintln!("suites: kafka-go's own tests, some minutes; see {}", log.display());
    let _code = Owned::spawn(&mut command)?.finish(LIMIT);
    server.stop()?;
    let ran = outcomes(&fs::read_to_string(&log)?);
    Ok(ran.into_iter().filter(|ran| choice.wants(&ran.test)).collect())
}

/// The settings by which a server is where kafka-go's tests look for it, too, and says so by that name.
fn written_listener(recipe: &Recipe) -> Result<[(String, String); 3]> {
    TcpListener::bind(WRITTEN)
        .with_context(|| format!("kafka-go's tests have {WRITTEN} written in: stop what is there"))?;
    let file = recipe.data.with_file_name("server.properties");
    let known = if recipe.side == Side::Peer { fs::read_to_string(file)? } else { String::new() };
    let own = format!("PLAINTEXT://{}", recipe.bootstrap);
    let with = |key: &str, own: &str, more: &str| {
        let known = known.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
        (key.to_owned(), format!("{},{more}", known.unwrap_or(own)))
    };
    let listener = format!("WRITTEN://{WRITTEN}");
    Ok([
        with("listeners", &own, &listener),
        with("advertised.listeners", &own, &listener),
        with("listener.security.protocol.map", "PLAINTEXT:PLAINTEXT", "WRITTEN:PLAINTEXT"),
    ])
}

/// A copy of a module below `dir`, for Go's own is read-only, with the tests of its first package built as `own.test`.
fn built_copy(module: &str, dir: &Path) -> Result<PathBuf> {
    let mut list = Command::new("go");
    list.args(["list", "-m", "-f", "{{.Dir}}", module]).current_dir(source()).env("GOTOOLCHAIN", "local");
    let listed = list.output().context("running go")?;
    let found = String::from_utf8_lossy(&listed.stdout).trim().to_owned();
    if found.is_empty() {
        bail!("go has not got {module}: {}", String::from_utf8_lossy(&listed.stderr));
    }
    let copy = dir.join("module");
    let copied = Command::new("cp").args(["-r", "--no-preserve=mode", &found]).arg(&copy).status();
    if !copied.context("running cp")?.success() {
        bail!("{found} could not be copied to {}", copy.display());
    }
    build_one(&copy, &["test", "-mod=mod", "-c", "-o"], &copy.join("own.test"), ".")?;
    Ok(copy)
}

/// The programs and the tests, built in the cache; Go knows what is up to date.
fn build() -> Result<PathBuf> {
    if let Some(missing) = missing() {
        bail!("{missing}");
    }
    let home = kafka::cache().join("suites-go");
    let source = source();
    for program in PROGRAMS {
        build_one(&source, &["build", "-o"], &home.join(program), &format!("./{program}"))?;
    }
    let tests = "github.com/twmb/franz-go/pkg/kgo";
    build_one(&source, &["test", "-c", "-o"], &home.join("kgo.test"), tests)?;
    Ok(home)
}

fn source() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("go")
}

fn build_one(source: &Path, what: &[&str], to: &Path, package: &str) -> Result<()> {
    let mut go = Command::new("go");
    go.args(what).arg(to).arg(package).current_dir(source).env("GOTOOLCHAIN", "local");
    if !go.status().context("running go")?.success() {
        bail!("go could not build {package}: see what it said above");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_of_gos_tests_is_judged_by_itself() {
        let said = "=== RUN   TestA\n=== RUN   TestB\n=== RUN   TestB/part\n=== PAUSE TestB\n=== CONT  TestB\n\
                    --- PASS: TestA (2.70s)\n    --- FAIL: TestB/part (1.00s)\n=== RUN   TestC\n--- FAIL: TestC (0.02s)\n";
        let ran: Vec<_> =
            outcomes(said).into_iter().map(|ran| (ran.test, ran.outcome, ran.seconds)).collect();
        let row = |test: &str, outcome, seconds| (test.to_owned(), outcome, seconds);
        let wanted = [
            row("TestA", Outcome::Passed, 2),
            row("TestB", Outcome::Endless, 0),
            row("TestC", Outcome::Failed, 0),
        ];
        assert_eq!(ran, wanted);
    }
}
