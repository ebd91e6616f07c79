//! An application that is reset does its work again, knows it, and notifies nobody twice, over a restart in the middle.

use std::collections::HashMap;
use std::path::Path;
use std::time::Duration;

use headwater_client::Committed;
use headwater_model::{Record, TopicPartition};
use headwater_runtime::{AppConfig, StreamsApp};
use headwater_streams::serdes::{i64, string};
use headwater_streams::{
    Consumed, Grouped, Materialized, Produced, StreamsBuilder, Topology, reprocess_until,
};

use crate::support::{self, Cluster, eventually, unique};

/// Counts by value, and notifies of each count.
fn topology(id: &str) -> Topology {
    let builder = StreamsBuilder::new(id);
    let counts = builder
        .stream(&format!("{id}-in"), Consumed::with(string(), string()))
        .group_by(|_, value| value.clone(), Grouped::with(string(), string()).named("by-value"))
        .count(Materialized::named("counts"))
        .to_stream()
        .without_tombstones();
    counts.to(&format!("{id}-out"), Produced::with(string(), i64()));
    counts.skip_reprocessed().to(&format!("{id}-notified"), Produced::with(string(), i64()));
    builder.build().unwrap()
}

async fn start(cluster: &Cluster, id: &str, state: &Path) -> StreamsApp {
    let mut config = AppConfig::new(&cluster.bootstrap, id);
    config.security = support::security();
    config.state_dir = state.to_owned();
    config.instance = Some("one".to_owned());
    config.commit_interval = Duration::from_millis(50);
    config.session_timeout = Duration::from_secs(6);
    StreamsApp::start(topology(id), config).await.unwrap()
}

fn counts(records: Vec<Record>) -> Vec<i64> {
    let mut counts: Vec<i64> = records
        .into_iter()
        .map(|record| i64::from_be_bytes(record.value.unwrap()[..].try_into().unwrap()))
        .collect();
    counts.sort_unstable();
    counts
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_counted_before_the_reset_is_counted_again_and_not_notified_again() {
    let cluster = Cluster::start().await;
    let id = unique("again");
    let (input, output, notified) = (format!("{id}-in"), format!("{id}-out"), format!("{id}-notified"));
    cluster.topic(&input, 1).await;
    let state = tempfile::tempdir().unwrap();
    let app = start(&cluster, &id, state.path()).await;
    let records: Vec<_> = (0..300).map(|n| (format!("k{n}"), n)).collect();
    let records: Vec<_> = records.iter().map(|(key, n)| (key.as_str(), "v", 1_000 + *n)).collect();
    cluster.produce(&input, &records).await;
    eventually("all are notified", async || cluster.read(&notified).await.len() == 300).await;
    assert!(app.tasks().values().all(|task| !task.reprocessing));
    app.stop().await.unwrap();

    // A stopped instance keeps its place until its session ends, for when it is started again.
    let left = async || cluster.client.describe_group(&id).await.unwrap().members.is_empty();
    eventually("the group has no members", left).await;
    // As the command does it: without the changelog, without what is in the repartition topic, from the beginning.
    let again = TopicPartition::new(&input, 0);
    let between = TopicPartition::new(format!("{id}-by-value-repartition"), 0);
    let committed = cluster.client.committed(&id, None).await.unwrap();
    let changelog = format!("{id}-counts-changelog");
    cluster.client.delete_topic(&changelog).await.unwrap();
    // Apache Kafka's broker hears of it after its controller has answered.
    let gone = async || {
        let listed = cluster.client.topics().await.unwrap();
        listed.iter().all(|topic| topic.name != changelog)
    };
    eventually("the changelog is gone", gone).await;
    let reset = |offset, metadata| Committed { offset, metadata, leader_epoch: None };
    let end = committed[&again].offset;
    let skipped = committed[&between].offset;
    let offsets =
        HashMap::from([(again, reset(0, reprocess_until(end))), (between, reset(skipped, String::new()))]);
    cluster.client.commit_offsets(&id, &offsets).await.unwrap();
    let state = tempfile::tempdir().unwrap();
    let app = start(&cluster, &id, state.path()).await;
    cluster.produce(&input, &[("new", "v", 2_000), ("newer", "w", 2_001)]).await;
    eventually("all are counted", async || cluster.read(&output).await.len() == 602).await;
    eventually("it is over", async || app.tasks().values().all(|task| task.running && !task.reprocessing))
        .await;
    app.stop().await.unwrap();
    let notified = counts(cluster.read(&notified).await);
    let expected: Vec<i64> = [1].into_iter().chain(1..=301).collect();
    assert_eq!(notified, expected, "the new ones are notified, with right counts, and no other again");
    cluster.stop().await;
}
