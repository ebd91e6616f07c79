//! A cluster to run against, and a word count whose right answer is easily known.
//!
//! The cluster is the embedded broker, or the Apache Kafka at HEADWATER_TEST_BOOTSTRAP; names are new for each test.

pub mod asking;

use std::collections::{BTreeMap, HashMap};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use headwater_broker::{Broker, Config};
use headwater_client::{
    Client, ClientConfig, Consumer, ConsumerConfig, Isolation, NewTopic, OffsetSpec, ProduceRecord, Producer,
    ProducerConfig, Security,
};
use headwater_model::{Bytes, Record, TopicPartition};
use headwater_runtime::{AppConfig, StreamsApp};
use headwater_streams::serdes::{i64, string};
use headwater_streams::{Consumed, Grouped, Materialized, Produced, StreamsBuilder, Topology};
use tempfile::TempDir;
use tracing_subscriber::EnvFilter;

pub const PATIENCE: Duration = Duration::from_secs(60);

/// TLS and SASL of the cluster, by the file that HEADWATER_TEST_COMMAND_CONFIG names.
pub fn security() -> Security {
    let file = std::env::var_os("HEADWATER_TEST_COMMAND_CONFIG");
    file.map(|file| Security::load(file.as_ref()).expect("settings")).unwrap_or_default()
}

pub struct Cluster {
    pub bootstrap: String,
    pub client: Client,
    folder: TempDir,
    broker: Option<Broker>,
    set: fn(&mut Config),
}

impl Cluster {
    /// With RUST_LOG, a failing test also tells what the application and the broker said.
    pub async fn start() -> Self {
        Self::start_with(|_| {}).await
    }

    /// With settings of the embedded broker; Apache Kafka has its own.
    pub async fn start_with(set: fn(&mut Config)) -> Self {
        let logged =
            tracing_subscriber::fmt().with_env_filter(EnvFilter::from_default_env()).with_test_writer();
        // Only the first test of a binary can set it.
        let _ = logged.try_init();
        let folder = tempfile::tempdir().unwrap();
        let (bootstrap, broker) = match std::env::var("HEADWATER_TEST_BOOTSTRAP") {
            Ok(bootstrap) => (bootstrap, None),
            Err(_) => {
                let listen = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
                let mut config = config(folder.path(), listen);
                set(&mut config);
                let broker = Broker::start(config).await.unwrap();
                (broker.bootstrap(), Some(broker))
            }
        };
        let client =
            Client::connect(ClientConfig::new(&bootstrap, "test").security(security())).await.unwrap();
        Self { bootstrap, client, folder, broker, set }
    }

    /// Whether the broker is the test's own.
    pub fn is_embedded(&self) -> bool {
        self.broker.is_some()
    }

    /// Ends the embedded broker and starts it again in the same place.
    pub async fn restart_broker(&mut self, away: Duration) {
        let broker = self.broker.take().unwrap();
        let listen = broker.bootstrap().parse().unwrap();
        broker.shutdown().await;
        tokio::time::sleep(away).await;
        let mut config = config(self.folder.path(), listen);
        (self.set)(&mut config);
        self.broker = Some(Broker::start(config).await.unwrap());
    }

    pub async fn topic(&self, name: &str, partitions: i32) {
        // Tests choose their records' times, and Kafka deletes what is a week old.
        let topic = NewTopic::new(name, partitions).config("retention.ms", "-1");
        // A broker may answer before it knows of the topic itself.
        self.client.ensure_topic(topic).await.unwrap();
    }

    /// Writes text records at given times and waits until they are acknowledged.
    pub async fn produce(&self, topic: &str, records: &[(&str, &str, i64)]) {
        let producer = Producer::new(&self.client, ProducerConfig::default()).await.unwrap();
        for (key, value, timestamp) in records {
            let record = ProduceRecord {
                topic: topic.to_owned(),
                timestamp: Some(*timestamp),
                key: Some(Bytes::from((*key).to_owned())),
                value: Some(Bytes::from((*value).to_owned())),
                ..ProduceRecord::default()
            };
            drop(producer.send(record).await.unwrap());
        }
        producer.flush().await.unwrap();
    }

    /// All committed records of a topic, in the order of each partition.
    pub async fn read(&self, topic: &str) -> Vec<Record> {
        let count = self.client.topic(topic).await.unwrap().unwrap().partitions;
        let all: Vec<TopicPartition> =
            (0..count).map(|partition| TopicPartition::new(topic, partition)).collect();
        let offsets = async |spec: OffsetSpec| {
            let asked: Vec<_> = all.iter().map(|at| (at.clone(), spec)).collect();
            self.client.list_offsets(&asked, Isolation::Committed).await.unwrap()
        };
        let (starts, ends) = (offsets(OffsetSpec::Earliest).await, offsets(OffsetSpec::Latest).await);
        let mut consumer = Consumer::new(&self.client, ConsumerConfig::default());
        consumer.assign(starts.into_iter().collect());
        let mut records = Vec::new();
        let begun = Instant::now();
        while ends.iter().any(|(at, end)| consumer.position(at).unwrap() < *end) {
            assert!(begun.elapsed() < PATIENCE, "{topic} does not come to its end");
            let fetched = consumer.poll(Duration::from_millis(100)).await.unwrap();
            records.extend(fetched.into_iter().flat_map(|part| part.records));
        }
        records
    }

    pub async fn stop(mut self) {
        if let Some(broker) = self.broker.take() {
            broker.shutdown().await;
        }
    }
}

fn config(folder: &Path, listen: SocketAddr) -> Config {
    Config { data_dir: folder.to_owned(), listen, auto_create_topics: false, ..Config::default() }
}

/// `prefix` and something that no other test has.
pub fn unique(prefix: &str) -> String {
    let id = uuid::Uuid::new_v4().simple().to_string();
    format!("{prefix}-{}", &id[..8])
}

/// Polls until `holds`, or fails with `what` after a minute.
pub async fn eventually(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let begun = Instant::now();
    while !holds().await {
        assert!(begun.elapsed() < PATIENCE, "{what}: not within {PATIENCE:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Counts words of lines: two sub-topologies with a repartition topic between, and one store.
pub struct WordCount {
    pub application_id: String,
    pub lines: String,
    pub counts: String,
    pub model: BTreeMap<String, i64>,
    next: u64,
    begun: i64,
}

impl WordCount {
    pub async fn new(cluster: &Cluster, partitions: i32) -> Self {
        let application_id = unique("words");
        let lines = format!("{application_id}-lines");
        cluster.topic(&lines, partitions).await;
        let counts = format!("{application_id}-counts");
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        let begun = now.as_millis() as i64;
        Self { application_id, lines, counts, model: BTreeMap::new(), next: 0, begun }
    }

    pub fn topology(&self) -> Topology {
        let builder = StreamsBuilder::new(&self.application_id);
        builder
            .stream(&self.lines, Consumed::with(string(), string()))
            .flat_map(|_, line: String| {
                let words: Vec<_> = line.split(' ').map(|word| (word.to_owned(), word.to_owned())).collect();
                words
            })
            .group_by_key(Grouped::with(string(), string()).named("words"))
            .count(Materialized::named("counts").json())
            .to(&self.counts, Produced::with(string(), i64()));
        builder.build().unwrap()
    }

    pub fn config(&self, cluster: &Cluster, state: &Path) -> AppConfig {
        let mut config = AppConfig::new(&cluster.bootstrap, &self.application_id);
        config.security = security();
        config.state_dir = state.to_owned();
        config.session_timeout = Duration::from_secs(6);
        config.http = Some(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)));
        config.commit_interval = Duration::from_millis(50);
        config
    }

    pub async fn start(&self, cluster: &Cluster, state: &Path) -> StreamsApp {
        StreamsApp::start(self.topology(), self.config(cluster, state)).await.unwrap()
    }

    /// Writes `count` lines of three words and adds them to the model.
    pub async fn write(&mut self, cluster: &Cluster, count: u64) {
        let mut lines = Vec::new();
        for _ in 0..count {
            // A multiplicative hash spreads words and keys the same way in every run.
            let seed = self.next.wrapping_mul(0x9e37_79b9_7f4a_7c15);
            let words: Vec<String> = (0..3).map(|i| format!("w{}", (seed >> (17 + 9 * i)) % 40)).collect();
            for word in &words {
                *self.model.entry(word.clone()).or_default() += 1;
            }
            lines.push((format!("line-{}", self.next), words.join(" "), self.begun + self.next as i64));
            self.next += 1;
        }
        let lines: Vec<_> =
            lines.iter().map(|(key, line, time)| (key.as_str(), line.as_str(), *time)).collect();
        cluster.produce(&self.lines, &lines).await;
    }

    pub fn words(&self) -> u64 {
        self.model.values().sum::<i64>() as u64
    }

    /// Waits for all results; then each count must have been written exactly once, in order.
    pub async fn check(&self, cluster: &Cluster) {
        let words = self.words();
        eventually("all words are counted", async || cluster.read(&self.counts).await.len() as u64 >= words)
            .await;
        let mut seen: HashMap<String, i64> = HashMap::new();
        for record in cluster.read(&self.counts).await {
            let word = String::from_utf8(record.key.unwrap().to_vec()).unwrap();
            let count = i64::from_be_bytes(record.value.unwrap()[..].try_into().unwrap());
            let before = seen.insert(word.clone(), count).unwrap_or(0);
            assert_eq!(count, before + 1, "{word} goes from {before} to {count}");
        }
        assert_eq!(seen.into_iter().collect::<BTreeMap<_, _>>(), self.model);
    }

    /// Asks each word's count over HTTP.
    pub async fn check_store(&self, app: &StreamsApp) {
        eventually("every task runs", async || app.ready()).await;
        for (word, count) in &self.model {
            let mut last = serde_json::Value::Null;
            eventually(&format!("the store knows {word}={count}"), async || {
                last = get(app, &format!("/stores/counts/{word}")).await.1;
                last["value"] == *count
            })
            .await;
        }
    }
}

/// Status and JSON body of a page of the application.
pub async fn get(app: &StreamsApp, path: &str) -> (u16, serde_json::Value) {
    let url = format!("http://{}{path}", app.http().unwrap());
    let response = reqwest::get(&url).await.unwrap();
    let status = response.status().as_u16();
    (status, response.json().await.unwrap_or_default())
}
