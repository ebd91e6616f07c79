//! A service with its state in PostgreSQL is killed at random moments, again and again: each record is in the tables once.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use headwater_runtime::{AppConfig, StreamsApp};
use headwater_streams::serdes::{i64, string};
use headwater_streams::{
    ColumnType, Consumed, ExternalTable, Grouped, Materialized, StreamsBuilder, Topology,
};
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

use crate::servers::{PostgresServer, signal};
use crate::support::{self, Cluster, eventually, unique};

const PLACE: &str = "HEADWATER_EXTERNAL_TEST";
const KILLS: usize = 25;
const WORDS: u64 = 50;

/// Words of lines, counted behind a repartition topic in one table; lines by key in another.
fn topology(id: &str) -> Topology {
    let builder = StreamsBuilder::new(id);
    let table = |name| ExternalTable::named(name).key(ColumnType::Text).value(ColumnType::BigInt);
    let kept = |name| Materialized::with(name, string(), i64()).external(table(name));
    builder
        .stream(&format!("{id}-lines"), Consumed::with(string(), string()))
        .flat_map(|_, line: String| {
            line.split(' ').map(|word| (word.to_owned(), word.to_owned())).collect::<Vec<_>>()
        })
        .group_by_key(Grouped::with(string(), string()).named("words"))
        .count(kept("words"));
    builder
        .stream(&format!("{id}-items"), Consumed::with(string(), string()))
        .group_by_key(Grouped::with(string(), string()))
        .count(kept("items"));
    builder.build().unwrap()
}

fn config(bootstrap: &str, id: &str, state: &Path, url: &str) -> AppConfig {
    let mut config = AppConfig::new(bootstrap, id);
    config.security = support::security();
    config.state_dir = state.to_owned();
    config.session_timeout = Duration::from_secs(6);
    config.commit_interval = Duration::from_millis(10);
    config.external = Some(headwater_external::open(url).unwrap());
    config
}

/// The process that is killed: this test binary again.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "started by the other tests"]
async fn process() {
    let Ok(place) = std::env::var(PLACE) else { return };
    let [bootstrap, id, state, url] = &place.split('|').collect::<Vec<_>>()[..] else { return };
    let _ =
        tracing_subscriber::fmt().with_max_level(tracing_subscriber::filter::LevelFilter::WARN).try_init();
    let app = StreamsApp::start(topology(id), config(bootstrap, id, Path::new(state), url)).await.unwrap();
    app.wait().await.unwrap();
}

/// What one of the runtime's tables has; nothing before the first process has made it.
fn known(server: &PostgresServer, table: &str, statement: &str) -> Vec<String> {
    let there = server.sql(&format!("SELECT to_regclass('{table}') IS NOT NULL"));
    if there == ["t"] { server.sql(statement) } else { Vec::new() }
}

struct Process(Child);

impl Process {
    fn start(bootstrap: &str, id: &str, state: &Path, url: &str) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "external_kill::process", "--ignored", "--nocapture"]);
        command.env(PLACE, format!("{bootstrap}|{id}|{}|{url}", state.display()));
        Self(command.spawn().unwrap())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Not an error if it has ended by itself.
        let _ = self.0.kill();
        self.0.wait().unwrap();
    }
}

/// What was written, and so what has to be counted.
#[derive(Default)]
struct Model {
    words: BTreeMap<String, i64>,
    items: BTreeMap<String, i64>,
}

impl Model {
    async fn write(&mut self, cluster: &Cluster, id: &str, random: &mut StdRng, count: usize) {
        let mut pick = |most| format!("w{}", random.random_range(0..most));
        let lines: Vec<[String; 2]> =
            (0..count).map(|_| [pick(WORDS), format!("{} {}", pick(WORDS), pick(WORDS))]).collect();
        for [item, line] in &lines {
            *self.items.entry(item.clone()).or_default() += 1;
            line.split(' ').for_each(|word| *self.words.entry(word.to_owned()).or_default() += 1);
        }
        for topic in ["lines", "items"] {
            let records: Vec<_> = lines.iter().map(|[key, line]| (&key[..], &line[..], 1_000)).collect();
            cluster.produce(&format!("{id}-{topic}"), &records).await;
        }
    }

    async fn check(&self, server: &PostgresServer) {
        for (table, model) in [("words", &self.words), ("items", &self.items)] {
            let due: i64 = model.values().sum();
            let counted = || server.sql(&format!("SELECT coalesce(sum(value), 0) FROM {table}"));
            eventually(&format!("all of {table} is counted"), async || {
                counted()[0].parse::<i64>().unwrap() >= due
            })
            .await;
            let rows = server.sql(&format!("SELECT key, value FROM {table}"));
            let rows = rows.iter().map(|row| row.split_once('|').unwrap());
            let found: BTreeMap<String, i64> =
                rows.map(|(key, count)| (key.to_owned(), count.parse().unwrap())).collect();
            assert_eq!(found, *model, "{table}");
        }
    }
}

async fn begin(partitions: i32) -> Option<(PostgresServer, Cluster, String, tempfile::TempDir)> {
    let server = PostgresServer::start()?;
    let (cluster, id) = (Cluster::start().await, unique("killed"));
    for topic in ["lines", "items"] {
        cluster.topic(&format!("{id}-{topic}"), partitions).await;
    }
    Some((server, cluster, id, tempfile::tempdir().unwrap()))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_is_killed_at_random_moments_counts_each_record_once() {
    let Some((server, cluster, id, state)) = begin(2).await else { return };
    let seed =
        std::env::var("HEADWATER_TEST_SEED").map_or_else(|_| rand::random(), |seed| seed.parse().unwrap());
    eprintln!("HEADWATER_TEST_SEED={seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let mut model = Model::default();
    let at = || known(&server, "headwater_positions", "SELECT sum(next_offset) FROM headwater_positions");
    for life in 0..KILLS {
        let (before, begun) = (at(), Instant::now());
        let process = Process::start(&cluster.bootstrap, &id, state.path(), &server.url());
        // Some die while they start, most in the midst of their work, while more comes.
        while life % 4 > 0 && at() == before {
            assert!(begun.elapsed() < support::PATIENCE, "it gets nowhere");
            model.write(&cluster, &id, &mut random, 50).await;
        }
        let dies = Instant::now() + Duration::from_millis(random.random_range(0..700));
        while Instant::now() < dies {
            model.write(&cluster, &id, &mut random, 20).await;
        }
        drop(process);
    }
    let _last = Process::start(&cluster.bootstrap, &id, state.path(), &server.url());
    model.check(&server).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_hung_while_another_took_its_tasks_changes_nothing_when_it_wakes() {
    let Some((server, cluster, id, state)) = begin(2).await else { return };
    let mut random = StdRng::seed_from_u64(1);
    let mut model = Model::default();
    for _ in 0..2 {
        let owners = || known(&server, "headwater_tasks", "SELECT DISTINCT owner FROM headwater_tasks");
        let before = owners();
        let hung = Process::start(&cluster.bootstrap, &id, state.path(), &server.url());
        eventually("it has the tasks", async || !owners().is_empty() && owners() != before).await;
        for _ in 0..10 {
            model.write(&cluster, &id, &mut random, 50).await;
        }
        signal(&hung.0, "STOP");
        let (of_hung, other) = (owners(), tempfile::tempdir().unwrap());
        let heir = Process::start(&cluster.bootstrap, &id, other.path(), &server.url());
        model.write(&cluster, &id, &mut random, 50).await;
        eventually("another took its tasks", async || owners().iter().all(|owner| !of_hung.contains(owner)))
            .await;
        signal(&hung.0, "CONT");
        for _ in 0..10 {
            model.write(&cluster, &id, &mut random, 50).await;
        }
        model.check(&server).await;
        drop((heir, hung));
    }
}
