//! `headwater up`: broker, registry and console until SIGTERM or Ctrl-C.

use std::ffi::OsStr;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use headwater_node::{Node, NodeConfig, NodeError};
use serde_json::{Value, json};
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::Common;
use crate::output::{self, Failure};

const LISTEN: &str = "127.0.0.1:9092";
const PARTITIONS: i32 = 1;
/// As clap has it.
const USAGE: u8 = 2;
/// What a shell says of a program that SIGINT has ended.
const INTERRUPTED: i32 = 130;
/// Keys of --config that say who may come by HTTP, and so are of use without a broker.
const OF_HTTP: [&str; 13] = [
    "allow.everyone.if.no.acl.found",
    "authorizer.",
    "connections.max.reauth.ms",
    "headwater.authentication.",
    "headwater.http.",
    "headwater.insecure",
    "headwater.sasl.",
    "headwater.security.",
    "headwater.services.",
    "listener.name.http.",
    "sasl.",
    "ssl.",
    "super.users",
];

#[derive(clap::Args)]
pub struct Up {
    /// Where the log lives [default: headwater in the user's data directory]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    #[arg(
        long,
        value_name = "HOST:PORT",
        help = "Kafka listener, unless the setting `listeners` names others; port 0 takes a free one [default: 127.0.0.1:9092]"
    )]
    listen: Option<String>,
    /// Registry, API and console; port 0 takes a free one
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:8081")]
    http: String,
    #[arg(
        long,
        value_name = "N",
        value_parser = clap::value_parser!(i32).range(1..=10_000),
        help = "Partitions of a topic that is created by using it [default: 1]"
    )]
    default_partitions: Option<i32>,
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
        let mut signals = Signals {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        };
        if let Some(bootstrap) = &common.bootstrap {
            self.refuse_options_of_a_broker(bootstrap)?;
            self.config_file.as_deref().into_iter().for_each(tell_unheeded);
        }
        let data_dir = match self.data_dir {
            Some(dir) => dir,
            None => default_data_dir()?,
        };
        // What the command line says wins over the file.
        if let Some(count) = self.default_partitions {
            self.configs.insert(0, format!("num.partitions={count}"));
        }
        self.configs.extend(self.insecure.then(|| "headwater.insecure=true".to_owned()));
        let config = NodeConfig {
            data_dir: data_dir.clone(),
            kafka: resolve("--listen", self.listen.as_deref().unwrap_or(LISTEN)).await?,
            http: resolve("--http", &self.http).await?,
            bootstrap: common.bootstrap.clone(),
            default_partitions: self.default_partitions.unwrap_or(PARTITIONS),
            config_file: self.config_file,
            configs: self.configs,
            security: common.security()?,
        };
        let node = tokio::select! {
            node = Node::start(config) => node?,
            () = signals.next() => return Ok(ExitCode::SUCCESS),
        };
        output::to_the_end();
        match common.json {
            true => output::json(&ready_json(&node)),
            false => print_ready(&node, common.bootstrap.is_none().then_some(&data_dir)),
        }
        signals.next().await;
        tokio::select! {
            () = node.shutdown() => Ok(ExitCode::SUCCESS),
            () = signals.next() => {
                output::note("a second signal: ended at once, as by a kill; the next start reads the log as after one");
                std::process::exit(INTERRUPTED)
            }
        }
    }

    /// They would say nothing to nobody: with a bootstrap this process has no broker.
    fn refuse_options_of_a_broker(&self, bootstrap: &str) -> Result<(), Failure> {
        let given = [
            ("--data-dir", self.data_dir.is_some()),
            ("--listen", self.listen.is_some()),
            ("--default-partitions", self.default_partitions.is_some()),
        ];
        let option = given.into_iter().find(|(_, is_given)| *is_given).map(|(option, _)| option.to_owned());
        let setting = || self.configs.iter().find(|setting| !is_of_http(setting));
        // What it is set to may be a password.
        let key = |setting: &String| format!("--config {}", setting.split('=').next().unwrap_or_default());
        let Some(option) = option.or_else(|| setting().map(key)) else {
            return Ok(());
        };
        let (from, without) = match origin() {
            Origin::Option => ("--bootstrap", "leave out --bootstrap"),
            Origin::Environment => ("HEADWATER_BOOTSTRAP in the environment", "unset HEADWATER_BOOTSTRAP"),
        };
        Err(Failure::new(
            USAGE,
            format!("{option} is for a broker in this process, and {from} names one elsewhere: {bootstrap}"),
            format!(
                "{without} to start a broker here; or leave out {option} to start registry and console for {bootstrap}"
            ),
        ))
    }
}

fn is_of_http(setting: &str) -> bool {
    OF_HTTP.iter().any(|key| setting.starts_with(key))
}

/// A file may serve a node with a broker, too, so that its settings are no error here; but nobody is to count on them.
fn tell_unheeded(file: &Path) {
    // That it cannot be read is said by the node.
    let text = std::fs::read_to_string(file).unwrap_or_default();
    let unheeded = unheeded(&text);
    if !unheeded.is_empty() {
        let what = "there is no broker here that would heed these of its settings";
        output::note(&format!("{}: {what}: {}", file.display(), unheeded.join(", ")));
    }
}

/// Keys of a properties file that are for a broker.
fn unheeded(text: &str) -> Vec<&str> {
    let mut keys = Vec::new();
    let mut goes_on = false;
    for line in text.lines().map(str::trim) {
        let is_key = !goes_on && !line.is_empty() && !line.starts_with(['#', '!']);
        goes_on = line.ends_with('\\');
        let key = line.split(['=', ':', ' ', '\t']).next().unwrap_or(line);
        if is_key && !is_of_http(key) {
            keys.push(key);
        }
    }
    keys
}

/// SIGTERM and Ctrl-C.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// Where the address of another Kafka was given.
enum Origin {
    Option,
    Environment,
}

fn origin() -> Origin {
    let is_option = |argument: &OsStr| {
        argument == "--bootstrap" || argument.as_encoded_bytes().starts_with(b"--bootstrap=")
    };
    match std::env::args_os().any(|argument| is_option(&argument)) {
        true => Origin::Option,
        false => Origin::Environment,
    }
}

/// The address of a host's name, that of IPv4 where it has several.
async fn resolve(option: &str, text: &str) -> Result<SocketAddr, Failure> {
    let unusable = |reason: String| {
        let next = format!(
            "{option} HOST:PORT with a name or an address of this machine, like 127.0.0.1:0 (port 0 takes a free one)"
        );
        Failure::new(USAGE, format!("{option} {text} cannot be used: {reason}"), next)
    };
    let found = tokio::net::lookup_host(text).await.map_err(|error| unusable(error.to_string()))?;
    let found: Vec<SocketAddr> = found.collect();
    let first = found.iter().find(|address| address.is_ipv4()).or(found.first());
    first.copied().ok_or_else(|| unusable("it has no address".to_owned()))
}

fn ready_json(node: &Node) -> Value {
    let listener = |of: &headwater_node::ListenerAddress| json!({ "name": of.name, "protocol": of.protocol.name(), "address": of.address });
    let listeners: Vec<Value> = node.listeners().iter().map(listener).collect();
    json!({
        "ready": true, "kafka": node.kafka(), "http": node.http(), "ready_ms": ready_ms(node),
        "broker": !listeners.is_empty(), "listeners": listeners,
    })
}

/// Without a directory there is no broker.
fn print_ready(node: &Node, data_dir: Option<&PathBuf>) {
    match node.listeners() {
        [] | [_] => output::line(&format!("Kafka     {}", node.kafka())),
        several => several.iter().for_each(|of| {
            output::line(&format!("Kafka     {} ({}://)", of.address, of.name));
        }),
    }
    output::line(&format!("console   {}", node.http()));
    output::line(&format!("registry  {}", node.http()));
    match data_dir {
        Some(data_dir) => output::line(&format!("data      {}", data_dir.display())),
        None => {
            let from = match origin() {
                Origin::Option => "--bootstrap",
                Origin::Environment => "HEADWATER_BOOTSTRAP",
            };
            output::line(&format!("no broker here: {from} names the Kafka above, which keeps the data"));
        }
    }
    output::line(&format!("ready in {} ms; Ctrl-C stops", ready_ms(node)));
}

fn ready_ms(node: &Node) -> u64 {
    node.ready_after().as_millis() as u64
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
        let code = match &error {
            NodeError::Setting(_) | NodeError::Services { .. } => output::DATA,
            NodeError::ConfigFile { .. } => output::NO_INPUT,
            _ => output::UNAVAILABLE,
        };
        Self::with_advice(code, error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_that_nobody_heeds_are_named() {
        let text = "# log.dirs=/a\nssl.keystore.key=a\\\n  b=c\n\nlog.retention.ms = 5\nnum.partitions:3\n";
        assert_eq!(unheeded(text), ["log.retention.ms", "num.partitions"]);
        assert!(unheeded("headwater.services.config.file=/a\n! b=c\n").is_empty());
    }
}
