//! A real `headwater up` in a process of its own, and what else the tests need to be there.
#![allow(dead_code, reason = "`memory`, a binary of its own, uses little of it")]

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

pub const HEADWATER: &str = env!("CARGO_BIN_EXE_headwater");

pub struct Node {
    child: Child,
    pub kafka: String,
    pub http: String,
}

impl Node {
    pub fn start(data_dir: &Path) -> Self {
        Self::start_on(data_dir, "127.0.0.1:0")
    }

    pub fn start_on(data_dir: &Path, listen: &str) -> Self {
        Self::wait(Command::new(HEADWATER).args(up(listen)).arg("--data-dir").arg(data_dir))
    }

    /// With settings of the broker, as `KEY=VALUE`.
    pub fn start_set(data_dir: &Path, listen: &str, settings: &[&str]) -> Self {
        let mut command = Command::new(HEADWATER);
        command.args(up(listen)).arg("--data-dir").arg(data_dir);
        Self::wait(settings.iter().fold(&mut command, |command, setting| command.args(["--config", setting])))
    }

    /// What `command` starts must become the node in the end; it gets the arguments but for the directory.
    pub fn start_with(command: &mut Command) -> Self {
        Self::wait(command.args(up("127.0.0.1:0")))
    }

    /// What `command` starts must become the node in the end; it has all its arguments.
    pub fn start_as(command: &mut Command) -> Self {
        Self::wait(command)
    }

    /// As [`Self::start_with`], with arguments that stand after the others.
    pub fn start_with_arguments(command: &mut Command, more: &[&str]) -> Self {
        Self::start_on_with(command, "127.0.0.1:0", more)
    }

    pub fn start_on_with(command: &mut Command, listen: &str, more: &[&str]) -> Self {
        Self::wait(command.args(up(listen)).args(more))
    }

    fn wait(command: &mut Command) -> Self {
        let mut child = command
            .env_remove("HEADWATER_BOOTSTRAP")
            .stdout(Stdio::piped())
            .spawn()
            .expect("headwater starts");
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("stdout is piped")).read_line(&mut line).expect("a line");
        let ready: Value = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{line:?}: {error}"));
        assert_eq!(ready["ready"], true, "{line}");
        Self { child, kafka: text(&ready["kafka"]), http: text(&ready["http"]) }
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    pub fn kill(mut self) {
        self.child.kill().expect("SIGKILL");
        self.child.wait().expect("gone");
    }

    /// SIGTERM; the exit code must be 0.
    pub fn terminate(mut self) {
        let status = Command::new("kill").arg(self.child.id().to_string()).status().expect("kill runs");
        assert!(status.success());
        let begun = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().expect("try_wait") {
                assert!(status.success(), "{status}");
                return;
            }
            assert!(begun.elapsed() < Duration::from_secs(20), "SIGTERM did not stop it");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Runs a `headwater` command against this node.
    pub fn run(&self, arguments: &[&str], input: &str) -> Output {
        self.spawn(arguments, input).wait_with_output().expect("it ends")
    }

    /// As [`Self::run`], without waiting for its end.
    pub fn spawn(&self, arguments: &[&str], input: &str) -> Child {
        let mut child = Command::new(HEADWATER)
            .args(arguments)
            .env("HEADWATER_BOOTSTRAP", &self.kafka)
            .env("HEADWATER_REGISTRY", &self.http)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("headwater starts");
        let mut stdin = child.stdin.take().expect("stdin is piped");
        let input = input.as_bytes().to_vec();
        // A command that fails stops reading.
        std::thread::spawn(move || stdin.write_all(&input));
        child
    }

    pub fn done(&self, arguments: &[&str], input: &str) -> String {
        let output = self.run(arguments, input);
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("UTF-8")
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn up(listen: &str) -> [&str; 6] {
    ["up", "--json", "--listen", listen, "--http", "127.0.0.1:0"]
}

fn text(value: &Value) -> String {
    value.as_str().expect("a string").to_owned()
}

/// A program the tests need; absent it is a skip with a reason, and a failure under CI=true.
pub fn program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).map(|dir| dir.join(name)).find(|file| file.is_file());
    if found.is_none() {
        missing(&format!("{name} is not installed (Debian: apt-get install {name})"));
    }
    found
}

/// A Python with kafka-python and confluent-kafka, as `cargo xtask test` makes it.
pub fn python() -> Option<PathBuf> {
    let found = std::env::var_os("HEADWATER_TEST_PYTHON").map(PathBuf::from);
    if found.is_none() {
        missing(
            "HEADWATER_TEST_PYTHON is not set; `cargo xtask test` installs the Python clients and sets it",
        );
    }
    found
}

/// The Apache Kafka that `cargo xtask test` has started.
pub fn kafka() -> Option<String> {
    let found = std::env::var("HEADWATER_TEST_BOOTSTRAP").ok();
    if found.is_none() {
        missing("HEADWATER_TEST_BOOTSTRAP is not set; `cargo xtask test` starts an Apache Kafka and sets it");
    }
    found
}

/// The jars of Apache Kafka, clients included, that `cargo xtask test` has fetched.
pub fn kafka_jars() -> Option<PathBuf> {
    jars("HEADWATER_TEST_KAFKA_JARS")
}

/// The jars of Kafka's command-line tools.
pub fn kafka_tools() -> Option<PathBuf> {
    jars("HEADWATER_TEST_KAFKA_TOOLS")
}

/// The directory of jars that `cargo xtask test` names in this variable.
pub fn jars(variable: &str) -> Option<PathBuf> {
    let found = std::env::var_os(variable).map(PathBuf::from);
    if found.is_none() {
        missing(&format!(
            "{variable} is not set; `cargo xtask test` fetches Apache Kafka's jars and sets it"
        ));
    }
    found
}

/// One of Kafka's tools, by its class, as it is run on a cluster.
pub fn kafka_tool(jars: &Path, class: &str, bootstrap: &str) -> Command {
    let mut command = Command::new("java");
    command.arg("-cp").arg(jars.join("*")).args([class, "--bootstrap-server", bootstrap]);
    command
}

/// What a program says that must succeed.
pub fn succeeds(command: &mut Command) -> String {
    let output = command.output().expect("it runs");
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{command:?}\n{out}\n{err}");
    out.into_owned()
}

pub fn missing(reason: &str) {
    assert!(std::env::var("CI").as_deref() != Ok("true"), "{reason}");
    eprintln!("skipped: {reason}");
}
