//! Applications whose tasks the broker assigns (KIP-1071, `group.protocol=streams`): results, hand-over, copies, questions,
//! restarts, and groups of the other protocol.
//!
//! The embedded broker finds dead members within seconds. Apache Kafka at HEADWATER_TEST_BOOTSTRAP does with
//! `group.streams.min.session.timeout.ms=6000 group.streams.session.timeout.ms=6000 group.streams.min.heartbeat.interval.ms=500
//! group.streams.heartbeat.interval.ms=500 group.streams.num.standby.replicas=1`.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use headwater_broker::Config;
use headwater_model::TopicPartition;
use headwater_runtime::{AppConfig, AppError, FaultHook, FaultPoint, GroupProtocol, Guarantee, StreamsApp};
use headwater_streams::serdes::{i64, string};
use headwater_streams::{
    Consumed, Grouped, Joined, Materialized, Produced, Repartitioned, StreamsBuilder, TaskId, Topology,
};

use crate::support::asking::ask;
use crate::support::{self, Cluster, PATIENCE, WordCount, eventually, unique};

fn settings(config: &mut Config) {
    let streams = &mut config.coordinator.streams;
    (streams.session_timeout_ms, streams.heartbeat_interval_ms) = (6_000, 500);
    (streams.min_session_timeout_ms, streams.min_heartbeat_interval_ms) = (6_000, 500);
    streams.initial_rebalance_delay_ms = 500;
    streams.num_standby_replicas = 1;
}

async fn cluster() -> Cluster {
    Cluster::start_with(settings).await
}

fn config(words: &WordCount, cluster: &Cluster, state: &Path) -> AppConfig {
    let mut config = words.config(cluster, state);
    config.group_protocol = GroupProtocol::Streams;
    config
}

async fn start(words: &WordCount, cluster: &Cluster, state: &Path) -> StreamsApp {
    StreamsApp::start(words.topology(), config(words, cluster, state)).await.unwrap()
}

/// Of the group: its protocol, and how many members it has.
async fn group(words: &WordCount, cluster: &Cluster) -> (String, usize) {
    let found = cluster.client.describe_group(&words.application_id).await.unwrap();
    (found.protocol_type, found.members.len())
}

#[tokio::test(flavor = "multi_thread")]
async fn counts_equal_the_model_and_go_on_after_a_restart() {
    let cluster = cluster().await;
    let state = tempfile::tempdir().unwrap();
    let mut words = WordCount::new(&cluster, 4).await;
    let configured = || {
        let mut configured = config(&words, &cluster, state.path());
        configured.threads = 3;
        configured
    };
    let (first, second) = (configured(), configured());
    words.write(&cluster, 300).await;
    let app = StreamsApp::start(words.topology(), first).await.unwrap();
    words.check(&cluster).await;
    eventually("all tasks run", async || app.tasks().len() == 8 && app.ready()).await;
    assert_eq!(group(&words, &cluster).await, ("streams".to_owned(), 3));
    app.stop().await.unwrap();
    assert_eq!(group(&words, &cluster).await.1, 0, "who stops leaves");

    words.write(&cluster, 100).await;
    let app = StreamsApp::start(words.topology(), second).await.unwrap();
    words.check(&cluster).await;
    words.check_store(&app).await;
    assert_eq!(app.metrics().wiped_stores, 0);
    app.stop().await.unwrap();
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_stays_goes_on_while_others_come_and_go() {
    let cluster = cluster().await;
    let mut words = WordCount::new(&cluster, 4).await;
    let (here, there) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    words.write(&cluster, 300).await;
    let first = start(&words, &cluster, here.path()).await;
    words.check(&cluster).await;
    let counted = |app: &StreamsApp| -> BTreeMap<TaskId, u64> {
        app.tasks().into_iter().map(|(id, status)| (id, status.node_counts.values().sum())).collect()
    };
    eventually("the first has all tasks, and each has worked", async || {
        first.ready() && counted(&first).len() == 8 && counted(&first).values().all(|count| *count > 0)
    })
    .await;
    let before = counted(&first);
    let second = start(&words, &cluster, there.path()).await;
    eventually("each has half", async || {
        first.tasks().len() == 4 && second.tasks().len() == 4 && first.ready() && second.ready()
    })
    .await;
    assert!(first.tasks().keys().all(|task| !second.tasks().contains_key(task)));
    // Counts are those since a task was opened.
    for (task, count) in counted(&first) {
        assert!(count >= before[&task], "{task} was opened again: {count} records, {} before", before[&task]);
    }
    words.write(&cluster, 200).await;
    words.check(&cluster).await;
    let before = counted(&second);
    first.stop().await.unwrap();
    words.write(&cluster, 100).await;
    eventually("the second has all tasks", async || second.tasks().len() == 8 && second.ready()).await;
    let after = counted(&second);
    assert!(before.iter().all(|(task, count)| after[task] >= *count), "{before:?} {after:?}");
    words.check(&cluster).await;
    words.check_store(&second).await;
    second.stop().await.unwrap();
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_process_has_its_tasks_at_once_when_it_comes_back() {
    let cluster = cluster().await;
    let mut words = WordCount::new(&cluster, 2).await;
    let state = tempfile::tempdir().unwrap();
    words.write(&cluster, 100).await;
    let mut dying = config(&words, &cluster, state.path());
    dying.fault = Some(FaultHook::new(|at| at == FaultPoint::BeforeStores));
    let app = StreamsApp::start(words.topology(), dying).await.unwrap();
    assert!(app.wait().await.is_err());
    // It died of it; what is left lets go of the directory.
    let _ = app.stop().await;
    assert_eq!(group(&words, &cluster).await.1, 1, "nobody has left");
    let begun = Instant::now();
    let app = start(&words, &cluster, state.path()).await;
    eventually("every task runs again", async || app.ready() && app.tasks().len() == 4).await;
    let took = begun.elapsed();
    eprintln!("tasks ran again after {took:?}");
    assert!(took < Duration::from_secs(5), "took {took:?}: the session's end was waited for");
    words.check(&cluster).await;
    app.stop().await.unwrap();
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_holder_of_the_copies_takes_over_and_restores_a_tail() {
    let cluster = cluster().await;
    let mut words = WordCount::new(&cluster, 2).await;
    let (here, there) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let holder = start(&words, &cluster, here.path()).await;
    let dies = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let mut dying = config(&words, &cluster, there.path());
    let told = dies.clone();
    dying.fault = Some(FaultHook::new(move |at| {
        at == FaultPoint::BeforeCommit && told.load(std::sync::atomic::Ordering::Relaxed)
    }));
    let other = StreamsApp::start(words.topology(), dying).await.unwrap();
    eventually("each has tasks, and copies of the other's", async || {
        let (a, b) = (holder.tasks().len(), other.tasks().len());
        (a, b) == (2, 2)
            && holder.ready()
            && other.ready()
            && holder.standbys().len() + other.standbys().len() == 2
    })
    .await;
    words.write(&cluster, 2000).await;
    words.check(&cluster).await;
    eventually("the copies are complete", async || {
        let all = [holder.standbys(), other.standbys()];
        all.iter().flat_map(|copies| copies.values()).all(|copy| copy.lag <= 1)
    })
    .await;
    let before = holder.metrics().restored;
    dies.store(true, std::sync::atomic::Ordering::Relaxed);
    words.write(&cluster, 100).await;
    assert!(other.wait().await.is_err());
    let _ = other.stop().await;
    eventually("the holder has all tasks", async || holder.tasks().len() == 4 && holder.ready()).await;
    words.check(&cluster).await;
    words.check_store(&holder).await;
    let restored = holder.metrics().restored - before;
    assert!(restored < 500, "{restored} records were restored: more than a tail");
    holder.stop().await.unwrap();
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_instance_answers_for_all_by_what_the_broker_says_of_the_others() {
    let cluster = cluster().await;
    let mut words = WordCount::new(&cluster, 4).await;
    let states: Vec<_> = (0..2).map(|_| tempfile::tempdir().unwrap()).collect();
    let mut apps = Vec::new();
    for state in &states {
        let mut configured = config(&words, &cluster, state.path());
        configured.threads = 2;
        apps.push(StreamsApp::start(words.topology(), configured).await.unwrap());
    }
    eventually("each has half", async || apps.iter().all(|app| app.ready() && app.tasks().len() == 4)).await;
    words.write(&cluster, 300).await;
    words.check(&cluster).await;
    let known = async |app: &StreamsApp| {
        let told = app.queries().query_metadata_for_key("counts", &"w1".to_owned()).unwrap().unwrap();
        (told.active_host, told.standby_hosts)
    };
    eventually("both know who has what", async || {
        let (a, b) = (known(&apps[0]).await, known(&apps[1]).await);
        a == b && a.0.is_some()
    })
    .await;
    let hosts: Vec<&str> = apps.iter().map(|app| app.application_server().unwrap()).collect();
    let mut owners = BTreeMap::new();
    for (word, count) in &words.model {
        for app in &apps {
            eventually(&format!("{word}={count} everywhere"), async || {
                let told = ask(app, &format!("/stores/counts/key/{word}")).await;
                told.status == 200 && *told.value() == *count && told.role() == "active"
            })
            .await;
            let told = ask(app, &format!("/stores/counts/key/{word}")).await;
            let owner = told.header("headwater-host").unwrap().to_owned();
            *owners.entry(owner).or_insert(0) += 1;
        }
    }
    assert!(hosts.iter().all(|host| owners.contains_key(*host)), "{owners:?}");
    for app in apps {
        app.stop().await.unwrap();
    }
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_application_survives_a_broker_that_is_away() {
    let mut cluster = cluster().await;
    if !cluster.is_embedded() {
        eprintln!("skipped: the broker at HEADWATER_TEST_BOOTSTRAP is not ours to restart");
        return;
    }
    let mut words = WordCount::new(&cluster, 2).await;
    let state = tempfile::tempdir().unwrap();
    let app = start(&words, &cluster, state.path()).await;
    for _ in 0..3 {
        words.write(&cluster, 500).await;
        cluster.restart_broker(Duration::from_millis(500)).await;
    }
    words.write(&cluster, 100).await;
    words.check(&cluster).await;
    words.check_store(&app).await;
    app.stop().await.unwrap();
    cluster.stop().await;
}

/// Another topology of the same application.
fn copying(words: &WordCount) -> Topology {
    let builder = StreamsBuilder::new(&words.application_id);
    let lines = builder.stream(&words.lines, Consumed::with(string(), string()));
    lines.to(&format!("{}-copies", words.application_id), Produced::with(string(), string()));
    builder.build().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_is_of_one_protocol_at_a_time_and_changes_when_it_is_empty() {
    let cluster = cluster().await;
    let mut words = WordCount::new(&cluster, 2).await;
    let (here, there) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    words.write(&cluster, 100).await;
    let classic = words.start(&cluster, here.path()).await;
    words.check(&cluster).await;

    let mut early = config(&words, &cluster, there.path());
    early.session_timeout = Duration::from_secs(1);
    let error = StreamsApp::start(words.topology(), early).await.err().unwrap();
    assert!(matches!(error, AppError::OtherProtocol { .. }), "{error}");
    assert!(error.to_string().contains("stop all instances"), "{error}");
    classic.stop().await.unwrap();

    // What the instance was before is sent away: its session need not end.
    words.write(&cluster, 50).await;
    let begun = Instant::now();
    let streams = start(&words, &cluster, here.path()).await;
    assert!(begun.elapsed() < Duration::from_secs(5), "took {:?}", begun.elapsed());
    words.check(&cluster).await;
    words.check_store(&streams).await;

    let late = words.start(&cluster, there.path()).await;
    let error = tokio::time::timeout(PATIENCE, late.wait()).await.unwrap().unwrap_err();
    assert!(matches!(error, AppError::OtherProtocol { .. }), "{error}");
    let _ = late.stop().await;
    streams.stop().await.unwrap();
    let app = StreamsApp::start(copying(&words), config(&words, &cluster, there.path())).await.unwrap();
    let error = tokio::time::timeout(PATIENCE, app.wait()).await.unwrap().unwrap_err().to_string();
    assert!(error.contains("Topology updates are not supported yet"), "{error}");
    assert!(error.contains("docs/streams-groups.md"), "{error}");
    let _ = app.stop().await;

    words.write(&cluster, 50).await;
    let classic = words.start(&cluster, here.path()).await;
    words.check(&cluster).await;
    words.check_store(&classic).await;
    assert_eq!(group(&words, &cluster).await.0, "consumer");
    classic.stop().await.unwrap();
    // A group that was classic in between knows no topology.
    let app = StreamsApp::start(copying(&words), config(&words, &cluster, here.path())).await.unwrap();
    eventually("another topology runs", async || app.ready() && app.tasks().len() == 2).await;
    app.stop().await.unwrap();
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_asks_goes_by_what_the_group_is() {
    let cluster = cluster().await;
    let mut words = WordCount::new(&cluster, 2).await;
    let (here, there) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let asking = |state: &Path| {
        let mut configured = words.config(&cluster, state);
        configured.group_protocol = GroupProtocol::Auto;
        configured
    };
    let (fresh, beside) = (asking(there.path()), asking(there.path()));
    words.write(&cluster, 50).await;
    let classic = words.start(&cluster, here.path()).await;
    eventually("it runs", async || classic.ready() && classic.tasks().len() == 4).await;
    let app = StreamsApp::start(words.topology(), beside).await.unwrap();
    eventually("both are in the group", async || group(&words, &cluster).await == ("consumer".to_owned(), 2))
        .await;
    app.stop().await.unwrap();
    classic.stop().await.unwrap();
    // Static members are expected back until their sessions end.
    eventually("the group is empty", async || group(&words, &cluster).await.1 == 0).await;
    let app = StreamsApp::start(words.topology(), fresh).await.unwrap();
    eventually("it is a streams group", async || group(&words, &cluster).await == ("streams".to_owned(), 1))
        .await;
    words.check(&cluster).await;
    app.stop().await.unwrap();
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn at_least_once_loses_nothing() {
    let cluster = cluster().await;
    let mut words = WordCount::new(&cluster, 2).await;
    let state = tempfile::tempdir().unwrap();
    let mut configured = config(&words, &cluster, state.path());
    configured.guarantee = Guarantee::AtLeastOnce;
    words.write(&cluster, 200).await;
    let app = StreamsApp::start(words.topology(), configured).await.unwrap();
    words.check(&cluster).await;
    words.check_store(&app).await;
    app.stop().await.unwrap();
    cluster.stop().await;
}

/// A stream by a new key joined with a table, counted: topics of all kinds, and some that must be partitioned alike.
fn enriching(application_id: &str) -> Topology {
    let builder = StreamsBuilder::new(application_id);
    let named = |name: &str| format!("{application_id}-{name}");
    let strings = || Consumed::with(string(), string());
    let rows = builder.table(&named("rows"), strings(), Materialized::named("rows").json());
    builder
        .stream(&named("in"), strings())
        .select_key(|_, value: &String| value.clone())
        .repartition(Repartitioned::with(string(), string()).named("by-value"))
        .join(&rows, |_, row: &String| row.clone(), Joined::new().named("enrich"))
        .group_by(|_, row: &String| row.clone(), Grouped::with(string(), string()).named("by-row"))
        .count(Materialized::named("counts").json())
        .to(&named("out"), Produced::with(string(), i64()));
    builder.build().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn joined_and_repartitioned_topics_are_as_the_broker_finds_them_right() {
    let cluster = cluster().await;
    let application_id = unique("enriching");
    cluster.topic(&format!("{application_id}-rows"), 3).await;
    cluster.topic(&format!("{application_id}-in"), 2).await;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as i64;
    let rows: Vec<(String, String)> =
        (0..20).map(|key| (format!("k{key}"), format!("r{}", key % 3))).collect();
    let rows: Vec<_> = rows.iter().map(|(key, row)| (key.as_str(), row.as_str(), now)).collect();
    cluster.produce(&format!("{application_id}-rows"), &rows).await;
    let states: Vec<_> = (0..2).map(|_| tempfile::tempdir().unwrap()).collect();
    let mut apps = Vec::new();
    for state in &states {
        let mut config = AppConfig::new(&cluster.bootstrap, &application_id);
        config.security = support::security();
        config.state_dir = state.path().to_owned();
        config.group_protocol = GroupProtocol::Streams;
        apps.push(StreamsApp::start(enriching(&application_id), config).await.unwrap());
    }
    let partitions: Vec<_> =
        (0..3).map(|index| TopicPartition::new(format!("{application_id}-rows"), index)).collect();
    eventually("all tasks run, and the table is read", async || {
        let tasks: usize = apps.iter().map(|app| app.tasks().len()).sum();
        let committed = cluster.client.committed(&application_id, Some(&partitions)).await.unwrap();
        let read: i64 = committed.values().map(|position| position.offset).sum();
        tasks == 8 && apps.iter().all(|app| app.ready() && !app.tasks().is_empty()) && read == 20
    })
    .await;
    let records: Vec<String> = (0..60).map(|index| format!("k{}", index % 20)).collect();
    let records: Vec<_> = records.iter().map(|value| ("x", value.as_str(), now + 1)).collect();
    cluster.produce(&format!("{application_id}-in"), &records).await;
    let out = format!("{application_id}-out");
    eventually("all is counted", async || cluster.read(&out).await.len() >= 60).await;
    let mut last = BTreeMap::new();
    for record in cluster.read(&out).await {
        let count = i64::from_be_bytes(record.value.unwrap()[..].try_into().unwrap());
        last.insert(String::from_utf8(record.key.unwrap().to_vec()).unwrap(), count);
    }
    let expected = [("r0", 21), ("r1", 21), ("r2", 18)].map(|(row, count)| (row.to_owned(), count));
    assert_eq!(last, BTreeMap::from(expected));
    for app in apps {
        app.stop().await.unwrap();
    }
    cluster.stop().await;
}
