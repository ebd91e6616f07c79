//! Backups that are kept in object storage.

use std::path::Path;
use std::process::{Command, Stdio};

use super::server::Server;
use super::{SEGMENT, VALUE, headwater, json, numbers, produce};
use crate::common::{HEADWATER, Node};

const FIRST: usize = 200;
const SECOND: usize = 260;

fn start(data_dir: &Path) -> Node {
    Node::start_set(data_dir, "127.0.0.1:0", &[&format!("headwater.log.segment.bytes={SEGMENT}")])
}

fn restored(server: &Server, from: &str, at: &str, new: &Path) -> Vec<usize> {
    let target = new.display().to_string();
    let said = json(server, &["restore", "--from", from, "--at", at, "--data-dir", &target], 0);
    assert_eq!(said["damage"], serde_json::json!([]));
    let node = start(new);
    let read = numbers(&node);
    node.terminate();
    read
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_is_kept_in_a_bucket_and_comes_back() {
    let Some(mut server) = Server::start() else { return };
    let dir = tempfile::tempdir().expect("a directory");
    let data = dir.path().join("data");
    let to = format!("{}/backups", server.url);
    let node = start(&data);
    node.done(&["topic", "create", "history", "--config", "retention.ms=-1"], "");
    produce(&node, 0..FIRST).await;
    let source = data.display().to_string();
    let backup = ["backup", "--data-dir", &source, "--to", &to];
    let first = json(&server, &backup, 0);
    assert!(first["file_bytes"].as_u64().expect("bytes") > (FIRST * VALUE) as u64);
    produce(&node, FIRST..SECOND).await;
    let second = json(&server, &backup, 0);
    assert!(second["copied_bytes"].as_u64() < first["copied_bytes"].as_u64(), "{second}");
    let id = |backup: &serde_json::Value| backup["backup"].as_str().expect("an id").to_owned();
    let (first, second) = (id(&first), id(&second));

    // One that is killed leaves the others as they were, and its lock.
    produce(&node, 0..1).await;
    server.tell("slow 0.3");
    let command = backup.iter().chain(&["--json"]);
    let mut killed = Command::new(HEADWATER);
    killed.args(command).envs(server.environment()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut killed = killed.spawn().expect("it starts");
    server.until("the lock", |server| server.files().keys().any(|name| name.ends_with("backup.lock")));
    killed.kill().expect("killed");
    killed.wait().expect("gone");
    server.tell("ok");
    let refused = headwater(&server, &backup);
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(69), "{said}");
    assert!(said.contains("--unlock") && said.contains(&to), "{said}");
    json(&server, &[&backup[..], &["--unlock"]].concat(), 0);
    assert!(!server.files().keys().any(|name| name.ends_with("backup.lock")));
    node.terminate();

    let listed = headwater(&server, &["backup", "list", "--from", &to, "--json"]);
    assert_eq!(String::from_utf8_lossy(&listed.stdout).lines().count(), 3);
    let checked = json(&server, &["restore", "--from", &to, "--verify-only"], 0);
    assert_eq!(checked["whole"], true, "{checked}");
    assert_eq!(restored(&server, &to, &first, &dir.path().join("first")), (0..FIRST).collect::<Vec<_>>());
    assert_eq!(restored(&server, &to, &second, &dir.path().join("second")), (0..SECOND).collect::<Vec<_>>());

    let before = server.files().len();
    let pruned = json(&server, &["backup", "prune", "--from", &to, "--keep", "1", "--yes"], 0);
    assert_eq!(pruned["removed"].as_array().expect("a list").len(), 2);
    let gone = 2 + pruned["files"].as_u64().expect("a number") as usize;
    assert_eq!(server.files().len(), before - gone, "manifests, and files that only they named");
    json(&server, &["restore", "--from", &to, "--verify-only"], 0);

    // Damage is named by its object, and nothing of it is restored.
    let objects = server.files();
    let object =
        objects.keys().find(|name| name.ends_with(".wal") && name.contains("/files/")).expect("a file");
    let name = object.rsplit('/').next().expect("a name").to_owned();
    server.tell(&format!("flip {object}"));
    let checked = json(&server, &["restore", "--from", &to, "--verify-only"], 1);
    assert!(checked["problems"].to_string().contains(&name), "{checked}");
    let new = dir.path().join("new");
    let output = headwater(&server, &["restore", "--from", &to, "--data-dir", &new.display().to_string()]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(65), "{said}");
    assert!(said.contains(&name), "{said}");
}

#[test]
fn a_place_that_cannot_be_used_says_what_to_do() {
    let dir = tempfile::tempdir().expect("a directory");
    let data = dir.path().join("data");
    Node::start(&data).terminate();
    let source = data.display().to_string();
    for (to, part) in [("ftp://somewhere/else", "s3://BUCKET/PREFIX"), ("s3://bucket/at", "AWS_ENDPOINT_URL")]
    {
        let mut command = Command::new(HEADWATER);
        command.args(["backup", "--data-dir", &source, "--to", to]);
        command.env("AWS_ENDPOINT_URL", "http://127.0.0.1:1").env("AWS_ALLOW_HTTP", "true");
        command.env("AWS_ACCESS_KEY_ID", "nobody").env("AWS_SECRET_ACCESS_KEY", "nothing");
        let output = command.output().expect("it runs");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success(), "{to}");
        assert!(said.contains(to) && said.contains(part), "{said}");
    }
}
