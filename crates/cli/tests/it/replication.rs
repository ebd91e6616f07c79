//! What asks for more than one broker is answered as a Kafka of one broker answers, and says what to do.

use std::io::Write;
use std::process::{Command, Output, Stdio};

use crate::common::{Node, kafka_tool, kafka_tools, program};

fn said(output: &Output) -> String {
    assert!(!output.status.success(), "it should be refused");
    [&output.stdout[..], &output.stderr[..]].iter().map(|part| String::from_utf8_lossy(part)).collect()
}

#[test]
fn our_command_says_how_many_brokers_there_are() {
    let dir = tempfile::tempdir().expect("a directory");
    let node = Node::start(dir.path());
    for more in [&[][..], &["--kind", "keyed"]] {
        let wanted = [&["topic", "create", "orders", "--replication-factor", "3"][..], more].concat();
        let refused = said(&node.run(&wanted, ""));
        assert!(refused.contains("3 replicas") && refused.contains("use 1"), "{refused}");
    }
    for (name, factor) in [("one", "1"), ("default", "-1")] {
        node.done(&["topic", "create", name, "--replication-factor", factor], "");
    }
    let doctor = || String::from_utf8_lossy(&node.run(&["doctor", "--json"], "").stdout).into_owned();
    assert!(!doctor().contains("min_insync_replicas"));
    node.done(&["topic", "create", "careful", "--config", "min.insync.replicas=2"], "");
    let found = doctor();
    assert!(found.contains("min_insync_replicas") && found.contains("careful"), "{found}");
    node.terminate();
}

#[test]
fn kafka_topics_is_told_by_the_exception_that_kafka_has_for_it() {
    let Some(jars) = kafka_tools() else { return };
    let dir = tempfile::tempdir().expect("a directory");
    let node = Node::start(dir.path());
    let kafka_topics = |arguments: &[&str]| {
        let mut command = kafka_tool(&jars, "org.apache.kafka.tools.TopicCommand", &node.kafka);
        command.args(["--create", "--topic", "orders"]).args(arguments).output().expect("java runs")
    };
    let refused = said(&kafka_topics(&["--replication-factor", "3"]));
    assert!(refused.contains("InvalidReplicationFactorException"), "{refused}");
    assert!(refused.contains("there is 1 broker"), "{refused}");
    let assigned = said(&kafka_topics(&["--replica-assignment", "1:2:3"]));
    assert!(assigned.contains("InvalidReplicaAssignmentException"), "{assigned}");
    let made = kafka_topics(&["--replication-factor", "1", "--config", "min.insync.replicas=2"]);
    assert!(made.status.success(), "Kafka makes it, too: {}", String::from_utf8_lossy(&made.stderr));
    let Some(kcat) = program("kcat") else { return };
    let mut command = Command::new(kcat);
    command.args(["-b", &node.kafka, "-P", "-t", "orders", "-X", "message.timeout.ms=2000", "-d", "msg"]);
    command.args(["-X", "acks=all"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("kcat starts");
    child.stdin.take().expect("stdin").write_all(b"lost\n").expect("it is read");
    let refused = said(&child.wait_with_output().expect("it ends"));
    assert!(refused.contains("Not enough in-sync replicas"), "{refused}");
    node.terminate();
}
