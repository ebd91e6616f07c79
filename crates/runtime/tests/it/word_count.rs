//! A word count from start to stop: results, restarts, hand-over, restoring, and brokers that go away.

use std::time::{Duration, Instant};

use headwater_runtime::{AppError, FaultHook, FaultPoint, Guarantee, StateStore, StreamsApp};
use headwater_streams::{Consumed, StreamsBuilder, serdes};

use crate::support::{self, Cluster, WordCount, eventually, unique};

#[tokio::test(flavor = "multi_thread")]
async fn counts_equal_the_model_and_go_on_after_a_restart() {
    let cluster = Cluster::start().await;
    let state = tempfile::tempdir().unwrap();
    let mut words = WordCount::new(&cluster, 3).await;
    words.write(&cluster, 200).await;
    let app = words.start(&cluster, state.path()).await;
    words.check(&cluster).await;
    app.stop().await.unwrap();

    words.write(&cluster, 100).await;
    let app = words.start(&cluster, state.path()).await;
    words.check(&cluster).await;
    words.check_store(&app).await;
    assert_eq!(app.metrics().wiped_stores, 0);
    app.stop().await.unwrap();
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn state_in_memory_comes_back_from_the_changelogs() {
    let cluster = Cluster::start().await;
    let mut words = WordCount::new(&cluster, 2).await;
    let state = tempfile::tempdir().unwrap();
    let config = || {
        let mut config = words.config(&cluster, state.path());
        config.state_store = StateStore::Memory;
        config.instance = Some("one".to_owned());
        config
    };
    let (first, second) = (config(), config());
    words.write(&cluster, 200).await;
    let app = StreamsApp::start(words.topology(), first).await.unwrap();
    words.check(&cluster).await;
    app.stop().await.unwrap();
    words.write(&cluster, 50).await;
    let app = StreamsApp::start(words.topology(), second).await.unwrap();
    words.check(&cluster).await;
    assert!(app.metrics().restored > 0);
    app.stop().await.unwrap();
    cluster.stop().await;
}

/// After so many commits.
fn dies_at_commit(number: usize) -> FaultHook {
    let done = std::sync::atomic::AtomicUsize::new(0);
    FaultHook::new(move |point| {
        point == FaultPoint::AfterStores
            && done.fetch_add(1, std::sync::atomic::Ordering::Relaxed) + 1 == number
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_to_be_written_is_written_in_time_and_by_a_stop_and_restored_after_a_crash() {
    let cluster = Cluster::start().await;
    let mut words = WordCount::new(&cluster, 2).await;
    let state = tempfile::tempdir().unwrap();
    let config = |delay: Duration, fault: Option<FaultHook>| {
        let mut config = words.config(&cluster, state.path());
        config.instance = Some("one".to_owned());
        (config.store_write_delay, config.store_write_at_once, config.store_table_from) = (delay, 0, 1);
        config.fault = fault;
        config
    };
    let (late, soon, again, crashing) = (
        config(Duration::from_secs(60), None),
        config(Duration::from_millis(200), None),
        config(Duration::from_secs(60), None),
        config(Duration::from_secs(60), Some(dies_at_commit(10))),
    );
    words.write(&cluster, 200).await;
    let app = StreamsApp::start(words.topology(), late).await.unwrap();
    words.check(&cluster).await;
    let word = words.model.keys().next().unwrap();
    let (status, _) = support::get(&app, &format!("/stores/counts/{word}")).await;
    assert_eq!(status, 404, "it is committed, and waits");
    app.stop().await.unwrap();

    let app = StreamsApp::start(words.topology(), soon).await.unwrap();
    words.check_store(&app).await;
    assert_eq!(app.metrics().restored, 0, "the stop has written all of it");
    words.write(&cluster, 50).await;
    words.check_store(&app).await;
    app.stop().await.unwrap();

    let app = StreamsApp::start(words.topology(), crashing).await.unwrap();
    for _ in 0..40 {
        words.write(&cluster, 5).await;
        tokio::time::sleep(Duration::from_millis(60)).await;
    }
    app.wait().await.unwrap_err();
    // It died of it; what is left lets go of the directory.
    let _ = app.stop().await;
    let app = StreamsApp::start(words.topology(), again).await.unwrap();
    words.check(&cluster).await;
    assert!(app.metrics().restored > 0, "what had waited was lost, and is in the changelog");
    app.stop().await.unwrap();
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wiped_state_directory_is_restored() {
    let cluster = Cluster::start().await;
    let mut words = WordCount::new(&cluster, 2).await;
    let state = tempfile::tempdir().unwrap();
    let config = || {
        let mut config = words.config(&cluster, state.path());
        config.instance = Some("one".to_owned());
        config
    };
    let (first, second) = (config(), config());
    words.write(&cluster, 200).await;
    let app = StreamsApp::start(words.topology(), first).await.unwrap();
    words.check(&cluster).await;
    app.stop().await.unwrap();
    std::fs::remove_dir_all(state.path().join(&words.application_id)).unwrap();
    let app = StreamsApp::start(words.topology(), second).await.unwrap();
    words.check_store(&app).await;
    words.write(&cluster, 50).await;
    words.check(&cluster).await;
    app.stop().await.unwrap();
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_instances_share_the_tasks_and_one_takes_over() {
    let cluster = Cluster::start().await;
    let mut words = WordCount::new(&cluster, 4).await;
    let (here, there) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    words.write(&cluster, 200).await;
    let first = words.start(&cluster, here.path()).await;
    eventually("the first has all tasks", async || first.tasks().len() == 8 && first.ready()).await;
    let second = words.start(&cluster, there.path()).await;
    eventually("each has half", async || {
        first.tasks().len() == 4 && second.tasks().len() == 4 && first.ready() && second.ready()
    })
    .await;
    assert!(first.tasks().keys().all(|task| !second.tasks().contains_key(task)));
    words.write(&cluster, 200).await;
    words.check(&cluster).await;
    first.stop().await.unwrap();
    words.write(&cluster, 100).await;
    eventually("the second has all tasks", async || second.tasks().len() == 8 && second.ready()).await;
    words.check(&cluster).await;
    words.check_store(&second).await;
    second.stop().await.unwrap();
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn threads_of_one_process_share_the_tasks() {
    let cluster = Cluster::start().await;
    let mut words = WordCount::new(&cluster, 4).await;
    let state = tempfile::tempdir().unwrap();
    let mut config = words.config(&cluster, state.path());
    config.threads = 2;
    words.write(&cluster, 300).await;
    let app = StreamsApp::start(words.topology(), config).await.unwrap();
    words.check(&cluster).await;
    words.check_store(&app).await;
    assert_eq!(app.tasks().len(), 8);
    app.stop().await.unwrap();
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_application_survives_a_broker_that_is_away() {
    let mut cluster = Cluster::start().await;
    if !cluster.is_embedded() {
        eprintln!("skipped: the broker at HEADWATER_TEST_BOOTSTRAP is not ours to restart");
        return;
    }
    let mut words = WordCount::new(&cluster, 2).await;
    let state = tempfile::tempdir().unwrap();
    let app = words.start(&cluster, state.path()).await;
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

#[tokio::test(flavor = "multi_thread")]
async fn at_least_once_loses_nothing() {
    let cluster = Cluster::start().await;
    let mut words = WordCount::new(&cluster, 2).await;
    let state = tempfile::tempdir().unwrap();
    let mut config = words.config(&cluster, state.path());
    config.guarantee = Guarantee::AtLeastOnce;
    words.write(&cluster, 200).await;
    let app = StreamsApp::start(words.topology(), config).await.unwrap();
    words.check(&cluster).await;
    words.check_store(&app).await;
    app.stop().await.unwrap();
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_application_commits_nothing() {
    let cluster = Cluster::start().await;
    let mut words = WordCount::new(&cluster, 2).await;
    let state = tempfile::tempdir().unwrap();
    words.write(&cluster, 50).await;
    let app = words.start(&cluster, state.path()).await;
    words.check(&cluster).await;
    words.check_store(&app).await;
    // Its own commit markers move positions of the repartition topic; that must not count as work.
    let mut before = app.metrics().commits;
    eventually("commits end", async || {
        tokio::time::sleep(Duration::from_millis(500)).await;
        let commits = app.metrics().commits;
        std::mem::replace(&mut before, commits) == commits
    })
    .await;
    app.stop().await.unwrap();
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_process_gets_its_tasks_back_at_once() {
    let cluster = Cluster::start().await;
    let mut words = WordCount::new(&cluster, 2).await;
    let state = tempfile::tempdir().unwrap();
    words.write(&cluster, 100).await;
    let mut config = words.config(&cluster, state.path());
    let session_timeout = config.session_timeout;
    config.fault = Some(FaultHook::new(|at| at == FaultPoint::BeforeStores));
    let app = StreamsApp::start(words.topology(), config).await.unwrap();
    assert!(app.wait().await.is_err());
    app.stop().await.unwrap();
    let begun = Instant::now();
    let app = words.start(&cluster, state.path()).await;
    eventually("every task runs again", async || app.ready()).await;
    assert!(begun.elapsed() < session_timeout / 2, "took {:?}", begun.elapsed());
    eprintln!("tasks ran again after {:?}", begun.elapsed());
    words.check(&cluster).await;
    app.stop().await.unwrap();
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_successor_with_the_same_name_ends_its_predecessor() {
    let cluster = Cluster::start().await;
    let mut words = WordCount::new(&cluster, 2).await;
    let (here, there) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let config = |state: &tempfile::TempDir| {
        let mut config = words.config(&cluster, state.path());
        config.instance = Some("same".to_owned());
        config
    };
    let (old, new) = (config(&here), config(&there));
    let old = StreamsApp::start(words.topology(), old).await.unwrap();
    eventually("the old one runs", async || old.ready()).await;
    words.write(&cluster, 200).await;
    let new = StreamsApp::start(words.topology(), new).await.unwrap();
    words.write(&cluster, 200).await;
    let error = old.wait().await.unwrap_err();
    assert!(matches!(error, AppError::Fenced { .. }), "{error}");
    words.write(&cluster, 100).await;
    words.check(&cluster).await;
    words.check_store(&new).await;
    new.stop().await.unwrap();
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_paused_application_processes_nothing_answers_questions_and_goes_on_where_it_was() {
    let cluster = Cluster::start().await;
    let state = tempfile::tempdir().unwrap();
    let mut words = WordCount::new(&cluster, 2).await;
    words.write(&cluster, 50).await;
    let app = words.start(&cluster, state.path()).await;
    words.check(&cluster).await;
    let done = 50 + words.words();
    eventually("all is counted", async || app.metrics().records_in == done).await;
    app.pause();
    assert!(app.is_paused());
    words.check_store(&app).await;
    words.write(&cluster, 100).await;
    // Records are fetched and commits are due meanwhile.
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!((app.metrics().records_in, app.tasks().len(), app.ready()), (done, 4, true));
    app.resume();
    words.check(&cluster).await;
    words.check_store(&app).await;
    app.pause();
    app.stop().await.unwrap();
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_application_that_starts_paused_is_given_tasks_and_begins_when_it_is_resumed() {
    let cluster = Cluster::start().await;
    let state = tempfile::tempdir().unwrap();
    let mut words = WordCount::new(&cluster, 2).await;
    words.write(&cluster, 10).await;
    let mut config = words.config(&cluster, state.path());
    config.start_paused = true;
    let app = StreamsApp::start(words.topology(), config).await.unwrap();
    eventually("its tasks are open", async || app.tasks().len() == 4 && app.ready()).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(cluster.read(&words.counts).await.is_empty());
    app.resume();
    words.check(&cluster).await;
    app.stop().await.unwrap();
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn missing_input_topics_are_named() {
    let cluster = Cluster::start().await;
    let state = tempfile::tempdir().unwrap();
    let application_id = unique("missing");
    let builder = StreamsBuilder::new(&application_id);
    for topic in ["nowhere-a", "nowhere-b"] {
        builder.stream(topic, Consumed::with(serdes::string(), serdes::string())).for_each(|_, _| {});
    }
    let mut config = headwater_runtime::AppConfig::new(&cluster.bootstrap, &application_id);
    config.security = support::security();
    config.state_dir = state.path().to_owned();
    let error = StreamsApp::start(builder.build().unwrap(), config).await.err().unwrap();
    assert!(matches!(&error, AppError::MissingTopics { topics, .. } if topics.len() == 2), "{error}");
    assert!(error.to_string().contains("nowhere-a, nowhere-b"), "{error}");
    cluster.stop().await;
}
