//! `headwater tail`: events as they come, decoded when asked.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use bytes::Bytes;
use headwater_client::{
    Client, ClientError, Consumer, ConsumerConfig, ErrorCode, Fetched, Isolation, OffsetSpec,
};
use headwater_model::{Record, TopicPartition};
use headwater_registry::{RegistryClient, RegistryError};
use headwater_schema::{AvroCodec, confluent};
use serde_json::{Value, json};

use super::{connect, known_topic};
use crate::Common;
use crate::output::{self, Failure, NO_INPUT, UNAVAILABLE};

#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  headwater tail orders\n  headwater tail orders --offset -10 --no-follow\n  headwater tail orders --partition 0 --offset 1200 --max 1"
)]
pub struct Tail {
    topic: String,
    /// Decode Avro keys and values through the schema registry; what is none is shown as it is
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
    fn isolation(&self) -> Isolation {
        if self.uncommitted { Isolation::Uncommitted } else { Isolation::Committed }
    }

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
        let registry = self.decode.then(|| common.registry()).transpose()?;
        let mut decoder = Decoder { registry, odd: HashSet::new() };
        let mut left = self.count.unwrap_or(u64::MAX);
        let mut reading = Reading::new(&self, &client, partitions);
        loop {
            reading.look().await?;
            if left == 0 || reading.is_done()? {
                return Ok(ExitCode::SUCCESS);
            }
            for fetched in reading.poll().await? {
                for record in &fetched.records {
                    if left == 0 {
                        break;
                    }
                    decoder.show(common, &fetched.topic_partition, record).await?;
                    left -= 1;
                }
                advance(&mut reading.remaining, &fetched.topic_partition, fetched.next_offset);
            }
        }
    }
}

/// How often it is looked which partitions have a leader.
const LOOKS: Duration = Duration::from_secs(2);
/// So long it is asked at a time where they begin and end.
const ANSWER: Duration = Duration::from_secs(5);
/// So long in all; and so long `--no-follow` waits for one without a leader.
const PATIENCE: Duration = Duration::from_secs(60);

/// What is read, and what waits for its node: that keeps back none of the others.
struct Reading<'a> {
    tail: &'a Tail,
    client: &'a Client,
    consumer: Consumer,
    partitions: Vec<TopicPartition>,
    /// Where they begin is not known yet.
    unbegun: Vec<TopicPartition>,
    away: Away,
    /// Where those ended that are not read so far.
    remaining: HashMap<TopicPartition, i64>,
    begun: Instant,
    looked: Option<Instant>,
    /// Since when nobody says where they begin and end.
    unanswered: Option<Instant>,
}

impl<'a> Reading<'a> {
    fn new(tail: &'a Tail, client: &'a Client, partitions: Vec<TopicPartition>) -> Self {
        let config = ConsumerConfig { isolation: tail.isolation(), ..ConsumerConfig::default() };
        Self {
            tail,
            client,
            consumer: Consumer::new(client, config),
            unbegun: partitions.clone(),
            partitions,
            away: Away::default(),
            remaining: HashMap::new(),
            begun: Instant::now(),
            looked: None,
            unanswered: None,
        }
    }

    /// Says what has no leader any more, and begins with what has one.
    async fn look(&mut self) -> Result<(), Failure> {
        if self.looked.is_some_and(|at| at.elapsed() < LOOKS) {
            return Ok(());
        }
        let away = self.client.without_leader(&self.partitions).await?;
        self.away.change(away.into_iter().collect()).iter().for_each(|said| output::note(said));
        let (waiting, led): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.unbegun).into_iter().partition(|at| self.away.0.contains(at));
        self.unbegun = waiting;
        if !led.is_empty() {
            let isolation = self.tail.isolation();
            let ask = |spec: OffsetSpec| led.iter().map(|at| (at.clone(), spec)).collect::<Vec<_>>();
            let asked = async {
                let begins = self.client.list_offsets(&ask(OffsetSpec::Earliest), isolation).await?;
                let ends = self.client.list_offsets(&ask(OffsetSpec::Latest), isolation).await?;
                Ok::<_, ClientError>((begins, ends))
            };
            let Ok(found) = tokio::time::timeout(ANSWER, asked).await else {
                // A node that has just gone still leads by name: soon it does not, and the others are read.
                return self.look_again(led);
            };
            let (begins, mut ends) = found?;
            self.unanswered = None;
            let starts = self.tail.starts(begins, &ends)?;
            ends.retain(|at, end| starts.get(at).is_some_and(|start| start < end));
            self.remaining.extend(ends);
            self.consumer.add(starts.into_iter().collect());
        }
        self.looked = Some(Instant::now());
        Ok(())
    }

    fn look_again(&mut self, led: Vec<TopicPartition>) -> Result<(), Failure> {
        let since = *self.unanswered.get_or_insert_with(Instant::now);
        if since.elapsed() >= PATIENCE {
            let what = format!("nobody says where {} begins and ends", self.tail.topic);
            return Err(Failure::new(UNAVAILABLE, what, "headwater doctor".to_owned()));
        }
        self.unbegun.extend(led);
        self.looked = Some(Instant::now());
        Ok(())
    }

    /// Whether there is nothing more to read.
    fn is_done(&self) -> Result<bool, Failure> {
        if !self.tail.no_follow || !self.remaining.is_empty() {
            return Ok(false);
        }
        match self.unbegun.first() {
            Some(at) if self.begun.elapsed() >= PATIENCE => {
                let what = format!("{at} has no leader: the node that has it is away");
                Err(Failure::new(UNAVAILABLE, what, "--partition P for one that has a leader".to_owned()))
            }
            waiting => Ok(waiting.is_none()),
        }
    }

    async fn poll(&mut self) -> Result<Vec<Fetched>, ClientError> {
        match self.consumer.poll(Duration::from_secs(1)).await {
            // It was said, and it is read when its node is back.
            Err(error) if !self.tail.no_follow && error.code() == Some(ErrorCode::LeaderNotAvailable) => {
                self.consumer.try_again();
                Ok(Vec::new())
            }
            polled => polled,
        }
    }
}

/// Partitions without a leader.
#[derive(Default)]
struct Away(BTreeSet<TopicPartition>);

impl Away {
    /// Takes those of now; returns what is to be said of it.
    fn change(&mut self, now: BTreeSet<TopicPartition>) -> Vec<String> {
        let gone: Vec<_> = now.difference(&self.0).collect();
        let back: Vec<_> = self.0.difference(&now).collect();
        let mut said = Vec::new();
        if !gone.is_empty() {
            said.push(format!("{} no leader, as the node is away: read when it is back", have(&gone)));
        }
        if !back.is_empty() {
            said.push(format!("{} a leader again", have(&back)));
        }
        self.0 = now;
        said
    }
}

/// `orders/1 has`, `orders/1, orders/4 have`.
fn have(partitions: &[&TopicPartition]) -> String {
    const NAMED: usize = 5;
    let names: Vec<String> = partitions.iter().take(NAMED).map(ToString::to_string).collect();
    let names = names.join(", ");
    match partitions.len() {
        1 => format!("{names} has"),
        count if count > NAMED => format!("{names} and {} more have", count - NAMED),
        _ => format!("{names} have"),
    }
}

fn advance(remaining: &mut HashMap<TopicPartition, i64>, at: &TopicPartition, next_offset: i64) {
    if remaining.get(at).is_some_and(|end| next_offset >= *end) {
        remaining.remove(at);
    }
}

/// A key or a value as a person and as a program reads it.
#[derive(Debug, PartialEq, Eq)]
struct Shown {
    plain: String,
    json: String,
}

impl Shown {
    fn nothing() -> Self {
        Self { plain: "-".to_owned(), json: "null".to_owned() }
    }

    fn value(value: &Value) -> Self {
        let json = value.to_string();
        let plain = match value {
            Value::String(text) => text.clone(),
            Value::Null => "-".to_owned(),
            _ => json.clone(),
        };
        Self { plain, json }
    }

    /// JSON stays as it was written: read and written again, `1.10` and digits beyond a float's would be others.
    fn bytes(bytes: &[u8]) -> Self {
        let Ok(text) = std::str::from_utf8(bytes) else {
            return Self::value(&Value::String(bytes.iter().map(|byte| format!("{byte:02x}")).collect()));
        };
        match serde_json::from_str::<Value>(text) {
            // Line ends are only between its parts.
            Ok(_) => {
                let line = text.trim().replace(['\n', '\r'], " ");
                Self { plain: line.clone(), json: line }
            }
            Err(_) => Self::value(&Value::String(text.to_owned())),
        }
    }
}

/// So many ids by which nothing is decoded are remembered.
const MANY: usize = 10_000;

struct Decoder {
    registry: Option<RegistryClient>,
    /// Ids by which nothing is decoded: that was said.
    odd: HashSet<u32>,
}

impl Decoder {
    async fn show(&mut self, common: &Common, at: &TopicPartition, record: &Record) -> Result<(), Failure> {
        let place = format!("{at}@{}", record.offset);
        let key = self.readable(&place, record.key.as_ref()).await?;
        let value = self.readable(&place, record.value.as_ref()).await?;
        if common.json {
            let headers: Vec<Value> = record
                .headers
                .iter()
                .map(|header| json!({ "key": header.key, "value": header.value.as_ref().map(|v| String::from_utf8_lossy(v)) }))
                .collect();
            output::line(&format!(
                "{{\"topic\":{},\"partition\":{},\"offset\":{},\"timestamp\":{},\"key\":{},\"value\":{},\"headers\":{}}}",
                json!(at.topic),
                at.partition,
                record.offset,
                record.timestamp,
                key.json,
                value.json,
                Value::Array(headers),
            ));
        } else {
            let (key, value) = (output::visible(&key.plain), output::visible(&value.plain));
            output::line(&format!("{place}\t{key}\t{value}"));
        }
        Ok(())
    }

    async fn readable(&mut self, place: &str, bytes: Option<&Bytes>) -> Result<Shown, Failure> {
        let Some(bytes) = bytes else { return Ok(Shown::nothing()) };
        if let Some(registry) = &self.registry
            && let Ok((id, body)) = confluent::unframe(bytes)
            && !self.odd.contains(&id)
        {
            // Other bytes may begin with a zero, too, as a number does: they must not end it.
            let why = match registry.schema_by_id(id).await {
                Ok(schema) => match AvroCodec::to_json(&schema, body) {
                    Ok(value) => return Ok(Shown::value(&value)),
                    Err(error) => format!("by schema {id}: {error}"),
                },
                // Unknown, or of a format that is not decoded here.
                Err(
                    error @ (RegistryError::Refused { status: 404, .. }
                    | RegistryError::Malformed { .. }
                    | RegistryError::Schema(_)),
                ) => {
                    if self.odd.len() == MANY {
                        self.odd.clear();
                    }
                    self.odd.insert(id);
                    error.to_string()
                }
                Err(error) => return Err(error.into()),
            };
            output::note(&format!("{place} is shown as it is, and not decoded: {why}"));
        }
        Ok(Shown::bytes(bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_shown_as_it_was_written() {
        for text in ["1.10", "1e3", r#"{"b":12345678901234567890123,"a":1.0}"#, r#""x""#, "null"] {
            let shown = Shown { plain: text.to_owned(), json: text.to_owned() };
            assert_eq!(Shown::bytes(text.as_bytes()), shown);
        }
        assert_eq!(Shown::bytes(b"{\n \"a\": 1\r\n}\n").json, "{  \"a\": 1  }");
        assert_eq!(
            Shown::bytes(b"007"),
            Shown { plain: "007".to_owned(), json: "\"007\"".to_owned() },
            "no JSON"
        );
        assert_eq!(Shown::bytes(b"\xff\x01").plain, "ff01");
    }

    #[test]
    fn what_loses_its_leader_and_what_gets_one_is_said_once() {
        let set = |of: &[i32]| of.iter().map(|partition| TopicPartition::new("t", *partition)).collect();
        let mut away = Away::default();
        assert_eq!(away.change(set(&[])), [""; 0]);
        let reason = "no leader, as the node is away: read when it is back";
        assert_eq!(away.change(set(&[1])), [format!("t/1 has {reason}")]);
        assert_eq!(away.change(set(&[1])), [""; 0]);
        assert_eq!(
            away.change(set(&[0, 2])),
            [format!("t/0, t/2 have {reason}"), "t/1 has a leader again".to_owned()]
        );
        let all = away.change(set(&[0, 2, 3, 4, 5, 6, 7, 8]));
        assert_eq!(all, [format!("t/3, t/4, t/5, t/6, t/7 and 1 more have {reason}")]);
    }

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
