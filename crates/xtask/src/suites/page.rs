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
    cargo xtask suites tools                     # Kafka's own command-line tools\n\
    cargo xtask suites streams                   # Kafka's own smoke test of Kafka Streams\n\
    cargo xtask suites python                    # kafka-python, confluent-kafka and aiokafka\n\
    ```\n\n\
    Both brokers have four partitions a topic, make topics on use, and wait for three seconds for a group's other members, as\n\
    Kafka does by default. Apache Kafka has an authorizer that allows where no ACL is. `endless` is a test that did not end within its\n\
    limit; `skipped` one that says itself that it cannot run (it wants several brokers, or credentials).\n";

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
        let count =
            |of: fn(&Row) -> Outcome| rows.iter().filter(|(_, row)| of(row) == Outcome::Passed).count();
        let (ours, kafkas) = (count(|row| row.ours), count(|row| row.kafkas));
        // Writing to a string does not fail.
        let _ = writeln!(page, "\n## {suite}\n");
        let _ = writeln!(
            page,
            "Of {} tests Headwater passes {ours}, Apache Kafka {} {kafkas}.\n",
            rows.len(),
            kafka::VERSION
        );
        let _ = writeln!(page, "| test | Headwater | Apache Kafka | seconds |\n|---|---|---|---|");
        for (test, row) in rows {
            let (ours, kafkas) = (row.ours.word(), row.kafkas.word());
            let _ = writeln!(page, "| {test} | {ours} | {kafkas} | {} |", row.seconds);
        }
    }
    page
}
