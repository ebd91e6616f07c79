//! A broker on two directories: it serves with either, repairs one from the other, and believes none that
//! was left behind.

use std::path::Path;
use std::time::{Duration, Instant};

use headwater_broker::{Broker, Config, LogSettings, StartError};

use crate::common::{self, Raw, batch, config, damage};

const WITHIN: Duration = Duration::from_secs(60);

fn mirrored(data: &Path, mirror: &Path) -> Config {
    Config {
        mirror_dir: Some(mirror.to_owned()),
        log: LogSettings { segment_bytes: 64 << 10, ..LogSettings::default() },
        ..config(data)
    }
}

async fn started(data: &Path, mirror: &Path) -> Broker {
    Broker::start(mirrored(data, mirror)).await.expect("the broker starts")
}

fn findings(broker: &Broker) -> Vec<String> {
    broker.observer().health().findings.into_iter().map(|finding| finding.kind).collect()
}

/// Waits until the mirror is complete.
async fn complete(broker: &Broker) {
    let deadline = Instant::now() + WITHIN;
    while findings(broker).iter().any(|kind| kind == "mirror_filling") {
        assert!(Instant::now() < deadline, "it is not filled: {:?}", findings(broker));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(findings(broker), Vec::<String>::new());
}

async fn produced(broker: &Broker, values: std::ops::Range<u32>) -> Vec<String> {
    let mut raw = Raw::connect(broker).await;
    for value in values {
        assert_eq!(raw.produce("t", 0, batch(&[&format!("value {value:04}")])).await.error_code, 0);
    }
    raw.values("t", 0, true).await
}

async fn values(broker: &Broker) -> Vec<String> {
    Raw::connect(broker).await.values("t", 0, true).await
}

#[tokio::test]
async fn damage_in_either_directory_is_repaired_from_the_other() {
    let (data, mirror) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let broker = started(data.path(), mirror.path()).await;
    Raw::connect(&broker).await.create_topic("t", 1).await;
    Raw::connect(&broker).await.create_topic("precious-topic", 1).await;
    let before = produced(&broker, 0..50).await;
    broker.shutdown().await;
    damage(data.path(), "value 0007");
    damage(mirror.path(), "value 0031");
    // The broker's own state, without which it does not start.
    damage(data.path(), "precious-topic");
    let broker = started(data.path(), mirror.path()).await;
    assert_eq!(values(&broker).await, before);
    assert_eq!(findings(&broker), Vec::<String>::new());
    broker.shutdown().await;
    // The data directory was repaired, so it is enough.
    let alone = Broker::start(config(data.path())).await.expect("it starts without its mirror");
    assert_eq!(values(&alone).await, before);
    alone.shutdown().await;
}

#[tokio::test]
async fn either_directory_may_be_lost_and_is_filled_again() {
    let (data, mirror) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let broker = started(data.path(), mirror.path()).await;
    Raw::connect(&broker).await.create_topic("t", 1).await;
    let mut known = produced(&broker, 0..20).await;
    broker.shutdown().await;
    for (round, lost) in [data.path(), mirror.path(), data.path()].into_iter().enumerate() {
        std::fs::remove_dir_all(lost).unwrap();
        let broker = started(data.path(), mirror.path()).await;
        assert_eq!(values(&broker).await, known);
        let next = 100 * (round as u32 + 1);
        known = produced(&broker, next..next + 5).await;
        complete(&broker).await;
        broker.shutdown().await;
    }
    for alone in [mirror.path(), data.path()] {
        let broker = Broker::start(config(alone)).await.expect("each is a whole data directory");
        assert_eq!(values(&broker).await, known);
        broker.shutdown().await;
    }
    // Both have been used alone: nobody knows which one is right.
    let refused =
        Broker::start(mirrored(data.path(), mirror.path())).await.err().expect("refused").to_string();
    assert!(refused.contains("gone on without the other"), "{refused}");
}

#[tokio::test]
async fn a_directory_that_fails_while_serving_is_left_behind_and_filled_at_the_next_start() {
    let (data, mirror) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let broker = started(data.path(), mirror.path()).await;
    Raw::connect(&broker).await.create_topic("t", 1).await;
    produced(&broker, 0..5).await;
    // The broker may make a file there meanwhile.
    let deadline = Instant::now() + WITHIN;
    while let Err(error) = std::fs::remove_dir_all(mirror.path()) {
        assert!(Instant::now() < deadline, "{error}");
    }
    let large = "x".repeat(9000);
    let mut raw = Raw::connect(&broker).await;
    while !findings(&broker).contains(&"mirror_lost".to_owned()) {
        assert!(Instant::now() < deadline, "nobody noticed");
        assert_eq!(raw.produce("t", 0, batch(&[&large])).await.error_code, 0);
    }
    assert!(broker.observer().health().ready, "it goes on with one directory");
    let known = values(&broker).await;
    broker.shutdown().await;
    let broker = started(data.path(), mirror.path()).await;
    complete(&broker).await;
    assert_eq!(values(&broker).await, known);
    broker.shutdown().await;
    let broker = Broker::start(config(mirror.path())).await.expect("the mirror is whole");
    assert_eq!(values(&broker).await, known);
    broker.shutdown().await;
}

#[tokio::test]
async fn a_mirror_that_cannot_be_used_is_named_and_a_required_one_is_waited_for() {
    let (data, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mirror = elsewhere.path().join("mirror");
    let broker = started(data.path(), &mirror).await;
    broker.shutdown().await;
    std::fs::remove_dir_all(&mirror).unwrap();
    std::fs::write(&mirror, "not a directory").unwrap();
    let required = Config { mirror_required: true, ..mirrored(data.path(), &mirror) };
    let refused = Broker::start(required).await.err().expect("refused").to_string();
    assert!(refused.contains("headwater.mirror.required"), "{refused}");
    let broker = started(data.path(), &mirror).await;
    assert_eq!(findings(&broker), ["mirror_lost"]);
    broker.shutdown().await;
}

/// A file in the place of the directory: nothing can be opened below it.
fn block(directory: &Path) {
    std::fs::rename(directory, directory.with_extension("away")).unwrap();
    std::fs::write(directory, "no directory").unwrap();
}

fn unblock(directory: &Path) {
    std::fs::remove_file(directory).unwrap();
    std::fs::rename(directory.with_extension("away"), directory).unwrap();
}

#[tokio::test]
async fn a_directory_that_failed_comes_back_without_a_restart() {
    let parent = tempfile::tempdir().unwrap();
    let sides = ["data", "mirror"].map(|name| parent.path().join(name));
    let config = Config { mirror_retry: Duration::from_millis(50), ..mirrored(&sides[0], &sides[1]) };
    let broker = Broker::start(config).await.expect("the broker starts");
    Raw::connect(&broker).await.create_topic("t", 1).await;
    let mut raw = Raw::connect(&broker).await;
    let large = "x".repeat(9000);
    for lost in [&sides[1], &sides[0]] {
        block(lost);
        let deadline = Instant::now() + WITHIN;
        while !findings(&broker).contains(&"mirror_lost".to_owned()) {
            assert!(Instant::now() < deadline, "nobody noticed");
            assert_eq!(raw.produce("t", 0, batch(&[&large])).await.error_code, 0);
        }
        tokio::time::sleep(Duration::from_millis(300)).await;
        let health = broker.observer().health();
        let next = &health.findings.iter().find(|finding| finding.kind == "mirror_lost").expect("still").next;
        assert!(next.contains("tried again in"), "{next}");
        // An empty directory may be where a disk was mounted.
        std::fs::remove_file(lost).unwrap();
        std::fs::create_dir(lost).unwrap();
        tokio::time::sleep(Duration::from_millis(1500)).await;
        assert_eq!(std::fs::read_dir(lost).unwrap().count(), 0, "it is left as it is");
        std::fs::remove_dir(lost).unwrap();
        std::fs::write(lost, "").unwrap();
        unblock(lost);
        let deadline = Instant::now() + WITHIN;
        while findings(&broker) != Vec::<String>::new() {
            assert!(Instant::now() < deadline, "it does not come back: {:?}", findings(&broker));
            assert_eq!(raw.produce("t", 0, batch(&["on"])).await.error_code, 0);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert_eq!(raw.produce("t", 0, batch(&["after"])).await.error_code, 0);
    }
    let known = values(&broker).await;
    broker.shutdown().await;
    for alone in &sides {
        let broker = Broker::start(common::config(alone)).await.expect("each is a whole data directory");
        assert_eq!(values(&broker).await, known);
        broker.shutdown().await;
    }
}

#[tokio::test]
async fn an_unusable_data_directory_is_gone_on_without_unless_both_are_required() {
    let parent = tempfile::tempdir().unwrap();
    let sides = ["data", "mirror"].map(|name| parent.path().join(name));
    let broker = started(&sides[0], &sides[1]).await;
    Raw::connect(&broker).await.create_topic("t", 1).await;
    let known = produced(&broker, 0..5).await;
    broker.shutdown().await;
    block(&sides[0]);
    let required = Config { mirror_required: true, ..mirrored(&sides[0], &sides[1]) };
    let refused = Broker::start(required.clone()).await.err().expect("refused").to_string();
    assert!(refused.contains("headwater.mirror.required=false"), "{refused}");
    let broker = started(&sides[0], &sides[1]).await;
    assert_eq!(findings(&broker), ["mirror_lost"]);
    assert_eq!(values(&broker).await, known);
    broker.shutdown().await;
    unblock(&sides[0]);
    // It is behind now, and is filled.
    let broker = started(&sides[0], &sides[1]).await;
    complete(&broker).await;
    broker.shutdown().await;
    // An empty one may be a disk that is not mounted.
    std::fs::remove_dir_all(&sides[1]).unwrap();
    let refused = Broker::start(required).await.err().expect("refused").to_string();
    assert!(refused.contains("it is empty or behind"), "{refused}");
    let broker = started(&sides[0], &sides[1]).await;
    complete(&broker).await;
    assert_eq!(values(&broker).await, known);
    broker.shutdown().await;
}

#[tokio::test]
async fn a_mirror_of_another_cluster_is_refused() {
    let (data, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    for directory in [data.path(), other.path()] {
        common::start(directory).await.shutdown().await;
    }
    let refused = Broker::start(mirrored(data.path(), other.path())).await.err().expect("refused");
    assert!(matches!(refused, StartError::OtherMirror { .. }), "{refused}");
    assert!(refused.to_string().contains("give headwater.mirror.dir an empty directory"), "{refused}");
}

#[tokio::test]
async fn a_log_gets_a_mirror_later_and_gives_it_up() {
    let (data, mirror) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let broker = common::start(data.path()).await;
    Raw::connect(&broker).await.create_topic("t", 1).await;
    produced(&broker, 0..20).await;
    broker.shutdown().await;
    let broker = started(data.path(), mirror.path()).await;
    complete(&broker).await;
    broker.shutdown().await;
    // Without the mirror it goes on alone, and the mirror is filled again when it is back.
    let broker = common::start(data.path()).await;
    let known = produced(&broker, 20..30).await;
    broker.shutdown().await;
    let broker = started(data.path(), mirror.path()).await;
    complete(&broker).await;
    assert_eq!(values(&broker).await, known);
    broker.shutdown().await;
}

#[tokio::test]
async fn a_mirror_that_is_required_must_be_named() {
    let dir = tempfile::tempdir().unwrap();
    let config = Config { mirror_required: true, ..config(dir.path()) };
    let refused = Broker::start(config).await.err().expect("it is refused").to_string();
    assert!(refused.contains("headwater.mirror.dir"), "{refused}");
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0, "nothing is begun");
}
