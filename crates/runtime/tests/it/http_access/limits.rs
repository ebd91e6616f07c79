//! What a stranger can do who connects and says nothing.

use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::company::{Company, answer, start, url};
use crate::support::{Cluster, WordCount, eventually};

async fn is_closed(stream: &mut TcpStream) -> bool {
    matches!(
        tokio::time::timeout(Duration::from_secs(30), stream.read(&mut [0; 64])).await,
        Ok(Ok(0) | Err(_))
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn who_says_nothing_makes_room_and_is_sent_away() {
    let (cluster, company) = (Cluster::start().await, Company::new());
    let words = WordCount::new(&cluster, 1).await;
    let state = tempfile::tempdir().unwrap();
    let more = [
        "ssl.client.auth=required",
        "headwater.http.readers=User:reader",
        // Half of them are for those who are known.
        "headwater.http.max.connections=6",
        "headwater.authentication.timeout.ms=60000",
    ];
    let app = start(&words, &cluster, state.path(), company.access("words", &more)).await;
    let address = app.http().unwrap();
    let mut silent = Vec::new();
    for _ in 0..6 {
        silent.push(TcpStream::connect(address).await.unwrap());
    }
    // Who has been silent for a second makes room; the known one gives its place back at once.
    let reader = company.client("reader");
    for _ in 0..2 {
        eventually("the reader gets in", async || {
            company.client("reader").get(url(&app, "/stores")).send().await.is_ok()
        })
        .await;
    }
    assert_eq!(answer(reader.get(url(&app, "/stores"))).await.0, 200);
    let begun = Instant::now();
    assert!(is_closed(&mut silent[0]).await, "the first one has made room");
    assert!(begun.elapsed() < Duration::from_secs(20), "and did not wait for its timeout");
    app.stop().await.unwrap();
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handshake_and_the_head_of_a_request_have_their_time() {
    let (cluster, company) = (Cluster::start().await, Company::new());
    let words = WordCount::new(&cluster, 1).await;
    let state = tempfile::tempdir().unwrap();
    let more = ["ssl.client.auth=required", "headwater.authentication.timeout.ms=300"];
    let app = start(&words, &cluster, state.path(), company.access("words", &more)).await;
    let mut silent = TcpStream::connect(app.http().unwrap()).await.unwrap();
    let mut half = TcpStream::connect(app.http().unwrap()).await.unwrap();
    half.write_all(&[0x16, 3, 1, 2, 0]).await.unwrap();
    assert!(is_closed(&mut silent).await && is_closed(&mut half).await);
    app.stop().await.unwrap();

    // The same without TLS.
    let access = headwater_runtime::HttpAccess::parse("headwater.authentication.timeout.ms=300").unwrap();
    let app = start(&words, &cluster, state.path(), access).await;
    let mut half = TcpStream::connect(app.http().unwrap()).await.unwrap();
    half.write_all(b"GET /stores HTTP/1.1\r\nHost: ").await.unwrap();
    assert!(is_closed(&mut half).await);
    app.stop().await.unwrap();
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn there_are_no_more_connections_than_the_limit() {
    let (cluster, company) = (Cluster::start().await, Company::new());
    let words = WordCount::new(&cluster, 1).await;
    let state = tempfile::tempdir().unwrap();
    let more = [
        "ssl.client.auth=required",
        "headwater.http.readers=User:reader",
        "headwater.http.max.connections=4",
    ];
    let app = start(&words, &cluster, state.path(), company.access("words", &more)).await;
    let clients: Vec<_> = (0..5).map(|_| company.client("reader")).collect();
    for client in &clients[..4] {
        assert_eq!(answer(client.get(url(&app, "/stores"))).await.0, 200);
    }
    assert!(clients[4].get(url(&app, "/stores")).send().await.is_err(), "all are held");
    drop(clients);
    eventually("a place is free again", async || {
        company.client("reader").get(url(&app, "/stores")).send().await.is_ok()
    })
    .await;
    app.stop().await.unwrap();
    cluster.stop().await;
}
