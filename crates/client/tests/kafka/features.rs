//! A producer lives through changes of `transaction.version`. Everybody's broker changes with it, so it wants one to
//! itself, which HEADWATER_TEST_CHANGES_FEATURES says; `cargo xtask test` starts one.

use std::time::Instant;

use bytes::{BufMut, Bytes, BytesMut};
use headwater_client::{Client, Isolation, Producer};
use headwater_wire::messages::{FeatureUpdateKey, UpdateFeaturesRequestData, UpdateFeaturesResponseData};
use headwater_wire::{ApiKey, KafkaString, request_header_version, response_header_version};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::{
    PATIENCE, bootstrap, named, read_all, record, send, topic, transactional, unique, values,
};
use crate::wire;

const FEATURE: &str = "transaction.version";
const VERSION: i16 = 1;
const UPGRADE: i8 = 1;
const SAFE_DOWNGRADE: i8 = 2;

/// As `kafka-features.sh` does.
async fn finalize(level: i16, upgrade_type: i8) {
    let key = ApiKey::UpdateFeatures as i16;
    assert_eq!((request_header_version(key, VERSION), response_header_version(key, VERSION)), (2, 1));
    let update = FeatureUpdateKey::default()
        .with_feature(KafkaString::from_static(FEATURE))
        .with_max_version_level(level)
        .with_upgrade_type(upgrade_type);
    let mut frame = BytesMut::new();
    frame.put_i16(key);
    frame.put_i16(VERSION);
    frame.put_i32(1);
    // No client id, and no tags.
    frame.put_i16(-1);
    frame.put_u8(0);
    let request =
        UpdateFeaturesRequestData::default().with_timeout_ms(10_000).with_feature_updates(vec![update]);
    request.write(&mut frame, VERSION).unwrap();
    let mut stream = TcpStream::connect(bootstrap().unwrap()).await.unwrap();
    stream.write_i32(frame.len() as i32).await.unwrap();
    stream.write_all(&frame).await.unwrap();
    let mut answer = vec![0; stream.read_i32().await.unwrap() as usize];
    stream.read_exact(&mut answer).await.unwrap();
    let answer = UpdateFeaturesResponseData::read(&mut Bytes::from(answer).slice(5..), VERSION).unwrap();
    assert_eq!(answer.error_code, 0, "{answer:?}");
}

/// Every new producer opens a connection to its coordinator, by which the client hears of it.
async fn heard(client: &Client, level: i16) {
    let begun = Instant::now();
    while client.finalized_level(FEATURE) != level {
        assert!(begun.elapsed() < PATIENCE, "{FEATURE} {level} is not heard of");
        drop(transactional(client, &unique("tx")).await);
    }
}

/// Two transactions.
async fn write(producer: &Producer, topic: &str, value: &str) {
    for round in 0..2 {
        producer.begin_transaction().await.unwrap();
        send(producer, record(topic, 0, format!("{value}:{round}"))).await;
        producer.commit_transaction().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_producer_lives_through_changes_of_the_feature() {
    if std::env::var_os("HEADWATER_TEST_CHANGES_FEATURES").is_none() {
        eprintln!("skipped: HEADWATER_TEST_CHANGES_FEATURES does not say that the broker is ours alone");
        return;
    }
    wire::listen();
    let name = unique("features");
    let Some(client) = named(&name).await else { return };
    let topic = topic(&client, 1).await;
    let living = transactional(&client, &unique("tx")).await;
    let ends = || wire::asked(&name, "EndTxn");
    // A broker of this repository begins with 2.
    if client.finalized_level(FEATURE) == 2 {
        finalize(1, SAFE_DOWNGRADE).await;
    }
    heard(&client, 1).await;
    write(&living, &topic, "first").await;
    assert!(ends().iter().all(|version| *version == 4), "{:?}", ends());
    finalize(2, UPGRADE).await;
    heard(&client, 2).await;
    let before = ends().len();
    write(&living, &topic, "second").await;
    assert!(ends()[before..].iter().all(|version| *version == 5), "{:?}", ends());
    finalize(1, SAFE_DOWNGRADE).await;
    heard(&client, 1).await;
    let before = ends().len();
    write(&living, &topic, "third").await;
    assert!(ends()[before..].iter().all(|version| *version == 4), "{:?}", ends());
    let committed = values(&read_all(&client, &topic, Isolation::Committed).await);
    assert_eq!(committed, ["first:0", "first:1", "second:0", "second:1", "third:0", "third:1"]);
}
