//! moto's S3 (python/s3_server.py) in a process of its own, with a switch in front of it.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::common;

pub struct Server {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    pub endpoint: String,
    pub key: String,
    pub secret: String,
    /// Where a broker puts its objects.
    pub url: String,
}

impl Server {
    /// `None` when Python or moto is missing.
    pub fn start() -> Option<Self> {
        let python = common::python()?;
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/python/s3_server.py");
        let mut child = Command::new(python)
            .arg(script)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("python starts");
        let input = child.stdin.take().expect("stdin is piped");
        let mut output = BufReader::new(child.stdout.take().expect("stdout is piped"));
        let said = line(&mut output);
        let text = |name: &str| said[name].as_str().expect("a string").to_owned();
        let (endpoint, key, secret) = (text("endpoint"), text("key"), text("secret"));
        let url = format!("s3://{}/of/headwater", text("bucket"));
        Some(Self { child, input, output, endpoint, key, secret, url })
    }

    pub fn tell(&mut self, command: &str) -> Value {
        writeln!(self.input, "{command}").expect("it reads");
        line(&mut self.output)
    }

    /// Files of a log that are in the bucket, with their sizes, by the whole name.
    pub fn files(&mut self) -> BTreeMap<String, u64> {
        let objects = self.tell("objects");
        let objects = objects.as_object().expect("an object").iter();
        objects
            .filter(|(name, _)| !name.ends_with("cold-owner"))
            .map(|(name, size)| (name.clone(), size.as_u64().expect("a size")))
            .collect()
    }

    /// The methods of requests since the last command that changed something.
    pub fn requests(&mut self) -> Vec<String> {
        let counts = self.tell("counts");
        let requests = counts["requests"].as_array().expect("a list").iter();
        requests.map(|method| method.as_str().expect("a method").to_owned()).collect()
    }

    pub fn until(&mut self, what: &str, mut is_so: impl FnMut(&mut Self) -> bool) {
        let begun = Instant::now();
        while !is_so(self) {
            assert!(begun.elapsed() < Duration::from_secs(90), "{what}: {:?}", self.files());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// What a process needs to come in.
    pub fn environment(&self) -> [(&'static str, String); 5] {
        [
            ("AWS_ENDPOINT_URL", self.endpoint.clone()),
            ("AWS_ALLOW_HTTP", "true".to_owned()),
            ("AWS_REGION", "us-east-1".to_owned()),
            ("AWS_ACCESS_KEY_ID", self.key.clone()),
            ("AWS_SECRET_ACCESS_KEY", self.secret.clone()),
        ]
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn line(output: &mut BufReader<ChildStdout>) -> Value {
    let mut line = String::new();
    output.read_line(&mut line).expect("it answers");
    serde_json::from_str(&line).unwrap_or_else(|error| {
        panic!("{line:?}: {error}; run tests/python/s3_server.py by hand to see what is wrong")
    })
}
