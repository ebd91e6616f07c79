//! Apache Kafka's own command-line tools, in the order in which an administrator might use them.
//!
//! A case is a row of command lines, each of which must succeed and say what is expected of it. `{b}` stands for the
//! bootstrap address and `{dir}` for a directory of the run.

use std::fs::{self, File};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::ledger::Outcome;
use super::{Choice, Ran, scripts, servers};
use crate::bench::process::{self, Owned};

const SUITE: &str = "tools";
const LIMIT: Duration = Duration::from_secs(90);

struct Case {
    name: &'static str,
    steps: &'static [Step],
}

/// A command line, what it reads, and what it must print.
struct Step(&'static str, &'static str, &'static [&'static str]);

const fn case(name: &'static str, steps: &'static [Step]) -> Case {
    Case { name, steps }
}

#[rustfmt::skip]
const CASES: [Case; 20] = [
    case("topics", &[
        Step("kafka-topics --bootstrap-server {b} --create --topic records --partitions 1 --config retention.ms=86400000", "", &["Created topic records"]),
        Step("kafka-topics --bootstrap-server {b} --create --topic copies --partitions 2", "", &["Created topic copies"]),
        Step("kafka-topics --bootstrap-server {b} --alter --topic copies --partitions 3", "", &[]),
        Step("kafka-topics --bootstrap-server {b} --describe --topic copies", "", &["PartitionCount: 3", "ReplicationFactor: 1", "Isr: 1"]),
        Step("kafka-topics --bootstrap-server {b} --list", "", &["copies", "records"]),
        Step("kafka-topics --bootstrap-server {b} --describe --under-replicated-partitions", "", &[]),
    ]),
    case("verifiable-producer", &[
        Step("kafka-verifiable-producer --bootstrap-server {b} --topic records --max-messages 1000 --acks -1", "", &["\"acked\":1000"]),
    ]),
    case("verifiable-consumer", &[
        Step("kafka-verifiable-consumer --bootstrap-server {b} --topic records --group-id verified --max-messages 1000 --reset-policy earliest", "", &["partitions_assigned", "\"count\":", "shutdown_complete"]),
    ]),
    case("verifiable-consumer-of-kip-848", &[
        Step("kafka-verifiable-consumer --bootstrap-server {b} --topic records --group-id verified-848 --group-protocol consumer --max-messages 1000 --reset-policy earliest", "", &["partitions_assigned", "\"count\":", "offsets_committed", "shutdown_complete"]),
        Step("kafka-consumer-groups --bootstrap-server {b} --describe --group verified-848", "", &["records", "1000"]),
    ]),
    case("verifiable-share-consumer", &[
        Step("kafka-verifiable-share-consumer --bootstrap-server {b} --topic records --group-id sharers --max-messages 1000 --acknowledgement-mode sync --offset-reset-strategy earliest", "", &["records_consumed", "offsets_acknowledged", "shutdown_complete"]),
        Step("kafka-share-groups --bootstrap-server {b} --describe --group sharers", "", &["sharers", "records"]),
        Step("kafka-share-groups --bootstrap-server {b} --describe --group sharers --state", "", &["Empty"]),
        Step("kafka-share-groups --bootstrap-server {b} --list", "", &["sharers"]),
        Step("kafka-share-groups --bootstrap-server {b} --reset-offsets --group sharers --topic records --to-earliest --execute", "", &["records"]),
        Step("kafka-share-groups --bootstrap-server {b} --delete --group sharers", "", &["successful"]),
    ]),
    case("transactional-message-copier", &[
        Step("kafka-transactional-copier --broker-list {b} --input-topic records --input-partition 0 --output-topic copies --consumer-group copier --transactional-id copier --transaction-size 100 --max-messages 1000 --enable-random-aborts --group-mode", "", &["\"remaining\":0", "ShutdownComplete"]),
        Step("kafka-console-consumer --bootstrap-server {b} --topic copies --from-beginning --isolation-level read_committed --max-messages 1000 --timeout-ms 30000", "", &["Processed a total of 1000 messages"]),
    ]),
    case("transactions-of-version-1", &[
        Step("kafka-features --bootstrap-server {b} downgrade --feature transaction.version=1", "", &["downgraded to 1"]),
        Step("kafka-transactional-copier --broker-list {b} --input-topic records --input-partition 0 --output-topic copies-of-1 --consumer-group copier-1 --transactional-id copier-1 --transaction-size 100 --max-messages 1000 --enable-random-aborts --group-mode", "", &["\"remaining\":0", "ShutdownComplete"]),
        Step("kafka-console-consumer --bootstrap-server {b} --topic copies-of-1 --from-beginning --isolation-level read_committed --max-messages 1000 --timeout-ms 30000", "", &["Processed a total of 1000 messages"]),
        Step("kafka-features --bootstrap-server {b} upgrade --feature transaction.version=2", "", &["upgraded to 2"]),
    ]),
    case("console", &[
        Step("kafka-console-producer --bootstrap-server {b} --topic lines --property parse.key=true --property key.separator=: --compression-codec lz4", "a:1\nb:2\n", &[]),
        Step("kafka-console-consumer --bootstrap-server {b} --topic lines --from-beginning --max-messages 2 --timeout-ms 30000 --property print.key=true", "", &["a\t1", "b\t2"]),
    ]),
    case("configs-of-topics", &[
        Step("kafka-configs --bootstrap-server {b} --alter --entity-type topics --entity-name records --add-config cleanup.policy=[compact,delete],max.message.bytes=2000000", "", &["Completed updating config"]),
        Step("kafka-configs --bootstrap-server {b} --describe --entity-type topics --entity-name records", "", &["max.message.bytes=2000000", "DYNAMIC_TOPIC_CONFIG:cleanup.policy=compact,delete", "DEFAULT_CONFIG:log.cleanup.policy=delete"]),
        Step("kafka-configs --bootstrap-server {b} --describe --all --entity-type topics --entity-name records", "", &["segment.bytes=1073741824", "DEFAULT_CONFIG:log.segment.bytes"]),
        Step("kafka-configs --bootstrap-server {b} --alter --entity-type topics --entity-name records --delete-config cleanup.policy", "", &["Completed updating config"]),
    ]),
    case("configs-of-brokers", &[
        Step("kafka-configs --bootstrap-server {b} --describe --all --entity-type brokers --entity-name 1", "", &["log.retention.", "num.partitions=4", "STATIC_BROKER_CONFIG:num.partitions=4"]),
        Step("kafka-configs --bootstrap-server {b} --describe --entity-type brokers --entity-default", "", &["Default configs for brokers"]),
        Step("kafka-configs --bootstrap-server {b} --describe --entity-type client-metrics", "", &[]),
        Step("kafka-configs --bootstrap-server {b} --describe --entity-type groups", "", &[]),
    ]),
    case("consumer-groups", &[
        Step("kafka-consumer-groups --bootstrap-server {b} --list --state", "", &["verified", "Empty"]),
        Step("kafka-consumer-groups --bootstrap-server {b} --describe --group verified", "", &["records", "1000"]),
        Step("kafka-consumer-groups --bootstrap-server {b} --describe --group verified --state", "", &["Empty"]),
        Step("kafka-consumer-groups --bootstrap-server {b} --describe --group verified --members", "", &[]),
        Step("kafka-consumer-groups --bootstrap-server {b} --reset-offsets --group verified --topic records --to-offset 400 --execute", "", &["400"]),
        Step("kafka-consumer-groups --bootstrap-server {b} --reset-offsets --group verified --all-topics --by-duration PT1H --dry-run", "", &["records"]),
        Step("kafka-consumer-groups --bootstrap-server {b} --delete-offsets --group verified --topic records", "", &["Successful"]),
        Step("kafka-consumer-groups --bootstrap-server {b} --delete --group verified", "", &["successful"]),
    ]),
    case("get-offsets", &[
        Step("kafka-get-offsets --bootstrap-server {b} --topic records --time latest", "", &["records:0:1000"]),
        Step("kafka-get-offsets --bootstrap-server {b} --topic records --time earliest", "", &["records:0:0"]),
        Step("kafka-get-offsets --bootstrap-server {b} --topic records --time max-timestamp", "", &["records:0:"]),
        Step("kafka-get-offsets --bootstrap-server {b} --topic records --time earliest-local", "", &["records:0:0"]),
        Step("kafka-get-offsets --bootstrap-server {b} --topic records --time latest-tiered", "", &[]),
        Step("kafka-get-offsets --bootstrap-server {b} --topic records --time earliest-pending-upload", "", &[]),
        Step("kafka-get-offsets --bootstrap-server {b} --topic records --time 1000", "", &["records:0:0"]),
    ]),
    case("delete-records", &[
        Step("kafka-delete-records --bootstrap-server {b} --offset-json-file {dir}/delete.json", "", &["low_watermark: 10"]),
        Step("kafka-get-offsets --bootstrap-server {b} --topic records --time earliest", "", &["records:0:10"]),
    ]),
    case("transactions", &[
        Step("kafka-transactions --bootstrap-server {b} list", "", &["copier", "CompleteCommit"]),
        Step("kafka-transactions --bootstrap-server {b} describe --transactional-id copier", "", &["copier"]),
        Step("kafka-transactions --bootstrap-server {b} describe-producers --topic copies --partition 0", "", &["ProducerId"]),
        Step("kafka-transactions --bootstrap-server {b} find-hanging --broker-id 1", "", &["Topic"]),
    ]),
    case("log-dirs", &[
        Step("kafka-log-dirs --bootstrap-server {b} --describe --topic-list records", "", &["\"partition\":\"records-0\"", "\"broker\":1"]),
    ]),
    case("leader-election", &[
        Step("kafka-leader-election --bootstrap-server {b} --election-type preferred --all-topic-partitions", "", &[]),
        Step("kafka-leader-election --bootstrap-server {b} --election-type preferred --topic records --partition 0", "", &["Valid replica already elected"]),
    ]),
    case("reassign-partitions", &[
        Step("kafka-reassign-partitions --bootstrap-server {b} --list", "", &["No partition reassignments found"]),
        Step("kafka-reassign-partitions --bootstrap-server {b} --topics-to-move-json-file {dir}/move.json --broker-list 1 --generate", "", &["Proposed partition reassignment"]),
        Step("kafka-reassign-partitions --bootstrap-server {b} --reassignment-json-file {dir}/reassign.json --execute", "", &["Successfully started"]),
        Step("kafka-reassign-partitions --bootstrap-server {b} --reassignment-json-file {dir}/reassign.json --verify", "", &["is completed"]),
    ]),
    case("metadata-quorum", &[
        Step("kafka-metadata-quorum --bootstrap-server {b} describe --status", "", &["LeaderId:"]),
        Step("kafka-metadata-quorum --bootstrap-server {b} describe --replication", "", &["Leader"]),
    ]),
    case("cluster", &[
        Step("kafka-cluster cluster-id --bootstrap-server {b}", "", &["Cluster ID"]),
        Step("kafka-features --bootstrap-server {b} describe", "", &["transaction.version"]),
        Step("kafka-broker-api-versions --bootstrap-server {b}", "", &["Produce(0): 0 to 13"]),
        Step("kafka-client-metrics --bootstrap-server {b} --list", "", &[]),
    ]),
    case("topics-deleted", &[
        Step("kafka-topics --bootstrap-server {b} --delete --topic records", "", &[]),
        Step("kafka-topics --bootstrap-server {b} --list --exclude-internal", "", &["copies"]),
    ]),
];

/// Files that the command lines name.
const FILES: [(&str, &str); 3] = [
    ("delete.json", r#"{"version":1,"partitions":[{"topic":"records","partition":0,"offset":10}]}"#),
    ("move.json", r#"{"version":1,"topics":[{"topic":"copies"}]}"#),
    (
        "reassign.json",
        r#"{"version":1,"partitions":[{"topic":"copies","partition":0,"replicas":[1],"log_dirs":["any"]}]}"#,
    ),
];

/// Cases build on those before them, so that all run; only what was asked for is judged.
pub fn run(choice: &Choice) -> Result<Vec<Ran>> {
    let dir = servers::work(SUITE, choice.side())?;
    let scripts = scripts::write(&dir)?;
    for (name, text) in FILES {
        fs::write(dir.join(name), text).with_context(|| format!("writing {name}"))?;
    }
    let server = servers::start(choice, &dir, &[("num.partitions", "4")])?;
    let run = Run { dir: &dir, bin: &scripts.join("bin"), bootstrap: &server.bootstrap };
    let mut ran = Vec::new();
    for case in &CASES {
        let begun = Instant::now();
        let outcome = run.case(case)?;
        let seconds = begun.elapsed().as_secs();
        if choice.wants(case.name) {
            eprintln!("{:8} {seconds:4} s  {}", outcome.word(), case.name);
            ran.push(Ran { test: case.name.to_owned(), outcome, seconds });
        }
    }
    server.stop()?;
    Ok(ran)
}

struct Run<'a> {
    dir: &'a Path,
    bin: &'a Path,
    bootstrap: &'a str,
}

impl Run<'_> {
    fn case(&self, case: &Case) -> Result<Outcome> {
        for (place, step) in case.steps.iter().enumerate() {
            let log = self.dir.join(format!("{}-{place}.log", case.name));
            let Some(code) = self.step(step, &log)? else { return Ok(Outcome::Endless) };
            let said = String::from_utf8_lossy(&fs::read(&log)?).into_owned();
            let missing = step.2.iter().find(|wanted| !said.contains(**wanted));
            if code != 0 || missing.is_some() {
                let missing = missing.map_or(String::new(), |text| format!(", without {text:?}"));
                eprintln!("         {} ended with {code}{missing}; see {}", step.0, log.display());
                return Ok(Outcome::Failed);
            }
        }
        Ok(Outcome::Passed)
    }

    /// The exit code; `None` when it did not end.
    fn step(&self, Step(line, input, _): &Step, log: &Path) -> Result<Option<i32>> {
        let line = line.replace("{b}", self.bootstrap).replace("{dir}", &self.dir.display().to_string());
        let mut words = line.split(' ');
        let script = self.bin.join(format!("{}.sh", words.next().context("a command")?));
        let typed = log.with_extension("in");
        fs::write(&typed, input)?;
        let output = File::create(log)?;
        let mut command: Command = process::tied(&script.to_string_lossy());
        command.args(words).stdin(Stdio::from(File::open(&typed)?));
        command.stdout(output.try_clone()?).stderr(output);
        Ok(Owned::spawn(&mut command)?.finish(LIMIT).ok())
    }
}
