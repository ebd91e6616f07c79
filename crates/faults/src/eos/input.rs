//! The input: written over time from the seed, and read back for the oracle in the order the broker gave it.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use headwater_client::{Client, Delivery, ProduceRecord, Producer, ProducerConfig};
use headwater_model::Bytes;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::events::Event;
use super::judge::Verdict;
use super::oracle::{Input, Inputs};
use super::plan::{KEYS, Plan, Source};
use crate::cluster::read;

/// How long the harness itself waits for a broker that is away.
const PATIENCE: Duration = Duration::from_secs(120);
/// Event time goes on by about so much from record to record of one topic.
const STEP_MS: i64 = 10;

/// The topic and id of what was acknowledged.
pub type Acknowledged = HashSet<(String, u64)>;

struct Writer {
    random: StdRng,
    producer: Producer,
    sent: Vec<(String, u64, Delivery)>,
    next: u64,
    /// Event time of the next record.
    now: i64,
}

impl Writer {
    async fn send(&mut self, source: &Source, number: usize, table: bool) -> Result<()> {
        let id = self.next;
        self.next += 1;
        self.now += self.random.random_range(0..=2 * STEP_MS);
        let back = match self.random.random_range(0..100) {
            0..=2 => self.random.random_range(500..5000),
            3..=40 => self.random.random_range(0..300),
            _ => 0,
        };
        let event = Event { id: id + (number as u64) * 1_000_000_000, n: self.random.random_range(-9..=99) };
        let tombstone = table && self.random.random_bool(0.15);
        let key = format!("k{}", self.random.random_range(0..KEYS));
        let record = ProduceRecord {
            topic: source.topic.clone(),
            timestamp: Some(self.now - back),
            key: Some(Bytes::from(key)),
            value: (!tombstone).then(|| Bytes::from(event.text())),
            ..ProduceRecord::default()
        };
        let delivery = self.producer.send(record).await?;
        if !tombstone {
            self.sent.push((source.topic.clone(), event.id, delivery));
        }
        Ok(())
    }
}

/// Writes for so long, in bursts; `base` is the event time of the first record. Everything is acknowledged in the end.
pub async fn write(
    client: Client,
    plan: Plan,
    seed: u64,
    base: i64,
    length: Duration,
) -> Result<Acknowledged> {
    let config = ProducerConfig { delivery_timeout: PATIENCE, ..ProducerConfig::default() };
    let producer = Producer::new(&client, config).await?;
    let random = StdRng::seed_from_u64(seed);
    let mut writer = Writer { random, producer, sent: Vec::new(), next: 0, now: base };
    let begun = Instant::now();
    let sources: Vec<(&Source, bool)> = plan
        .streams
        .iter()
        .map(|source| (source, false))
        .chain(plan.tables.iter().chain(&plan.globals).map(|table| (table, true)))
        .collect();
    while begun.elapsed() < length {
        for (number, (source, table)) in sources.iter().enumerate() {
            let burst = writer.random.random_range(0..if *table { 4 } else { 12 });
            for _ in 0..burst {
                writer.send(source, number, *table).await?;
            }
        }
        tokio::time::sleep(Duration::from_millis(40)).await;
    }
    let mut acknowledged = Acknowledged::new();
    for (topic, id, delivery) in writer.sent {
        delivery.await.with_context(|| format!("{topic} did not take record {id} within {PATIENCE:?}"))?;
        acknowledged.insert((topic, id));
    }
    Ok(acknowledged)
}

/// What the input topics hold.
pub async fn read_back(client: &Client, plan: &Plan) -> Result<Inputs> {
    let mut inputs = Inputs::default();
    for source in &plan.streams {
        inputs.streams.push(partitions(client, source).await?);
    }
    for source in &plan.tables {
        inputs.tables.push(partitions(client, source).await?);
    }
    for source in &plan.globals {
        inputs.globals.push(partitions(client, source).await?);
    }
    Ok(inputs)
}

async fn partitions(client: &Client, source: &Source) -> Result<Vec<Vec<Input>>> {
    let records = read::all(client, &source.topic).await?;
    let input = |record: &headwater_model::Record| Input {
        key: read::text(record.key.as_deref()),
        event: record.value.as_deref().map(|value| Event::parse(&read::text(Some(value)))),
        timestamp: record.timestamp,
    };
    Ok(records.iter().map(|partition| partition.iter().map(input).collect()).collect())
}

/// What was acknowledged is there, each record once.
pub fn check(plan: &Plan, inputs: &Inputs, acknowledged: &Acknowledged, verdict: &mut Verdict) -> usize {
    let tables = plan.tables.iter().zip(&inputs.tables).chain(plan.globals.iter().zip(&inputs.globals));
    let topics = plan.streams.iter().zip(&inputs.streams).chain(tables);
    let mut total = 0;
    for (source, partitions) in topics {
        let mut found: HashMap<u64, usize> = HashMap::new();
        for event in partitions.iter().flatten().filter_map(|input| input.event) {
            *found.entry(event.id).or_default() += 1;
        }
        total += partitions.iter().map(Vec::len).sum::<usize>();
        let due =
            acknowledged.iter().filter(|(topic, _)| *topic == source.topic).map(|(_, id)| id.to_string());
        let mut wanted: BTreeMap<String, usize> = due.map(|id| (id, 1)).collect();
        // What is there without an acknowledgement was sent all the same.
        for id in found.keys() {
            wanted.entry(id.to_string()).or_insert(1);
        }
        let found = found.into_iter().map(|(id, count)| (id.to_string(), count)).collect();
        let all = |of| BTreeMap::from([("inputs".to_owned(), of)]);
        verdict.records(&source.topic, &all(found), &all(wanted));
    }
    total
}
