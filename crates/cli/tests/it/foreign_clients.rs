//! Clients that we did not write, unmodified: kcat (librdkafka), kafka-python, confluent-kafka.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::common::{Node, program, python};

fn run(command: &mut Command, input: &str) -> String {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it starts");
    child.stdin.take().expect("stdin").write_all(input.as_bytes()).expect("input is read");
    let output = child.wait_with_output().expect("it ends");
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{}\n{out}\n{err}", output.status);
    out.into_owned()
}

#[test]
fn kcat_writes_and_reads_in_a_group_with_every_codec() {
    let Some(kcat) = program("kcat") else { return };
    let dir = tempfile::tempdir().expect("a directory");
    let node = Node::start(dir.path());
    node.done(&["topic", "create", "orders", "--partitions", "3"], "");
    let mut expected = Vec::new();
    for codec in ["none", "gzip", "snappy", "lz4", "zstd"] {
        let lines: Vec<String> = (0..1000).map(|n| format!("{codec}-{n}:value {n}")).collect();
        expected.extend(lines.iter().cloned());
        let input = lines.join("\n") + "\n";
        run(
            Command::new(&kcat).args([
                "-b",
                &node.kafka,
                "-P",
                "-t",
                "orders",
                "-K",
                ":",
                "-z",
                codec,
                "-X",
                "enable.idempotence=true",
            ]),
            &input,
        );
    }
    let read = run(
        Command::new(&kcat).args([
            "-b",
            &node.kafka,
            "-G",
            "readers",
            "-e",
            "-q",
            "-f",
            "%k:%s\n",
            "-X",
            "auto.offset.reset=earliest",
            "orders",
        ]),
        "",
    );
    let mut read: Vec<&str> = read.lines().collect();
    read.sort_unstable();
    expected.sort_unstable();
    assert_eq!(read, expected);
    let description = node.done(&["group", "describe", "readers", "--json"], "");
    let description: serde_json::Value = serde_json::from_str(&description).expect("JSON");
    assert_eq!(description["lag"], 0, "{description}");
}

fn python_script(name: &str) {
    let Some(python) = python() else { return };
    let dir = tempfile::tempdir().expect("a directory");
    let node = Node::start(dir.path());
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/python").join(name);
    let said = run(Command::new(python).arg(script).arg(&node.kafka).arg(&node.http), "");
    assert_eq!(said.lines().last(), Some("done"), "{said}");
}

#[test]
fn kafka_python_writes_and_reads_in_a_group() {
    python_script("kafka_python_client.py");
}

#[test]
fn confluent_kafka_writes_transactions_and_reads_in_a_group() {
    python_script("confluent_kafka_client.py");
}

#[test]
fn confluent_kafka_meets_the_schemas_of_a_topic() {
    python_script("confluent_kafka_schemas.py");
}
