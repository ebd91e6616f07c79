//! What the command line says when something is in the way: what, and what to do next.

use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Output, Stdio};

use crate::common::{HEADWATER, Node};

fn headwater(arguments: &[&str], variables: &[(&str, &str)]) -> Output {
    let mut command = Command::new(HEADWATER);
    for name in
        ["HEADWATER_BOOTSTRAP", "HEADWATER_REGISTRY", "HEADWATER_URL", "HEADWATER_HTTP", "AWS_ACCESS_KEY_ID"]
    {
        command.env_remove(name);
    }
    command.args(arguments).envs(variables.iter().copied()).output().expect("it runs")
}

fn says(output: &Output, code: i32, words: &[&str]) {
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{said}");
    for word in words {
        assert!(said.contains(word), "{word} in {said}");
    }
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    let script = format!("{HEADWATER} completion bash | head -1; exit ${{PIPESTATUS[0]}}");
    let output = Command::new("bash").args(["-c", &script]).output().expect("bash runs");
    says(&output, 0, &[]);
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
}

/// Runs a command whose standard output nobody reads.
fn unread(node: &Node, arguments: &[&str]) -> Option<i32> {
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    let mut command = Command::new(HEADWATER);
    command.args(arguments).env("HEADWATER_BOOTSTRAP", &node.kafka).stdout(writer);
    command.status().expect("it runs").code()
}

#[test]
fn what_changes_something_goes_on_when_its_reader_goes_away() {
    let dir = tempfile::tempdir().expect("a directory");
    let node = Node::start(dir.path());
    for name in ["a", "b", "c"] {
        node.done(&["topic", "create", name], "");
    }
    assert_eq!(unread(&node, &["topic", "delete", "a", "b", "--yes"]), Some(0));
    assert_eq!(node.done(&["topic", "list"], ""), "TOPIC\tPARTITIONS\tRECORDS\nc\t1\t0\n");
    let reset = ["group", "reset", "readers", "--topic", "c", "--to-earliest", "--execute"];
    assert_eq!(unread(&node, &reset), Some(0));
    let described = node.done(&["group", "describe", "readers", "--json"], "");
    assert!(described.contains("\"committed\":0"), "{described}");
}

#[test]
#[cfg(target_os = "linux")]
fn what_changes_something_goes_on_when_what_it_says_cannot_be_written() {
    let dir = tempfile::tempdir().expect("a directory");
    let node = Node::start(dir.path());
    for name in ["a", "b", "c"] {
        node.done(&["topic", "create", name], "");
    }
    let full = std::fs::File::options().write(true).open("/dev/full").expect("a device");
    let mut command = Command::new(HEADWATER);
    command.args(["topic", "delete", "a", "b", "--yes"]).env("HEADWATER_BOOTSTRAP", &node.kafka).stdout(full);
    says(&command.output().expect("it runs"), 70, &["writing to standard output"]);
    assert_eq!(node.done(&["topic", "list"], ""), "TOPIC\tPARTITIONS\tRECORDS\nc\t1\t0\n");
}

#[test]
fn what_a_write_waits_for_is_told_before_it_ends() {
    let dir = tempfile::tempdir().expect("a directory");
    let node = Node::start(dir.path());
    node.done(&["topic", "create", "orders", "--config", "min.insync.replicas=2"], "");
    let mut writer = node.spawn(&["produce", "orders"], "x\n");
    let mut said = BufReader::new(writer.stderr.take().expect("stderr is piped")).lines();
    let line = said.next().expect("a line").expect("UTF-8");
    assert!(line.starts_with("waiting") && line.contains("min.insync.replicas"), "{line}");
    assert!(writer.try_wait().expect("looked at").is_none(), "it still tries");
    writer.kill().expect("it is there");
    writer.wait().expect("it ends");
}

#[test]
fn addresses_of_the_wrong_kind_are_named() {
    let dir = tempfile::tempdir().expect("a directory");
    let node = Node::start(dir.path());
    let http = node.http.trim_start_matches("http://").to_owned();
    says(
        &headwater(&["topic", "list", "--bootstrap", &http], &[]),
        69,
        &["speaks HTTP", "  try: name the Kafka"],
    );
    let kafka = format!("http://{}", node.kafka);
    says(&headwater(&["doctor", "--http", &kafka], &[]), 69, &["  try: "]);
    says(&headwater(&["doctor", "--http", "foo"], &[]), 2, &["--http foo", "  try: --http http://foo"]);
    let https = format!("https://{http}");
    says(&headwater(&["doctor", "--http", &https], &[]), 69, &["no TLS there", &node.http]);
    says(&headwater(&["quarantine", "list", "foo"], &[]), 2, &["foo", "  try: ", "http://foo"]);
    says(&headwater(&["topology", "describe", "http://"], &[]), 2, &["  try: "]);
}

#[test]
fn a_password_in_an_address_is_never_told() {
    let dir = tempfile::tempdir().expect("a directory");
    let node = Node::start(dir.path());
    let taken = node.http.replace("http://", "http://bob:hush@");
    let tools = [
        &["schema", "list"][..],
        &["doctor"],
        &["quarantine", "list", "http://bob:hush@127.0.0.1:1"],
        &["topology", "describe", "http://bob:hush@127.0.0.1:1"],
        &["topology", "describe", &taken],
        &["doctor", "--help"],
    ];
    for registry in
        ["http://bob:hush@127.0.0.1:1", "bob:hush@there", "http://bob:hu/hush@there", "ftp://bob:hush@there"]
    {
        for tool in tools {
            let output = headwater(tool, &[("HEADWATER_REGISTRY", registry), ("HEADWATER_URL", registry)]);
            let told = [output.stdout, output.stderr].concat();
            let told = String::from_utf8_lossy(&told);
            assert!(!told.is_empty() && !told.contains("hush"), "{tool:?} {registry}: {told}");
        }
    }
    let output = headwater(&["doctor"], &[("HEADWATER_URL", &taken)]);
    assert!(!String::from_utf8_lossy(&output.stdout).contains("hush"));
}

#[test]
fn the_node_of_the_tools_has_a_variable_of_its_own() {
    let dir = tempfile::tempdir().expect("a directory");
    let node = Node::start(dir.path());
    let doctor = |variables: &[(&str, &str)]| {
        let output = headwater(&["doctor"], variables);
        let said = String::from_utf8_lossy(&output.stderr);
        // 1: it has found something, and be it that the disk is busy.
        assert!(matches!(output.status.code(), Some(0 | 1)) && !output.stdout.is_empty(), "{said}");
    };
    doctor(&[("HEADWATER_URL", &node.http)]);
    doctor(&[("HEADWATER_HTTP", &node.http)]);
    let empty = [("HEADWATER_URL", ""), ("HEADWATER_COMMAND_CONFIG", "")];
    doctor(&[&empty[..], &[("HEADWATER_REGISTRY", node.http.as_str())]].concat());
    // A service's: where it listens.
    doctor(&[("HEADWATER_HTTP", "127.0.0.1:1"), ("HEADWATER_REGISTRY", node.http.as_str())]);
}

#[test]
fn what_is_not_there_has_one_exit_code_and_a_next_step() {
    let dir = tempfile::tempdir().expect("a directory");
    let node = Node::start(&dir.path().join("node"));
    says(&node.run(&["produce", "nope"], "x\n"), 66, &["no topic nope", "topic create nope"]);
    says(&node.run(&["tail", "nope"], ""), 66, &["no topic nope", "topic create nope"]);
    says(&node.run(&["schema", "get", "nope"], ""), 66, &["  try: headwater schema list"]);
    says(&node.run(&["user", "delete", "nope", "--yes"], ""), 66, &["  try: headwater user list"]);
    node.done(&["topic", "create", "orders"], "");
    says(&node.run(&["produce", "orders", "--avro"], "1\n"), 66, &["headwater schema register orders-value"]);
    let nope = dir.path().join("nope").display().to_string();
    says(&headwater(&["backup", "list", "--from", &nope], &[]), 66, &["  try: "]);
    let restored = dir.path().join("restored").display().to_string();
    says(&headwater(&["restore", "--from", &nope, "--data-dir", &restored], &[]), 66, &["  try: "]);
    let file = dir.path().join("file").display().to_string();
    std::fs::write(&file, "x").expect("written");
    let data = dir.path().join("node").display().to_string();
    let output = headwater(&["backup", "--data-dir", &data, "--to", &file], &[]);
    assert!(!output.status.success());
    says(&output, output.status.code().expect("a code"), &["  try: "]);
}

#[test]
fn input_that_is_wrong_is_wrong_data() {
    let dir = tempfile::tempdir().expect("a directory");
    let node = Node::start(dir.path());
    node.done(&["topic", "create", "customers", "--kind", "entity"], "");
    says(&node.run(&["produce", "customers"], "nobody\n"), 65, &["record 0"]);
    node.done(&["topic", "create", "orders"], "");
    let mut child = Command::new(HEADWATER)
        .args(["produce", "orders", "--bootstrap", &node.kafka])
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it runs");
    child.stdin.take().expect("stdin is piped").write_all(b"one\ntwo\n\xff\xfe\n").expect("written");
    let output = child.wait_with_output().expect("it ends");
    says(&output, 65, &["line 3 is not UTF-8", "the 2 lines before are written"]);
    let one = node.run(&["produce", "orders"], "one\n");
    says(&one, 0, &["1 event written to orders"]);
}

#[test]
fn lines_before_one_that_does_not_fit_are_written() {
    let dir = tempfile::tempdir().expect("a directory");
    let node = Node::start(&dir.path().join("node"));
    let schema = dir.path().join("order.avsc").display().to_string();
    let fields = r#"[{"name":"id","type":"long"}]"#;
    let text = format!(r#"{{"type":"record","name":"Order","fields":{fields}}}"#);
    std::fs::write(&schema, text).expect("written");
    node.done(&["schema", "register", "orders-value", &schema], "");
    node.done(&["topic", "create", "orders"], "");
    let lines = "{\"id\":1}\n{\"id\":2}\n{\"number\":3}\n{\"id\":4}\n";
    let output = node.run(&["produce", "orders", "--avro"], lines);
    says(&output, 65, &["line 3: ", "number", "; the 2 lines before are written"]);
    let read = node.done(&["tail", "orders", "--from-beginning", "--no-follow", "--decode"], "");
    assert_eq!(read, "orders/0@0\t-\t{\"id\":1}\norders/0@1\t-\t{\"id\":2}\n");
    let none = node.run(&["produce", "orders", "--avro"], "no JSON\n");
    says(&none, 65, &["line 1: ", "; nothing is written"]);
}

#[test]
fn what_is_no_avro_does_not_end_a_tail_that_decodes() {
    let dir = tempfile::tempdir().expect("a directory");
    let node = Node::start(dir.path());
    node.done(&["topic", "create", "orders"], "");
    // A number of eight bytes as key begins as what names a schema does.
    node.done(&["produce", "orders", "--key-separator", "="], "\0\0\0\0\0\0\0*=first\nsecond=1.10\n");
    let tail = ["tail", "orders", "--from-beginning", "--no-follow", "--decode", "--json"];
    let output = node.run(&tail, "");
    says(&output, 0, &["orders/0@0 is shown as it is, and not decoded"]);
    let read = String::from_utf8(output.stdout).expect("UTF-8");
    let last = read.lines().last().expect("a line");
    assert!(read.contains("\"value\":\"first\"") && last.contains("\"value\":1.10,"), "{read}");
}

#[test]
fn a_backup_inside_of_what_it_copies_is_refused() {
    let dir = tempfile::tempdir().expect("a directory");
    let data = dir.path().join("data");
    let node = Node::start(&data);
    let inside = data.join("new/backup").display().to_string();
    let data = data.display().to_string();
    let output = headwater(&["backup", "--data-dir", &data, "--to", &inside], &[]);
    says(&output, 2, &["is inside", "elsewhere"]);
    assert!(!std::path::Path::new(&inside).exists());
    let to = dir.path().join("backup").display().to_string();
    for _ in 0..2 {
        says(&headwater(&["backup", "--data-dir", &data, "--to", &to], &[]), 0, &[]);
        node.done(&["topic", "create", &format!("t{}", std::process::id())], "");
        node.done(&["topic", "delete", &format!("t{}", std::process::id()), "--yes"], "");
    }
    let prune = ["backup", "prune", "--from", &to, "--keep", "1"];
    says(&headwater(&prune, &[]), 2, &["would remove 1 backup for ever", "--yes"]);
    let pruned = headwater(&[&prune[..], &["--yes"]].concat(), &[]);
    assert!(String::from_utf8_lossy(&pruned.stdout).starts_with("removed 1 backup and "), "{pruned:?}");
    let nothing = headwater(&[&prune[..], &["--json"]].concat(), &[]);
    says(&nothing, 0, &["nothing to remove"]);
    assert_eq!(String::from_utf8_lossy(&nothing.stdout), "{\"bytes\":0,\"files\":0,\"removed\":[]}\n");
}

#[test]
fn what_cannot_be_undone_is_asked_for() {
    says(&headwater(&["user", "delete", "bob"], &[]), 2, &["--yes"]);
    says(&headwater(&["dead-letters", "discard", "dead"], &[]), 2, &["--dry-run", "--yes"]);
}

#[test]
fn what_is_hidden_is_not_listed_and_a_wrong_log_is_said() {
    let output = headwater(&[], &[("HEADWATER_BOOTSTRAP", "127.0.0.1:1")]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("doctor") && !said.contains("demo-service"), "{said}");
    says(
        &headwater(&["completion", "bash"], &[("HEADWATER_LOG", "loud=yes")]),
        2,
        &["HEADWATER_LOG=loud=yes", "  try: "],
    );
    let help = headwater(&["--help"], &[]);
    assert!(String::from_utf8_lossy(&help.stdout).contains("migrate"));
}
