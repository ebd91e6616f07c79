//! Calls of a service that is slow and fails, from a real application: bounded, in order, and each result once over a restart.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use headwater_runtime::{AppConfig, StreamsApp};
use headwater_streams::serdes::{i64, string};
use headwater_streams::{Called, Consumed, Produced, StreamsBuilder, Topology};

use crate::support::{self, Cluster, eventually, unique};

const LIMIT: usize = 4;

/// A service that takes a while, and fails every fifth time.
#[derive(Default)]
struct Service {
    now: AtomicUsize,
    most: AtomicUsize,
    asked: AtomicU64,
}

impl Service {
    async fn double(self: Arc<Self>, value: String) -> Result<i64, String> {
        let running = self.now.fetch_add(1, Ordering::SeqCst) + 1;
        self.most.fetch_max(running, Ordering::SeqCst);
        let asked = self.asked.fetch_add(1, Ordering::SeqCst);
        // Some are dropped in the middle: the count goes down all the same.
        let _over = Over(self.clone());
        tokio::time::sleep(Duration::from_millis(2 + asked % 7)).await;
        if asked % 5 == 4 {
            Err("busy".to_owned())
        } else {
            Ok(value.parse::<i64>().map_err(|e| e.to_string())? * 2)
        }
    }
}

struct Over(Arc<Service>);

impl Drop for Over {
    fn drop(&mut self) {
        self.0.now.fetch_sub(1, Ordering::SeqCst);
    }
}

fn topology(id: &str, service: &Arc<Service>) -> Topology {
    let service = service.clone();
    let builder = StreamsBuilder::new(id);
    let called =
        Called::named("double").max_in_flight(LIMIT).max_waiting(50).retries(20, Duration::from_millis(5));
    builder
        .stream(&format!("{id}-in"), Consumed::with(string(), string()))
        .call(move |_, value| service.clone().double(value), called)
        .to(&format!("{id}-out"), Produced::with(string(), i64()));
    builder.build().unwrap()
}

async fn start(cluster: &Cluster, id: &str, state: &Path, service: &Arc<Service>) -> StreamsApp {
    let mut config = AppConfig::new(&cluster.bootstrap, id);
    config.security = support::security();
    config.state_dir = state.to_owned();
    config.instance = Some("one".to_owned());
    config.commit_interval = Duration::from_millis(30);
    StreamsApp::start(topology(id, service), config).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn each_result_comes_once_and_in_order_over_restarts_with_calls_under_way() {
    let cluster = Cluster::start().await;
    let id = unique("calls");
    let (input, output) = (format!("{id}-in"), format!("{id}-out"));
    cluster.topic(&input, 1).await;
    let service = Arc::new(Service::default());
    let records: Vec<_> = (0..600).map(|n| (format!("k{}", n % 7), n.to_string())).collect();
    let records: Vec<_> = records.iter().map(|(key, value)| (key.as_str(), value.as_str(), 5)).collect();
    let mut state = tempfile::tempdir().unwrap();
    for part in records.chunks(200) {
        let app = start(&cluster, &id, state.path(), &service).await;
        cluster.produce(&input, part).await;
        tokio::time::sleep(Duration::from_millis(250)).await;
        // With calls under way, and the next one begins elsewhere: what is under way is in the changelog.
        app.stop().await.unwrap();
        state = tempfile::tempdir().unwrap();
    }
    let app = start(&cluster, &id, state.path(), &service).await;
    eventually("all are answered", async || cluster.read(&output).await.len() >= 600).await;
    app.stop().await.unwrap();
    let mut last = std::collections::HashMap::new();
    let mut seen = Vec::new();
    for record in cluster.read(&output).await {
        let doubled = i64::from_be_bytes(record.value.unwrap()[..].try_into().unwrap());
        let before = last.insert(record.key.clone(), doubled);
        assert!(before.is_none_or(|before| before < doubled), "{doubled} came after {before:?}");
        seen.push(doubled / 2);
    }
    seen.sort_unstable();
    assert_eq!(seen, (0..600).collect::<Vec<_>>());
    assert!(service.most.load(Ordering::SeqCst) <= LIMIT);
    assert!(service.asked.load(Ordering::SeqCst) > 600, "some were asked again");
    cluster.stop().await;
}
