//! `headwater quarantine`: what an instance of a service holds back, and letting it go.

use std::process::ExitCode;

use headwater_client::without_password;
use reqwest::{Method, Url};
use serde_json::Value;

use super::http;
use crate::Common;
use crate::output::{self, DATA, Failure, NO_INPUT};

/// Where the address of an instance is known from.
pub const INSTANCE: &str = "http:// and what the service has as HEADWATER_HTTP or `http` under [runtime] of its manifest, where HTTP is off unless it is set; the console of headwater up lists the instances that run";

#[derive(clap::Subcommand)]
pub enum Quarantine {
    /// The keys that wait in the tasks of an instance, and why
    List {
        /// The instance: http://HOST:PORT, or https:// with --command-config
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
        let security = common.security()?;
        let asked = http::Asked { security: security.http(), whom: "instance", otherwise: INSTANCE };
        let (answer, list) = match &self {
            Self::List { instance } => {
                (ask(&asked, Method::GET, &at(instance, "/quarantine")?).await?, "keys")
            }
            Self::Release { instance, key, key_hex } => {
                let mut url = at(instance, "/quarantine/release")?;
                for (name, value) in [("key", key), ("key_hex", key_hex)] {
                    if let Some(value) = value {
                        url.query_pairs_mut().append_pair(name, value);
                    }
                }
                (ask(&asked, Method::POST, &url).await?, "released")
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

fn at(instance: &str, path: &str) -> Result<Url, Failure> {
    http::base(instance, "INSTANCE")?;
    http::base(&format!("{}{path}", instance.trim_end_matches('/')), "INSTANCE")
}

async fn ask(asked: &http::Asked<'_>, method: Method, url: &Url) -> Result<Value, Failure> {
    let text = asked.answer(url, asked.request(method, url).await?, NO_INPUT).await?;
    serde_json::from_str(&text).map_err(|error| {
        let url = without_password(url.as_str());
        Failure::new(DATA, format_args!("{url} answers no JSON: {error}"), INSTANCE.to_owned())
    })
}
