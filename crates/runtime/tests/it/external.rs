//! Stores in a database: what is in its tables equals the model, whatever dies, and what goes wrong is told with what to do.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use headwater_runtime::external::{Application, External, ExternalError};
use headwater_runtime::{AppConfig, AppError, FaultHook, FaultPoint, GroupProtocol, Guarantee, StreamsApp};
use headwater_streams::serdes::{i64, string};
use headwater_streams::{
    ColumnType, Consumed, ExternalTable, Grouped, Materialized, Produced, StreamsBuilder, TaskId, Topology,
};

use crate::servers::{PASSWORD, PostgresServer, RedisServer};
use crate::support::{self, Cluster, eventually, get, unique};

const POINTS: [FaultPoint; 5] = [
    FaultPoint::BeforeSend,
    FaultPoint::AfterSend,
    FaultPoint::BeforeCommit,
    FaultPoint::BeforeStores,
    FaultPoint::AfterStores,
];

/// What is sold of each item, kept in table `levels`.
fn topology(id: &str) -> Topology {
    let builder = StreamsBuilder::new(id);
    let table = ExternalTable::named("levels").key(ColumnType::Text).value(ColumnType::BigInt);
    builder
        .stream(&format!("{id}-in"), Consumed::with(string(), string()))
        .group_by_key(Grouped::with(string(), string()))
        .count(Materialized::with("levels", string(), i64()).external(table))
        .to(&format!("{id}-out"), Produced::with(string(), i64()));
    builder.build().unwrap()
}

/// A service, what was sold, and where its levels are.
struct Shop {
    id: String,
    external: External,
    model: BTreeMap<String, i64>,
    sold: u64,
}

impl Shop {
    async fn new(cluster: &Cluster, external: External) -> Self {
        let id = unique("shop");
        cluster.topic(&format!("{id}-in"), 3).await;
        Self { id, external, model: BTreeMap::new(), sold: 0 }
    }

    fn config(&self, cluster: &Cluster, state: &Path) -> AppConfig {
        let mut config = AppConfig::new(&cluster.bootstrap, &self.id);
        config.security = support::security();
        config.state_dir = state.to_owned();
        config.session_timeout = Duration::from_secs(6);
        config.commit_interval = Duration::from_millis(50);
        config.http = Some("127.0.0.1:0".parse().unwrap());
        config.external = Some(self.external.clone());
        config
    }

    /// With two threads, each with its own session.
    async fn start(&self, cluster: &Cluster, state: &Path) -> StreamsApp {
        let mut config = self.config(cluster, state);
        config.threads = 2;
        StreamsApp::start(topology(&self.id), config).await.unwrap()
    }

    async fn sell(&mut self, cluster: &Cluster, count: u64) {
        let items: Vec<String> = (self.sold..self.sold + count)
            .map(|n| format!("item-{}", n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 58))
            .collect();
        for item in &items {
            *self.model.entry(item.clone()).or_default() += 1;
        }
        self.sold += count;
        let records: Vec<_> = items.iter().map(|item| (item.as_str(), "1", 1_000)).collect();
        cluster.produce(&format!("{}-in", self.id), &records).await;
    }

    /// What the tables have, by the way that tasks read them.
    async fn levels(&self) -> BTreeMap<String, i64> {
        let (external, id) = (self.external.clone(), self.id.clone());
        let read = move || {
            let stores = topology(&id).external_stores();
            let table = stores["levels"].clone();
            let application = Application { id, stores, patience: Duration::from_secs(5) };
            let mut session = external.database().open(&application).unwrap();
            let rows = (0..3).flat_map(|partition| session.rows(&table, partition).unwrap());
            rows.map(|(key, value)| {
                let level = i64::from_be_bytes(value[8..].try_into().unwrap());
                (String::from_utf8(key.to_vec()).unwrap(), level)
            })
            .collect()
        };
        tokio::task::spawn_blocking(read).await.unwrap()
    }

    async fn check(&self) {
        let mut last = BTreeMap::new();
        eventually("everything is in the tables", async || {
            last = self.levels().await;
            last.values().sum::<i64>() >= self.sold as i64
        })
        .await;
        assert_eq!(last, self.model);
    }
}

fn postgres() -> Option<(PostgresServer, External)> {
    let server = PostgresServer::start()?;
    let external = headwater_external::open(&server.url()).unwrap();
    Some((server, external))
}

fn redis() -> Option<(RedisServer, External)> {
    let server = RedisServer::start()?;
    let external = headwater_external::open(&server.url()).unwrap();
    Some((server, external))
}

/// Dies at every point of a commit, the first time and the second.
async fn dies_everywhere(external: External, guarantee: Guarantee) {
    let cluster = Cluster::start().await;
    let state = tempfile::tempdir().unwrap();
    let mut shop = Shop::new(&cluster, external).await;
    for visit in 1..=2 {
        for point in POINTS {
            shop.sell(&cluster, 60).await;
            let visits = AtomicU32::new(0);
            let mut config = shop.config(&cluster, state.path());
            config.guarantee = guarantee;
            config.fault = Some(FaultHook::new(move |at| {
                at == point && visits.fetch_add(1, Ordering::Relaxed) + 1 == visit
            }));
            let app = StreamsApp::start(topology(&shop.id), config).await.unwrap();
            // The second visit needs something to do after the first one.
            shop.sell(&cluster, 10).await;
            let mut ended = Box::pin(app.wait());
            let error = loop {
                tokio::select! {
                    ended = &mut ended => break ended.unwrap_err(),
                    () = tokio::time::sleep(Duration::from_millis(100)) => shop.sell(&cluster, 10).await,
                }
            };
            drop(ended);
            assert!(matches!(error, AppError::Killed(at) if at == point), "{error}");
            app.stop().await.unwrap();
        }
    }
    let app = shop.start(&cluster, state.path()).await;
    shop.check().await;
    app.stop().await.unwrap();
    let out = cluster.read(&format!("{}-out", shop.id)).await.len() as u64;
    assert!(out >= shop.sold, "nothing of the output is missing: {out} of {}", shop.sold);
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn dying_at_any_point_of_a_commit_counts_each_record_once_in_postgresql() {
    let Some((_server, external)) = postgres() else { return };
    dies_everywhere(external.clone(), Guarantee::ExactlyOnce).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_output_may_be_repeated_and_the_state_is_not_without_transactions_either() {
    let Some((_server, external)) = postgres() else { return };
    dies_everywhere(external, Guarantee::AtLeastOnce).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn dying_at_any_point_of_a_commit_counts_each_record_once_in_redis() {
    let Some((_server, external)) = redis() else { return };
    dies_everywhere(external, Guarantee::ExactlyOnce).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn where_tasks_begin_is_told_by_the_database_and_not_by_the_group() {
    let Some((server, external)) = postgres() else { return };
    let cluster = Cluster::start().await;
    let state = tempfile::tempdir().unwrap();
    let mut shop = Shop::new(&cluster, external).await;
    shop.sell(&cluster, 300).await;
    let app = shop.start(&cluster, state.path()).await;
    shop.check().await;
    assert_eq!(app.metrics().restored, 0);
    // What the console and a scraper see of it.
    server.sql("ANALYZE levels");
    let told = get(&app, "/topology").await.1;
    let store = &told["external"]["stores"][0];
    assert_eq!((&store["store"], &store["table"]), (&"levels".into(), &"levels".into()));
    let bytes = |what: &str| store[what].as_u64().unwrap();
    assert!(bytes("reserved_bytes") > 8_000 && bytes("used_bytes") > 64 * 28, "{store}");
    assert!(bytes("used_bytes") < bytes("reserved_bytes"), "{store}");
    assert!(told["external"]["database"].as_str().unwrap().starts_with("PostgreSQL database postgres at"));
    assert_eq!(told["topology"]["subtopologies"][0]["at_least_once"][0], format!("{}-out", shop.id));
    let metrics = reqwest::get(format!("http://{}/metrics", app.http().unwrap())).await.unwrap();
    let metrics = metrics.text().await.unwrap();
    for of in ["reserved", "rows"] {
        let name = "headwater_streams_external_store_bytes";
        let labels = format!("application_id=\"{}\",store=\"levels\",table=\"levels\",of=\"{of}\"", shop.id);
        assert!(metrics.contains(&format!("{name}{{{labels}}} ")), "{metrics}");
    }
    assert!(!metrics.contains(PASSWORD) && !told.to_string().contains(PASSWORD));
    app.stop().await.unwrap();

    // A table that is lost with its positions is filled again, though the group has committed all of the input.
    server.sql("TRUNCATE levels; DELETE FROM headwater_positions");
    let again = tempfile::tempdir().unwrap();
    let app = shop.start(&cluster, again.path()).await;
    shop.check().await;
    app.stop().await.unwrap();
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_instance_that_lost_its_task_in_the_database_commits_no_more_and_goes_on_from_there() {
    let Some((server, external)) = postgres() else { return };
    is_fenced(&server, external, GroupProtocol::Classic).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn so_does_one_whose_tasks_the_broker_assigns() {
    let Some((server, external)) = postgres() else { return };
    is_fenced(&server, external, GroupProtocol::Streams).await;
}

async fn is_fenced(server: &PostgresServer, external: External, protocol: GroupProtocol) {
    let cluster = Cluster::start().await;
    let state = tempfile::tempdir().unwrap();
    let mut shop = Shop::new(&cluster, external).await;
    let mut config = shop.config(&cluster, state.path());
    config.group_protocol = protocol;
    let app = StreamsApp::start(topology(&shop.id), config).await.unwrap();
    eventually("every task runs", async || app.ready()).await;
    for _ in 0..5 {
        shop.sell(&cluster, 100).await;
        // As another instance does that was given the task.
        let (external, id) = (shop.external.clone(), shop.id.clone());
        let take = move || {
            let stores = topology(&id).external_stores();
            let application = Application { id, stores, patience: Duration::from_secs(5) };
            let mut session = external.database().open(&application).unwrap();
            session.take(TaskId { subtopology: 0, partition: 1 }, "another").unwrap();
        };
        tokio::task::spawn_blocking(take).await.unwrap();
        shop.sell(&cluster, 100).await;
        shop.check().await;
    }
    let epochs = server.sql("SELECT epoch FROM headwater_tasks WHERE task = '0_1'");
    assert!(epochs[0].parse::<i64>().unwrap() >= 10, "it was taken back each time: {epochs:?}");
    app.stop().await.unwrap();
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_goes_away_and_comes_back_loses_nothing() {
    let Some((mut server, external)) = postgres() else { return };
    let cluster = Cluster::start().await;
    let state = tempfile::tempdir().unwrap();
    let mut shop = Shop::new(&cluster, external).await;
    let app = shop.start(&cluster, state.path()).await;
    for _ in 0..3 {
        shop.sell(&cluster, 200).await;
        shop.check().await;
        let aborts = app.metrics().aborts;
        server.end();
        shop.sell(&cluster, 200).await;
        eventually("it notices", async || app.metrics().aborts >= aborts + 3).await;
        assert!(!app.ready(), "health says that it waits");
        server.begin();
    }
    shop.check().await;
    assert!(app.ready());
    app.stop().await.unwrap();
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_configured_wrongly_is_told_by_the_start() {
    let Some((server, external)) = postgres() else { return };
    let cluster = Cluster::start().await;
    let state = tempfile::tempdir().unwrap();
    let shop = Shop::new(&cluster, external).await;
    let start = async |external: Option<External>| {
        let mut config = shop.config(&cluster, state.path());
        config.external = external;
        match StreamsApp::start(topology(&shop.id), config).await {
            Err(AppError::External(error @ ExternalError::Refused { .. })) => error.to_string(),
            Err(other) => panic!("{other}"),
            Ok(_) => panic!("it started"),
        }
    };
    let told = start(None).await;
    assert!(told.contains("no database was named") && told.contains("HEADWATER_EXTERNAL"), "{told}");
    let told = start(Some(headwater_external::open(&server.url_with("wrong")).unwrap())).await;
    assert!(told.contains("connect in PostgreSQL database postgres at 127.0.0.1"), "{told}");
    server.sql("CREATE TABLE levels (key text, partition int, value text, timestamp_ms bigint)");
    let told = start(Some(shop.external.clone())).await;
    assert!(told.contains("table levels") && told.contains("column value is of type text"), "{told}");
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_was_made_anew_does_not_count_on_top_of_the_old_one() {
    let Some((_server, external)) = postgres() else { return };
    let cluster = Cluster::start().await;
    let state = tempfile::tempdir().unwrap();
    let mut shop = Shop::new(&cluster, external).await;
    shop.sell(&cluster, 300).await;
    let app = shop.start(&cluster, state.path()).await;
    shop.check().await;
    app.stop().await.unwrap();
    let input = format!("{}-in", shop.id);
    cluster.client.delete_topic(&input).await.unwrap();
    eventually("the topic is gone", async || cluster.client.topic(&input).await.unwrap().is_none()).await;
    cluster.topic(&input, 3).await;
    shop.sell(&cluster, 10).await;
    let app = shop.start(&cluster, state.path()).await;
    let told = app.wait().await.unwrap_err().to_string();
    assert!(told.contains("made anew") && told.contains("reprocess"), "{told}");
    app.stop().await.unwrap();
    cluster.stop().await;
}
