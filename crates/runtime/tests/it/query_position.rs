//! Read your own writes: a question that carries what a write came to be is answered by a state that has seen it.

use std::time::{Duration, Instant};

use headwater_client::{Delivered, ProduceRecord, Producer, ProducerConfig};
use headwater_model::{Bytes, TopicPartition};
use headwater_runtime::{Position, Role, Staleness, StateQueryError, StreamsApp};

use crate::support::asking::{ask, config};
use crate::support::{Cluster, WordCount, eventually};

const PATIENCE: Duration = Duration::from_secs(20);

async fn write(producer: &Producer, topic: &str, key: &str, value: &str) -> Delivered {
    let record = ProduceRecord {
        topic: topic.to_owned(),
        timestamp: Some(1),
        key: Some(Bytes::from(key.to_owned())),
        value: Some(Bytes::from(value.to_owned())),
        ..ProduceRecord::default()
    };
    producer.send(record).await.unwrap().await.unwrap()
}

async fn start(words: &WordCount, cluster: &Cluster, state: &tempfile::TempDir) -> StreamsApp {
    let mut config = config(words, cluster, state.path());
    // So that reading at once would be too early.
    config.commit_interval = Duration::from_millis(300);
    StreamsApp::start(words.topology(), config).await.unwrap()
}

/// The store is behind a repartition topic, so what is written is two transactions away from what is read.
#[tokio::test(flavor = "multi_thread")]
async fn a_write_is_seen_by_the_question_that_carries_it() {
    let cluster = Cluster::start().await;
    let words = WordCount::new(&cluster, 4).await;
    let states: Vec<_> = (0..2).map(|_| tempfile::tempdir().unwrap()).collect();
    let apps = [start(&words, &cluster, &states[0]).await, start(&words, &cluster, &states[1]).await];
    eventually("both have tasks", async || {
        apps.iter().all(|app| app.ready() && app.tasks().len() == 4 && app.standbys().len() == 2)
    })
    .await;
    let producer = Producer::new(&cluster.client, ProducerConfig::default()).await.unwrap();
    let mut too_early = 0;
    let mut last = Position::empty();
    for count in 1..=10_i64 {
        // A new key each time, so that the partition that it comes through is any.
        let key = format!("line-{count}");
        let written = Position::of(&write(&producer, &words.lines, &key, "bird").await).unwrap();
        let app = &apps[count as usize % 2];
        let without = ask(app, "/stores/counts/key/bird").await;
        too_early += u32::from(*without.value() != count);
        if count % 2 == 0 {
            let told = ask(app, &format!("/stores/counts/key/bird?position={written}&timeout=20s")).await;
            assert_eq!((told.status, told.value()), (200, &count.into()), "{told:?}");
        } else {
            let counts = app.queries().store::<String, i64>("counts").at_least(written).timeout(PATIENCE);
            let told = counts.get(&"bird".to_owned()).await.unwrap();
            assert_eq!(told.result.unwrap().value, count);
            last = last.merge(&told.position);
        }
    }
    assert!(too_early > 0, "the question that carries nothing was never too early");

    // What was seen once is seen by every question that carries it, whoever answers it.
    assert!(!last.is_empty());
    for app in &apps {
        let counts = app.queries().store::<String, i64>("counts").at_least(last.clone()).timeout(PATIENCE);
        assert!(counts.get(&"bird".to_owned()).await.unwrap().result.unwrap().value >= 9);
    }

    // A copy, too, once it is known to have it.
    let written = Position::of(&write(&producer, &words.lines, "line", "bird").await).unwrap();
    let known = apps[0].queries().query_metadata_for_key("counts", &"bird".to_owned()).unwrap().unwrap();
    let holder = apps.iter().find(|app| known.standby_hosts.contains(app.application_server().unwrap()));
    let counts = holder.unwrap().queries().store::<String, i64>("counts").at_least(written).timeout(PATIENCE);
    let counts = counts.max_staleness(Staleness::time(Duration::from_secs(60)));
    let told = counts.get(&"bird".to_owned()).await.unwrap();
    assert_eq!(told.partition_results.values().map(|by| by.role).collect::<Vec<_>>(), [Role::Standby]);
    assert_eq!(told.result.unwrap().value, 11);
    for app in apps {
        app.stop().await.unwrap();
    }
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_has_not_been_seen_in_time_is_not_yet() {
    let cluster = Cluster::start().await;
    let mut words = WordCount::new(&cluster, 1).await;
    let state = tempfile::tempdir().unwrap();
    let app = start(&words, &cluster, &state).await;
    words.write(&cluster, 3).await;
    words.check(&cluster).await;
    let word = words.model.keys().next().unwrap().clone();
    for topic in [words.lines.clone(), format!("{}-words-repartition", words.application_id)] {
        let begun = Instant::now();
        let told =
            ask(&app, &format!("/stores/counts/key/{word}?position={topic}:0:1000&timeout=700ms")).await;
        assert_eq!((told.status, told.title()), (503, "not yet"), "{told:?}");
        assert_eq!(told.header("retry-after"), Some("1"));
        assert!(told.detail().contains(&topic) && told.detail().contains("1000"), "{told:?}");
        let seen: Position = told.header("headwater-position").unwrap().parse().unwrap();
        let (at, offset) = seen.components().next().unwrap();
        assert_eq!(*at, TopicPartition::new(topic.as_str(), 0));
        assert!((2..1000).contains(&offset), "{seen}");
        let took = begun.elapsed();
        assert!(took >= Duration::from_millis(700) && took < Duration::from_secs(10), "{took:?}");
    }
    let far = Position::empty().with_component(words.lines.as_str(), 0, 1000);
    let counts = app.queries().store::<String, i64>("counts").at_least(far);
    let error = counts.get(&word).await.unwrap_err();
    assert!(matches!(error, StateQueryError::NotYet { .. }) && error.is_retriable(), "{error}");
    app.stop().await.unwrap();
    cluster.stop().await;
}
