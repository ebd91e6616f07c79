//! A company with an authority of its own, a word count behind it, and those who ask.

use std::path::Path;

use headwater_runtime::{AppConfig, HttpAccess, StreamsApp};
use reqwest::RequestBuilder;
use serde_json::Value;
use tempfile::TempDir;

use crate::certificates::Authority;
use crate::support::{Cluster, WordCount, eventually};

pub struct Company {
    pub ca: Authority,
    pub directory: TempDir,
}

impl Company {
    pub fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        Self { ca: Authority::new(directory.path(), "company"), directory }
    }

    /// The keys of TLS for one instance, whose certificate names NAME, and more.
    pub fn settings(&self, name: &str, more: &[&str]) -> String {
        let mut lines = vec![
            format!("ssl.keystore.location={}", self.ca.issue(name, &["127.0.0.1"]).display()),
            format!("ssl.truststore.location={}", self.ca.trust("company").display()),
            "ssl.principal.mapping.rules=RULE:^CN=(.*?),.*$/$1/".to_owned(),
            "headwater.security.reload.interval.ms=20".to_owned(),
        ];
        lines.extend(more.iter().map(|line| (*line).to_owned()));
        lines.join("\n")
    }

    pub fn access(&self, name: &str, more: &[&str]) -> HttpAccess {
        HttpAccess::parse(&self.settings(name, more)).unwrap()
    }

    /// Who trusts the company, and shows a certificate of it.
    pub fn client(&self, name: &str) -> reqwest::Client {
        http(&self.ca, Some(&self.ca.issue(name, &["127.0.0.1"])))
    }
}

/// A client that trusts one authority, and shows a certificate if it has one.
pub fn http(ca: &Authority, own: Option<&Path>) -> reqwest::Client {
    let pem = std::fs::read(ca.trust("company")).unwrap();
    let trusted = reqwest::Certificate::from_pem(&pem).unwrap();
    let mut builder = reqwest::Client::builder().tls_certs_only([trusted]);
    if let Some(file) = own {
        builder = builder.identity(reqwest::Identity::from_pem(&std::fs::read(file).unwrap()).unwrap());
    }
    builder.build().unwrap()
}

pub async fn start(words: &WordCount, cluster: &Cluster, state: &Path, access: HttpAccess) -> StreamsApp {
    let mut config: AppConfig = words.config(cluster, state);
    config.http_access = access;
    let app = StreamsApp::start(words.topology(), config).await.unwrap();
    eventually("every task runs", async || app.ready()).await;
    app
}

pub fn url(app: &StreamsApp, path: &str) -> String {
    format!("https://{}{path}", app.http().unwrap())
}

/// Status and JSON, or text, of an answer.
pub async fn answer(request: RequestBuilder) -> (u16, Value) {
    let response = request.send().await.unwrap();
    let status = response.status().as_u16();
    let text = response.text().await.unwrap();
    (status, serde_json::from_str(&text).unwrap_or(Value::String(text)))
}
