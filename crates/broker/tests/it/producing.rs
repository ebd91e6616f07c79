//! What a broker accepts of a producer.

use bytes::{Bytes, BytesMut};
use headwater_wire::messages::*;
use headwater_wire::{BatchBuilder, Compression, ErrorCode, Producer};

use crate::common::{Raw, batch, batch_of, batches, fetch, produce, start};

fn sequence(base_sequence: i32) -> Option<Producer> {
    Some(Producer { id: 4711, epoch: 0, base_sequence })
}

#[tokio::test]
async fn offsets_count_up_and_the_bytes_come_back() {
    let dir = tempfile::tempdir().unwrap();
    let broker = start(dir.path()).await;
    let mut raw = Raw::connect(&broker).await;
    raw.create_topic("t", 1).await;
    assert_eq!(raw.produce("t", 0, batch(&["a", "b"])).await.base_offset, 0);
    assert_eq!(raw.produce("t", 0, batch(&["c"])).await.base_offset, 2);
    assert_eq!(raw.values("t", 0, false).await, ["a", "b", "c"]);
}

#[tokio::test]
async fn a_bad_batch_is_refused_for_its_partition_alone() {
    let dir = tempfile::tempdir().unwrap();
    let broker = start(dir.path()).await;
    let mut raw = Raw::connect(&broker).await;
    raw.create_topic("t", 1).await;
    let mut flipped = BytesMut::from(&batch(&["value"])[..]);
    *flipped.last_mut().unwrap() ^= 1;
    let marker = headwater_wire::batch::transaction_marker(1, 0, true, 0, 5);
    let two = Bytes::from([batch(&["a"]), batch(&["b"])].concat());
    let of_format = |magic: u8| {
        let mut bytes = BytesMut::from(&batch(&["value"])[..]);
        bytes[16] = magic;
        bytes.freeze()
    };
    let mut future = BatchBuilder::new();
    future.push(i64::MAX / 2, None, Some(b"v"), &[]);
    let future = future.build(Compression::None, None, false).unwrap();
    let large = batch(&[&"x".repeat(2 << 20)]);
    for (bytes, code) in [
        (flipped.freeze(), ErrorCode::CorruptMessage),
        (batch(&["value"]).slice(..70), ErrorCode::InvalidRecord),
        (Bytes::new(), ErrorCode::InvalidRecord),
        (marker, ErrorCode::InvalidRecord),
        (two, ErrorCode::InvalidRecord),
        (of_format(1), ErrorCode::InvalidRecord),
        (of_format(3), ErrorCode::CorruptMessage),
        (future, ErrorCode::InvalidTimestamp),
        (large, ErrorCode::MessageTooLarge),
    ] {
        assert_eq!(ErrorCode::from(raw.produce("t", 0, bytes).await.error_code), code);
    }
    let unknown = raw.produce("unknown", 0, batch(&["v"])).await;
    assert_eq!(unknown.error_code, ErrorCode::UnknownTopicOrPartition.code());
    let mut mixed = produce(None, "t", 0, batch(&["good"]));
    let bad = PartitionProduceData::default().with_index(5).with_records(Some(batch(&["v"])));
    mixed.topic_data[0].partition_data.push(bad);
    let response = raw.call(&mixed, 9).await;
    let codes: Vec<_> = response.responses[0].partition_responses.iter().map(|p| p.error_code).collect();
    assert_eq!(codes, [0, ErrorCode::UnknownTopicOrPartition.code()]);
    assert_eq!(raw.values("t", 0, false).await, ["good"]);
}

#[tokio::test]
async fn a_retry_is_recognized_and_a_gap_refused() {
    let dir = tempfile::tempdir().unwrap();
    let broker = start(dir.path()).await;
    let mut raw = Raw::connect(&broker).await;
    raw.create_topic("t", 1).await;
    assert_eq!(raw.produce("t", 0, batch_of(&["a"], sequence(0), false)).await.base_offset, 0);
    assert_eq!(raw.produce("t", 0, batch_of(&["b"], sequence(1), false)).await.base_offset, 1);
    let again = raw.produce("t", 0, batch_of(&["a"], sequence(0), false)).await;
    assert_eq!((again.error_code, again.base_offset), (0, 0));
    let gap = raw.produce("t", 0, batch_of(&["d"], sequence(3), false)).await;
    assert_eq!(gap.error_code, ErrorCode::OutOfOrderSequenceNumber.code());
    assert_eq!(raw.values("t", 0, false).await, ["a", "b"]);
}

#[tokio::test]
async fn a_retry_that_overtakes_its_commit_is_answered_after_it() {
    let dir = tempfile::tempdir().unwrap();
    let broker = start(dir.path()).await;
    let mut raw = Raw::connect(&broker).await;
    raw.create_topic("t", 1).await;
    let request = produce(None, "t", 0, batch_of(&["a"], sequence(0), false));
    for _ in 0..10 {
        raw.send(&request, 9).await;
    }
    for behind in (0..10).rev() {
        let response = raw.receive::<ProduceRequestData>(9, behind).await;
        assert_eq!(response.responses[0].partition_responses[0].base_offset, 0);
    }
    assert_eq!(raw.values("t", 0, false).await, ["a"]);
}

#[tokio::test]
async fn acks_0_is_not_answered_and_takes_effect() {
    let dir = tempfile::tempdir().unwrap();
    let broker = start(dir.path()).await;
    let mut raw = Raw::connect(&broker).await;
    raw.create_topic("t", 1).await;
    raw.send(&produce(None, "t", 0, batch(&["silent"])).with_acks(0), 9).await;
    assert_eq!(raw.produce("t", 0, batch(&["loud"])).await.base_offset, 1);
    let refused = raw.call(&produce(None, "t", 0, batch(&["v"])).with_acks(2), 9).await;
    let code = refused.responses[0].partition_responses[0].error_code;
    assert_eq!(code, ErrorCode::InvalidRequiredAcks.code());
    assert_eq!(raw.values("t", 0, false).await, ["silent", "loud"]);
}

/// As in Apache Kafka: it learns from that what no answer tells it.
#[tokio::test]
async fn acks_0_ends_the_connection_where_records_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let broker = start(dir.path()).await;
    let mut raw = Raw::connect(&broker).await;
    raw.create_topic("t", 1).await;
    for (topic, partition) in [("t", 1), ("other", 0)] {
        let mut silent = Raw::connect(&broker).await;
        silent.send(&produce(None, topic, partition, batch(&["v"])).with_acks(0), 9).await;
        assert!(silent.is_closed().await, "{topic}-{partition}");
    }
    assert_eq!(raw.produce("t", 0, batch(&["loud"])).await.base_offset, 0);
}

#[tokio::test]
async fn a_topic_with_append_time_is_stamped_by_the_broker() {
    let dir = tempfile::tempdir().unwrap();
    let broker = start(dir.path()).await;
    let mut raw = Raw::connect(&broker).await;
    raw.create("t", &[("message.timestamp.type", "LogAppendTime")]).await;
    let mut builder = BatchBuilder::new();
    builder.push(5, None, Some(b"v"), &[]);
    let produced = raw.produce("t", 0, builder.build(Compression::None, None, false).unwrap()).await;
    assert!(produced.log_append_time_ms > 1_500_000_000_000, "{produced:?}");
    let data = raw.fetch("t", 0, 0, false).await;
    assert_eq!(batches(data.records.unwrap())[0].1[0].timestamp, produced.log_append_time_ms);
}

/// Retention and searches by time go by it. Sarama before 1.45.1 leaves it at −1, and a client may say that the broker has
/// stamped what it sends.
#[tokio::test]
async fn the_time_of_a_batch_is_that_of_its_latest_record_whatever_its_producer_says() {
    let dir = tempfile::tempdir().unwrap();
    let broker = start(dir.path()).await;
    let mut raw = Raw::connect(&broker).await;
    raw.create_topic("t", 1).await;
    let times = [5_000_i64, 7_000, 6_000];
    for codec in [Compression::None, Compression::Gzip] {
        let mut builder = BatchBuilder::new();
        for time in times {
            builder.push(time, None, Some(b"v"), &[]);
        }
        let right = builder.build(codec, None, false).unwrap();
        let mut unstamped = BytesMut::from(&right[..]);
        unstamped[35..43].copy_from_slice(&(-1_i64).to_be_bytes());
        let mut appended = BytesMut::from(&right[..]);
        headwater_wire::batch::assign_append_time(&mut appended, 99_000);
        for bytes in [unstamped, appended] {
            let produced = raw.produce("t", 0, seal(bytes)).await;
            assert_eq!((produced.error_code, produced.log_append_time_ms), (0, -1), "{codec:?}");
        }
    }
    let fetched = batches(raw.fetch("t", 0, 0, false).await.records.unwrap());
    assert_eq!(fetched.len(), 4);
    for (header, records) in fetched {
        assert_eq!((header.max_timestamp, header.is_log_append_time()), (7_000, false));
        assert_eq!(records.iter().map(|record| record.timestamp).collect::<Vec<_>>(), times);
    }
}

#[tokio::test]
async fn a_record_that_is_too_old_is_refused_behind_a_young_one() {
    let dir = tempfile::tempdir().unwrap();
    let broker = start(dir.path()).await;
    let mut raw = Raw::connect(&broker).await;
    raw.create("t", &[("message.timestamp.before.max.ms", "3600000")]).await;
    let young = batches(batch(&["young"]))[0].0.max_timestamp;
    for codec in [Compression::None, Compression::Gzip] {
        let mut builder = BatchBuilder::new();
        builder.push(young, None, Some(b"young"), &[]);
        let alone = builder.build(codec, None, false).unwrap();
        assert_eq!(raw.produce("t", 0, alone).await.error_code, 0, "{codec:?}");
        builder.push(young, None, Some(b"young"), &[]);
        builder.push(5_000, None, Some(b"old"), &[]);
        let refused = raw.produce("t", 0, builder.build(codec, None, false).unwrap()).await;
        assert_eq!(refused.error_code, ErrorCode::InvalidTimestamp.code(), "{codec:?}: {refused:?}");
        let wrong: Vec<_> = refused.record_errors.iter().map(|record| record.batch_index).collect();
        assert_eq!(wrong, [1], "the old one is named");
        assert!(refused.record_errors[0].batch_index_error_message.is_some());
    }
}

/// Puts the length and the checksum of a batch right.
fn seal(mut batch: BytesMut) -> Bytes {
    let length = batch.len() as i32 - 12;
    batch[8..12].copy_from_slice(&length.to_be_bytes());
    // It changes nothing but the checksum.
    let nobody = Producer { id: -1, epoch: -1, base_sequence: -1 };
    headwater_wire::batch::assign_producer(&mut batch, nobody);
    batch.freeze()
}

/// The batch of plain records, with others in their place under a codec.
fn packed(plain: &[u8], records: &[u8], codec: Compression) -> Bytes {
    let mut batch = BytesMut::from(&plain[..headwater_wire::batch::HEADER_LEN]);
    batch.extend_from_slice(&codec.compress(records).unwrap());
    batch[22] = codec as u8;
    seal(batch)
}

const PACKED: [Compression; 4] =
    [Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd];

/// Whoever may write could keep every consumer from what comes behind it.
#[tokio::test]
async fn what_is_wrong_within_a_record_is_found_in_compressed_batches() {
    let dir = tempfile::tempdir().unwrap();
    let broker = start(dir.path()).await;
    let mut raw = Raw::connect(&broker).await;
    raw.create_topic("free", 1).await;
    let rules = [
        ("compacted", ("cleanup.policy", "compact")),
        ("stamped", ("message.timestamp.type", "LogAppendTime")),
        ("repacked", ("compression.type", "zstd")),
    ];
    for (name, rule) in rules {
        raw.create(name, &[rule]).await;
    }
    let mut builder = BatchBuilder::new();
    builder.push(5_000, Some(b"k"), Some(b"v"), &[]);
    builder.push(5_000, Some(b"k"), Some(b"v"), &[]);
    let plain = builder.build(Compression::None, None, false).unwrap();
    let right = &plain[headwater_wire::batch::HEADER_LEN..];
    let with = |at: usize, byte: u8| {
        let mut records = right.to_vec();
        records[at] = byte;
        records
    };
    let half = right.len() / 2;
    // A record is its length, attributes, time, place, key and value behind their lengths, and its count of headers.
    let wrong = [
        ("a header that is not there", with(right.len() - 1, 2)),
        ("a value longer than its record", with(right.len() - 3, 20)),
        ("a length below zero", with(right.len() - 5, 3)),
        ("a place that was had", with(half + 3, 0)),
        ("a place beyond the batch", with(half + 3, 4)),
        ("a record less", right[..half].to_vec()),
        ("half a record", right[..half + 3].to_vec()),
        ("bytes behind the last", [right, &[0][..]].concat()),
    ];
    for topic in ["free", "compacted", "stamped", "repacked"] {
        for codec in PACKED {
            let taken = raw.produce(topic, 0, packed(&plain, right, codec)).await;
            assert_eq!(taken.error_code, 0, "{topic}, {codec:?}: {taken:?}");
            for (what, records) in &wrong {
                let refused = raw.produce(topic, 0, packed(&plain, records, codec)).await;
                let code = ErrorCode::from(refused.error_code);
                assert_eq!(code, ErrorCode::InvalidRecord, "{topic}, {codec:?}: {what}");
            }
        }
        assert_eq!(raw.values(topic, 0, false).await, ["v"; 8], "{topic}");
    }
}

#[tokio::test]
async fn a_batch_that_nobody_unpacks_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let broker = start(dir.path()).await;
    let mut raw = Raw::connect(&broker).await;
    raw.create_topic("t", 1).await;
    for codec in PACKED {
        let mut builder = BatchBuilder::new();
        builder.push(5_000, None, Some(b"v"), &[]);
        let mut garbage = BytesMut::from(&builder.build(codec, None, false).unwrap()[..]);
        garbage[headwater_wire::batch::HEADER_LEN..].fill(0);
        let refused = raw.produce("t", 0, seal(garbage)).await;
        assert_eq!(ErrorCode::from(refused.error_code), ErrorCode::InvalidRecord, "{codec:?}: {refused:?}");
    }
    assert!(raw.values("t", 0, false).await.is_empty());
}

/// As in Apache Kafka, which believes a producer's stamp where it stamps nothing itself.
#[tokio::test]
async fn a_producer_does_not_stamp_for_the_broker() {
    let dir = tempfile::tempdir().unwrap();
    let broker = start(dir.path()).await;
    let mut raw = Raw::connect(&broker).await;
    raw.create_topic("own", 1).await;
    raw.create("stamped", &[("message.timestamp.type", "LogAppendTime")]).await;
    for (topic, time, code) in [
        ("own", 99_000, ErrorCode::None),
        ("own", -1, ErrorCode::InvalidTimestamp),
        ("stamped", 99_000, ErrorCode::InvalidTimestamp),
    ] {
        let mut claimed = BytesMut::from(&batch(&["v"])[..]);
        headwater_wire::batch::assign_append_time(&mut claimed, time);
        let produced = raw.produce(topic, 0, claimed.freeze()).await;
        assert_eq!(ErrorCode::from(produced.error_code), code, "{topic}, {time}: {produced:?}");
    }
}

/// Retention and searches by time go by it: a producer that says less or more than is true moves neither.
#[tokio::test]
async fn the_time_in_the_header_of_a_compressed_batch_is_put_right() {
    let dir = tempfile::tempdir().unwrap();
    let broker = start(dir.path()).await;
    let mut raw = Raw::connect(&broker).await;
    raw.create_topic("t", 1).await;
    for claimed in [5_500_i64, 9_000_000_000] {
        let mut builder = BatchBuilder::new();
        for time in [5_000, 7_000, 6_000] {
            builder.push(time, None, Some(b"v"), &[]);
        }
        let mut batch = BytesMut::from(&builder.build(Compression::Lz4, None, false).unwrap()[..]);
        batch[35..43].copy_from_slice(&claimed.to_be_bytes());
        assert_eq!(raw.produce("t", 0, seal(batch)).await.error_code, 0);
    }
    let fetched = batches(raw.fetch("t", 0, 0, false).await.records.unwrap());
    let times: Vec<_> = fetched.iter().map(|(header, _)| header.max_timestamp).collect();
    assert_eq!(times, [7_000, 7_000]);
}

/// KIP-110: it could not open what it gets.
#[tokio::test]
async fn a_client_from_before_zstd_is_not_given_what_a_topic_keeps_under_it() {
    let dir = tempfile::tempdir().unwrap();
    let broker = start(dir.path()).await;
    let mut raw = Raw::connect(&broker).await;
    raw.create("t", &[("compression.type", "zstd")]).await;
    assert_eq!(raw.produce("t", 0, batch(&["v"])).await.error_code, 0);
    for (version, code) in [(9, ErrorCode::UnsupportedCompressionType), (10, ErrorCode::None)] {
        let response = raw.call(&fetch("t", 0, 0), version).await;
        let partition = &response.responses[0].partitions[0];
        assert_eq!(ErrorCode::from(partition.error_code), code, "v{version}");
        assert_eq!(partition.records.as_ref().is_some_and(|records| !records.is_empty()), version > 9);
    }
}

/// An unsynced topic is acknowledged from the page cache, and what was acknowledged is there after a kill of
/// the process.
#[tokio::test]
async fn an_unsynced_topic_is_written_and_read_like_any_other() {
    let dir = tempfile::tempdir().unwrap();
    let broker = start(dir.path()).await;
    let mut raw = Raw::connect(&broker).await;
    raw.create("t", &[("headwater.durability", "unsynced")]).await;
    for round in 0..10 {
        assert_eq!(raw.produce("t", 0, batch(&[&round.to_string()])).await.error_code, 0);
    }
    assert_eq!(raw.values("t", 0, true).await.len(), 10);
    broker.shutdown().await;
    let broker = start(dir.path()).await;
    assert_eq!(Raw::connect(&broker).await.values("t", 0, true).await.len(), 10);
}

#[tokio::test]
async fn a_topic_keeps_batches_in_the_codec_it_asks_for_and_within_its_limit_then() {
    let dir = tempfile::tempdir().unwrap();
    let broker = start(dir.path()).await;
    let mut raw = Raw::connect(&broker).await;
    let codecs = [
        ("uncompressed", Compression::None),
        ("gzip", Compression::Gzip),
        ("snappy", Compression::Snappy),
        ("lz4", Compression::Lz4),
        ("zstd", Compression::Zstd),
    ];
    let value = "compressible ".repeat(200);
    let build = |codec| {
        let mut builder = BatchBuilder::new();
        builder.push(5_000, Some(b"k"), Some(value.as_bytes()), &[]);
        builder.push(6_000, None, None, &[]);
        builder.build(codec, None, false).unwrap()
    };
    for (name, codec) in codecs {
        raw.create(name, &[("compression.type", name)]).await;
        for (_, from) in codecs {
            let produced = raw.produce(name, 0, build(from)).await;
            assert_eq!(produced.error_code, 0, "{name}: {produced:?}");
        }
        let fetched = batches(raw.fetch(name, 0, 0, false).await.records.unwrap());
        assert_eq!(fetched.len(), codecs.len());
        for (header, records) in fetched {
            assert_eq!(header.compression().unwrap(), codec);
            assert_eq!(records[0].value.as_deref(), Some(value.as_bytes()));
            assert_eq!((records[1].timestamp, &records[1].key, &records[1].value), (6_000, &None, &None));
        }
    }
    let small = [("compression.type", "uncompressed"), ("max.message.bytes", "1000")];
    raw.create("small", &small).await;
    let packed = build(Compression::Zstd);
    assert!(packed.len() < 1000);
    let refused = raw.produce("small", 0, packed).await;
    assert_eq!(refused.error_code, ErrorCode::MessageTooLarge.code());
}
