//! `headwater topology`: what a service does, and what a new version of it asks for.

use std::process::ExitCode;

use clap::ValueEnum;
use headwater_client::without_password;
use headwater_streams::{ChangeSafety, TopologyDescription};
use serde_json::{Value, json};

use super::http;
use super::migrate::Migrate;
use super::quarantine::INSTANCE;
use super::reprocess::Reprocess;
use crate::Common;
use crate::output::{self, DATA, Failure, NO_INPUT, UNAVAILABLE};

#[derive(clap::Subcommand)]
pub enum Topology {
    /// A topology as Kafka Streams writes it
    Describe {
        /// A file of JSON, - for standard input, or the address of a running instance (http://HOST:PORT; https:// with --command-config)
        source: String,
    },
    /// What the new version asks for: safe, restart, repartition or rebuild. Exit code 1 when more than --allow
    Diff {
        /// The version that runs: a file of JSON, or the address of an instance
        old: String,
        /// The version that is to run
        new: String,
        /// What is no reason for exit code 1
        #[arg(long, value_enum, default_value_t = Allowed::Safe)]
        allow: Allowed,
    },
    /// State of the version that ran, brought to where the new one looks for it: a plan, and, with --execute, the work
    Migrate(Migrate),
    /// What processing its input again would take: offsets, data, time; and, with --execute, the reset for it
    Reprocess(Reprocess),
}

#[derive(Clone, Copy, ValueEnum)]
pub enum Allowed {
    Safe,
    Restart,
    Repartition,
    Rebuild,
}

impl From<Allowed> for ChangeSafety {
    fn from(allowed: Allowed) -> Self {
        match allowed {
            Allowed::Safe => Self::Safe,
            Allowed::Restart => Self::Restart,
            Allowed::Repartition => Self::Repartition,
            Allowed::Rebuild => Self::Rebuild,
        }
    }
}

impl Topology {
    pub async fn run(self, common: &Common) -> Result<ExitCode, Failure> {
        match self {
            Topology::Migrate(migrate) => migrate.run(common).await,
            Topology::Reprocess(reprocess) => reprocess.run(common).await,
            Topology::Describe { source } => {
                let said = read(&source, common).await?;
                let description = description(&source, said.clone())?;
                match common.json {
                    true => output::json(&description),
                    false => {
                        output::line(description.to_string().trim_end());
                        skew(&said).iter().for_each(|line| output::line(line));
                    }
                }
                Ok(ExitCode::SUCCESS)
            }
            Topology::Diff { old, new, allow } => {
                let diff = load(&old, common).await?.diff(&load(&new, common).await?);
                let safety = diff.safety();
                match common.json {
                    true => output::json(&json!({ "safety": safety, "changes": diff.changes })),
                    false => output::line(diff.to_string().trim_end()),
                }
                Ok(if safety <= allow.into() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
            }
        }
    }
}

/// Clocks that are ahead, of an instance that runs.
fn skew(said: &Value) -> Vec<String> {
    let tasks = said["tasks"].as_object().into_iter().flatten();
    let inputs = tasks.filter_map(|(_, task)| task["skew"].as_object()).flatten();
    let ahead =
        inputs.filter_map(|(input, skew)| Some((input, skew["ahead_ms"].as_i64()?, &skew["future_records"])));
    let mut lines: Vec<String> = ahead
        .filter(|(_, ms, _)| *ms > 0)
        .map(|(input, ms, beyond)| {
            format!("   Clock skew: {input} has been up to {ms} ms ahead; {beyond} records beyond the bound")
        })
        .collect();
    lines.sort();
    lines
}

pub(super) async fn load(source: &str, common: &Common) -> Result<TopologyDescription, Failure> {
    description(source, read(source, common).await?)
}

/// A description from wherever it is: alone, or as an instance tells it with what else it knows.
async fn read(source: &str, common: &Common) -> Result<Value, Failure> {
    let text = match source {
        address if address.starts_with("http://") || address.starts_with("https://") => {
            ask(address, common).await?
        }
        "-" => std::io::read_to_string(std::io::stdin()).map_err(|error| unread("standard input", &error))?,
        file => std::fs::read_to_string(file).map_err(|error| unread(file, &error))?,
    };
    serde_json::from_str(&text).map_err(|error| no_description(source, &error))
}

fn unread(what: &str, error: &std::io::Error) -> Failure {
    let next = "a file of JSON (headwater topology describe --json), - for standard input, or http://HOST:PORT of an instance";
    Failure::new(NO_INPUT, format_args!("reading {what}: {error}"), next.to_owned())
}

fn description(source: &str, mut value: Value) -> Result<TopologyDescription, Failure> {
    let within = value.get_mut("topology").map(Value::take);
    serde_json::from_value(within.unwrap_or(value)).map_err(|error| no_description(source, &error))
}

fn no_description(source: &str, error: &serde_json::Error) -> Failure {
    let source = if source.contains("://") { without_password(source) } else { source.to_owned() };
    let next = "write one with serde_json::to_string(&topology.describe()), or name a running instance: http://HOST:PORT";
    Failure::new(DATA, format_args!("{source} holds no description of a topology: {error}"), next.to_owned())
}

async fn ask(address: &str, common: &Common) -> Result<String, Failure> {
    http::base(address, "the address")?;
    let security = common.security()?;
    let asked = http::Asked { security: security.http(), whom: "instance", otherwise: INSTANCE };
    let url = format!("{}/topology", address.trim_end_matches('/').trim_end_matches("/topology"));
    let url = http::base(&url, "the address")?;
    asked.answer(&url, asked.request(reqwest::Method::GET, &url).await?, UNAVAILABLE).await
}
