//! The latest events of a stream, decoded through the registry when their bytes say they can be.

use std::time::Duration;

use bytes::Bytes;
use headwater_client::{Client, ClientError, Consumer, ConsumerConfig, Isolation, OffsetSpec};
use headwater_model::{Record, TopicPartition};
use headwater_registry::Registry;
use headwater_schema::{AvroCodec, confluent};
use serde::Serialize;
use serde_json::Value;

/// One event as the console shows it.
#[derive(Debug, Serialize)]
pub struct Event {
    pub partition: i32,
    pub offset: i64,
    pub timestamp_ms: i64,
    pub key: Value,
    /// `null` is a tombstone.
    pub value: Value,
}

/// The last `count` events of a topic over all partitions, newest first.
pub async fn latest(
    client: &Client,
    schemas: &Registry,
    topic: &str,
    count: usize,
) -> Result<Option<Vec<Event>>, ClientError> {
    let Some(info) = client.topic(topic).await? else { return Ok(None) };
    let partitions = (0..info.partitions).map(|partition| TopicPartition::new(topic, partition));
    let ask = |spec: OffsetSpec| partitions.clone().map(|at| (at, spec)).collect::<Vec<_>>();
    let starts = client.list_offsets(&ask(OffsetSpec::Earliest), Isolation::Committed).await?;
    let ends = client.list_offsets(&ask(OffsetSpec::Latest), Isolation::Committed).await?;
    let mut wanted = Vec::new();
    for at in partitions {
        let (start, end) = (starts.get(&at).copied().unwrap_or(0), ends.get(&at).copied().unwrap_or(0));
        // Transaction markers take offsets, too, so look back further than `count`.
        let from = start.max(end - 4 * count as i64);
        if from < end {
            wanted.push((at, from, end));
        }
    }
    let config = ConsumerConfig { isolation: Isolation::Committed, ..ConsumerConfig::default() };
    let mut consumer = Consumer::new(client, config);
    consumer.assign(wanted.iter().map(|(at, from, _)| (at.clone(), *from)).collect());
    let mut records = Vec::new();
    let deadline = tokio::time::Instant::now() + Duration::from_secs(2);
    while !wanted.is_empty() && tokio::time::Instant::now() < deadline {
        for fetched in consumer.poll(Duration::from_millis(200)).await? {
            wanted.retain(|(at, _, end)| *at != fetched.topic_partition || fetched.next_offset < *end);
            let partition = fetched.topic_partition.partition;
            records.extend(fetched.records.into_iter().map(|record| (partition, record)));
        }
        newest(&mut records, count);
    }
    let mut events = Vec::with_capacity(records.len());
    for (partition, record) in records {
        events.push(Event {
            partition,
            offset: record.offset,
            timestamp_ms: record.timestamp,
            key: readable(schemas, record.key.as_ref()),
            value: readable(schemas, record.value.as_ref()),
        });
    }
    Ok(Some(events))
}

/// Leaves as many as are shown, newest first: of a topic with many partitions far more come than are held.
fn newest(records: &mut Vec<(i32, Record)>, count: usize) {
    records
        .sort_by_key(|(partition, record)| std::cmp::Reverse((record.timestamp, record.offset, *partition)));
    records.truncate(count);
}

/// Avro when it is framed and its schema is known, else JSON, else text, else hexadecimal.
fn readable(schemas: &Registry, bytes: Option<&Bytes>) -> Value {
    let Some(bytes) = bytes else { return Value::Null };
    if let Ok((id, body)) = confluent::unframe(bytes)
        && let Some(schema) = schemas.schema(id)
        && let Ok(value) = AvroCodec::to_json(&schema, body)
    {
        return value;
    }
    if let Ok(value) = serde_json::from_slice(bytes) {
        return value;
    }
    match std::str::from_utf8(bytes) {
        Ok(text) => Value::String(text.to_owned()),
        Err(_) => Value::String(bytes.iter().take(64).map(|byte| format!("{byte:02x}")).collect()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_are_held_than_are_shown() {
        let record = |timestamp| Record { timestamp, offset: timestamp, ..Record::default() };
        let mut held = Vec::new();
        for timestamp in [3, 9, 1, 7, 5] {
            held.push((0, record(timestamp)));
            newest(&mut held, 2);
            assert!(held.len() <= 2);
        }
        let times: Vec<i64> = held.iter().map(|(_, record)| record.timestamp).collect();
        assert_eq!(times, [9, 7]);
    }
}
