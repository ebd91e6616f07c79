//! Questions over HTTP: by key, by window range, and what is wrong with a bad one.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use headwater_runtime::{AppConfig, StreamsApp};
use headwater_streams::serdes::{i64, string};
use headwater_streams::{
    Consumed, DeserializationHandler, Grouped, Materialized, Produced, StreamsBuilder, TimeWindows, Topology,
    time_windowed,
};

use crate::support::{Cluster, eventually, get, unique};

const HOUR: i64 = 3_600_000;

fn topology(application_id: &str) -> Topology {
    let hour = Duration::from_secs(3600);
    let mut builder = StreamsBuilder::new(application_id);
    builder.deserialization_handler(DeserializationHandler::DeadLetter(format!("{application_id}-dead")));
    let events = builder.stream(&format!("{application_id}-in"), Consumed::with(string(), string()));
    let grouped = events.group_by_key(Grouped::with(string(), string()));
    grouped.count(Materialized::named("totals").json());
    grouped
        .windowed_by(TimeWindows::of(hour).grace(hour))
        .count(Materialized::named("by-hour").json())
        .to(&format!("{application_id}-out"), Produced::with(time_windowed(string(), hour), i64()));
    builder.build().unwrap()
}

async fn start(cluster: &Cluster, application_id: &str, state: &std::path::Path) -> StreamsApp {
    let mut config = AppConfig::new(&cluster.bootstrap, application_id);
    config.state_dir = state.to_owned();
    config.http = Some(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)));
    StreamsApp::start(topology(application_id), config).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn stores_answer_by_key_and_by_window_range() {
    let cluster = Cluster::start().await;
    let state = tempfile::tempdir().unwrap();
    let application_id = unique("queries");
    let input = format!("{application_id}-in");
    cluster.topic(&input, 2).await;
    let app = start(&cluster, &application_id, state.path()).await;
    let records = [("a", "x", 1), ("a", "x", HOUR + 1), ("b", "x", HOUR + 2), ("a", "x", HOUR + 3)];
    cluster.produce(&input, &records).await;

    eventually("the counts are queryable", async || get(&app, "/stores/totals/a").await.1["value"] == 3)
        .await;
    eventually("the other key, too", async || get(&app, "/stores/totals/b").await.1["value"] == 1).await;
    let (status, body) = get(&app, &format!("/stores/by-hour?from={HOUR}&to={HOUR}")).await;
    assert_eq!(status, 200);
    let mut rows: Vec<_> =
        body["rows"].as_array().unwrap().iter().map(|r| (r["key"].clone(), r["value"].clone())).collect();
    rows.sort_by_key(|(key, _)| key.to_string());
    assert_eq!(rows, [("a".into(), 2.into()), ("b".into(), 1.into())]);
    let (_, body) = get(&app, "/stores/by-hour/a").await;
    assert_eq!(body["rows"].as_array().unwrap().len(), 2);
    let (_, body) = get(&app, "/stores/by-hour?from=1970-01-01T00:00:00Z&to=1970-01-01T00:30:00Z").await;
    assert_eq!(body["rows"].as_array().unwrap().len(), 1);

    // Whoever was sent here by a catalog says whom it means, and learns whom it has asked.
    let url = format!("http://{}/stores/totals", app.http().unwrap());
    for (meant, status) in [(Some(application_id.as_str()), 200), (Some("another"), 421), (None, 200)] {
        let mut request = reqwest::Client::new().get(&url);
        if let Some(meant) = meant {
            request = request.header("headwater-group", meant);
        }
        let answer = request.send().await.unwrap();
        assert_eq!(answer.status(), status, "{meant:?}");
        assert_eq!(answer.headers()["headwater-group"], application_id.as_str());
        assert_eq!(answer.text().await.unwrap().contains("rows"), status == 200);
    }

    assert_eq!(get(&app, "/ready").await.0, 200);
    assert_eq!(get(&app, "/stores/totals/nobody").await.0, 404);
    assert_eq!(get(&app, "/stores/nothing/a").await.0, 404);
    assert_eq!(get(&app, "/stores/by-hour?from=yesterday").await.0, 400);
    let (_, topology) = get(&app, "/topology").await;
    assert_eq!(topology["metrics"]["records_in"], 4);
    app.stop().await.unwrap();
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_that_does_not_decode_goes_to_the_dead_letter_topic() {
    let cluster = Cluster::start().await;
    let state = tempfile::tempdir().unwrap();
    let application_id = unique("dead");
    let input = format!("{application_id}-in");
    cluster.topic(&input, 1).await;
    let app = start(&cluster, &application_id, state.path()).await;
    let producer = headwater_client::Producer::new(&cluster.client, Default::default()).await.unwrap();
    let record = headwater_client::ProduceRecord {
        topic: input.clone(),
        timestamp: Some(1),
        key: Some("a".into()),
        value: Some(headwater_model::Bytes::from_static(&[0xff, 0xfe])),
        ..Default::default()
    };
    producer.send(record).await.unwrap().await.unwrap();
    cluster.produce(&input, &[("a", "fine", 2)]).await;
    eventually("the next record is counted", async || get(&app, "/stores/totals/a").await.1["value"] == 1)
        .await;
    let mut dead = Vec::new();
    eventually("the dead letter is visible", async || {
        dead = cluster.read(&format!("{application_id}-dead")).await;
        !dead.is_empty()
    })
    .await;
    assert_eq!(dead[0].value.as_deref(), Some(&[0xff, 0xfe][..]));
    assert!(dead[0].headers.iter().any(|header| header.key == "__streams.errors.offset"));
    app.stop().await.unwrap();
    cluster.stop().await;
}
