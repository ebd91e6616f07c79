//! `headwater up`: broker, registry and console until SIGTERM or Ctrl-C.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use headwater_node::{Node, NodeConfig, NodeError};
use serde_json::json;
use tokio::signal::unix::{SignalKind, signal};

use crate::Common;
use crate::output::{self, Failure};

#[derive(clap::Args)]
pub struct Up {
    /// Where the log lives [default: headwater in the user's data directory]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Kafka listener, unless the setting `listeners` names others; port 0 takes a free one
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:9092")]
    listen: SocketAddr,
    /// Registry, API and console; port 0 takes a free one
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:8081")]
    http: SocketAddr,
    /// Partitions of a topic that is created by using it
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(i32).range(1..=10_000))]
    default_partitions: i32,
    /// Let other machines in without TLS or authentication, where a listener is open to them; with --bootstrap, lend
    /// what this node may do there to whoever comes by HTTP
    #[arg(long)]
    insecure: bool,
    /// A setting of the broker, by Kafka's key: log.retention.check.interval.ms=60000; may be repeated
    #[arg(long = "config", value_name = "KEY=VALUE")]
    configs: Vec<String>,
    /// A properties file with such settings
    #[arg(long, value_name = "FILE")]
    config_file: Option<PathBuf>,
}

impl Up {
    pub async fn run(mut self, common: &Common) -> Result<ExitCode, Failure> {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let data_dir = match self.data_dir {
            Some(dir) => dir,
            None => default_data_dir()?,
        };
        self.configs.extend(self.insecure.then(|| "headwater.insecure=true".to_owned()));
        let config = NodeConfig {
            data_dir: data_dir.clone(),
            kafka: self.listen,
            http: self.http,
            bootstrap: common.bootstrap.clone(),
            default_partitions: self.default_partitions,
            config_file: self.config_file,
            configs: self.configs,
            security: common.security()?,
        };
        let node = tokio::select! {
            node = Node::start(config) => node?,
            _ = terminate.recv() => return Ok(ExitCode::SUCCESS),
            _ = interrupt.recv() => return Ok(ExitCode::SUCCESS),
        };
        let ready_ms = node.ready_after().as_millis() as u64;
        if common.json {
            output::json(
                &json!({ "ready": true, "kafka": node.kafka(), "http": node.http(), "ready_ms": ready_ms }),
            );
        } else {
            output::line(&format!("Kafka     {}", node.kafka()));
            output::line(&format!("console   {}", node.http()));
            output::line(&format!("registry  {}", node.http()));
            if common.bootstrap.is_none() {
                output::line(&format!("data      {}", data_dir.display()));
            }
            output::line(&format!("ready in {ready_ms} ms; Ctrl-C stops"));
        }
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        node.shutdown().await;
        Ok(ExitCode::SUCCESS)
    }
}

fn default_data_dir() -> Result<PathBuf, Failure> {
    let base = std::env::var_os("XDG_DATA_HOME").map(PathBuf::from).filter(|dir| dir.is_absolute());
    let home = || std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".local/share"));
    base.or_else(home).map(|dir| dir.join("headwater")).ok_or_else(|| {
        Failure::new(
            output::NO_INPUT,
            "neither XDG_DATA_HOME nor HOME is set",
            "name a directory with --data-dir DIR".to_owned(),
        )
    })
}

impl From<NodeError> for Failure {
    fn from(error: NodeError) -> Self {
        Self::new(output::UNAVAILABLE, error, None)
    }
}
