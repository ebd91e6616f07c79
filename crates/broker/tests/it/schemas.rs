//! Records of topics that enforce schemas: what is wrong is refused by name, what is registered is accepted at once.

use bytes::Bytes;
use headwater_wire::messages::produce_response::PartitionProduceResponse;
use headwater_wire::{BatchBuilder, Compression, ErrorCode};

use crate::common::{Raw, start};

const CODECS: [Compression; 5] =
    [Compression::None, Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd];
const ORDER: &str = r#"{"type":"record","name":"shop.Order","fields":[{"name":"id","type":"int"},{"name":"note","type":"string"}]}"#;

/// A key and a value.
type Record<'r> = (Option<&'r [u8]>, Option<&'r [u8]>);

fn batch(records: &[Record<'_>], codec: Compression) -> Bytes {
    let mut builder = BatchBuilder::new();
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis();
    records.iter().for_each(|(key, value)| builder.push(now as i64, *key, *value, &[]));
    builder.build(codec, None, false).unwrap()
}

async fn values(
    raw: &mut Raw,
    topic: &str,
    values: &[Option<&[u8]>],
    codec: Compression,
) -> PartitionProduceResponse {
    let records: Vec<_> = values.iter().map(|value| (None, *value)).collect();
    raw.produce(topic, 0, batch(&records, codec)).await
}

/// As the registry writes it.
async fn register(raw: &mut Raw, subject: &str, version: i32, id: u32, schema: &str, kind: Option<&str>) {
    let key = format!(r#"{{"keytype":"SCHEMA","subject":"{subject}","version":{version},"magic":1}}"#);
    let mut value = serde_json::json!({ "subject": subject, "version": version, "id": id, "schema": schema, "deleted": false });
    if let Some(kind) = kind {
        value["schemaType"] = kind.into();
    }
    let value = value.to_string();
    let records = [(Some(key.as_bytes()), Some(value.as_bytes()))];
    assert_eq!(raw.produce("_schemas", 0, batch(&records, Compression::None)).await.error_code, 0);
}

fn framed(id: u32, body: &[u8]) -> Vec<u8> {
    [&[0][..], &id.to_be_bytes(), body].concat()
}

/// `{"id": 3, "note": "a"}`
const BODY: &[u8] = b"\x06\x02a";

fn message(response: &PartitionProduceResponse) -> String {
    assert_eq!(ErrorCode::from(response.error_code), ErrorCode::InvalidRecord, "{response:?}");
    assert!(!response.record_errors.is_empty());
    response.error_message.as_ref().unwrap().to_string()
}

#[tokio::test]
async fn each_way_to_be_wrong_is_named_and_nothing_of_the_batch_is_appended() {
    let dir = tempfile::tempdir().unwrap();
    let broker = start(dir.path()).await;
    let mut raw = Raw::connect(&broker).await;
    raw.create("orders", &[("headwater.schema.enforce", "value")]).await;
    let good = framed(1, BODY);
    let said = message(&values(&mut raw, "orders", &[Some(&good)], Compression::None).await);
    assert!(said.contains("schema id 1") && said.contains("registered nowhere"), "no registry yet: {said}");
    raw.create("_schemas", &[("cleanup.policy", "compact")]).await;
    register(&mut raw, "orders-value", 1, 1, ORDER, None).await;
    register(&mut raw, "other-value", 1, 2, "\"string\"", None).await;
    let cut = framed(1, &BODY[..2]);
    let more = framed(1, b"\x06\x02a!");
    let foreign = framed(2, b"\x02a");
    let unknown = framed(77, BODY);
    let wrong: [(&[u8], &[&str]); 6] = [
        (b"{\"id\":3}", &["record 1", "first byte is not 0"]),
        (b"\0\0\0", &["record 1", "5 bytes"]),
        (&unknown, &["record 1", "schema id 77", "registered nowhere"]),
        (&foreign, &["record 1", "schema id 2", "subject orders-value", "other-value"]),
        (&cut, &["record 1", "schema id 1 of subject orders-value", "note"]),
        (&more, &["record 1", "schema id 1 of subject orders-value", "left over"]),
    ];
    for codec in CODECS {
        for (value, words) in wrong {
            let response = values(&mut raw, "orders", &[Some(&good), Some(value), None], codec).await;
            let said = message(&response);
            assert!(words.iter().all(|word| said.contains(word)), "{codec:?} {said}");
            let blamed: Vec<_> = response.record_errors.iter().map(|error| error.batch_index).collect();
            assert_eq!(blamed, [1]);
        }
    }
    for (codec, offset) in CODECS.into_iter().zip([0, 2, 4, 6, 8]) {
        let response = values(&mut raw, "orders", &[Some(&good), None], codec).await;
        assert_eq!((response.error_code, response.base_offset), (0, offset), "{response:?}");
    }
    broker.shutdown().await;
}

#[tokio::test]
async fn what_is_registered_is_accepted_at_once_and_what_is_deleted_no_longer() {
    let dir = tempfile::tempdir().unwrap();
    let broker = start(dir.path()).await;
    let mut raw = Raw::connect(&broker).await;
    raw.create("t", &[("confluent.value.schema.validation", "true")]).await;
    raw.create("_schemas", &[("cleanup.policy", "compact")]).await;
    for id in 1..40 {
        let value = framed(id, b"\x02a");
        let refused = values(&mut raw, "t", &[Some(&value)], Compression::None).await;
        assert!(message(&refused).contains("registered nowhere"));
        register(&mut raw, "elsewhere", id as i32, id, &format!(r#"{{"type":"string","n":{id}}}"#), None)
            .await;
        let refused = values(&mut raw, "t", &[Some(&value)], Compression::None).await;
        assert!(message(&refused).contains("no version of subject t-value"), "{refused:?}");
        register(&mut raw, "t-value", id as i32, id, &format!(r#"{{"type":"string","n":{id}}}"#), None).await;
        assert_eq!(values(&mut raw, "t", &[Some(&value)], Compression::None).await.error_code, 0);
    }
    let key: &[u8] = br#"{"keytype":"DELETE_SUBJECT","subject":"t-value","magic":0}"#;
    let value: &[u8] = br#"{"subject":"t-value","version":20}"#;
    raw.produce("_schemas", 0, batch(&[(Some(key), Some(value))], Compression::None)).await;
    let (old, young) = (framed(20, b"\x02a"), framed(21, b"\x02a"));
    assert!(message(&values(&mut raw, "t", &[Some(&old)], Compression::None).await).contains("elsewhere"));
    assert_eq!(values(&mut raw, "t", &[Some(&young)], Compression::None).await.error_code, 0);
    drop(raw);
    broker.shutdown().await;
    // Everything is known again after a restart.
    let broker = start(dir.path()).await;
    let mut raw = Raw::connect(&broker).await;
    assert!(message(&values(&mut raw, "t", &[Some(&old)], Compression::None).await).contains("elsewhere"));
    assert_eq!(values(&mut raw, "t", &[Some(&young)], Compression::None).await.error_code, 0);
    broker.shutdown().await;
}

#[tokio::test]
async fn subjects_are_named_by_each_strategy_for_keys_and_values() {
    let dir = tempfile::tempdir().unwrap();
    let broker = start(dir.path()).await;
    let mut raw = Raw::connect(&broker).await;
    raw.create("_schemas", &[("cleanup.policy", "compact")]).await;
    let strategy = "headwater.schema.subject.strategy";
    raw.create("by-name", &[("headwater.schema.enforce", "value"), (strategy, "RecordName")]).await;
    raw.create("by-both", &[("headwater.schema.enforce", "value"), (strategy, "TopicRecordName")]).await;
    raw.create("keyed", &[("headwater.schema.enforce", "both")]).await;
    register(&mut raw, "shop.Order", 1, 1, ORDER, None).await;
    register(&mut raw, "keyed-key", 1, 2, "\"string\"", None).await;
    register(&mut raw, "keyed-value", 1, 1, ORDER, None).await;
    register(&mut raw, "keyed-value", 2, 3, "syntax = \"proto3\";", Some("PROTOBUF")).await;
    let (order, name, proto) = (framed(1, BODY), framed(2, b"\x02k"), framed(3, b"\0anything"));
    assert_eq!(values(&mut raw, "by-name", &[Some(&order)], Compression::Zstd).await.error_code, 0);
    let refused = values(&mut raw, "by-both", &[Some(&order)], Compression::None).await;
    assert!(message(&refused).contains("by-both-shop.Order"), "{refused:?}");
    register(&mut raw, "by-both-shop.Order", 1, 1, ORDER, None).await;
    assert_eq!(values(&mut raw, "by-both", &[Some(&order)], Compression::None).await.error_code, 0);
    let refused = values(&mut raw, "by-name", &[Some(&proto)], Compression::None).await;
    assert!(message(&refused).contains("PROTOBUF"), "{refused:?}");
    let good = [(Some(&name[..]), Some(&order[..])), (Some(&name[..]), Some(&proto[..])), (None, None)];
    assert_eq!(raw.produce("keyed", 0, batch(&good, Compression::Lz4)).await.error_code, 0);
    let swapped = [(Some(&order[..]), Some(&order[..]))];
    let refused = raw.produce("keyed", 0, batch(&swapped, Compression::Lz4)).await;
    assert!(message(&refused).contains("the key has schema id 1"), "{refused:?}");
    broker.shutdown().await;
}
