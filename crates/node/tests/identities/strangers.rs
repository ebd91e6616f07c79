//! What those can do who have not said who they are, and pages of other origins.

use std::time::{Duration, Instant};

use headwater_node::NodeError;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::{Guarded, answer, schema, start};

fn settings(all: &[&str]) -> Vec<String> {
    all.iter().map(|&setting| setting.to_owned()).collect()
}

#[tokio::test]
async fn an_address_that_strangers_can_use_is_refused_unless_it_is_spelled_out() {
    let directory = tempfile::tempdir().unwrap();
    let refused = start(directory.path(), "0.0.0.0:0", &[]).await.err().unwrap();
    let said = refused.to_string();
    assert!(matches!(refused, NodeError::Broker(_)), "{said}");
    for part in
        ["0.0.0.0:0", "neither TLS nor authentication", "headwater.http.security.protocol", "--insecure"]
    {
        assert!(said.contains(part), "{said}");
    }
    assert!(!directory.path().join("data").exists(), "nothing was started");
    let clear = settings(&["headwater.http.security.protocol=SASL_PLAINTEXT"]);
    let said = start(directory.path(), "0.0.0.0:0", &clear).await.err().unwrap().to_string();
    assert!(said.contains("has no TLS"), "{said}");
    let spelled = settings(&["headwater.insecure=true"]);
    start(directory.path(), "0.0.0.0:0", &spelled).await.unwrap().shutdown().await;
}

/// What comes back for these bytes until the node ends the connection.
async fn raw(address: &str, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(bytes).await.unwrap();
    let mut answer = Vec::new();
    // A connection that is reset has ended, too.
    let _ =
        tokio::time::timeout(Duration::from_secs(20), stream.read_to_end(&mut answer)).await.expect("an end");
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test]
async fn a_slow_or_huge_request_ends_before_it_costs_anything() {
    let directory = tempfile::tempdir().unwrap();
    let users = directory.path().join("users");
    std::fs::write(&users, "alice=wonderland\n").unwrap();
    let users = format!("headwater.sasl.users.file={}", users.display());
    let all = settings(&[
        "headwater.http.security.protocol=SASL_PLAINTEXT",
        "headwater.authentication.timeout.ms=300",
        "headwater.max.unauthenticated.connections=2",
        &users,
    ]);
    let node = start(directory.path(), "127.0.0.1:0", &all).await.unwrap();
    let address = node.http().trim_start_matches("http://").to_owned();

    let begun = Instant::now();
    raw(&address, b"GET /subjects HTTP/1.1\r\nHost: a\r\nX-Slow:").await;
    assert!(begun.elapsed() < Duration::from_secs(10), "a head that never ends");
    let huge = format!("GET / HTTP/1.1\r\nHost: a\r\nX-Huge: {}\r\n\r\n", "x".repeat(64 << 10));
    let said = raw(&address, huge.as_bytes()).await;
    assert!(said.starts_with("HTTP/1.1 431") || said.is_empty(), "{said}");
    let body = b"POST /subjects/a-value/versions HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999\r\n\r\n{";
    let said = raw(&address, body).await;
    assert!(said.starts_with("HTTP/1.1 401"), "refused without its body: {said}");
    let known = "POST /subjects/a-value/versions HTTP/1.1\r\nHost: a\r\nAuthorization: Basic YWxpY2U6d29uZGVybGFuZA==\r\n\
                 Content-Length: 99999999\r\n\r\n{";
    let said = raw(&address, known.as_bytes()).await;
    assert!(said.starts_with("HTTP/1.1 413"), "{said}");

    for path in ["/subjects", "/health"] {
        let said = raw(&address, format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes()).await;
        assert!(said.to_ascii_lowercase().contains("connection: close"), "one answer for a stranger: {said}");
    }

    // Two strangers hold the places; a third waits for nothing.
    let held = [TcpStream::connect(&address).await.unwrap(), TcpStream::connect(&address).await.unwrap()];
    let begun = Instant::now();
    let get = "GET /health HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    while !raw(&address, get.as_bytes()).await.starts_with("HTTP/1.1 200") {
        assert!(begun.elapsed() < Duration::from_secs(20), "the places do not come back");
    }
    drop(held);
    node.shutdown().await;
}

#[tokio::test]
async fn a_page_of_another_origin_changes_nothing() {
    let guarded = Guarded::start(&[]).await;
    let own = guarded.node.http();
    let register = |header: &str, value: &str| {
        let request =
            guarded.request("POST", "/subjects/orders-value/versions").basic_auth("root", Some("root"));
        request.header(header, value).body(schema().unwrap().to_string())
    };
    for (header, value) in
        [("Origin", "https://evil.example"), ("Origin", "null"), ("Sec-Fetch-Site", "cross-site")]
    {
        let (status, refused) = answer(register(header, value)).await;
        assert_eq!((status, &refused["error_code"]), (403, &40301.into()), "{header} {value}");
    }
    assert_eq!(answer(register("Origin", &own)).await.0, 200, "its own page may");
    guarded.node.shutdown().await;
}
