//! Copies of state on other instances: whoever dies is followed by one that has them, whoever is new warms up before it
//! takes over, and a rolling restart moves nothing. Measured in records restored, not in time.

use std::collections::HashMap;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use headwater_runtime::{AppConfig, AppError, StreamsApp};
use headwater_streams::serdes::{StringSerde, i64, string};
use headwater_streams::{
    Bytes, Consumed, Grouped, Materialized, Produced, Serde, SerdeError, StreamsBuilder, Topology,
};

use crate::support::{self, Cluster, eventually, unique};

const KEYS: i64 = 20_000;
const PARTITIONS: i32 = 4;
const PLACE: &str = "HEADWATER_STANDBY_TEST";

fn topology(application_id: &str) -> Topology {
    let builder = StreamsBuilder::new(application_id);
    builder
        .stream(&format!("{application_id}-in"), Consumed::with(string(), string()))
        .group_by_key(Grouped::with(string(), string()))
        .count(Materialized::named("counts").json())
        .to(&format!("{application_id}-out"), Produced::with(string(), i64()));
    builder.build().unwrap()
}

fn config(bootstrap: &str, application_id: &str, state: &Path) -> AppConfig {
    let mut config = AppConfig::new(bootstrap, application_id);
    config.security = support::security();
    config.state_dir = state.to_owned();
    config.session_timeout = Duration::from_secs(6);
    config.commit_interval = Duration::from_millis(50);
    config.num_standby_replicas = 1;
    config
}

/// Records by the thousand, and what has to come out of them.
struct Counting {
    cluster: Cluster,
    application_id: String,
    written: i64,
}

impl Counting {
    async fn new(name: &str) -> Self {
        let cluster = Cluster::start().await;
        let application_id = unique(name);
        cluster.topic(&format!("{application_id}-in"), PARTITIONS).await;
        Self { cluster, application_id, written: 0 }
    }

    fn config(&self, state: &Path) -> AppConfig {
        config(&self.cluster.bootstrap, &self.application_id, state)
    }

    async fn start(&self, config: AppConfig) -> StreamsApp {
        StreamsApp::start(topology(&self.application_id), config).await.unwrap()
    }

    /// One record for each of the first keys.
    async fn write(&mut self, count: i64) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as i64;
        let keys: Vec<String> = (0..count).map(|key| format!("key-{key}")).collect();
        let records: Vec<_> = keys.iter().map(|key| (key.as_str(), "x", now)).collect();
        self.cluster.produce(&format!("{}-in", self.application_id), &records).await;
        self.written += count;
    }

    /// Waits for all results: each key's counts go up one by one, so none is lost and none comes twice.
    async fn check(&self) {
        let output = format!("{}-out", self.application_id);
        let mut records = Vec::new();
        eventually("all is counted", async || {
            records = self.cluster.read(&output).await;
            records.len() as i64 >= self.written
        })
        .await;
        assert_eq!(records.len() as i64, self.written, "once each");
        let mut seen: HashMap<Vec<u8>, i64> = HashMap::new();
        for record in records {
            let count = i64::from_be_bytes(record.value.unwrap()[..].try_into().unwrap());
            let last = seen.entry(record.key.unwrap().to_vec()).or_default();
            assert_eq!(count, *last + 1);
            *last = count;
        }
    }

    async fn copied(&self, app: &StreamsApp, tasks: usize) {
        eventually("the copies are complete", async || {
            let standbys = app.standbys();
            standbys.len() == tasks && standbys.values().all(|standby| standby.lag <= 1)
        })
        .await;
    }
}

/// The process that is killed: this test binary again.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "started by another test"]
async fn process() {
    let Ok(place) = std::env::var(PLACE) else { return };
    let [bootstrap, application_id, state] = &place.split('|').collect::<Vec<_>>()[..] else { return };
    let config = config(bootstrap, application_id, Path::new(state));
    let app = StreamsApp::start(topology(application_id), config).await.unwrap();
    eventually("every task runs", async || app.ready() && app.tasks().len() == 2).await;
    println!("\nready");
    std::future::pending::<()>().await;
}

struct Process(Child);

impl Process {
    fn start(bootstrap: &str, application_id: &str, state: &Path) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "standby::process", "--ignored", "--nocapture"])
            .env(PLACE, format!("{bootstrap}|{application_id}|{}", state.display()))
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        lines
            .map_while(Result::ok)
            .find(|line| line == "ready")
            .expect("the process ended before it was ready");
        Self(child)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_holder_of_the_copies_takes_over_from_a_killed_process() {
    let mut counting = Counting::new("standby").await;
    let (state, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let holder = counting.start(counting.config(other.path())).await;
    let place =
        (counting.cluster.bootstrap.clone(), counting.application_id.clone(), state.path().to_owned());
    let process =
        tokio::task::spawn_blocking(move || Process::start(&place.0, &place.1, &place.2)).await.unwrap();
    eventually("each has half of the tasks", async || holder.tasks().len() == 2 && holder.ready()).await;
    counting.write(KEYS).await;
    counting.check().await;
    counting.copied(&holder, 2).await;
    let copied = holder.metrics().standby_records;
    assert!(copied >= KEYS as u64 / 3, "{copied} records were copied");

    // It dies with work begun and not committed.
    counting.write(1000).await;
    let before = holder.metrics().restored;
    drop(process);
    counting.write(1000).await;
    eventually("the holder has all tasks", async || holder.tasks().len() == 4 && holder.ready()).await;
    let restored = holder.metrics().restored - before;
    counting.write(100).await;
    counting.check().await;
    eprintln!("{restored} records restored of about {}; {copied} had been copied", KEYS / 2);
    assert!(restored < KEYS as u64 / 8, "{restored} records were restored: more than a tail");
    assert_eq!(holder.metrics().wiped_stores, 0);
    holder.stop().await.unwrap();
    counting.cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_instance_warms_up_while_the_old_one_goes_on() {
    let mut counting = Counting::new("warmup").await;
    let (first, second) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let settings = |state: &Path| {
        let mut config = counting.config(state);
        config.num_standby_replicas = 0;
        config.acceptable_recovery_lag = 500;
        config.max_warmup_replicas = 1;
        config.probing_rebalance_interval = Duration::from_secs(2);
        config
    };
    let (old, new) = (settings(first.path()), settings(second.path()));
    let old = counting.start(old).await;
    eventually("it has all tasks", async || old.tasks().len() == 4 && old.ready()).await;
    counting.write(KEYS).await;
    counting.check().await;

    let new = counting.start(new).await;
    eventually("it warms up", async || new.standbys().len() == 1).await;
    assert_eq!((old.tasks().len(), new.tasks().len()), (4, 0), "the old one goes on");
    counting.write(1000).await;
    counting.check().await;
    eventually("it has its share", async || new.tasks().len() == 2 && new.ready() && old.tasks().len() == 2)
        .await;
    counting.write(1000).await;
    counting.check().await;
    let (warmed, restored) = (new.metrics().standby_records, new.metrics().restored);
    eprintln!("{warmed} records copied before, {restored} restored at the hand-over");
    assert!(warmed >= KEYS as u64 / 3, "{warmed} records were copied");
    assert!(restored <= 2 * 500, "{restored} records were restored: more than the acceptable lag");
    eventually("no copy is left over", async || new.standbys().is_empty() && old.standbys().is_empty()).await;
    let (rebalances, restored_there) = (old.metrics().rebalances, old.metrics().restored);
    assert_eq!(restored_there, 0, "what stayed was not restored");
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(old.metrics().rebalances, rebalances, "nothing waits, so nothing is probed");
    new.stop().await.unwrap();
    old.stop().await.unwrap();
    counting.cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rolling_restart_moves_no_state() {
    let mut counting = Counting::new("rolling").await;
    let states: Vec<_> = (0..3).map(|_| tempfile::tempdir().unwrap()).collect();
    let settings = |state: &Path| {
        let mut config = counting.config(state);
        config.session_timeout = Duration::from_secs(30);
        config
    };
    let configs: Vec<AppConfig> = states.iter().map(|state| settings(state.path())).collect();
    let mut apps = Vec::new();
    for config in &configs {
        apps.push(counting.start(config.clone()).await);
    }
    eventually("all tasks run, and each has a copy elsewhere", async || {
        let tasks: usize = apps.iter().map(|app| app.tasks().len()).sum();
        let standbys: usize = apps.iter().map(|app| app.standbys().len()).sum();
        tasks == 4 && standbys == 4 && apps.iter().all(|app| app.ready() && !app.tasks().is_empty())
    })
    .await;
    counting.write(KEYS).await;
    counting.check().await;
    for app in &apps {
        counting.copied(app, app.standbys().len()).await;
    }
    for (place, config) in configs.iter().enumerate() {
        let app = apps.remove(place);
        let (tasks, standbys): (Vec<_>, Vec<_>) =
            (app.tasks().into_keys().collect(), app.standbys().into_keys().collect());
        let others: Vec<u64> = apps.iter().map(|app| app.metrics().rebalances).collect();
        app.stop().await.unwrap();
        counting.write(500).await;
        let app = counting.start(config.clone()).await;
        eventually("it runs again", async || app.ready()).await;
        assert_eq!(app.tasks().into_keys().collect::<Vec<_>>(), tasks);
        eventually("it keeps its copies again", async || app.standbys().len() == standbys.len()).await;
        assert_eq!(app.standbys().into_keys().collect::<Vec<_>>(), standbys);
        counting.check().await;
        let metrics = app.metrics();
        assert!(metrics.restored < 1000, "{} records were restored", metrics.restored);
        assert!(metrics.standby_records < 1500, "{} records were copied", metrics.standby_records);
        assert_eq!(metrics.wiped_stores, 0);
        let after: Vec<u64> = apps.iter().map(|app| app.metrics().rebalances).collect();
        assert_eq!(after, others, "nobody else noticed");
        apps.insert(place, app);
    }
    for app in apps {
        app.stop().await.unwrap();
    }
    counting.cluster.stop().await;
}

/// Text whose decoding panics on threads that keep copies.
struct Panicking;

impl Serde<String> for Panicking {
    fn serialize(&self, topic: &str, value: &String) -> Result<Bytes, SerdeError> {
        StringSerde.serialize(topic, value)
    }

    fn deserialize(&self, topic: &str, bytes: &Bytes) -> Result<String, SerdeError> {
        let copies = std::thread::current().name().is_some_and(|name| name.ends_with("-standby"));
        assert!(!copies, "planted");
        StringSerde.deserialize(topic, bytes)
    }
}

/// A table whose topic is its changelog, so that the copy's thread decodes values.
fn rows(application_id: &str) -> Topology {
    let builder = StreamsBuilder::new(application_id);
    let consumed = Consumed::with(string(), std::sync::Arc::new(Panicking));
    builder.table(&format!("{application_id}-in"), consumed, Materialized::named("rows"));
    builder.build().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_application_whose_copies_panic_ends_and_says_so() {
    let mut counting = Counting::new("panics").await;
    counting.write(8).await;
    let (first_place, second_place) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let start = async |place: &Path| {
        StreamsApp::start(rows(&counting.application_id), counting.config(place)).await.unwrap()
    };
    let first = start(first_place.path()).await;
    let second = start(second_place.path()).await;
    let ended = tokio::time::timeout(Duration::from_secs(60), async {
        tokio::select! {
            ended = first.wait() => ended,
            ended = second.wait() => ended,
        }
    });
    let error = ended.await.expect("a copy's thread has panicked, and its application goes on").unwrap_err();
    assert!(matches!(&error, AppError::Panic(message) if message.contains("planted")), "{error}");
    let _ = tokio::join!(first.stop(), second.stop());
    counting.cluster.stop().await;
}
