//! `headwater produce`: one event a line of standard input.

use std::process::ExitCode;

use bytes::Bytes;
use headwater_client::{ProduceRecord, Producer, ProducerConfig};
use headwater_schema::{AvroCodec, confluent};
use serde_json::json;
use tokio::io::{AsyncBufReadExt, BufReader};

use super::connect;
use crate::Common;
use crate::output::{self, DATA, Failure};

#[derive(clap::Args)]
pub struct Produce {
    topic: String,
    /// Splits a line into key and value; an empty value is a tombstone
    #[arg(long, value_name = "SEPARATOR")]
    key_separator: Option<String>,
    /// Lines are JSON; encode them as Avro with the latest schema of TOPIC-value
    #[arg(long)]
    avro: bool,
}

impl Produce {
    pub async fn run(self, common: &Common) -> Result<ExitCode, Failure> {
        let client = connect(common).await?;
        let producer = Producer::new(&client, ProducerConfig::default()).await?;
        let schema = if self.avro {
            let registry = common.registry()?;
            let latest = registry.latest(&format!("{}-value", self.topic)).await?;
            Some((latest.id, registry.schema_by_id(latest.id).await?))
        } else {
            None
        };
        let mut lines = BufReader::new(tokio::io::stdin()).lines();
        let mut count = 0_u64;
        while let Some(line) = lines.next_line().await? {
            let (key, value) = match &self.key_separator {
                None => (None, Some(line)),
                Some(separator) => match line.split_once(separator.as_str()) {
                    Some((key, "")) => (Some(key.to_owned()), None),
                    Some((key, value)) => (Some(key.to_owned()), Some(value.to_owned())),
                    None => {
                        producer.flush().await?;
                        let what = format!(
                            "line {} has no separator {separator:?}; the {count} lines before are written",
                            count + 1
                        );
                        return Err(Failure::new(DATA, what, None));
                    }
                },
            };
            let value = match (value, &schema) {
                (Some(text), Some((id, schema))) => {
                    let bad = |error: &dyn std::fmt::Display| {
                        Failure::new(
                            DATA,
                            format_args!("line {}: {error}", count + 1),
                            format!("headwater schema get {}-value", self.topic),
                        )
                    };
                    let parsed = serde_json::from_str(&text).map_err(|error| bad(&error))?;
                    let body = AvroCodec::from_json(schema, &parsed).map_err(|error| bad(&error))?;
                    Some(confluent::frame(*id, &body))
                }
                (Some(text), None) => Some(Bytes::from(text)),
                (None, _) => None,
            };
            let record = ProduceRecord {
                topic: self.topic.clone(),
                key: key.map(Bytes::from),
                value,
                ..ProduceRecord::default()
            };
            drop(producer.send(record).await?);
            count += 1;
        }
        producer.flush().await?;
        if common.json {
            output::json(&json!({ "topic": self.topic, "produced": count }));
        } else {
            eprintln!("{count} events written to {}", self.topic);
        }
        Ok(ExitCode::SUCCESS)
    }
}
