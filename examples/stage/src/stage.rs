//! A cluster, and the topics of one run on it.

use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use headwater::client::{Client, ClientConfig, NewTopic, Producer, ProducerConfig, Security};
use headwater::streams::{TimestampMs, Topology};
use headwater::{AppConfig, Phase, StreamsApp};
use serde::de::DeserializeOwned;
use tempfile::TempDir;

use crate::event::Event;
use crate::options::Options;
use crate::output::Output;

const HALF_A_DAY: Duration = Duration::from_secs(12 * 3600);

/// What one run of an example needs of a cluster.
pub struct Stage {
    options: Options,
    security: Security,
    client: Client,
    application_id: String,
    state: TempDir,
}

impl Stage {
    /// `example` and the time are the application id, by which all topics of the run begin.
    pub async fn open(options: &Options, example: &str) -> Result<Self> {
        let security = match &options.command_config {
            Some(file) => Security::load(file).with_context(|| format!("reading {}", file.display()))?,
            None => Security::default(),
        };
        let config = ClientConfig::new(&options.bootstrap_server, example).security(security.clone());
        let client = Client::connect(config).await.with_context(|| {
            let at = &options.bootstrap_server;
            format!(
                "connecting to {at} (start a broker: cargo run --release -- up; or say --bootstrap-server)"
            )
        })?;
        let application_id = format!("{example}-{:x}", since_1970().as_micros());
        let state = tempfile::tempdir().context("making a directory for the state")?;
        Ok(Self { options: options.clone(), security, client, application_id, state })
    }

    pub fn application_id(&self) -> &str {
        &self.application_id
    }

    pub fn options(&self) -> &Options {
        &self.options
    }

    /// Where instances keep their state.
    pub fn state_dir(&self) -> &Path {
        self.state.path()
    }

    /// The name of one of the run's topics.
    pub fn topic(&self, name: &str) -> String {
        crate::topic(&self.application_id, name)
    }

    /// The time of the first event: half a day ago, as brokers refuse what is to come and delete what is older than a
    /// changelog's retention.
    pub fn begin(&self) -> TimestampMs {
        TimestampMs::try_from((since_1970() - HALF_A_DAY).as_millis()).unwrap_or_default()
    }

    /// Creates topics, whose records stay whatever times they have.
    pub async fn create(&self, names: &[&str]) -> Result<()> {
        for name in names {
            let topic = NewTopic::new(self.topic(name), self.options.partitions)
                .replication(self.options.replication_factor)
                .config("retention.ms", "-1");
            self.client
                .ensure_topic(topic)
                .await
                .with_context(|| format!("creating {}", self.topic(name)))?;
        }
        Ok(())
    }

    /// Writes events and waits until they are acknowledged.
    pub async fn feed(&self, events: impl IntoIterator<Item = Event>) -> Result<()> {
        let producer = Producer::new(&self.client, ProducerConfig::default()).await?;
        for event in events {
            drop(producer.send(event.produced()).await?);
        }
        Ok(producer.flush().await?)
    }

    /// How an instance runs here.
    pub fn config(&self) -> AppConfig {
        let mut config = AppConfig::new(&self.options.bootstrap_server, &self.application_id);
        config.security = self.security.clone();
        config.state_dir = self.state_dir().to_owned();
        config.replication = self.options.replication_factor;
        config.session_timeout = Duration::from_secs(6);
        config
    }

    /// Starts an instance and waits until it has its tasks.
    pub async fn start(&self, topology: Topology) -> Result<StreamsApp> {
        let app = StreamsApp::start(topology, self.config()).await?;
        while app.phase() == Phase::Starting {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(app)
    }

    /// Reads a topic from its beginning.
    pub async fn output<V: DeserializeOwned>(&self, name: &str) -> Result<Output<V>> {
        Output::open(&self.client, self.topic(name)).await
    }

    /// Deletes the run's topics, unless they are to be kept.
    pub async fn close(self) -> Result<()> {
        if self.options.keep {
            eprintln!("topics are kept: {}.…", self.application_id);
            return Ok(());
        }
        let own = [".", "-"].map(|next| format!("{}{next}", self.application_id));
        for topic in self.client.topics().await? {
            if own.iter().any(|own| topic.name.starts_with(own)) {
                let deleted = self.client.delete_topic(&topic.name).await;
                deleted.with_context(|| format!("deleting {}", topic.name))?;
            }
        }
        Ok(())
    }
}

fn since_1970() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}
