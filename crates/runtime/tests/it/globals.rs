//! Global tables: what does not decode, at the start and later.

use std::path::Path;
use std::time::Duration;

use headwater_runtime::{AppConfig, AppError, StreamsApp};
use headwater_streams::serdes::{i64, string};
use headwater_streams::{Consumed, DeserializationHandler, Materialized, Produced, StreamsBuilder, Topology};

use crate::support::{self, Cluster, eventually, unique};

fn topology(application_id: &str, handler: DeserializationHandler) -> Topology {
    let builder = StreamsBuilder::new(application_id);
    let consumed = Consumed::with(string(), i64()).deserialization_handler(handler);
    let sizes =
        builder.global_table(&format!("{application_id}-sizes"), consumed, Materialized::named("sizes"));
    builder
        .stream(&format!("{application_id}-in"), Consumed::with(string(), string()))
        .join_global(&sizes, |key, _| Some(key.clone()), |value, size| format!("{value}{size}"))
        .to(&format!("{application_id}-out"), Produced::with(string(), string()));
    builder.build().unwrap()
}

struct Sizes {
    cluster: Cluster,
    application_id: String,
}

impl Sizes {
    async fn new() -> Self {
        let cluster = Cluster::start().await;
        let application_id = unique("sizes");
        for topic in ["sizes", "in"] {
            cluster.topic(&format!("{application_id}-{topic}"), 1).await;
        }
        Self { cluster, application_id }
    }

    async fn start(&self, handler: DeserializationHandler, state: &Path) -> Result<StreamsApp, AppError> {
        let mut config = AppConfig::new(&self.cluster.bootstrap, &self.application_id);
        config.security = support::security();
        config.state_dir = state.to_owned();
        StreamsApp::start(topology(&self.application_id, handler), config).await
    }

    async fn write(&self, key: &str, value: &str) {
        self.cluster.produce(&format!("{}-sizes", self.application_id), &[(key, value, 1)]).await;
    }
}

fn is_about_the_record(error: &AppError, offset: &str) -> bool {
    let told = error.to_string();
    matches!(error, AppError::Global { .. }) && told.contains("/0 offset") && told.contains(offset)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_global_row_that_does_not_decode_ends_the_application_at_the_start_and_later() {
    let (sizes, place) = (Sizes::new().await, tempfile::tempdir().unwrap());
    sizes.write("a", "\0\0\0\0\0\0\0\x01").await;
    let app = sizes.start(DeserializationHandler::Fail, place.path()).await.unwrap();
    sizes.write("a", "bad").await;
    let ended = tokio::time::timeout(Duration::from_secs(60), app.wait()).await;
    let error = ended.expect("it goes on").unwrap_err();
    assert!(is_about_the_record(&error, "offset 1"), "{error}");
    let _ = app.stop().await;
    let refused = sizes.start(DeserializationHandler::Fail, place.path()).await.err().unwrap();
    assert!(is_about_the_record(&refused, "offset 1"), "{refused}");
    sizes.cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_global_row_that_does_not_decode_is_left_out_and_counted_where_that_is_the_rule() {
    let (sizes, place) = (Sizes::new().await, tempfile::tempdir().unwrap());
    sizes.write("a", "bad").await;
    let app = sizes.start(DeserializationHandler::Continue, place.path()).await.unwrap();
    assert_eq!(app.metrics().global_skipped, 1);
    sizes.write("a", "worse").await;
    eventually("the second is counted, too", async || app.metrics().global_skipped == 2).await;
    app.stop().await.unwrap();
    sizes.cluster.stop().await;
}
