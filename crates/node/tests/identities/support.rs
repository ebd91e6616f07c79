//! A node with TLS, users and rules, and a browser or program that asks it.

use std::path::Path;
use std::time::{Duration, Instant};

use headwater_client::{Client, ClientConfig, Consumer, ConsumerConfig, Security};
use headwater_model::TopicPartition;
use headwater_model::acl::{AclBinding, Operation, PatternType, Permission, ResourceType, WILDCARD};
use headwater_node::{Node, NodeConfig, NodeError};
use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};

use crate::certificates::Authority;

pub const RULES: [&str; 2] = [
    "authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer",
    "super.users=User:root",
];

pub struct Guarded {
    pub node: Node,
    pub ca: Authority,
    pub directory: tempfile::TempDir,
    http: reqwest::Client,
}

pub async fn start(directory: &Path, http: &str, settings: &[String]) -> Result<Node, NodeError> {
    Node::start(NodeConfig {
        data_dir: directory.join("data"),
        kafka: "127.0.0.1:0".parse().expect("an address"),
        http: http.parse().expect("an address"),
        bootstrap: None,
        default_partitions: 1,
        config_file: None,
        configs: settings.to_vec(),
        security: Security::default(),
    })
    .await
}

/// A client that trusts one authority, and shows a certificate if it has one.
pub fn http(ca: &Authority, own: Option<&Path>) -> reqwest::Client {
    let pem = std::fs::read(ca.trust("company")).expect("a file");
    let trusted = reqwest::Certificate::from_pem(&pem).expect("a certificate");
    let mut builder = reqwest::Client::builder().tls_certs_only([trusted]);
    if let Some(file) = own {
        let pem = std::fs::read(file).expect("a file");
        builder = builder.identity(reqwest::Identity::from_pem(&pem).expect("an identity"));
    }
    builder.build().expect("a client")
}

/// The settings of a listener with TLS.
pub fn tls(directory: &Path, ca: &Authority, listener: &str) -> Vec<String> {
    vec![
        format!("listeners={listener}://127.0.0.1:0"),
        format!("ssl.keystore.location={}", ca.issue("server", &["127.0.0.1"]).display()),
        format!("ssl.truststore.location={}", directory.join("company-ca.pem").display()),
        "headwater.security.reload.interval.ms=20".to_owned(),
    ]
}

impl Guarded {
    /// SASL_SSL with the users root, bob and eve, whose password is their name; the rules bind all but root.
    pub async fn start(more: &[&str]) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let ca = Authority::new(directory.path(), "company");
        let mut settings = tls(directory.path(), &ca, "SASL_SSL");
        let users = directory.path().join("users");
        std::fs::write(&users, "root=root\nbob=bob\neve=eve\n").expect("a file");
        settings.push(format!("headwater.sasl.users.file={}", users.display()));
        settings.extend(RULES.iter().chain(more).map(|&setting| setting.to_owned()));
        let node = start(directory.path(), "127.0.0.1:0", &settings).await.expect("the node starts");
        let http = http(&ca, None);
        Self { node, ca, directory, http }
    }

    pub fn request(&self, method: &str, path: &str) -> RequestBuilder {
        let method: Method = method.parse().expect("a method");
        self.http.request(method, format!("{}{path}", self.node.http())).timeout(Duration::from_secs(30))
    }

    /// Status and body of what a user asks.
    pub async fn ask(&self, user: &str, method: &str, path: &str, body: Option<Value>) -> (u16, Value) {
        let mut request = self.request(method, path).basic_auth(user, Some(user));
        if let Some(body) = body {
            request = request.body(body.to_string());
        }
        answer(request).await
    }

    pub async fn get(&self, user: &str, path: &str) -> (u16, Value) {
        self.ask(user, "GET", path, None).await
    }

    /// A Kafka client as one of the users.
    pub async fn kafka(&self, user: &str) -> Client {
        let text = format!(
            "security.protocol=SASL_SSL\nsasl.mechanism=SCRAM-SHA-512\nsasl.username={user}\nsasl.password={user}\nssl.ca={}\n",
            self.ca.trust("company").display()
        );
        let security = Security::parse(&text).expect("settings");
        let config = ClientConfig::new(self.node.kafka(), "test").security(security);
        Client::connect(config).await.expect("a client")
    }

    pub async fn allow(&self, user: &str, operation: Operation, resource: ResourceType, name: &str) {
        let rule = AclBinding {
            resource,
            name: name.to_owned(),
            pattern: PatternType::Literal,
            principal: format!("User:{user}"),
            host: WILDCARD.to_owned(),
            operation,
            permission: Permission::Allow,
        };
        self.kafka("root").await.create_acls(&[rule]).await.expect("a rule");
    }

    /// The lines of the audit stream, as soon as `enough` likes one.
    pub async fn audited(&self, enough: impl Fn(&Value) -> bool) -> Value {
        let client = self.kafka("root").await;
        let begun = Instant::now();
        let mut consumer = Consumer::new(&client, ConsumerConfig::default());
        consumer.assign(vec![(TopicPartition::new("_headwater.audit", 0), 0)]);
        let mut seen = Vec::new();
        while begun.elapsed() < Duration::from_secs(20) {
            for fetched in consumer.poll(Duration::from_millis(200)).await.expect("records") {
                for record in fetched.records {
                    let line: Value =
                        serde_json::from_slice(record.value.as_ref().expect("a value")).expect("JSON");
                    if enough(&line) {
                        return line;
                    }
                    seen.push(line);
                }
            }
        }
        panic!("not in the audit stream: {seen:#?}");
    }
}

pub async fn answer(request: RequestBuilder) -> (u16, Value) {
    let response = request.send().await.expect("an answer");
    let status = response.status().as_u16();
    let text = response.text().await.expect("a body");
    (status, serde_json::from_str(&text).unwrap_or(Value::String(text)))
}

pub fn schema() -> Option<Value> {
    Some(json!({ "schema": r#"{"type":"record","name":"Order","fields":[{"name":"id","type":"int"}]}"# }))
}
