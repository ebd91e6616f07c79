//! Asks instances over HTTP.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;

use headwater_runtime::{AppConfig, StreamsApp};
use serde_json::Value;

use super::{Cluster, WordCount};

/// What an instance has answered.
#[derive(Debug)]
pub struct Told {
    pub status: u16,
    pub body: Value,
    headers: reqwest::header::HeaderMap,
}

impl Told {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    pub fn number(&self, name: &str) -> Option<u64> {
        self.header(name).map(|text| text.parse().unwrap())
    }

    pub fn role(&self) -> &str {
        self.header("headwater-role").unwrap_or_default()
    }

    pub fn value(&self) -> &Value {
        &self.body["value"]
    }

    pub fn title(&self) -> &str {
        self.body["title"].as_str().unwrap_or_default()
    }

    pub fn detail(&self) -> &str {
        self.body["detail"].as_str().unwrap_or_default()
    }

    pub fn rows(&self) -> &[Value] {
        self.body["rows"].as_array().unwrap_or_else(|| panic!("no rows: {self:?}"))
    }
}

/// `None` if nobody answers at `host:port`.
pub async fn try_ask(host: &str, path: &str) -> Option<Told> {
    let answer = reqwest::get(format!("http://{host}{path}")).await.ok()?;
    let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
    let body = answer.json().await.ok()?;
    Some(Told { status, headers, body })
}

pub async fn ask(app: &StreamsApp, path: &str) -> Told {
    try_ask(&app.http().unwrap().to_string(), path).await.expect("the instance answers")
}

/// With copies, and an address.
pub fn config(words: &WordCount, cluster: &Cluster, state: &Path) -> AppConfig {
    let mut config = words.config(cluster, state);
    config.num_standby_replicas = 1;
    config.http = Some(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)));
    config
}
