//! Access rules from the command line and by foreign tools, on a node where whatever has no rule is open.

use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

use crate::common::{HEADWATER, Node, kafka_tool, kafka_tools, python, succeeds};

const START: &str = r#"exec "$0" "$@" --data-dir "$DIRECTORY" \
    --config authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer \
    --config allow.everyone.if.no.acl.found=true"#;

fn guarded(directory: &Path) -> Node {
    Node::start_with(Command::new("sh").args(["-c", START, HEADWATER]).env("DIRECTORY", directory))
}

fn rules(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

fn refused(output: &Output, word: &str) {
    assert!(!output.status.success());
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains(word), "{said}");
}

#[test]
fn rules_are_added_shown_and_removed_and_count_at_once() {
    let directory = tempfile::tempdir().expect("a directory");
    let node = guarded(directory.path());
    node.done(&["topic", "create", "orders"], "");
    node.done(&["produce", "orders"], "first\n");
    let principal = ["--principal", "User:alice"];
    let topic = ["--topic", "orders"];
    let add = [&["acl", "add", "-o", "read", "-o", "write"][..], &topic, &principal].concat();
    let added = node.done(&add, "");
    assert_eq!(added.lines().count(), 2, "{added}");
    assert!(added.contains("ALLOW User:alice from * to READ TOPIC:LITERAL:orders"), "{added}");
    refused(&node.run(&["produce", "orders"], "second\n"), "acl list");
    refused(&node.run(&["topic", "describe", "orders"], ""), "acl list");
    let prefix =
        ["acl", "add", "--prefix", "--topic", "ord", "--principal", "User:bob", "-o", "describe", "--deny"];
    node.done(&prefix, "");
    let all = rules(&node.done(&["acl", "list", "--json"], ""));
    assert_eq!(all.len(), 3, "{all:?}");
    assert_eq!(all[0]["permission"], "DENY", "{all:?}");
    let matching = rules(&node.done(&["acl", "list", "--topic", "orders", "--matching", "--json"], ""));
    assert_eq!(matching.len(), 3, "{matching:?}");
    assert_eq!(rules(&node.done(&["acl", "list", "--topic", "orders", "--json"], "")).len(), 2);
    let remove = [&["acl", "remove"][..], &topic].concat();
    refused(&node.run(&remove, ""), "--yes");
    let removed = rules(&node.done(&[&remove[..], &["--yes", "--json"]].concat(), ""));
    assert_eq!(removed.len(), 2, "{removed:?}");
    refused(&node.run(&remove, ""), "no such rules");
    refused(
        &node.run(&["acl", "add", "--topic", "x", "--principal", "alice", "-o", "read"], ""),
        "User:alice",
    );
    refused(
        &node.run(&["acl", "add", "--topic", "x", "--principal", "User:a", "-o", "reed"], ""),
        "describe-configs",
    );
}

#[test]
fn topics_come_and_go_for_who_may_not_touch_the_catalog() {
    let directory = tempfile::tempdir().expect("a directory");
    let node = guarded(directory.path());
    node.done(&["topic", "create", "orders", "--kind", "keyed"], "");
    let catalog = ["acl", "add", "--topic", "_headwater.catalog", "--principal", "User:ANONYMOUS"];
    node.done(&[&catalog[..], &["-o", "all", "--deny"]].concat(), "");
    let told = |output: &Output| {
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && said.contains("_headwater.catalog"), "{said}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    assert!(told(&node.run(&["topic", "create", "bills", "--kind", "keyed"], "")).contains("created bills"));
    node.done(&["topic", "describe", "bills"], "");
    let deleted = told(&node.run(&["topic", "delete", "orders", "bills", "--yes"], ""));
    assert_eq!(deleted, "deleted orders\ndeleted bills\n");
}

#[test]
fn confluent_kafka_makes_rules_and_meets_them() {
    let Some(python) = python() else { return };
    let directory = tempfile::tempdir().expect("a directory");
    let node = guarded(directory.path());
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/python/confluent_kafka_acls.py");
    let output = Command::new(python).arg(script).arg(&node.kafka).output().expect("it runs");
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(out.lines().last(), Some("done"), "{out}\n{err}");
}

#[test]
fn kafka_acls_adds_lists_and_removes_rules() {
    let Some(jars) = kafka_tools() else { return };
    let directory = tempfile::tempdir().expect("a directory");
    let node = guarded(directory.path());
    let kafka_acls = |arguments: &[&str]| {
        let class = "org.apache.kafka.tools.AclCommand";
        succeeds(kafka_tool(&jars, class, &node.kafka).args(arguments))
    };
    let principal = "--allow-principal=User:alice";
    kafka_acls(&["--add", principal, "--producer", "--topic", "orders", "--transactional-id", "payer"]);
    kafka_acls(&[
        "--add",
        principal,
        "--consumer",
        "--topic",
        "ord",
        "--group",
        "*",
        "--resource-pattern-type",
        "prefixed",
    ]);
    // A rule about the cluster ends that whoever likes may change the rules.
    kafka_acls(&["--add", "--allow-principal=User:ANONYMOUS", "--operation", "All", "--cluster"]);
    let deny = "--deny-principal=User:*";
    kafka_acls(&["--add", deny, "--deny-host", "10.0.0.1", "--operation", "Alter", "--cluster"]);
    let ours = rules(&node.done(&["acl", "list", "--json"], ""));
    let count = |key: &str, value: &str| ours.iter().filter(|rule| rule[key] == value).count();
    assert_eq!(ours.len(), 10, "{ours:#?}");
    assert_eq!(
        (count("pattern", "PREFIXED"), count("permission", "DENY"), count("host", "10.0.0.1")),
        (3, 1, 1)
    );
    assert_eq!((count("resource", "TRANSACTIONAL_ID"), count("resource", "CLUSTER")), (2, 2));
    let theirs = kafka_acls(&["--list", "--topic", "orders", "--resource-pattern-type", "match"]);
    assert!(theirs.contains("patternType=PREFIXED") && theirs.contains("operation=WRITE"), "{theirs}");
    kafka_acls(&["--remove", "--force", "--topic", "orders", "--resource-pattern-type", "any"]);
    assert_eq!(rules(&node.done(&["acl", "list", "--json"], "")).len(), 7);
}
