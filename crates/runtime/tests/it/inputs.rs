//! Topics that change while an application reads them.

use std::time::Duration;

use headwater_runtime::StreamsApp;

use crate::support::{Cluster, PATIENCE, WordCount, eventually};

async fn metrics(app: &StreamsApp) -> String {
    let url = format!("http://{}/metrics", app.http().unwrap());
    reqwest::get(&url).await.unwrap().text().await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn partitions_that_come_are_told_and_a_topic_that_goes_ends_the_application() {
    let cluster = Cluster::start().await;
    let state = tempfile::tempdir().unwrap();
    let words = WordCount::new(&cluster, 2).await;
    let mut config = words.config(&cluster, state.path());
    config.metadata_max_age = Duration::from_millis(100);
    let app = StreamsApp::start(words.topology(), config).await.unwrap();
    eventually("every task runs", async || app.ready()).await;
    let name = format!("headwater_streams_unread_partitions{{application_id=\"{}\"}}", words.application_id);
    assert!(metrics(&app).await.contains(&format!("{name} 0")));
    cluster.client.create_partitions(&words.lines, 5).await.unwrap();
    eventually("they are told", async || metrics(&app).await.contains(&format!("{name} 3"))).await;
    cluster.client.delete_topic(&words.lines).await.unwrap();
    let ended = tokio::time::timeout(PATIENCE, app.wait()).await;
    let error = ended.expect("it goes on without its input").unwrap_err();
    assert!(error.to_string().contains(&words.lines), "{error}");
    // It has ended of that.
    let _ = app.stop().await;
    cluster.stop().await;
}
