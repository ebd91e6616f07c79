//! `headwater dead-letters`: what failed, why, and back to where it came from.

mod letters;
mod progress;
mod redrive;

use std::process::ExitCode;

use headwater_model::{Record, TimestampMs};
use headwater_streams::DeadLetter;
use serde_json::{Value, json};

use super::{connect, moment};
use crate::Common;
use crate::output::{self, Failure, NO_INPUT, USAGE};
use letters::Letters;

#[derive(clap::Subcommand)]
pub enum DeadLetters {
    /// The letters that are left of a dead-letter topic
    List(List),
    /// One letter in full
    Show {
        topic: String,
        partition: i32,
        offset: i64,
        #[command(flatten)]
        chosen: Chosen,
    },
    /// Send letters back to the topics they came from, each exactly once
    Redrive(redrive::Redrive),
    /// Settle letters without sending them anywhere; they stay in the topic until its retention ends
    Discard {
        #[command(flatten)]
        letters: redrive::Redrive,
        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
}

#[derive(clap::Args)]
pub struct List {
    topic: String,
    #[command(flatten)]
    filter: Filter,
    /// Those that are redriven or discarded, too
    #[arg(long)]
    all: bool,
}

/// Whose record of what is done is used.
#[derive(clap::Args)]
pub struct Chosen {
    /// The group whose offsets say what is done
    #[arg(long, default_value = "headwater-dead-letters")]
    group: String,
}

/// Which letters; without any of these, all.
#[derive(clap::Args)]
pub struct Filter {
    /// From this topic
    #[arg(long, value_name = "TOPIC")]
    origin: Option<String>,
    /// From this partition of it
    #[arg(long, value_name = "PARTITION")]
    origin_partition: Option<i32>,
    /// With this text in their exception or message
    #[arg(long, value_name = "TEXT")]
    exception: Option<String>,
    /// Of this time or later: 2013-06-01T00:00:00Z, or milliseconds since 1970
    #[arg(long, value_name = "TIME", value_parser = moment::parse)]
    since: Option<TimestampMs>,
    /// Before this time
    #[arg(long, value_name = "TIME", value_parser = moment::parse)]
    until: Option<TimestampMs>,
    #[command(flatten)]
    chosen: Chosen,
}

impl Filter {
    fn takes(&self, record: &Record, letter: &DeadLetter) -> bool {
        let text = |text: &String| letter.exception.contains(text) || letter.message.contains(text);
        self.origin.as_ref().is_none_or(|topic| *topic == letter.topic)
            && self.origin_partition.is_none_or(|partition| partition == letter.partition)
            && self.exception.as_ref().is_none_or(text)
            && self.since.is_none_or(|since| record.timestamp >= since)
            && self.until.is_none_or(|until| record.timestamp < until)
    }
}

impl DeadLetters {
    pub async fn run(self, common: &Common) -> Result<ExitCode, Failure> {
        match self {
            Self::List(list) => list.run(common).await,
            Self::Show { topic, partition, offset, chosen } => {
                show(common, (&topic, partition, offset), &chosen.group).await
            }
            Self::Redrive(redrive) => redrive.run(common, true).await,
            Self::Discard { letters, yes } if !(yes || letters.is_dry_run()) => Err(Failure::new(
                USAGE,
                "discarding settles letters for good: nobody is asked about them again",
                "the same command with --dry-run, which lists them, and then with --yes".to_owned(),
            )),
            Self::Discard { letters, .. } => letters.run(common, false).await,
        }
    }
}

impl List {
    async fn run(self, common: &Common) -> Result<ExitCode, Failure> {
        let client = connect(common).await?;
        let mut letters = Letters::open(&client, &self.topic, &self.filter.chosen.group, self.all).await?;
        let mut rows = Vec::new();
        while let Some((at, record)) = letters.next().await? {
            let done = letters.is_done(&at, record.offset);
            let letter = DeadLetter::read(&record);
            if (done && !self.all) || letter.as_ref().is_ok_and(|letter| !self.filter.takes(&record, letter))
            {
                continue;
            }
            if common.json {
                output::json(&told(&at.topic, at.partition, &record, done));
                continue;
            }
            let place = format!("{at}@{}", record.offset);
            rows.push(match letter {
                Ok(letter) => vec![
                    place,
                    format!("{}/{}@{}", letter.topic, letter.partition, letter.offset),
                    moment::text(record.timestamp),
                    letter.redrives.to_string(),
                    if done { "done" } else { "left" }.to_owned(),
                    format!("{}: {}", letter.exception, letter.message),
                ],
                Err(error) => vec![
                    place,
                    "-".to_owned(),
                    moment::text(record.timestamp),
                    "-".to_owned(),
                    "-".to_owned(),
                    error.to_string(),
                ],
            });
        }
        if !common.json {
            output::table(&["LETTER", "FROM", "TIME", "REDRIVES#", "STATE", "FAILURE"], rows);
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// A letter as JSON: bytes that are no text are lossy, as in `headwater tail`.
fn told(topic: &str, partition: i32, record: &Record, done: bool) -> Value {
    let text = |bytes: &headwater_model::Bytes| String::from_utf8_lossy(bytes).into_owned();
    let header = |h: &headwater_model::Header| json!({ "key": h.key, "value": h.value.as_ref().map(text) });
    let mut value = json!({
        "topic": topic, "partition": partition, "offset": record.offset, "timestamp": record.timestamp,
        "key": record.key.as_ref().map(text), "value": record.value.as_ref().map(text),
        "headers": record.headers.iter().map(header).collect::<Vec<_>>(), "done": done,
    });
    match DeadLetter::read(record) {
        Ok(letter) => {
            value["origin"] =
                json!({ "topic": letter.topic, "partition": letter.partition, "offset": letter.offset });
            value["exception"] = letter.exception.into();
            value["message"] = letter.message.into();
            value["redrives"] = letter.redrives.into();
        }
        Err(error) => value["error"] = error.to_string().into(),
    }
    value
}

async fn show(
    common: &Common,
    (topic, partition, offset): (&str, i32, i64),
    group: &str,
) -> Result<ExitCode, Failure> {
    let client = connect(common).await?;
    let mut letters = Letters::open(&client, topic, group, true).await?;
    letters.seek(partition, offset);
    let Some((at, record)) = letters.next().await?.filter(|(_, record)| record.offset == offset) else {
        let what = format!("there is no record at offset {offset} of {topic}/{partition}");
        return Err(Failure::new(NO_INPUT, what, format!("headwater dead-letters list {topic} --all")));
    };
    let done = letters.is_done(&at, record.offset);
    let value = told(topic, partition, &record, done);
    if common.json {
        output::json(&value);
        return Ok(ExitCode::SUCCESS);
    }
    let plain = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let names = ["origin", "exception", "message", "error", "redrives", "done", "timestamp", "key", "value"];
    for name in names.iter().filter(|name| value.get(**name).is_some()) {
        output::line(&format!("{name:<10} {}", output::visible(&plain(&value[*name]))));
    }
    for header in value["headers"].as_array().into_iter().flatten() {
        let (key, value) = (plain(&header["key"]), plain(&header["value"]));
        output::line(&format!("header     {}={}", output::visible(&key), output::visible(&value)));
    }
    Ok(ExitCode::SUCCESS)
}
