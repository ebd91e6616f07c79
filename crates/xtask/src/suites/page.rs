//! docs/suites.md, from the outcomes.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};

use super::ledger::{Ledger, Outcome, Row};
use crate::kafka;

const HEAD: &str = "# Other people's test suites\n\n\
    Written by `cargo xtask suites … --write`; do not edit. Each suite runs unmodified against `headwater up` on a new\n\
    directory and, with `--kafka`, against Apache Kafka; its outcome there stands beside ours. A test that passed once and\n\
    does not pass any more fails the command.\n\n\
    ```\n\
    cargo xtask suites librdkafka                # every broker test, about half an hour\n\
    cargo xtask suites librdkafka --quick        # at most three minutes\n\
    cargo xtask suites librdkafka --test 0103    # one number\n\
    cargo xtask suites librdkafka --kafka        # the same on Apache Kafka\n\
    cargo xtask suites librdkafka-consumer       # the same tests, all groups by the protocol of KIP-848\n\
    cargo xtask suites admin                     # every method of Kafka's Java AdminClient, rightly and wrongly called\n\
    cargo xtask suites tools                     # Kafka's own command-line tools\n\
    cargo xtask suites copier                    # Kafka's own test of transactions: copiers and broker killed\n\
    cargo xtask suites streams                   # Kafka's own smoke test of Kafka Streams\n\
    cargo xtask suites python                    # kafka-python, confluent-kafka and aiokafka\n\
    cargo xtask suites connect                   # Kafka Connect: exactly-once, one of two workers killed\n\
    cargo xtask suites flink                     # Flink's own Kafka connector: exactly-once, job and broker killed\n\
    cargo xtask suites old                       # clients of years ago: Java's 2.8.2, librdkafka 1.9.2, Python's\n\
    cargo xtask suites node                      # KafkaJS and @platformatic/kafka\n\
    cargo xtask suites go                        # franz-go, Sarama and segmentio/kafka-go\n\
    cargo xtask suites franz-go                  # franz-go's own tests\n\
    cargo xtask suites kafka-go                  # segmentio/kafka-go's own tests\n\
    cargo xtask suites kafka-python              # kafka-python's own tests\n\
    cargo xtask suites quick                     # what CI runs of them: about three minutes, all built\n\
    ```\n\n\
    Both brokers have four partitions a topic, make topics on use, and wait for three seconds for a group's other members, as\n\
    Kafka does by default. Both have an authorizer that allows where no ACL is. `endless` is a test that did not end within\n\
    its limit; `skipped` one that says itself that it cannot run (it wants several brokers, or credentials); `-` one that has\n\
    not been run there. In the quick part a test that fails is run once more, as some measure time; failing twice is a failure.\n";

/// What a reader of the failures would ask, by suite.
const NOTES: [(&str, &str); 8] = [
    (
        "admin",
        "A test is a method; it passes when each of its cases is answered as by Apache Kafka (`crates/xtask/suites/admin-kafka.txt`),\n\
         but for those of `admin-differs.txt`, which says why each of them differs.\n",
    ),
    (
        "connect",
        "Two workers of Kafka Connect in one group run a source of two tasks with `exactly.once.source.support` and a sink; one\n\
         worker is killed. Afterwards each task's numbers are there once and in order for who reads what is committed.\n",
    ),
    (
        "copier",
        "What Kafka's system tests do to transactions on several machines, on one: Kafka's copiers move a topic to another, each\n\
         batch in a transaction with its offsets, while they or the broker are killed or stopped, three times each. A reader of\n\
         committed records that is there all the while, and one that comes afterwards, must find each record once; with one\n\
         partition in the order of the input.\n",
    ),
    (
        "flink",
        "Apache Flink's own Kafka connector 5.0.0-2.2 with Flink 2.2.1, unmodified, on Flink's local cluster: a job copies one topic\n\
         to another, with a checkpoint every half second. What a producer of ours was told is stored is compared, record by record,\n\
         with what a reader of committed records finds. `killed` is twice the job's process with signal 9, each time started again\n\
         from its last retained checkpoint, and between them the broker. `pooling` is the sink that reuses its transactional ids and\n\
         asks the broker which of them are open.\n",
    ),
    (
        "kafka-go",
        "They have the broker's address written in, so that port 9092 must be free. `TestReaderConsumerGroup` ends their process on\n\
         both, and is left out. `TestConn` deletes a topic and asks for it in a way that makes it anew: Apache Kafka tells of it with\n\
         the next question, Headwater at once.\n",
    ),
    (
        "kafka-python",
        "Those of its published source that need nothing but a broker; two small files that the source lacks are added.\n\
         `create_partitions` wants a broker of number 0, which neither is.\n",
    ),
    (
        "old",
        "Each client has a broker of its own and one program. Python's are of 2022 and 2020 and need Python 3.10.\n",
    ),
    (
        "librdkafka-consumer",
        "Three tests of 0045 fail at the same lines on both: they await eager rebalances, where everything is given up and\n\
         assigned anew, and members of KIP-848 are told only what comes and what goes.\n",
    ),
];

fn path() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../docs/suites.md")
}

pub fn write(ledger: &Ledger) -> Result<()> {
    let path = path();
    fs::write(&path, page(ledger)).with_context(|| format!("writing {}", path.display()))
}

fn page(ledger: &Ledger) -> String {
    let mut suites: BTreeMap<&str, Vec<(&str, &Row)>> = BTreeMap::new();
    for ((suite, test), row) in &ledger.rows {
        suites.entry(suite).or_default().push((test, row));
    }
    let mut page = HEAD.to_owned();
    for (suite, rows) in suites {
        let ours = tally(rows.iter().map(|(_, row)| row.ours));
        let kafkas = tally(rows.iter().map(|(_, row)| row.kafkas));
        // Writing to a string does not fail.
        let _ = writeln!(page, "\n## {suite}\n");
        let _ = writeln!(
            page,
            "{} tests: Headwater passes {ours}, Apache Kafka {} {kafkas}.\n",
            rows.len(),
            kafka::VERSION
        );
        if let Some((_, note)) = NOTES.iter().find(|(of, _)| *of == suite) {
            let _ = writeln!(page, "{note}");
        }
        let _ = writeln!(page, "| test | Headwater | Apache Kafka | seconds |\n|---|---|---|---|");
        for (test, row) in rows {
            let (ours, kafkas) = (row.ours.word(), row.kafkas.word());
            let _ = writeln!(page, "| {test} | {ours} | {kafkas} | {} |", row.seconds);
        }
    }
    page
}

/// How many of those that were run passed; what was not run is neither.
fn tally(outcomes: impl Iterator<Item = Outcome>) -> String {
    let run: Vec<Outcome> = outcomes.filter(|outcome| *outcome != Outcome::Unknown).collect();
    let passed = run.iter().filter(|outcome| **outcome == Outcome::Passed).count();
    match run.len() {
        0 => "none, for none was run there".to_owned(),
        run => format!("{passed} of the {run} that were run"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_run_counts_for_nothing() {
        let all = [Outcome::Passed, Outcome::Failed, Outcome::Unknown, Outcome::Skipped];
        assert_eq!(tally(all.into_iter()), "1 of the 3 that were run");
        assert_eq!(tally([Outcome::Unknown].into_iter()), "none, for none was run there");
    }
}
