//! A cluster for an example: the embedded broker, or the Apache Kafka at HEADWATER_TEST_BOOTSTRAP.

use std::net::{Ipv4Addr, SocketAddr};
use std::process::Stdio;

use headwater_broker::{Broker, Config};
use headwater_stage::Options;
use tempfile::TempDir;

pub struct Cluster {
    bootstrap: String,
    broker: Option<(Broker, TempDir)>,
}

impl Cluster {
    pub async fn start() -> Self {
        if let Ok(bootstrap) = std::env::var("HEADWATER_TEST_BOOTSTRAP") {
            return Self { bootstrap, broker: None };
        }
        let folder = tempfile::tempdir().unwrap();
        let listen = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let data_dir = folder.path().to_owned();
        let config = Config { data_dir, listen, auto_create_topics: false, ..Config::default() };
        let broker = Broker::start(config).await.unwrap();
        Self { bootstrap: broker.bootstrap(), broker: Some((broker, folder)) }
    }

    pub fn options(&self, partitions: i32) -> Options {
        Options {
            bootstrap_server: self.bootstrap.clone(),
            command_config: std::env::var_os("HEADWATER_TEST_COMMAND_CONFIG").map(Into::into),
            seed: 1,
            partitions,
            replication_factor: -1,
            keep: false,
        }
    }

    /// Runs the program and returns what it says; it has to succeed.
    pub async fn run(&self, arguments: &[&str]) -> String {
        let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_headwater-book"));
        command.args(["--bootstrap-server", &self.bootstrap]);
        if let Some(file) = self.options(1).command_config {
            command.arg("--command-config").arg(file);
        }
        let ran = command.args(arguments).stdin(Stdio::null()).kill_on_drop(true).output().await.unwrap();
        let (out, errors) = (String::from_utf8_lossy(&ran.stdout), String::from_utf8_lossy(&ran.stderr));
        assert!(ran.status.success(), "{arguments:?} ended with {}: {out}{errors}", ran.status);
        out.into_owned()
    }

    pub async fn stop(self) {
        if let Some((broker, folder)) = self.broker {
            broker.shutdown().await;
            drop(folder);
        }
    }
}
