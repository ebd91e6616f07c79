//! What nobody should send costs the connection it came on, and nothing else.

use headwater_broker::{Broker, Config};
use headwater_wire::KafkaString;
use headwater_wire::messages::*;
use tokio::io::AsyncWriteExt;

use crate::common::{Raw, batch, config, start};

fn framed(body: &[u8]) -> Vec<u8> {
    let mut frame = (body.len() as i32).to_be_bytes().to_vec();
    frame.extend_from_slice(body);
    frame
}

/// The rest of a header, no transactional id, acks, timeout, and topics of three bytes.
fn million_topics() -> Vec<u8> {
    let mut body = vec![0, 0, 0xff, 0xff, 0, 0, 0, 9, 0xc1, 0x84, 0x3d];
    body.extend([1, 1, 0].repeat(1_000_000));
    body
}

#[tokio::test]
async fn nonsense_ends_its_own_connection_only() {
    let dir = tempfile::tempdir().unwrap();
    let broker = start(dir.path()).await;
    let mut bystander = Raw::connect(&broker).await;
    bystander.create_topic("t", 1).await;
    let header = |key: u8, version: u8| [0, key, 0, version, 0, 0, 0, 1, 0xff, 0xff];
    let with_body = |key: u8, version: u8, body: &[u8]| framed(&[&header(key, version)[..], body].concat());
    let many = i32::MAX.to_be_bytes();
    let frames: Vec<(&str, Vec<u8>)> = vec![
        ("a negative length", (-5_i32).to_be_bytes().repeat(3)),
        ("a huge length", [&i32::MAX.to_be_bytes()[..], &[0; 8]].concat()),
        ("a length that Produce alone may have", [&(50_i32 << 20).to_be_bytes()[..], &[0, 3, 0, 0]].concat()),
        ("a length shorter than a header", framed(&[0, 3, 0])),
        ("an HTTP request", b"GET / HTTP/1.1\r\nHost: headwater\r\n\r\n".to_vec()),
        ("the hello of TLS", [&[0x16, 3, 1, 2, 0, 1, 0, 1][..], &[0; 512]].concat()),
        ("an unknown API", with_body(99, 0, &[])),
        ("an unknown version", with_body(3, 90, &[])),
        ("no body", with_body(0, 9, &[])),
        ("garbage after the header", with_body(1, 11, &[0xfe; 300])),
        ("an array of 2^31 - 1", with_body(3, 1, &many)),
        (
            "a produce with 2^31 - 1 topics",
            with_body(0, 3, &[&[0xff, 0xff, 0, 1, 0, 0, 0, 9][..], &many].concat()),
        ),
        ("a produce of a million topics and no batch", with_body(0, 9, &million_topics())),
        ("a client id that is longer than the frame", framed(&[0, 3, 0, 1, 0, 0, 0, 1, 0x7f, 0xff, b'x'])),
        ("a client id that is not UTF-8", framed(&[0, 3, 0, 1, 0, 0, 0, 1, 0, 2, 0xc0, 0xaf, 0, 0, 0, 0])),
    ];
    for (what, bytes) in frames {
        let mut hostile = Raw::connect(&broker).await;
        hostile.stream.write_all(&bytes).await.unwrap();
        assert!(hostile.is_closed().await, "{what}");
        assert_eq!(bystander.produce("t", 0, batch(&["v"])).await.error_code, 0, "after {what}");
    }
}

/// In a request a topic's name stands once before its partitions; where each partition has it, it takes that often so much.
#[tokio::test]
async fn long_names_of_many_partitions_cost_the_connection_and_no_memory() {
    let dir = tempfile::tempdir().unwrap();
    let broker = start(dir.path()).await;
    let name = || KafkaString::from("n".repeat(1_000));
    let many: Vec<i32> = (0..100_000).collect();
    let mut raw = Raw::connect(&broker).await;
    let topic = offset_fetch_request::OffsetFetchRequestTopics::default()
        .with_name(name())
        .with_partition_indexes(many.clone());
    let group = offset_fetch_request::OffsetFetchRequestGroup::default()
        .with_group_id(KafkaString::from_static("g"))
        .with_topics(Some(vec![topic]));
    raw.send(&OffsetFetchRequestData::default().with_groups(vec![group]), 8).await;
    assert!(raw.is_closed().await, "OffsetFetch");
    let mut raw = Raw::connect(&broker).await;
    let topic = add_partitions_to_txn_request::AddPartitionsToTxnTopic::default()
        .with_name(name())
        .with_partitions(many.clone());
    raw.send(&AddPartitionsToTxnRequestData::default().with_v3_and_below_topics(vec![topic]), 3).await;
    assert!(raw.is_closed().await, "AddPartitionsToTxn");
    let mut raw = Raw::connect(&broker).await;
    let partition = |index: &i32| {
        offset_commit_request::OffsetCommitRequestPartition::default().with_partition_index(*index)
    };
    let topic = offset_commit_request::OffsetCommitRequestTopic::default()
        .with_name(name())
        .with_partitions(many.iter().map(partition).collect());
    raw.send(&OffsetCommitRequestData::default().with_topics(vec![topic]), 8).await;
    assert!(raw.is_closed().await, "OffsetCommit");
    let mut raw = Raw::connect(&broker).await;
    raw.create_topic("t", 1).await;
}

#[tokio::test]
async fn random_bytes_after_a_good_header_never_stop_the_broker() {
    use rand::{Rng, SeedableRng, rngs::StdRng};
    let dir = tempfile::tempdir().unwrap();
    let broker = start(dir.path()).await;
    let mut bystander = Raw::connect(&broker).await;
    bystander.create_topic("t", 1).await;
    let mut random = StdRng::seed_from_u64(7);
    for round in 0..2000_u32 {
        let key = [
            0, 1, 2, 3, 8, 9, 10, 11, 12, 13, 14, 15, 16, 18, 19, 20, 21, 22, 24, 25, 26, 28, 32, 33, 37, 44,
            61, 65, 75,
        ][random.random_range(0..29)];
        let mut body = vec![0, key, 0, random.random_range(0..10), 0, 0, 0, 1, 0xff, 0xff];
        let length = random.random_range(0..200);
        body.extend(
            (0..length)
                .map(|_| if random.random() { random.random_range(0..4) } else { random.random::<u8>() }),
        );
        let mut hostile = Raw::connect(&broker).await;
        hostile.stream.write_all(&framed(&body)).await.unwrap();
        drop(hostile);
        if round % 500 == 0 {
            assert_eq!(bystander.produce("t", 0, batch(&["v"])).await.error_code, 0, "round {round}");
        }
    }
    assert_eq!(bystander.produce("t", 0, batch(&["v"])).await.error_code, 0);
    broker.shutdown().await;
}

#[tokio::test]
async fn a_request_that_stops_half_way_is_given_up() {
    let dir = tempfile::tempdir().unwrap();
    let limits = Config { transfer_timeout: std::time::Duration::from_millis(100), ..config(dir.path()) };
    let broker = Broker::start(limits).await.unwrap();
    let mut slow = Raw::connect(&broker).await;
    slow.stream.write_all(&[0, 0, 1, 0, 0, 3]).await.unwrap();
    assert!(slow.is_closed().await);
}

#[tokio::test]
async fn connections_above_the_limit_are_closed_and_places_come_back() {
    let dir = tempfile::tempdir().unwrap();
    let broker = Broker::start(Config { max_connections: 1, ..config(dir.path()) }).await.unwrap();
    let mut first = Raw::connect(&broker).await;
    first.create_topic("t", 1).await;
    assert!(Raw::connect(&broker).await.is_closed().await);
    drop(first);
    loop {
        let mut next = Raw::connect(&broker).await;
        let request = headwater_wire::messages::ApiVersionsRequestData::default();
        next.send(&request, 0).await;
        if next.frame().await.is_ok() {
            break;
        }
    }
}
