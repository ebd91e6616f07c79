//! A store that is not here comes back from a snapshot, and from its changelog only what came after; whatever is wrong
//! with a snapshot, the changelog makes the same store.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use headwater_runtime::{AppConfig, MetricsSnapshot, SnapshotConfig, StateStore, StreamsApp};
use headwater_streams::serdes::{i64, string};
use headwater_streams::{
    Consumed, Grouped, Materialized, Produced, SessionWindows, StreamsBuilder, Topology, Windowed,
};

use crate::support::{self, Cluster, eventually, unique};

const KEYS: i64 = 6_000;
const PARTITIONS: i32 = 3;
/// Of counts and of sessions, in each partition.
const STORES: usize = 2 * PARTITIONS as usize;
const TAIL: i64 = 300;
const OFTEN: Duration = Duration::from_millis(200);
const NEVER: Duration = Duration::from_secs(3600);

/// Counts records by key: of all time, and by session.
fn topology(application_id: &str) -> Topology {
    let builder = StreamsBuilder::new(application_id);
    let records = builder.stream(&format!("{application_id}-in"), Consumed::with(string(), string()));
    let grouped = records.group_by_key(Grouped::with(string(), string()));
    grouped
        .count(Materialized::named("counts").json())
        .to(&format!("{application_id}-out"), Produced::with(string(), i64()));
    grouped
        .windowed_by_session(SessionWindows::with_gap(Duration::from_secs(3600)))
        .count(Materialized::named("sessions").json())
        .to_stream()
        .map(|key: Windowed<String>, count: Option<i64>| (key.key, count.unwrap_or_default()))
        .to(&format!("{application_id}-sessions"), Produced::with(string(), i64()));
    builder.build().unwrap()
}

struct Setting {
    cluster: Cluster,
    application_id: String,
    place: tempfile::TempDir,
    now: i64,
    kind: StateStore,
    written: BTreeMap<String, i64>,
}

impl Setting {
    /// All keys are counted once, and snapshots of all of it are there.
    async fn new(kind: StateStore) -> Self {
        let cluster = Cluster::start().await;
        let application_id = unique("snapshots");
        for topic in ["in", "out", "sessions"] {
            cluster.topic(&format!("{application_id}-{topic}"), PARTITIONS).await;
        }
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        let place = tempfile::tempdir().unwrap();
        let now = since.as_millis() as i64;
        let mut setting = Self { cluster, application_id, place, now, kind, written: BTreeMap::new() };
        let state = tempfile::tempdir().unwrap();
        let app = setting.start(state.path(), OFTEN).await;
        setting.write(KEYS).await;
        eventually("snapshots of the last positions are there", async || {
            let before = app.metrics();
            // What waits to be written comes within three seconds.
            tokio::time::sleep(Duration::from_secs(6)).await;
            let after = app.metrics();
            after.snapshots == before.snapshots && setting.files().len() >= STORES
        })
        .await;
        assert_eq!(app.metrics().snapshot_failures, 0);
        let kept = setting.files().len();
        assert!(kept <= 2 * STORES, "{kept} files: two of each store are kept");
        app.stop().await.unwrap();
        // What no snapshot has.
        let app = setting.start(state.path(), NEVER).await;
        setting.write(TAIL).await;
        app.stop().await.unwrap();
        setting
    }

    async fn start(&self, state: &Path, interval: Duration) -> StreamsApp {
        let mut config = AppConfig::new(&self.cluster.bootstrap, &self.application_id);
        config.security = support::security();
        config.state_dir = state.to_owned();
        config.state_store = self.kind;
        config.session_timeout = Duration::from_secs(6);
        config.commit_interval = Duration::from_millis(50);
        let place = format!("file://{}", self.place.path().display());
        config.snapshots = Some(SnapshotConfig { interval, ..SnapshotConfig::new(place) });
        StreamsApp::start(topology(&self.application_id), config).await.unwrap()
    }

    /// The first `keys` keys once more, and waits until they are counted.
    async fn write(&mut self, keys: i64) {
        let names: Vec<String> = (0..keys).map(|key| format!("key-{key}")).collect();
        let records: Vec<_> = names.iter().map(|key| (key.as_str(), "x", self.now)).collect();
        self.cluster.produce(&format!("{}-in", self.application_id), &records).await;
        names.into_iter().for_each(|key| *self.written.entry(key).or_default() += 1);
        let due: i64 = self.written.values().sum();
        for topic in ["out", "sessions"] {
            let topic = format!("{}-{topic}", self.application_id);
            eventually("all is counted", async || self.cluster.read(&topic).await.len() as i64 >= due).await;
        }
    }

    /// Counts every key once more and compares with what was written.
    async fn check(&mut self) {
        self.write(KEYS).await;
        for topic in ["out", "sessions"] {
            let mut counts = BTreeMap::new();
            for record in self.cluster.read(&format!("{}-{topic}", self.application_id)).await {
                let key = String::from_utf8(record.key.unwrap().to_vec()).unwrap();
                let count = i64::from_be_bytes(record.value.unwrap()[..].try_into().unwrap());
                counts.insert(key, count);
            }
            assert!(counts == self.written, "the counts of {topic} are others");
        }
    }

    fn files(&self) -> BTreeSet<PathBuf> {
        let mut found = BTreeSet::new();
        let mut folders = vec![self.place.path().to_owned()];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
                match entry.is_dir() {
                    true => folders.push(entry),
                    false if entry.extension().is_some_and(|ext| ext == "snapshot") => {
                        found.insert(entry);
                    }
                    // An object that is being written.
                    false => {}
                }
            }
        }
        found
    }

    /// Starts where there is no state, and says what it was made of.
    async fn start_anew(&self) -> (StreamsApp, MetricsSnapshot, tempfile::TempDir) {
        let state = tempfile::tempdir().unwrap();
        let app = self.start(state.path(), NEVER).await;
        eventually("every task runs", async || app.ready()).await;
        let metrics = app.metrics();
        eprintln!(
            "{} entries from snapshots, {} records from changelogs, {} snapshots failed",
            metrics.restored_from_snapshots, metrics.restored, metrics.snapshot_failures
        );
        (app, metrics, state)
    }

    async fn stop(self, app: StreamsApp) {
        app.stop().await.unwrap();
        self.cluster.stop().await;
    }
}

async fn comes_back(kind: StateStore) {
    let mut setting = Setting::new(kind).await;
    let (app, metrics, _state) = setting.start_anew().await;
    assert!(metrics.restored_from_snapshots >= 2 * KEYS as u64, "both stores have every key");
    // Each change of a session is two records.
    assert!(metrics.restored <= 3 * TAIL as u64, "more than what came after");
    assert_eq!(metrics.snapshot_failures, 0);
    setting.check().await;
    setting.stop(app).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wiped_store_comes_back_from_its_snapshot_and_the_tail() {
    comes_back(StateStore::Disk).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn so_does_one_in_memory() {
    comes_back(StateStore::Memory).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_snapshot_is_refused_and_the_changelog_makes_the_store() {
    for kind in [StateStore::Disk, StateStore::Memory] {
        let mut setting = Setting::new(kind).await;
        for file in setting.files() {
            let mut bytes = std::fs::read(&file).unwrap();
            // Behind blocks that are whole, so that some of it was written already.
            let at = bytes.len() - 10;
            bytes[at] ^= 4;
            std::fs::write(file, bytes).unwrap();
        }
        let (app, metrics, _state) = setting.start_anew().await;
        assert_eq!(metrics.snapshot_failures, STORES as u64);
        assert!(metrics.restored >= 2 * KEYS as u64, "all of the changelogs");
        setting.check().await;
        setting.stop(app).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn snapshots_of_another_incarnation_of_the_changelog_are_not_taken() {
    let mut setting = Setting::new(StateStore::Disk).await;
    for file in setting.files() {
        let name = file.file_name().unwrap().to_str().unwrap();
        let (_, position) = name.split_once('-').unwrap();
        std::fs::rename(&file, file.with_file_name(format!("{:032x}-{position}", 7))).unwrap();
    }
    let (app, metrics, _state) = setting.start_anew().await;
    assert_eq!((metrics.restored_from_snapshots, metrics.snapshot_failures), (0, 0));
    setting.check().await;
    setting.stop(app).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_place_that_is_away_costs_time_and_no_more() {
    let mut setting = Setting::new(StateStore::Disk).await;
    for file in setting.files() {
        std::fs::remove_file(file).unwrap();
    }
    let (app, metrics, _state) = setting.start_anew().await;
    assert_eq!(metrics.restored_from_snapshots, 0);
    setting.check().await;
    setting.stop(app).await;
}
