//! A broker (embedded, or Apache Kafka at `HEADWATER_TEST_BOOTSTRAP`) with a registry, and a reader of topics.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use headwater_broker::{Broker, Config};
use headwater_client::{Client, ClientConfig, Consumer, ConsumerConfig, Isolation, OffsetSpec};
use headwater_model::{Record, TopicPartition};
use headwater_registry::{Registry, RegistryClient};
use headwater_schema::{AvroCodec, confluent};
use rusqlite::Connection;
use serde_json::Value;

pub struct Cluster {
    pub client: Client,
    pub registry: RegistryClient,
    pub directory: tempfile::TempDir,
    broker: Option<Broker>,
}

impl Cluster {
    pub async fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let broker = match std::env::var("HEADWATER_TEST_BOOTSTRAP") {
            Ok(_) => None,
            Err(_) => Some(embedded(directory.path().join("broker"), "127.0.0.1:0").await),
        };
        let bootstrap = broker
            .as_ref()
            .map_or_else(|| std::env::var("HEADWATER_TEST_BOOTSTRAP").unwrap(), Broker::bootstrap);
        let client = Client::connect(ClientConfig::new(bootstrap, "connect-test")).await.unwrap();
        let registry = serve(Registry::start(client.clone()).await.unwrap()).await;
        Self { client, registry, directory, broker }
    }

    /// Takes the embedded broker away and brings it back at the same address.
    pub async fn restart_broker(&mut self) {
        let broker = self.broker.take().expect("an embedded broker");
        let address = broker.bootstrap();
        broker.shutdown().await;
        self.broker = Some(embedded(self.path("broker"), &address).await);
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub fn database(&self, name: &str, definition: &str) -> Connection {
        let connection = Connection::open(self.path(name)).unwrap();
        connection.busy_timeout(Duration::from_secs(10)).unwrap();
        connection.execute_batch(definition).unwrap();
        connection
    }

    /// All committed records by now, partition after partition. Up to the high watermark: Apache Kafka answers a commit
    /// before the last stable offset has passed it.
    pub async fn read(&self, topic: &str) -> Vec<Record> {
        let partitions = self.client.topic(topic).await.unwrap().expect("the topic is there").partitions;
        let all: Vec<_> = (0..partitions).map(|partition| TopicPartition::new(topic, partition)).collect();
        let ask: Vec<_> = all.iter().map(|at| (at.clone(), OffsetSpec::Latest)).collect();
        let ends = self.client.list_offsets(&ask, Isolation::Uncommitted).await.unwrap();
        let mut consumer = Consumer::new(
            &self.client,
            ConsumerConfig { isolation: Isolation::Committed, ..ConsumerConfig::default() },
        );
        consumer.assign(all.iter().map(|at| (at.clone(), 0)).collect());
        let mut records: BTreeMap<i32, Vec<Record>> = BTreeMap::new();
        let begun = Instant::now();
        while all.iter().any(|at| consumer.position(at) < ends.get(at).copied()) {
            assert!(begun.elapsed() < Duration::from_secs(30), "{topic} does not reach {ends:?}");
            for fetched in consumer.poll(Duration::from_millis(200)).await.unwrap() {
                records.entry(fetched.topic_partition.partition).or_default().extend(fetched.records);
            }
        }
        records.into_values().flatten().collect()
    }

    /// Key and value, as people read them.
    pub async fn read_json(&self, topic: &str) -> Vec<(String, Option<Value>)> {
        let mut told = Vec::new();
        for record in self.read(topic).await {
            let key = String::from_utf8(record.key.expect("a key").to_vec()).unwrap();
            let value = match record.value {
                None => None,
                Some(value) => {
                    let (id, body) = confluent::unframe(&value).unwrap();
                    let schema = self.registry.schema_by_id(id).await.unwrap();
                    Some(AvroCodec::to_json(&schema, &body).unwrap())
                }
            };
            told.push((key, value));
        }
        told
    }
}

pub async fn embedded(data_dir: PathBuf, listen: &str) -> Broker {
    Broker::start(Config { data_dir, listen: listen.parse().unwrap(), ..Config::default() }).await.unwrap()
}

async fn serve(registry: Registry) -> RegistryClient {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, registry.router()).await });
    RegistryClient::new(format!("http://{address}"))
}

/// A name that no other test, and no earlier run on the same Kafka, has used.
pub fn unique(name: &str) -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis();
    format!("{name}-{now}-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed))
}

pub async fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !condition() {
        assert!(begun.elapsed() < Duration::from_secs(60), "{what}: not within a minute");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

pub fn never() -> std::future::Pending<()> {
    std::future::pending()
}

/// Random numbers from a seed.
pub struct Dice(pub u64);

impl Dice {
    pub fn below(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % sides
    }
}
