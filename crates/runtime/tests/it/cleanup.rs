//! The stores of tasks that have moved away are removed from this instance's disk, and nothing else is
//! (`state.cleanup.delay.ms`).

use std::path::Path;
use std::time::Duration;

use headwater_runtime::{AppConfig, StreamsApp};

use crate::support::{Cluster, WordCount, eventually};

const DELAY: Duration = Duration::from_millis(500);

fn config(words: &WordCount, cluster: &Cluster, state: &Path) -> AppConfig {
    let mut config = words.config(cluster, state);
    config.state_cleanup_delay = DELAY;
    config
}

async fn start(words: &WordCount, config: AppConfig) -> StreamsApp {
    StreamsApp::start(words.topology(), config).await.unwrap()
}

/// Tasks with a store.
fn counting(app: &StreamsApp) -> u64 {
    app.tasks().keys().filter(|task| task.subtopology == 1).count() as u64
}

#[tokio::test(flavor = "multi_thread")]
async fn what_has_moved_away_is_removed_and_restored_when_it_comes_back() {
    let cluster = Cluster::start().await;
    let mut words = WordCount::new(&cluster, 4).await;
    let (here, there) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (mut one, other) = (config(&words, &cluster, here.path()), config(&words, &cluster, there.path()));
    one.threads = 2;
    words.write(&cluster, 300).await;
    let first = start(&words, one).await;
    words.check(&cluster).await;
    eventually("the first has all tasks", async || counting(&first) == 4 && first.ready()).await;

    let second = start(&words, other).await;
    eventually("the second has some of them", async || {
        counting(&second) > 0 && counting(&first) + counting(&second) == 4 && first.ready() && second.ready()
    })
    .await;
    let moved = counting(&second);
    eventually("they are not on the first's disk", async || first.metrics().removed_stores >= moved).await;
    words.write(&cluster, 200).await;
    words.check(&cluster).await;
    assert_eq!(first.metrics().removed_stores, moved, "its own stay");
    assert_eq!(second.metrics().removed_stores, 0);

    let restored = first.metrics().restored;
    second.stop().await.unwrap();
    eventually("the first has all tasks again", async || counting(&first) == 4 && first.ready()).await;
    assert!(first.metrics().restored > restored, "of what was removed there was nothing left");
    words.write(&cluster, 100).await;
    words.check(&cluster).await;
    words.check_store(&first).await;
    assert_eq!((first.metrics().removed_stores, first.metrics().wiped_stores), (moved, 0));
    first.stop().await.unwrap();
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_copied_is_kept() {
    let cluster = Cluster::start().await;
    let mut words = WordCount::new(&cluster, 4).await;
    let (here, there) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let copying = |state: &Path| {
        let mut config = config(&words, &cluster, state);
        config.num_standby_replicas = 1;
        config
    };
    let (one, other) = (copying(here.path()), copying(there.path()));
    words.write(&cluster, 300).await;
    let first = start(&words, one).await;
    words.check(&cluster).await;
    let second = start(&words, other).await;
    eventually("each has some, and copies of the others'", async || {
        let copies = (first.standbys().len() as u64, second.standbys().len() as u64);
        (counting(&second), counting(&first)) == copies && copies.0 + copies.1 == 4 && copies.0 > 0
    })
    .await;
    words.write(&cluster, 200).await;
    words.check(&cluster).await;
    tokio::time::sleep(4 * DELAY).await;
    assert_eq!((first.metrics().removed_stores, second.metrics().removed_stores), (0, 0));
    words.check_store(&first).await;
    second.stop().await.unwrap();
    first.stop().await.unwrap();
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_too_old_at_the_start_is_removed_and_restored() {
    let cluster = Cluster::start().await;
    let mut words = WordCount::new(&cluster, 2).await;
    let state = tempfile::tempdir().unwrap();
    let aged = |age: Duration| {
        let mut config = words.config(&cluster, state.path());
        config.state_cleanup_dir_max_age = Some(age);
        config
    };
    let (young, old) = (aged(Duration::from_secs(3600)), aged(Duration::from_millis(1)));
    words.write(&cluster, 200).await;
    let first = start(&words, young.clone()).await;
    words.check(&cluster).await;
    first.stop().await.unwrap();

    let second = start(&words, young).await;
    assert_eq!(second.metrics().removed_stores, 0);
    words.check_store(&second).await;
    second.stop().await.unwrap();

    tokio::time::sleep(Duration::from_millis(10)).await;
    let third = start(&words, old).await;
    assert_eq!(third.metrics().removed_stores, 2, "one of each task that has any");
    words.check_store(&third).await;
    assert!(third.metrics().restored > 0);
    third.stop().await.unwrap();
    cluster.stop().await;
}
