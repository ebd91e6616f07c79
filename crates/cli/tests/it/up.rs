//! `headwater up`: what it says when it is ready, what it refuses, how it ends.

use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use crate::common::{HEADWATER, Node, missing};

const FREE: [&str; 4] = ["--listen", "127.0.0.1:0", "--http", "127.0.0.1:0"];

/// Code and standard error of a command that must fail.
fn refused(arguments: &[&str], environment: Option<&str>) -> (Option<i32>, String) {
    let mut command = Command::new(HEADWATER);
    command.arg("up").args(arguments).env_remove("HEADWATER_BOOTSTRAP");
    if let Some(bootstrap) = environment {
        command.env("HEADWATER_BOOTSTRAP", bootstrap);
    }
    let output = command.output().expect("it runs");
    (output.status.code(), String::from_utf8(output.stderr).expect("UTF-8"))
}

/// Standard output to the line that says that it is ready, and the process.
fn ready(command: &mut Command) -> (Child, Vec<String>) {
    let mut child = command.stdout(Stdio::piped()).spawn().expect("headwater starts");
    let mut lines = Vec::new();
    for line in BufReader::new(child.stdout.take().expect("piped")).lines() {
        lines.push(line.expect("UTF-8"));
        if lines.last().is_some_and(|line| line.starts_with("ready")) {
            break;
        }
    }
    (child, lines)
}

fn send(signal: &str, to: &Child) {
    let sent = Command::new("kill").args(["-s", signal, &to.id().to_string()]).status().expect("kill runs");
    assert!(sent.success(), "{signal}");
}

fn ended(child: &mut Child) -> ExitStatus {
    let begun = Instant::now();
    loop {
        if let Some(status) = child.try_wait().expect("waits") {
            return status;
        }
        assert!(begun.elapsed() < Duration::from_secs(60), "it does not end");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn up(directory: &Path) -> Command {
    let mut command = Command::new(HEADWATER);
    command.arg("up").args(FREE).arg("--data-dir").arg(directory).env_remove("HEADWATER_BOOTSTRAP");
    command
}

#[test]
fn options_of_a_broker_are_refused_beside_the_address_of_another_kafka() {
    for option in [
        &["--data-dir", "/nowhere"][..],
        &["--listen", "127.0.0.1:0"],
        &["--default-partitions", "3"],
        &["--config", "log.retention.ms=5"],
    ] {
        let (code, said) = refused(option, Some("127.0.0.1:1"));
        assert_eq!(code, Some(2), "{said}");
        assert!(said.contains(option[0]) && said.contains("unset HEADWATER_BOOTSTRAP"), "{said}");
        let (code, said) = refused(&[option, &["--bootstrap", "127.0.0.1:1"]].concat(), None);
        assert_eq!(code, Some(2), "{said}");
        assert!(said.contains(option[0]) && said.contains("leave out --bootstrap"), "{said}");
    }
    let password = "listener.name.partners.ssl.keystore.password=secret";
    let (_, said) = refused(&["--config", password], Some("127.0.0.1:1"));
    assert!(said.contains("--config listener.name.partners") && !said.contains("secret"), "{said}");
    // It would ask the other Kafka, which is not there, if it were not refused.
    let (code, said) = refused(
        &["--http", "127.0.0.1:0", "--config", "headwater.http.max.connections=9"],
        Some("127.0.0.1:1"),
    );
    assert_eq!(code, Some(69), "{said}");
}

#[test]
fn a_setting_that_is_wrong_is_wrong_data_and_the_command_line_wins_over_the_file() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("server.properties").display().to_string();
    let data = directory.path().join("data").display().to_string();
    let refused = |more: &[&str]| refused(&[&FREE[..], &["--data-dir", &data], more].concat(), None);
    let (code, said) = refused(&["--config", "log.retention.hours=1"]);
    assert_eq!(code, Some(65), "{said}");
    let wrong = ["--data-dir", &data, "--config", "log.retention.hours=1"];
    assert_eq!(self::refused(&wrong, Some("")).0, Some(65), "an empty variable names no other Kafka");
    let (code, said) = refused(&["--config-file", &file]);
    assert_eq!(code, Some(66), "{said}");
    assert!(said.contains("  try: "), "{said}");
    std::fs::write(&file, "num.partitions=7\n").expect("written");
    let more = ["--data-dir", &data, "--config-file", &file, "--default-partitions", "3"];
    let node = Node::start_with_arguments(&mut Command::new(HEADWATER), &more);
    node.done(&["topic", "create", "orders", "--partitions=-1"], "");
    let listed = node.done(&["topic", "list"], "");
    assert!(listed.contains("orders\t3\t0"), "{listed}");
}

#[test]
fn a_node_without_a_broker_says_so() {
    let directory = tempfile::tempdir().expect("a directory");
    let node = Node::start(directory.path());
    let mut command = Command::new(HEADWATER);
    command.args(["up", "--http", "127.0.0.1:0"]).env("HEADWATER_BOOTSTRAP", &node.kafka);
    let (mut child, lines) = ready(&mut command);
    assert!(lines.iter().any(|line| line.contains("no broker here: HEADWATER_BOOTSTRAP")), "{lines:?}");
    send("TERM", &child);
    assert!(ended(&mut child).success());
}

#[test]
fn a_host_may_have_a_name_and_every_listener_is_shown() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut command = Command::new(HEADWATER);
    command.args(["up", "--listen", "localhost:0", "--http", "localhost:0", "--data-dir"]);
    let (mut child, lines) =
        ready(command.arg(directory.path().join("one")).env_remove("HEADWATER_BOOTSTRAP"));
    assert!(lines.iter().any(|line| line.starts_with("Kafka     ") && !line.ends_with(":0")), "{lines:?}");
    send("INT", &child);
    assert!(ended(&mut child).success());
    let mut command = up(&directory.path().join("two"));
    command.args(["--config", "listeners=PLAINTEXT://localhost:0,OTHERS://127.0.0.1:0"]);
    command.args(["--config", "listener.security.protocol.map=OTHERS:PLAINTEXT"]);
    let (mut child, lines) = ready(&mut command);
    for name in ["(PLAINTEXT://)", "(OTHERS://)"] {
        assert!(
            lines.iter().any(|line| line.starts_with("Kafka ") && line.ends_with(name)),
            "{name}: {lines:?}"
        );
    }
    assert!(lines.iter().any(|line| line.contains(" localhost:")), "clients are told the name: {lines:?}");
    send("TERM", &child);
    assert!(ended(&mut child).success());
    let (code, said) = refused(&["--listen", "no-such-host.invalid:0"], None);
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("no-such-host.invalid") && said.contains("--listen HOST:PORT"), "{said}");
}

#[test]
fn what_clients_are_told_does_not_keep_the_node_from_its_own_broker() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut command = up(directory.path());
    command.args(["--config", "advertised.listeners=PLAINTEXT://127.0.0.1:1"]);
    let (mut child, lines) = ready(&mut command);
    assert!(lines.iter().any(|line| line.ends_with("127.0.0.1:1")), "{lines:?}");
    send("TERM", &child);
    assert!(ended(&mut child).success());
}

#[test]
fn a_second_signal_ends_it_at_once_and_says_so() {
    let directory = tempfile::tempdir().expect("a directory");
    let (mut child, _) = ready(up(directory.path()).stderr(Stdio::piped()));
    // Both are there when it goes on.
    send("STOP", &child);
    send("TERM", &child);
    send("INT", &child);
    send("CONT", &child);
    assert_eq!(ended(&mut child).code(), Some(130));
    let mut said = String::new();
    child.stderr.take().expect("piped").read_to_string(&mut said).expect("UTF-8");
    assert!(said.contains("second signal"), "{said}");
}

#[test]
fn a_directory_that_has_lost_its_log_is_refused_with_what_to_do() {
    let directory = tempfile::tempdir().expect("a directory");
    Node::start(directory.path()).terminate();
    std::fs::remove_dir_all(directory.path().join("log")).expect("removed");
    let path = directory.path().display().to_string();
    let (_, said) = refused(&[&FREE[..], &["--data-dir", &path]].concat(), None);
    assert!(said.contains("headwater restore") && said.contains(&path), "{said}");
    std::fs::remove_file(directory.path().join("headwater.json")).expect("removed");
    Node::start(directory.path()).terminate();
    std::fs::remove_file(directory.path().join("headwater.json")).expect("removed");
    let (_, said) = refused(&[&FREE[..], &["--data-dir", &path]].concat(), None);
    assert!(said.contains("headwater.json") && said.contains("is gone"), "{said}");
}

/// A node on a file system of its own, with so much space; none where this user may make none. It writes its log beside.
fn on_a_small_disk(directory: &Path, size: &str) -> Option<Node> {
    let unshare = ["--user", "--map-root-user", "--mount"];
    let may = Command::new("unshare").args(unshare).args(["mount", "-t", "tmpfs", "tmpfs", "/mnt"]).output();
    if !may.is_ok_and(|output| output.status.success()) {
        missing(
            "this user may not mount a file system: no small disk can be made (unshare --user --map-root-user --mount)",
        );
        return None;
    }
    let disk = directory.join("disk");
    std::fs::create_dir(&disk).expect("created");
    let script = r#"disk=$1; log=$2; size=$3; shift 3
        mount -t tmpfs -o size=$size tmpfs "$disk" && exec "$@" 2>"$log""#;
    let mut command = Command::new("unshare");
    command.args(unshare).args(["sh", "-c", script, "sh"]).arg(&disk).arg(directory.join("stderr")).arg(size);
    command.args([HEADWATER, "up", "--json"]).args(FREE).arg("--data-dir").arg(disk.join("data"));
    Some(Node::start_as(&mut command))
}

#[test]
fn a_broker_that_waits_for_space_ends_when_it_is_told_to() {
    let directory = tempfile::tempdir().expect("a directory");
    let Some(node) = on_a_small_disk(directory.path(), "12m") else { return };
    node.done(&["topic", "create", "big"], "");
    let line = format!("{}\n", "x".repeat(500_000));
    let mut producer = node.spawn(&["produce", "big"], &line.repeat(60));
    let begun = Instant::now();
    while node
        .run(&["doctor", "--http", &node.http, "--json"], "")
        .stdout
        .windows(9)
        .all(|part| part != b"disk_full")
    {
        assert!(begun.elapsed() < Duration::from_secs(60), "the disk is not full");
    }
    node.terminate();
    let _ = producer.kill();
    let _ = producer.wait();
    let said = std::fs::read_to_string(directory.path().join("stderr")).expect("readable");
    assert!(!said.contains("mend the disk"), "{said}");
}

#[test]
fn a_journal_ahead_of_its_use_leaves_a_small_disk_to_the_records() {
    let directory = tempfile::tempdir().expect("a directory");
    let Some(node) = on_a_small_disk(directory.path(), "40m") else { return };
    node.done(&["topic", "create", "big"], "");
    let line = format!("{}\n", "x".repeat(500_000));
    node.done(&["produce", "big"], &line.repeat(60));
    node.terminate();
}
