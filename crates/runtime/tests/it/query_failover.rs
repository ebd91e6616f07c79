//! What readers see while instances die, stand still and are restarted: right answers, or none.

use std::collections::HashMap;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use headwater_runtime::{AppConfig, StreamsApp};
use headwater_streams::serdes::{i64, string};
use headwater_streams::{Consumed, Grouped, Materialized, Produced, StreamsBuilder, Topology};

use crate::support::asking::{Told, ask, try_ask};
use crate::support::{self, Cluster, eventually, unique};

const PARTITIONS: i32 = 4;
const KEYS: usize = 40;
const SESSION: Duration = Duration::from_secs(6);
const PLACE: &str = "HEADWATER_QUERY_TEST";

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
    config.session_timeout = SESSION;
    config.commit_interval = Duration::from_millis(50);
    config.num_standby_replicas = 1;
    config.http = Some("127.0.0.1:0".parse().unwrap());
    config
}

/// Counts of keys that go up, and what they have to come to.
struct Counting {
    cluster: Cluster,
    application_id: String,
    rounds: i64,
}

impl Counting {
    async fn new(name: &str) -> Self {
        let cluster = Cluster::start().await;
        let application_id = unique(name);
        cluster.topic(&format!("{application_id}-in"), PARTITIONS).await;
        Self { cluster, application_id, rounds: 0 }
    }

    async fn start(&self, state: &Path) -> StreamsApp {
        let config = config(&self.cluster.bootstrap, &self.application_id, state);
        StreamsApp::start(topology(&self.application_id), config).await.unwrap()
    }

    /// One record of each key, more often.
    async fn write(&mut self, rounds: i64) {
        let before = self.rounds;
        let records: Vec<(String, &str, i64)> = (0..rounds)
            .flat_map(|round| (0..KEYS).map(move |key| (name(key), "x", before + round + 1)))
            .collect();
        let records: Vec<_> =
            records.iter().map(|(key, value, time)| (key.as_str(), *value, *time)).collect();
        self.cluster.produce(&format!("{}-in", self.application_id), &records).await;
        self.rounds += rounds;
    }

    /// Waits until an instance answers with all counts.
    async fn counted(&self, app: &StreamsApp, what: &str) {
        eventually(what, async || {
            let told = ask(app, "/stores/counts").await;
            told.status == 200
                && told.rows().len() == KEYS
                && told.rows().iter().all(|row| row["value"] == self.rounds)
        })
        .await;
    }

    async fn process(&self, state: &Path) -> Process {
        let place = format!("{}|{}|{}", self.cluster.bootstrap, self.application_id, state.display());
        tokio::task::spawn_blocking(move || Process::start(&place)).await.unwrap()
    }

    /// The keys whose tasks the process has, and not the instance.
    async fn keys_of(&self, app: &StreamsApp, host: &str) -> Vec<String> {
        let mut keys = Vec::new();
        for key in (0..KEYS).map(name) {
            let known = app.queries().query_metadata_for_key("counts", &key).unwrap().unwrap();
            if known.active_host.as_deref() == Some(host) {
                keys.push(key);
            }
        }
        assert!(!keys.is_empty() && keys.len() < KEYS, "{keys:?}");
        keys
    }
}

fn name(key: usize) -> String {
    format!("key-{key:02}")
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
    println!("\nready {}", app.application_server().unwrap());
    std::future::pending::<()>().await;
}

struct Process {
    child: Child,
    host: String,
}

impl Process {
    fn start(place: &str) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "query_failover::process", "--ignored", "--nocapture"])
            .env(PLACE, place)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let host =
            lines.map_while(Result::ok).find_map(|line| line.strip_prefix("ready ").map(str::to_owned));
        Self { child, host: host.expect("the process ended before it was ready") }
    }

    fn signal(&self, signal: &str) {
        let sent = Command::new("kill").args([signal, &self.child.id().to_string()]).status().unwrap();
        assert!(sent.success());
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

fn unavailable(told: &Told) -> bool {
    told.status == 503 && told.header("retry-after") == Some("1")
}

async fn complete(app: &StreamsApp, tasks: usize) {
    eventually("the copies are complete", async || {
        app.standbys().len() == tasks && app.standbys().values().all(|copy| copy.lag == 0)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_answers_within_the_stated_staleness_and_then_becomes_the_owner() {
    let mut counting = Counting::new("failover").await;
    let (state, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let holder = counting.start(other.path()).await;
    let process = counting.process(state.path()).await;
    eventually("each has half of the tasks", async || holder.tasks().len() == 2 && holder.ready()).await;
    counting.write(20).await;
    counting.counted(&holder, "all is counted").await;
    complete(&holder, 2).await;
    let keys = counting.keys_of(&holder, &process.host).await;
    // It knows by itself how fresh it is, also when nothing comes.
    tokio::time::sleep(Duration::from_secs(2)).await;
    let told = ask(&holder, &format!("/stores/counts/key/{}?max_staleness=1500ms", keys[0])).await;
    assert_eq!((told.status, told.role()), (200, "standby"), "{told:?}");
    assert!(told.number("headwater-staleness-ms").unwrap() <= 1500);

    drop(process);
    let killed = Instant::now();
    for key in &keys {
        let path = format!("/stores/counts/key/{key}");
        let told = ask(&holder, &path).await;
        assert!(unavailable(&told), "nobody said that an old row will do: {told:?}");
        for bound in ["max_staleness=5s", "max_lag=10", "max_lag=10&max_staleness=5s"] {
            let told = ask(&holder, &format!("{path}?{bound}")).await;
            assert_eq!((told.status, told.role()), (200, "standby"), "{told:?}");
            assert_eq!(*told.value(), counting.rounds);
            assert!(told.number("headwater-staleness-ms").unwrap() <= 5000, "{told:?}");
            assert!(told.number("headwater-lag").unwrap() <= 10, "{told:?}");
        }
        let told = ask(&holder, &format!("{path}?max_staleness=0")).await;
        // It may just have heard from the broker.
        let fresh = told.status == 200 && told.number("headwater-staleness-ms") == Some(0);
        assert!(fresh || unavailable(&told) && told.detail().contains("further behind"), "{told:?}");
    }
    assert!(unavailable(&ask(&holder, "/stores/counts").await), "a part of the rows is no answer");
    assert_eq!(ask(&holder, "/stores/counts?max_staleness=5s").await.rows().len(), KEYS);
    assert!(killed.elapsed() < SESSION, "the machine is too slow for what is tested");

    // Who can wait has an answer as soon as there is one.
    let told = ask(&holder, &format!("/stores/counts/key/{}?timeout=30s", keys[0])).await;
    assert_eq!(
        (told.status, told.role(), told.value()),
        (200, "active", &counting.rounds.into()),
        "{told:?}"
    );
    assert!(killed.elapsed() > SESSION / 2, "before its session ended it might have lived");
    counting.write(1).await;
    counting.counted(&holder, "the new owner goes on").await;
    holder.stop().await.unwrap();
    counting.cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_stood_still_gives_no_old_answers() {
    let mut counting = Counting::new("zombie").await;
    let (state, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let holder = counting.start(other.path()).await;
    let process = counting.process(state.path()).await;
    eventually("each has half of the tasks", async || holder.tasks().len() == 2 && holder.ready()).await;
    counting.write(5).await;
    counting.counted(&holder, "all is counted").await;
    let keys = counting.keys_of(&holder, &process.host).await;

    process.signal("-STOP");
    eventually("the other one has all tasks", async || holder.tasks().len() == 4 && holder.ready()).await;
    counting.write(5).await;
    counting.counted(&holder, "it has counted on").await;
    // Asked before it knows that it is expelled: requests are waiting for it when it goes on.
    let asked: Vec<_> = (0..4 * keys.len())
        .map(|place| {
            let (host, key) = (process.host.clone(), keys[place % keys.len()].clone());
            tokio::spawn(async move { try_ask(&host, &format!("/stores/counts/key/{key}")).await })
        })
        .collect();
    tokio::time::sleep(Duration::from_millis(500)).await;
    process.signal("-CONT");
    let mut answers = 0;
    for told in asked {
        let Some(told) = told.await.unwrap() else { continue };
        assert!(told.status == 503 || *told.value() == counting.rounds, "{told:?}");
        answers += 1;
    }
    assert!(answers > 0, "it answers nothing at all");
    drop(process);
    holder.stop().await.unwrap();
    counting.cluster.stop().await;
}

/// What readers have seen.
struct Seen {
    /// Every key had been counted by then.
    since: Instant,
    answers: AtomicU64,
    stale: AtomicU64,
    unavailable: AtomicU64,
    done: AtomicBool,
}

impl Seen {
    fn new() -> Self {
        let none = || AtomicU64::new(0);
        let (answers, stale, unavailable) = (none(), none(), none());
        Self { since: Instant::now(), answers, stale, unavailable, done: AtomicBool::new(false) }
    }
}

/// Asks one instance after the other for one key after the other, until it is told to end. A count never goes down, and no key
/// is missing, but from a copy that says that it is as of before they were counted.
async fn read(hosts: Arc<std::sync::Mutex<Vec<String>>>, seen: Arc<Seen>, bound: &str) {
    let mut counts: HashMap<String, i64> = HashMap::new();
    let mut turn = 0;
    while !seen.done.load(Ordering::Relaxed) {
        let hosts = hosts.lock().unwrap().clone();
        let (host, key) = (&hosts[turn % hosts.len()], name(turn / 3 % KEYS));
        turn += 1;
        let path = format!("/stores/counts/key/{key}{bound}");
        let since = u64::try_from(seen.since.elapsed().as_millis()).unwrap();
        let Some(told) = try_ask(host, &path).await else { continue };
        match told.status {
            200 => {
                let (count, stale) = (told.value().as_i64().unwrap(), told.role() == "standby");
                let last = counts.entry(key.clone()).or_default();
                if stale {
                    assert!(told.number("headwater-staleness-ms").unwrap() <= 30_000, "{told:?}");
                    seen.stale.fetch_add(1, Ordering::Relaxed);
                } else {
                    assert!(count >= *last, "{key} goes from {last} to {count}: {told:?}");
                    *last = count;
                    seen.answers.fetch_add(1, Ordering::Relaxed);
                }
            }
            503 => {
                assert!(unavailable(&told), "{told:?}");
                seen.unavailable.fetch_add(1, Ordering::Relaxed);
            }
            404 => {
                let staleness = told.number("headwater-staleness-ms");
                assert!(staleness.is_some_and(|ms| ms + 1 >= since), "{key} is missing: {told:?}");
            }
            _ => panic!("{told:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rolling_restart_shows_no_wrong_count() {
    let mut counting = Counting::new("rolling").await;
    let states: Vec<_> = (0..3).map(|_| tempfile::tempdir().unwrap()).collect();
    let mut apps = Vec::new();
    for state in &states {
        apps.push(counting.start(state.path()).await);
    }
    eventually("all tasks run, and each has a copy elsewhere", async || {
        let tasks: usize = apps.iter().map(|app| app.tasks().len()).sum();
        let standbys: usize = apps.iter().map(|app| app.standbys().len()).sum();
        tasks == 4 && standbys == 4 && apps.iter().all(|app| app.ready() && !app.tasks().is_empty())
    })
    .await;
    counting.write(1).await;
    counting.counted(&apps[0], "all is counted").await;

    let address = |app: &StreamsApp| app.application_server().unwrap().to_owned();
    let hosts = Arc::new(std::sync::Mutex::new(apps.iter().map(address).collect::<Vec<_>>()));
    let seen = Arc::new(Seen::new());
    let readers = ["", "?max_staleness=30s", "?timeout=2s"]
        .map(|bound| tokio::spawn(read(hosts.clone(), seen.clone(), bound)));
    for (place, state) in states.iter().enumerate() {
        counting.write(3).await;
        let app = apps.remove(place);
        let before = address(&app);
        app.stop().await.unwrap();
        counting.write(3).await;
        let app = counting.start(state.path()).await;
        assert_ne!(address(&app), before, "the port is another one");
        hosts.lock().unwrap()[place] = address(&app);
        apps.insert(place, app);
        counting.write(3).await;
        // Each of them knows where everybody is, also the one whose address has changed.
        for app in &apps {
            counting.counted(app, "all is counted").await;
        }
    }
    seen.done.store(true, Ordering::Relaxed);
    for reader in readers {
        reader.await.unwrap();
    }
    let of = |count: &AtomicU64| count.load(Ordering::Relaxed);
    let (answers, stale, none) = (of(&seen.answers), of(&seen.stale), of(&seen.unavailable));
    eprintln!("{answers} answers, {stale} of copies, {none} times none");
    assert!(answers > 100 && stale > 0, "{answers} answers, {stale} of copies");
    for app in apps {
        app.stop().await.unwrap();
    }
    counting.cluster.stop().await;
}
