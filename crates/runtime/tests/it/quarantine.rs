//! A poisoned key on a real broker: held over restarts and a lost directory, in order, released by command; and its order.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use headwater_runtime::{AppConfig, StreamsApp};
use headwater_streams::serdes::{i64, string};
use headwater_streams::{
    Consumed, Grouped, Materialized, ProcessingHandler, Produced, Quarantine, StreamsBuilder, Topology,
};

use crate::support::{self, Cluster, eventually, get, unique};

/// Counts what has a number, and fails on what has a count of three and says so (`poison`), after having counted it.
fn topology(id: &str, broken: &Arc<AtomicBool>) -> Topology {
    let broken = broken.clone();
    let mut builder = StreamsBuilder::new(id);
    builder.quarantine(Quarantine::new()).processing_handler(ProcessingHandler::Quarantine);
    builder
        .stream(&format!("{id}-in"), Consumed::with(string(), string()))
        .group_by_key(Grouped::new())
        .aggregate(
            String::new,
            |_, value, glued| glued + &value,
            Materialized::named("glued").value_serde(string()).json(),
        )
        .to_stream()
        .without_tombstones()
        .try_map_values(move |glued: String| {
            if glued.ends_with('p') && broken.load(Ordering::Relaxed) {
                Err("poison")
            } else {
                Ok(glued.len() as i64)
            }
        })
        .named("measure")
        .to(&format!("{id}-out"), Produced::with(string(), i64()));
    builder.build().unwrap()
}

async fn start(cluster: &Cluster, id: &str, state: &Path, broken: &Arc<AtomicBool>) -> StreamsApp {
    let mut config = AppConfig::new(&cluster.bootstrap, id);
    config.security = support::security();
    config.state_dir = state.to_owned();
    config.instance = Some("one".to_owned());
    config.commit_interval = Duration::from_millis(50);
    config.http = Some(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)));
    config.http_commands = true;
    StreamsApp::start(topology(id, broken), config).await.unwrap()
}

async fn out(cluster: &Cluster, id: &str, key: &str) -> Vec<i64> {
    let records = cluster.read(&format!("{id}-out")).await;
    let own = records.into_iter().filter(|record| record.key.as_deref() == Some(key.as_bytes()));
    own.map(|record| i64::from_be_bytes(record.value.unwrap()[..].try_into().unwrap())).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_poisoned_key_waits_over_restarts_and_a_lost_directory_until_it_is_released() {
    let cluster = Cluster::start().await;
    let state = tempfile::tempdir().unwrap();
    let id = unique("held");
    let input = format!("{id}-in");
    cluster.topic(&input, 2).await;
    let broken = Arc::new(AtomicBool::new(true));
    let app = start(&cluster, &id, state.path(), &broken).await;
    cluster
        .produce(&input, &[("a", "1", 1), ("a", "p", 2), ("b", "1", 3), ("a", "3", 4), ("b", "2", 5)])
        .await;
    eventually("the other key flows", async || out(&cluster, &id, "b").await == [1, 2]).await;
    eventually("two records wait", async || app.quarantined().iter().any(|(_, held)| held.records == 2))
        .await;
    assert_eq!(out(&cluster, &id, "a").await, [1]);
    app.stop().await.unwrap();

    // The directory is lost: the changelog has it.
    let state = tempfile::tempdir().unwrap();
    let app = start(&cluster, &id, state.path(), &broken).await;
    eventually("it still waits", async || app.quarantined().iter().any(|(_, held)| held.records == 2)).await;
    let (_, listed) = get(&app, "/quarantine").await;
    assert_eq!((&listed["keys"][0]["key"], &listed["keys"][0]["message"]), (&"a".into(), &"poison".into()));
    cluster.produce(&input, &[("a", "4", 6), ("b", "3", 7)]).await;
    eventually("the other key flows", async || out(&cluster, &id, "b").await == [1, 2, 3]).await;
    // Not mended: what is released fails again and stays.
    assert_eq!(app.release_quarantined(Some(b"a")).len(), 1);
    cluster.produce(&input, &[("b", "4", 8)]).await;
    eventually("the other key flows", async || out(&cluster, &id, "b").await == [1, 2, 3, 4]).await;
    assert_eq!(out(&cluster, &id, "a").await, [1]);
    eventually("three records wait", async || app.quarantined().iter().any(|(_, held)| held.records == 3))
        .await;

    broken.store(false, Ordering::Relaxed);
    let address = app.http().unwrap();
    let released =
        reqwest::Client::new().post(format!("http://{address}/quarantine/release?key=a")).send().await;
    assert_eq!(released.unwrap().status().as_u16(), 202);
    eventually("the key flows", async || out(&cluster, &id, "a").await == [1, 2, 3, 4]).await;
    eventually("nothing waits", async || app.quarantined().is_empty()).await;
    cluster.produce(&input, &[("a", "5", 9)]).await;
    eventually("the key flows on", async || out(&cluster, &id, "a").await == [1, 2, 3, 4, 5]).await;
    let metrics = app.metrics();
    assert_eq!(metrics.released, 3);
    app.stop().await.unwrap();
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_instance_that_takes_no_commands_says_what_to_do() {
    let cluster = Cluster::start().await;
    let state = tempfile::tempdir().unwrap();
    let id = unique("held");
    cluster.topic(&format!("{id}-in"), 1).await;
    let mut config = AppConfig::new(&cluster.bootstrap, &id);
    config.security = support::security();
    config.state_dir = state.path().to_owned();
    config.http = Some(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)));
    let app = StreamsApp::start(topology(&id, &Arc::default()), config).await.unwrap();
    let url = format!("http://{}/quarantine/release", app.http().unwrap());
    let answer = reqwest::Client::new().post(url).send().await.unwrap();
    assert_eq!(answer.status().as_u16(), 403);
    assert!(answer.text().await.unwrap().contains("http_commands"));
    app.stop().await.unwrap();
    cluster.stop().await;
}
