//! What the console asks of services: an entry of the catalog is a claim, and decides nothing.

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use headwater_client::{Client, ClientError, NewTopic, ProduceRecord, Producer, ProducerConfig};
use headwater_model::acl::{Operation, ResourceType};
use headwater_security::server::{Mapping, ServerTls};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::certificates::Authority;
use crate::support::{Guarded, start};

const CATALOG: &str = "_headwater.catalog";

/// Something that answers by HTTP, as what it says it is.
struct Answering {
    address: String,
    asked: Arc<AtomicUsize>,
    group: Arc<Mutex<Option<&'static str>>>,
}

impl Answering {
    async fn start() -> Self {
        let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", socket.local_addr().unwrap());
        let (asked, group) = (Arc::new(AtomicUsize::new(0)), Arc::new(Mutex::new(None)));
        let (count, who) = (Arc::clone(&asked), Arc::clone(&group));
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = socket.accept().await {
                count.fetch_add(1, Ordering::SeqCst);
                let _ = stream.read(&mut [0; 4096]).await;
                let who =
                    who.lock().unwrap().map_or_else(String::new, |who| format!("headwater-group: {who}\r\n"));
                let body = r#"{"secret":"of another"}"#;
                let head = format!(
                    "HTTP/1.1 200 OK\r\n{who}Connection: close\r\nContent-Length: {}\r\n\r\n",
                    body.len()
                );
                let _ = stream.write_all(format!("{head}{body}").as_bytes()).await;
            }
        });
        Self { address, asked, group }
    }
}

/// Says in the catalog where a service answers.
async fn claim(client: &Client, name: &str, entry: Value) -> Result<(), ClientError> {
    let producer = Producer::new(client, ProducerConfig::default()).await?;
    let record = ProduceRecord {
        topic: CATALOG.to_owned(),
        key: Some(format!("service/{name}").into_bytes().into()),
        value: Some(entry.to_string().into_bytes().into()),
        ..ProduceRecord::default()
    };
    producer.send(record).await?.await.map(drop)
}

async fn guarded() -> Guarded {
    let guarded = Guarded::start(&[]).await;
    let root = guarded.kafka("root").await;
    root.create_topic(NewTopic::new(CATALOG, 1).config("cleanup.policy", "compact")).await.unwrap();
    for user in ["bob", "eve"] {
        guarded.allow(user, Operation::Write, ResourceType::Topic, CATALOG).await;
        guarded.allow(user, Operation::Read, ResourceType::Group, user).await;
    }
    guarded
}

/// What the console answers for a store, once it has read the entry.
async fn store(guarded: &Guarded, service: &str) -> (u16, Value) {
    let begun = Instant::now();
    loop {
        let (status, said) = guarded.get("root", &format!("/api/v1/services/{service}/stores/totals")).await;
        if status != 404 {
            return (status, said);
        }
        assert!(begun.elapsed() < Duration::from_secs(20), "the console has not read the entry: {said}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test]
async fn nothing_is_passed_on_but_the_word_of_the_service_itself() {
    let guarded = guarded().await;
    let bob = guarded.kafka("bob").await;
    let there = Answering::start().await;
    claim(&bob, "bob", json!({ "group_id": "bob", "http": there.address })).await.unwrap();
    // What is no service, and a service of another group.
    for group in [None, Some("other")] {
        *there.group.lock().unwrap() = group;
        let (status, said) = store(&guarded, "bob").await;
        assert_eq!(status, 502, "{group:?}: {said}");
        assert!(!said.to_string().contains("secret"), "{said}");
    }
    let (_, of_something) = store(&guarded, "bob").await;
    *there.group.lock().unwrap() = Some("bob");
    assert_eq!(store(&guarded, "bob").await, (200, json!({ "secret": "of another" })));

    // Whether anything is there at all is not told.
    let nothing = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    claim(&bob, "bob", json!({ "group_id": "bob", "http": format!("http://{nothing}") })).await.unwrap();
    let begun = Instant::now();
    let of_nothing = loop {
        let (status, said) = store(&guarded, "bob").await;
        if status == 502 {
            break said.to_string();
        }
        assert!(begun.elapsed() < Duration::from_secs(20), "{said}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    };
    let expected = of_something.to_string().replace(&there.address, &format!("http://{nothing}"));
    assert_eq!(of_nothing, expected);
    guarded.node.shutdown().await;
}

#[tokio::test]
async fn an_address_beyond_services_is_not_asked() {
    let guarded = guarded().await;
    let bob = guarded.kafka("bob").await;
    let there = Answering::start().await;
    *there.group.lock().unwrap() = Some("bob");
    let elsewhere = ["http://169.254.169.254".to_owned(), format!("{}/admin", there.address)];
    for (index, http) in elsewhere.iter().enumerate() {
        let name = format!("bob-{index}");
        guarded.allow("bob", Operation::Read, ResourceType::Group, &name).await;
        claim(&bob, &name, json!({ "group_id": "bob", "http": http })).await.unwrap();
        let (status, said) = store(&guarded, &name).await;
        assert_eq!(status, 502, "{said}");
        assert!(said.to_string().contains("which no service is asked at"), "{said}");
    }
    assert_eq!(there.asked.load(Ordering::SeqCst), 0);
    guarded.node.shutdown().await;
}

#[tokio::test]
async fn where_rules_count_an_address_is_written_by_who_speaks_for_the_group() {
    let guarded = guarded().await;
    let eve = guarded.kafka("eve").await;
    let http = "http://127.0.0.1:1";
    for (name, entry) in [
        ("bob", json!({ "group_id": "bob", "http": http })),
        ("bob", json!({ "http": http })),
        ("bob", json!({ "group_id": "eve", "http": http })),
        ("eve", json!({ "group_id": "bob", "http": http })),
    ] {
        let refused = claim(&eve, name, entry).await.expect_err(name).to_string();
        assert!(refused.contains("READ on GROUP bob"), "{refused}");
    }
    claim(&eve, "eve", json!({ "group_id": "eve", "http": http })).await.unwrap();
    claim(&eve, "connect-shop", json!({ "team": "sales", "reads": ["orders"] })).await.unwrap();
    let told = |line: &Value| line["resource"] == json!({ "name": "bob", "type": "GROUP" });
    let line = guarded.audited(told).await;
    assert_eq!((&line["principal"], &line["operation"]), (&json!("User:eve"), &json!("READ")), "{line}");
    guarded.node.shutdown().await;
}

/// A service of the group `bob` that asks for certificates, and whom those named that came in.
async fn secured(ca: &Authority, own: &Path) -> (String, Arc<Mutex<Vec<String>>>) {
    let settings = [
        ("ssl.keystore.location", own.display().to_string()),
        ("ssl.truststore.location", ca.trust("company").display().to_string()),
        ("ssl.client.auth", "required".to_owned()),
    ];
    let of = |key: &str| settings.iter().find(|(known, _)| *known == key).map(|(_, value)| value.as_str());
    let tls = ServerTls::load("HTTP", &of).unwrap();
    let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("https://{}", socket.local_addr().unwrap());
    let seen = Arc::new(Mutex::new(Vec::new()));
    let named = Arc::clone(&seen);
    tokio::spawn(async move {
        while let Ok((stream, _)) = socket.accept().await {
            let Ok(mut stream) = tls.acceptor().accept(stream).await else { continue };
            let certificate = stream.get_ref().1.peer_certificates().unwrap()[0].clone();
            named.lock().unwrap().extend(Mapping::parse("").unwrap().named(&certificate));
            let _ = stream.read(&mut [0; 4096]).await;
            let head =
                "HTTP/1.1 200 OK\r\nheadwater-group: bob\r\nConnection: close\r\nContent-Length: 7\r\n\r\n";
            let _ = stream.write_all(format!("{head}{{\"a\":1}}").as_bytes()).await;
            let _ = stream.shutdown().await;
        }
    });
    (address, seen)
}

#[tokio::test]
async fn a_service_that_asks_who_its_clients_are_sees_the_node() {
    let directory = tempfile::tempdir().unwrap();
    let services = Authority::new(directory.path(), "company");
    let (address, seen) = secured(&services, &services.issue("bob", &["127.0.0.1"])).await;
    let (file, own) = (directory.path().join("services.properties"), services.issue("console", &[]));
    let text = format!(
        "ssl.ca={}\nssl.keystore.location={}\nbasic.auth.user.info=node:hunter2\n",
        services.trust("company").display(),
        own.display()
    );
    std::fs::write(&file, text).unwrap();
    let named = format!("headwater.services.config.file={}", file.display());
    for (more, expected) in [(vec![named.as_str()], 200), (vec![], 502)] {
        let guarded = Guarded::start(&more).await;
        let root = guarded.kafka("root").await;
        root.create_topic(NewTopic::new(CATALOG, 1).config("cleanup.policy", "compact")).await.unwrap();
        claim(&root, "bob", json!({ "group_id": "bob", "http": address })).await.unwrap();
        let (status, said) = store(&guarded, "bob").await;
        assert_eq!(status, expected, "{said}");
        assert_eq!(*seen.lock().unwrap(), ["CN=console,O=Example"], "the node's own, and once");
        guarded.node.shutdown().await;
    }
    std::fs::write(&file, "ssl.truststore.location=/nowhere").unwrap();
    let told =
        start(directory.path(), "127.0.0.1:0", &[named]).await.err().expect("it is refused").to_string();
    assert!(told.contains("headwater.services.config.file") && told.contains("/nowhere"), "{told}");
}
