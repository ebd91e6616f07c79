//! A process that is killed and started again at once has its tasks back at once, whatever the size of its state.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use headwater_runtime::{AppConfig, StreamsApp};
use headwater_streams::serdes::{i64, string};
use headwater_streams::{Consumed, Grouped, Materialized, Produced, StreamsBuilder, Topology};

use crate::support::{self, Cluster, eventually, unique};

/// Long, so that whoever waits for it is caught.
const SESSION: Duration = Duration::from_secs(30);
/// Far below the session, and far above what a busy machine needs.
const BOUND: Duration = Duration::from_secs(6);
const KEYS: i64 = 20_000;
const PLACE: &str = "HEADWATER_RESTART_TEST";

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
    config
}

/// The process that is killed: this test binary again, which says when it is ready and lives until then.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "started by the other test"]
async fn process() {
    let Ok(place) = std::env::var(PLACE) else { return };
    let [bootstrap, application_id, state] = &place.split('|').collect::<Vec<_>>()[..] else { return };
    let config = config(bootstrap, application_id, Path::new(state));
    let app = StreamsApp::start(topology(application_id), config).await.unwrap();
    eventually("every task runs", async || app.ready()).await;
    println!("\nready tasks={} restored={}", app.tasks().len(), app.metrics().restored);
    std::future::pending::<()>().await;
}

struct Process(Child);

impl Process {
    /// Returns once it is ready: its tasks, and the records that it restored.
    fn start(bootstrap: &str, application_id: &str, state: &Path) -> (Self, usize, i64) {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "restart::process", "--ignored", "--nocapture"])
            .env(PLACE, format!("{bootstrap}|{application_id}|{}", state.display()))
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let ready = lines.map_while(Result::ok).find(|line| line.starts_with("ready"));
        let ready = ready.expect("the process ended before it was ready");
        let number = |name: &str| ready.split(&format!("{name}=")).nth(1).unwrap().split(' ').next().unwrap();
        (Self(child), number("tasks").parse().unwrap(), number("restored").parse().unwrap())
    }

    fn kill(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_process_that_starts_again_waits_for_nobody() {
    let cluster = Cluster::start().await;
    let (state, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let application_id = unique("restart");
    let input = format!("{application_id}-in");
    let output = format!("{application_id}-out");
    cluster.topic(&input, 4).await;
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis() as i64;
    let keys: Vec<String> = (0..KEYS).map(|key| format!("key-{key}")).collect();
    let records: Vec<_> = keys.iter().map(|key| (key.as_str(), "x", now)).collect();

    // Another instance stays, and would notice a rebalance.
    let other = config(&cluster.bootstrap, &application_id, other.path());
    let witness = StreamsApp::start(topology(&application_id), other).await.unwrap();
    let start = || {
        let (bootstrap, application_id) = (cluster.bootstrap.clone(), application_id.clone());
        let state = state.path().to_owned();
        tokio::task::spawn_blocking(move || Process::start(&bootstrap, &application_id, &state))
    };
    let (mut process, tasks, _) = start().await.unwrap();
    eventually("each has half of the tasks", async || witness.tasks().len() == 2 && witness.ready()).await;
    assert_eq!(tasks, 2);
    cluster.produce(&input, &records).await;
    eventually("all is counted", async || cluster.read(&output).await.len() as i64 >= KEYS).await;

    // What was committed is on disk.
    tokio::time::sleep(2 * AppConfig::new("", "").store_write_delay).await;
    let before = witness.metrics().rebalances;
    for round in 1..=3_u32 {
        // It dies with work begun and not committed.
        cluster.produce(&input, &records[..1000]).await;
        tokio::time::sleep(Duration::from_millis(20) * round).await;
        process.kill();
        let begun = Instant::now();
        let (again, tasks, restored) = start().await.unwrap();
        let ready = begun.elapsed();
        process = again;
        // Each partition gets one: those of the killed process, too.
        cluster.produce(&input, &records[..100]).await;
        let due = KEYS + 1100 * i64::from(round);
        let mut written = 0;
        eventually("what came since is counted", async || {
            written = cluster.read(&output).await.len() as i64;
            written >= due
        })
        .await;
        assert_eq!(written, due, "once each");
        let counted = begun.elapsed();
        eprintln!(
            "ready after {ready:?}, went on after {counted:?}, {restored} records restored of about {}",
            KEYS / 2
        );
        assert_eq!(tasks, 2, "it has the tasks that it had");
        assert!(ready < BOUND, "took {ready:?} of a session of {SESSION:?}");
        assert!(restored < KEYS / 4, "{restored} records were restored: more than a tail");
    }
    assert_eq!(witness.metrics().rebalances, before, "nobody else noticed");
    process.kill();
    witness.stop().await.unwrap();
    cluster.stop().await;
}
