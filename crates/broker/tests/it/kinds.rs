//! What the kind of a stream makes of its records.

use bytes::Bytes;
use headwater_wire::messages::produce_response::PartitionProduceResponse;
use headwater_wire::{BatchBuilder, Compression, ErrorCode, Producer};

use crate::common::{Raw, batch, produce, start};

type Record = (Option<&'static str>, Option<&'static str>);

const KEYED: Record = (Some("k"), Some("v"));
const UNKEYED: Record = (None, Some("v"));
const TOMBSTONE: Record = (Some("k"), None);

const CODECS: [Compression; 5] =
    [Compression::None, Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd];

fn records(records: &[Record], codec: Compression) -> Bytes {
    let mut builder = BatchBuilder::new();
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis();
    for (key, value) in records {
        builder.push(now as i64, key.map(str::as_bytes), value.map(str::as_bytes), &[]);
    }
    builder.build(codec, None, false).unwrap()
}

fn blamed(response: &PartitionProduceResponse) -> Vec<i32> {
    response.record_errors.iter().map(|error| error.batch_index).collect()
}

#[tokio::test]
async fn each_kind_takes_its_records_and_names_the_others_under_every_codec() {
    let dir = tempfile::tempdir().unwrap();
    let broker = start(dir.path()).await;
    let mut raw = Raw::connect(&broker).await;
    for kind in ["unspecified", "unkeyed", "keyed", "entity"] {
        raw.create(kind, &[("headwater.stream.kind", kind)]).await;
    }
    raw.create("compacted", &[("cleanup.policy", "compact")]).await;
    let mixed = [KEYED, UNKEYED, TOMBSTONE];
    for codec in CODECS {
        for (topic, wrong) in [
            ("unspecified", &[][..]),
            ("unkeyed", &[0, 2]),
            ("keyed", &[1, 2]),
            ("entity", &[1]),
            ("compacted", &[1]),
        ] {
            let response = raw.produce(topic, 0, records(&mixed, codec)).await;
            assert_eq!(blamed(&response), wrong, "{topic} {codec:?}");
            let code = if wrong.is_empty() { ErrorCode::None } else { ErrorCode::InvalidRecord };
            assert_eq!(ErrorCode::from(response.error_code), code, "{topic} {codec:?}");
        }
    }
    for (topic, good) in [
        ("unkeyed", &[UNKEYED][..]),
        ("keyed", &[KEYED]),
        ("entity", &[KEYED, TOMBSTONE]),
        ("compacted", &[TOMBSTONE]),
    ] {
        // The first offset shows that nothing of a refused batch was appended.
        let response = raw.produce(topic, 0, records(good, Compression::Lz4)).await;
        assert_eq!((response.error_code, response.base_offset), (0, 0), "{topic}: {response:?}");
    }
}

#[tokio::test]
async fn the_message_names_the_record_and_the_rule_and_old_clients_get_the_code() {
    let dir = tempfile::tempdir().unwrap();
    let broker = start(dir.path()).await;
    let mut raw = Raw::connect(&broker).await;
    raw.create("t", &[("headwater.stream.kind", "entity")]).await;
    let response = raw.produce("t", 0, records(&[KEYED, UNKEYED], Compression::None)).await;
    let message = response.error_message.unwrap().to_string();
    assert!(message.contains("record 1: headwater.stream.kind=entity needs"), "{message}");
    assert_eq!(response.record_errors[0].batch_index_error_message.as_ref().unwrap().to_string(), message);
    let many = vec![UNKEYED; 5000];
    let response = raw.produce("t", 0, records(&many, Compression::Zstd)).await;
    assert!(response.error_message.unwrap().to_string().starts_with("5000 records are refused; record 0"));
    assert_eq!(response.record_errors.len(), 100);
    let old = raw.call(&produce(None, "t", 0, records(&[UNKEYED], Compression::None)), 7).await;
    assert_eq!(old.responses[0].partition_responses[0].error_code, ErrorCode::InvalidRecord.code());
}

#[tokio::test]
async fn kinds_that_contradict_the_policy_are_refused_at_creation() {
    let dir = tempfile::tempdir().unwrap();
    let broker = start(dir.path()).await;
    let mut raw = Raw::connect(&broker).await;
    for (kind, policy) in [("entity", "delete"), ("unkeyed", "compact"), ("table", "compact")] {
        let configs = [("headwater.stream.kind", kind), ("cleanup.policy", policy)];
        let refused = raw.try_create("t", &configs).await;
        assert_eq!(refused.error_code, ErrorCode::InvalidConfig.code(), "{kind} {policy}");
    }
}

#[tokio::test]
async fn a_delete_horizon_and_offsets_out_of_order_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let broker = start(dir.path()).await;
    let mut raw = Raw::connect(&broker).await;
    raw.create_topic("any", 1).await;
    raw.create("keyed", &[("headwater.stream.kind", "keyed")]).await;
    let mut horizon = batch(&["v"]).to_vec();
    horizon[22] |= 1 << 6;
    seal(&mut horizon);
    assert_eq!(raw.produce("any", 0, horizon.into()).await.error_code, ErrorCode::InvalidRecord.code());
    let mut doubled = records(&[KEYED, KEYED], Compression::None).to_vec();
    // Each record: length, attributes, timestamp delta, offset delta, …; the second is as long as the first.
    let second = 61 + (doubled.len() - 61) / 2;
    assert_eq!(doubled[second + 3], 2, "the offset delta 1");
    doubled[second + 3] = 0;
    seal(&mut doubled);
    assert_eq!(raw.produce("keyed", 0, doubled.into()).await.error_code, ErrorCode::InvalidRecord.code());
    let mut far = records(&[KEYED], Compression::None).to_vec();
    far[..8].copy_from_slice(&i64::MAX.to_be_bytes());
    assert_eq!(raw.produce("keyed", 0, far.into()).await.error_code, 0, "the base offset is the broker's");
}

/// Renews the checksum, as restamping with no producer does.
fn seal(bytes: &mut [u8]) {
    headwater_wire::batch::assign_producer(bytes, Producer { id: -1, epoch: -1, base_sequence: -1 });
}
