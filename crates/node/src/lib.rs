//! One process with everything: broker, schema registry and console.
//!
//! Owns wiring and life cycle, in that order: the broker serves, then the registry has read
//! `_schemas`, then HTTP answers, then the node is ready. On Apache Kafka the broker is left out and
//! everything else is the same.

mod http;
mod operations;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use headwater_broker::{Broker, Config, Gate, SettingError, StartError, guarded};
pub use headwater_broker::{ColdObjects, Diagnosis, Finding, Health, ListenerAddress, Place, Severity};
use headwater_client::{Client, ClientConfig, ClientError, HttpSecurity, Security, SecurityError};
use headwater_console::Console;
use headwater_registry::{Registry, RegistryError};
use tokio::net::TcpListener;

const NODE_CLIENT: &str = "headwater-node";

/// What a node runs and where it listens.
#[derive(Debug, Clone)]
pub struct NodeConfig {
    /// Where the embedded broker keeps its log.
    pub data_dir: PathBuf,
    /// The Kafka listener; port 0 takes a free one.
    pub kafka: SocketAddr,
    /// Registry, API and console; port 0 takes a free one.
    pub http: SocketAddr,
    /// An Apache Kafka to use instead of the embedded broker.
    pub bootstrap: Option<String>,
    /// Partitions of a topic that is created by using it.
    pub default_partitions: i32,
    /// A properties file with settings of the broker.
    pub config_file: Option<PathBuf>,
    /// Settings of the broker as `KEY=VALUE`; they win over the file's.
    pub configs: Vec<String>,
    /// TLS and SASL for `bootstrap`; with the embedded broker the node has its own way in.
    pub security: Security,
}

impl NodeConfig {
    fn broker(&self) -> Result<Config, NodeError> {
        let mut config = Config {
            data_dir: self.data_dir.clone(),
            listen: self.kafka,
            default_partitions: self.default_partitions,
            ..Config::default()
        };
        if let Some(file) = &self.config_file {
            let text = std::fs::read_to_string(file)
                .map_err(|source| NodeError::ConfigFile { file: file.clone(), source })?;
            config.set_all(&file.display().to_string(), &text)?;
        }
        for setting in &self.configs {
            config.set(setting)?;
        }
        Ok(config)
    }

    /// On another Kafka the node comes as itself, whoever asked it: who need not say who they are get nothing of that.
    fn refuse_to_lend(&self, settings: &Config) -> Result<(), NodeError> {
        let Some(bootstrap) = &self.bootstrap else { return Ok(()) };
        let guarded = guarded(settings, self.http).map_err(StartError::from)?;
        if !self.security.is_somebody()
            || settings.security.insecure
            || guarded.knows_clients(&settings.security)
        {
            return Ok(());
        }
        Err(NodeError::Lends { bootstrap: bootstrap.clone(), address: self.http })
    }
}

/// By which properties file the console knows how to ask services.
const SERVICES: &str = "headwater.services.config.file";

/// Whom the console trusts and what it shows where it asks services.
fn services(settings: &Config) -> Result<HttpSecurity, NodeError> {
    let Some(file) = settings.security.text(SERVICES) else { return Ok(HttpSecurity::default()) };
    let security = Security::load(Path::new(file)).map_err(|source| NodeError::Services { source })?;
    Ok(security.http().clone())
}

/// Why a node did not start.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    #[error(transparent)]
    Broker(#[from] StartError),
    #[error(
        "the HTTP address {address} cannot be used: {source}; choose another with --http HOST:PORT (port 0 takes a free one)"
    )]
    Http { address: SocketAddr, source: std::io::Error },
    #[error(transparent)]
    Setting(#[from] SettingError),
    #[error("the configuration file {} cannot be read: {source}; name another with --config-file FILE", .file.display())]
    ConfigFile { file: PathBuf, source: std::io::Error },
    #[error(transparent)]
    Client(#[from] ClientError),
    #[error(transparent)]
    Registry(#[from] RegistryError),
    #[error(
        "the node would lend what it may do on {bootstrap} to everybody who reaches {address}, who need not say who they are: set headwater.http.security.protocol=SASL_PLAINTEXT (SASL_SSL beyond this machine) and headwater.sasl.users.file in --config-file, or say --insecure if everybody there may do what the node may"
    )]
    Lends { bootstrap: String, address: SocketAddr },
    #[error("headwater.services.config.file: {source}")]
    Services { source: SecurityError },
}

/// A running node.
pub struct Node {
    broker: Option<Broker>,
    kafka: String,
    /// Base URL.
    http: String,
    ready_after: Duration,
    serving: http::Serving,
}

impl Node {
    /// Starts all parts and returns when each of them serves.
    pub async fn start(config: NodeConfig) -> Result<Self, NodeError> {
        let begun = Instant::now();
        let settings = config.broker()?;
        guarded(&settings, config.http).map_err(StartError::from)?;
        config.refuse_to_lend(&settings)?;
        let services = services(&settings)?;
        let listener = TcpListener::bind(config.http)
            .await
            .map_err(|source| NodeError::Http { address: config.http, source })?;
        let http =
            listener.local_addr().map_err(|source| NodeError::Http { address: config.http, source })?;
        let broker = match &config.bootstrap {
            Some(_) => None,
            None => Some(Broker::start(settings.clone()).await?),
        };
        let gate = Arc::new(match &broker {
            Some(broker) => broker.gate(http)?,
            None => Gate::alone(&settings, http).await?,
        });
        let kafka = match (&broker, config.bootstrap) {
            (Some(broker), _) => broker.bootstrap(),
            (None, bootstrap) => bootstrap.unwrap_or_default(),
        };
        let client = match broker.as_ref().and_then(Broker::internal) {
            Some((address, user)) => ClientConfig::new(address, NODE_CLIENT)
                .security(Security::scram(user.name, user.password.clone())),
            None => ClientConfig::new(&kafka, NODE_CLIENT).security(config.security),
        };
        let client = Client::connect(client).await?;
        let registry = Registry::start(client.clone()).await?;
        let console = Console::new(client, registry.clone(), services);
        let app = Router::new()
            .merge(operations::router(broker.as_ref().map(Broker::observer), registry.clone()))
            .merge(console.router())
            .merge(registry.router());
        let scheme = if gate.is_tls() { "https" } else { "http" };
        let app = http::guarded(&gate, app);
        let serving = http::serve(listener, gate, app);
        let (http, ready_after) = (format!("{scheme}://{http}"), begun.elapsed());
        Ok(Self { broker, kafka, http, ready_after, serving })
    }

    /// `HOST:PORT` for Kafka clients.
    pub fn kafka(&self) -> &str {
        &self.kafka
    }

    /// All listeners of the embedded broker for clients; none on another Kafka.
    pub fn listeners(&self) -> &[ListenerAddress] {
        self.broker.as_ref().map_or(&[], Broker::addresses)
    }

    /// Base URL of registry, API and console.
    pub fn http(&self) -> String {
        self.http.clone()
    }

    /// How long it took from start to ready.
    pub fn ready_after(&self) -> Duration {
        self.ready_after
    }

    /// Stops HTTP, then the broker, which leaves its log clean.
    pub async fn shutdown(self) {
        self.serving.stop().await;
        if let Some(broker) = self.broker {
            broker.shutdown().await;
        }
    }
}
