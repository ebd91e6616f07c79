//! Brokers to run on, and a registry that answers over HTTP.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, SystemTime};

use headwater_broker::{Broker, Config};
use headwater_client::{Client, ClientConfig};
use headwater_registry::{Registry, RegistryClient};
use serde_json::Value;
use tokio::task::JoinHandle;

pub async fn broker(data_dir: &std::path::Path, port: u16) -> Broker {
    let listen = SocketAddr::from(([127, 0, 0, 1], port));
    let config = Config { data_dir: data_dir.to_owned(), listen, ..Config::default() };
    Broker::start(config).await.unwrap()
}

/// Runs a scenario on the embedded broker.
pub async fn embedded<F: Future<Output = ()>>(scenario: impl FnOnce(String) -> F) {
    let dir = tempfile::tempdir().unwrap();
    let broker = broker(dir.path(), 0).await;
    scenario(broker.bootstrap()).await;
    broker.shutdown().await;
}

/// Runs it on Apache Kafka, where there is one.
pub async fn apache_kafka<F: Future<Output = ()>>(scenario: impl FnOnce(String) -> F) {
    match std::env::var("HEADWATER_TEST_BOOTSTRAP") {
        Ok(bootstrap) => scenario(bootstrap).await,
        Err(_) if std::env::var("CI").is_ok_and(|ci| ci == "true") => {
            panic!("HEADWATER_TEST_BOOTSTRAP is not set")
        }
        Err(_) => eprintln!("skipped: HEADWATER_TEST_BOOTSTRAP names no Apache Kafka"),
    }
}

/// A subject no other test or run uses.
pub fn subject(name: &str) -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_nanos();
    format!("{name}-{now}-{}", COUNT.fetch_add(1, Ordering::Relaxed))
}

pub async fn client(bootstrap: &str) -> Client {
    Client::connect(ClientConfig::new(bootstrap, "registry-test")).await.unwrap()
}

/// A registry, served until it is dropped.
pub struct Served {
    pub base: String,
    pub client: RegistryClient,
    http: reqwest::Client,
    serving: JoinHandle<()>,
}

impl Drop for Served {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl Served {
    pub async fn start(bootstrap: &str) -> Self {
        let registry = Registry::start(client(bootstrap).await).await.unwrap();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let serving = tokio::spawn(async move { axum::serve(listener, registry.router()).await.unwrap() });
        Self { client: RegistryClient::new(&base), base, http: reqwest::Client::new(), serving }
    }

    /// Status and body.
    pub async fn ask(&self, method: &str, path: &str, body: Option<Value>) -> (u16, Value) {
        let method: reqwest::Method = method.parse().unwrap();
        let mut request =
            self.http.request(method, format!("{}{path}", self.base)).timeout(Duration::from_secs(60));
        if let Some(body) = body {
            request = request
                .header("Content-Type", "application/vnd.schemaregistry.v1+json")
                .body(body.to_string());
        }
        let response = request.send().await.unwrap();
        let status = response.status().as_u16();
        let text = response.text().await.unwrap();
        (status, serde_json::from_str(&text).unwrap_or(Value::String(text)))
    }

    pub async fn get(&self, path: &str) -> (u16, Value) {
        self.ask("GET", path, None).await
    }

    /// Status and Confluent's error code.
    pub async fn refusal(&self, method: &str, path: &str, body: Option<Value>) -> (u16, i64) {
        let (status, answer) = self.ask(method, path, body).await;
        (
            status,
            answer["error_code"].as_i64().unwrap_or_else(|| panic!("{method} {path}: {status} {answer}")),
        )
    }
}

/// A record schema whose name makes it one of a kind, with these fields.
pub fn record(name: &str, fields: &str) -> String {
    let name = name.replace('-', "_");
    format!(r#"{{"type":"record","name":"{name}","fields":[{fields}]}}"#)
}
