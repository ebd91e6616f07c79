//! The programs as a user runs them, on a real broker; they check their own answers.

use crate::support::cluster::Cluster;

async fn says(arguments: &[&str], expected: &[&str]) {
    let cluster = Cluster::start().await;
    let told = cluster.run(arguments).await;
    for text in expected {
        assert!(told.contains(text), "{text:?} is missing in {told}");
    }
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_bank_charges_rightly_where_postings_are_put_in_order() {
    says(&["bank"], &["of them wrong", "grace period", "all right"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn stock_is_counted_once_though_instances_are_killed() {
    says(&["stock", "--kills", "2"], &["2 kills", "told once", "each counted once"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_are_told_once() {
    says(&["sessions"], &["each told once", "1 came too late"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn advertisers_are_billed_rightly() {
    says(&["advertising"], &["every bill is right"]).await;
}
