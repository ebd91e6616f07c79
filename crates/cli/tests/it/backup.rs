//! Backups of a broker that is being written to, by the real program.

use std::collections::HashMap;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use headwater_client::{
    Client, ClientConfig, Committed, Isolation, OffsetSpec, ProduceRecord, Producer, ProducerConfig,
};
use headwater_model::TopicPartition;
use serde_json::Value;

use crate::common::{HEADWATER, Node};

/// A node whose journals are soon full.
fn start(data_dir: &Path) -> Node {
    let script = r#"exec "$0" "$@" --config headwater.log.segment.bytes=1048576 --data-dir "$DATA""#;
    Node::start_with(Command::new("sh").args(["-c", script, HEADWATER]).env("DATA", data_dir))
}

fn headwater(arguments: &[&str]) -> Output {
    Command::new(HEADWATER).args(arguments).output().expect("headwater runs")
}

fn text(path: &Path) -> String {
    path.display().to_string()
}

/// Runs a command that must succeed, and returns the object that it prints.
fn json(arguments: &[&str]) -> Value {
    let output = headwater(&[arguments, &["--json"]].concat());
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("JSON")
}

/// Runs a command that must fail, and returns its exit code and what it says.
fn refused(arguments: &[&str]) -> (i32, String) {
    let output = headwater(arguments);
    assert!(!output.status.success(), "{arguments:?} should fail");
    (output.status.code().expect("it ends by itself"), String::from_utf8(output.stderr).expect("UTF-8"))
}

fn orders() -> TopicPartition {
    TopicPartition::new("orders", 0)
}

/// What has been acknowledged so far: records, and the offset that the group has committed.
#[derive(Default)]
struct Acknowledged {
    records: AtomicI64,
    committed: AtomicI64,
    stop: AtomicBool,
}

async fn connect(kafka: &str) -> Client {
    Client::connect(ClientConfig::new(kafka, "backup-test")).await.expect("the broker answers")
}

/// Writes records in their order, and commits the offset behind what was acknowledged.
async fn write(client: Client, acknowledged: Arc<Acknowledged>) {
    let producer = Producer::new(&client, ProducerConfig::default()).await.expect("a producer");
    let mut next = 0;
    while !acknowledged.stop.load(Ordering::Relaxed) {
        let mut on_their_way = Vec::new();
        for _ in 0..50 {
            let record = ProduceRecord {
                topic: "orders".to_owned(),
                value: Some(Bytes::from(format!("{next} {}", "x".repeat(1500)))),
                partition: Some(0),
                ..ProduceRecord::default()
            };
            on_their_way.push(producer.send(record).await.expect("sent"));
            next += 1;
        }
        for delivery in on_their_way {
            delivery.await.expect("acknowledged");
        }
        acknowledged.records.store(next, Ordering::Release);
        let offsets = HashMap::from([(orders(), Committed { offset: next, ..Committed::default() })]);
        client.commit_offsets("readers", &offsets).await.expect("committed");
        acknowledged.committed.store(next, Ordering::Release);
    }
}

/// A node on the restored directory has a prefix of what was written, with all that was acknowledged
/// before, and nobody has read further than what is there.
async fn check(data_dir: &Path, records: i64, committed: i64) {
    let node = Node::start(data_dir);
    let client = connect(&node.kafka).await;
    let ends = client.list_offsets(&[(orders(), OffsetSpec::Latest)], Isolation::Uncommitted).await;
    let end = ends.expect("offsets")[&orders()];
    assert!(end >= records, "{end} records are there, {records} were acknowledged");
    let place = client.committed("readers", None).await.expect("offsets")[&orders()].offset;
    assert!(committed <= place && place <= end, "{committed} was committed, {place} is, of {end}");
    let read = node.done(&["tail", "orders", "--from-beginning", "--no-follow", "--json"], "");
    let values = read.lines().map(|line| {
        let event: Value = serde_json::from_str(line).expect("JSON");
        let value = event["value"].as_str().expect("text").to_owned();
        value.split(' ').next().expect("a number").parse::<i64>().expect("a number")
    });
    assert!(values.eq(0..end), "the records are those that were written, in their order");
    let schema = node.done(&["schema", "get", "orders-value", "--json"], "");
    assert_eq!(serde_json::from_str::<Value>(&schema).expect("JSON")["version"], 1);
    node.done(&["produce", "orders"], "it goes on\n");
    node.terminate();
}

fn begin_backup(data: &str, to: &str) -> Child {
    let mut command = Command::new(HEADWATER);
    command.args(["backup", "--data-dir", data, "--to", to, "--json"]);
    command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("headwater starts")
}

/// Kills a backup when it has begun to copy. False when it was faster.
fn kill_while_it_copies(data: &str, to: &Path) -> bool {
    let files = |ending: &str| {
        let names = std::fs::read_dir(to.join("files")).into_iter().flatten().flatten();
        names.filter(|entry| entry.file_name().to_string_lossy().ends_with(ending)).count()
    };
    let before = files("");
    let mut child = begin_backup(data, &text(to));
    let begun = Instant::now();
    while files(".new") == 0 && files("") == before && child.try_wait().expect("waits").is_none() {
        assert!(begun.elapsed() < Duration::from_secs(60), "the backup does not begin");
        std::thread::yield_now();
    }
    child.kill().expect("SIGKILL");
    !child.wait().expect("gone").success()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_acknowledged_before_a_backup_began_is_in_it() {
    let dir = tempfile::tempdir().expect("a directory");
    let (data, to) = (dir.path().join("data"), dir.path().join("backups"));
    let (data_text, to_text) = (text(&data), text(&to));
    let node = start(&data);
    node.done(&["topic", "create", "orders"], "");
    let schema = dir.path().join("order.avsc");
    std::fs::write(&schema, r#"{"type":"record","name":"Order","fields":[{"name":"id","type":"long"}]}"#)
        .expect("written");
    node.done(&["schema", "register", "orders-value", &text(&schema)], "");
    let acknowledged = Arc::new(Acknowledged::default());
    let writer = tokio::spawn(write(connect(&node.kafka).await, Arc::clone(&acknowledged)));
    while acknowledged.committed.load(Ordering::Acquire) < 3000 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let mut killed = 0;
    let mut backups: Vec<(String, i64, i64)> = Vec::new();
    for _ in 0..4 {
        killed += usize::from(kill_while_it_copies(&data_text, &to));
        let (records, committed) =
            (acknowledged.records.load(Ordering::Acquire), acknowledged.committed.load(Ordering::Acquire));
        let taken = json(&["backup", "--data-dir", &data_text, "--to", &to_text]);
        assert_eq!(taken["damage"], serde_json::json!([]), "{taken}");
        backups.push((taken["backup"].as_str().expect("an id").to_owned(), records, committed));
    }
    acknowledged.stop.store(true, Ordering::Relaxed);
    writer.await.expect("it ends");
    node.terminate();
    assert!(killed > 0, "no backup was killed before its end");
    let last = json(&["backup", "--data-dir", &data_text, "--to", &to_text]);
    let files = last["files"].as_u64().expect("a number");
    assert!(last["copied_files"].as_u64().expect("a number") < files, "{last}");

    let listed = headwater(&["backup", "list", "--from", &to_text, "--json"]);
    // One that was killed after it had named all its files is a backup, too.
    let listed = String::from_utf8_lossy(&listed.stdout).lines().count();
    assert!((backups.len() + 1..=backups.len() + 1 + killed).contains(&listed), "{listed} backups");
    for (id, records, committed) in [&backups[0], &backups[backups.len() - 1]] {
        let checked = json(&["restore", "--from", &to_text, "--at", id, "--verify-only"]);
        assert_eq!(checked["whole"], true, "{checked}");
        let new = dir.path().join(format!("restored-{id}"));
        let restored = json(&["restore", "--from", &to_text, "--at", id, "--data-dir", &text(&new)]);
        assert_eq!(restored["damage"], serde_json::json!([]), "{restored}");
        check(&new, *records, *committed).await;
    }
}

#[test]
fn what_is_refused_says_why_and_what_to_do() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = |name: &str| text(&dir.path().join(name));
    let (data, to) = (path("data"), path("backups"));
    let (code, said) = refused(&["backup", "--data-dir", &path("nothing"), "--to", &to]);
    assert_eq!(code, 66, "{said}");
    assert!(said.contains(&path("nothing")) && said.contains("headwater up"), "{said}");
    Node::start(dir.path().join("data").as_path()).terminate();
    std::fs::create_dir(dir.path().join("home")).expect("made");
    std::fs::write(dir.path().join("home/thesis.tex"), "precious").expect("written");
    let (_, said) = refused(&["backup", "--data-dir", &data, "--to", &path("home")]);
    assert!(said.contains("thesis.tex"), "{said}");
    json(&["backup", "--data-dir", &data, "--to", &to]);
    let (code, said) = refused(&["restore", "--from", &to, "--data-dir", &path("home")]);
    assert_eq!(code, 73, "{said}");
    assert!(said.contains("not empty"), "{said}");
    let (_, said) = refused(&["restore", "--from", &to, "--at", "7", "--data-dir", &path("new")]);
    assert!(said.contains("there is no backup 7") && said.contains("000001-"), "{said}");
    let (_, said) = refused(&["restore", "--from", &path("home"), "--verify-only"]);
    assert!(said.contains("holds no backup"), "{said}");
    Node::start(dir.path().join("other").as_path()).terminate();
    let (code, said) = refused(&["backup", "--data-dir", &path("other"), "--to", &to]);
    assert_eq!(code, 65, "{said}");
    assert!(said.contains("another directory"), "{said}");
}

#[test]
fn old_backups_go_when_they_are_told_to() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = |name: &str| text(&dir.path().join(name));
    let (data, to) = (path("data"), path("backups"));
    let mut ids = Vec::new();
    for _ in 0..3 {
        start(dir.path().join("data").as_path()).terminate();
        let taken = json(&["backup", "--data-dir", &data, "--to", &to]);
        ids.push(taken["backup"].as_str().expect("an id").to_owned());
    }
    let (code, said) = refused(&["backup", "prune", "--from", &to, "--keep", "0"]);
    assert_eq!(code, 2, "{said}");
    let pruned = json(&["backup", "prune", "--from", &to, "--keep", "1", "--yes"]);
    assert_eq!(pruned["removed"], serde_json::json!(ids[..2]));
    assert!(pruned["files"].as_u64().expect("a number") > 0, "{pruned}");
    let checked = json(&["restore", "--from", &to, "--verify-only"]);
    assert_eq!((&checked["backup"], &checked["whole"]), (&serde_json::json!(ids[2]), &true.into()));
    let (_, said) = refused(&["restore", "--from", &to, "--at", &ids[0], "--verify-only"]);
    assert!(said.contains(&ids[2]), "{said}");
}

#[test]
fn a_damaged_backup_is_named_by_its_file() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = |name: &str| text(&dir.path().join(name));
    Node::start(dir.path().join("data").as_path()).terminate();
    json(&["backup", "--data-dir", &path("data"), "--to", &path("backups")]);
    let files: Vec<_> =
        std::fs::read_dir(dir.path().join("backups/files")).expect("listed").flatten().collect();
    let mut bytes = std::fs::read(files[0].path()).expect("read");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(files[0].path(), bytes).expect("written");
    let name = files[0].file_name().into_string().expect("UTF-8");
    let output = headwater(&["restore", "--from", &path("backups"), "--verify-only"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stdout).contains(&name), "{output:?}");
    let (code, said) = refused(&["restore", "--from", &path("backups"), "--data-dir", &path("new")]);
    assert_eq!(code, 65, "{said}");
    assert!(said.contains(&name) && said.contains("--at"), "{said}");
    // Nothing is left that could be taken for a log.
    assert!(!dir.path().join("new/log").exists() && !dir.path().join("new/log.restoring").exists());
}
