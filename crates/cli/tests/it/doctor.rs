//! Health, metrics and `headwater doctor` of a real node.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use headwater_client::{Client, ClientConfig, ProduceRecord, Producer, ProducerConfig};
use serde_json::Value;

use crate::common::{self, HEADWATER, Node};

struct Answer {
    status: u16,
    kind: String,
    text: String,
}

async fn get(node: &Node, path: &str) -> Answer {
    let response = reqwest::get(format!("{}{path}", node.http)).await.expect("the node answers");
    let kind = response.headers()["content-type"].to_str().expect("text").to_owned();
    Answer { status: response.status().as_u16(), kind, text: response.text().await.expect("text") }
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{text}: {error}"))
}

/// Asks until it is so.
async fn until(node: &Node, path: &str, is_so: impl Fn(&Answer) -> bool) -> Answer {
    let begun = Instant::now();
    loop {
        let answer = get(node, path).await;
        if is_so(&answer) {
            return answer;
        }
        assert!(begun.elapsed() < Duration::from_secs(30), "{path}: {} {}", answer.status, answer.text);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

fn findings(node: &Node, expected: i32) -> Vec<Value> {
    let output = node.run(&["doctor", "--json"], "");
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    assert_eq!(output.status.code(), Some(expected), "{text}");
    json(&text)["findings"].as_array().expect("findings").clone()
}

fn kinds(findings: &[Value]) -> Vec<&str> {
    // Whoever runs this may have little space.
    findings
        .iter()
        .filter_map(|finding| finding["kind"].as_str())
        .filter(|kind| *kind != "disk_low")
        .collect()
}

#[tokio::test]
async fn a_well_node_is_healthy_in_text_and_json() {
    let dir = tempfile::tempdir().expect("a directory");
    let node = Node::start(dir.path());
    for path in ["/health", "/health/live", "/health/ready"] {
        let text = get(&node, path).await;
        assert_eq!((text.status, text.text.lines().next()), (200, Some("ok")), "{path}");
        let answer = get(&node, &format!("{path}?json")).await;
        assert!(answer.kind.starts_with("application/json"), "{}", answer.kind);
        assert_eq!(json(&answer.text)["ready"], true);
    }
    let metrics = get(&node, "/metrics").await;
    assert!(metrics.kind.starts_with("text/plain; version=0.0.4"), "{}", metrics.kind);
    assert!(metrics.text.contains("\n# TYPE headwater_log_flush_seconds histogram\n"), "{}", metrics.text);
}

#[tokio::test]
async fn doctor_names_an_open_transaction_and_its_command_ends_it() {
    let dir = tempfile::tempdir().expect("a directory");
    let node = Node::start(dir.path());
    node.done(&["topic", "create", "orders"], "");
    let client = Client::connect(ClientConfig::new(&node.kafka, "test")).await.expect("connected");
    let id = "payments-1".to_owned();
    let config = ProducerConfig { transactional_id: Some(id), ..ProducerConfig::default() };
    let producer = Producer::new(&client, config).await.expect("a producer");
    producer.begin_transaction().await.expect("begun");
    let record =
        ProduceRecord { topic: "orders".to_owned(), value: Some("x".into()), ..ProduceRecord::default() };
    producer.send(record).await.expect("queued").await.expect("written");
    let output = node.run(&["doctor", "--json"], "");
    let diagnosis = json(&String::from_utf8(output.stdout).expect("UTF-8"));
    let findings = diagnosis["findings"].as_array().expect("findings");
    let found =
        findings.iter().find(|finding| finding["kind"] == "open_transaction").expect("the transaction");
    assert_eq!(found["where"]["transactional_id"], "payments-1");
    assert!(found["where"]["producer_id"].is_i64(), "{found}");
    assert_eq!(found["where"]["topic"], "orders");
    let lines = String::from_utf8(node.run(&["doctor"], "").stdout).expect("UTF-8");
    assert!(lines.starts_with("SEVERITY\tKIND\t") && lines.contains("payments-1"), "{lines}");
    assert!(!lines.contains('\u{1b}'), "{lines:?}");
    let refused = node.run(&["transaction", "abort", "payments-1"], "");
    assert_eq!(refused.status.code(), Some(2));
    node.done(&["transaction", "abort", "payments-1", "--yes"], "");
    let output = node.run(&["doctor", "--json"], "");
    let diagnosis = json(&String::from_utf8(output.stdout).expect("UTF-8"));
    assert_eq!(kinds(diagnosis["findings"].as_array().expect("findings")), [""; 0]);
}

#[test]
fn doctor_says_when_nobody_answers() {
    let output =
        Command::new(HEADWATER).args(["doctor", "--http", "http://127.0.0.1:1"]).output().expect("it runs");
    assert_eq!(output.status.code(), Some(69));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("http://127.0.0.1:1") && said.contains("try:"), "{said}");
}

fn script(text: &str, dir: &Path, through: &[&str]) -> Command {
    let mut words = through.to_vec();
    words.extend(["sh", "-c", text, "sh"]);
    let mut command = Command::new(words[0]);
    command.args(&words[1..]).arg(dir).arg(HEADWATER);
    command
}

/// A write beyond the limit of a file's size fails as on a broken disk.
#[tokio::test]
async fn a_failed_write_is_told_with_what_to_do() {
    let Some(prlimit) = common::program("prlimit") else { return };
    let dir = tempfile::tempdir().expect("a directory");
    let mut command =
        script("trap '' XFSZ; data=$1; shift; exec \"$@\" --data-dir \"$data\"", dir.path(), &[]);
    let node = Node::start_with(&mut command);
    node.done(&["topic", "create", "orders"], "");
    let limited = Command::new(prlimit).arg(format!("--pid={}", node.id())).arg("--fsize=4096:").status();
    assert!(limited.expect("prlimit runs").success());
    // It tries again for two minutes.
    let mut writer = node.spawn(&["produce", "orders"], &"x".repeat(100_000));
    let answer = until(&node, "/health/ready?json", |answer| answer.status == 503).await;
    let _ = writer.kill();
    let _ = writer.wait();
    assert_eq!(json(&answer.text)["findings"][0]["kind"], "log_fenced", "{}", answer.text);
    let text = get(&node, "/health").await;
    assert!(text.status == 503 && text.text.contains("restart"), "{}", text.text);
    assert_eq!(get(&node, "/health/live").await.status, 200);
    let metrics = get(&node, "/metrics").await;
    assert!(metrics.text.contains("\nheadwater_log_fenced 1"), "{}", metrics.text);
    assert_eq!(kinds(&findings(&node, 1))[0], "log_fenced");
}

#[tokio::test]
async fn a_full_disk_is_told_and_the_log_goes_on_when_there_is_space() {
    // A file system of its own, small, without privileges where the kernel allows that.
    let unshare = ["unshare", "--user", "--map-root-user", "--mount"];
    let mount = "mount -t tmpfs -o size=12m headwater \"$1\"";
    let dir = tempfile::tempdir().expect("a directory");
    let tried = script(mount, dir.path(), &unshare).stdout(Stdio::null()).stderr(Stdio::null()).status();
    if !tried.is_ok_and(|status| status.success()) {
        common::missing("unshare cannot mount a tmpfs here (needs user namespaces)");
        return;
    }
    let serve = format!(
        "{mount} && head -c 6000000 /dev/zero > \"$1/filler\" && data=$1/data && shift && exec \"$@\" --data-dir \"$data\" --config headwater.log.segment.bytes=1048576"
    );
    let node = Node::start_with(&mut script(&serve, dir.path(), &unshare));
    node.done(&["topic", "create", "orders"], "");
    let line = format!("{}\n", "x".repeat(10_000));
    let mut writer = node.spawn(&["produce", "orders"], &line.repeat(800));
    let answer = until(&node, "/health/ready?json", |answer| answer.status == 503).await;
    let health = json(&answer.text);
    assert_eq!(health["findings"][0]["kind"], "disk_full", "{health}");
    assert_eq!(health["live"], true);
    assert!(health["findings"][0]["what"].as_str().expect("text").contains("no space is left"), "{health}");
    let found = findings(&node, 1);
    assert_eq!(kinds(&found)[0], "disk_full");
    let low = found.iter().find(|finding| finding["kind"] == "disk_low").expect("the disk is low");
    assert!(low["why"].as_str().expect("text").contains("orders ("), "{low}");
    let metrics = get(&node, "/metrics").await;
    assert!(metrics.text.contains("\nheadwater_log_waits_for_space 1"), "{}", metrics.text);
    let filler = format!("/proc/{}/root{}/filler", node.id(), dir.path().display());
    std::fs::remove_file(filler).expect("the filler goes");
    until(&node, "/health/ready", |answer| answer.status == 200).await;
    let _ = writer.kill();
    let _ = writer.wait();
}

#[tokio::test]
async fn a_registry_that_lost_its_topic_is_told_of_and_not_ready() {
    let dir = tempfile::tempdir().expect("a directory");
    let node = Node::start(dir.path());
    let client = Client::connect(ClientConfig::new(&node.kafka, "doctor-test")).await.expect("connected");
    client.delete_topic("_schemas").await.expect("deleted");
    let answer = until(&node, "/health/ready?json", |answer| answer.status == 503).await;
    assert!(answer.text.contains("registry_lost"), "{}", answer.text);
    assert_eq!(get(&node, "/health/live").await.status, 200);
    assert!(kinds(&findings(&node, 1)).contains(&"registry_lost"));
    node.terminate();
    let node = Node::start(dir.path());
    assert_eq!(get(&node, "/health/ready").await.status, 200);
}
