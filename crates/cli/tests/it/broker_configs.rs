//! Kafka's own tool sets, shows and deletes what is set on the running broker.

use std::path::Path;

use crate::common::{Node, kafka_jars, kafka_tool};

/// Runs `kafka-configs` with these words and returns whether it succeeded, and what it said.
fn kafka_configs(jars: &Path, node: &Node, words: &str) -> (bool, String) {
    let mut tool = kafka_tool(jars, "kafka.admin.ConfigCommand", &node.kafka);
    let output = tool.args(words.split(' ')).output().expect("java runs");
    let said = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&said).into_owned())
}

#[test]
fn kafka_configs_adds_describes_and_deletes_what_is_set_on_brokers() {
    let Some(jars) = kafka_jars() else { return };
    let directory = tempfile::tempdir().expect("a directory");
    let node = Node::start(directory.path());
    let tool = |words: &str| kafka_configs(&jars, &node, words);
    let (one, all) = ("--entity-type brokers --entity-name 1", "--entity-type brokers --entity-default");
    for change in [
        format!("--alter {all} --add-config log.retention.ms=111111,log.cleanup.policy=[compact,delete]"),
        format!("--alter {one} --add-config log.retention.ms=222222,num.io.threads=4"),
    ] {
        let (done, said) = tool(&change);
        assert!(done && said.contains("Completed updating"), "{change}\n{said}");
    }
    let (_, said) = tool(&format!("--describe {one}"));
    for wanted in [
        "log.retention.ms=222222 sensitive=false synonyms={DYNAMIC_BROKER_CONFIG:log.retention.ms=222222, \
         DYNAMIC_DEFAULT_BROKER_CONFIG:log.retention.ms=111111, DEFAULT_CONFIG:log.retention.ms=604800000}",
        "num.io.threads=4",
    ] {
        assert!(said.contains(wanted), "{wanted} is not in {said}");
    }
    let (_, said) = tool(&format!("--describe {all}"));
    assert!(said.contains("log.retention.ms=111111") && !said.contains("num.io.threads"), "{said}");
    assert!(said.contains("log.cleanup.policy=compact,delete"), "{said}");

    let (done, said) = tool(&format!("--alter {one} --add-config num.partitions=3"));
    assert!(!done && said.contains("Cannot update these configs dynamically"), "{said}");

    for of in [one, all] {
        let (done, said) = tool(&format!("--alter {of} --delete-config log.retention.ms"));
        assert!(done, "{said}");
    }
    let (_, said) = tool(&format!("--describe {one}"));
    assert!(!said.contains("log.retention.ms=") && said.contains("num.io.threads=4"), "{said}");
}
