//! A broker in a process of its own, to be killed: the test binary runs itself with one test.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use headwater_broker::{Broker, Config};

use crate::common::config;

const DIRECTORY: &str = "HEADWATER_BROKER_TEST_DIRECTORY";
const LISTEN: &str = "HEADWATER_BROKER_TEST_LISTEN";
const TEST: &str = "process::serve_until_killed";

/// Not a test by itself: what [`Process`] runs.
#[tokio::test]
async fn serve_until_killed() {
    let Some(directory) = std::env::var_os(DIRECTORY) else { return };
    let listen = std::env::var(LISTEN).expect("an address").parse().expect("an address");
    let config = Config { listen, ..config(Path::new(&directory)) };
    let broker = Broker::start(config).await.expect("the broker starts");
    println!("\nserving {}", broker.bootstrap());
    std::future::pending::<()>().await;
}

pub struct Process {
    child: Child,
    pub address: String,
}

impl Process {
    /// Listens where it is told to, as after a crash, or on any free port.
    pub fn start(directory: &Path, listen: Option<&str>) -> Self {
        let mut child = Command::new(std::env::current_exe().expect("a test binary"))
            .args(["--exact", TEST, "--nocapture"])
            .env(DIRECTORY, directory)
            .env(LISTEN, listen.unwrap_or("127.0.0.1:0"))
            .stdout(Stdio::piped())
            .spawn()
            .expect("the process starts");
        let lines = BufReader::new(child.stdout.take().expect("its output")).lines();
        let address =
            lines.map_while(Result::ok).find_map(|line| Some(line.strip_prefix("serving ")?.to_owned()));
        Self { child, address: address.expect("the process serves") }
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Process {
    /// SIGKILL
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
