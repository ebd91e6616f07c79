//! More silent strangers than have a place: those who are known do not notice, and the places come back.
//!
//! A binary of its own: it counts the open descriptors of its process, in which no other test may open any.

#[path = "it/common/mod.rs"]
mod common;

use std::time::{Duration, Instant};

use common::config;
use headwater_broker::Broker;
use headwater_client::{Client, ClientConfig, NewTopic, ProduceRecord, Producer, ProducerConfig, Security};
use tokio::net::TcpStream;

const SILENT: usize = 520;
/// `headwater.max.unauthenticated.connections`, as it is unless somebody sets it.
const PLACES: usize = 512;
const TIMEOUT: Duration = Duration::from_secs(10);

const ALICE: &str = "security.protocol=SASL_PLAINTEXT\nsasl.mechanism=SCRAM-SHA-256\nsasl.username=alice\nsasl.password=wonder land\n";

async fn start(directory: &std::path::Path) -> Broker {
    let users = directory.join("users");
    std::fs::write(&users, "alice=wonder land\n").expect("a file");
    let mut config = config(&directory.join("data"));
    for setting in [
        "listeners=SASL_PLAINTEXT://127.0.0.1:0",
        &format!("headwater.sasl.users.file={}", users.display()),
        &format!("headwater.authentication.timeout.ms={}", TIMEOUT.as_millis()),
    ] {
        config.set(setting).expect("a setting");
    }
    Broker::start(config).await.expect("the broker starts")
}

async fn alice(broker: &Broker) -> Result<Client, headwater_client::ClientError> {
    let security = Security::parse(ALICE).expect("settings");
    Client::connect(ClientConfig::new(broker.bootstrap(), "alice").security(security)).await
}

/// Whether the other side has ended it by now.
fn is_closed(stream: &TcpStream) -> bool {
    !matches!(stream.try_read(&mut [0]), Err(error) if error.kind() == std::io::ErrorKind::WouldBlock)
}

async fn closed_of(silent: &[TcpStream]) -> usize {
    let mut closed = 0;
    for stream in silent {
        // What has come is known to the runtime when it was waited for.
        let _ = tokio::time::timeout(Duration::from_micros(50), stream.readable()).await;
        closed += usize::from(is_closed(stream));
    }
    closed
}

/// Open descriptors of this process, in which the broker runs.
fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").map_or(0, Iterator::count)
}

#[tokio::test(flavor = "multi_thread")]
async fn silent_strangers_hold_their_places_for_a_while_and_hold_up_nobody_who_is_known() {
    let dir = tempfile::tempdir().expect("a directory");
    let broker = start(dir.path()).await;
    let known = alice(&broker).await.expect("she is known");
    known.create_topic(NewTopic::new("t", 1)).await.expect("a topic");
    let producer = Producer::new(&known, ProducerConfig::default()).await.expect("a producer");
    let before = descriptors();
    let begun = Instant::now();
    let mut silent = Vec::new();
    for _ in 0..SILENT {
        silent.push(TcpStream::connect(broker.bootstrap()).await.expect("connected"));
    }
    let mut closed = 0;
    while closed < SILENT - PLACES && begun.elapsed() < TIMEOUT / 2 {
        closed = closed_of(&silent).await;
    }
    assert_eq!(closed, SILENT - PLACES, "those beyond the limit, at once");
    for number in 0..50 {
        let record = ProduceRecord {
            topic: "t".to_owned(),
            value: Some(format!("{number}").into()),
            ..ProduceRecord::default()
        };
        producer.send(record).await.expect("a place in the queue").await.expect("acknowledged");
    }
    // She has come by further connections since, for which the oldest make room.
    let before_her = closed_of(&silent).await - (SILENT - PLACES);
    assert!(before_her < 10, "the others keep their places meanwhile, but for {before_her}");
    assert!(begun.elapsed() < TIMEOUT, "this machine is too slow for the test");
    // Who comes when they have had their places for a while does not wait until their time is over.
    tokio::time::sleep_until((begun + Duration::from_millis(1500)).into()).await;
    while alice(&broker).await.is_err() {
        assert!(begun.elapsed() < TIMEOUT, "nobody makes room");
    }
    assert!(begun.elapsed() < TIMEOUT, "this machine is too slow for the test");
    let made_room = closed_of(&silent).await - (SILENT - PLACES);
    // One place that was made for her is free again when she is known, and serves the next time.
    assert!((1..10).contains(&made_room), "{made_room} made room");
    let late = begun + 2 * TIMEOUT;
    while closed_of(&silent).await < SILENT {
        assert!(Instant::now() < late, "somebody silent is still there");
    }
    drop(silent);
    while descriptors() > before + 16 {
        assert!(Instant::now() < late, "{} descriptors, {before} before", descriptors());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    broker.shutdown().await;
}
