//! A cold store on an S3 server that is not ours, with the real program.

mod object_backup;
mod proxy;
mod server;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use bytes::Bytes;
use headwater_client::{Client, ClientConfig, ProduceRecord, Producer, ProducerConfig};
use serde_json::Value;
use server::Server;

use crate::common::{HEADWATER, Node};

/// Larger than what one request carries.
const SEGMENT: u64 = 9 << 20;
const RECORDS: usize = 800;
const VALUE: usize = 100_000;

fn up(server: &Server, data_dir: &Path, url: &str) -> Command {
    let mut command = Command::new(HEADWATER);
    command.args(["up", "--json", "--listen", "127.0.0.1:0", "--http", "127.0.0.1:0"]);
    command.arg("--data-dir").arg(data_dir);
    let settings = [
        format!("headwater.log.segment.bytes={SEGMENT}"),
        "headwater.cold.local.bytes=1048576".to_owned(),
        format!("headwater.cold.store={url}"),
        "log.cleaner.backoff.ms=100".to_owned(),
    ];
    for setting in &settings {
        command.args(["--config", setting]);
    }
    command.envs(server.environment());
    command
}

fn start(server: &Server, data_dir: &Path) -> Node {
    Node::start_as(&mut up(server, data_dir, &server.url))
}

async fn produce(node: &Node, numbers: std::ops::Range<usize>) {
    let client = Client::connect(ClientConfig::new(&node.kafka, "cold-test")).await.expect("it answers");
    let producer = Producer::new(&client, ProducerConfig::default()).await.expect("a producer");
    let mut on_their_way = Vec::new();
    for number in numbers {
        let record = ProduceRecord {
            topic: "history".to_owned(),
            value: Some(Bytes::from(format!("{number} {}", "x".repeat(VALUE)))),
            partition: Some(0),
            ..ProduceRecord::default()
        };
        on_their_way.push(producer.send(record).await.expect("sent"));
    }
    for delivery in on_their_way {
        delivery.await.expect("acknowledged");
    }
}

/// A node with history that has moved.
async fn with_history(server: &mut Server, data_dir: &Path) -> (Node, Vec<String>) {
    let node = start(server, data_dir);
    node.done(&["topic", "create", "history", "--config", "retention.ms=-1"], "");
    produce(&node, 0..RECORDS).await;
    let gone = moved(server, data_dir);
    (node, gone)
}

/// What had gone from here, and came back when it was read, goes again.
fn forget(gone: &[String], data_dir: &Path) {
    for object in gone {
        let _ = std::fs::remove_file(local(data_dir, object));
    }
}

fn numbers(node: &Node) -> Vec<usize> {
    let read = node.done(&["tail", "history", "--from-beginning", "--no-follow", "--json"], "");
    let number = |line: &str| {
        let event: Value = serde_json::from_str(line).expect("JSON");
        event["value"].as_str().and_then(|value| value.split(' ').next()?.parse().ok()).expect("a number")
    };
    read.lines().map(number).collect()
}

fn local(data_dir: &Path, object: &str) -> PathBuf {
    data_dir.join("log").join(object.rsplit('/').next().expect("a name"))
}

/// Waits until what is beyond the local bytes is in the bucket and not here. Returns those objects.
fn moved(server: &mut Server, data_dir: &Path) -> Vec<String> {
    let mut gone = Vec::new();
    server.until("the move of old files", |server| {
        gone = server.files().into_keys().filter(|object| !local(data_dir, object).exists()).collect();
        gone.len() >= 3
    });
    gone
}

fn bytes_in(log: &Path) -> u64 {
    let files = std::fs::read_dir(log).expect("listed");
    files.map(|file| file.ok().and_then(|file| file.metadata().ok()).map_or(0, |found| found.len())).sum()
}

async fn finding(node: &Node) -> Option<Value> {
    let health = reqwest::get(format!("{}/health?json", node.http)).await.expect("it answers");
    let health: Value = serde_json::from_str(&health.text().await.expect("text")).expect("JSON");
    assert_eq!(health["ready"], true, "{health}");
    let findings = health["findings"].as_array().expect("findings").clone();
    findings.into_iter().find(|finding| finding["kind"] == "cold_store_failing")
}

async fn until_found(node: &Node, is_there: bool) -> Option<Value> {
    let begun = Instant::now();
    loop {
        let found = finding(node).await;
        if found.is_some() == is_there {
            return found;
        }
        assert!(begun.elapsed() < Duration::from_secs(60), "{found:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn metric(node: &Node, name: &str) -> f64 {
    let metrics = reqwest::get(format!("{}/metrics", node.http)).await.expect("it answers");
    let metrics = metrics.text().await.expect("text");
    let line = metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("{name} is not in {metrics}")).parse().expect("a number")
}

#[tokio::test(flavor = "multi_thread")]
async fn history_moves_to_s3_through_kills_and_comes_back() {
    let Some(mut server) = Server::start() else { return };
    let dir = tempfile::tempdir().expect("a directory");
    let mut node = start(&server, dir.path());
    node.done(&["topic", "create", "history", "--config", "retention.ms=-1"], "");
    // Each request takes so long that the kill comes in the midst of a move.
    server.tell("slow 0.2");
    produce(&node, 0..RECORDS).await;
    for requests in 1..6 {
        server.tell("slow 0.2");
        server.until("a part of a file", |server| {
            server.requests().iter().filter(|method| ["PUT", "POST"].contains(&method.as_str())).count()
                >= requests
        });
        node.kill();
        node = start(&server, dir.path());
    }
    server.tell("ok");
    let gone = moved(&mut server, dir.path());
    assert!(server.files().values().any(|size| *size > 8 << 20), "one went in parts");
    // A spare journal, the newest two, and what holds the broker's own state stay.
    server.until("room on the disk", |_| bytes_in(&dir.path().join("log")) < 6 * SEGMENT);
    assert_eq!(numbers(&node), (0..RECORDS).collect::<Vec<_>>());
    assert_eq!(finding(&node).await, None);
    assert!(metric(&node, "headwater_cold_requests_total").await > 3.0);
    assert_eq!(metric(&node, "headwater_cold_requests_failed_total").await, 0.0);
    // By a file of credentials, as `aws configure` writes it.
    node.kill();
    let file = dir.path().join("credentials");
    let (key, secret) = (&server.key, &server.secret);
    let text = format!(
        "[default]\naws_access_key_id = x\n\n[headwater]\naws_access_key_id = {key}\naws_secret_access_key = {secret}\n"
    );
    std::fs::write(&file, text).expect("written");
    forget(&gone, dir.path());
    let mut command = up(&server, dir.path(), &server.url);
    command.env_remove("AWS_ACCESS_KEY_ID").env_remove("AWS_SECRET_ACCESS_KEY");
    command.env("AWS_SHARED_CREDENTIALS_FILE", &file).env("AWS_PROFILE", "headwater");
    let node = Node::start_as(&mut command);
    assert_eq!(numbers(&node), (0..RECORDS).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_secret_and_a_missing_bucket_say_what_to_do() {
    let Some(server) = Server::start() else { return };
    let dir = tempfile::tempdir().expect("a directory");
    let mut wrong = up(&server, &dir.path().join("secret"), &server.url);
    wrong.env("AWS_SECRET_ACCESS_KEY", "guessed");
    let missing = up(&server, &dir.path().join("bucket"), "s3://nowhere/at/all");
    let mut absent = up(&server, &dir.path().join("server"), &server.url);
    absent.env("AWS_ENDPOINT_URL", "http://127.0.0.1:1");
    for (mut command, what, next) in [
        (wrong, "SignatureDoesNotMatch", "AWS_SECRET_ACCESS_KEY"),
        (missing, "NoSuchBucket", "headwater.cold.store"),
        (absent, "127.0.0.1:1", "AWS_ENDPOINT_URL"),
    ] {
        let node = Node::start_as(&mut command);
        let found = until_found(&node, true).await.expect("it is told");
        assert!(found["what"].as_str().expect("text").contains(what), "{found}");
        assert!(found["try"].as_str().expect("text").contains(next), "{found}");
        assert!(found["what"].as_str().expect("text").contains("s3://"), "{found}");
        node.done(&["topic", "create", "history"], "");
        produce(&node, 0..3).await;
        assert_eq!(numbers(&node), [0, 1, 2], "the store holds up nobody");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_fails_or_is_slow_is_asked_again_and_not_for_ever() {
    let Some(mut server) = Server::start() else { return };
    let dir = tempfile::tempdir().expect("a directory");
    let (node, gone) = with_history(&mut server, dir.path()).await;
    // A few refusals are nobody's business.
    server.tell("refuse 2");
    assert_eq!(numbers(&node), (0..RECORDS).collect::<Vec<_>>());
    assert_eq!(server.tell("counts")["refused"], 2);
    assert_eq!(metric(&node, "headwater_cold_requests_failed_total").await, 0.0);
    node.kill();
    server.tell("slow 0.7");
    forget(&gone, dir.path());
    let node = start(&server, dir.path());
    assert_eq!(numbers(&node), (0..RECORDS).collect::<Vec<_>>());
    assert_eq!(finding(&node).await, None);
    // Many are told, each request gives up, and the node is there for others.
    node.kill();
    forget(&gone, dir.path());
    server.tell("refuse 1000000");
    let node = start(&server, dir.path());
    let begun = Instant::now();
    let found = until_found(&node, true).await.expect("it is told");
    assert!(begun.elapsed() < Duration::from_secs(60));
    assert!(found["what"].as_str().expect("text").contains("503"), "{found}");
    let failed = metric(&node, "headwater_cold_requests_failed_total").await;
    let refused = server.tell("counts")["refused"].as_f64().expect("a number");
    assert!(failed >= 1.0 && refused >= 2.0, "{failed} failed after {refused} refusals");
    // Seven attempts for each, and those of requests that are under way.
    assert!(refused <= 7.0 * (failed + 3.0), "{refused} attempts for {failed} requests");
    node.done(&["topic", "create", "other"], "");
    node.done(&["produce", "other"], "it goes on\n");
    server.tell("ok");
    assert_eq!(numbers(&node), (0..RECORDS).collect::<Vec<_>>(), "it is there again");
    until_found(&node, false).await;
}

/// What an upload has in memory is taken from what clients share, and is no whole file.
#[tokio::test(flavor = "multi_thread")]
async fn a_file_on_its_way_takes_two_pieces_of_the_memory() {
    const TWO_PIECES: f64 = (16 << 20) as f64;
    let Some(mut server) = Server::start() else { return };
    let dir = tempfile::tempdir().expect("a directory");
    let node = start(&server, dir.path());
    node.done(&["topic", "create", "history", "--config", "retention.ms=-1"], "");
    produce(&node, 0..RECORDS).await;
    server.tell("slow 0.5");
    let begun = Instant::now();
    let used = "headwater_memory_used_bytes";
    while metric(&node, used).await != TWO_PIECES {
        assert!(begun.elapsed() < Duration::from_secs(60), "no upload takes its share");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    server.tell("ok");
    moved(&mut server, dir.path());
    server.until("room on the disk", |_| bytes_in(&dir.path().join("log")) < 6 * SEGMENT);
    let begun = Instant::now();
    while metric(&node, used).await != 0.0 {
        assert!(begun.elapsed() < Duration::from_secs(20), "it is not given back");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn headwater(server: &Server, arguments: &[&str]) -> Output {
    Command::new(HEADWATER).args(arguments).envs(server.environment()).output().expect("it runs")
}

fn json(server: &Server, arguments: &[&str], code: i32) -> Value {
    let output = headwater(server, &[arguments, &["--json"]].concat());
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(code), "{arguments:?}: {said}");
    serde_json::from_slice(&output.stdout).expect("JSON")
}

fn refused(server: &Server, arguments: &[&str]) -> String {
    let output = headwater(server, arguments);
    let said = String::from_utf8(output.stderr).expect("UTF-8");
    assert_eq!(output.status.code(), Some(65), "{arguments:?}: {said}");
    said
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_has_what_is_in_the_cold_store() {
    let Some(mut server) = Server::start() else { return };
    let dir = tempfile::tempdir().expect("a directory");
    let path = |name: &str| dir.path().join(name).display().to_string();
    let (data, to) = (path("data"), path("backups"));
    let (node, _) = with_history(&mut server, &dir.path().join("data")).await;
    let plain = ["backup", "--data-dir", &data, "--to", &to];
    let url = server.url.clone();
    let far = [&plain[..], &["--cold-store", &url]].concat();
    let said = refused(&server, &plain);
    assert!(said.contains("--cold-store URL"), "{said}");
    let first = json(&server, &far, 0);
    assert_eq!(first["damage"], serde_json::json!([]));
    assert!(first["file_bytes"].as_u64().expect("bytes") > (RECORDS * VALUE) as u64);
    // The next one copies what is new.
    server.tell("ok");
    produce(&node, RECORDS..RECORDS + 10).await;
    let second = json(&server, &far, 0);
    assert!(second["copied_bytes"].as_u64().expect("bytes") < 3 * SEGMENT, "{second}");
    assert!(
        !server.requests().contains(&"PUT".to_owned()) || second["copied_files"] != first["copied_files"]
    );
    node.terminate();

    // Damage to an object and the loss of one: not seen by the backups that were taken, and named by the next.
    let objects: Vec<String> = server.files().into_keys().collect();
    let gone: Vec<&String> =
        objects.iter().filter(|object| !local(&dir.path().join("data"), object).exists()).collect();
    let name = |object: &str| object.rsplit('/').next().expect("a name").to_owned();
    server.tell(&format!("flip {}", gone[0]));
    server.tell(&format!("delete {}", gone[1]));
    let fresh = path("fresh");
    let far_fresh = ["backup", "--data-dir", &data, "--to", &fresh, "--cold-store", &url];
    let said = refused(&server, &far_fresh);
    assert!(said.contains(&name(gone[0])) && said.contains("--without-lost"), "{said}");
    let partial = json(&server, &[&far_fresh[..], &["--without-lost"]].concat(), 1);
    let damage = partial["damage"].as_array().expect("a list");
    let named = |object: &str| damage.iter().any(|damage| damage["file"] == name(object).as_str());
    assert!(named(gone[0]) && named(gone[1]) && damage.len() == 2, "{partial}");
    let checked = json(&server, &["restore", "--from", &fresh, "--verify-only"], 1);
    assert_eq!(checked["damage"], partial["damage"]);

    // Restored, it needs no store.
    let new = path("new");
    let restored = json(&server, &["restore", "--from", &to, "--data-dir", &new], 0);
    assert_eq!(restored["damage"], serde_json::json!([]));
    drop(server);
    let node = Node::start(Path::new(&new));
    assert_eq!(numbers(&node), (0..RECORDS + 10).collect::<Vec<_>>());
    node.terminate();
}
