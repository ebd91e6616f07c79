//! The Java program of the streams tests, as a process.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

/// How long anything may take.
pub const LIMIT: Duration = Duration::from_secs(120);

/// A Java program and what it has said.
pub struct Java {
    child: Child,
    stdin: Option<ChildStdin>,
    said: Arc<Mutex<Vec<String>>>,
}

impl Java {
    pub fn start(jars: &Path, arguments: &[&str]) -> Self {
        let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/java/StreamsApplication.java");
        let mut child = Command::new("java")
            .arg(format!("-Dlog4j2.configurationFile={}", jars.join("log4j2.properties").display()))
            .args(["-Xmx256m", "-cp", &format!("{}/*", jars.display())])
            .arg(program)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("java starts");
        let said = Arc::new(Mutex::new(Vec::new()));
        let lines = BufReader::new(child.stdout.take().expect("stdout")).lines();
        let heard = Arc::clone(&said);
        thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                heard.lock().expect("the lines").push(line);
            }
        });
        Self { stdin: child.stdin.take(), child, said }
    }

    pub fn said(&self) -> Vec<String> {
        self.said.lock().expect("the lines").clone()
    }

    /// Waits for a line for which `wanted` holds, and returns it.
    pub fn wait(&self, what: &str, wanted: impl Fn(&str) -> bool) -> String {
        let begun = Instant::now();
        loop {
            let said = self.said();
            if let Some(line) = said.iter().find(|line| wanted(line)) {
                return line.clone();
            }
            assert!(begun.elapsed() < LIMIT, "{what}: {said:#?}");
            thread::sleep(Duration::from_millis(50));
        }
    }

    /// The tasks that it told of last.
    pub fn tasks(&self) -> Vec<String> {
        let said = self.said();
        let last = said.iter().rev().find_map(|line| line.strip_prefix("tasks "));
        let tasks = last.unwrap_or_default().split(',').filter(|task| !task.is_empty());
        tasks.map(str::to_owned).collect()
    }

    pub fn kill(&mut self) {
        self.child.kill().expect("SIGKILL");
        self.child.wait().expect("gone");
    }

    /// Ends an application as its user would.
    pub fn close(mut self) {
        drop(self.stdin.take());
        let status = self.child.wait().expect("it ends");
        assert!(status.success(), "{status}: {:#?}", self.said());
    }
}

impl Drop for Java {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
