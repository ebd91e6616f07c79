//! Records that cannot be written, exactly once: too large, refused by the broker in the middle of a transaction, and with a time
//! that is ahead of every clock. Runs on the Apache Kafka at HEADWATER_TEST_BOOTSTRAP, too.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use headwater_client::NewTopic;
use headwater_model::Record;
use headwater_runtime::{AppConfig, AppError, Guarantee, StreamsApp};
use headwater_streams::serdes::{i64, string};
use headwater_streams::{
    Consumed, DeadLetter, Grouped, Materialized, Produced, ProductionHandler, StreamsBuilder, Topology,
};

use crate::support::{self, Cluster, eventually, unique};

const DAY: i64 = 24 * 60 * 60 * 1_000;

/// Copies texts, and counts all of them.
fn topology(id: &str, handler: ProductionHandler) -> Topology {
    let mut builder = StreamsBuilder::new(id);
    builder.production_handler(handler);
    let texts = builder.stream(&format!("{id}-in"), Consumed::with(string(), string()));
    texts.to(&format!("{id}-out"), Produced::with(string(), string()).named("copy"));
    texts
        .group_by_key(Grouped::with(string(), string()))
        .count(Materialized::named("counts"))
        .to(&format!("{id}-counts"), Produced::with(string(), i64()));
    builder.build().unwrap()
}

async fn start(cluster: &Cluster, topology: Topology, state: &Path, guarantee: Guarantee) -> StreamsApp {
    let mut config = AppConfig::new(&cluster.bootstrap, topology.application_id());
    config.security = support::security();
    config.state_dir = state.to_owned();
    config.guarantee = guarantee;
    config.commit_interval = Duration::from_millis(200);
    config.session_timeout = Duration::from_secs(6);
    config.clock_skew_bound = Duration::from_secs(60);
    StreamsApp::start(topology, config).await.unwrap()
}

/// Output that takes no large records and none from the future; everything else takes both.
async fn topics(cluster: &Cluster, id: &str) {
    for name in ["in", "counts", "unsent"] {
        let topic = NewTopic::new(format!("{id}-{name}"), 1)
            .config("retention.ms", "-1")
            .config("message.timestamp.after.max.ms", i64::MAX.to_string());
        cluster.client.ensure_topic(topic).await.unwrap();
    }
    // The count's time is that of its record.
    let changelog = NewTopic::new(format!("{id}-counts-changelog"), 1)
        .config("cleanup.policy", "compact")
        .config("message.timestamp.after.max.ms", i64::MAX.to_string());
    cluster.client.ensure_topic(changelog).await.unwrap();
    let output = NewTopic::new(format!("{id}-out"), 1)
        .config("max.message.bytes", "1000")
        .config("message.timestamp.after.max.ms", "60000");
    cluster.client.ensure_topic(output).await.unwrap();
}

/// Forty texts: two are too large, three are of tomorrow.
fn texts() -> Vec<(String, i64)> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as i64;
    let text = |n: i64| match n {
        7 | 30 => (format!("large {n} {}", "x".repeat(2_000)), now),
        12 | 13 | 39 => (format!("tomorrow {n}"), now + DAY + n),
        _ => (format!("text {n}"), now),
    };
    (0..40).map(text).collect()
}

fn text(record: &Record) -> String {
    String::from_utf8(record.value.clone().unwrap().to_vec()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_written_is_a_dead_letter_and_everything_else_is_there_exactly_once() {
    let cluster = Cluster::start().await;
    let id = unique("unwritable");
    topics(&cluster, &id).await;
    let texts = texts();
    let records: Vec<_> = texts.iter().map(|(text, time)| ("k", text.as_str(), *time)).collect();
    cluster.produce(&format!("{id}-in"), &records).await;
    let state = tempfile::tempdir().unwrap();
    let handler = ProductionHandler::DeadLetter(format!("{id}-unsent"));
    let app = start(&cluster, topology(&id, handler), state.path(), Guarantee::ExactlyOnce).await;
    let (output, unsent) = (format!("{id}-out"), format!("{id}-unsent"));
    eventually("all is processed", async || app.metrics().records_in >= 40).await;

    let written: Vec<String> = cluster.read(&output).await.iter().map(text).collect();
    let fits = |text: &&String| text.starts_with("text");
    let expected: Vec<String> = texts.iter().map(|(text, _)| text).filter(fits).cloned().collect();
    assert_eq!(written, expected, "each once, in its order");
    let letters = cluster.read(&unsent).await;
    let told: BTreeMap<i64, String> = letters
        .iter()
        .map(|letter| DeadLetter::read(letter).unwrap())
        .map(|letter| (letter.offset, letter.exception))
        .collect();
    assert_eq!(letters.len(), 5, "{told:?}");
    assert_eq!(told[&7], "RecordTooLarge in copy");
    assert_eq!(told[&13], "InvalidTimestamp in copy");
    assert_eq!(app.metrics().production_errors, 5);
    // State and other outputs have seen each text once, whatever became of its copy.
    let counts = cluster.read(&format!("{id}-counts")).await;
    let last = i64::from_be_bytes(counts.last().unwrap().value.clone().unwrap()[..].try_into().unwrap());
    assert_eq!((counts.len(), last), (40, 40));

    let tasks = app.tasks();
    let skew = tasks.values().find_map(|task| task.skew.get(&format!("{id}-in/0"))).unwrap();
    assert!(skew.ahead_ms > DAY / 2 && skew.ahead_ms <= DAY + 39, "{skew:?}");
    assert!(skew.future_records >= 3 && skew.age_ms == Some(0), "{skew:?}");
    app.stop().await.unwrap();
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_transactions_nothing_that_can_be_written_is_missing() {
    let cluster = Cluster::start().await;
    let id = unique("at-least");
    topics(&cluster, &id).await;
    let texts = texts();
    let records: Vec<_> = texts.iter().map(|(text, time)| ("k", text.as_str(), *time)).collect();
    cluster.produce(&format!("{id}-in"), &records).await;
    let state = tempfile::tempdir().unwrap();
    let app =
        start(&cluster, topology(&id, ProductionHandler::Continue), state.path(), Guarantee::AtLeastOnce)
            .await;
    eventually("all is processed", async || app.metrics().records_in >= 40).await;
    let written: Vec<String> = cluster.read(&format!("{id}-out")).await.iter().map(text).collect();
    for (text, _) in texts.iter().filter(|(text, _)| text.starts_with("text")) {
        assert!(written.contains(text), "{text} in {written:?}");
    }
    app.stop().await.unwrap();
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_handler_the_application_ends_and_says_what_the_broker_said() {
    let cluster = Cluster::start().await;
    let id = unique("fails");
    topics(&cluster, &id).await;
    let large = "x".repeat(2_000);
    cluster.produce(&format!("{id}-in"), &[("k", large.as_str(), 0)]).await;
    let state = tempfile::tempdir().unwrap();
    let app =
        start(&cluster, topology(&id, ProductionHandler::Fail), state.path(), Guarantee::ExactlyOnce).await;
    let error = app.wait().await.unwrap_err();
    assert!(
        matches!(error, AppError::Client { .. }) && error.to_string().contains(&format!("{id}-out")),
        "{error}"
    );
    drop(app);
    cluster.stop().await;
}
