//! `headwater quarantine`: what an instance of a service holds back, and letting it go.

use std::process::ExitCode;

use serde_json::Value;

use crate::Common;
use crate::output::{self, DATA, Failure, NO_INPUT, UNAVAILABLE};

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
            Self::List { instance } => (ask(client.get(at(instance, "/quarantine"))).await?, "keys"),
            Self::Release { instance, key, key_hex } => {
                let which = [("key", key), ("key_hex", key_hex)];
                let which = which.into_iter().filter_map(|(name, value)| Some((name, value.as_ref()?)));
                let url = reqwest::Url::parse_with_params(&at(instance, "/quarantine/release"), which);
                let next = "name an instance: http://HOST:PORT".to_owned();
                let url =
                    url.map_err(|error| Failure::new(DATA, format_args!("{instance}: {error}"), next))?;
                (ask(client.post(url)).await?, "released")
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

fn at(instance: &str, path: &str) -> String {
    format!("{}{path}", instance.trim_end_matches('/'))
}

async fn ask(request: reqwest::RequestBuilder) -> Result<Value, Failure> {
    let failed = |error: reqwest::Error| {
        let next = "is it the address that the service logs at its start? http://HOST:PORT".to_owned();
        Failure::new(UNAVAILABLE, format_args!("asking the instance: {error}"), next)
    };
    let response = request.send().await.map_err(failed)?;
    let status = response.status();
    let answer: Value = response.json().await.map_err(failed)?;
    if status.is_success() {
        return Ok(answer);
    }
    let detail = answer["detail"].as_str().unwrap_or("it says no more").to_owned();
    Err(Failure::new(NO_INPUT, format_args!("the instance answers {status}"), detail))
}
