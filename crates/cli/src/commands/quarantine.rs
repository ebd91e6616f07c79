//! `headwater quarantine`: what an instance of a service holds back, and letting it go.

use std::process::ExitCode;

use serde_json::Value;

use super::http;
use crate::Common;
use crate::output::{self, Failure, NO_INPUT};

/// Where the address of an instance is known from.
pub const INSTANCE: &str = "http:// and what the service has as HEADWATER_HTTP or `http` under [runtime] of its manifest, where HTTP is off unless it is set; the console of headwater up lists the instances that run";

#[derive(clap::Subcommand)]
pub enum Quarantine {
    /// The keys that wait in the tasks of an instance, and why
    List {
        /// The instance: http://HOST:PORT
        instance: String,
    },
    /// Process what waits, of one key or of all, in its order. The instance has to allow commands over HTTP
    Release {
        /// The instance that has the key: http://HOST:PORT
        instance: String,
        /// This key only
        #[arg(long)]
        key: Option<String>,
        /// This key only, in hexadecimal
        #[arg(long, conflicts_with = "key")]
        key_hex: Option<String>,
    },
}

impl Quarantine {
    pub async fn run(self, common: &Common) -> Result<ExitCode, Failure> {
        let client = reqwest::Client::new();
        let (answer, list) = match &self {
            Self::List { instance } => {
                let url = at(instance, "/quarantine")?;
                (ask(url.clone(), client.get(url)).await?, "keys")
            }
            Self::Release { instance, key, key_hex } => {
                let mut url = at(instance, "/quarantine/release")?;
                for (name, value) in [("key", key), ("key_hex", key_hex)] {
                    if let Some(value) = value {
                        url.query_pairs_mut().append_pair(name, value);
                    }
                }
                (ask(url.clone(), client.post(url)).await?, "released")
            }
        };
        let keys = answer[list].as_array().cloned().unwrap_or_default();
        if common.json {
            keys.iter().for_each(output::json);
            return Ok(ExitCode::SUCCESS);
        }
        let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        let row = |key: &Value| {
            let number = |name: &str| output::number(key[name].as_i64().unwrap_or(0));
            let failure = format!("{}: {}", text(&key["node"]), text(&key["message"]));
            vec![text(&key["key"]), text(&key["task"]), number("records"), number("bytes"), failure]
        };
        output::table(&["KEY", "TASK", "RECORDS#", "BYTES#", "FAILURE"], keys.iter().map(row).collect());
        Ok(ExitCode::SUCCESS)
    }
}

fn at(instance: &str, path: &str) -> Result<reqwest::Url, Failure> {
    http::base(instance, "INSTANCE")?;
    http::base(&format!("{}{path}", instance.trim_end_matches('/')), "INSTANCE")
}

async fn ask(url: reqwest::Url, request: reqwest::RequestBuilder) -> Result<Value, Failure> {
    let failed = |error: reqwest::Error| http::failed("instance", url.as_str(), &error, INSTANCE);
    let response = request.send().await.map_err(failed)?;
    let status = response.status();
    let answer: Value = response.json().await.map_err(failed)?;
    if status.is_success() {
        return Ok(answer);
    }
    let detail = answer["detail"].as_str().unwrap_or("it says no more").to_owned();
    Err(Failure::new(NO_INPUT, format_args!("the instance answers {status}"), detail))
}
