//! Operators whose state has more to it than rows (versions, windows that wait for their end, records and ids that are kept),
//! on disk: over restarts, over a wiped directory, and asked over HTTP.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use headwater_model::Record;
use headwater_runtime::{AppConfig, StreamsApp, existing_topics};
use headwater_streams::serdes::{i64, string};
use headwater_streams::{
    Consumed, Deduplicated, Grouped, Joined, Materialized, ProcessingHandler, Produced, SessionWindows,
    SlidingWindows, StreamsBuilder, TimeWindows, Topology, session_windowed, time_windowed,
};

use crate::support::{self, Cluster, eventually, get, unique};

const SECOND: Duration = Duration::from_secs(1);

/// Events are numbers as text; rows are texts.
fn topology(application_id: &str) -> Topology {
    let topic = |name: &str| format!("{application_id}-{name}");
    let mut builder = StreamsBuilder::new(application_id);
    builder.processing_handler(ProcessingHandler::DeadLetter(topic("dead")));
    let kept = Materialized::named("rows").json().versioned(10 * SECOND);
    let rows = builder.table(&topic("rows"), Consumed::with(string(), string()), kept);
    let events = builder.stream(&topic("events"), Consumed::with(string(), string()));
    let numbers = events.try_map_values(|text: String| text.parse::<i64>());
    let once = Deduplicated::with(string(), i64()).named("once");
    let numbers = numbers.deduplicate_by_id(|_, number| Some(*number), i64(), 10 * SECOND, once);
    let joined = Joined::with(string(), i64()).named("later").grace(2 * SECOND);
    numbers
        .join(&rows, |number, row: &String| format!("{number}{row}"), joined)
        .to(&topic("joined"), Produced::with(string(), string()));
    let grouped = numbers.group_by_key(Grouped::with(string(), i64()));
    let windowed = || Produced::with(time_windowed(string(), 2 * SECOND), i64());
    grouped
        .windowed_by(TimeWindows::of(2 * SECOND).grace(SECOND))
        .emit_on_close()
        .count(Materialized::named("tumbling").json())
        .to(&topic("tumbling"), windowed());
    grouped
        .windowed_by_sliding(SlidingWindows::of_time_difference_and_grace(2 * SECOND, SECOND))
        .emit_on_close()
        .count(Materialized::named("sliding"))
        .to(&topic("sliding"), windowed());
    let counted = rows.to_stream().without_tombstones().group_by_key(Grouped::with(string(), string()));
    grouped
        .cogroup(|_, number, sum: i64| sum + number)
        .cogroup(&counted, |_, _row: String, sum| sum + 1_000)
        .aggregate(|| 0, Materialized::named("sums").value_serde(i64()).json());
    builder.build().unwrap()
}

async fn start(cluster: &Cluster, application_id: &str, state: &Path) -> StreamsApp {
    let mut config = AppConfig::new(&cluster.bootstrap, application_id);
    config.security = support::security();
    config.state_dir = state.to_owned();
    config.instance = Some("one".to_owned());
    config.commit_interval = Duration::from_millis(50);
    config.http = Some(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)));
    StreamsApp::start(topology(application_id), config).await.unwrap()
}

fn shown(records: &[Record], from: i64) -> Vec<String> {
    let text = |bytes: &Option<headwater_model::Bytes>| match bytes.as_deref() {
        Some(bytes) if bytes.len() == 8 => i64::from_be_bytes(bytes.try_into().unwrap()).to_string(),
        Some(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        None => "-".to_owned(),
    };
    records.iter().map(|record| format!("{}@{}", text(&record.value), record.timestamp - from)).collect()
}

/// The windows of a topic: start, count and time.
fn windows(records: &[Record], from: i64) -> Vec<(i64, i64, i64)> {
    let number = |bytes: &[u8]| i64::from_be_bytes(bytes.try_into().unwrap());
    let window = |record: &Record| {
        let key = record.key.as_ref().unwrap();
        (
            number(&key[key.len() - 8..]) - from,
            number(record.value.as_ref().unwrap()),
            record.timestamp - from,
        )
    };
    records.iter().map(window).collect()
}

/// A moment of the last minutes at which windows begin. Brokers delete what is older than a changelog keeps, by the times
/// of the records.
fn recent() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let minute = 60_000;
    now.as_millis() as i64 / minute * minute - 5 * minute
}

#[tokio::test(flavor = "multi_thread")]
async fn versions_waiting_records_ids_and_open_windows_outlive_restarts_and_a_wiped_directory() {
    let cluster = Cluster::start().await;
    let state = tempfile::tempdir().unwrap();
    let id = unique("operators");
    let topic = |name: &str| format!("{id}-{name}");
    let from = recent();
    for name in ["rows", "events"] {
        cluster.topic(&topic(name), 1).await;
    }
    let app = start(&cluster, &id, state.path()).await;
    cluster
        .produce(
            &topic("rows"),
            &[("k", "a", from + 1_000), ("k", "c", from + 3_000), ("k", "b", from + 2_000)],
        )
        .await;
    eventually("the rows are there", async || get(&app, "/stores/rows/k").await.1["value"] == "c").await;
    cluster
        .produce(
            &topic("events"),
            &[("k", "1", from + 2_500), ("k", "1", from + 2_600), ("k", "2", from + 3_100)],
        )
        .await;
    cluster.produce(&topic("events"), &[("k", "no number", from + 3_200)]).await;
    eventually("the events are summed", async || get(&app, "/stores/sums/k").await.1["value"] == 3_003).await;
    app.stop().await.unwrap();

    // The same directory again: what was late is still taken, what came twice is not, nothing has closed.
    let app = start(&cluster, &id, state.path()).await;
    cluster.produce(&topic("rows"), &[("k", "d", from + 2_400)]).await;
    eventually("the late row is there", async || {
        get(&app, &format!("/stores/rows/k?as_of={}", from + 2_400)).await.1["value"] == "d"
    })
    .await;
    assert_eq!(get(&app, &format!("/stores/rows/k?as_of={}", from + 2_399)).await.1["value"], "b");
    assert_eq!(get(&app, &format!("/stores/rows/k?as_of={}", from + 1_000)).await.1["value"], "a");
    assert_eq!(get(&app, "/stores/rows/k").await.1["value"], "c");
    assert_eq!(get(&app, "/stores/rows/k?as_of=2100-01-01T00:00:00Z").await.1["value"], "c");
    assert_eq!(get(&app, &format!("/stores/rows/k?as_of={}", from + 999)).await.0, 404);
    let (_, body) = get(&app, &format!("/stores/rows/k?from={}&to={}", from + 2_000, from + 2_999)).await;
    let versions: Vec<_> =
        body["rows"].as_array().unwrap().iter().map(|row| row["valid_to"].as_i64()).collect();
    assert_eq!(versions, [Some(from + 3_000), Some(from + 2_400)]);
    assert_eq!(get(&app, "/stores/rows/k?as_of=1&to=2").await.0, 400);
    assert_eq!(get(&app, "/stores/sums/k?as_of=1").await.0, 400);
    let (_, body) = get(&app, "/stores/rows").await;
    assert_eq!((body["kind"].as_str(), body["rows"].as_array().unwrap().len()), (Some("versioned"), 1));
    cluster.produce(&topic("events"), &[("k", "2", from + 3_300), ("k", "3", from + 4_500)]).await;
    eventually("the third number is summed", async || get(&app, "/stores/sums/k").await.1["value"] == 4_006)
        .await;
    assert_eq!(shown(&cluster.read(&topic("joined")).await, from), ["1d@2500"]);
    assert!(cluster.read(&topic("tumbling")).await.is_empty());
    app.stop().await.unwrap();

    // A new directory: all of it comes from the changelogs, and the end of time closes all windows once.
    std::fs::remove_dir_all(state.path().join(&id)).unwrap();
    let app = start(&cluster, &id, state.path()).await;
    cluster
        .produce(
            &topic("events"),
            &[("k", "2", from + 4_600), ("k", "9", from + 100_000), ("k", "8", from + 200_000)],
        )
        .await;
    eventually("all windows have closed", async || cluster.read(&topic("tumbling")).await.len() == 3).await;
    let closed = windows(&cluster.read(&topic("tumbling")).await, from);
    assert_eq!(closed, [(2_000, 2, 3_100), (4_000, 1, 4_500), (100_000, 1, 100_000)]);
    let closed = windows(&cluster.read(&topic("sliding")).await, from);
    let first = [(500, 1, 2_500), (1_100, 2, 3_100), (2_500, 3, 4_500), (2_501, 2, 4_500), (3_101, 1, 4_500)];
    assert_eq!((&closed[..5], closed.len()), (&first[..], 6), "{closed:?}");
    assert_eq!(
        shown(&cluster.read(&topic("joined")).await, from),
        ["1d@2500", "2c@3100", "3c@4500", "9c@100000"]
    );
    assert_eq!(get(&app, &format!("/stores/rows/k?as_of={}", from + 2_400)).await.1["value"], "d");
    assert!(app.metrics().dropped_duplicates > 0);
    let dead = cluster.read(&topic("dead")).await;
    assert_eq!(shown(&dead, from), ["no number@3200"]);
    let names: Vec<_> = dead[0].headers.iter().map(|header| header.key.as_str()).collect();
    assert!(names.contains(&"__streams.errors.message") && names.contains(&"__streams.errors.offset"));
    app.stop().await.unwrap();
    cluster.stop().await;
}

/// A session that is longer than all others is found by its middle, whichever of the loads it came with.
#[tokio::test(flavor = "multi_thread")]
async fn sessions_that_come_back_in_many_loads_are_found_by_every_part_of_them() {
    let cluster = Cluster::start().await;
    let state = tempfile::tempdir().unwrap();
    let id = unique("sessions");
    let (events, counts) = (format!("{id}-events"), format!("{id}-counts"));
    let from = recent();
    cluster.topic(&events, 1).await;
    let start = async |write_buffer| {
        let mut config = AppConfig::new(&cluster.bootstrap, &id);
        config.security = support::security();
        config.state_dir = state.path().to_owned();
        config.instance = Some("one".to_owned());
        config.commit_interval = Duration::from_millis(50);
        (config.write_buffer_bytes, config.store_table_from) = (write_buffer, 1);
        let builder = StreamsBuilder::new(&id);
        let sessions = SessionWindows::with_gap(SECOND).grace(600 * SECOND);
        builder
            .stream(&events, Consumed::with(string(), string()))
            .group_by_key(Grouped::with(string(), string()))
            .windowed_by_session(sessions)
            .count(Materialized::named("sessions"))
            .to(&counts, Produced::with(session_windowed(string()), i64()));
        StreamsApp::start(builder.build().unwrap(), config).await.unwrap()
    };
    let app = start(64 << 20).await;
    let long: Vec<_> = (0..=60).map(|n| ("k", "x", from + n * 1_000)).collect();
    cluster.produce(&events, &long).await;
    // Keys so long that what the changelog has of them comes in several answers.
    let others: Vec<String> = (0..500).map(|n| format!("{n:0>9000}")).collect();
    for keys in others.chunks(50) {
        let records: Vec<_> = keys.iter().map(|key| (key.as_str(), "x", from + 61_000)).collect();
        cluster.produce(&events, &records).await;
    }
    let counted = async |records: usize, count: i64| {
        let read = cluster.read(&counts).await;
        let last = read.iter().rev().find(|record| record.key.as_ref().is_some_and(|key| key[0] == b'k'));
        let last =
            last.and_then(|record| record.value.as_ref()).map(|value| value[..] == count.to_be_bytes());
        read.len() >= records && last == Some(true)
    };
    eventually("all sessions are counted", async || counted(501, 61).await).await;
    app.stop().await.unwrap();

    std::fs::remove_dir_all(state.path().join(&id)).unwrap();
    let app = start(1).await;
    cluster.produce(&events, &[("k", "x", from + 20_500)]).await;
    eventually("the record is in the long session", async || counted(502, 62).await).await;
    assert_eq!(app.metrics().wiped_stores, 0);
    app.stop().await.unwrap();
    cluster.stop().await;
}

/// How long a store keeps windows says how they are laid out in it.
#[tokio::test(flavor = "multi_thread")]
async fn open_windows_go_on_in_a_version_with_another_grace() {
    let cluster = Cluster::start().await;
    let state = tempfile::tempdir().unwrap();
    let id = unique("grace");
    let (events, counts) = (format!("{id}-events"), format!("{id}-counts"));
    let from = recent();
    cluster.topic(&events, 1).await;
    let start = async |grace: Duration| {
        let mut config = AppConfig::new(&cluster.bootstrap, &id);
        config.security = support::security();
        config.state_dir = state.path().to_owned();
        config.instance = Some("one".to_owned());
        config.commit_interval = Duration::from_millis(50);
        let builder = StreamsBuilder::new(&id);
        builder
            .stream(&events, Consumed::with(string(), string()))
            .group_by_key(Grouped::with(string(), string()))
            .windowed_by(TimeWindows::of(600 * SECOND).grace(grace))
            .count(Materialized::named("counted"))
            .to(&counts, Produced::with(time_windowed(string(), 600 * SECOND), i64()));
        StreamsApp::start(builder.build().unwrap(), config).await.unwrap()
    };
    let app = start(Duration::ZERO).await;
    cluster.produce(&events, &[("k", "x", from), ("k", "x", from + 1_000)]).await;
    eventually("both are counted", async || cluster.read(&counts).await.len() == 2).await;
    app.stop().await.unwrap();

    let app = start(600 * SECOND).await;
    cluster.produce(&events, &[("k", "x", from + 2_000)]).await;
    eventually("the third one is counted", async || cluster.read(&counts).await.len() == 3).await;
    assert_eq!(shown(&cluster.read(&counts).await, from), ["1@0", "2@1000", "3@2000"]);
    assert_eq!(app.metrics().wiped_stores, 1);
    app.stop().await.unwrap();
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_is_new_is_read_from_the_next_start_on_and_the_state_stays() {
    let cluster = Cluster::start().await;
    let state = tempfile::tempdir().unwrap();
    let id = unique("matching");
    let config = || {
        let mut config = AppConfig::new(&cluster.bootstrap, &id);
        config.security = support::security();
        config.state_dir = state.path().to_owned();
        config.http = Some(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)));
        config
    };
    let start = async || {
        let mut builder = StreamsBuilder::new(&id);
        builder.existing_topics(existing_topics(&config()).await.unwrap());
        let orders = format!("{id}-orders-");
        builder
            .stream_matching(move |topic| topic.starts_with(&orders), Consumed::with(string(), string()))
            .group_by_key(Grouped::new())
            .count(Materialized::named("orders").json());
        StreamsApp::start(builder.build().unwrap(), config()).await.unwrap()
    };
    let (first, second) = (format!("{id}-orders-eu"), format!("{id}-orders-us"));
    cluster.topic(&first, 2).await;
    cluster.produce(&first, &[("ann", "x", 1), ("ann", "y", 2)]).await;
    let app = start().await;
    eventually("both are counted", async || get(&app, "/stores/orders/ann").await.1["value"] == 2).await;
    app.stop().await.unwrap();
    cluster.topic(&second, 2).await;
    cluster.produce(&second, &[("ann", "z", 3)]).await;
    let app = start().await;
    eventually("the new topic's, too", async || get(&app, "/stores/orders/ann").await.1["value"] == 3).await;
    assert_eq!(app.metrics().wiped_stores, 0);
    app.stop().await.unwrap();
    cluster.stop().await;
}
