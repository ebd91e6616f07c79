//! The command on a node with TLS and SASL, and kcat (librdkafka) beside it.

use std::path::Path;
use std::process::{Command, Stdio};

use crate::certificates::Authority;
use crate::common::{HEADWATER, Node, program, python};

/// A node whose clients come by SASL_SSL; `alice` is in its file of users.
fn secured(directory: &Path) -> (Node, Authority) {
    let ca = Authority::new(directory, "company");
    let keystore = ca.issue("server", &["127.0.0.1"]);
    std::fs::write(directory.join("users"), "alice=wonderland\n").expect("a file");
    let properties = format!(
        "listeners=SASL_SSL://127.0.0.1:0\nssl.keystore.location={}\nheadwater.sasl.users.file={}\n",
        keystore.display(),
        directory.join("users").display()
    );
    std::fs::write(directory.join("server.properties"), properties).expect("a file");
    client_config(directory, &ca, "alice", "wonderland");
    let mut command = Command::new(HEADWATER);
    let node = Node::start_with_arguments(
        &mut command,
        &[
            "--data-dir",
            &directory.join("data").display().to_string(),
            "--config-file",
            &directory.join("server.properties").display().to_string(),
        ],
    );
    (node, ca)
}

fn client_config(directory: &Path, ca: &Authority, user: &str, password: &str) -> String {
    let file = directory.join(format!("{user}.properties"));
    let text = format!(
        "security.protocol=SASL_SSL\nsasl.mechanism=SCRAM-SHA-512\nssl.truststore.location={}\nssl.truststore.type=PEM\n\
         sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required \\\n  username=\"{user}\" password=\"{password}\";\n",
        ca.trust("company").display()
    );
    std::fs::write(&file, text).expect("a file");
    file.display().to_string()
}

#[test]
fn every_command_comes_in_by_its_command_config_and_without_it_none() {
    let dir = tempfile::tempdir().expect("a directory");
    let (node, ca) = secured(dir.path());
    let alice = dir.path().join("alice.properties").display().to_string();
    let refused = node.run(&["topic", "list"], "");
    assert!(!refused.status.success(), "without authentication");
    node.done(&["topic", "create", "orders", "--command-config", &alice], "");
    node.done(&["produce", "orders", "--command-config", &alice], "one\ntwo\n");
    let password = dir.path().join("password");
    std::fs::write(&password, "se cret\n").expect("a file");
    let password = password.display().to_string();
    node.done(&["user", "add", "bob", "--password-file", &password, "--command-config", &alice], "");
    let listed = node.done(&["user", "list", "--command-config", &alice], "");
    assert!(listed.contains("bob\tSCRAM-SHA-256, SCRAM-SHA-512"), "{listed}");
    let bob = client_config(dir.path(), &ca, "bob", "se cret");
    let read =
        node.done(&["tail", "orders", "--from-beginning", "--no-follow", "--command-config", &bob], "");
    assert!(read.contains("one") && read.contains("two"), "{read}");
    node.done(&["user", "delete", "bob", "--yes", "--command-config", &alice], "");
    let refused = node.run(&["topic", "list", "--command-config", &bob], "");
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(
        !refused.status.success() && said.contains("does not accept who this client says it is"),
        "{said}"
    );
    node.terminate();
}

fn kcat(
    kcat: &Path,
    node: &Node,
    ca: &Authority,
    login: [&str; 3],
    arguments: &[&str],
    input: &str,
) -> (bool, String) {
    let [mechanism, user, password] = login;
    let trust = format!("ssl.ca.location={}", ca.trust("company").display());
    let mut command = Command::new(kcat);
    command.args(["-b", &node.kafka, "-X", "security.protocol=SASL_SSL", "-X", &trust]);
    command.args(["-X", &format!("sasl.mechanism={mechanism}"), "-X", &format!("sasl.username={user}")]);
    command.args(["-X", &format!("sasl.password={password}")]).args(arguments);
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("kcat starts");
    let mut stdin = child.stdin.take().expect("stdin");
    // A program that has failed reads nothing.
    let _ = std::io::Write::write_all(&mut stdin, input.as_bytes());
    drop(stdin);
    let output = child.wait_with_output().expect("it ends");
    let said = [&output.stdout[..], &output.stderr[..]].concat();
    (output.status.success(), String::from_utf8_lossy(&said).into_owned())
}

#[test]
fn kcat_writes_and_reads_over_tls_by_every_mechanism_with_a_password() {
    let Some(program) = program("kcat") else { return };
    let dir = tempfile::tempdir().expect("a directory");
    let (node, ca) = secured(dir.path());
    for mechanism in ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] {
        let login = [mechanism, "alice", "wonderland"];
        let lines: String = (0..2000).map(|n| format!("{mechanism} {n}\n")).collect();
        let (done, said) = kcat(&program, &node, &ca, login, &["-P", "-t", mechanism], &lines);
        assert!(done, "{said}");
        let (done, said) = kcat(&program, &node, &ca, login, &["-C", "-t", mechanism, "-e", "-q"], "");
        assert!(done, "{said}");
        assert_eq!(said, lines);
        let wrong = [mechanism, "alice", "guess"];
        let (done, said) = kcat(&program, &node, &ca, wrong, &["-L", "-m", "2"], "");
        assert!(!done, "{said}");
    }
}

#[test]
fn confluent_kafka_manages_users_over_tls() {
    let Some(python) = python() else { return };
    let dir = tempfile::tempdir().expect("a directory");
    let (node, ca) = secured(dir.path());
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/python/confluent_kafka_users.py");
    let output = Command::new(python).arg(script).arg(&node.kafka).arg(ca.trust("company")).output();
    let output = output.expect("it ends");
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && out.lines().last() == Some("done"), "{out}\n{err}");
}

#[test]
fn a_listener_open_to_others_is_refused_unless_it_is_spelled_out() {
    let dir = tempfile::tempdir().expect("a directory");
    let data = dir.path().join("data").display().to_string();
    let open = ["up", "--json", "--listen", "0.0.0.0:0", "--http", "127.0.0.1:0", "--data-dir", &data];
    let refused = Command::new(HEADWATER).args(open).output().expect("it ends");
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success());
    for part in ["0.0.0.0:0", "neither TLS nor authentication", "SASL_SSL", "--insecure"] {
        assert!(said.contains(part), "{said}");
    }
    let mut command = Command::new(HEADWATER);
    let node = Node::start_on_with(&mut command, "0.0.0.0:0", &["--insecure", "--data-dir", &data]);
    node.done(&["topic", "list"], "");
}
