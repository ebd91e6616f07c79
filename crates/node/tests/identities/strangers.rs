//! What those can do who have not said who they are, and pages of other origins.

use std::time::{Duration, Instant};

use headwater_client::{Client, ClientConfig};
use headwater_node::NodeError;
use serde_json::json;
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

/// Without access rules whoever is known may see everything; who is not still learns no more than a word.
#[tokio::test]
async fn what_ails_a_node_is_not_told_to_strangers() {
    let directory = tempfile::tempdir().unwrap();
    let users = directory.path().join("users");
    std::fs::write(&users, "alice=wonderland\n").unwrap();
    let users = format!("headwater.sasl.users.file={}", users.display());
    let all = settings(&["headwater.http.security.protocol=SASL_PLAINTEXT", &users]);
    let node = start(directory.path(), "127.0.0.1:0", &all).await.unwrap();
    let kafka = Client::connect(ClientConfig::new(node.kafka(), "test")).await.unwrap();
    kafka.delete_topic("_schemas").await.unwrap();
    let health = async |known: bool| {
        let request = reqwest::Client::new().get(format!("{}/health?json", node.http()));
        answer(if known { request.basic_auth("alice", Some("wonderland")) } else { request }).await
    };
    let begun = Instant::now();
    while health(true).await.1["findings"] == json!([]) {
        assert!(begun.elapsed() < Duration::from_secs(60), "it is not found");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let (status, said) = health(false).await;
    assert_eq!((status, &said["findings"]), (503, &json!([])), "{said}");
    node.shutdown().await;
}

/// Those who come by HTTP and say nothing keep nobody from the broker, nor for long from HTTP.
#[tokio::test]
async fn silent_strangers_at_the_http_address_keep_nobody_out() {
    let guarded = Guarded::start(&[
        "headwater.max.unauthenticated.connections=8",
        "headwater.http.max.connections=16",
        "headwater.authentication.timeout.ms=60000",
    ])
    .await;
    let address = guarded.node.http().trim_start_matches("https://").to_owned();
    let mut silent = Vec::new();
    for _ in 0..16 {
        silent.push(TcpStream::connect(&address).await.unwrap());
    }
    let bob = tokio::time::timeout(Duration::from_secs(30), guarded.kafka("bob")).await;
    assert!(bob.is_ok(), "the broker's places are not theirs");
    let begun = Instant::now();
    while guarded.request("GET", "/subjects").basic_auth("bob", Some("bob")).send().await.is_err() {
        assert!(begun.elapsed() < Duration::from_secs(30), "nobody makes room");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    drop(silent);
    guarded.node.shutdown().await;
}

/// More slow bodies than there is room for hold back nobody but who sends them, and not for long.
#[tokio::test]
async fn slow_bodies_hold_back_neither_others_nor_small_requests() {
    let directory = tempfile::tempdir().unwrap();
    let users = directory.path().join("users");
    std::fs::write(&users, "eve=eve\nbob=bob\n").unwrap();
    let users = format!("headwater.sasl.users.file={}", users.display());
    let all = settings(&["headwater.http.security.protocol=SASL_PLAINTEXT", &users]);
    let node = start(directory.path(), "127.0.0.1:0", &all).await.unwrap();
    let address = node.http().trim_start_matches("http://").to_owned();
    // eve:eve
    let head = "POST /subjects/a-value/versions HTTP/1.1\r\nHost: a\r\nAuthorization: Basic ZXZlOmV2ZQ==\r\n";
    let mut slow = Vec::new();
    for _ in 0..40 {
        let mut stream = TcpStream::connect(&address).await.unwrap();
        stream.write_all(format!("{head}Content-Length: 4194304\r\n\r\n{{").as_bytes()).await.unwrap();
        slow.push(stream);
    }
    // Each of them is at its body: the first answers of eve come after they have begun.
    tokio::time::sleep(Duration::from_millis(500)).await;
    let register = async |user: &str, size: usize| {
        let padded = schema().unwrap().to_string() + &" ".repeat(size);
        let request = reqwest::Client::new().post(format!("{}/subjects/b-value/versions", node.http()));
        let begun = Instant::now();
        let (status, said) = answer(request.basic_auth(user, Some(user)).body(padded)).await;
        (status, begun.elapsed(), said)
    };
    for (user, size) in [("bob", 100), ("bob", 3 << 20), ("eve", 100)] {
        let (status, took, said) = register(user, size).await;
        assert_eq!(status, 200, "{user} {size}: {said}");
        assert!(took < Duration::from_secs(4), "{user} {size}: {took:?}");
    }
    // What eve sends that is large waits for what eve sends that is slow, and is told so.
    let (status, took, said) = register("eve", 3 << 20).await;
    assert_eq!(status, 503, "{said}");
    assert!(took < Duration::from_secs(15), "{took:?}");
    drop(slow);
    let begun = Instant::now();
    while register("eve", 3 << 20).await.0 != 200 {
        assert!(begun.elapsed() < Duration::from_secs(20), "the room does not come back");
    }
    // A body that is longer than it says does not get more room by that.
    let chunk = "x".repeat(200 << 10);
    let both = format!(
        "{head}Connection: close\r\nContent-Length: 10\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n{chunk}\r\n0\r\n\r\n",
        chunk.len()
    );
    let said = raw(&address, both.as_bytes()).await;
    assert!(said.starts_with("HTTP/1.1 4"), "{said}");
    assert!(!said.starts_with("HTTP/1.1 422"), "it was read to its end: {said}");
    // A body that is not there in time ends by itself.
    let begun = Instant::now();
    let said =
        raw(&address, format!("{head}Connection: close\r\nContent-Length: 100\r\n\r\n{{").as_bytes()).await;
    assert!(said.starts_with("HTTP/1.1 408"), "{said}");
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    node.shutdown().await;
}

/// Live pages never end by themselves: a user who opens many keeps nobody out.
#[tokio::test]
async fn a_user_has_half_of_the_connections_at_most() {
    let guarded = Guarded::start(&["headwater.http.max.connections=8"]).await;
    let live = async |user: &str| {
        let request = guarded.request("GET", "/console/live").basic_auth(user, Some(user));
        request.send().await.unwrap()
    };
    let mut pages = Vec::new();
    for _ in 0..4 {
        let page = live("eve").await;
        assert_eq!(page.status(), 200);
        pages.push(page);
    }
    for _ in 0..4 {
        assert_eq!(live("eve").await.status(), 503);
    }
    assert_eq!(guarded.get("bob", "/subjects").await.0, 200);
    pages.pop();
    let begun = Instant::now();
    while live("eve").await.status() != 200 {
        assert!(begun.elapsed() < Duration::from_secs(20), "the place does not come back");
    }
    guarded.node.shutdown().await;
}

#[tokio::test]
async fn what_a_node_may_do_on_another_kafka_is_not_lent_to_whoever_comes() {
    let guarded = Guarded::start(&[]).await;
    let directory = tempfile::tempdir().unwrap();
    let users = directory.path().join("users");
    std::fs::write(&users, "carol=carol\n").unwrap();
    let users = format!("headwater.sasl.users.file={}", users.display());
    let security = |lines: &str| headwater_client::Security::parse(lines).unwrap();
    let ca = guarded.ca.trust("company");
    let root = format!(
        "security.protocol=SASL_SSL\nsasl.mechanism=SCRAM-SHA-512\nsasl.username=root\nsasl.password=root\nssl.ca={}\n",
        ca.display()
    );
    let beside = async |all: &[&str], client: &str| {
        headwater_node::Node::start(headwater_node::NodeConfig {
            data_dir: directory.path().join("none"),
            kafka: "127.0.0.1:0".parse().unwrap(),
            http: "127.0.0.1:0".parse().unwrap(),
            bootstrap: Some(guarded.node.kafka().to_owned()),
            default_partitions: 1,
            config_file: None,
            configs: settings(all),
            security: security(client),
        })
        .await
    };
    let said = beside(&[], &root).await.err().expect("it does not start").to_string();
    for part in [guarded.node.kafka(), "headwater.http.security.protocol", "--insecure"] {
        assert!(said.contains(part), "{said}");
    }
    let clear = beside(&["headwater.http.security.protocol=SASL_PLAINTEXT", &users], &root).await.unwrap();
    let subjects = async |node: &headwater_node::Node, user: Option<&str>| {
        let request = reqwest::Client::new().get(format!("{}/subjects", node.http()));
        let request = match user {
            Some(user) => request.basic_auth(user, Some(user)),
            None => request,
        };
        answer(request).await.0
    };
    assert_eq!((subjects(&clear, None).await, subjects(&clear, Some("carol")).await), (401, 200));
    clear.shutdown().await;
    let spelled = beside(&["headwater.insecure=true"], &root).await.unwrap();
    assert_eq!(subjects(&spelled, None).await, 200);
    spelled.shutdown().await;
    guarded.node.shutdown().await;
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
