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

use super::{connect, known_topic};
use crate::Common;
use crate::output::{self, Failure, NO_INPUT};

#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  headwater tail orders\n  headwater tail orders --offset -10 --no-follow\n  headwater tail orders --partition 0 --offset 1200 --max 1"
)]
pub struct Tail {
    topic: String,
    /// Decode Avro values through the schema registry
    #[arg(long)]
    decode: bool,
    /// Begin with the oldest event instead of the next one
    #[arg(long, conflicts_with = "offset")]
    from_beginning: bool,
    /// Begin with this offset of each partition, with `earliest` or `latest`, or, -N, with the last N offsets
    #[arg(long, value_name = "OFFSET", allow_hyphen_values = true, value_parser = offset)]
    offset: Option<Offset>,
    /// Only this partition; may repeat
    #[arg(long, short, value_name = "PARTITION")]
    partition: Vec<i32>,
    /// End after so many events
    #[arg(long, short = 'n', visible_alias = "max", value_name = "COUNT")]
    count: Option<u64>,
    /// End when there is nothing more to read
    #[arg(long)]
    no_follow: bool,
    /// Show events of open and aborted transactions, too
    #[arg(long)]
    uncommitted: bool,
}

/// Where to begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Offset {
    Earliest,
    Latest,
    At(i64),
    /// So many before the end.
    Last(i64),
}

fn offset(text: &str) -> Result<Offset, String> {
    let number = |digits: &str| {
        let number = digits.parse::<u64>().ok().and_then(|number| i64::try_from(number).ok());
        number.ok_or_else(|| format!("`{text}` is no offset, earliest or latest"))
    };
    match (text, text.strip_prefix('-')) {
        ("earliest", _) => Ok(Offset::Earliest),
        ("latest" | "end", _) => Ok(Offset::Latest),
        (_, Some(digits)) => number(digits).map(Offset::Last),
        (_, None) => number(text).map(Offset::At),
    }
}

impl Tail {
    /// The partitions that are meant.
    fn partitions(&self, count: i32) -> Result<Vec<TopicPartition>, Failure> {
        let topic = &self.topic;
        if let Some(beyond) = self.partition.iter().find(|one| !(0..count).contains(*one)) {
            let what = format!("{topic} has {}, so no partition {beyond}", output::count(count, "partition"));
            return Err(Failure::new(NO_INPUT, what, format!("headwater topic describe {topic}")));
        }
        let chosen = |one: &i32| self.partition.is_empty() || self.partition.contains(one);
        Ok((0..count).filter(chosen).map(|partition| TopicPartition::new(topic, partition)).collect())
    }

    /// Where each partition is read from, given where it begins and ends.
    fn starts(
        &self,
        begins: HashMap<TopicPartition, i64>,
        ends: &HashMap<TopicPartition, i64>,
    ) -> Result<HashMap<TopicPartition, i64>, Failure> {
        let from = self.offset.unwrap_or(if self.from_beginning { Offset::Earliest } else { Offset::Latest });
        let start = |(at, begin): (TopicPartition, i64)| {
            let end = ends.get(&at).copied().unwrap_or(begin);
            let start = match from {
                Offset::Earliest => begin,
                Offset::Latest => end,
                Offset::Last(count) => end.saturating_sub(count).max(begin),
                Offset::At(offset) if (begin..=end).contains(&offset) => offset,
                Offset::At(offset) => {
                    let what = format!("offset {offset} is not in {at}: it has {begin} to {end}");
                    let next = format!("--offset {begin}, or --partition P for one that has it");
                    return Err(Failure::new(NO_INPUT, what, next));
                }
            };
            Ok((at, start))
        };
        begins.into_iter().map(start).collect()
    }

    pub async fn run(self, common: &Common) -> Result<ExitCode, Failure> {
        let client = connect(common).await?;
        let topic = known_topic(&client, &self.topic).await?;
        let partitions = self.partitions(topic.partitions)?;
        let isolation = if self.uncommitted { Isolation::Uncommitted } else { Isolation::Committed };
        let ask = |spec: OffsetSpec| partitions.iter().map(|at| (at.clone(), spec)).collect::<Vec<_>>();
        let begins = client.list_offsets(&ask(OffsetSpec::Earliest), isolation).await?;
        let mut remaining = client.list_offsets(&ask(OffsetSpec::Latest), isolation).await?;
        let starts = self.starts(begins, &remaining)?;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_offset_is_a_place_or_counts_from_the_end() {
        let known = [("earliest", Offset::Earliest), ("latest", Offset::Latest), ("0", Offset::At(0))];
        for (text, wanted) in known.into_iter().chain([("-10", Offset::Last(10))]) {
            assert_eq!(offset(text), Ok(wanted), "{text}");
        }
        for text in ["newest", "-", "--5", "1.5", ""] {
            assert!(offset(text).is_err(), "{text}");
        }
    }
}
