//! One writer per stream, and a service's own streams are its own: with clients that have proved who they are.

use std::path::Path;

use bytes::Bytes;
use headwater_broker::Broker;
use headwater_wire::messages::*;
use headwater_wire::{ErrorCode, Producer};

use crate::common::{self, Raw, batch, batch_of, config, fetch, produce};

const REFUSED: ErrorCode = ErrorCode::TopicAuthorizationFailed;

/// `root` is a super-user; nobody is kept from anything by access rules.
async fn start(directory: &Path) -> Broker {
    let users = directory.join("users");
    std::fs::write(&users, "root=r\nshop=s\nother=o\n").unwrap();
    let mut config = config(&directory.join("data"));
    let users = format!("headwater.sasl.users.file={}", users.display());
    for setting in [
        "listeners=SASL_PLAINTEXT://127.0.0.1:0",
        "headwater.sasl.plain.insecure=true",
        "super.users=User:root",
        users.as_str(),
    ] {
        config.set(setting).unwrap();
    }
    Broker::start(config).await.unwrap()
}

async fn login(broker: &Broker, user: &str) -> Raw {
    let mut raw = Raw::connect(broker).await;
    let handshake = SaslHandshakeRequestData::default().with_mechanism("PLAIN".to_owned().into());
    assert_eq!(raw.call(&handshake, 1).await.error_code, 0);
    let token = Bytes::from(format!("\0{user}\0{}", &user[..1]));
    let authenticate = SaslAuthenticateRequestData::default().with_auth_bytes(token);
    assert_eq!(raw.call(&authenticate, 2).await.error_code, 0);
    raw
}

async fn write(raw: &mut Raw, topic: &str) -> (ErrorCode, String) {
    let response = raw.produce(topic, 0, batch(&["x"])).await;
    let message = response.error_message.map_or_else(String::new, |message| message.to_string());
    (ErrorCode::from(response.error_code), message)
}

async fn read(raw: &mut Raw, topic: &str) -> ErrorCode {
    let mut response = raw.call(&fetch(topic, 0, 0), 11).await;
    ErrorCode::from(response.responses.remove(0).partitions.remove(0).error_code)
}

async fn set(raw: &mut Raw, topic: &str, key: &str, value: Option<&str>) -> ErrorCode {
    let config = incremental_alter_configs_request::AlterableConfig::default()
        .with_name(key.to_owned().into())
        .with_config_operation(i8::from(value.is_none()))
        .with_value(value.map(|value| value.to_owned().into()));
    let resource = incremental_alter_configs_request::AlterConfigsResource::default()
        .with_resource_type(2)
        .with_resource_name(topic.to_owned().into())
        .with_configs(vec![config]);
    let alter = IncrementalAlterConfigsRequestData::default().with_resources(vec![resource]);
    ErrorCode::from(raw.call(&alter, 1).await.responses[0].error_code)
}

#[tokio::test]
async fn a_second_writer_is_refused_and_told_whose_it_is_and_super_users_are_no_exception() {
    let dir = tempfile::tempdir().unwrap();
    let broker = start(dir.path()).await;
    let [mut root, mut shop, mut other] =
        [login(&broker, "root").await, login(&broker, "shop").await, login(&broker, "other").await];
    root.create("orders", &[("headwater.owner", "User:shop")]).await;
    assert_eq!(write(&mut shop, "orders").await.0, ErrorCode::None);
    for raw in [&mut other, &mut root] {
        let (code, message) = write(raw, "orders").await;
        assert_eq!(code, REFUSED);
        assert!(message.contains("User:shop") && message.contains("headwater.owner"), "{message}");
        assert_eq!(read(raw, "orders").await, ErrorCode::None, "anybody may read");
    }
    assert_eq!(shop.values("orders", 0, false).await.len(), 1, "nothing of the others' was appended");
    for list in ["User:shop,User:other", "User:shop;User:other", "shop"] {
        assert_eq!(set(&mut root, "orders", "headwater.owner", Some(list)).await, ErrorCode::InvalidConfig);
    }
    assert_eq!(set(&mut root, "orders", "headwater.owner", Some("User:other")).await, ErrorCode::None);
    assert_eq!(write(&mut other, "orders").await.0, ErrorCode::None);
    assert_eq!(write(&mut shop, "orders").await.0, REFUSED);
    assert_eq!(set(&mut root, "orders", "headwater.owner", None).await, ErrorCode::None);
    assert_eq!(write(&mut shop, "orders").await.0, ErrorCode::None);
    broker.shutdown().await;
}

#[tokio::test]
async fn a_transaction_of_another_does_not_get_in_by_either_way() {
    let dir = tempfile::tempdir().unwrap();
    let broker = start(dir.path()).await;
    let [mut root, mut other] = [login(&broker, "root").await, login(&broker, "other").await];
    root.create("orders", &[("headwater.owner", "User:shop")]).await;
    root.create("free", &[]).await;
    let init = InitProducerIdRequestData::default()
        .with_transactional_id(Some("t".to_owned().into()))
        .with_transaction_timeout_ms(60_000)
        .with_producer_id(-1)
        .with_producer_epoch(-1);
    let identity = other.call(&init, 4).await;
    let topic = |name: &str| {
        add_partitions_to_txn_request::AddPartitionsToTxnTopic::default()
            .with_name(name.to_owned().into())
            .with_partitions(vec![0])
    };
    let add = AddPartitionsToTxnRequestData::default()
        .with_v3_and_below_transactional_id("t".to_owned().into())
        .with_v3_and_below_producer_id(identity.producer_id)
        .with_v3_and_below_producer_epoch(identity.producer_epoch)
        .with_v3_and_below_topics(vec![topic("free"), topic("orders")]);
    let added = other.call(&add, 3).await.results_by_topic_v3_and_below;
    let code = |name: &str| {
        let topic = added.iter().find(|topic| topic.name.as_str() == name).unwrap();
        ErrorCode::from(topic.results_by_partition[0].partition_error_code)
    };
    assert_eq!((code("orders"), code("free")), (REFUSED, ErrorCode::OperationNotAttempted));
    // As clients of KIP-890 do, without asking first.
    let producer = Producer { id: identity.producer_id, epoch: identity.producer_epoch, base_sequence: 0 };
    let request = produce(Some("t"), "orders", 0, batch_of(&["x"], Some(producer), true));
    let answer = other.call(&request, 12).await;
    assert_eq!(ErrorCode::from(answer.responses[0].partition_responses[0].error_code), REFUSED);
    assert!(root.values("orders", 0, false).await.is_empty());
    broker.shutdown().await;
}

#[tokio::test]
async fn a_services_own_streams_belong_to_who_creates_them() {
    let dir = tempfile::tempdir().unwrap();
    let broker = start(dir.path()).await;
    let [mut root, mut shop, mut other] =
        [login(&broker, "root").await, login(&broker, "shop").await, login(&broker, "other").await];
    for own in ["shop-totals-changelog", "shop-by-city-repartition"] {
        shop.create(own, &[]).await;
        assert_eq!(write(&mut shop, own).await.0, ErrorCode::None);
        assert_eq!(read(&mut shop, own).await, ErrorCode::None);
        assert_eq!((write(&mut other, own).await.0, read(&mut other, own).await), (REFUSED, REFUSED));
        assert_eq!((write(&mut root, own).await.0, read(&mut root, own).await), (REFUSED, ErrorCode::None));
    }
    // An ordinary name, made internal by who creates it; a name of the kind, opened by who creates it.
    shop.create("shop-private", &[("headwater.internal", "true")]).await;
    assert_eq!(read(&mut other, "shop-private").await, REFUSED);
    shop.create("shop-public-changelog", &[("headwater.internal", "false")]).await;
    assert_eq!(write(&mut other, "shop-public-changelog").await.0, ErrorCode::None);
    // A super-user creates for others, and may say for whom.
    root.create("made-for-all-changelog", &[]).await;
    assert_eq!(write(&mut other, "made-for-all-changelog").await.0, ErrorCode::None);
    let nobodys = root.try_create("nobodys", &[("headwater.internal", "true")]).await;
    assert_eq!(nobodys.error_code, ErrorCode::InvalidConfig.code(), "{nobodys:?}");
    let message = nobodys.error_message.map_or_else(String::new, |message| message.to_string());
    assert!(message.contains("headwater.owner"), "{message}");
    let for_other = [("headwater.internal", "true"), ("headwater.owner", "User:other")];
    root.create("other-x-changelog", &for_other).await;
    assert_eq!(read(&mut other, "other-x-changelog").await, ErrorCode::None);
    assert_eq!(read(&mut shop, "other-x-changelog").await, REFUSED);
    broker.shutdown().await;
}

#[tokio::test]
async fn where_everybody_is_anonymous_nothing_is_closed() {
    let dir = tempfile::tempdir().unwrap();
    let broker = common::start(dir.path()).await;
    let [mut one, mut two] = [Raw::connect(&broker).await, Raw::connect(&broker).await];
    one.create_topic("shop-totals-changelog", 1).await;
    assert_eq!(write(&mut two, "shop-totals-changelog").await.0, ErrorCode::None);
    assert_eq!(read(&mut one, "shop-totals-changelog").await, ErrorCode::None);
    broker.shutdown().await;
}
