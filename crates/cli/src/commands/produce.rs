//! `headwater produce`: one event a line of standard input.

use std::process::ExitCode;

use bytes::Bytes;
use headwater_client::{ProduceRecord, Producer, ProducerConfig};
use headwater_registry::RegistryError;
use headwater_schema::{AvroCodec, AvroSchema, confluent};
use serde_json::json;
use tokio::io::{AsyncBufReadExt, BufReader};

use super::{connect, known_topic};
use crate::Common;
use crate::output::{self, DATA, Failure, IO, NO_INPUT};

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
        known_topic(&client, &self.topic).await?;
        let producer = Producer::new(&client, ProducerConfig::default()).await?;
        let schema = if self.avro {
            let registry = common.registry()?;
            let subject = format!("{}-value", self.topic);
            let latest = registry.latest(&subject).await.map_err(|error| match error {
                RegistryError::Refused { status: 404, .. } => Failure::new(
                    NO_INPUT,
                    format_args!("there is no schema {subject} to encode with"),
                    format!("headwater schema register {subject} FILE"),
                ),
                other => other.into(),
            })?;
            Some((latest.id, registry.schema_by_id(latest.id).await?))
        } else {
            None
        };
        let mut count = 0_u64;
        let read = self.send_lines(&producer, schema.as_ref(), &mut count).await;
        // What was fine is written, whatever came after it.
        producer.flush().await?;
        read?;
        if common.json {
            output::json(&json!({ "topic": self.topic, "produced": count }));
        } else {
            output::note(&format!("{} written to {}", output::count(count, "event"), self.topic));
        }
        Ok(ExitCode::SUCCESS)
    }

    /// Sends line after line, to the end or to one that cannot be sent; counts those that can.
    async fn send_lines(
        &self,
        producer: &Producer,
        schema: Option<&(u32, AvroSchema)>,
        count: &mut u64,
    ) -> Result<(), Failure> {
        let mut lines = BufReader::new(tokio::io::stdin()).lines();
        loop {
            let line = match lines.next_line().await {
                Ok(Some(line)) => line,
                Ok(None) => return Ok(()),
                Err(error) => return Err(unreadable(*count, &error)),
            };
            let (key, text) = self.split(line, *count)?;
            let value = match (text, schema) {
                (Some(text), Some((id, schema))) => {
                    let body = encoded(&text, schema).map_err(|error| {
                        let next = format!("headwater schema get {}-value", self.topic);
                        Failure::new(DATA, at_line(*count, &error), next)
                    })?;
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
            drop(producer.send(record).await.map_err(|error| {
                let failure = Failure::from(error);
                Failure { what: at_line(*count, &failure.what), ..failure }
            })?);
            *count += 1;
        }
    }

    /// Key and value of a line.
    fn split(&self, line: String, count: u64) -> Result<(Option<String>, Option<String>), Failure> {
        let Some(separator) = &self.key_separator else { return Ok((None, Some(line))) };
        match line.split_once(separator.as_str()) {
            Some((key, "")) => Ok((Some(key.to_owned()), None)),
            Some((key, value)) => Ok((Some(key.to_owned()), Some(value.to_owned()))),
            None => {
                let what = format!("line {} has no separator {separator:?}; {}", count + 1, before(count));
                let next = format!("mend the line, and go on with it: tail -n +{} FILE", count + 1);
                Err(Failure::new(DATA, what, next))
            }
        }
    }
}

/// JSON as the schema has it.
fn encoded(text: &str, schema: &AvroSchema) -> Result<Vec<u8>, String> {
    let parsed = serde_json::from_str(text).map_err(|error| error.to_string())?;
    AvroCodec::from_json(schema, &parsed).map_err(|error| error.to_string())
}

/// What is wrong with a line, and what became of those before it.
fn at_line(count: u64, wrong: &str) -> String {
    format!("line {}: {wrong}; {}", count + 1, before(count))
}

/// What is written of lines that were fine.
fn before(count: u64) -> String {
    match count {
        0 => "nothing is written".to_owned(),
        1 => "the line before is written".to_owned(),
        more => format!("the {more} lines before are written"),
    }
}

fn unreadable(count: u64, error: &std::io::Error) -> Failure {
    let (line, before) = (count + 1, before(count));
    match error.kind() {
        std::io::ErrorKind::InvalidData => Failure::new(
            DATA,
            format_args!("line {line} is not UTF-8; {before}"),
            "events of other bytes need a client library or kcat".to_owned(),
        ),
        _ => Failure::new(IO, format_args!("reading standard input, line {line}: {error}; {before}"), None),
    }
}
