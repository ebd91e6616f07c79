//! Query and bulk sources tell each row once, and go on where they were after a restart.

use std::time::Duration;

use headwater_connect::SourceHandle;
use headwater_connect::sqlite::{BulkSource, Cursor, QuerySource, TableStream};
use serde_json::json;

use crate::support::{Cluster, eventually, never, unique};

const WEATHER: &str = "CREATE TABLE weather (id INTEGER PRIMARY KEY, origin TEXT NOT NULL, time_hour TEXT NOT NULL, \
     temp REAL, updated_at INTEGER NOT NULL); CREATE INDEX weather_updated ON weather (updated_at, id);";

fn weather(cluster: &Cluster) -> TableStream {
    TableStream::new(unique("weather"), cluster.path("legacy.sqlite"), "weather", unique("weather"))
        .columns(&["origin", "time_hour", "temp", "updated_at"])
        .key(&["origin", "time_hour"])
        .event_time("updated_at")
        .timestamps(&["updated_at"])
}

fn query(cluster: &Cluster, stream: &TableStream) -> QuerySource {
    let cursor = Cursor { updated_at: "updated_at".into(), id: "id".into(), settle: Duration::ZERO };
    QuerySource::new(stream.clone(), cursor, cluster.client.clone(), cluster.registry.clone())
}

fn bulk(cluster: &Cluster, stream: &TableStream) -> BulkSource {
    BulkSource::new(stream.clone(), cluster.client.clone(), cluster.registry.clone())
}

#[tokio::test(flavor = "multi_thread")]
async fn new_and_changed_rows_are_told_after_a_restart_and_known_ones_are_not() {
    let cluster = Cluster::start().await;
    let database = cluster.database("legacy.sqlite", WEATHER);
    let stream = weather(&cluster);
    database
        .execute_batch(
            "INSERT INTO weather VALUES (1, 'EWR', '2013-01-01T06:00:00Z', 39.02, 1000), (2, 'JFK', '2013-01-01T06:00:00Z', NULL, 1000);",
        )
        .unwrap();
    let drain = async || {
        let source = query(&cluster, &stream);
        source.handle().finish();
        source.run(never()).await.unwrap()
    };
    assert_eq!(drain().await, 2);
    assert_eq!(drain().await, 0);
    database
        .execute_batch(
            "UPDATE weather SET temp = 40, updated_at = 2000 WHERE id = 2;
             INSERT INTO weather VALUES (3, 'LGA', '2013-01-01T06:00:00Z', 1.5, 1000);",
        )
        .unwrap();
    assert_eq!(drain().await, 2, "one of the same instant with a higher id, and one that is newer");
    let told = cluster.read_json(&stream.topic).await;
    let keys: Vec<&str> = told.iter().map(|(key, _)| key.as_str()).collect();
    let at = |origin: &str| format!("{origin}|2013-01-01T06:00:00Z");
    assert_eq!(keys, [at("EWR"), at("JFK"), at("LGA"), at("JFK")]);
    let first =
        json!({"origin": "EWR", "time_hour": "2013-01-01T06:00:00Z", "temp": 39.02, "updated_at": 1000});
    assert_eq!(told[0].1, Some(first));
    assert_eq!(cluster.read(&stream.topic).await[3].timestamp, 2000);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_query_that_is_dropped_tells_each_row_exactly_once() {
    let cluster = Cluster::start().await;
    let database = cluster.database("legacy.sqlite", WEATHER);
    database
        .execute_batch(
            "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 30000)
             INSERT INTO weather SELECT i, 'EWR', i, i / 2.0, i / 3 FROM n;",
        )
        .unwrap();
    let stream = weather(&cluster);
    let dropped_after = async |handle: SourceHandle, running: tokio::task::JoinHandle<_>| {
        eventually("rows are published", || handle.published() > 0).await;
        running.abort();
        let _: Result<Result<u64, _>, _> = running.await;
    };
    for _ in 0..3 {
        let source = query(&cluster, &stream);
        dropped_after(source.handle(), tokio::spawn(source.run(never()))).await;
    }
    let source = query(&cluster, &stream);
    source.handle().finish();
    source.run(never()).await.unwrap();
    let keys: Vec<String> = cluster.read_json(&stream.topic).await.into_iter().map(|(key, _)| key).collect();
    let expected: Vec<String> = (1..=30_000).map(|i| format!("EWR|{i}")).collect();
    assert!(keys == expected, "{} records", keys.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_have_not_settled_wait_until_the_source_is_told_to_finish() {
    let cluster = Cluster::start().await;
    let database = cluster.database("legacy.sqlite", WEATHER);
    let insert =
        "INSERT INTO weather VALUES (1, 'EWR', 'old', NULL, 1), (2, 'EWR', 'new', NULL, unixepoch() * 1000)";
    database.execute_batch(insert).unwrap();
    let cursor =
        Cursor { updated_at: "updated_at".into(), id: "id".into(), settle: Duration::from_secs(3600) };
    let source =
        QuerySource::new(weather(&cluster), cursor, cluster.client.clone(), cluster.registry.clone());
    let handle = source.handle();
    let running = tokio::spawn(source.run(never()));
    eventually("the table is read", || handle.caught_up()).await;
    assert_eq!(handle.published(), 1);
    handle.finish();
    assert_eq!(running.await.unwrap().unwrap(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_that_is_stopped_leaves_the_rest_to_the_next_start() {
    let cluster = Cluster::start().await;
    let database = cluster.database("legacy.sqlite", WEATHER);
    let stream = weather(&cluster);
    let source = query(&cluster, &stream);
    let handle = source.handle();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let running = tokio::spawn(source.run(async { drop(stopped.await) }));
    eventually("the empty table is read", || handle.caught_up()).await;
    stop.send(()).unwrap();
    assert_eq!(running.await.unwrap().unwrap(), 0);
    database.execute_batch("INSERT INTO weather VALUES (1, 'EWR', 'later', NULL, 1)").unwrap();
    let next = query(&cluster, &stream);
    next.handle().finish();
    assert_eq!(next.run(never()).await.unwrap(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_is_published_once_for_each_label() {
    let cluster = Cluster::start().await;
    let database = cluster.database(
        "legacy.sqlite",
        "CREATE TABLE planes (tailnum TEXT PRIMARY KEY NOT NULL, year INTEGER) WITHOUT ROWID;",
    );
    database
        .execute_batch(
            "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 12000)
             INSERT INTO planes SELECT printf('N%05d', i), i FROM n;",
        )
        .unwrap();
    let stream =
        TableStream::new(unique("planes"), cluster.path("legacy.sqlite"), "planes", unique("aircraft"));
    assert_eq!(bulk(&cluster, &stream).run(never()).await.unwrap(), 12_000);
    assert_eq!(bulk(&cluster, &stream).run(never()).await.unwrap(), 0);
    let told = cluster.read_json(&stream.topic).await;
    assert_eq!(told.len(), 12_000);
    assert_eq!(told[11_999], ("N12000".to_owned(), Some(json!({"tailnum": "N12000", "year": 12000}))));
    assert_eq!(bulk(&cluster, &stream).run_label("again").run(never()).await.unwrap(), 12_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_without_a_key_is_refused() {
    let cluster = Cluster::start().await;
    cluster.database("legacy.sqlite", "CREATE TABLE notes (note TEXT)");
    let stream = TableStream::new(unique("notes"), cluster.path("legacy.sqlite"), "notes", unique("notes"));
    let error = bulk(&cluster, &stream).run(never()).await.unwrap_err().to_string();
    assert!(error.contains("name the columns that identify a row in `key`"), "{error}");
}
