//! The latest events of a stream, decoded through the registry when their bytes say they can be.

use std::time::Duration;

use bytes::Bytes;
use headwater_client::{Client, ClientError, Consumer, ConsumerConfig, Isolation, OffsetSpec};
use headwater_model::{Record, TopicPartition};
use headwater_registry::Registry;
use headwater_schema::{AvroCodec, confluent};
use serde::Serialize;
use serde_json::Value;

/// Characters of a key or a value as text.
const LONGEST_TEXT: usize = 4_000;
/// Bytes of what is no text.
const LONGEST_HEX: usize = 64;

/// How keys and values are told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// As JSON, which a program goes through.
    Json,
    /// As text that a page shows: cut where it is long, and JSON as it was written, since a browser rounds large numbers.
    Text,
}

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
    (count, form): (usize, Form),
) -> Result<Option<Vec<Event>>, ClientError> {
    let Some(info) = client.topic(topic).await? else { return Ok(None) };
    let mut partitions: Vec<TopicPartition> =
        (0..info.partitions).map(|partition| TopicPartition::new(topic, partition)).collect();
    // Of those without a leader nothing can be shown, and the others' events need not wait for it.
    let away = client.without_leader(&partitions).await?;
    partitions.retain(|at| !away.contains(at));
    let ask = |spec: OffsetSpec| partitions.iter().map(|at| (at.clone(), spec)).collect::<Vec<_>>();
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
    let told = |bytes: Option<&Bytes>| match form {
        Form::Json => readable(schemas, bytes),
        Form::Text => text(schemas, bytes),
    };
    let mut events = Vec::with_capacity(records.len());
    for (partition, record) in records {
        events.push(Event {
            partition,
            offset: record.offset,
            timestamp_ms: record.timestamp,
            key: told(record.key.as_ref()),
            value: told(record.value.as_ref()),
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
    if let Some(value) = decoded(schemas, bytes) {
        return value;
    }
    serde_json::from_slice(bytes).unwrap_or_else(|_| Value::String(plain(bytes)))
}

/// As [`readable`], for the eye.
fn text(schemas: &Registry, bytes: Option<&Bytes>) -> Value {
    let Some(bytes) = bytes else { return Value::Null };
    let whole = decoded(schemas, bytes).map_or_else(|| plain(bytes), |value| value.to_string());
    Value::String(cut(whole))
}

fn decoded(schemas: &Registry, bytes: &Bytes) -> Option<Value> {
    let (id, body) = confluent::unframe(bytes).ok()?;
    AvroCodec::to_json(&schemas.schema(id)?, body).ok()
}

fn plain(bytes: &[u8]) -> String {
    let Ok(text) = std::str::from_utf8(bytes) else {
        let mut hex: String = bytes.iter().take(LONGEST_HEX).map(|byte| format!("{byte:02x}")).collect();
        if bytes.len() > LONGEST_HEX {
            hex.push('…');
        }
        return hex;
    };
    text.to_owned()
}

fn cut(mut text: String) -> String {
    if let Some((end, _)) = text.char_indices().nth(LONGEST_TEXT) {
        text.truncate(end);
        text.push('…');
    }
    text
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

    #[test]
    fn text_is_as_it_was_written_and_cut_where_it_is_long() {
        let number = r#"{"id":12345678901234567890123}"#;
        assert_eq!(cut(plain(number.as_bytes())), number);
        let long = cut("ä".repeat(LONGEST_TEXT + 1));
        assert_eq!((long.chars().count(), long.ends_with("ä…")), (LONGEST_TEXT + 1, true));
        assert_eq!(cut("ä".repeat(LONGEST_TEXT)).chars().count(), LONGEST_TEXT);
        assert_eq!(plain(&[0xff; 2]), "ffff");
        assert!(plain(&[0xff; 65]).ends_with("ff…"));
    }
}
