//! `headwater tail`: events as they come, decoded when asked.

use std::collections::HashMap;
use std::process::ExitCode;
use std::time::Duration;

use bytes::Bytes;
use headwater_client::{Consumer, ConsumerConfig, Isolation, OffsetSpec};
use headwater_model::{Record, TopicPartition};
use headwater_registry::RegistryClient;
use headwater_schema::{AvroCodec, confluent};
use serde_json::{Value, json};

use super::{connect, unknown_topic};
use crate::Common;
use crate::output::{self, Failure};

#[derive(clap::Args)]
pub struct Tail {
    topic: String,
    /// Decode Avro values through the schema registry
    #[arg(long)]
    decode: bool,
    /// Begin with the oldest event instead of the next one
    #[arg(long)]
    from_beginning: bool,
    /// End after so many events
    #[arg(long, short = 'n', value_name = "COUNT")]
    count: Option<u64>,
    /// End when there is nothing more to read
    #[arg(long)]
    no_follow: bool,
    /// Show events of open and aborted transactions, too
    #[arg(long)]
    uncommitted: bool,
}

impl Tail {
    pub async fn run(self, common: &Common) -> Result<ExitCode, Failure> {
        let client = connect(common).await?;
        let Some(topic) = client.topic(&self.topic).await? else { return Err(unknown_topic(&self.topic)) };
        let partitions: Vec<_> = (0..topic.partitions).map(|p| TopicPartition::new(&self.topic, p)).collect();
        let isolation = if self.uncommitted { Isolation::Uncommitted } else { Isolation::Committed };
        let from = if self.from_beginning { OffsetSpec::Earliest } else { OffsetSpec::Latest };
        let ask = |spec: OffsetSpec| partitions.iter().map(|at| (at.clone(), spec)).collect::<Vec<_>>();
        let starts = client.list_offsets(&ask(from), isolation).await?;
        let mut remaining = client.list_offsets(&ask(OffsetSpec::Latest), isolation).await?;
        remaining.retain(|at, end| starts.get(at).is_some_and(|start| start < end));
        let mut consumer = Consumer::new(&client, ConsumerConfig { isolation, ..ConsumerConfig::default() });
        consumer.assign(starts.into_iter().collect());
        let decoder = Decoder { registry: self.decode.then(|| common.registry()).transpose()? };
        let mut left = self.count.unwrap_or(u64::MAX);
        while left > 0 && !(self.no_follow && remaining.is_empty()) {
            for fetched in consumer.poll(Duration::from_secs(1)).await? {
                for record in &fetched.records {
                    if left == 0 {
                        break;
                    }
                    decoder.show(common, &fetched.topic_partition, record).await?;
                    left -= 1;
                }
                advance(&mut remaining, &fetched.topic_partition, fetched.next_offset);
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn advance(remaining: &mut HashMap<TopicPartition, i64>, at: &TopicPartition, next_offset: i64) {
    if remaining.get(at).is_some_and(|end| next_offset >= *end) {
        remaining.remove(at);
    }
}

struct Decoder {
    registry: Option<RegistryClient>,
}

impl Decoder {
    async fn show(&self, common: &Common, at: &TopicPartition, record: &Record) -> Result<(), Failure> {
        let key = self.readable(record.key.as_ref()).await?;
        let value = self.readable(record.value.as_ref()).await?;
        if common.json {
            let headers: Vec<Value> = record
                .headers
                .iter()
                .map(|header| json!({ "key": header.key, "value": header.value.as_ref().map(|v| String::from_utf8_lossy(v)) }))
                .collect();
            output::json(&json!({
                "topic": at.topic, "partition": at.partition, "offset": record.offset, "timestamp": record.timestamp,
                "key": key, "value": value, "headers": headers,
            }));
        } else {
            let plain = |value: &Value| match value {
                Value::String(text) => text.clone(),
                Value::Null => "-".to_owned(),
                other => other.to_string(),
            };
            output::line(&format!("{at}@{}\t{}\t{}", record.offset, plain(&key), plain(&value)));
        }
        Ok(())
    }

    async fn readable(&self, bytes: Option<&Bytes>) -> Result<Value, Failure> {
        let Some(bytes) = bytes else { return Ok(Value::Null) };
        if let Some(registry) = &self.registry
            && let Ok((id, body)) = confluent::unframe(bytes)
        {
            let schema = registry.schema_by_id(id).await?;
            return AvroCodec::to_json(&schema, body)
                .map_err(|error| Failure::new(output::DATA, error, None));
        }
        Ok(match std::str::from_utf8(bytes) {
            Ok(text) => serde_json::from_str(text).unwrap_or_else(|_| Value::String(text.to_owned())),
            Err(_) => Value::String(bytes.iter().map(|byte| format!("{byte:02x}")).collect()),
        })
    }
}
